"""The worker against a real database, a real practice server over HTTP and the real decoder.

Time moves by `now`, so nothing here waits: a step at `now + 10 minutes` sees leases that have run
out and looks that are due. What a worker does at a bad moment is played by a `fal` that is the real
one with something happening around its submit.
"""

import logging
import os
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import factories
import pictures
import psycopg
import pytest
from house import free_port
from psycopg_pool import ConnectionPool

from i2i import __version__, imaging
from i2i import worker as worker_module
from i2i.config import LEASE_SECONDS
from i2i.errors import FalAccount, FalTemporary, Refused
from i2i.gateways import fal as gateway
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import image_key, make_storage
from i2i.models import JobStatus
from i2i.queries import breaker, images, jobs, sessions, submissions, workers
from i2i.services import batches as batch_service
from i2i.services import images as image_service
from i2i.services import jobs as job_service
from i2i.services import users as user_service
from i2i.services.copies import Copies
from i2i.services.workflows import definition_of
from i2i.worker import UNFETCHED, UNSTORED, Lease, LeaseLostError, Worker

PHOTO = pictures.jpeg(pictures.photo(size=(320, 240)))


class KilledError(BaseException):
    """Ends a step as a kill does: no handler runs."""


class EventfulFal(HttpFal):
    """fal, with something happening just before or after the POST."""

    def __init__(self, settings, *, before=None, after=None):
        super().__init__(settings)
        self._before = before
        self._after = after

    def submit(self, endpoint, arguments, **options):
        if self._before:
            self._before()
        try:
            return super().submit(endpoint, arguments, **options)
        finally:
            if self._after:
                self._after()


class UploadingFal(HttpFal):
    """fal, whose storage answers every upload with this error, as often as it is asked."""

    def __init__(self, settings, error):
        super().__init__(settings)
        self._error = error

    def upload(self, **_upload):
        raise self._error


class DeafFal(HttpFal):
    """fal, which cannot be asked to stop."""

    def cancel(self, cancel_url):
        raise FalTemporary(f"no answer from {cancel_url}")


# --- What is there ----------------------------------------------------------------------------


@pytest.fixture
def conn(database):
    """What a test looks with; the workers have connections of their own."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settings(make_settings, database, fal_environ):
    return make_settings(POSTGRES_URL=database, **fal_environ)


@pytest.fixture
def pool(database):
    with ConnectionPool(database, min_size=1, max_size=12, kwargs={"autocommit": True}) as opened:
        yield opened


@pytest.fixture
def make_worker(settings, pool, storage):
    def make(fal=None, settings=settings):
        return Worker(settings, pool=pool, fal=fal or HttpFal(settings), storage=storage)

    return make


@pytest.fixture
def worker(make_worker):
    return make_worker()


@pytest.fixture
def photo(conn, owner, storage):
    return factories.make_image(
        conn, user=owner, name="coat.jpg", data=PHOTO, storage=storage, size=(320, 240)
    )


@pytest.fixture
def job(conn, owner, photo):
    return factories.make_job(conn, user=owner, image=photo)


@pytest.fixture
def copied(conn, settings, storage, photo, job):
    """The photo's copy for fal is there already, so that a claim takes the picture at once."""
    (definition,) = conn.execute("SELECT definition FROM workflow_versions").fetchone()
    copies = Copies(settings, storage)
    copies.make(photo, definition_of(definition), keep_alive=int)
    return copies


# --- How to look and move ---------------------------------------------------------------------


def gone_for(conn, job, *, minutes):
    """As if fal had answered 404 for that long."""
    moved = conn.execute(
        "UPDATE processing_jobs SET gone_since = now() - make_interval(mins => %s)"
        " WHERE id = %s AND gone_since IS NOT NULL",
        [minutes, job.id],
    )
    assert moved.rowcount == 1


def step(worker, *, later=0.0):
    """One round of claims and their steps, `later` seconds from now; how many there were."""
    steps = worker.claim(room=8, now=datetime.now(UTC) + timedelta(seconds=later))
    for each in steps:
        each()
    return len(steps)


def drive(worker, condition, *, later=90.0):
    """Rounds until it holds. fal takes its time; the bound is only a guard against hanging."""
    end = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < end, "it never came about"
        step(worker, later=later)
    return value


def status_of(conn, job):
    return jobs.find(conn, job_id=job.id).status


def is_in(conn, job, *statuses):
    return lambda: status_of(conn, job) in statuses


def card_of(conn, job):
    return jobs.find_card(conn, job_id=job.id, user_id=job.user_id)


def ledger_of(conn, job):
    """What money knows of a job: (state, outcome, charged) of each submission."""
    found = submissions.list_of_job(conn, job_id=job.id)
    return [(each.state, each.outcome, each.charged) for each in found]


def charges(practice):
    return sum(request.charged for request in practice.books.listed())


def spoil(practice, mode, count=1, **more):
    practice.books.add_fault({"mode": mode, "count": count, **more})


# --- The way of a picture ---------------------------------------------------------------------


def test_from_upload_to_finished_picture(conn, worker, owner, storage, practice):
    photo = factories.make_image(
        conn, user=owner, status="preparing", name="coat.jpg", data=PHOTO, storage=storage
    )
    job = factories.make_job(conn, user=owner, image=photo)

    drive(worker, is_in(conn, job, "completed"))

    prepared = images.find(conn, image_id=photo.id, user_id=owner.id)
    assert (prepared.status, prepared.has_preview) == ("ready", True)
    assert (prepared.width, prepared.height) == (320, 240)
    card = card_of(conn, job)
    assert (card.charged, card.cost) == ("yes", Decimal("0.0350"))
    assert card.attention is None
    assert card.error_message is None
    assert card.processing_time_ms > 0
    assert card.started_at <= card.completed_at
    result = images.find(conn, image_id=card.result_image_id, user_id=owner.id)
    assert result.original_filename == "coat_basic-v1_1.jpg"
    assert (result.is_processed, result.status, result.has_preview) == (True, "ready", True)
    assert (result.mime_type, result.width) == ("image/jpeg", 1280)
    assert storage.sha256(result.blob_url) == result.sha256
    assert storage.size(result.blob_url) == result.file_size
    for image in (photo, result):
        for name in ("thumb.webp", "preview.webp"):
            assert storage.exists(image_key(owner.id, image.id, name))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    assert charges(practice) == 1
    assert not list((worker._settings.data_dir / "incoming").iterdir()), "nothing is left lying"
    assert step(worker, later=3600) == 0


def test_the_ledger_keeps_what_was_sent(conn, worker, job, owner, practice):
    drive(worker, is_in(conn, job, "processing"))
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    (request,) = practice.books.listed()
    assert submission.arguments == request.arguments
    assert submission.arguments["prompt"] == "A person wearing it, studio white background"
    assert "seed" not in submission.arguments
    assert submission.arguments["image_urls"][0].endswith(f"/{submission.token}-0.jpg")
    assert (submission.request_id, submission.user_email) == (request.request_id, owner.email)
    assert submission.created_at <= submission.sent_at <= submission.accepted_at
    assert submission.estimate == Decimal("0.0350")


def test_references_go_along_in_their_order(conn, worker, owner, photo, storage, practice):
    references = [
        factories.make_image(
            conn,
            user=owner,
            data=pictures.jpeg(pictures.photo(name, size=(64, 48))),
            storage=storage,
        )
        for name in ("flower.jpg", "rocket.jpg")
    ]
    batch = factories.make_batch(conn, user=owner, photos=[photo], references=references)
    (job,) = factories.jobs_of(conn, batch)
    drive(worker, is_in(conn, job, "processing"))
    (request,) = practice.books.listed()
    names = [url.rpartition("-")[2] for url in request.arguments["image_urls"]]
    assert names == ["0.jpg", "1.jpg", "2.jpg"]


def make_callback(conn, *, received, applied=None):
    """A kept callback of so many days ago; its body's hash."""
    return conn.execute(
        "INSERT INTO webhook_events (token, request_id, body_sha256, received_at, applied_at)"
        " VALUES ('t', 'r', gen_random_uuid(), now() - make_interval(days => %s),"
        " now() - make_interval(days => %s::integer)) RETURNING body_sha256",
        [received, applied],
    ).fetchone()[0]


