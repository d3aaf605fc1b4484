"""Transitions that people ask for, and who may ask. The worker's own are in tests/test_worker.py."""

import factories
import pytest

from i2i.errors import FalError, FalRejected, NotFound, Refused
from i2i.queries import images, jobs, submissions
from i2i.services import jobs as service

STATUSES = {
    *("held", "pending", "submitting", "processing", "storing", "unknown"),
    *("completed", "failed", "cancelled"),
}


@pytest.fixture
def job_in(conn, owner):
    def make(status):
        return factories.make_job(conn, user=owner, status=status)

    return make


def status_of(conn, job):
    return jobs.find(conn, job_id=job.id).status


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_what_can_be_cancelled(conn, owner, job_in, status):
    job = job_in(status)
    if status in {"held", "pending"}:
        assert service.cancel(conn, job_id=job.id, user_id=owner.id) == "cancelled"
        assert status_of(conn, job) == "cancelled"
    elif status in {"submitting", "processing"}:
        assert service.cancel(conn, job_id=job.id, user_id=owner.id) == "asked"
        first = jobs.find(conn, job_id=job.id)
        assert (first.status, first.cancel_requested_at is None) == (status, False)
        assert service.cancel(conn, job_id=job.id, user_id=owner.id) == "asked"
    else:
        with pytest.raises(Refused):
            service.cancel(conn, job_id=job.id, user_id=owner.id)
        assert status_of(conn, job) == status


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_what_can_be_run_again(conn, owner, job_in, status):
    job = job_in(status)
    if status in {"failed", "cancelled"}:
        service.retry(conn, job_id=job.id, user_id=owner.id)
        again = jobs.find(conn, job_id=job.id)
        assert (again.status, again.error_code, again.error_message) == ("pending", None, None)
        assert (again.fal_job_id, again.completed_at, again.crashes) == (None, None, 0)
        assert again.workflow_version_id == job.workflow_version_id
    else:
        with pytest.raises(Refused):
            service.retry(conn, job_id=job.id, user_id=owner.id)
        assert jobs.find(conn, job_id=job.id) == job


def test_a_photo_that_cannot_be_read_is_not_run_again(conn, owner):
    photo = factories.make_image(conn, user=owner, status="preparing")
    job = factories.make_job(conn, user=owner, image=photo)
    images.reject(conn, image_id=photo.id, fence=0, rejection="Not readable.")
    jobs.fail_of_image(conn, image_id=photo.id, error_code="unreadable", error_message="No.")
    with pytest.raises(Refused, match="could be read"):
        service.retry(conn, job_id=job.id, user_id=owner.id)
    assert status_of(conn, job) == "failed"


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_nobody_touches_the_jobs_of_others(conn, other, job_in, status):
    job = job_in(status)
    for act in (service.cancel, service.retry):
        with pytest.raises(Refused):
            act(conn, job_id=job.id, user_id=other.id)
    with pytest.raises(NotFound, match="This picture does not exist"):
        service.get_card(conn, job_id=job.id, user_id=other.id)
    assert jobs.find(conn, job_id=job.id) == job


def test_operators_find_any_job(conn, owner, job_in):
    job = job_in("completed")
    assert service.get(conn, job_id=job.id) == job
    with pytest.raises(NotFound, match=f"There is no job {owner.id}"):
        service.get(conn, job_id=owner.id)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_cards_say_what_the_ledger_knows(conn, owner, job_in, status):
    card = service.get_card(conn, job_id=job_in(status).id, user_id=owner.id)
    charged = {
        **dict.fromkeys(["held", "pending", "cancelled"]),
        **dict.fromkeys(["submitting", "failed"], "no"),
        **dict.fromkeys(["processing", "storing", "unknown"], "unknown"),
        "completed": "yes",
    }
    assert card.charged == charged[status]
    assert (card.result_image_id is not None) == (status == "completed")
    assert (card.workflow_title, card.usual_seconds) == ("Basic", 20)


def test_a_card_adds_up_what_was_charged(conn, owner, job_in):
    job = job_in("pending")
    for cost in (1, 2):
        token = factories.make_submission(conn, job=job, user=owner, state="accepted")
        submissions.save_outputs(
            conn, token=token, output_urls=["https://x.fal.media/1"], cost=cost
        )
        submissions.settle(conn, token=token, outcome="picture", charged="yes")
    factories.make_submission(conn, job=job, user=owner, state="intent")
    conn.execute(
        "UPDATE submissions SET created_at = now() - '1 h'::interval WHERE cost IS NOT NULL"
    )
    card = service.get_card(conn, job_id=job.id, user_id=owner.id)
    assert (card.cost, card.charged) == (3, "no"), "the newest has not left yet"
    spending = submissions.spending_of_batch(conn, batch_id=job.batch_id)
    assert (spending.pictures, spending.charged, spending.perhaps) == (2, 3, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            FalRejected("x", http_status=422, error_type="content_policy_violation"),
            "content_policy",
        ),
        (FalRejected("x", http_status=422, error_type="image_load_error"), "unreadable"),
        (FalRejected("x", http_status=404), "endpoint_gone"),
        (FalRejected("secret words", http_status=422, error_type="value_error"), "refused"),
        (FalError("x", error_type="generation_timeout"), "no_answer"),
    ],
)
def test_errors_become_sentences(error, code):
    found, sentence = service.explain(error)
    assert found == code
    assert sentence.endswith(".")
    assert "secret" not in sentence


def test_the_next_look_is_sooner_for_the_first_in_line():
    for _ in range(50):
        assert 0.9 <= service.poll_delay(in_flight=1, queue_position=None) <= 1.1
        assert 9 <= service.poll_delay(in_flight=5000, queue_position=0) <= 11
        assert 27 <= service.poll_delay(in_flight=5000, queue_position=7) <= 33
        assert 1.5 <= service.back_off(0) <= 2.5
        assert service.back_off(1000) <= 375
