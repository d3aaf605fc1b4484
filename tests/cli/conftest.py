"""Commands: through the runner of an application, or as real processes."""

import os
import subprocess
import sys

import psycopg
import pytest

from i2i.app import create_app
from i2i.config import ROOT

SECRET = "only-for-tests-0123456789"


@pytest.fixture
def db_conn(database):
    """A committing connection to the test's own database."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def flask(make_settings, database):
    """Run a command of an application on the test's own database: flask("db", "status")."""

    def run(*args, stdin=None, **environ):
        app = create_app(make_settings(**({"POSTGRES_URL": database} | environ)))
        return app.test_cli_runner().invoke(args=args, input=stdin)

    return run


@pytest.fixture
def environ(tmp_path):
    """The whole environment of a process; a database is the caller's to add."""
    return {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": SECRET,
        "DATA_DIR": str(tmp_path / "data"),
        "DECODERS": "1",
    }


@pytest.fixture
def start(environ):
    """Start `flask` as a process; whatever still runs at the end of the test is killed."""
    started = []

    def launch(*args, **more):
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", *args],
            cwd=ROOT,
            env=environ | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def finish(start):
    """Run `flask` as a process to its end: exit status, standard output, standard error."""

    def run(*args, **more):
        process = start(*args, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run
