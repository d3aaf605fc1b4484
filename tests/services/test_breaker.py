"""A locked account stops sending, once for all, and its end wakes the workers."""

import factories
import psycopg
import pytest

from i2i.errors import FalAccount
from i2i.queries import breaker as queries
from i2i.queries import jobs
from i2i.services import breaker
from i2i.services import jobs as job_service


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FalAccount("no", http_status=402), "balance"),
        (FalAccount("User is locked. Reason: Exhausted balance.", http_status=403), "balance"),
        (FalAccount("HTTP 403: User is locked. Reason: TOP_UP", http_status=403), "balance"),
        (FalAccount("Invalid key", http_status=401), "key"),
        (FalAccount("Forbidden", http_status=403), "key"),
        (FalAccount("This endpoint is blocked for your team", http_status=403), "key"),
        (FalAccount("Clock skew in the request", http_status=403), "key"),
        (FalAccount("The key may not read the balance", http_status=403), "key"),
    ],
)
def test_it_opens_once_and_says_why(conn, error, reason):
    assert breaker.trip(conn, error=error)
    opened = queries.find(conn)
    assert (opened.reason, opened.opened_at is None) == (reason, False)
    assert not breaker.trip(conn, error=FalAccount("Invalid key", http_status=401))
    assert queries.find(conn) == opened, "the first reason stays"


def test_the_banner_counts_what_waits(conn, owner, other):
    for status in ("pending", "pending", "held", "processing", "completed"):
        factories.make_job(conn, user=owner, status=status)
    factories.make_job(conn, user=other)
    assert queries.find(conn).waiting == 3
    assert queries.find_for_bar(conn, user_id=owner.id).waiting == 2
    assert queries.find_for_bar(conn, user_id=other.id).waiting == 1


def test_nothing_is_claimed_while_it_is_open(conn, settings, owner):
    job = factories.make_job(conn, user=owner)
    breaker.trip(conn, error=FalAccount("no", http_status=402))
    assert job_service.claim_send(conn, settings) is None
    assert jobs.find(conn, job_id=job.id) == job
    assert breaker.reset(conn)
    assert job_service.claim_send(conn, settings) is not None


def test_what_was_claimed_before_is_given_back(conn, settings, owner):
    job = factories.make_job(conn, user=owner)
    sending = job_service.claim_send(conn, settings)
    breaker.trip(conn, error=FalAccount("no", http_status=402))
    assert job_service.begin_send(conn, sending, urls=["https://v3.fal.media/1"]) is None
    waiting = jobs.find(conn, job_id=job.id)
    assert (waiting.status, waiting.crashes) == ("pending", 0)
    assert conn.execute("SELECT state, sent_at FROM submissions").fetchall() == [
        ("abandoned", None)
    ]


def test_it_is_checked_once_a_minute(conn):
    def claim(seconds):
        now = conn.execute("SELECT now() + make_interval(secs => %s)", [seconds]).fetchone()[0]
        return queries.claim_check(conn, now=now)

    assert claim(600) == 0, "closed: nothing to check"
    breaker.trip(conn, error=FalAccount("no", http_status=402))
    assert [claim(seconds) for seconds in (0, 59, 60, 61, 119, 120)] == [0, 0, 1, 0, 0, 1]
    breaker.reset(conn)
    assert claim(600) == 0


def test_its_end_wakes_the_workers(database):
    with (
        psycopg.connect(database, autocommit=True) as conn,
        psycopg.connect(database, autocommit=True) as listener,
    ):
        listener.execute("LISTEN i2i_work")
        assert not breaker.reset(conn), "it was closed"
        breaker.trip(conn, error=FalAccount("no", http_status=402))
        assert breaker.reset(conn)
        assert list(listener.notifies(timeout=10, stop_after=1))
        assert queries.find(conn).opened_at is None
