"""Reading jobs: batch pages, places in the queue; and what claims look at."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import factories

from i2i.queries import batches, breaker, jobs

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes):
    return START + timedelta(minutes=minutes)


def test_what_is_in_the_trash_is_on_no_page(conn, owner):
    job = factories.make_job(conn, user=owner, status="completed")
    conn.execute("UPDATE processing_jobs SET deleted_at = now()")
    assert jobs.list_cards(conn, batch_id=job.batch_id, user_id=owner.id) == []
    assert jobs.find_card(conn, job_id=job.id, user_id=owner.id) is None


def test_a_batchs_cards_stand_in_order(conn, owner, other):
    photos = [factories.make_image(conn, user=owner) for _ in range(3)]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    cards = jobs.list_cards(conn, batch_id=batch.id, user_id=owner.id)
    assert [card.id for card in cards] == [job.id for job in factories.jobs_of(conn, batch)]
    assert jobs.list_cards(conn, batch_id=batch.id, user_id=other.id) == []


def test_every_visible_change_moves_a_batchs_version(conn, owner):
    batch = factories.make_batch(conn, user=owner, statuses=["held"])
    (job,) = factories.jobs_of(conn, batch)
    seen = [batches.find_version(conn, batch_id=batch.id, user_id=owner.id).revision]

    def grown():
        seen.append(batches.find_version(conn, batch_id=batch.id, user_id=owner.id).revision)
        return seen[-1] > seen[-2]

    jobs.release(conn, batch_id=batch.id, user_id=owner.id)
    assert grown()
    fence = factories.claim(conn, job)
    assert grown()
    jobs.renew_lease(conn, job_id=job.id, fence=fence, lease_seconds=45)
    assert not grown()
    jobs.fail(conn, job_id=job.id, fence=fence, error_code="x", error_message="No.")
    assert grown()


def test_an_empty_batch_has_a_version_too(conn, owner, other):
    batch = factories.make_batch(conn, user=owner)
    conn.execute("DELETE FROM processing_jobs WHERE batch_id = %s", [batch.id])
    assert batches.find_version(conn, batch_id=batch.id, user_id=owner.id).revision == 0
    assert batches.find_version(conn, batch_id=batch.id, user_id=other.id) is None


def test_counts(conn, owner, other):
    for status in ("pending", "submitting", "processing", "storing", "completed"):
        factories.make_job(conn, user=owner, status=status)
    factories.make_job(conn, user=other)
    counts = {row.status: row.count for row in jobs.count_statuses(conn)}
    assert counts == {"pending": 2, "submitting": 1, "processing": 1, "storing": 1, "completed": 1}
    assert jobs.count_in_flight(conn).count == 2
    (look,) = jobs.claim_fal(conn, status="processing", page_size=9, lease_seconds=45)
    assert look.in_flight == 2
    assert jobs.count_of_workflow(conn, workflow_name="basic-v1").count == 6
    assert len(jobs.list_newest(conn, page_size=20, user_id=owner.id)) == 5
    assert len(jobs.list_newest(conn, page_size=20, status="pending")) == 2


def test_the_batch_that_works(conn, owner, other):
    assert breaker.find_for_bar(conn, user_id=owner.id).working_batch_id is None
    factories.make_job(conn, user=owner, status="completed", created_at=at(9))
    older = factories.make_job(conn, user=owner, created_at=at(1))
    newer = factories.make_job(conn, user=owner, status="processing", created_at=at(2))
    assert breaker.find_for_bar(conn, user_id=owner.id).working_batch_id == newer.batch_id
    jobs.cancel_waiting(conn, user_id=owner.id)
    assert breaker.find_for_bar(conn, user_id=owner.id).working_batch_id == newer.batch_id
    assert older.batch_id != newer.batch_id
    assert breaker.find_for_bar(conn, user_id=other.id).working_batch_id is None


def test_a_claim_takes_what_is_due_and_free(conn, owner):
    job = factories.make_job(conn, user=owner, status="processing")

    def claim(seconds):
        now = conn.execute("SELECT now() + make_interval(secs => %s)", [seconds]).fetchone()[0]
        return jobs.claim_fal(conn, status="processing", page_size=5, lease_seconds=45, now=now)

    conn.execute("UPDATE processing_jobs SET run_after = now() + interval '10 seconds'")
    assert claim(9) == []
    (task,) = claim(10)
    assert (task.id, task.crashes) == (job.id, 0)
    assert task.waited_seconds == 10
    assert claim(50) == [], "leased"
    (again,) = claim(60)
    assert (again.fence, again.crashes) == (task.fence + 1, 1), "a lease that ran out is a crash"
    assert jobs.postpone(conn, job_id=job.id, fence=task.fence, delay_seconds=1) == 0
    assert jobs.postpone(conn, job_id=job.id, fence=again.fence, delay_seconds=1) == 1
    assert jobs.claim_fal(conn, status="storing", page_size=5, lease_seconds=45) == []


def test_what_crashed_its_worker_is_sent_after_the_rest_and_alone(conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(4)]
    worst, first, second, third = factories.jobs_of(
        conn, factories.make_batch(conn, user=owner, photos=photos)
    )
    conn.execute("UPDATE processing_jobs SET crashes = 1 WHERE id = %s", [first.id])
    conn.execute("UPDATE processing_jobs SET crashes = 2 WHERE id = %s", [worst.id])
    assert [row.id for row in jobs.list_places(conn, user_id=owner.id)] == [
        second.id,
        third.id,
        first.id,
        worst.id,
    ]

    def claim():
        claimed = jobs.claim_send(conn, lease_seconds=45, max_in_flight=9, max_per_user=None)
        return claimed and claimed.id

    assert [claim() for _ in range(4)] == [second.id, third.id, first.id, None]
    jobs.accept(conn, job_id=first.id, fal_job_id="accepted", delay_seconds=0)
    assert claim() == worst.id


def test_the_next_due_is_the_soonest_of_all(conn, owner):
    assert jobs.find_due(conn).seconds is None
    factories.make_job(conn, user=owner)
    assert jobs.find_due(conn).seconds is None, "it waits for a place, not for time"
    conn.execute("UPDATE processing_jobs SET run_after = now() + interval '50 seconds'")
    assert jobs.find_due(conn).seconds == 50
    factories.make_image(conn, user=owner, status="preparing")
    conn.execute(
        "UPDATE images SET lease_until = now() + interval '20 s' WHERE status = 'preparing'"
    )
    assert jobs.find_due(conn).seconds == 20
    processing = factories.make_job(conn, user=owner, status="processing")
    conn.execute(
        "UPDATE processing_jobs SET run_after = now() + interval '7 s' WHERE id = %s",
        [processing.id],
    )
    assert jobs.find_due(conn).seconds == 7


def test_places_are_the_order_of_sending(conn, owner, other, admin):
    """Whoever is told to be third is third, with others in line and in flight."""
    factories.make_job(conn, user=owner, status="processing", created_at=at(0))
    for user, minutes in [(owner, 1), (other, 2), (admin, 3)]:
        photos = [factories.make_image(conn, user=user) for _ in range(3)]
        factories.make_batch(conn, user=user, photos=photos, created_at=at(minutes))
    factories.make_job(conn, user=owner, status="held")
    told = {
        place.id: place
        for user in (owner, other, admin)
        for place in jobs.list_places(conn, user_id=user.id)
    }
    assert {place.in_flight for place in told.values()} == {1}
    assert {place.paused for place in told.values()} == {False}
    sent = []
    while task := jobs.claim_send(conn, lease_seconds=45, max_in_flight=99, max_per_user=None):
        sent.append(task.id)
    assert [told[job_id].place for job_id in sent] == list(range(1, 10))
    assert jobs.list_places(conn, user_id=owner.id) == []


def test_what_can_be_claimed_is_known_in_one_question(conn, owner):
    nothing = {"expired", "callbacks", "late", "account", "pending", "photos"}

    def due(**later):
        found = asdict(jobs.find_due(conn, now=datetime.now(UTC) + timedelta(**later)))
        return found.pop("looks"), {name for name in nothing if found[name]}

    assert due() == ([], set())
    for status in ("storing", "processing", "unknown"):
        factories.make_job(conn, user=owner, status=status)
    assert due(minutes=5) == (["storing", "processing", "unknown"], set())
    jobs.claim_fal(conn, status="processing", page_size=1, lease_seconds=45)
    assert due(seconds=5)[0] == ["storing", "unknown"], "leased"
    assert due(seconds=50)[0] == ["storing", "processing", "unknown"], "its worker vanished"
    job = factories.make_job(conn, user=owner)
    assert due()[1] == {"pending"}
    factories.claim(conn, job)
    assert due()[1] == set()
    assert due(minutes=5)[1] == {"expired"}
    factories.make_image(conn, user=owner, status="preparing")
    assert due()[1] == {"photos"}
    breaker.trip(conn, reason="balance")
    assert due()[1] == {"photos"}
    assert due(seconds=61)[1] == {"photos", "account", "expired"}
