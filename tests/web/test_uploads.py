"""Uploads over real HTTP, well-formed and not: nothing half is taken, nothing is left behind."""

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import unicodedata
from http.client import HTTPConnection
from pathlib import Path

import flask
import pictures
import pytest

from i2i.errors import StorageError
from i2i.web import uploads

MAX_BYTES = 200_000
MAX_FILES = 4
BOUNDARY = "----frontier7MA4YWxk"


def make_app(folder: str) -> flask.Flask:
    folder = Path(folder)
    app = flask.Flask("uploads")
    app.request_class = uploads.UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = 100_000

    @app.post("/images")
    def receive():
        files = uploads.incoming_files(
            flask.request, folder=folder, max_bytes=MAX_BYTES, max_files=MAX_FILES
        )
        if not files:
            flask.abort(400, "no file")
        described = [
            {
                "filename": file.filename,
                "size": file.size,
                "sha256": file.sha256,
                "too_large": file.too_large,
                "kept": hashlib.sha256(file.path.read_bytes()).hexdigest()
                if file.path.exists()
                else None,
            }
            for file in files
        ]
        if keep := flask.request.form.get("keep"):
            os.link(files[0].path, folder.parent / keep)
        return {"images": described, "form": flask.request.form.to_dict()}

    @app.post("/other")
    def other():
        return {"form": flask.request.form.to_dict(), "left": len(list(folder.iterdir()))}

    @app.post("/broken")
    def broken():
        uploads.incoming_files(
            flask.request, folder=folder, max_bytes=MAX_BYTES, max_files=MAX_FILES
        )
        raise StorageError("broken on purpose")

    @app.errorhandler(StorageError)
    def full(error):
        return {"error": str(error), "form": flask.request.form.to_dict()}, 507

    @app.errorhandler(400)
    @app.errorhandler(413)
    def refuse(error):
        # An error page may look at the form.
        return {"error": error.description, "form": flask.request.form.to_dict()}, error.code

    return app


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app behind the server that production uses: port and folder."""
    folder = tmp_path_factory.mktemp("uploads") / "incoming"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = f"{Path(__file__).stem}:make_app(folder={str(folder)!r})"
        root = Path(uploads.__file__).parents[2]
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}",
             "--worker-class", "gthread", "--threads", "2", "--no-control-socket",
             "--log-level", "error",
             "--pythonpath", f"{root},{root / 'tests'},{Path(__file__).parent}", app],
            pass_fds=[listener.fileno()],
            cwd=folder.parent,  # away from the configuration of the real application
        )  # fmt: skip
        try:
            yield listener.getsockname()[1], folder
        finally:
            gunicorn.terminate()
            gunicorn.wait(30)


@pytest.fixture
def port(server):
    return server[0]


@pytest.fixture
def folder(server):
    return server[1]


def part(name: str, filename: str | None, data: bytes, *, boundary: str = BOUNDARY) -> bytes:
    quoted = "" if filename is None else '; filename="' + filename.replace('"', "%22") + '"'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{quoted}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def post(port: int, body: bytes, *, path: str = "/images", content_type: str = MULTIPART):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def post_raw(port: int, body: bytes, *, headers: dict[str, str], path: str = "/images") -> int:
    """Send exactly these bytes, end the sending side, and return the status."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return int(answer.split(b" ", 2)[1])


# --- What is well-formed ----------------------------------------------------------------------


def test_files_arrive_whole_hashed_and_counted(port, folder):
    photos = {name: path.read_bytes() for name, path in pictures.PHOTOS.items() if name[0] in "cr"}
    photos = {name: data for name, data in photos.items() if len(data) < MAX_BYTES}
    body = b"".join(part("images", name, data) for name, data in photos.items()) + END
    status, answer = post(port, body)
    assert status == 200
    assert len(answer["images"]) == len(photos) >= 2
    for image, (name, data) in zip(answer["images"], photos.items(), strict=True):
        digest = hashlib.sha256(data).hexdigest()
        assert image == {
            "filename": name,
            "size": len(data),
            "sha256": digest,
            "kept": digest,
            "too_large": False,
        }
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, MAX_BYTES - 1, MAX_BYTES])
def test_every_size_up_to_the_limit(port, size):
    data = os.urandom(size)
    status, answer = post(port, part("images", "a.jpg", data) + END)
    assert status == 200
    assert answer["images"][0]["kept"] == hashlib.sha256(data).hexdigest()


def test_a_file_that_is_too_large_leaves_the_others_alone(port, folder):
    body = part("images", "a.jpg", b"first") + part("images", "b.jpg", bytes(MAX_BYTES + 1))
    status, answer = post(port, body + part("images", "c.jpg", b"third") + END)
    assert status == 200
    assert [image["too_large"] for image in answer["images"]] == [False, True, False]
    assert [image["size"] for image in answer["images"]] == [5, MAX_BYTES + 1, 5]
    assert [bool(image["kept"]) for image in answer["images"]] == [True, False, True]
    assert list(folder.iterdir()) == []


