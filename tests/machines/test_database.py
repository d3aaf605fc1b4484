"""A database elsewhere: over TLS, and through PgBouncer."""

from types import SimpleNamespace

import psycopg
import pytest
from fleet import ROLE, PgBouncer
from house import EMAIL, House, Visitor, wait_until

from i2i import db, embedded
from i2i.web.database import LOCK_SECONDS


@pytest.fixture
def house(far_server, tmp_path):
    far_server.make("i2i_empty")
    near, url = far_server.urls("i2i_empty")
    running = House(database=near, folder=tmp_path / "house", POSTGRES_URL=url)
    yield running
    running.stop()


def test_all_of_it_runs_with_sslmode_require(house, far_server):
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(far_server.url_at(embedded.PORT, sslmode="disable"))
    house.flask("db", "migrate")
    house.open()
    house.make_user()
    assert Visitor(house).get("/images").status == 200

    def listeners():
        return house.query(
            "SELECT activity.application_name, tls.version, activity.query"
            " FROM pg_stat_activity AS activity JOIN pg_stat_ssl AS tls USING (pid)"
            " WHERE activity.datname = current_database() AND activity.usename = %s AND tls.ssl",
            ROLE,
        )

    wait_until(
        lambda: "LISTEN i2i_work" in [query for *_, query in listeners()], what="LISTEN over TLS"
    )
    assert {name for name, *_ in listeners()} == {"i2i web", "i2i worker", "i2i listen"}
    assert house.query("SELECT email FROM users WHERE email = %s", EMAIL)


LIMITS = (
    "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
)


def test_limits_stay_behind_for_nobody(far_server, pgbouncer, make_settings):
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
                seen.web = conn.execute(LIMITS).fetchone()
            with worker.connection() as conn:
                seen.others = conn.execute(LIMITS).fetchone()
                with conn.transaction():
                    seen.worker = conn.execute(LIMITS).fetchone()
    finally:
        narrow.stop()
    assert seen.web == (f"{LOCK_SECONDS}s", f"{db.IDLE_SECONDS}s")
    assert seen.worker == ("0", f"{db.IDLE_SECONDS}s")
    assert seen.others == ("0", "0")


def test_limits_hold_without_a_pooler(far_server, make_settings):
    settings = make_settings(POSTGRES_URL=far_server.url)
    with (
        db.make_pool(settings, size=1, application="a web", lock_seconds=LOCK_SECONDS) as pool,
        pool.connection() as conn,
    ):
        assert conn.execute(LIMITS).fetchone() == (f"{LOCK_SECONDS}s", f"{db.IDLE_SECONDS}s")