def kept_callbacks(conn):
    return {row[0] for row in conn.execute("SELECT body_sha256 FROM webhook_events")}


def test_only_callbacks_applied_long_ago_are_removed(conn, worker):
    make_callback(conn, received=31, applied=31)
    kept = {
        make_callback(conn, received=40, applied=29),
        make_callback(conn, received=400),
    }
    worker.tidy()
    assert kept_callbacks(conn) == kept


def test_the_loop_works_until_it_is_stopped(
    conn, make_worker, make_settings, job, database, fal_environ
):
    make_callback(conn, received=40, applied=40)
    settings = make_settings(POSTGRES_URL=database, WORKER_POLL_SECONDS="0.1", **fal_environ)
    worker = make_worker(settings=settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while status_of(conn, job) != JobStatus.COMPLETED:
            assert time.monotonic() < end, "it never came about"
    finally:
        worker.stop()
        thread.join(timeout=60)
    assert not thread.is_alive()
    assert kept_callbacks(conn) == set(), "it tidies up when it begins"


@contextmanager
def running(worker):
    """The worker's loop in a thread, stopped at the end."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(timeout=60)
    assert not thread.is_alive()


def soon(find, *, until):
    """What `find` returns once it is as wanted; looks again until then."""
    end = time.monotonic() + 60
    while not until(found := find()):
        assert time.monotonic() < end, "it never came about"
    return found


def test_a_worker_says_that_it_lives_and_why_it_sends_nothing(
    conn, make_worker, make_settings, database
):
    def alive():
        return workers.list_all(conn)

    worker = make_worker(settings=make_settings(POSTGRES_URL=database))
    with running(worker):
        (row,) = soon(alive, until=bool)
        assert (row.process_id, row.trouble) == (os.getpid(), "No fal key is set")
        assert (row.host, row.release) == (platform.node(), __version__)
        conn.execute("UPDATE workers SET seen_at = now() - interval '1 minute'")
        worker.beat()
        (row,) = alive()
        assert row.silent_seconds < 60
    assert alive() == [], "a clean stop takes the row away"


def test_a_worker_that_fal_does_not_answer_says_so_until_it_does(
    conn, make_worker, make_settings, database, practice, fal_environ, monkeypatch, job
):
    monkeypatch.setattr(worker_module, "BEAT_SECONDS", 0.1)
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = fal_environ | {"FAL_REST_URL": nobody}
    settings = make_settings(POSTGRES_URL=database, WORKER_POLL_SECONDS="0.1", **environ)
    fal = HttpFal(settings)
    with running(make_worker(fal, settings=settings)):

        def trouble():
            return {row.trouble for row in workers.list_all(conn)}

        soon(trouble, until=lambda found: found == {"fal cannot be reached"})
        assert status_of(conn, job) in {"pending", "submitting"}
        fal._settings = make_settings(POSTGRES_URL=database, **fal_environ)
        soon(trouble, until=lambda found: found == {None})


def test_workers_that_vanished_a_day_ago_are_forgotten(conn, worker):
    for process_id, hours in ((1, 23), (2, 25)):
        conn.execute(
            "INSERT INTO workers (id, host, process_id, release, seen_at) VALUES"
            " (gen_random_uuid(), 'there', %s, '1', now() - make_interval(hours => %s))",
            [process_id, hours],
        )
    worker.tidy()
    assert [row.process_id for row in workers.list_all(conn)] == [1]


def test_once_does_what_can_be_done_now(conn, worker, job):
    assert worker.run_once() == 1
    assert status_of(conn, job) == "processing"


def test_without_a_key_photos_are_prepared_and_nothing_is_sent(
    conn, make_worker, make_settings, owner, storage, database
):
    photo = factories.make_image(conn, user=owner, status="preparing", data=PHOTO, storage=storage)
    job = factories.make_job(conn, user=owner, image=photo)
    worker = make_worker(settings=make_settings(POSTGRES_URL=database))
    assert worker.run_once() == 1
    assert images.find(conn, image_id=photo.id, user_id=owner.id).status == "ready"
    assert status_of(conn, job) == "pending"


# --- Sending goes wrong -----------------------------------------------------------------------


def test_a_lost_answer_is_found_again_and_paid_once(conn, worker, job, practice):
    spoil(practice, "lost_answer")
    step(worker)
    card = card_of(conn, job)
    assert (card.status, card.charged) == ("unknown", "unknown")
    assert card.attention == job_service.LOST
    assert ledger_of(conn, job) == [("unknown", None, None)]

    drive(worker, is_in(conn, job, "completed"))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    assert charges(practice) == 1


def test_refused_connections_cost_nothing(
    conn, worker, make_worker, make_settings, job, database, fal_environ
):
    environ = dict.fromkeys(fal_environ, "http://127.0.0.1:9")
    cut_off = make_worker(settings=make_settings(POSTGRES_URL=database, **environ))
    step(cut_off)
    assert status_of(conn, job) == "pending"
    assert ledger_of(conn, job) == [("abandoned", None, None)]
    assert step(worker) == 0, "it waits a moment"
    drive(worker, is_in(conn, job, "completed"))
    assert [state for state, _, _ in ledger_of(conn, job)] == ["abandoned", "settled"]


def test_a_refused_connection_after_the_upload(
    conn, make_worker, make_settings, database, fal_environ, job
):
    environ = fal_environ | {"FAL_QUEUE_URL": "http://127.0.0.1:9"}
    step(make_worker(settings=make_settings(POSTGRES_URL=database, **environ)))
    assert status_of(conn, job) == "pending"
    assert ledger_of(conn, job) == [("rejected", None, None)]
    assert card_of(conn, job).charged == "no"


@pytest.mark.parametrize(
    ("mode", "state"), [("refuse_429", "rejected"), ("upload_error", "abandoned")]
)
def test_what_was_not_accepted_is_tried_again(conn, worker, job, practice, mode, state):
    spoil(practice, mode)
    step(worker)
    waiting = jobs.find(conn, job_id=job.id)
    assert (waiting.status, waiting.attention) == ("pending", None)
    assert ledger_of(conn, job) == [(state, None, None)]
    drive(worker, is_in(conn, job, "completed"))
    assert charges(practice) == 1


def test_a_locked_account_stops_sending_and_fails_nothing(conn, worker, job, practice):
    spoil(practice, "locked")
    step(worker)
    waiting = jobs.find(conn, job_id=job.id)
    assert (waiting.status, waiting.attention) == ("pending", None)
    assert breaker.find(conn).reason == "balance"
    assert step(worker, later=50) == 0
    drive(worker, is_in(conn, job, "completed"))
    assert breaker.find(conn).opened_at is None
    assert charges(practice) == 1


def test_a_refusal_fails_the_job_for_free(conn, worker, job, practice):
    spoil(practice, "unprocessable")
    step(worker)
    card = card_of(conn, job)
    assert (card.status, card.charged, card.error_code) == ("failed", "no", "refused")
    assert card.error_message == "The provider did not accept this request."
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    assert (submission.state, submission.http_status) == ("rejected", 422)
    assert "Prompt is not valid" in submission.detail
    assert step(worker, later=3600) == 0


@pytest.mark.parametrize("mode", ["server_error", "bad_gateway_nginx"])
def test_an_unclear_answer_is_never_sent_again_without_proof(
    conn, worker, owner, photo, job, practice, mode
):
    spoil(practice, mode)
    step(worker)
    assert status_of(conn, job) == "unknown"
    for later in (120, 1200, 90_000):
        step(worker, later=later)
        assert status_of(conn, job) == "unknown", "nothing proves that it never arrived"

    witness = factories.make_job(conn, user=owner, image=photo)
    drive(worker, is_in(conn, witness, "completed"), later=60)
    job_service.look_again(conn, job_id=job.id, user_id=owner.id)
    step(worker, later=800)
    assert status_of(conn, job) == "unknown", "the list may lag for a quarter of an hour"
    job_service.look_again(conn, job_id=job.id, user_id=owner.id)
    step(worker, later=1000)
    assert (status_of(conn, job), card_of(conn, job).charged) == ("pending", "no")
    drive(worker, is_in(conn, job, "completed"))
    assert [state for state, _, _ in ledger_of(conn, job)] == ["abandoned", "settled"]
    assert charges(practice) == 2


def sent_hours_ago(conn, practice, job, request, *, hours):
    """As if this job's request, which fal took as `request` or not at all, had left then."""
    conn.execute(
        "UPDATE submissions SET sent_at = sent_at - make_interval(hours => %s) WHERE job_id = %s",
        [hours, job.id],
    )
    if request is not None:
        moment = datetime.fromisoformat(request.received_at) - timedelta(hours=hours)
        request.received_at = moment.isoformat()


@pytest.fixture
def busy(practice, monkeypatch):
    """Makes more new requests of others to an endpoint than the list is read for at once."""
    monkeypatch.setattr(gateway, "MAX_LIST_PAGES", 1)

    def make(request):
        for _ in range(101):
            other = practice.books.accept(request.endpoint_id, {}, fault={"mode": "never"})
            assert other.state == "IN_PROGRESS"

    return make


def test_an_old_lost_answer_is_found_on_a_busy_endpoint(conn, worker, job, practice, busy):
    spoil(practice, "lost_answer")
    step(worker)
    (request,) = practice.books.listed()
    sent_hours_ago(conn, practice, job, request, hours=10)
    busy(request)
    drive(worker, is_in(conn, job, "completed"))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]


