"""Callbacks applied: in any order, once, and always to fetch from fal what has ended.

The end-to-end tests run the practice server, the web application behind real HTTP, and a worker.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import factories
import pictures
import psycopg
import pytest
from urllib3 import PoolManager
from werkzeug.serving import make_server

from i2i import db
from i2i.app import create_app
from i2i.errors import FalUnclear
from i2i.gateways.fal import HttpFal, request_urls
from i2i.models import JobStatus, SubmissionState
from i2i.queries import jobs, submissions
from i2i.services import jobs as job_service
from i2i.services import webhooks
from i2i.worker import Worker

PHOTO = pictures.jpeg(pictures.photo(size=(320, 240)))
ENDPOINT = "fal-ai/qwen-image-edit-2511"


def ledger(conn, job):
    return submissions.list_of_job(conn, job_id=job.id)[-1]


def call_back(conn, job, *, request_id=None, body="body"):
    """What the web application does with a callback for the job's newest request."""
    known = ledger(conn, job)
    request_id = request_id or known.request_id or str(uuid4())
    webhooks.receive(conn, token=known.token, request_id=request_id, body_sha256=body)
    return request_id


def story(conn, job):
    found = conn.execute(
        "SELECT to_status FROM job_events WHERE job_id = %s ORDER BY id", [job.id]
    ).fetchall()
    return [row[0] for row in found]


def due_in(conn, job):
    """Seconds until the job is due."""
    return conn.execute(
        "SELECT extract(epoch FROM run_after - now()) FROM processing_jobs WHERE id = %s", [job.id]
    ).fetchone()[0]


def sending(conn, owner):
    """A job whose request has left and was not answered, and its claim."""
    job = factories.make_job(conn, user=owner, status="submitting")
    factories.send(conn, ledger(conn, job).token)
    return jobs.find(conn, job_id=job.id)


@pytest.mark.parametrize("status", ["submitting", "unknown"])
def test_a_request_without_an_answer_is_adopted(conn, settings, owner, status):
    job = (
        sending(conn, owner)
        if status == "submitting"
        else factories.make_job(conn, user=owner, status=status)
    )
    request_id = call_back(conn, job)
    assert webhooks.apply_pending(conn, settings) == 1
    now = jobs.find(conn, job_id=job.id)
    assert (now.status, now.fal_job_id) == (JobStatus.PROCESSING, request_id)
    found = ledger(conn, job)
    assert (found.state, found.request_id) == (SubmissionState.ACCEPTED, request_id)
    assert due_in(conn, job) <= 0
    assert webhooks.apply_pending(conn, settings) == 0


def test_what_runs_is_looked_at_at_once(conn, settings, owner):
    job = factories.make_job(conn, user=owner, status="processing")
    conn.execute("UPDATE processing_jobs SET run_after = now() + interval '1 hour'")
    call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    assert due_in(conn, job) <= 0
    assert story(conn, job)[-1] == JobStatus.PROCESSING


