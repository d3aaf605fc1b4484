"""The request's connection: taken when first needed, given back at the end or before long work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from flask import Flask, current_app, g
from psycopg import Connection, OperationalError
from psycopg_pool import PoolTimeout

from i2i import db, embedded
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable

THREADS = 4
"""Connections of one process: as many as gunicorn.conf.py has threads."""

LOCK_SECONDS = 5
"""A request that waits longer for somebody else's lock is answered with 503."""


class Pool(Protocol):
    """What is needed of a psycopg pool; tests put a single connection in its place."""

    def getconn(self) -> Connection[Any]: ...

    def putconn(self, conn: Connection[Any]) -> None: ...


class Database:
    """The pool of this process. It opens at the first use, which is after gunicorn's fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def use(self, pool: Pool) -> None:
        """Take connections from here instead."""
        self._pool = pool

    def getconn(self) -> Connection[Any]:
        """A connection that works; DatabaseUnavailable when there is none to be had."""
        try:
            return self._opened().getconn()
        except (PoolTimeout, OperationalError) as error:
            raise DatabaseUnavailable("The database does not answer.") from error

    def putconn(self, conn: Connection[Any]) -> None:
        """Give it back; what is still open in it is rolled back."""
        self._opened().putconn(conn)

    def _opened(self) -> Pool:
        with self._lock:
            if self._pool is None:
                settings = embedded.with_database(self._settings)
                pool = db.make_pool(
                    settings, size=THREADS, application="i2i web", lock_seconds=LOCK_SECONDS
                )
                pool.open()
                self._pool = pool
            return self._pool


def connection() -> Connection[Any]:
    """The connection of this request."""
    if "connection" not in g:
        g.connection = _database().getconn()
    conn: Connection[Any] = g.connection
    return conn


def release(_error: BaseException | None = None) -> None:
    """Give the connection back, if one was taken; the next `connection()` takes another."""
    conn = g.pop("connection", None)
    if conn is not None:
        _database().putconn(conn)


@contextmanager
def lend() -> Iterator[Connection[Any]]:
    """A connection for one short piece of a request that takes long (services.Connect)."""
    try:
        yield connection()
    finally:
        release()


def _database() -> Database:
    database: Database = current_app.extensions["i2i"].database
    return database


def register(app: Flask) -> None:
    """Give connections back at the end of each request; nothing is ever committed there."""
    app.teardown_appcontext(release)
