"""Errors as pages and as JSON: no trace, no SQL, two ways out, and what it cost."""

import json
import re

import pages
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from i2i.errors import (
    DatabaseUnavailable,
    InvalidFields,
    NotFound,
    Refused,
    StorageError,
    TooManyTries,
)
from i2i.logs import JsonFormatter
from i2i.web import sessions

SECRET = "/secret/path SELECT password_hash FROM users"

RAISED = {
    "notfound": (NotFound(SECRET), 404),
    "refused": (Refused("Only a failed picture can be run again."), 409),
    "fields": (InvalidFields({"a": "Enter a number."}), 422),
    "storage": (StorageError("The disk of this site is full. Nothing was stored."), 507),
    "database": (DatabaseUnavailable(SECRET), 503),
    "tries": (TooManyTries(7), 429),
    "data": (psycopg.DataError(SECRET), 400),
    "unforeseen": (RuntimeError(SECRET), 500),
    "lookup": (KeyError(SECRET), 500),
}


@pytest.fixture
def browser(app_with):
    """A browser of an application that also has a route for each error."""
    app = app_with()

    def fail(name):
        raise RAISED[name][0]

    app.add_url_rule("/fail/<name>", "health.live.fail", fail, methods=["GET", "POST"])
    before = app.before_request_funcs[None]
    app.before_request_funcs[None] = [each for each in before if each is not sessions.require_user]
    made = app.test_client()
    made.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return made


@pytest.mark.parametrize("name", RAISED)
def test_errors_are_pages(browser, name):
    answer = browser.get(f"/fail/{name}")
    assert answer.status_code == RAISED[name][1]
    page = pages.check(answer)
    assert str(answer.status_code) in page.one(class_="code").text
    assert len(page.one("main").one(class_="buttons").text.split()) == 2
    for word in ("secret", "SELECT", "Traceback", "Error", "!", "oops"):
        assert word not in page.one("main").text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("name", RAISED)
def test_errors_are_json_for_scripts(browser, name):
    answer = browser.json(f"/fail/{name}")
    status = RAISED[name][1]
    ids = {"request_id"} if status >= 500 else set()
    assert (answer.status_code, answer.json.keys()) == (status, {"error"} | ids)
    assert "secret" not in answer.text
    assert answer.json["error"].endswith(".")


def test_sentences_of_ours_are_shown(browser):
    for name in ("refused", "storage"):
        assert str(RAISED[name][0]) in pages.check(browser.get(f"/fail/{name}")).text


def test_a_number_finds_the_line_in_the_log(browser, caplog):
    caplog.handler.setFormatter(JsonFormatter())
    answer = browser.get("/fail/unforeseen")
    page = pages.check(answer)
    (number,) = re.findall(r"500 · ([0-9a-f]{16})", page.text)
    assert answer.headers["X-Request-Id"] == number
    (line,) = caplog.text.splitlines()
    assert json.loads(line)["request_id"] == number
    assert caplog.records[0].exc_info[1] is RAISED["unforeseen"][0]
    assert "Your pictures and uploads are safe, and nothing was sent twice." in page.text


def test_when_to_come_back(browser):
    assert browser.get("/fail/tries").headers["Retry-After"] == "7"
    assert int(browser.get("/fail/database").headers["Retry-After"]) > 0


def test_an_unknown_address(as_owner):
    page = pages.check(as_owner.get("/nowhere"))
    assert page.one("h1").text == "Nothing here"
    assert "This page does not exist, was deleted, or is not yours to see." in page.text
    assert {each["href"] for each in page.one(class_="buttons").all("a")} == {"/upload", "/jobs"}


def test_a_page_without_a_database(app, as_owner):
    class Dead:
        def getconn(self):
            raise PoolTimeout("no")

    app.extensions["i2i"].database.use(Dead())
    answer = as_owner.get("/jobs")
    assert answer.status_code == 503
    page = pages.check(answer)
    assert "Back in a moment" in page.text
    assert "nothing is lost" in page.text
    assert as_owner.json("/jobs").status_code == 503
    assert as_owner.get("/static/old/app.css").status_code == 200


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/json, text/html;q=0.5", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("*/*", False),
        ("image/avif,image/webp,*/*;q=0.8", False),
        ("text/html, application/json", False),
        ("text/plain", False),
        ("", False),
        (None, False),
        ("x" * 1000, False),
        (";;;,,,q=", False),
    ],
)
def test_who_gets_json(as_owner, accept, is_json):
    headers = {} if accept is None else {"Accept": accept}
    for path in ("/jobs", "/nowhere"):
        answer = as_owner.get(path, headers=headers)
        assert answer.mimetype == ("application/json" if is_json else "text/html")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/jobs", {"q": "\ud800"}),
        ("/jobs", {"status": ["failed", "completed"]}),
        ("/jobs", {"page": "1" * 10_000}),
        ("/jobs", {"size": "\0"}),
        ("/upload", {"image": "x"}),
        ("/upload", {"image": "\0"}),
        ("/login", {"next": "\ud800"}),
        ("/account", {"saved": "\0"}),
    ],
)
def test_odd_questions_never_break_anything(as_owner, path, query):
    text = "&".join(
        f"{name}=" + "".join(f"%{byte:02x}" for byte in value.encode("utf-8", "surrogatepass"))
        for name, values in query.items()
        for value in ([values] if isinstance(values, str) else values)
    )
    assert as_owner.get(f"{path}?{text}").status_code < 500
