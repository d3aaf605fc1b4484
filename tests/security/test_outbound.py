"""A canary listens on this machine; no address that a provider could hand out leads to it.

That a name is looked up once and dialled where it was checked: tests/gateways/test_fal.py.
"""

import io
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from i2i.errors import FalTemporary
from i2i.gateways.fal import HttpFal

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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_row_41_a_redirect_is_not_followed(make_settings, canary, status):
    target = f"http://127.0.0.1:{canary.getsockname()[1]}/x.png"

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        origin = f"http://127.0.0.1:{server.server_port}"
        fal = HttpFal(make_settings(FAL_QUEUE_URL=origin, FAL_MEDIA_HOSTS=origin))
        try:
            with pytest.raises(FalTemporary):
                fal.download(f"{origin}/x.png", io.BytesIO(), keep_alive=lambda: None)
        finally:
            server.shutdown()
            thread.join()
    assert_silent(canary)
