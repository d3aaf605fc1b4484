"""The id of a request: ours, or a trusted proxy's; in the answer, the log and the records."""

from dataclasses import replace

import pytest

from i2i import origin
from i2i.web.requests import SHAPE

GIVEN = "8c1f0f6f5a4b4b0d8e2d5c3b2a190807"


@pytest.fixture
def trusting(app, make_settings):
    state = app.extensions["i2i"]
    app.extensions["i2i"] = replace(state, settings=make_settings(TRUSTED_PROXIES="1"))


def ask(browser, **headers):
    return browser.get("/healthz", headers=headers).headers["X-Request-Id"]


def test_every_answer_has_an_id_of_its_own(as_owner):
    paths = ["/healthz", "/upload", "/nowhere", "/static/old/app.css", "/login"]
    ids = [as_owner.get(path).headers["X-Request-Id"] for path in paths]
    assert len(set(ids)) == len(ids)
    assert all(SHAPE.fullmatch(each) for each in ids)


def test_nobody_names_requests_where_no_proxy_is_trusted(anonymous):
    assert ask(anonymous, **{"X-Request-Id": GIVEN}) != GIVEN


@pytest.mark.usefixtures("trusting")
def test_a_trusted_proxy_names_requests(anonymous):
    assert ask(anonymous, **{"X-Request-Id": GIVEN}) == GIVEN


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    "given",
    ["", "short", "a" * 65, "a b c d e f", f"{GIVEN},{GIVEN}", "<script>x</script>", "-" * 20],
)
def test_an_id_of_another_shape_is_not_taken(anonymous, given):
    assert ask(anonymous, **{"X-Request-Id": given}) != given


def test_nothing_of_a_request_is_left_after_it(as_owner):
    as_owner.get("/upload")
    assert origin.current() == origin.Origin()