def test_only_a_list_read_to_its_end_proves_absence(
    conn, worker, owner, photo, job, practice, busy
):
    """fal may list a request under its end, so what came hours later belongs to the proof."""
    spoil(practice, "server_error")
    step(worker)
    witness = factories.make_job(conn, user=owner, image=photo)
    drive(worker, is_in(conn, witness, "completed"), later=60)
    (request,) = practice.books.listed()
    sent_hours_ago(conn, practice, job, None, hours=10)
    sent_hours_ago(conn, practice, witness, request, hours=10)
    busy(request)
    job_service.look_again(conn, job_id=job.id, user_id=owner.id)
    step(worker, later=60)
    assert status_of(conn, job) == "unknown"
    gateway.MAX_LIST_PAGES = 20
    job_service.look_again(conn, job_id=job.id, user_id=owner.id)
    step(worker, later=120)
    # The others' payloads name no token of ours, and yet can be read.
    assert (status_of(conn, job), card_of(conn, job).charged) == ("pending", "no")


def test_a_workflow_that_cannot_be_rendered_fails_the_job(conn, worker, owner, photo):
    workflow = factories.make_workflow(
        conn,
        max_references=0,
        request_template={
            "prompt": "{{ setting }}",
            "image_urls": "{{ image_urls }}",
            "half": "{{ 1 / ((seed | default(1)) - 7) }}",
        },
    )
    batch = factories.make_batch(
        conn,
        user=owner,
        photos=[photo],
        workflow=workflow,
        parameters={"setting": "outdoor", "seed": 7},
    )
    (job,) = factories.jobs_of(conn, batch)
    step(worker)
    card = card_of(conn, job)
    assert (card.status, card.charged) == ("failed", "no")
    assert ledger_of(conn, job) == [("abandoned", None, None)]


# --- fal makes no picture ---------------------------------------------------------------------


def test_a_withheld_picture_fails_and_is_charged(conn, worker, job, practice):
    spoil(practice, "nsfw")
    drive(worker, is_in(conn, job, "failed"))
    card = card_of(conn, job)
    assert (card.error_code, card.charged) == ("safety", "yes")
    assert ledger_of(conn, job) == [("settled", "error", "yes")]


def test_a_model_error_fails_the_job(conn, worker, job, practice):
    spoil(practice, "model_error")
    drive(worker, is_in(conn, job, "failed"))
    card = card_of(conn, job)
    assert (card.error_code, card.charged) == ("content_policy", "unknown")
    assert card.error_message == "The provider's content check stopped this photo."


def test_a_result_that_does_not_come_is_asked_for_again(conn, worker, job, practice):
    spoil(practice, "result_504", count=2)
    drive(worker, is_in(conn, job, "completed"), later=400)
    assert charges(practice) == 1


def test_what_never_ends_is_stopped_after_the_deadline(conn, worker, job, practice):
    spoil(practice, "never")
    step(worker)
    step(worker, later=500)
    assert jobs.find(conn, job_id=job.id).cancel_requested_at is None
    conn.execute("UPDATE submissions SET sent_at = sent_at - interval '610 seconds'")
    step(worker, later=20)
    assert jobs.find(conn, job_id=job.id).cancel_requested_at is not None
    step(worker, later=60)
    card = card_of(conn, job)
    assert (card.status, card.error_code) == ("failed", "stopped"), "no person has cancelled it"
    assert ledger_of(conn, job) == [("settled", "cancelled", "unknown")]
    assert step(worker, later=5000) == 0, "fal has confirmed: there is nothing to look for"


def test_what_does_not_stop_either_is_late(conn, worker, job, practice, monkeypatch):
    monkeypatch.setattr(practice.books, "cancel", lambda request: True)  # asked, and no more
    spoil(practice, "never")
    step(worker)
    step(worker, later=5000)
    assert status_of(conn, job) == "processing", "it was asked only now"
    step(worker, later=5010)
    card = card_of(conn, job)
    assert (card.status, card.error_code, card.charged) == ("failed", "late", "unknown")
    assert ledger_of(conn, job) == [("settled", "expired", "unknown")]


def test_an_id_that_fal_has_forgotten_is_looked_for(conn, worker, job, practice):
    step(worker)
    (request,) = practice.books.listed()
    del practice.books._requests[request.request_id]
    step(worker, later=5000)
    assert status_of(conn, job) == "processing", "one 404 proves nothing, however late"
    gone_for(conn, job, minutes=11)
    step(worker, later=9000)
    assert status_of(conn, job) == "unknown"
    with practice.books._changed:  # it may still wait for its turn there
        practice.books._requests[request.request_id] = request
        practice.books._changed.notify_all()
    drive(worker, is_in(conn, job, "completed"))
    assert charges(practice) == 1


# --- Cancelling -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["held", "pending"])
def test_what_was_not_sent_is_cancelled_at_once(conn, worker, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    assert job_service.cancel(conn, job_id=job.id, user_id=owner.id) == "cancelled"
    assert status_of(conn, job) == "cancelled"
    assert step(worker, later=60) == 0


@pytest.mark.usefixtures("copied")
def test_cancelled_while_the_inputs_go_up(conn, worker, job, owner, practice):
    (send,) = worker.claim(room=1)
    assert job_service.cancel(conn, job_id=job.id, user_id=owner.id) == "asked"
    send()
    assert status_of(conn, job) == "cancelled"
    assert ledger_of(conn, job) == [("abandoned", None, None)]
    assert charges(practice) == 0


def test_cancelled_while_fal_works(conn, worker, job, owner, practice):
    spoil(practice, "never")
    step(worker)
    assert job_service.cancel(conn, job_id=job.id, user_id=owner.id) == "asked"
    drive(worker, is_in(conn, job, "cancelled"))
    assert ledger_of(conn, job) == [("settled", "cancelled", "unknown")]


def test_a_picture_that_comes_in_spite_of_it_is_kept(conn, worker, job, owner, practice):
    step(worker)
    (request,) = practice.books.listed()
    drive_until_made(practice, request)
    job_service.cancel(conn, job_id=job.id, user_id=owner.id)
    drive(worker, is_in(conn, job, "completed"))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]


def drive_until_made(practice, request):
    end = time.monotonic() + 60
    while request.state != "COMPLETED":
        assert time.monotonic() < end, "it never came about"


