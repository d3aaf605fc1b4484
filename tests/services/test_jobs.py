"""Transitions that people ask for, and who may ask. The worker's own are in tests/test_worker.py."""

from types import SimpleNamespace

import factories
import pytest

from i2i.errors import FalGone, FalNotSent, FalRejected, NotFound, Refused
from i2i.gateways.fal import request_urls
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
def test_what_can_be_run_again(conn, settings, owner, job_in, status):
    job = job_in(status)
    if status in {"failed", "cancelled"}:
        service.retry(conn, settings, job_id=job.id, user_id=owner.id)
        again = jobs.find(conn, job_id=job.id)
        assert (again.status, again.error_code, again.error_message) == ("pending", None, None)
        assert (again.fal_job_id, again.completed_at, again.crashes) == (None, None, 0)
        assert again.workflow_version_id == job.workflow_version_id
    else:
        with pytest.raises(Refused):
            service.retry(conn, settings, job_id=job.id, user_id=owner.id)
        assert jobs.find(conn, job_id=job.id) == job


def test_a_photo_that_cannot_be_read_is_not_run_again(conn, settings, owner):
    photo = factories.make_image(conn, user=owner, status="preparing")
    job = factories.make_job(conn, user=owner, image=photo)
    images.reject(conn, image_id=photo.id, fence=0, rejection="Not readable.")
    jobs.fail_of_image(conn, image_id=photo.id, error_code="unreadable", error_message="No.")
    with pytest.raises(Refused, match="could be read"):
        service.retry(conn, settings, job_id=job.id, user_id=owner.id)
    assert status_of(conn, job) == "failed"


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_nobody_touches_the_jobs_of_others(conn, settings, other, job_in, status):
    job = job_in(status)
    for act in (service.cancel, service.look_again, service.give_up):
        with pytest.raises(Refused):
            act(conn, job_id=job.id, user_id=other.id)
    for act in (service.retry, service.send_again):
        with pytest.raises(Refused):
            act(conn, settings, job_id=job.id, user_id=other.id)
    with pytest.raises(NotFound, match="It does not exist"):
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
        **dict.fromkeys(["held", "pending", "cancelled", "submitting", "failed"], "no"),
        **dict.fromkeys(["processing", "storing", "unknown"], "unknown"),
        "completed": "yes",
    }
    assert card.charged == charged[status]
    assert (card.result_image_id is not None) == (status == "completed")


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
    assert (card.cost, card.charged) == (3, "yes"), "what was paid once stays paid"
    spending = submissions.spending_of_batch(conn, batch_id=job.batch_id)
    assert (spending.pictures, spending.charged, spending.perhaps) == (2, 3, 0)


def test_the_next_look_is_sooner_for_the_first_in_line():
    for _ in range(50):
        assert 0.9 <= service.poll_delay(in_flight=1, queue_position=None) <= 1.1
        assert 9 <= service.poll_delay(in_flight=5000, queue_position=0) <= 11
        assert 27 <= service.poll_delay(in_flight=5000, queue_position=7) <= 33
        assert 0.9 <= service.poll_delay(in_flight=1, queue_position=2) <= 1.1
        assert 3.6 <= service.poll_delay(in_flight=1, queue_position=40) <= 4.4
        assert 27 <= service.poll_delay(in_flight=1, queue_position=900) <= 33
        assert 1.5 <= service.back_off(0) <= 2.5
        assert service.back_off(1000) <= 375


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_only_a_lost_answer_is_looked_for_again(conn, owner, job_in, status):
    job = job_in(status)
    conn.execute("UPDATE processing_jobs SET run_after = now() + interval '1 hour'")
    if status == "unknown":
        service.look_again(conn, job_id=job.id, user_id=owner.id)
        assert jobs.find_due(conn).seconds is None, "due at once"
    else:
        with pytest.raises(Refused):
            service.look_again(conn, job_id=job.id, user_id=owner.id)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_person_decides_only_about_a_lost_answer(conn, settings, owner, job_in, status):
    job = job_in(status)
    for act, args, after in [
        (service.send_again, [settings], "pending"),
        (service.give_up, [], "failed"),
    ]:
        with conn.transaction(force_rollback=True):
            if status != "unknown":
                with pytest.raises(Refused):
                    act(conn, *args, job_id=job.id, user_id=owner.id)
                assert jobs.find(conn, job_id=job.id) == job
                continue
            act(conn, *args, job_id=job.id, user_id=owner.id)
            moved = jobs.find(conn, job_id=job.id)
            assert (moved.status, moved.attention, moved.fence) == (after, None, job.fence + 1)
            (submission,) = submissions.list_of_job(conn, job_id=job.id)
            assert (submission.state, submission.outcome) == ("settled", "expired")
            assert submission.charged == "unknown"
            card = service.get_card(conn, job_id=job.id, user_id=owner.id)
            assert card.charged == "unknown"
            with pytest.raises(Refused):
                act(conn, *args, job_id=job.id, user_id=owner.id)