def test_what_was_linked_stays(port, folder):
    body = part("keep", None, b"linked.jpg") + part("images", "a.jpg", b"kept") + END
    status, answer = post(port, body)
    assert (status, answer["form"]) == (200, {"keep": "linked.jpg"})
    linked = folder.parent / "linked.jpg"
    assert linked.read_bytes() == b"kept"
    linked.unlink()
    assert list(folder.iterdir()) == []


def test_chunked_bodies_are_read_like_others(port):
    body = part("images", "a.jpg", b"first") + END
    chunked = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 50]), body[at : at + 50])
        for at in range(0, len(body), 50)
    )
    headers = {"Content-Type": MULTIPART, "Transfer-Encoding": "chunked"}
    assert post_raw(port, chunked + b"0\r\n\r\n", headers=headers) == 200


def test_other_fields_hold_no_images(port, folder):
    body = part("elsewhere", "a.jpg", b"first") + part("images", None, b"no file") + END
    assert post(port, body)[0] == 400
    assert list(folder.iterdir()) == []


def test_an_empty_file_field_is_no_file(port):
    assert post(port, part("images", "", b"") + END)[0] == 400


def test_a_route_that_takes_no_files_keeps_none(port):
    body = part("name", None, b"value") + part("images", "a.jpg", bytes(50_000)) + END
    assert post(port, body, path="/other") == (200, {"form": {"name": "value"}, "left": 0})


def test_nothing_is_left_when_the_view_fails(port, folder):
    status, answer = post(port, part("images", "a.jpg", b"first") + END, path="/broken")
    assert (status, answer["error"]) == (507, "broken on purpose")
    assert list(folder.iterdir()) == []


# --- Limits -----------------------------------------------------------------------------------


def test_too_many_files(port, folder):
    body = b"".join(part("images", f"{number}.jpg", b"x") for number in range(MAX_FILES + 1)) + END
    status, answer = post(port, body)
    assert (status, answer["error"]) == (
        413,
        "More than 4 files at a time. Nothing was stored; send fewer.",
    )
    assert list(folder.iterdir()) == []


def test_too_many_fields(port, folder):
    body = part("images", "a.jpg", b"x") + part("field", None, b"x") * 50 + END
    assert post(port, body)[0] == 413
    assert list(folder.iterdir()) == []


def test_a_field_that_is_too_long(port, folder):
    body = part("images", "a.jpg", b"x") + part("field", None, b"x" * 600_000) + END
    assert post(port, body)[0] == 413
    assert list(folder.iterdir()) == []


def test_a_body_over_all_limits_is_refused_unread(port, folder):
    length = str(MAX_BYTES * MAX_FILES + uploads.OVERHEAD_BYTES + 1)
    assert post_raw(port, b"", headers={"Content-Type": MULTIPART, "Content-Length": length}) == 413
    assert list(folder.iterdir()) == []


# --- What does not hold together --------------------------------------------------------------

WHOLE = part("images", "a.jpg", b"first") + part("images", "b.jpg", bytes(50_000)) + END


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (WHOLE, "multipart/form-data"),
        (WHOLE, "multipart/form-data; boundary=other"),
        (WHOLE, "multipart/form-data; boundary=\u00e9"),
        (WHOLE, "application/octet-stream"),
        (WHOLE, "text/plain"),
        (WHOLE[: -len(END)], MULTIPART),
        (WHOLE[:-30_000], MULTIPART),
        (WHOLE[:60], MULTIPART),
        (b"", MULTIPART),
        (END, MULTIPART),
        (b"images=a.jpg", "application/x-www-form-urlencoded"),
        (f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\nxx\r\n".encode() + END, MULTIPART),
        (f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nxx\r\n".encode() + END, MULTIPART),
        (f"--{BOUNDARY}\r\nContent-Disposition: \xff\r\n\r\nxx\r\n".encode("latin-1") + END, MULTIPART),
    ],
    ids=[
        "no-boundary", "wrong-boundary", "odd-boundary", "octets", "text", "no-closing", "cut",
        "cut-in-head", "nothing", "only-end", "urlencoded", "no-disposition", "nameless", "not-utf-8",
    ],
)  # fmt: skip
def test_bodies_that_do_not_hold_together(port, folder, body, content_type):
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    assert post_raw(port, body, headers=headers) == 400
    assert list(folder.iterdir()) == []


def test_no_route_takes_a_cut_body_for_an_empty_form(port):
    body = part("name", None, b"value") + part("images", "a.jpg", bytes(50_000))
    assert post(port, body, path="/other")[0] == 400


