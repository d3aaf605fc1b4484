"""Pages and JSON are gzipped for those who take it; what is small, or a picture, is not."""

import gzip

import factories
import pytest

TAKES = {"Accept-Encoding": "gzip, br"}


@pytest.mark.parametrize("path", ["/upload", "/account", "/nowhere"])
def test_pages_are_smaller_and_the_same(as_owner, path):
    plain, packed = as_owner.get(path), as_owner.get(path, headers=TAKES)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content_length == len(packed.data) < len(plain.data) / 2
    assert gzip.decompress(packed.data) == plain.data
    for answer in (plain, packed):
        assert set(answer.headers["Vary"].split(", ")) == {"Accept-Encoding", "Cookie"}


def test_json_that_is_long(conn, as_owner, owner):
    for _ in range(5):
        factories.make_image(conn, user=owner)
    path = "/images?" + "&".join(
        f"image={id_}" for (id_,) in conn.execute("SELECT id FROM images").fetchall()
    )
    headers = TAKES | {"Accept": "application/json"}
    assert as_owner.get(path, headers=headers).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in as_owner.get("/healthz", headers=headers).headers


@pytest.mark.parametrize("coding", ["gzip;q=0", "br", "identity"])
def test_those_who_do_not_take_it(as_owner, coding):
    answer = as_owner.get("/upload", headers={"Accept-Encoding": coding})
    assert "Content-Encoding" not in answer.headers


def test_pictures_stay_as_they_are(app, as_owner, conn, owner):
    storage = app.extensions["i2i"].storage
    image = factories.make_image(conn, user=owner, data=b"bytes" * 1000, storage=storage)
    answer = as_owner.get(f"/images/{image.id}", headers=TAKES | {"Accept": "image/*"})
    assert "Content-Encoding" not in answer.headers
    assert answer.data == b"bytes" * 1000


def test_what_has_an_etag_is_still_answered_with_304(conn, as_owner, owner):
    batch = factories.make_batch(conn, user=owner)
    path = f"/batches/{batch.id}/live"
    first = as_owner.get(path, headers=TAKES)
    etag = first.headers["ETag"]
    assert as_owner.get(path, headers=TAKES | {"If-None-Match": etag}).status_code == 304
