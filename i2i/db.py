"""Connections to PostgreSQL: the pool, single connections, and the schema's pending migrations.

Connections are autocommit; only `services` open transactions. Knows no Flask.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, Transaction
from psycopg.pq import Conninfo
from psycopg_pool import ConnectionPool

from i2i.config import ROOT, Settings
from i2i.errors import DatabaseUnavailable

MIGRATIONS_DIR = ROOT / "migrations"

IDLE_SECONDS = 10
"""How long a transaction may stand still between two statements, which follow one another at once.

A machine that was cut off in the middle of one would otherwise keep its locks, among them the one
without which nobody sends, until PostgreSQL's keepalive misses it: two hours.
"""


def url(settings: Settings) -> str:
    """The pooled URL; the caller has made sure that there is one (embedded.with_database)."""
    if settings.postgres_url is None:
        raise DatabaseUnavailable("POSTGRES_URL is not set.")
    return settings.postgres_url


def direct_url(settings: Settings) -> str:
    """The URL that reaches the server itself, for migrations and LISTEN."""
    return settings.postgres_url_direct or url(settings)


def environ(url: str) -> dict[str, str]:
    """A URL as the variables of libpq: everybody on this machine can read a command line."""
    return {
        option.envvar.decode(): option.val.decode()
        for option in Conninfo.parse(url.encode())
        if option.envvar and option.val is not None
    }


def options(settings: Settings, *, application: str) -> dict[str, Any]:
    """psycopg.connect keywords of every connection: dead peers are noticed within seconds."""
    return {
        "autocommit": True,
        "prepare_threshold": settings.prepare_threshold,
        "application_name": application,
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


class _Lent(Connection[Any]):
    """A connection through a pooler, whose session is somebody else's after each transaction.

    What is set for the session would stay behind for them, so limits are each transaction's.
    """

    lock_seconds = 0

    @contextmanager
    def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002 - psycopg's own
    ) -> Iterator[Transaction]:
        with super().transaction(savepoint_name, force_rollback) as begun:
            _limit(self, lock_seconds=self.lock_seconds, local=True)
            yield begun


def _limit(conn: Connection[Any], *, lock_seconds: int, local: bool) -> None:
    conn.execute(
        "SELECT set_config('lock_timeout', %s, %s),"
        " set_config('idle_in_transaction_session_timeout', %s, %s)",
        [f"{lock_seconds}s", local, f"{IDLE_SECONDS}s", local],
    )


def make_pool(
    settings: Settings, *, size: int, application: str, lock_seconds: int = 0
) -> ConnectionPool[Connection[Any]]:
    """A closed pool: the process that uses it opens it, after any fork.

    A busy pool fails after 5 s instead of queueing requests without end; so does a statement that
    waits for a lock, after `lock_seconds` (0: never), with LockNotAvailable. Behind a pooler that
    holds for transactions alone. A transaction that stands still ends after IDLE_SECONDS.
    """

    def limit(conn: Connection[Any]) -> None:
        if isinstance(conn, _Lent):
            conn.lock_seconds = lock_seconds
        else:
            _limit(conn, lock_seconds=lock_seconds, local=False)

    pooled = settings.postgres_url != settings.postgres_url_direct
    return ConnectionPool(
        url(settings),
        connection_class=_Lent if pooled else Connection[Any],
        min_size=1,
        max_size=size,
        open=False,
        timeout=5,
        check=_check,
        configure=limit,
        kwargs=options(settings, application=application),
    )


def _check(conn: Connection[Any]) -> None:
    """Raise when the server has gone: it says so, or the line is cut, before the next use.

    So a connection with nothing to read is as good as one that was asked. Where there is something,
    the end or a notice, it is asked.
    """
    news = select.poll()
    news.register(conn.fileno(), select.POLLIN)
    if news.poll(0):
        ConnectionPool.check_connection(conn)


def connect(settings: Settings, *, application: str) -> Connection[Any]:
    """One direct connection; DatabaseUnavailable with one line when there is none."""
    try:
        return psycopg.connect(direct_url(settings), **options(settings, application=application))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(explain(error)) from error


def explain(error: psycopg.Error) -> str:
    """One line for an operator; libpq's own words never hold the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    for line in lines:
        if "FATAL:" in line or "Connection refused" in line or "timeout" in line.lower():
            reason = line
            break
    return f"Cannot reach the database: {reason.removeprefix('connection failed: ')}"


def shipped_migrations() -> list[str]:
    """Ids of the migrations of this release, oldest first."""
    return sorted(
        path.stem
        for path in MIGRATIONS_DIR.glob("*.sql")
        if not path.name.endswith(".rollback.sql")
    )


def pending_migrations(conn: Connection[Any]) -> list[str]:
    """Ids of this release's migrations that the database has not seen, oldest first.

    Reads yoyo's table itself: connecting with yoyo writes to the database.
    """
    found = conn.execute("SELECT to_regclass('_yoyo_migration') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return shipped_migrations()
    applied = {row[0] for row in conn.execute("SELECT migration_id FROM _yoyo_migration")}
    return [migration for migration in shipped_migrations() if migration not in applied]
