"""Pictures that lie in a bucket, on real S3 servers (`make s3`)."""

from dataclasses import replace

import factories
import pages
import pictures
import pytest
import s3_servers
import urllib3

from i2i.gateways.storage import image_key, make_storage

pytestmark = pytest.mark.s3

JPEG = pictures.jpeg(pictures.photo(size=(120, 90)))


@pytest.fixture(params=s3_servers.SERVERS)
def keep_in_bucket(request, bucket, app, make_settings):
    """The application keeps its pictures in a bucket, with these variables."""
    url = bucket(request.param)

    def keep(**environ):
        settings = make_settings(BLOB_URL=url, **environ)
        app.extensions["i2i"] = replace(
            app.extensions["i2i"],
            settings=settings,
            storage=make_storage(url, data_dir=settings.data_dir),
        )
        return app.extensions["i2i"].storage

    return keep


@pytest.fixture
def storage(keep_in_bucket):
    return keep_in_bucket(S3_LINK_SECONDS="60")


@pytest.fixture
def photo(storage, conn, owner, tmp_path):
    made = factories.make_image(conn, user=owner, name="Kleid фото.jpg", data=JPEG)
    for name in ("original.jpg", "thumb.webp"):
        source = tmp_path / name
        source.write_bytes(JPEG if name.endswith("jpg") else b"a thumbnail")
        storage.put(image_key(owner.id, made.id, name), source)
    return made


def test_a_download_comes_from_the_bucket(as_owner, as_other, anonymous, photo):
    path = f"/images/{photo.id}?download"
    answer = as_owner.get(path)
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "X-Amz-Expires=60" in answer.headers["Location"]
    fetched = urllib3.request("GET", answer.headers["Location"], timeout=60)
    assert (fetched.status, fetched.data) == (200, JPEG)
    assert as_other.get(path).status_code == 404
    assert anonymous.get(path).headers["Location"].startswith("/login")


def test_what_pages_show_comes_from_here(as_owner, photo):
    for query, data in [("", JPEG), ("?size=thumb", b"a thumbnail")]:
        answer = as_owner.get(f"/images/{photo.id}{query}")
        assert (answer.status_code, answer.data) == (200, data)
    assert as_owner.json(f"/images/{photo.id}?download").json["id"] == str(photo.id)
    answer = as_owner.head(f"/images/{photo.id}?download")  # a link is good for GET only
    assert (answer.status_code, answer.content_length) == (200, len(JPEG))


def test_without_links_everything_comes_from_here(as_owner, photo, keep_in_bucket):
    keep_in_bucket()
    path = f"/images/{photo.id}?download"
    whole = as_owner.get(path)
    assert (whole.status_code, whole.data) == (200, JPEG)
    part = as_owner.get(path, headers={"Range": "bytes=100-"})
    assert (part.status_code, part.data) == (206, JPEG[100:])


def test_what_the_browser_has_costs_the_bucket_nothing(as_owner, photo, storage):
    path = f"/images/{photo.id}?size=thumb"
    tag = as_owner.get(path).headers["ETag"]
    storage.delete(image_key(photo.user_id, photo.id, "thumb.webp"))
    again = as_owner.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")


def test_a_lost_file_is_our_page_not_the_stores(as_owner, photo, storage):
    storage.delete(photo.blob_url)
    answer = as_owner.get(f"/images/{photo.id}?download")
    assert answer.status_code == 404
    pages.check(answer)