@pytest.mark.parametrize("status", ["storing", "completed", "failed", "cancelled", "unknown"])
def test_what_cannot_be_cancelled(conn, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    with pytest.raises(Refused):
        job_service.cancel(conn, job_id=job.id, user_id=owner.id)
    assert status_of(conn, job) == status


def test_a_retry_is_a_new_submission(conn, settings, worker, job, owner, practice):
    spoil(practice, "unprocessable")
    step(worker)
    job_service.retry(conn, settings, job_id=job.id, user_id=owner.id)
    drive(worker, is_in(conn, job, "completed"))
    assert [state for state, _, _ in ledger_of(conn, job)] == ["rejected", "settled"]
    card = card_of(conn, job)
    assert (card.charged, card.error_message) == ("yes", None)


# --- Copies for fal, made before the claim ----------------------------------------------------


def test_a_photo_is_held_while_its_copy_is_made(conn, make_worker, owner, photo, job, practice):
    """Nobody else takes its pictures meanwhile, nor waits: what is next in line goes on."""
    sibling = factories.make_job(conn, user=owner, image=photo)
    (copy,) = make_worker().claim(room=8)
    assert (status_of(conn, job), ledger_of(conn, job)) == ("pending", [])
    assert make_worker().claim(room=8) == []
    copy()
    assert (status_of(conn, job), status_of(conn, sibling)) == ("processing", "pending")
    (send,) = make_worker().claim(room=8)
    assert status_of(conn, sibling) == "submitting", "the copy is there"
    send()
    assert [status_of(conn, each) for each in (job, sibling)] == ["processing"] * 2


def another_photo(conn, owner, storage, *, width):
    """Other bytes than PHOTO, for the same bytes would be the same photo."""
    data = pictures.jpeg(pictures.photo(size=(width, 100)))
    return factories.make_image(conn, user=owner, data=data, storage=storage, size=(width, 100))


def test_one_photo_more_is_copied_at_once_than_there_are_decoders(
    conn, make_worker, make_settings, database, fal_environ, owner, storage
):
    for number in range(4):
        photo = another_photo(conn, owner, storage, width=100 + number)
        factories.make_job(conn, user=owner, image=photo)
    worker = make_worker(settings=make_settings(POSTGRES_URL=database, DECODERS="2", **fal_environ))
    assert len(worker.claim(room=8)) == 3
    assert len(worker.claim(room=8)) == 0
    assert len(make_worker().claim(room=8)) == 1, "another worker takes the fourth"


def test_who_loses_the_race_for_a_photo_takes_the_next(
    conn, settings, database, owner, storage, photo, job
):
    factories.make_job(conn, user=owner, image=another_photo(conn, owner, storage, width=100))
    seen = []

    def is_late(sending):
        seen.append(sending.original.id)
        with psycopg.connect(database, autocommit=True) as other:
            if len(seen) == 1:
                images.lease_ready(other, image_id=photo.id, lease_seconds=LEASE_SECONDS)
        return False

    found = job_service.claim_send(conn, settings, has_copies=is_late)
    assert (seen[0], found.original.id) == (photo.id, seen[1])


def test_where_copies_cannot_be_kept_a_job_is_put_off_and_says_so(
    conn, make_worker, settings, job, photo
):
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / "copies").write_text("in the way")
    worker = make_worker()
    assert step(worker) == 1
    assert status_of(conn, job) == "pending"
    assert "waits and starts by itself" in card_of(conn, job).attention


def test_a_copy_is_made_once_for_all_who_need_it(
    conn, worker, owner, storage, photo, practice, caplog
):
    caplog.set_level(logging.INFO, logger="i2i.imaging")
    reference = another_photo(conn, owner, storage, width=100)
    batch = factories.make_batch(
        conn, user=owner, photos=[photo], variations=4, references=[reference]
    )
    for each in factories.jobs_of(conn, batch):
        drive(worker, is_in(conn, each, "completed"))
    originals = [line for line in caplog.messages if "original" in line]
    assert len(originals) == 2, originals


def test_cancelled_while_its_copy_is_made(conn, worker, job, owner, practice):
    (copy,) = worker.claim(room=1)
    assert job_service.cancel(conn, job_id=job.id, user_id=owner.id) == "cancelled"
    copy()
    assert (status_of(conn, job), ledger_of(conn, job)) == ("cancelled", [])
    assert charges(practice) == 0


def test_a_crash_while_a_copy_is_made_is_taken_over(conn, make_worker, job, practice):
    """The next worker claims the picture first, which then bears the blame for further crashes."""
    make_worker().claim(room=1)
    assert step(make_worker(), later=30) == 0, "the lease protects it"
    (send,) = make_worker().claim(room=1, now=datetime.now(UTC) + timedelta(seconds=50))
    send()
    assert status_of(conn, job) == "processing"
    assert conn.execute("SELECT crashes, lease_until FROM images").fetchone() == (0, None)


def test_what_has_crashed_a_worker_is_claimed_before_its_copy_is_made(conn, worker, job):
    conn.execute("UPDATE processing_jobs SET crashes = 1")
    (send,) = worker.claim(room=1)
    assert status_of(conn, job) == "submitting", "so that a further crash counts"
    send()
    assert status_of(conn, job) == "processing"


def test_who_comes_late_with_a_copy_sends_nothing(conn, make_worker, worker, job, practice):
    (late,) = make_worker().claim(room=1)
    drive(worker, is_in(conn, job, "completed"))
    before = jobs.find(conn, job_id=job.id)
    late()
    assert jobs.find(conn, job_id=job.id) == before
    assert charges(practice) == 1


def test_no_place_is_left_once_the_copy_is_made(conn, worker, owner, job, settings):
    """It waits on, and needs no decoding when its turn comes."""
    (copy,) = worker.claim(room=1)
    for _ in range(settings.max_in_flight):
        factories.make_job(conn, user=owner, status="processing")
    copy()
    assert status_of(conn, job) == "pending"
    conn.execute(
        "UPDATE processing_jobs SET run_after = now() + interval '1 day' WHERE status = 'processing'"
    )
    assert worker.claim(room=8) == []


# --- Workers that vanish or come late ---------------------------------------------------------


@pytest.mark.usefixtures("copied")
def test_three_crashes_before_sending_fail_a_job_for_free(conn, worker, job, practice):
    for later, status in [(100, "pending"), (200, "pending"), (300, "failed")]:
        worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=later))
        job_service.recover_expired(conn, now=datetime.now(UTC) + timedelta(seconds=later + 60))
        assert status_of(conn, job) == status
    card = card_of(conn, job)
    assert (card.error_code, card.charged) == ("poison", "no")
    assert ledger_of(conn, job) == [("abandoned", None, None)] * 3
    assert charges(practice) == 0


@pytest.mark.usefixtures("copied")
def test_a_wish_to_cancel_comes_before_the_third_crash(conn, worker, job, owner):
    for later in (100, 200, 300):
        worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=later))
        if later == 300:
            job_service.cancel(conn, job_id=job.id, user_id=owner.id)
        job_service.recover_expired(conn, now=datetime.now(UTC) + timedelta(seconds=later + 60))
    card = card_of(conn, job)
    assert (card.status, card.charged, card.error_code) == ("cancelled", "no", None)
    assert ledger_of(conn, job) == [("abandoned", None, None)] * 3


@pytest.mark.parametrize(("moment", "arrived"), [("before", 0), ("after", 1)])
def test_a_kill_around_the_post(
    conn, make_worker, settings, worker, job, practice, moment, arrived
):
    def kill():
        raise KilledError

    (send,) = make_worker(EventfulFal(settings, **{moment: kill})).claim(room=1)
    with pytest.raises(KilledError):
        send()
    assert (status_of(conn, job), ledger_of(conn, job)) == ("submitting", [("sent", None, None)])
    assert step(worker, later=30) == 0, "the lease protects it"

    drive(worker, is_in(conn, job, "unknown", "completed"), later=60)
    assert charges(practice) == arrived
    if arrived:
        drive(worker, is_in(conn, job, "completed"))
        assert ledger_of(conn, job) == [("settled", "picture", "yes")]


def test_an_expired_lease_while_fal_works_only_looks_again(conn, worker, job, practice):
    step(worker)
    claimed = worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=10))
    assert len(claimed) == 1, "and never run"
    drive(worker, is_in(conn, job, "completed"))
    assert charges(practice) == 1


@pytest.mark.usefixtures("copied")
def test_a_late_sender_does_not_send(conn, make_worker, worker, job, practice):
    (late,) = make_worker().claim(room=1)
    drive(worker, is_in(conn, job, "completed"))
    before = jobs.find(conn, job_id=job.id)
    late()
    assert jobs.find(conn, job_id=job.id) == before
    assert [state for state, _, _ in ledger_of(conn, job)] == ["abandoned", "settled"]
    assert charges(practice) == 1


