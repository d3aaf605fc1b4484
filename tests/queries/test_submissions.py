"""The ledger's states, and what is counted from it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import factories
import pytest

from i2i.queries import submissions, users

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def job(conn, owner):
    return factories.make_job(conn, user=owner)


def state_of(conn, job):
    return [each.state for each in submissions.list_of_job(conn, job_id=job.id)]


def attempts(conn, token):
    """Every transition that may be tried on a submission."""
    return {
        "mark_sent": lambda: submissions.mark_sent(
            conn, token=token, arguments={"prompt": "y"}, estimate=Decimal(1)
        ),
        "accept": lambda: submissions.accept(
            conn, token=token, request_id="r", status_url="s", response_url="r", cancel_url="c"
        ),
        "reject": lambda: submissions.reject(
            conn, token=token, http_status=422, error_type=None, detail="no"
        ),
        "abandon": lambda: submissions.abandon(conn, token=token, detail="never left"),
        "prove_absent": lambda: submissions.prove_absent(conn, token=token, detail="not there"),
        "lose_answer": lambda: submissions.lose_answer(
            conn, token=token, http_status=None, detail="lost"
        ),
        "save_outputs": lambda: submissions.save_outputs(
            conn, token=token, output_urls=["https://x"], cost=None
        ),
        "settle": lambda: submissions.settle(conn, token=token, outcome="error", charged="no"),
    }


LEGAL = {
    "intent": {"mark_sent", "abandon"},
    "sent": {"accept", "reject", "lose_answer", "settle"},
    "unknown": {"accept", "reject", "prove_absent", "settle"},
    "accepted": {"lose_answer", "save_outputs", "settle"},
    "settled": set(),
}


@pytest.mark.parametrize("state", LEGAL)
def test_legal_transitions(conn, owner, job, state):
    first = "sent" if state == "unknown" else state
    token = factories.make_submission(conn, job=job, user=owner, state=first)
    if state == "unknown":
        submissions.lose_answer(conn, token=token, http_status=None, detail="lost")
    worked = set()
    for name, attempt in attempts(conn, token).items():
        with conn.transaction(force_rollback=True):
            if attempt():
                worked.add(name)
    assert worked == LEGAL[state]
    assert state_of(conn, job) == [state]


def test_witnesses_were_sent_later_to_the_same_place_and_arrived(conn, owner):
    def sent(minute, state="accepted", endpoint="fal-ai/qwen-image-edit-2511"):
        made = factories.make_job(conn, user=owner)
        token = factories.make_submission(conn, job=made, user=owner, state=state)
        conn.execute(
            "UPDATE submissions SET sent_at = %s, endpoint = %s WHERE token = %s",
            [LONG_AGO + timedelta(minutes=minute), endpoint, token],
        )
        return token

    mine = sent(5, state="sent")
    sent(4)
    sent(6, endpoint="fal-ai/other")
    sent(7, state="sent")
    later, last = sent(8), sent(9, state="settled")
    assert submissions.list_later_tokens(conn, token=mine).tokens == [later, last]


def test_spending(conn, owner, other):
    def settle(user, charged, cost):
        made = factories.make_job(conn, user=user)
        token = factories.make_submission(conn, job=made, user=user, state="accepted")
        submissions.save_outputs(conn, token=token, output_urls=["https://x"], cost=cost)
        submissions.settle(conn, token=token, outcome="picture", charged=charged)
        return made

    job = settle(owner, "yes", Decimal("0.2"))
    settle(owner, "no", None)
    settle(owner, "unknown", None)
    settle(other, "yes", Decimal("0.3"))
    factories.make_job(conn, user=owner, status="failed")
    factories.make_job(conn, user=owner, status="unknown")
    factories.make_job(conn, user=owner, status="submitting")

    of_all = submissions.spending_since(conn, since=LONG_AGO)
    assert (of_all.pictures, of_all.charged, of_all.perhaps) == (5, Decimal("0.5"), 2)
    of_owner = submissions.spending_since(conn, since=LONG_AGO, user_id=owner.id)
    assert (of_owner.pictures, of_owner.charged, of_owner.perhaps) == (4, Decimal("0.2"), 2)
    future = datetime.now(UTC) + timedelta(hours=1)
    assert submissions.spending_since(conn, since=future).pictures == 0
    assert submissions.spending_of_batch(conn, batch_id=job.batch_id).charged == Decimal("0.2")
    assert users.statistics(conn, user_id=owner.id).charged == Decimal("0.2")


def test_statistics_of_a_user(conn, owner, other):
    for status in ("completed", "failed", "pending"):
        factories.make_job(conn, user=owner, status=status)
    factories.make_job(conn, user=other)
    statistics = users.statistics(conn, user_id=owner.id)
    assert (statistics.uploads, statistics.pictures) == (3, 1)
    assert (statistics.jobs, statistics.failed) == (3, 1)
    assert statistics.stored_bytes > 1000
