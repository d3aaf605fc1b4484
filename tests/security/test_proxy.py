"""Rows 56 to 60: what stands in front, and what it lets through."""

import hashlib
import re
import ssl

import pytest
from pictures import jpeg, photo
from stack import socket_to

from i2i.web.assets import FOLDER

pytestmark = pytest.mark.security


def test_pages_come_through_the_proxy(stack):
    visitor = stack.visitor()
    page = visitor.request("GET", "/upload", headers={"Accept": "text/html"})
    assert page.status == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert page.headers["Server"] == "nginx"
    assert "__Host-i2i" in visitor.cookies
    with stack.raw(alpn=["h2"]) as sock:
        assert sock.selected_alpn_protocol() == "h2"


def test_nobody_without_a_session_fills_the_disk_of_the_proxy(stack):
    """The answer comes although the body never does."""
    with stack.raw() as sock:
        sock.sendall(
            b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nAccept: application/json\r\n"
            b"Sec-Fetch-Site: same-origin\r\n\r\n--x\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_style_and_scripts_are_kept_by_browsers_and_by_the_proxy(stack):
    page = stack.client().request("GET", "/login", headers={"Accept": "text/html"}).data.decode()
    path = re.search(r'href="(/static/[^"]+/app\.css)"', page)[1]
    for coding in ("gzip, deflate, br", "identity"):
        first, second = (
            stack.client().request("GET", path, headers={"Accept-Encoding": coding}) for _ in "12"
        )
        assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert first.headers.get("Content-Encoding") == ("gzip" if "gzip" in coding else None)
        assert first.headers["X-Content-Type-Options"] == "nosniff"
        assert first.data == second.data == (FOLDER / "app.css").read_bytes()
    cached = [path for path in (stack.nginx.folder / "static").rglob("*") if path.is_file()]
    assert len(cached) == 2


def test_photos_come_through_the_proxy(stack):
    visitor = stack.visitor()
    data = jpeg(photo(size=(1600, 1200)), quality=98)  # far more than nginx keeps in memory
    image = visitor.upload("coat.jpg", data)
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    assert visitor.request("GET", image["url"], headers={"Accept": "image/*"}).data == data


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1"])
def test_another_name_gets_no_answer(stack, host):
    with stack.raw() as sock:
        sock.sendall(f"GET /login HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert sock.recv(65536) == b""
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        stack.tls.wrap_socket(socket_to(stack.nginx.port), server_hostname="evil.example")


def test_plain_http_leads_to_tls(stack):
    with socket_to(stack.nginx.plain_port) as sock:
        sock.sendall(b"GET /upload?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = sock.recv(65536)
    assert b"\r\nLocation: " + stack.url.encode() + b"/upload?after=1\r\n" in answer


def test_pages_of_the_proxy_itself_carry_the_headers(stack):
    """413 before the body, 400 for what is no HTTP; the words of i2i, no version."""
    for request, status in (
        (b"POST /jobs/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    ):
        with stack.raw() as sock:
            sock.sendall(request)
            answer = sock.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        for line in (
            b"Strict-Transport-Security: max-age=31536000; includeSubDomains",
            b"X-Content-Type-Options: nosniff",
            b"Cache-Control: no-store",
            b"Server: nginx",
        ):
            assert b"\r\n" + line + b"\r\n" in answer, answer
        assert b"Content-Security-Policy: default-src 'none';" in answer
        assert b"<h1>" in answer
