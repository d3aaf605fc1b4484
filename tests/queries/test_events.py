"""The story of a job: every transition on record, and no other one possible."""

from itertools import pairwise, product

import factories
import psycopg
import pytest
from psycopg.errors import CheckViolation, RestrictViolation

from i2i.queries import jobs

LEGAL = {
    "held": {"pending", "cancelled", "failed"},
    "pending": {"submitting", "cancelled", "failed", "held"},
    "submitting": {"pending", "processing", "unknown", "failed", "cancelled"},
    "unknown": {"processing", "pending", "failed", "cancelled"},
    "processing": {"storing", "failed", "cancelled", "unknown"},
    "storing": {"completed", "failed"},
    "failed": {"pending", "storing"},
    "cancelled": {"pending", "storing"},
    "completed": set(),
}
"""docs/job-states.md, edge by edge."""

COLUMNS = """
UPDATE processing_jobs
SET status = %(status)s, lease_until = CASE WHEN %(status)s = 'submitting' THEN now() END,
    fal_job_id = CASE WHEN %(status)s IN ('processing', 'storing') THEN 'request' END,
    completed_at = CASE WHEN %(status)s IN ('completed', 'failed', 'cancelled') THEN now() END,
    error_message = CASE WHEN %(status)s = 'failed' THEN 'No.' END,
    error_code = CASE WHEN %(status)s = 'failed' THEN 'refused' END, result_image_id = NULL
WHERE id = %(job_id)s
"""
"""Into a state, with what the table's own constraints ask for there."""


def events_of(conn, job):
    return [(event.from_status, event.to_status) for event in jobs.list_events(conn, job_id=job.id)]


@pytest.mark.parametrize(
    ("before", "after"), [pair for pair in product(LEGAL, LEGAL) if pair[0] != pair[1]]
)
def test_an_edge_is_legal_or_refused(conn, owner, before, after):
    job = factories.make_job(conn, user=owner, status=before)
    story = events_of(conn, job)
    values = {"status": after, "job_id": job.id}
    if after in LEGAL[before]:
        conn.execute(COLUMNS, values)
        assert events_of(conn, job) == [*story, (before, after)], "once"
    else:
        with pytest.raises(CheckViolation) as refused, conn.transaction():
            conn.execute(COLUMNS, values)
        assert refused.value.diag.constraint_name == "processing_jobs_legal_transition"
        assert f"a job cannot go from {before} to {after}" in str(refused.value)
        assert events_of(conn, job) == story


@pytest.mark.parametrize("first", LEGAL)
def test_a_job_begins_held_or_pending(conn, owner, first):
    assert conn.execute("SELECT is_legal_transition(NULL, %s)", [first]).fetchone() == (
        first in {"held", "pending"},
    )


def test_the_whole_way_is_told_once(conn, owner):
    job = factories.make_job(conn, user=owner, status="completed")
    way = [None, "pending", "submitting", "processing", "storing", "completed"]
    assert events_of(conn, job) == list(pairwise(way))
    conn.execute("UPDATE processing_jobs SET status = status, attention = 'Look.'")
    assert len(events_of(conn, job)) == 5, "what stays in its state is no transition"
    times = [event.happened_at for event in jobs.list_events(conn, job_id=job.id)]
    assert times == sorted(times)


def test_several_at_once_are_told_one_by_one(conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(3)]
    batch = factories.make_batch(conn, user=owner, photos=photos, statuses=["held"] * 3)
    jobs.release(conn, batch_id=batch.id, user_id=owner.id)
    for job in factories.jobs_of(conn, batch):
        assert events_of(conn, job) == [(None, "held"), ("held", "pending")]


def test_what_is_rolled_back_was_never_told(conn, owner):
    job = factories.make_job(conn, user=owner)
    with conn.transaction(force_rollback=True):
        jobs.cancel_waiting(conn, user_id=owner.id)
    assert events_of(conn, job) == [(None, "pending")]


def test_a_story_is_never_changed(conn, owner):
    factories.make_job(conn, user=owner)
    with pytest.raises(RestrictViolation, match="job_events is append-only"), conn.transaction():
        conn.execute("UPDATE job_events SET to_status = 'completed'")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM job_events",
        "TRUNCATE job_events",
        "TRUNCATE processing_jobs CASCADE",
        "TRUNCATE submissions CASCADE",
    ],
)
def test_no_story_and_no_ledger_is_wiped(conn, owner, statement):
    factories.make_job(conn, user=owner, status="completed")
    counts = "SELECT (SELECT count(*) FROM job_events), (SELECT count(*) FROM submissions)"
    before = conn.execute(counts).fetchone()
    with pytest.raises(RestrictViolation), conn.transaction():
        conn.execute(statement)
    assert conn.execute(counts).fetchone() == before


def test_a_story_goes_with_its_job(conn, owner):
    factories.make_job(conn, user=owner)
    conn.execute("DELETE FROM batches")
    assert conn.execute("SELECT count(*) FROM job_events").fetchone() == (0,)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(
            "INSERT INTO job_events (job_id, to_status) VALUES (gen_random_uuid(), 'held')"
        )
