"""Browsers of the standing users, a count of statements, and a worker's look at an upload."""

from contextlib import contextmanager
from functools import partial
from itertools import count

import factories
import psycopg
import pytest
from flask.testing import FlaskClient

from i2i import passwords
from i2i.app import create_app
from i2i.config import Settings
from i2i.gateways.storage import make_storage
from i2i.queries import images as image_queries
from i2i.queries import sessions as session_queries
from i2i.services import images as image_service
from i2i.web.database import Database
from i2i.web.state import State


class Browser(FlaskClient):
    """Says where its requests come from, and reads answers to their end, as browsers do."""

    def open(self, *args, **kwargs):
        kwargs.setdefault("buffered", True)
        return super().open(*args, **kwargs)

    def json(self, path, *, method="GET", **kwargs):
        return self.open(path, method=method, headers={"Accept": "application/json"}, **kwargs)


@pytest.fixture(scope="session")
def pages_app(tmp_path_factory):
    """One application a run: making one, and compiling its templates, takes longer than a test."""
    environ = {
        "SECRET_KEY": "only-for-tests-0123456789",
        "DATA_DIR": str(tmp_path_factory.mktemp("pages")),
    }
    made = create_app(Settings.from_env(environ))
    made.testing = True
    return made


@pytest.fixture
def app(pages_app, settings, pool):
    """That application with this test's folder and transaction."""
    database = Database(settings)
    database.use(pool)
    pages_app.extensions["i2i"] = State(
        settings=settings,
        database=database,
        storage=make_storage(settings.blob_url, data_dir=settings.data_dir),
    )
    return pages_app


@pytest.fixture
def app_with(make_settings, pool):
    """Makes an application of the test's own, with these variables."""

    def make(**environ):
        made = create_app(make_settings(**environ))
        made.extensions["i2i"].database.use(pool)
        made.test_client_class = Browser
        return made

    return make


@pytest.fixture
def open_browser(app, conn):
    """Makes a browser, signed in when given a user: a row stands in for the sign-in page."""
    app.test_client_class = Browser
    numbers = count(1)

    def open_one(user=None):
        browser = app.test_client()
        browser.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
        if user is not None:
            token = f"token of {user.email} {next(numbers)}"
            session_queries.create(
                conn,
                token_hash=passwords.hash_token(token),
                user_id=user.id,
                user_agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/131",
                ip_address="127.0.0.1",
            )
            browser.set_cookie("i2i", token)
        return browser

    return open_one


@pytest.fixture
def anonymous(open_browser):
    return open_browser()


@pytest.fixture
def as_owner(open_browser, owner):
    return open_browser(owner)


@pytest.fixture
def as_other(open_browser, other):
    return open_browser(other)


@pytest.fixture
def as_stranger(open_browser, stranger):
    """A session that outlived its user's place on the whitelist."""
    return open_browser(stranger)


@pytest.fixture
def as_admin(open_browser, admin):
    return open_browser(admin)


@pytest.fixture
def count_statements(conn):
    """Counts what is sent to the database inside `with`; the list holds the statements."""

    @contextmanager
    def counting():
        statements = []

        class Counting(psycopg.Cursor):
            def execute(self, query, *args, **kwargs):
                statements.append(query)
                return super().execute(query, *args, **kwargs)

        usual, conn.cursor_factory = conn.cursor_factory, Counting
        try:
            yield statements
        finally:
            conn.cursor_factory = usual

    return counting


@pytest.fixture
def prepare(app, conn, settings):
    """Does what the worker does with the uploads that wait, one after the other."""

    @contextmanager
    def lend():
        yield conn

    def prepare_all():
        claim = partial(image_queries.claim_preparing, conn, lease_seconds=45)
        while task := claim():
            image_service.prepare(lend, app.extensions["i2i"].storage, settings, task=task)

    return prepare_all


@pytest.fixture
def photos(conn, owner):
    factories.make_workflow(conn)
    return [factories.make_image(conn, user=owner, name=f"{letter}.jpg") for letter in "cab"]
