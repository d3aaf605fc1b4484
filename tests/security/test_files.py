"""Pictures sent by nginx are what i2i itself would have sent: the same bytes under the same headers."""

import io
import os
import stat
from zipfile import ZipFile

import house as houses
import psycopg
import pytest
from house import free_port, wait_until
from pictures import jpeg, photo
from scene import Studio

from i2i.gateways.storage import make_storage
from i2i.queries import users

DATA = jpeg(photo(size=(900, 600)))

HOP = {"Date", "Server", "Connection", "Keep-Alive", "Transfer-Encoding", "X-Request-Id"}
"""What each answer has of its own."""


@pytest.fixture(scope="module")
def alone(stack):
    """URL of a second gunicorn that sends pictures itself."""
    port, environ = free_port(), stack.house.environ
    stack.house.environ = environ | {"X_ACCEL_REDIRECT": ""}
    stack.house.start("alone", "gunicorn", "--bind", f"127.0.0.1:{port}", "wsgi:app")
    stack.house.environ = environ

    def answers():
        try:
            return stack.house.http.request("GET", f"http://127.0.0.1:{port}/healthz")
        except houses.urllib3.exceptions.HTTPError:
            return None

    wait_until(answers, what="a second gunicorn")
    yield f"http://127.0.0.1:{port}"
    stack.house.kill("alone")


@pytest.fixture(scope="module")
def image(stack):
    """A photo of the visitor's with its smaller copies."""
    visitor = stack.visitor()
    uploaded = visitor.upload("фото a.jpg", DATA)
    wait_until(
        lambda: visitor.request("GET", uploaded["url"]).json()["status"] == "ready",
        what="the preview",
    )
    return uploaded


@pytest.fixture(scope="module")
def both(stack, alone):
    """Ask nginx and the second gunicorn the same, as one visitor."""
    visitor = stack.visitor()

    def ask(path, *, method="GET", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Accept": "image/*", **headers}
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        straight = stack.house.http.request(
            method,
            alone + path,
            headers={**headers, "Cookie": cookie, "X-Forwarded-Proto": "https"},
        )
        return visitor.request(method, path, headers=headers), straight

    return ask


def facts(answer):
    headers = sorted(item for item in answer.headers.items() if item[0] not in HOP)
    return answer.status, headers, answer.data


@pytest.mark.parametrize("query", ["", "?size=thumb", "?size=preview", "?download"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Range": "bytes=0-99"}, 206),
        ({"Range": "bytes=100-"}, 206),
        ({"Range": "bytes=-50"}, 206),
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=0-1,5-6"}, 416),
        ({"Range": "bytes=5-1"}, 416),
        ({"If_None_Match": "ETAG"}, 304),
        ({"If_None_Match": 'W/"other", ETAG'}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_Range": "ETAG", "Range": "bytes=0-99"}, 206),
        ({"If_Range": '"other"', "Range": "bytes=0-99"}, 200),
        ({"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
        ({"Accept_Encoding": "gzip"}, 200),
    ],
)
def test_nginx_sends_what_i2i_would(both, image, query, headers, status):
    path = image["url"] + query
    etag = both(path)[0].headers["ETag"]
    headers = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        through, straight = both(path, method=method, **headers)
        assert facts(through) == facts(straight)
        assert through.status == status
    if query in {"", "?download"} and status == 200:
        assert both(path, **headers)[0].data == DATA


def test_what_nginx_sends_is_kept_apart(both, image):
    through, _ = both(image["url"])
    assert through.headers["X-Content-Type-Options"] == "nosniff"
    assert through.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert through.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert through.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert {"Accept", "Cookie"} <= set(through.headers["Vary"].split(", "))
    assert "X-Accel-Redirect" not in through.headers
    assert through.headers["ETag"] == f'"{image["sha256"]}"'


def test_nobody_else_gets_it(stack, image):
    other = stack.visitor(houses.OTHER)
    for query in ("", "?size=thumb", "?size=preview", "?download"):
        assert other.request("GET", image["url"] + query).status == 404
        assert stack.client().request("GET", image["url"] + query).status == 401


def test_files_have_no_address(stack, image):
    """Neither by the name of the location nor around it, signed in or not."""
    (key,) = stack.house.query("SELECT blob_url FROM images WHERE id = %s", image["id"])[0]
    assert (stack.house.folder / "blobs" / key).is_file()
    visitor = stack.visitor()
    for path in (f"/blobs/{key}", f"/blobs//{key}", f"/static/..%2f..%2f{key}", f"/%62lobs/{key}"):
        answer = visitor.request("GET", path)
        assert answer.status in {400, 404}, path
        assert DATA not in answer.data
    through = stack.client().request(
        "GET", "/healthz", headers={"X-Accel-Redirect": f"/blobs/{key}"}
    )
    assert through.json() == {"status": "ok"}


@pytest.fixture(scope="module")
def archive(stack, image):
    """Path of a ZIP of three finished pictures."""
    folder = stack.house.folder
    with psycopg.connect(stack.house.database, autocommit=True) as conn:
        user = users.find_by_email(conn, email=houses.EMAIL)
        storage = make_storage(f"file://{folder}/blobs", data_dir=folder)
        batch, _ = Studio(conn, storage, user).batch(["completed"] * 3)
    return f"/batches/{batch.id}.zip"


@pytest.mark.parametrize(
    "part", [None, "bytes=0-99", "bytes=1000-", "bytes=-50", "bytes=999999999-"]
)
def test_a_zip_comes_through_with_its_length_and_in_parts(both, archive, part):
    through, straight = both(archive, **({"Range": part} if part else {}))
    assert facts(through) == facts(straight)
    assert through.status == (200 if part is None else 416 if "999999999" in part else 206)
    assert int(through.headers["Content-Length"]) == len(through.data)
    if part is None:
        assert len(ZipFile(io.BytesIO(through.data)).namelist()) == 4
        etag = through.headers["ETag"]
        assert both(archive, If_None_Match=etag)[0].status == 304


def test_the_group_of_the_folder_can_read_what_is_stored(stack, image):
    """docs/operations.md gives the folder to nginx's group; uploads and copies are linked into it."""
    (key,) = stack.house.query("SELECT blob_url FROM images WHERE id = %s", image["id"])[0]
    path = stack.house.folder / "blobs" / key
    for each in (path, *path.parent.iterdir(), *path.parents[:3]):
        found = each.stat()
        assert found.st_gid == stack.house.folder.stat().st_gid
        assert found.st_mode & stat.S_IRGRP


def test_a_file_that_nginx_cannot_read_is_not_kept_by_caches(stack):
    """Its user may lack the right. That is no hindrance to root, so here it is no regular file."""
    visitor = stack.visitor()
    image = visitor.upload("unread.jpg", jpeg(photo(size=(901, 600))))
    (key,) = stack.house.query("SELECT blob_url FROM images WHERE id = %s", image["id"])[0]
    path = stack.house.folder / "blobs" / key
    path.unlink()
    os.mkfifo(path)
    answer = visitor.request("GET", image["url"], headers={"Accept": "image/*"})
    path.unlink()
    assert answer.status == 404
    assert "no-store" in answer.headers["Cache-Control"].split(", ")
    assert "ETag" not in answer.headers
