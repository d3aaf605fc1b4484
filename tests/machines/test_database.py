"""A database elsewhere: over TLS, and through PgBouncer."""

from types import SimpleNamespace

import psycopg
import pytest
from fleet import DATABASE, ROLE, PgBouncer
from house import EMAIL, House, Visitor, wait_until

from i2i import db
from i2i.web.database import LOCK_SECONDS


@pytest.fixture
def empty(far_server):
    """The owner's database without anything in it, before and after."""

    def clear():
        with psycopg.connect(far_server.server.url, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            conn.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    clear()
    yield far_server
    clear()


@pytest.fixture
def house(empty, tmp_path):
    running = House(database=empty.near, folder=tmp_path / "house", POSTGRES_URL=empty.url)
    yield running
    running.stop()


def test_all_of_it_runs_with_sslmode_require(house, far_server):
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(far_server.url_at(5432, sslmode="disable"))
    house.flask("db", "migrate")
    house.open()
    house.make_user()
    assert Visitor(house).get("/images").status == 200

    def listeners():
        return house.query(
            "SELECT activity.application_name, tls.version, activity.query"
            " FROM pg_stat_activity AS activity JOIN pg_stat_ssl AS tls USING (pid)"
            " WHERE activity.usename = %s AND tls.ssl ORDER BY 1",
            ROLE,
        )

    wait_until(
        lambda: "LISTEN i2i_work" in [query for *_, query in listeners()], what="LISTEN over TLS"
    )
    assert {name for name, *_ in listeners()} == {"i2i web", "i2i worker", "i2i listen"}
    assert house.query("SELECT email FROM users WHERE email = %s", EMAIL)


def test_the_limit_for_locks_stays_behind_for_nobody(far_server, pgbouncer, make_settings):
    """With one connection of PostgreSQL's for all, everybody gets the session of everybody."""
    narrow = PgBouncer(far_server, pool_size=1)
    settings = make_settings(POSTGRES_URL=narrow.url, POSTGRES_URL_NON_POOLING=far_server.url)
    try:
        with (
            db.make_pool(settings, size=1, application="a web", lock_seconds=LOCK_SECONDS) as web,
            db.make_pool(settings, size=1, application="a worker") as worker,
        ):
            seen = SimpleNamespace()
            with web.connection() as conn, conn.transaction():
                seen.web = conn.execute("SHOW lock_timeout").fetchone()
                seen.process = conn.info.backend_pid
            with worker.connection() as conn:
                seen.worker = conn.execute("SHOW lock_timeout").fetchone()
    finally:
        narrow.stop()
    assert seen.web == (f"{LOCK_SECONDS}s",)
    assert seen.worker == ("0",)
