"""Rows 40 to 43: what the server itself fetches, from whom, and how much of it.

A canary listens on this machine; no address that a provider or a user could hand out leads to it.
That a name is looked up once and dialled where it was checked: tests/gateways/test_fal.py.
"""

import ast
import gzip
import io
import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from routes import ROUTES, fields_of, path_of
from stack import make_certificate

from i2i.config import ROOT
from i2i.errors import FalNotSent, FalTemporary
from i2i.gateways.fal import MAX_OUTPUT_BYTES, HttpFal
from i2i.services import images

TRICKS = [
    "http://127.0.0.1:{port}/x.png",
    "https://127.0.0.1:{port}/x.png",
    "https://localhost:{port}/x.png",
    "https://2130706433:{port}/x.png",
    "https://0x7f000001:{port}/x.png",
    "https://0177.0.0.1:{port}/x.png",
    "https://127.1:{port}/x.png",
    "https://[::1]:{port}/x.png",
    "https://[::ffff:127.0.0.1]:{port}/x.png",
    "https://0.0.0.0:{port}/x.png",
    "https://v3.fal.media@127.0.0.1:{port}/x.png",
    "https://v3.fal.media:{port}@127.0.0.1/x.png",
    "https://127.0.0.1:{port}#.fal.media/x.png",
    "https://127.0.0.1:{port}?.fal.media/x.png",
    "https://127.0.0.1:{port}\\@v3.fal.media/x.png",
    "https://v3.fal.media.127.0.0.1.nip.io:{port}/x.png",
    "https://evilfal.media:{port}/x.png",
    "https://v3.fal.media:{port}/x.png",  # the resolver below answers with the canary's address
    "//127.0.0.1:{port}/x.png",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/x.png",
    "gopher://127.0.0.1:{port}/x.png",
    "https://[fe80::1%25lo]:{port}/x.png",
    "https://169.254.169.254:{port}/latest/meta-data",
]


@pytest.fixture
def canary():
    """A listener on 127.0.0.1; `accept` fails at once when nobody has connected."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        yield listener


def assert_silent(canary):
    with pytest.raises(BlockingIOError):
        canary.accept()


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"])
def test_row_40_no_trick_reaches_this_machine(make_settings, canary, trick, address):
    fal = HttpFal(
        make_settings(FAL_KEY="key"), connect_seconds=1, resolver=lambda host, port: [address]
    )
    url = trick.format(port=canary.getsockname()[1])
    with pytest.raises(FalTemporary):
        fal.download(url, io.BytesIO(), keep_alive=lambda: None)
    assert_silent(canary)


@contextmanager
def serving(answer, *, tls=None):
    """A server on this machine whose answers `answer(handler)` writes; its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the other side hangs up on what is too much
                answer(self)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def gateway(make_settings, origin, **bounds):
    """HttpFal for which everything of fal is at this origin."""
    names = ("FAL_QUEUE_URL", "FAL_REST_URL", "FAL_PLATFORM_URL", "FAL_MEDIA_HOSTS")
    settings = make_settings(FAL_KEY="key", **dict.fromkeys(names, origin))
    return HttpFal(settings, **bounds)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_row_41_a_redirect_is_not_followed(make_settings, canary, status):
    target = f"http://127.0.0.1:{canary.getsockname()[1]}/x.png"

    def redirect(handler):
        handler.send_response(status)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(redirect) as origin, pytest.raises(FalTemporary):
        gateway(make_settings, origin).download(
            f"{origin}/x.png", io.BytesIO(), keep_alive=lambda: None
        )
    assert_silent(canary)


def test_row_42_a_certificate_of_ones_own_fails_closed(make_settings, tmp_path):
    """Neither a picture nor a key nor a submit goes over it; whoever trusts it gets an answer."""
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    make_certificate(certificate, key=key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    heard = []

    def listen(handler):
        heard.append(handler.path)
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    with serving(listen, tls=tls) as origin:
        fal = gateway(make_settings, origin)
        with pytest.raises(FalTemporary):
            fal.download(f"{origin}/x.png", io.BytesIO(), keep_alive=lambda: None)
        with pytest.raises(FalTemporary):
            fal.jwks()
        with pytest.raises(FalNotSent):
            fal.submit("fal-ai/x", {})
        assert heard == []
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert gateway(make_settings, origin, tls=trusting).jwks() == {}


def say_one_gigabyte(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    handler.wfile.write(b"x" * 1000)


def never_end(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 1_000_000)


def explode(handler):
    body = gzip.compress(bytes(50_000_000))
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x")
        threading.Event().wait(0.02)


@pytest.mark.parametrize("answer", [say_one_gigabyte, never_end, explode, drip])
def test_row_43_no_more_than_a_picture_and_no_longer(make_settings, answer):
    """Stopped at the cap or at the deadline, and the folder that it was written to is gone."""
    settings = make_settings()
    with serving(answer) as origin:
        fal = gateway(make_settings, origin, transfer_seconds=2 if answer is drip else 180)
        with (
            pytest.raises(FalTemporary),
            images.workspace(settings) as folder,
            (folder / "result").open("wb") as sink,
        ):
            fal.download(f"{origin}/x.png", sink, keep_alive=lambda: None)
        assert sink.closed
    assert not folder.exists()
    assert MAX_OUTPUT_BYTES == 200_000_000


# --- What users give --------------------------------------------------------------------------

DIALLERS = {
    "i2i/gateways/fal.py": "fal",
    "i2i/gateways/deadlines.py": "nobody: it ends what fal.py has opened",
    "i2i/gateways/s3.py": "the operator's bucket",
    "i2i/cli/run.py": "the programs that `make run` has started on this machine",
    "i2i/practice.py": "stands in for fal on this machine",
}
"""The only modules that can open a connection by HTTP or socket, and to whom."""


def test_row_40_only_the_gateways_can_dial():
    """No module that serves a request imports what could fetch a URL that a user gave."""
    clients = {"http", "urllib3", "urllib", "socket", "requests", "httpx", "ftplib", "boto3"}
    harmless = {"urllib.parse", "http"}
    dialling = set()
    for path in sorted((ROOT / "i2i").rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
        if any(each.partition(".")[0] in clients and each not in harmless for each in names):
            dialling.add(path.relative_to(ROOT).as_posix())
    assert dialling == set(DIALLERS)


def test_row_40_no_field_makes_the_server_fetch(town, canary):
    """An address in every field of every form, and as the place where we come from."""
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/x.png"
    headers = {"Referer": url, "X-Forwarded-Host": url, "X-Fal-Webhook-User-Id": url}
    for who in ("owner", "admin"):
        client = town.client(who)
        for method, route in ROUTES:
            if route not in {"/logout", "/login"}:
                fields = dict.fromkeys(
                    [*fields_of(method, route, town.things), "url", "image", "document", "next"],
                    url,
                )
                path = path_of(method, route, town.things)
                sent = fields if method == "POST" else None
                answer = client.request(method, path, fields=sent, headers=headers)
                assert answer.status < 500, route
    upload = {"images": ("x.jpg", url.encode(), "image/jpeg")}
    client = town.client("owner")
    assert client.request("POST", "/images", fields=upload, multipart=True).status == 422
    assert_silent(canary)