def test_a_late_collector_changes_nothing(conn, make_worker, worker, job, storage):
    drive(worker, is_in(conn, job, "storing"))
    (late,) = make_worker().claim(room=1)
    drive(worker, is_in(conn, job, "completed"))
    before = card_of(conn, job)
    late()
    assert card_of(conn, job) == before
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    (result,) = conn.execute("SELECT blob_url, sha256 FROM images WHERE is_processed").fetchall()
    assert storage.sha256(result[0]) == result[1]


def test_a_late_look_changes_nothing(conn, make_worker, worker, job, practice):
    step(worker)
    later = datetime.now(UTC) + timedelta(seconds=10)
    (late,) = make_worker().claim(room=1, now=later)
    drive(worker, is_in(conn, job, "completed"))
    before = card_of(conn, job)
    late()
    assert card_of(conn, job) == before


@pytest.mark.parametrize(
    ("mode", "status", "state"),
    [
        (None, "processing", "accepted"),
        ("refuse_429", "pending", "rejected"),
        ("unprocessable", "failed", "rejected"),
        ("lost_answer", "unknown", "unknown"),
    ],
)
def test_the_answer_of_a_post_is_saved_however_late(
    conn, make_worker, settings, job, practice, mode, status, state
):
    """Meanwhile another worker has taken the job for one whose answer is lost."""
    if mode:
        spoil(practice, mode)

    def recover():
        job_service.recover_expired(conn, now=datetime.now(UTC) + timedelta(seconds=60))
        assert status_of(conn, job) == "unknown"

    step(make_worker(EventfulFal(settings, after=recover)))
    assert status_of(conn, job) == status
    assert ledger_of(conn, job) == [(state, None, None)]


def test_a_request_that_leaves_after_it_was_proven_absent_is_not_lost(
    conn, make_worker, settings, worker, job, practice, caplog
):
    """A worker froze after its last look at the clock and before the write, for a long time."""

    def be_proven_absent():
        job_service.recover_expired(conn, now=datetime.now(UTC) + timedelta(seconds=60))
        (task,) = jobs.claim_fal(conn, status="unknown", page_size=1, lease_seconds=45)
        job_service.prove_absent(conn, task=task)
        assert ledger_of(conn, job) == [("abandoned", None, None)]

    step(make_worker(EventfulFal(settings, before=be_proven_absent)))
    assert status_of(conn, job) == "pending"
    assert ledger_of(conn, job) == [("settled", "expired", "unknown")]
    assert "counted as never accepted" in caplog.text
    drive(worker, is_in(conn, job, "completed"), later=60)
    drive(worker, lambda: card_of(conn, job).further == 1, later=500)
    assert ledger_of(conn, job) == [("settled", "picture", "yes")] * 2
    assert charges(practice) == 2


def test_trouble_after_the_post_never_gives_the_request_up(
    conn, make_worker, settings, job, practice
):
    """The job counts as lost already, and then something unforeseen breaks the sender."""

    def recover_and_break():
        job_service.recover_expired(conn, now=datetime.now(UTC) + timedelta(seconds=60))
        raise RuntimeError("unforeseen")

    step(make_worker(EventfulFal(settings, after=recover_and_break)))
    assert (status_of(conn, job), ledger_of(conn, job)) == ("unknown", [("unknown", None, None)])
    drive(make_worker(), is_in(conn, job, "completed"))
    assert charges(practice) == 1


# --- Order and caps ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"MAX_IN_FLIGHT": "5"}, [5]),
        ({"MAX_IN_FLIGHT": "50", "MAX_IN_FLIGHT_PER_USER": "2"}, [2, 2, 2]),
        ({"MAX_IN_FLIGHT": "5", "MAX_IN_FLIGHT_PER_USER": "2"}, [5]),
    ],
)
def test_caps_hold_exactly_between_workers(conn, pool, make_settings, database, environ, expected):
    for _ in range(3):
        user = factories.make_user(conn)
        photos = [factories.make_image(conn, user=user) for _ in range(8)]
        factories.make_batch(conn, user=user, photos=photos)
    settings = make_settings(POSTGRES_URL=database, **environ)
    start = threading.Barrier(6)

    def claim_all():
        start.wait()
        claimed = []
        while True:
            with pool.connection() as mine:
                if (sending := job_service.claim_send(mine, settings)) is None:
                    return claimed
            claimed.append(sending.task.user_id)

    with ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(claim_all) for _ in range(6)]
    claimed = [user for future in futures for user in future.result()]
    if len(expected) == 1:
        assert len(claimed) == expected[0]
    else:
        assert sorted(claimed.count(user) for user in set(claimed)) == expected


def test_the_user_with_the_fewest_in_flight_comes_first(conn, settings, owner, other):
    first = datetime(2026, 1, 1, tzinfo=UTC)
    busy = factories.make_batch(
        conn,
        user=owner,
        photos=[factories.make_image(conn, user=owner) for _ in range(4)],
        created_at=first,
    )
    factories.make_job(conn, user=other, created_at=first + timedelta(hours=1))
    order = [job_service.claim_send(conn, settings).task for _ in range(4)]
    assert [task.user_id for task in order] == [owner.id, other.id, owner.id, owner.id]
    places = [job.id for job in factories.jobs_of(conn, busy)]
    assert [task.id for task in order if task.user_id == owner.id] == places[:3]


def test_a_job_at_fal_counts_as_in_flight(conn, make_settings, owner):
    factories.make_job(conn, user=owner, status="processing")
    factories.make_job(conn, user=owner)
    assert job_service.claim_send(conn, make_settings(MAX_IN_FLIGHT="1")) is None
    assert job_service.claim_send(conn, make_settings(MAX_IN_FLIGHT="2")) is not None


@pytest.mark.parametrize("what", ["photo", "reference"])
def test_pictures_wait_for_their_photos(conn, settings, owner, what):
    unready = factories.make_image(conn, user=owner, status="preparing")
    ready = factories.make_image(conn, user=owner)
    photo, reference = (unready, ready) if what == "photo" else (ready, unready)
    factories.make_batch(conn, user=owner, photos=[photo], references=[reference])
    assert job_service.claim_send(conn, settings) is None
    images.finish_preparing(conn, image_id=unready.id, fence=0, width=1, height=1)
    assert job_service.claim_send(conn, settings) is not None


def test_a_waiting_first_photo_does_not_hold_up_the_second(conn, settings, owner):
    photos = [
        factories.make_image(conn, user=owner, status=status) for status in ("preparing", "ready")
    ]
    factories.make_batch(conn, user=owner, photos=photos)
    assert job_service.claim_send(conn, settings).original.id == photos[1].id


# --- Photos that cannot be prepared -----------------------------------------------------------


@pytest.fixture
def broken(conn, owner, storage):
    """A photo whose container is whole and whose pixels are not."""
    data = bytearray(pictures.png(pictures.photo(size=(320, 240))))
    at = data.index(b"IDAT") + 1000
    data[at : at + 2000] = bytes(2000)
    return factories.make_image(
        conn, user=owner, status="preparing", name="torn.png", data=bytes(data), storage=storage
    )


@pytest.mark.parametrize("role", ["photo", "reference"])
@pytest.mark.parametrize("status", ["pending", "held"])
def test_a_rejected_photo_fails_what_waits_for_it(conn, worker, owner, photo, broken, role, status):
    chosen = ([broken], []) if role == "photo" else ([photo], [broken])
    batch = factories.make_batch(
        conn, user=owner, photos=chosen[0], references=chosen[1], statuses=[status]
    )
    (job,) = factories.jobs_of(conn, batch)
    bystander = factories.make_job(conn, user=owner, image=photo, status="held")
    step(worker)
    rejected = images.find(conn, image_id=broken.id, user_id=owner.id)
    assert rejected.status == "rejected"
    assert rejected.rejection.startswith("Not readable.")
    card = card_of(conn, job)
    assert (card.status, card.error_code, card.charged) == ("failed", "unreadable", "no")
    assert card.error_message == "torn.png could not be read. Upload it again."
    assert status_of(conn, bystander) == "held"


