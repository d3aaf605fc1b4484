"""The account at fal is locked in the middle of a hundred pictures, and taken again two minutes later."""

from datetime import UTC, datetime, timedelta

import factories
import pictures
import psycopg
import pytest
from invariants import violations
from psycopg_pool import ConnectionPool

from i2i import practice as practice_module
from i2i.gateways.fal import HttpFal
from i2i.queries import breaker
from i2i.worker import Worker

pytestmark = pytest.mark.heavy

PICTURES = 100
ROUNDS = 1000
"""A guard: a round that has nothing to do takes milliseconds."""


class CountingFal(HttpFal):
    """fal, counting what is posted, accepted or not."""

    submits = 0

    def submit(self, endpoint, arguments, **options):
        self.submits += 1
        return super().submit(endpoint, arguments, **options)


@pytest.fixture
def conn(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settings(make_settings, database, fal_environ):
    return make_settings(POSTGRES_URL=database, **fal_environ)


@pytest.fixture
def fal(settings):
    return CountingFal(settings)


@pytest.fixture
def worker(settings, database, fal, storage):
    with ConnectionPool(database, min_size=1, max_size=2, kwargs={"autocommit": True}) as pool:
        yield Worker(settings, pool=pool, fal=fal, storage=storage)


def drive(worker, condition, *, later):
    """Rounds of a worker that lives `later` seconds ahead, until it holds."""
    for _ in range(ROUNDS):
        if condition():
            return
        for step in worker.claim(room=8, now=datetime.now(UTC) + timedelta(seconds=later)):
            step()
    raise AssertionError("it never came about")


def statuses(conn):
    return dict(conn.execute("SELECT status, count(*) FROM processing_jobs GROUP BY 1").fetchall())


def test_nothing_fails_and_nothing_is_sent_while_the_account_is_locked(
    conn, database, worker, fal, owner, storage, practice, monkeypatch, say
):
    monkeypatch.setattr(practice_module, "LONG_SIDE", 64)
    data = pictures.jpeg(pictures.photo(size=(64, 48)))
    photo = factories.make_image(conn, user=owner, data=data, storage=storage, size=(64, 48))
    for _ in range(PICTURES):
        factories.make_job(conn, user=owner, image=photo)

    drive(worker, lambda: fal.submits >= PICTURES // 2, later=20)
    practice.books.add_fault({"mode": "locked", "count": 1})
    drive(worker, lambda: breaker.find(conn).opened_at is not None, later=20)
    # fal's storage refuses us as well, until somebody has topped the account up.
    practice.books.add_fault({"mode": "upload_error", "count": PICTURES})
    posted, waiting = fal.submits, statuses(conn)["pending"]
    assert 0 < waiting < PICTURES
    opened = breaker.find(conn).next_check_at
    for later in (20, 40, 59, 61, 62, 90, 119):
        for step in worker.claim(room=8, now=datetime.now(UTC) + timedelta(seconds=later)):
            step()
    drive(worker, lambda: statuses(conn).keys() == {"pending", "completed"}, later=119)
    state = breaker.find(conn)
    assert state.opened_at is not None
    assert state.next_check_at > opened, "the account was asked for in vain"
    assert fal.submits == posted, "nothing is posted meanwhile"
    assert statuses(conn) == {"pending": waiting, "completed": PICTURES - waiting}

    practice.books.clear_faults()
    drive(worker, lambda: breaker.find(conn).opened_at is None, later=241)
    drive(worker, lambda: statuses(conn) == {"completed": PICTURES}, later=241)
    assert not conn.execute("SELECT FROM job_events WHERE to_status = 'failed'").fetchall()
    requests = practice.books.listed()
    assert sum(request.charged for request in requests) == PICTURES == len(requests)
    assert fal.submits == PICTURES + 1
    ledger = [
        {
            "request_id": each.request_id,
            "input_file": practice_module.file_name(practice_module.input_urls(each.arguments)[0]),
            "charged": each.charged,
        }
        for each in requests
    ]
    assert violations(database, blobs=storage.root, requests=ledger) == []
    say(
        f"breaker: opened after {posted} submits of {PICTURES} pictures, {waiting} waited,"
        f" 0 submits while it was open, 0 failed, {PICTURES} completed and charged once"
    )