def test_what_was_given_up_is_looked_for_a_day(conn, owner, job_in):
    job = job_in("unknown")
    service.give_up(conn, job_id=job.id, user_id=owner.id)
    assert service.get_card(conn, job_id=job.id, user_id=owner.id).error_code == "given_up"
    due, until = conn.execute(
        "SELECT look_after <= now(), look_until - now() FROM submissions"
    ).fetchone()
    assert (due, until.total_seconds()) == (True, 86_400)


def test_what_was_given_up_late_is_looked_for_a_day_too(conn, owner, job_in):
    job = job_in("unknown")
    conn.execute("UPDATE submissions SET sent_at = now() - interval '2 days'")
    service.give_up(conn, job_id=job.id, user_id=owner.id)
    (left,) = conn.execute("SELECT look_until - now() FROM submissions").fetchone()
    assert left.total_seconds() == 86_400


def test_an_id_that_is_anothers_is_not_taken(conn, settings, owner, job_in, caplog):
    """Neither for a request without an answer, nor for one that was given up."""
    known, lost, given_up = (job_in(status) for status in ("completed", "unknown", "unknown"))
    service.give_up(conn, job_id=given_up.id, user_id=owner.id)
    (submission,) = submissions.list_of_job(conn, job_id=known.id)
    urls = request_urls(settings, submission.endpoint, submission.request_id)
    for job in (lost, given_up):
        (mine,) = submissions.list_of_job(conn, job_id=job.id)
        assert not service.accept(conn, job_id=job.id, token=mine.token, accepted=urls)
        service.find_late(conn, token=mine.token, accepted=urls)
        assert submissions.list_of_job(conn, job_id=job.id) == [mine]
    assert (status_of(conn, lost), status_of(conn, given_up)) == ("unknown", "failed")
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert "another submission" in caplog.text


def test_a_look_that_began_before_the_decision_changes_nothing(conn, settings, owner, job_in):
    job = job_in("unknown")
    (task,) = jobs.claim_fal(conn, status="unknown", page_size=1, lease_seconds=45)
    service.send_again(conn, settings, job_id=job.id, user_id=owner.id)
    service.prove_absent(conn, task=task)
    assert jobs.postpone(conn, job_id=job.id, fence=task.fence, delay_seconds=1) == 0
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    assert (status_of(conn, job), submission.state) == ("pending", "settled")


def test_what_fal_gave_an_id_for_is_never_proven_absent(conn, owner, job_in):
    job = job_in("processing")
    (task,) = jobs.claim_fal(conn, status="processing", page_size=1, lease_seconds=45)
    service.lose_accepted(conn, task=task, error=FalGone("gone", http_status=404))
    conn.execute("UPDATE processing_jobs SET run_after = now()")
    (task,) = jobs.claim_fal(conn, status="unknown", page_size=1, lease_seconds=45)
    assert task.request_id is not None
    service.prove_absent(conn, task=task)
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    assert (status_of(conn, job), submission.state) == ("unknown", "unknown")


def test_what_ends_cancelled_asks_for_no_attention(conn, owner, job_in):
    job = job_in("submitting")
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    service.cancel(conn, job_id=job.id, user_id=owner.id)
    service.give_back(
        conn,
        task=SimpleNamespace(id=job.id),
        token=submission.token,
        error=FalNotSent("no disk"),
        delay_seconds=60,
        attention="This photo cannot be read just now.",
    )
    ended = jobs.find(conn, job_id=job.id)
    assert (ended.status, ended.attention) == ("cancelled", None)


def test_a_fourth_try_is_as_good_as_the_second(conn, settings, owner, job_in):
    job = job_in("failed")
    for number in range(2, 6):
        service.retry(conn, settings, job_id=job.id, user_id=owner.id)
        factories.claim(conn, job)
        token = factories.make_submission(conn, job=job, user=owner, state="sent")
        conn.execute(
            "UPDATE submissions SET created_at = created_at + %s * interval '1 s' WHERE token = %s",
            [number, token],
        )
        error = FalRejected("no", http_status=422, error_type="value_error")
        task = SimpleNamespace(id=job.id)
        service.refuse(conn, task=task, token=token, error=error)
        assert status_of(conn, job) == "failed"
        assert len(submissions.list_of_job(conn, job_id=job.id)) == number
    card = service.get_card(conn, job_id=job.id, user_id=owner.id)
    assert (card.charged, card.cost, card.perhaps) == ("no", None, None)


def test_a_card_says_what_may_have_been_charged_besides(conn, owner, job_in):
    job = job_in("unknown")
    conn.execute("UPDATE submissions SET estimate = 0.5")
    card = service.get_card(conn, job_id=job.id, user_id=owner.id)
    assert (card.charged, card.cost, float(card.perhaps)) == ("unknown", None, 0.5)
    service.give_up(conn, job_id=job.id, user_id=owner.id)
    token = factories.make_submission(conn, job=job, user=owner, state="accepted")
    submissions.save_outputs(conn, token=token, output_urls=["https://x"], cost=2)
    submissions.settle(conn, token=token, outcome="picture", charged="yes")
    card = service.get_card(conn, job_id=job.id, user_id=owner.id)
    assert (card.charged, card.cost, float(card.perhaps)) == ("yes", 2, 0.5)