def test_a_photo_that_kills_its_worker_three_times_is_rejected(conn, worker, owner, storage):
    photo = factories.make_image(conn, user=owner, status="preparing", data=PHOTO, storage=storage)
    for later in (0, 200, 400):
        now = datetime.now(UTC) + timedelta(seconds=later)
        assert images.claim_preparing(conn, lease_seconds=90, now=now) is not None
    step(worker, later=600)
    assert images.find(conn, image_id=photo.id, user_id=owner.id).status == "rejected"


def test_a_full_disk_is_not_the_photos_fault(conn, worker, owner, storage):
    photo = factories.make_image(conn, user=owner, status="preparing", data=PHOTO, storage=storage)
    storage.partial.write_text("a file in place of the folder")
    for later in range(0, 500, 100):
        assert step(worker, later=later) == 1
    assert images.find(conn, image_id=photo.id, user_id=owner.id).status == "preparing"
    storage.partial.unlink()
    step(worker, later=600)
    assert images.find(conn, image_id=photo.id, user_id=owner.id).status == "ready"


# --- Storing ----------------------------------------------------------------------------------


def test_a_full_disk_keeps_a_paid_picture_waiting(conn, worker, job, storage, practice):
    drive(worker, is_in(conn, job, "storing"))
    if storage.partial.exists():
        storage.partial.rmdir()
    storage.partial.write_text("a file in place of the folder")
    for later in (60, 500):
        step(worker, later=later)
        card = card_of(conn, job)
        assert card.status == "storing"
        assert card.attention == UNSTORED
    storage.partial.unlink()
    drive(worker, is_in(conn, job, "completed"), later=1000)
    card = card_of(conn, job)
    assert (card.attention, card.charged) == (None, "yes")
    assert charges(practice) == 1


def output_of(practice):
    (request,) = practice.books.listed()
    drive_until_made(practice, request)
    return practice.books.files.parent / request.outputs[0]["path"].lstrip("/")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(b"GIF89a" + bytes(100), (None, None), id="a type that we do not decode"),
        pytest.param("torn", (320, 240), id="damaged"),
        pytest.param(pictures.raw_png(9000, 9000), (None, None), id="too large to decode"),
        pytest.param(pictures.jpeg_of_scans(101), (None, None), id="too many scans"),
    ],
)
def test_a_paid_picture_that_we_cannot_decode_is_kept(
    conn, worker, job, storage, practice, data, size
):
    if data == "torn":
        data = bytearray(pictures.png(pictures.photo(size=(320, 240))))
        at = data.index(b"IDAT") + 1000
        data[at : at + 2000] = bytes(2000)
    step(worker)
    output_of(practice).write_bytes(data)
    drive(worker, is_in(conn, job, "completed"))
    card = card_of(conn, job)
    assert card.result_has_preview is False
    result = images.find(conn, image_id=card.result_image_id, user_id=job.user_id)
    assert (result.width, result.height) == size
    with storage.open(result.blob_url) as file:
        assert file.read() == data
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]


def test_an_error_page_is_not_taken_for_the_picture(conn, worker, job, practice):
    step(worker)
    file = output_of(practice)
    picture = file.read_bytes()
    file.write_bytes(b"<!doctype html><p>Try again later</p>")
    drive(worker, is_in(conn, job, "storing"))
    step(worker, later=60)
    card = card_of(conn, job)
    assert card.status == "storing"
    assert card.attention == UNFETCHED
    file.write_bytes(picture)
    drive(worker, is_in(conn, job, "completed"), later=600)


def test_trouble_in_a_row_is_asked_about_less_often(conn, worker, job, practice):
    step(worker)
    output_of(practice).unlink()
    drive(worker, is_in(conn, job, "storing"))
    for later in range(100, 800, 100):
        step(worker, later=later)
    waits = jobs.find(conn, job_id=job.id).run_after - datetime.now(UTC)
    assert timedelta(seconds=60) < waits < timedelta(minutes=7)


def test_a_picture_that_is_gone_counts_as_lost_after_a_day(conn, worker, job, practice):
    step(worker)
    output_of(practice).unlink()
    drive(worker, is_in(conn, job, "storing"))
    step(worker, later=90_000)
    assert status_of(conn, job) == "storing", "one 404 proves nothing, however late"
    gone_for(conn, job, minutes=23 * 60)
    step(worker, later=1000)
    assert (status_of(conn, job), card_of(conn, job).attention) == ("storing", UNFETCHED)
    gone_for(conn, job, minutes=24 * 60)
    step(worker, later=3000)
    card = card_of(conn, job)
    assert (card.status, card.error_code, card.charged) == ("failed", "lost", "yes")
    assert ledger_of(conn, job) == [("settled", "expired", "yes")]


def test_a_photo_without_a_suffix_gives_its_name_too(conn, worker, owner, storage):
    photo = factories.make_image(conn, user=owner, name="coat", data=PHOTO, storage=storage)
    job = factories.make_job(conn, user=owner, image=photo)
    drive(worker, is_in(conn, job, "completed"))
    result = images.find(conn, image_id=card_of(conn, job).result_image_id, user_id=owner.id)
    assert result.original_filename == "coat_basic-v1_1.jpg"


# --- Held back before it is sent --------------------------------------------------------------


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("moment", ["upload", "submit"])
def test_a_refused_account_fails_nothing(
    conn, make_worker, settings, owner, photo, job, practice, moment, status
):
    """Another job was claimed already when it is noticed, and a third one only waits."""
    error = FalAccount("account refused", http_status=status)

    def refuse():
        raise error

    fal = (
        UploadingFal(settings, error)
        if moment == "upload"
        else EventfulFal(settings, before=refuse)
    )
    claimed = factories.make_job(conn, user=owner, image=photo)
    (first,) = make_worker(fal).claim(room=1)
    (second,) = make_worker().claim(room=1)
    waiting = factories.make_job(conn, user=owner, image=photo)
    first()
    second()
    every = (job, claimed, waiting)
    assert breaker.find_for_bar(conn, user_id=owner.id).waiting == 3
    assert [status_of(conn, each) for each in every] == ["pending"] * 3
    assert charges(practice) == 0
    assert step(make_worker()) == 0
    assert [card_of(conn, each).charged for each in every] == ["no"] * 3
    if (moment, status) == ("submit", 403):  # the rest of the way is the same for all
        for each in every:
            drive(make_worker(), is_in(conn, each, "completed"))
        assert charges(practice) == 3


def test_the_account_is_asked_for_once_a_minute(
    conn, make_worker, make_settings, worker, job, database, fal_environ, practice
):
    spoil(practice, "locked")
    step(worker)
    environ = fal_environ | {"FAL_REST_URL": "http://127.0.0.1:9"}
    cut_off = make_worker(settings=make_settings(POSTGRES_URL=database, **environ))
    assert [step(cut_off, later=seconds) for seconds in (50, 61, 62, 119, 122)] == [0, 1, 0, 0, 1]
    assert breaker.find(conn).opened_at is not None
    assert status_of(conn, job) == "pending"
    drive(worker, is_in(conn, job, "completed"), later=300)


class ProbeBreaksFal(HttpFal):
    """fal, asked in vain whether it takes the account again: something unforeseen happens."""

    def probe(self):
        raise RuntimeError("unforeseen")


def test_a_check_that_breaks_ends_nothing(conn, make_worker, settings, worker, job, practice):
    spoil(practice, "locked")
    step(worker)
    broken = make_worker(ProbeBreaksFal(settings))
    assert step(broken, later=61) == 1
    assert breaker.find(conn).opened_at is not None
    drive(worker, is_in(conn, job, "completed"), later=200)


def test_a_claim_that_breaks_does_not_end_the_loop(conn, worker, job, caplog):
    conn.execute("ALTER TABLE breaker RENAME TO hidden")
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not any("claiming broke" in record.message for record in caplog.records):
            assert time.monotonic() < end, "it never came about"
        conn.execute("ALTER TABLE hidden RENAME TO breaker")
        while status_of(conn, job) == JobStatus.PENDING:
            assert time.monotonic() < end, "it never came about"
            worker.wake()
    finally:
        worker.stop()
        thread.join(timeout=60)