@pytest.mark.parametrize("status", ["completed", "failed", "storing"])
def test_what_has_ended_stays_as_it_is(conn, settings, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    before, told = jobs.find(conn, job_id=job.id), story(conn, job)
    call_back(conn, job)
    assert webhooks.apply_pending(conn, settings) == 1
    assert (jobs.find(conn, job_id=job.id), story(conn, job)) == (before, told)


def test_a_picture_that_was_given_up_is_looked_for_at_once(conn, settings, owner):
    job = factories.make_job(conn, user=owner, status="unknown")
    job_service.give_up(conn, job_id=job.id, user_id=owner.id)
    conn.execute("UPDATE submissions SET look_after = now() + interval '1 hour'")
    request_id = call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    found = conn.execute(
        "SELECT request_id, look_after <= now() FROM submissions WHERE job_id = %s", [job.id]
    ).fetchone()
    assert found == (request_id, True)
    assert jobs.find(conn, job_id=job.id).status == JobStatus.FAILED


def test_a_late_picture_with_a_known_id_is_looked_for_at_once(conn, settings, owner):
    job = factories.make_job(conn, user=owner, status="processing")
    submissions.settle(
        conn, token=ledger(conn, job).token, outcome="expired", charged="unknown", look=True
    )
    call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    (due,) = conn.execute("SELECT look_after <= now() FROM submissions").fetchone()
    assert due


def test_a_later_answer_that_agrees_changes_nothing(conn, settings, owner, caplog):
    job = sending(conn, owner)
    request_id = call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    told = story(conn, job)
    urls = request_urls(settings, ENDPOINT, request_id)
    token = ledger(conn, job).token
    assert not job_service.accept(conn, job_id=job.id, token=token, accepted=urls)
    assert (story(conn, job), caplog.records) == (told, [])


def test_a_later_answer_with_another_id_is_an_alarm(conn, settings, owner, caplog):
    job = sending(conn, owner)
    request_id = call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    urls = request_urls(settings, ENDPOINT, "another")
    token = ledger(conn, job).token
    assert not job_service.accept(conn, job_id=job.id, token=token, accepted=urls)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert ledger(conn, job).request_id == request_id


def test_a_later_lost_answer_does_not_forget_the_id(conn, settings, owner):
    job = sending(conn, owner)
    call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    task = SimpleNamespace(id=job.id, fence=job.fence)
    job_service.lose_answer(
        conn, task=task, token=ledger(conn, job).token, error=FalUnclear("timed out")
    )
    assert jobs.find(conn, job_id=job.id).status == JobStatus.PROCESSING
    assert ledger(conn, job).state == SubmissionState.ACCEPTED


def test_an_answer_between_keeping_and_applying_wins(conn, settings, owner, caplog):
    job = sending(conn, owner)
    call_back(conn, job, request_id="from-callback")
    urls = request_urls(settings, ENDPOINT, "from-answer")
    job_service.accept(conn, job_id=job.id, token=ledger(conn, job).token, accepted=urls)
    assert webhooks.apply_pending(conn, settings) == 1
    assert ledger(conn, job).request_id == "from-answer"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_one_that_never_fits_does_not_stop_the_others(conn, settings, owner, caplog):
    first, second, third = (
        factories.make_job(conn, user=owner, status="unknown") for _ in range(3)
    )
    call_back(conn, first, request_id="same", body="1")
    call_back(conn, second, request_id="same", body="2")
    call_back(conn, third, body="3")
    assert webhooks.apply_pending(conn, settings) == 3
    states = [jobs.find(conn, job_id=job.id).status for job in (first, second, third)]
    assert states == [JobStatus.PROCESSING, JobStatus.UNKNOWN, JobStatus.PROCESSING]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_counts_as_never_accepted_and_ran_is_an_alarm(conn, settings, owner, caplog):
    """And its picture is looked for, since it is perhaps paid."""
    job = factories.make_job(conn, user=owner, status="failed")
    assert ledger(conn, job).state == SubmissionState.REJECTED
    request_id = call_back(conn, job)
    webhooks.apply_pending(conn, settings)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    found = ledger(conn, job)
    assert (found.state, found.outcome, found.charged) == ("settled", "expired", "unknown")
    assert found.request_id == request_id
    (due,) = conn.execute("SELECT look_after <= now() FROM submissions").fetchone()
    assert due
    assert jobs.find(conn, job_id=job.id).status == JobStatus.FAILED


def test_workers_at_once_apply_each_of_them_once(make_settings, database):
    settings = make_settings(POSTGRES_URL=database)
    with psycopg.connect(database, autocommit=True) as conn:
        owner = factories.make_user(conn)
        made = [factories.make_job(conn, user=owner, status="unknown") for _ in range(8)]
        for number, job in enumerate(made):
            call_back(conn, job, body=str(number))
        with (
            db.make_pool(settings, size=4, application="i2i test") as pool,
            ThreadPoolExecutor(4) as threads,
        ):

            def apply(_):
                with pool.connection() as own:
                    return webhooks.apply_pending(own, settings)

            counts = list(threads.map(apply, range(4)))
        assert sum(counts) == 8
        assert all(story(conn, job).count("processing") == 1 for job in made)


# --- From end to end --------------------------------------------------------------------------


@pytest.fixture
def live(practice, fal_environ, database, make_settings, storage):
    """The web application behind real HTTP, a worker, and the practice server calling back."""
    app = create_app(make_settings(POSTGRES_URL=database))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    public = f"http://127.0.0.1:{server.server_port}"
    settings = make_settings(POSTGRES_URL=database, PUBLIC_URL=public, **fal_environ)
    server.app = app = create_app(settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    with (
        db.make_pool(settings, size=12, application="i2i test") as pool,
        psycopg.connect(database, autocommit=True) as conn,
    ):
        app.extensions["i2i"].database.use(pool)
        thread.start()
        owner = factories.make_user(conn)
        photo = factories.make_image(conn, user=owner, data=PHOTO, storage=storage, size=(320, 240))
        conn.execute("LISTEN i2i_work")
        yield SimpleNamespace(
            worker=Worker(settings, pool=pool, fal=HttpFal(settings), storage=storage),
            conn=conn,
            job=factories.make_job(conn, user=owner, image=photo),
            practice=practice,
        )
        # Callbacks under way end first: they need the pool.
        server.shutdown()
        thread.join()
    server.server_close()


def inject(live, mode):
    with PoolManager() as http:
        body = json.dumps({"mode": mode}).encode()
        assert http.request("POST", f"{live.practice.url}/faults", body=body).status == 200


def call_back_comes(live, *, count=1):
    """Wait for NOTIFY, as a worker does; a guard ends it."""
    end = datetime.now(UTC) + timedelta(seconds=30)
    while live.conn.execute("SELECT count(*) FROM webhook_events").fetchone()[0] < count:
        assert datetime.now(UTC) < end, "nobody called back"
        list(live.conn.notifies(timeout=0.2, stop_after=1))


def step(live):
    """One round at this very moment: nothing that is due later is looked at."""
    steps = live.worker.claim(room=8)
    for each in steps:
        each()
    return len(steps)


@pytest.mark.parametrize("fault", [None, "webhook_twice"])
def test_a_callback_drives_completion(live, fault):
    if fault:
        inject(live, fault)
    step(live)
    live.conn.execute("UPDATE processing_jobs SET run_after = now() + interval '1 hour'")
    call_back_comes(live)
    while step(live):
        pass
    told = ["pending", "submitting", "processing", "storing", "completed"]
    assert story(live.conn, live.job) == told
    assert live.conn.execute("SELECT count(*) FROM webhook_events").fetchone()[0] == 1


def test_a_callback_before_the_answer_is_adopted(live):
    inject(live, "webhook_early")
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(lambda: step(live))
        call_back_comes(live)
        step(live)
        sent.result()
    while step(live):
        pass
    told = ["pending", "submitting", "processing", "storing", "completed"]
    assert story(live.conn, live.job) == told
    assert sum(request.charged for request in live.practice.books.listed()) == 1


def test_a_lost_answer_is_found_by_its_callback(live):
    inject(live, "lost_answer")
    step(live)
    live.conn.execute("UPDATE processing_jobs SET run_after = now() + interval '1 hour'")
    call_back_comes(live)
    while step(live):
        pass
    assert story(live.conn, live.job)[-3:] == ["processing", "storing", "completed"]
    assert sum(request.charged for request in live.practice.books.listed()) == 1


def test_without_a_callback_asking_is_enough(live):
    inject(live, "webhook_lost")
    end = datetime.now(UTC) + timedelta(seconds=30)
    while story(live.conn, live.job)[-1] != "completed":
        assert datetime.now(UTC) < end
        for each in live.worker.claim(room=8, now=datetime.now(UTC) + timedelta(seconds=90)):
            each()
    assert live.conn.execute("SELECT count(*) FROM webhook_events").fetchone()[0] == 0
