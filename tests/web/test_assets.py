"""Style and scripts: addresses that change with the content, kept for good, gzipped for who takes it."""

import gzip
import re

import pytest
from pages import Page

from i2i.web.assets import FOLDER


@pytest.fixture
def addresses(anonymous):
    """What the sign-in page loads, by file name."""
    page = Page(anonymous.get("/login"))
    found = [link["href"] for link in page.all("link")] + [
        each["src"] for each in page.all("script")
    ]
    return {address.rpartition("/")[2]: address for address in found}


def test_what_a_page_names_is_kept_for_good(anonymous, addresses):
    assert set(addresses) >= {"app.css", "signin.js", "favicon.svg"}
    for name, address in addresses.items():
        assert re.fullmatch(rf"/static/[0-9a-f]{{12}}/{re.escape(name)}", address)
        answer = anonymous.get(address)
        assert answer.data == (FOLDER / name).read_bytes()
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    ("name", "mime_type"),
    [("app.css", "text/css"), ("live.js", "text/javascript"), ("favicon.svg", "image/svg+xml")],
)
def test_it_is_gzipped_for_those_who_take_it(anonymous, addresses, name, mime_type):
    address = addresses["app.css"].replace("app.css", name)
    answer = anonymous.get(address, headers={"Accept-Encoding": "br, gzip"})
    assert answer.mimetype == mime_type
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == (FOLDER / name).read_bytes()
    plain = anonymous.get(address, headers={"Accept-Encoding": "gzip;q=0"})
    assert plain.headers["ETag"] != answer.headers["ETag"]
    assert "Content-Encoding" not in plain.headers


def test_it_is_asked_for_again_by_its_etag(anonymous, addresses):
    etag = anonymous.get(addresses["app.css"]).headers["ETag"]
    assert anonymous.get(addresses["app.css"], headers={"If-None-Match": etag}).status_code == 304


def test_a_page_of_another_release_gets_todays_file_and_does_not_keep_it(anonymous):
    answer = anonymous.get("/static/0123456789ab/app.css")
    assert answer.data == (FOLDER / "app.css").read_bytes()
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["old/nowhere.css", "old/", "old/../app.py", "app.css", "old/x/app.css"]
)
def test_nothing_else_is_there(as_owner, path):
    assert as_owner.get(f"/static/{path}").status_code == 404
