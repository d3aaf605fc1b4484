"""One throw-away PostgreSQL a run, one migrated template, one rolled-back transaction a test.

`conn` is the usual connection: what a test writes through it is never committed. A test that needs
two connections, or a commit, asks for `database`, a fresh copy of the template.
"""

import ipaddress
import os
import sys
import uuid
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import factories
import house as houses
import psycopg
import pytest
import s3_servers

from i2i import embedded
from i2i.app import create_app
from i2i.config import Settings
from i2i.gateways.storage import make_storage
from i2i.practice import PracticeServer

SURFACE = {
    *("POSTGRES_URL", "POSTGRES_URL_NON_POOLING", "SECRET_KEY", "FAL_KEY"),
    *("FAL_QUEUE_URL", "FAL_REST_URL", "FAL_PLATFORM_URL", "FAL_MEDIA_HOSTS", "BLOB_URL"),
    *("X_ACCEL_REDIRECT", "S3_LINK_SECONDS"),
    *("PUBLIC_URL", "TRUSTED_PROXIES", "TRUSTED_HOSTS", "MAX_UPLOAD_MB", "MAX_FILES_PER_UPLOAD"),
    *("MAX_IMAGE_PIXELS", "STORAGE_QUOTA_MB", "TRASH_DAYS", "MAX_JOBS_PER_BATCH", "DATA_DIR"),
    *("DAILY_PICTURES", "DAILY_PICTURES_PER_USER", "MAX_IN_FLIGHT", "MAX_IN_FLIGHT_PER_USER"),
    *("SECRET_KEY_FALLBACKS", "WORKER_THREADS", "WORKER_POLL_SECONDS", "DECODERS", "METRICS_TOKEN"),
    *("LOG_LEVEL", "LOG_FORMAT", "PORT", "PRACTICE_PORT", "PRACTICE_SECONDS"),
}

for name in list(os.environ):
    if name.removesuffix("_FILE") in SURFACE or name.startswith(("PG", "FLASK_")):
        del os.environ[name]


def refuse_the_network(event, arguments):
    """Audit hook: a test that would leave this machine fails there and then."""
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and address[0] != "localhost":
        try:
            found = ipaddress.ip_address(address[0].partition("%")[0])
            inside = found.is_loopback or any(found in network for network in houses.NEAR)
        except ValueError:
            inside = False
        if not inside:
            raise RuntimeError(f"a test tried to reach {address[0]}")


sys.addaudithook(refuse_the_network)


# --- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server():
    """A throw-away PostgreSQL; I2I_TEST_PG_BIN names another one's programs."""
    bin_dir = os.environ.get("I2I_TEST_PG_BIN")
    throwaway = embedded.start_throwaway(bin_dir=Path(bin_dir) if bin_dir else None)
    yield throwaway
    throwaway.remove()


@pytest.fixture(scope="session")
def admin_conn(server):
    """Where databases are made and dropped."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(server, admin_conn, tmp_path_factory):
    """A migrated database that nobody is connected to: it is only copied."""
    admin_conn.execute("CREATE DATABASE template_i2i")
    url = url_of(server, "template_i2i")
    settings = Settings.from_env(
        {
            "SECRET_KEY": "only-for-tests-0123456789",
            "DATA_DIR": str(tmp_path_factory.mktemp("migrate")),
            "POSTGRES_URL": url,
        }
    )
    done = create_app(settings).test_cli_runner().invoke(args=["db", "migrate"])
    assert done.exit_code == 0, done.output
    return "template_i2i"


@pytest.fixture(scope="session")
def copies(server, admin_conn, template):
    """Makes copies of the template; they go with the run at the latest."""
    numbers = count(1)

    def copy():
        name = f"copy_{next(numbers)}"
        admin_conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return url_of(server, name)

    return copy


@pytest.fixture(scope="session")
def shared(copies):
    """URL of the one copy that `conn` works in; nothing is ever committed there."""
    return copies()


@pytest.fixture
def conn(shared):
    """An autocommit connection inside a transaction that is rolled back.

    `now()` stands still in it: give explicit times where an order matters.
    """
    with (
        psycopg.connect(shared, autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


@pytest.fixture
def database(copies, admin_conn):
    """URL of a database of the test's own."""
    url = copies()
    yield url
    admin_conn.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")


def url_of(server, database):
    return urlunsplit(urlsplit(server.url)._replace(path=f"/{database}"))


# --- Settings and what depends on them --------------------------------------------------------


@pytest.fixture
def make_settings(tmp_path, shared):
    """Settings from exactly these variables, with a folder of the test's own and quick bcrypt."""

    def make(**environ):
        usual = {
            "SECRET_KEY": "only-for-tests-0123456789",
            "DATA_DIR": str(tmp_path / "data"),
            "POSTGRES_URL": shared,
            "DECODERS": "1",
        }
        return replace(Settings.from_env(usual | environ), bcrypt_rounds=4)

    return make


@pytest.fixture
def settings(make_settings):
    return make_settings()


@pytest.fixture
def storage(settings):
    return make_storage(settings.blob_url, data_dir=settings.data_dir)


@pytest.fixture
def practice(tmp_path):
    """A practice fal server in this process; requests take no time."""
    with PracticeServer(tmp_path / "practice", seconds=0) as running:
        yield running


@pytest.fixture
def fal_environ(practice):
    """The variables that make the practice server stand in for fal."""
    return {
        "FAL_QUEUE_URL": practice.url,
        "FAL_REST_URL": practice.url,
        "FAL_PLATFORM_URL": practice.url,
        "FAL_MEDIA_HOSTS": practice.url,
    }


# --- The web application ----------------------------------------------------------------------


class OneConnection:
    """Stands in for the pool: every request works in the test's transaction."""

    def __init__(self, connection):
        self._connection = connection

    def getconn(self):
        return self._connection

    def putconn(self, connection):
        assert connection is self._connection


@pytest.fixture
def pool(conn):
    return OneConnection(conn)


@pytest.fixture
def app(settings, pool):
    made = create_app(settings)
    made.testing = True
    made.extensions["i2i"].database.use(pool)
    return made


@pytest.fixture
def client(app):
    return app.test_client()


# --- Standing users ---------------------------------------------------------------------------


@pytest.fixture
def owner(conn):
    return factories.make_user(conn, email="owner@example.com")


@pytest.fixture
def other(conn):
    """Whitelisted as well, with nothing of the owner's."""
    return factories.make_user(conn, email="other@example.com")


@pytest.fixture
def stranger(conn):
    """Has an account and may not sign in."""
    return factories.make_user(conn, email="stranger@example.com", is_whitelisted=False)


@pytest.fixture
def admin(conn):
    return factories.make_user(conn, email="admin@example.com", role="admin")


# --- S3 ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Starts a server when a test first needs it; the variables that lead to it."""
    running = {}
    with ExitStack() as stack:

        def server(name):
            if name not in running:
                folder = tmp_path_factory.mktemp("s3")
                running[name] = stack.enter_context(s3_servers.serving(name, folder))
            return running[name]

        yield server


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Makes the BLOB_URL of an empty place on a server, to which the environment now leads."""

    def make(name):
        for variable, value in s3_server(name).items():
            monkeypatch.setenv(variable, value)
        return f"s3://{s3_servers.BUCKET}/{uuid.uuid4().hex}"

    return make


# --- Figures ----------------------------------------------------------------------------------

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def say(pytestconfig):
    """Keeps a line for the end of the run, where it is printed whether tests passed or failed."""
    return pytestconfig.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