def test_an_account_that_only_refuses_submits_is_tried_less_and_less_often(
    conn, worker, job, practice
):
    """The check succeeds each time, so the breaker closes, and the next submit opens it again."""
    spoil(practice, "locked", count=7)
    pauses, later = [], 0.0
    for number in range(1, 7):
        (send,) = worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=later))
        send()
        waiting = jobs.find(conn, job_id=job.id)
        assert (waiting.status, waiting.crashes) == ("pending", 0)
        assert [state for state, _, _ in ledger_of(conn, job)] == ["rejected"] * number
        state = breaker.find(conn)
        pauses.append((state.next_check_at - state.opened_at) / timedelta(minutes=1))
        later = pauses[-1] * 60 + 1
        assert step(worker, later=later - 10) == 0
        (check,) = worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=later))
        check()
        assert breaker.find(conn).opened_at is None
    assert pauses == [1, 2, 4, 8, 15, 15]

    conn.execute("UPDATE breaker SET closed_at = now() - interval '16 minutes'")
    (send,) = worker.claim(room=1)
    send()
    state = breaker.find(conn)
    assert state.next_check_at - state.opened_at == timedelta(minutes=1), "long ago is forgotten"
    drive(worker, is_in(conn, job, "completed"))
    assert charges(practice) == 1


def test_a_cancel_and_then_a_refusal_end_it(conn, make_worker, settings, job, owner, practice):
    def cancel():
        assert job_service.cancel(conn, job_id=job.id, user_id=owner.id) == "asked"

    spoil(practice, "refuse_429")
    step(make_worker(EventfulFal(settings, before=cancel)))
    assert status_of(conn, job) == "cancelled"
    assert ledger_of(conn, job) == [("rejected", None, None)]
    assert card_of(conn, job).charged == "no"


@pytest.mark.usefixtures("copied")
def test_nothing_is_sent_for_who_lost_the_whitelist(conn, worker, job, owner, photo, practice):
    (send,) = worker.claim(room=1)
    user_service.set_whitelisted(conn, email=owner.email, is_whitelisted=False)
    send()
    assert status_of(conn, job) == "cancelled"
    left_over = factories.make_job(conn, user=owner, image=photo)
    assert step(worker, later=60) == 0
    assert (status_of(conn, left_over), charges(practice)) == ("pending", 0)


def test_proven_absent_for_who_lost_the_whitelist_is_cancelled(
    conn, worker, owner, photo, job, practice
):
    spoil(practice, "server_error")
    step(worker)
    witness = factories.make_job(conn, user=owner, image=photo)
    drive(worker, is_in(conn, witness, "completed"), later=60)
    user_service.set_whitelisted(conn, email=owner.email, is_whitelisted=False)
    assert status_of(conn, job) == "unknown"
    job_service.look_again(conn, job_id=job.id, user_id=owner.id)
    step(worker, later=1000)
    found = jobs.find(conn, job_id=job.id)
    assert (found.status, found.attention) == ("cancelled", None)
    assert ledger_of(conn, job) == [("abandoned", None, None)]


@pytest.mark.parametrize("definition", ["{}", '{"fal_endpoint": "fal-ai/x", "formats": 7}'])
def test_a_broken_version_fails_only_its_job(conn, worker, owner, photo, job, definition):
    broken = factories.make_job(conn, user=owner, image=photo)
    conn.execute(
        "WITH version AS (INSERT INTO workflow_versions (workflow_name, version, definition)"
        " VALUES ('basic-v1', 99, %s) RETURNING id)"
        " UPDATE processing_jobs SET workflow_version_id = version.id, created_at = '2026-01-01'"
        " FROM version WHERE processing_jobs.id = %s",
        [definition, broken.id],
    )
    step(worker)
    card = card_of(conn, broken)
    assert (card.status, card.error_code, card.charged) == ("failed", "workflow", "no")
    assert status_of(conn, job) == "processing"


def test_refusals_in_a_row_are_tried_less_often(conn, worker, job, practice):
    spoil(practice, "refuse_429", count=7)
    waits = []
    for number in range(7):
        # One claim: the clock of `later` runs ahead of the database's, which sets the next try.
        (send,) = worker.claim(room=1, now=datetime.now(UTC) + timedelta(seconds=number * 500))
        send()
        assert status_of(conn, job) == "pending"
        waits.append(jobs.find(conn, job_id=job.id).run_after - datetime.now(UTC))
    assert waits[0] < timedelta(seconds=3)
    assert waits[3] > 3 * waits[0]
    assert waits[6] > 3 * waits[3]
    drive(worker, is_in(conn, job, "completed"), later=500)
    assert len(ledger_of(conn, job)) == 8
    assert charges(practice) == 1


def test_what_breaks_the_sender_three_times_fails_for_free(conn, make_worker, settings, job):
    worker = make_worker(UploadingFal(settings, RuntimeError("unforeseen")))
    for later, status in [(0, "pending"), (60, "pending"), (120, "failed")]:
        step(worker, later=later)
        assert status_of(conn, job) == status
    card = card_of(conn, job)
    assert (card.error_code, card.charged) == ("poison", "no")
    assert ledger_of(conn, job) == [("abandoned", None, None)] * 3


def test_a_cancel_that_fails_does_not_hold_up_the_picture(
    conn, make_worker, settings, job, owner, practice
):
    worker = make_worker(DeafFal(settings))
    step(worker)
    job_service.cancel(conn, job_id=job.id, user_id=owner.id)
    drive(worker, is_in(conn, job, "completed"))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]


@pytest.mark.parametrize(("users", "expected"), [(9, 20), (6, 18)])
def test_sixteen_claimers_never_exceed_twenty_nor_three_each(
    conn, pool, make_settings, database, users, expected
):
    for _ in range(users):
        user = factories.make_user(conn)
        photos = [factories.make_image(conn, user=user) for _ in range(5)]
        factories.make_batch(conn, user=user, photos=photos)
    settings = make_settings(POSTGRES_URL=database, MAX_IN_FLIGHT="20", MAX_IN_FLIGHT_PER_USER="3")
    start = threading.Barrier(16)

    def claim_all():
        start.wait()
        claimed = []
        while True:
            with pool.connection() as mine:
                if (sending := job_service.claim_send(mine, settings)) is None:
                    return claimed
            claimed.append(sending.task.user_id)

    with ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(claim_all) for _ in range(16)]
    claimed = [user for future in futures for user in future.result()]
    assert len(claimed) == expected
    assert max(claimed.count(user) for user in claimed) <= 3


# --- Pictures that come late ------------------------------------------------------------------


def let_it_be_made(practice, request, *, fault=None):
    """What hung at fal goes on after all."""
    with practice.books._changed:
        request.fault, request.state = fault, "IN_QUEUE"
        practice.books._changed.notify_all()
    drive_until_made(practice, request)


@pytest.fixture
def late(conn, worker, job, practice, monkeypatch):
    """A job that failed as late while its request still runs; the request."""
    monkeypatch.setattr(practice.books, "cancel", lambda request: True)  # asked, and no more
    spoil(practice, "never")
    step(worker)
    step(worker, later=5000)
    step(worker, later=5010)
    assert (status_of(conn, job), card_of(conn, job).error_code) == ("failed", "late")
    (request,) = practice.books.listed()
    return request


def looks(conn):
    """How many submissions are still looked for."""
    (count,) = conn.execute("SELECT count(look_until) FROM submissions").fetchone()
    return count


def test_a_late_picture_completes_its_job(conn, worker, job, late, practice):
    assert step(worker, later=70) == 1, "looked for, and not there yet"
    let_it_be_made(practice, late)
    drive(worker, is_in(conn, job, "completed"), later=500)
    card = card_of(conn, job)
    assert (card.charged, card.cost, card.perhaps) == ("yes", Decimal("0.0350"), None)
    assert (card.error_code, card.error_message, card.further) == (None, None, 0)
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    story = [event.to_status for event in jobs.list_events(conn, job_id=job.id)]
    assert story[-4:] == ["processing", "failed", "storing", "completed"]
    assert step(worker, later=3600) == 0


