"""Rows 48 and 56 to 58: what stands in front, and what it lets through."""

import hashlib
import re
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from house import EMAIL, free_port, wait_until
from pictures import jpeg, photo
from stack import HOST, Nginx, socket_to

from i2i.web.assets import FOLDER


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


@pytest.mark.parametrize("framing", ["Content-Length: 900000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_nobody_fills_the_disk_of_the_proxy_by_another_method(stack, method, framing):
    """Neither without a length, which nginx cannot look at beforehand."""
    with stack.raw() as sock:
        sock.sendall(
            f"{method} /images HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nAccept: application/json\r\n"
            "Sec-Fetch-Site: same-origin\r\n\r\n5\r\n--x\r\n\r\n".encode()
        )
        status = int(sock.recv(65536).split(b" ", 2)[1])  # although the body never ends
    assert status in {401, 403, 405}


def test_photos_wait_in_the_proxy_until_they_are_whole(stack):
    """A photo's size, half of it sent: it lies with nginx, and no thread of i2i waits for the rest."""
    cookie = "; ".join(f"{name}={value}" for name, value in stack.visitor().cookies.items())
    half = 5_000_000
    with stack.raw() as sock:
        sock.sendall(
            f"POST /images HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n"
            f"Content-Length: {2 * half}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            "Sec-Fetch-Site: same-origin\r\n\r\n".encode()
        )
        sock.sendall(bytes(half))
        wait_until(lambda: kept_bodies(stack) > half // 2, what="the half in nginx's folder")


def kept_bodies(stack):
    """Bytes of bodies that nginx's processes keep in files, which have no names any more."""
    main = stack.nginx.process.pid
    size = 0
    for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                if f"{stack.nginx.folder}/body/" in str(file.readlink()):
                    size += file.stat().st_size
    return size


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
    kept = [each for each in (stack.nginx.folder / "static").rglob("*") if each.is_file()]
    assert sum(f"\nKEY: {path}".encode() in each.read_bytes() for each in kept) == 2


def test_photos_come_through_the_proxy(stack):
    visitor = stack.visitor()
    data = jpeg(photo(size=(1600, 1200)), quality=98)  # far more than nginx keeps in memory
    image = visitor.upload("coat.jpg", data)
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    assert visitor.request("GET", image["url"], headers={"Accept": "image/*"}).data == data


def test_plain_http_leads_to_tls(stack):
    with socket_to(stack.nginx.plain_port) as sock:
        sock.sendall(b"GET /upload?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = sock.recv(65536)
    assert b"\r\nLocation: " + stack.url.encode() + b"/upload?after=1\r\n" in answer


# --- Row 48 -----------------------------------------------------------------------------------

HSTS = "max-age=31536000; includeSubDomains"


def test_row_48_https_is_remembered_whatever_is_answered(stack):
    visitor = stack.visitor()
    for path, status in (("/upload", 200), ("/batches/new", 303), ("/nowhere", 404)):
        answer = visitor.request("GET", path, headers={"Accept": "text/html"})
        assert (answer.status, answer.headers["Strict-Transport-Security"]) == (status, HSTS)
    with psycopg.connect(stack.house.database, autocommit=True) as conn:
        conn.execute("ALTER TABLE presets RENAME TO elsewhere")
        answer = visitor.request("GET", "/presets")
        conn.execute("ALTER TABLE elsewhere RENAME TO presets")
    assert (answer.status, answer.headers["Strict-Transport-Security"]) == (500, HSTS)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /jobs/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /blobs/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        # gunicorn says this one, without a header of ours
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_row_48_pages_of_the_servers_themselves_have_the_headers(stack, request_, status):
    check_own_page(ask(stack.raw(), request_), status)


def test_row_48_the_page_while_i2i_is_away_has_the_headers(stack, tmp_path):
    nginx = Nginx(
        tmp_path / "nginx", upstreams=[f"127.0.0.1:{free_port()}"], blobs=tmp_path
    ).start()
    tls = ssl.create_default_context(cafile=str(nginx.certificate))
    try:
        sock = tls.wrap_socket(socket_to(nginx.port), server_hostname=HOST)
        answer = ask(sock, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        nginx.stop()
    check_own_page(answer, 502)
    assert b"\r\nRetry-After: 5\r\n" in answer
    assert b"Back in a moment" in answer


def check_own_page(answer, status):
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    for line in (
        f"Strict-Transport-Security: {HSTS}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Server: nginx",
    ):
        assert f"\r\n{line}\r\n".encode() in answer, answer
    assert b"Content-Security-Policy: default-src 'none';" in answer


def ask(sock, request):
    """All that is answered until the connection is closed, or nothing more comes for a moment."""
    sock.settimeout(1)
    parts = []
    with sock, suppress(TimeoutError, ConnectionResetError):
        sock.sendall(request)
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


# --- Row 56 -----------------------------------------------------------------------------------


def test_row_56_what_a_client_says_of_itself_is_not_believed(stack):
    stack.visitor(EMAIL)
    fields = urlencode({"email": EMAIL, "password": "not this one, surely"}).encode()
    with stack.raw(source="127.0.0.56") as sock:
        sock.sendall(
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\nX-Real-IP: 9.9.9.9\r\n"
            b"Forwarded: for=9.9.9.9;host=evil.example;proto=http\r\nX-Forwarded-Prefix: /evil\r\n"
            b"X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 1\r\n"
            b"X_Forwarded_For: 9.9.9.9\r\nSec-Fetch-Site: same-origin\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
            + f"Content-Length: {len(fields)}\r\n\r\n".encode()
            + fields
        )
        answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"evil" not in answer
    assert f"Strict-Transport-Security: {HSTS}".encode() in answer  # it knew that it was https
    recorded = stack.house.query(
        "SELECT ip_address FROM audit_events WHERE action = 'session.refused' AND target = %s"
        " ORDER BY id DESC LIMIT 1",
        EMAIL,
    )
    assert recorded == [("127.0.0.56",)]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1", ""])
def test_row_56_another_name_gets_no_answer(stack, host):
    answer = ask(stack.raw(), f"GET /login HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    evil = f"GET http://evil.example/login HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    assert ask(stack.raw(), evil) == b""
    with socket_to(stack.nginx.port) as sock, pytest.raises(ssl.SSLError, match="UNRECOGNIZED"):
        stack.tls.wrap_socket(sock, server_hostname="evil.example")


def test_row_56_another_name_gets_400_of_i2i_too(stack):
    answer = stack.house.http.request(
        "GET", stack.house.url + "/login", headers={"Host": "evil.example"}
    )
    assert answer.status == 400


# --- Row 57 -----------------------------------------------------------------------------------

SECOND = b"GET /nowhere-smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

HEAD = b"POST /login HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"

CHUNKED = b"Transfer-Encoding: chunked\r\n"

SMUGGLED = {
    "length and chunks": b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 5\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a length in other digits": "Content-Length: ٠\r\n\r\n".encode(),
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": CHUNKED * 2 + b"\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a tab in the name": b"Transfer-Encoding\t: chunked\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"Content-Length : 5\r\n\r\n",
    "two hosts": b"Host: evil.example\r\nContent-Length: 0\r\n\r\n",
    "a folded header": b"X: a\r\n Content-Length: 5\r\n\r\n",
    "a size of no chunk": CHUNKED + b"\r\n0x\r\n\r\n",
    "a negative chunk": CHUNKED + b"\r\n-1\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "a chunk cut short": CHUNKED + b"\r\n5\r\nab",
}


@pytest.mark.parametrize("name", SMUGGLED)
@pytest.mark.parametrize("layer", ["nginx", "gunicorn"])
def test_row_57_nothing_is_smuggled(stack, layer, name):
    """Refused or closed; what follows is never taken for a request of its own.

    gunicorn reads chunks while the form is read: a broken one is an empty form (401), and the end.
    """
    sock = stack.raw() if layer == "nginx" else socket_to(stack.house.port)
    answer = ask(sock, HEAD + SMUGGLED[name] + SECOND)
    statuses = [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    print(f"{layer}, {name}: {statuses or 'closed'}")
    assert b"smuggled" not in answer
    assert statuses in ([], [400], [501]) or (layer, statuses) == ("gunicorn", [401, 400])


# --- Row 58 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/.git/HEAD", "/.git/config", "/.env", "/.env.example", "/console", "/metrics", "/docs"),
        *(
            "/docs/",
            "/static/",
            "/wsgi.py",
            "/i2i/app.py",
            "/gunicorn.conf.py",
            "/blobs/",
        ),
        *("/server-status", "/nginx_status", "/debug", "/admin.php", "/var/secret_key", "/api/"),
        *("/static/x/..%2f..%2fapp.py", "/static/x/%2e%2e/%2e%2e/app.py", "/robots.txt.bak"),
    ],
)
def test_row_58_nothing_but_pages_is_there(stack, path):
    answer = stack.visitor().request("GET", path)
    assert answer.status in {400, 403, 404, 405}, answer.data
    anonymous = stack.client().request("GET", path)
    assert anonymous.status in {400, 401, 403, 404, 405}, anonymous.data


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "PUT", "DELETE", "PROPFIND", "X"])
def test_row_58_other_methods_do_nothing(stack, method):
    request = f"{method} /login HTTP/1.1\r\nHost: localhost\r\nX-Secret: echo\r\n\r\n".encode()
    for sock in (stack.raw(), socket_to(stack.house.port)):
        answer = ask(sock, request)
        assert re.match(rb"HTTP/1\.[01] (400|403|404|405|501) ", answer), answer
        assert b"echo" not in answer
        assert not re.search(rb"gunicorn/\d|nginx/\d|Werkzeug|Python", answer)
