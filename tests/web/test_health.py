"""What load balancers and supervisors ask."""

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from i2i import db
from i2i.app import create_app

GUARD_SECONDS = 60


def ask(browser, path):
    answer = browser.get(path)
    return answer.status_code, answer.json


@pytest.fixture
def dead(app):
    """An application whose database does not answer."""

    class Dead:
        def getconn(self):
            raise PoolTimeout("nothing came in 5 s")

    app.extensions["i2i"].database.use(Dead())


def test_alive_and_ready(anonymous):
    assert ask(anonymous, "/healthz") == (200, {"status": "ok"})
    assert ask(anonymous, "/readyz") == (200, {"status": "ok"})


def test_alive_without_a_database(anonymous, dead):
    assert ask(anonymous, "/healthz") == (200, {"status": "ok"})
    assert ask(anonymous, "/readyz") == (
        503,
        {"status": "unavailable", "reason": "The database does not answer."},
    )


def test_a_missing_migration_is_named(anonymous, conn):
    newest = db.shipped_migrations()[-1]
    conn.execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", [newest])
    assert ask(anonymous, "/readyz") == (
        503,
        {"status": "unavailable", "reason": f"Migrations are missing: {newest}."},
    )


def test_an_empty_database_is_not_ready(anonymous, conn):
    conn.execute("DROP TABLE _yoyo_migration")
    status, answer = ask(anonymous, "/readyz")
    assert (status, answer["status"]) == (503, "unavailable")


def test_a_later_migration_does_no_harm(anonymous, conn):
    """During a deploy the old release runs beside the new schema."""
    conn.execute(
        "INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9999.later')"
    )
    assert ask(anonymous, "/readyz")[0] == 200


def test_asking_needs_no_session_and_costs_few_statements(as_owner, count_statements):
    with count_statements() as statements:
        ask(as_owner, "/healthz")
    assert statements == []
    with count_statements() as statements:
        ask(as_owner, "/readyz")
    assert len(statements) <= 2


def test_a_real_pool_outlives_a_cut_connection(make_settings, database):
    """The database restarts under a running process: the next request gets a new connection."""
    settings = make_settings(POSTGRES_URL=database)
    app = create_app(settings)
    pool = db.make_pool(settings, size=1, application="i2i test")
    app.extensions["i2i"].database.use(pool)
    pool.open()
    try:
        browser = app.test_client()
        assert browser.get("/readyz").status_code == 200
        with psycopg.connect(database, autocommit=True) as other:
            # Until it is gone: what is asked of one that is just ending fails, as it must.
            ended = other.execute(
                "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity"
                " WHERE application_name = 'i2i test'",
                [GUARD_SECONDS * 1000],
            ).fetchall()
            assert ended == [(True,)]
        assert browser.get("/readyz").status_code == 200
    finally:
        pool.close()