def test_a_late_picture_beside_a_newer_one_is_kept(
    conn, settings, worker, job, owner, late, practice
):
    job_service.retry(conn, settings, job_id=job.id, user_id=owner.id)
    drive(worker, is_in(conn, job, "completed"))
    first = card_of(conn, job).result_image_id
    let_it_be_made(practice, late)
    drive(worker, lambda: card_of(conn, job).further == 1, later=500)
    card = card_of(conn, job)
    assert (card.status, card.result_image_id) == ("completed", first)
    assert (card.charged, card.cost) == ("yes", Decimal("0.0700"))
    assert ledger_of(conn, job) == [("settled", "picture", "yes")] * 2
    (further,) = images.list_further_outputs(conn, job_id=job.id, user_id=owner.id)
    assert further.original_filename == "coat_basic-v1_1_late.jpg"
    assert (looks(conn), step(worker, later=3600)) == (0, 0)
    assert charges(practice) == 2


def test_a_withheld_late_picture_is_charged(conn, worker, job, late, practice):
    let_it_be_made(practice, late, fault="nsfw")
    drive(worker, lambda: looks(conn) == 0, later=500)
    card = card_of(conn, job)
    assert (card.status, card.charged, card.cost) == ("failed", "yes", Decimal("0.0350"))
    assert card.error_code == "safety", "nothing more will come"
    assert ledger_of(conn, job) == [("settled", "error", "yes")]


def test_a_withheld_late_picture_does_not_explain_a_newer_try(
    conn, settings, worker, job, owner, late, practice
):
    job_service.retry(conn, settings, job_id=job.id, user_id=owner.id)
    spoil(practice, "unprocessable")
    drive(worker, is_in(conn, job, "failed"))
    let_it_be_made(practice, late, fault="nsfw")
    drive(worker, lambda: looks(conn) == 0, later=500)
    card = card_of(conn, job)
    assert (card.status, card.charged, card.error_code) == ("failed", "yes", "refused")


def test_a_look_ends_after_a_day(conn, worker, job, late):
    step(worker, later=86_000)
    assert looks(conn) == 1
    step(worker, later=86_500)
    assert (looks(conn), status_of(conn, job)) == (0, "failed")
    assert ledger_of(conn, job) == [("settled", "expired", "unknown")]


def test_a_404_does_not_end_a_late_look(conn, worker, job, late, practice):
    del practice.books._requests[late.request_id]
    step(worker, later=70)
    assert looks(conn) == 1
    practice.books._requests[late.request_id] = late
    let_it_be_made(practice, late)
    drive(worker, is_in(conn, job, "completed"), later=500)


def test_sent_again_by_a_person_and_then_the_first_answer_is_found(
    conn, settings, worker, job, owner, practice
):
    spoil(practice, "lost_answer")
    step(worker)
    (request,) = practice.books.listed()
    drive_until_made(practice, request)
    job_service.send_again(conn, settings, job_id=job.id, user_id=owner.id)
    drive(worker, is_in(conn, job, "completed"), later=500)
    drive(worker, lambda: card_of(conn, job).further == 1, later=500)
    card = card_of(conn, job)
    assert (card.charged, card.cost, card.perhaps) == ("yes", Decimal("0.0700"), None)
    assert ledger_of(conn, job) == [("settled", "picture", "yes")] * 2
    assert charges(practice) == 2


def test_the_first_answer_is_found_while_the_second_waits(
    conn, settings, worker, job, owner, practice
):
    spoil(practice, "lost_answer")
    step(worker)
    (request,) = practice.books.listed()
    drive_until_made(practice, request)
    job_service.send_again(conn, settings, job_id=job.id, user_id=owner.id)
    conn.execute("UPDATE processing_jobs SET run_after = now() + interval '1 day'")
    drive(worker, lambda: card_of(conn, job).further == 1, later=500)
    assert status_of(conn, job) == "pending"
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    conn.execute("UPDATE processing_jobs SET run_after = now()")
    drive(worker, is_in(conn, job, "completed"))
    assert card_of(conn, job).cost == Decimal("0.0700")


def test_given_up_and_then_it_comes(conn, worker, job, owner, practice):
    spoil(practice, "lost_answer")
    step(worker)
    (request,) = practice.books.listed()
    drive_until_made(practice, request)
    job_service.give_up(conn, job_id=job.id, user_id=owner.id)
    assert (status_of(conn, job), card_of(conn, job).charged) == ("failed", "unknown")
    drive(worker, is_in(conn, job, "completed"), later=500)
    assert ledger_of(conn, job) == [("settled", "picture", "yes")]
    assert charges(practice) == 1


def test_an_id_that_fal_forgets_for_good_is_written_off(conn, worker, job, practice):
    step(worker)
    (request,) = practice.books.listed()
    del practice.books._requests[request.request_id]
    step(worker, later=60)
    gone_for(conn, job, minutes=11)
    step(worker, later=500)
    step(worker, later=4000)
    assert status_of(conn, job) == "unknown"
    step(worker, later=90_000)
    card = card_of(conn, job)
    assert (card.status, card.error_code, card.charged) == ("failed", "unheard", "unknown")


# --- What the worker leaves to others ---------------------------------------------------------


def test_a_lease_is_renewed_now_and_then(conn, worker, job, settings, monkeypatch, caplog):
    sending = job_service.claim_send(conn, settings)
    lease = Lease(worker._pool, jobs.renew_lease, job_id=job.id, fence=sending.task.fence)

    def lease_until():
        return conn.execute("SELECT lease_until FROM processing_jobs").fetchone()[0]

    first = lease_until()
    lease()
    assert lease_until() == first, "it is new"
    monkeypatch.setattr(worker_module, "RENEW_SECONDS", 0.0)
    lease()
    assert first < lease_until() <= datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
    with ConnectionPool("host=127.0.0.1 port=1", open=False) as closed:
        closed.close()
        Lease(closed, jobs.renew_lease, job_id=job.id, fence=sending.task.fence)()
    assert "lease not renewed" in caplog.text, "and the work goes on"
    conn.execute("UPDATE processing_jobs SET fence = fence + 1")
    with pytest.raises(LeaseLostError):
        lease()


def test_the_lease_is_asked_for_while_a_picture_is_decoded(
    make_worker, conn, job, storage, photo, settings, monkeypatch
):
    """A step whose row goes to another worker meanwhile ends its child and says nothing to fal."""
    monkeypatch.setattr(worker_module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(imaging, "KEEP_ALIVE_SECONDS", 0.0)
    (copy,) = make_worker().claim(room=1)
    conn.execute("UPDATE images SET fence = fence + 1")
    copy()
    assert (status_of(conn, job), ledger_of(conn, job)) == ("pending", [])


def test_the_next_look_is_announced(conn, worker, job):
    assert jobs.find_due(conn).seconds is None
    step(worker)
    assert worker.claim(room=8) == []
    assert 0 < jobs.find_due(conn).seconds <= worker._pause() <= 1


def test_released_and_retried_batches_reach_the_worker(
    conn, settings, worker, owner, photo, practice
):
    batch = factories.make_batch(conn, user=owner, photos=[photo], statuses=["held"])
    (job,) = factories.jobs_of(conn, batch)
    assert step(worker, later=60) == 0
    assert batch_service.release(conn, batch_id=batch.id, user_id=owner.id) == 1
    spoil(practice, "unprocessable")
    step(worker)
    assert batch_service.retry(conn, settings, batch_id=batch.id, user_id=owner.id) == batch.id
    drive(worker, is_in(conn, job, "completed"))


def test_an_upload_is_prepared_under_the_services_name(conn, worker, owner, storage):
    photo = factories.make_image(conn, user=owner, status="preparing", data=PHOTO, storage=storage)
    task = images.claim_preparing(conn, lease_seconds=90)
    image_service.prepare(worker._pool.connection, storage, worker._settings, task=task)
    assert image_service.get(conn, image_id=photo.id, user_id=owner.id).has_preview
    assert make_storage(worker._settings.blob_url, data_dir=worker._settings.data_dir).exists(
        image_key(owner.id, photo.id, "thumb.webp")
    )
    assert sessions.list_of_user(conn) == []