@pytest.mark.parametrize("sent", [len(WHOLE), len(WHOLE) - 30_000, 300, 0])
def test_a_body_that_ends_before_its_content_length(port, folder, sent):
    headers = {"Content-Type": MULTIPART, "Content-Length": str(len(WHOLE) + 100)}
    assert post_raw(port, WHOLE[:sent], headers=headers) == 400
    assert list(folder.iterdir()) == []


def test_a_content_length_that_is_too_small(port, folder):
    headers = {"Content-Type": MULTIPART, "Content-Length": str(len(WHOLE) - 100)}
    assert post_raw(port, WHOLE, headers=headers) == 400
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"%x\r\n%s" % (len(WHOLE), WHOLE[:1000]),
        b"%x\r\n%s\r\n" % (len(WHOLE), WHOLE),
        b"%x\r\n%sXX0\r\n\r\n" % (len(WHOLE), WHOLE),
        b"%x\r\n%s\r\nzz\r\n" % (1000, WHOLE[:1000]),
    ],
    ids=["cut-in-chunk", "no-last-chunk", "no-line-end", "no-size"],
)
def test_a_chunked_body_that_breaks_off(port, folder, body):
    headers = {"Content-Type": MULTIPART, "Transfer-Encoding": "chunked"}
    assert post_raw(port, body, headers=headers) == 400
    assert list(folder.iterdir()) == []


def test_a_disk_that_takes_nothing(port, folder):
    folder.rmdir()
    try:
        status, answer = post(port, part("images", "a.jpg", b"first") + END)
    finally:
        folder.mkdir()
    assert status == 507
    assert answer["error"] == "The upload cannot be stored."


def test_a_disk_that_gets_full(tmp_path):
    """/dev/full accepts an open and refuses every byte with the real error number."""
    (tmp_path / "probe").mkdir()
    file = uploads.IncomingFile(tmp_path / "probe", filename="a.jpg", max_bytes=MAX_BYTES)
    os.dup2(full := os.open("/dev/full", os.O_WRONLY), file._file.fileno())
    os.close(full)
    file.write(bytes(100_000))
    file.seek(0)
    assert "is full" in str(file.failure)
    assert not file.path.exists()


class CountedInput:
    """A server's input that counts how often it is asked."""

    def __init__(self, body):
        self.times = 0
        self._body = io.BytesIO(body)

    def read(self, size=-1):
        self.times += 1
        return self._body.read(size)


def test_a_server_is_asked_for_large_pieces(folder):
    """gunicorn copies what it has received and not handed out yet, at each read."""
    photos = [bytes(MAX_BYTES - 1)] * MAX_FILES
    content = b"".join(part("images", "a.jpg", data) for data in photos) + END
    body = CountedInput(content)
    environ = {
        "CONTENT_TYPE": MULTIPART,
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": body,
    }
    with make_app(folder).test_request_context(
        "/images", method="POST", environ_overrides=environ
    ) as context:
        files = uploads.incoming_files(
            context.request, folder=folder, max_bytes=MAX_BYTES, max_files=MAX_FILES
        )
        assert [file.size for file in files] == [len(data) for data in photos]
    assert body.times <= 5, "four pieces, and the end"


def test_asking_after_the_body_was_read_is_a_mistake(folder):
    app = make_app(folder)
    with app.test_request_context("/images", method="POST", data={"a": "b"}) as context:
        assert context.request.form["a"] == "b"
        with pytest.raises(RuntimeError):
            uploads.incoming_files(context.request, folder=folder, max_bytes=1, max_files=1)


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("NF26-017 tee.jpg", "NF26-017 tee.jpg"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\win.ini", "win.ini"),
        ("C:\\Photos\\a.jpg", "a.jpg"),
        ("фото.jpg", "фото.jpg"),
        ("日本.png", "日本.png"),
        ("photo\x00\x1b[31m.jpg", "photo[31m.jpg"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("a\u2066b\u200b\u2028c.jpg", "abc.jpg"),
        ("a\r\nSet-Cookie: b.jpg", "aSet-Cookie: b.jpg"),
        ("a\tb  c.jpg", "a b c.jpg"),
        ('a";b.jpg', 'a";b.jpg'),
        ("lone\ud800.jpg", "lone.jpg"),
        ("CON.jpg", "CON.jpg"),
        ("e\u0301.jpg", "é.jpg"),
        ("", "photo"),
        (".", "photo"),
        ("...", "photo"),
        ("folder/", "photo"),
        ("\u202e\x00", "photo"),
        (".jpg", ".jpg"),
        ("x" * 5000 + ".jpg", "x" * 251 + ".jpg"),
        ("é" * 200 + ".jpeg", "é" * 125 + ".jpeg"),
        ("a." + "b" * 5000, ("a." + "b" * 5000)[:255]),
    ],
)  # fmt: skip
def test_names_are_made_fit_to_show(given, shown):
    name = uploads.clean_filename(given)
    assert name == shown
    assert len(name.encode()) <= 255
    assert unicodedata.is_normalized("NFC", name)
    assert uploads.clean_filename(name) == name
