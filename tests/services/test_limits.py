"""How many pictures may be made today: exactly the limit, however many ask at once."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import factories
import psycopg
import pytest

from i2i.errors import InvalidFields, Refused
from i2i.queries import jobs, submissions
from i2i.services import batches, limits
from i2i.services import jobs as job_service
from i2i.services.batches import Order


@pytest.fixture
def limited(make_settings):
    def make(*, everybody=1000, each=1000, **environ):
        return make_settings(
            DAILY_PICTURES=str(everybody), DAILY_PICTURES_PER_USER=str(each), **environ
        )

    return make


def order_of(user, photos, **changes):
    usual = {
        "user_id": user.id,
        "workflow_id": "basic-v1",
        "image_ids": [photo.id for photo in photos],
        "reference_ids": [],
        "parameters": {"setting": "outdoor", "seed": 10},
        "variations": 1,
        "pilot": 0,
        "client_key": secrets.token_hex(8),
    }
    return Order(**usual | changes)


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        *((status, 1) for status in ("held", "pending", "submitting", "processing", "storing")),
        *((status, 1) for status in ("unknown", "completed")),
        *((status, 0) for status in ("failed", "cancelled")),
    ],
)
def test_what_counts(conn, limited, owner, other, status, counts):
    factories.make_job(conn, user=owner, status=status)
    assert submissions.count_today(conn, user_id=owner.id).count == counts
    assert submissions.count_today(conn).count == counts
    assert submissions.count_today(conn, user_id=other.id).count == 0
    assert limits.left_today(conn, limited(each=5), user_id=owner.id) == 5 - counts
    assert limits.left_today(conn, limited(everybody=3), user_id=other.id) == 3 - counts


def test_what_is_just_leaving_counts_once(conn, owner):
    job = factories.make_job(conn, user=owner, status="submitting")
    (submission,) = submissions.list_of_job(conn, job_id=job.id)
    factories.send(conn, submission.token)
    assert submissions.count_today(conn).count == 1


@pytest.mark.parametrize(("seconds", "counts"), [(-1, 0), (0, 1)])
def test_a_day_is_one_of_utc(conn, owner, seconds, counts):
    factories.make_job(conn, user=owner, status="completed")
    conn.execute("SET LOCAL TimeZone = 'Pacific/Auckland'")
    conn.execute(
        "UPDATE submissions SET sent_at = date_trunc('day', now() AT TIME ZONE 'UTC')"
        " AT TIME ZONE 'UTC' + make_interval(secs => %s)",
        [seconds],
    )
    assert submissions.count_today(conn).count == counts


def test_what_waits_counts_whenever_it_was_asked_for(conn, owner):
    factories.make_job(conn, user=owner)
    conn.execute("UPDATE processing_jobs SET created_at = now() - interval '3 days'")
    assert submissions.count_today(conn, user_id=owner.id).count == 1


@pytest.mark.parametrize("limit", ["everybody", "each"])
def test_more_than_is_left_is_refused_with_the_number(conn, limited, owner, limit):
    factories.make_workflow(conn)
    photos = [factories.make_image(conn, user=owner) for _ in range(3)]
    settings = limited(**{limit: 5})
    batches.create(conn, settings, order=order_of(owner, photos))
    with pytest.raises(InvalidFields) as refused:
        batches.create(conn, settings, order=order_of(owner, photos))
    sentence = refused.value.fields["variations"]
    assert sentence.startswith("Only 2 more pictures may be made today.")
    assert "Nothing was sent or charged" in sentence
    batches.create(conn, settings, order=order_of(owner, photos[:2]))
    assert limits.left_today(conn, settings, user_id=owner.id) == 0


BOTH = (
    "2,000 pictures are more than the 200 that one batch may have. "
    "60 more pictures may be made today."
)


@pytest.mark.parametrize(
    ("one_batch", "sentence"),
    [("200", BOTH), ("5000", "Only 60 more pictures may be made today.")],
)
def test_five_hundred_photos_times_four_are_refused_with_what_is_left(
    conn, limited, owner, one_batch, sentence
):
    factories.make_workflow(conn)
    photos = [factories.make_image(conn, user=owner) for _ in range(500)]
    settings = limited(everybody=500, each=200, MAX_JOBS_PER_BATCH=one_batch)
    factories.make_batch(conn, user=owner, photos=photos[:140])
    with pytest.raises(InvalidFields) as refused:
        batches.create(conn, settings, order=order_of(owner, photos, variations=4))
    assert refused.value.fields.keys() == {"variations"}
    assert refused.value.fields["variations"].startswith(sentence)
    assert "Nothing was sent or charged." in refused.value.fields["variations"]
    assert submissions.count_today(conn).count == 140


def test_the_last_one_is_one(conn, limited, owner):
    factories.make_workflow(conn)
    photos = [factories.make_image(conn, user=owner) for _ in range(2)]
    with pytest.raises(InvalidFields, match="Only 1 more picture may be made today"):
        batches.create(conn, limited(each=1), order=order_of(owner, photos))


def test_a_click_that_was_accepted_is_answered_at_the_limit(conn, limited, owner):
    factories.make_workflow(conn)
    settings = limited(each=1)
    wish = order_of(owner, [factories.make_image(conn, user=owner)])
    first = batches.create(conn, settings, order=wish)
    assert batches.create(conn, settings, order=wish) == first


def test_running_again_counts(conn, limited, owner):
    full, room = limited(each=1), limited(each=2)
    factories.make_job(conn, user=owner)
    failed = factories.make_job(conn, user=owner, status="failed")
    with pytest.raises(Refused, match="No more pictures"):
        job_service.retry(conn, full, job_id=failed.id, user_id=owner.id)
    with pytest.raises(Refused, match="So many pictures may not be made today"):
        batches.retry(conn, full, batch_id=failed.batch_id, user_id=owner.id)
    assert jobs.find(conn, job_id=failed.id) == failed
    started = batches.retry(conn, room, batch_id=failed.batch_id, user_id=owner.id)
    assert started == failed.batch_id
    assert limits.left_today(conn, room, user_id=owner.id) == 0


def test_sending_again_counts_both(conn, limited, owner):
    job = factories.make_job(conn, user=owner, status="unknown")
    with pytest.raises(Refused, match="No more pictures"):
        job_service.send_again(conn, limited(each=1), job_id=job.id, user_id=owner.id)
    assert jobs.find(conn, job_id=job.id) == job
    job_service.send_again(conn, limited(each=2), job_id=job.id, user_id=owner.id)
    assert submissions.count_today(conn, user_id=owner.id).count == 2


def at_once(database, acts):
    """Runs each act on a connection of its own, all together; their answers or errors."""
    start = Barrier(len(acts))

    def run(act):
        with psycopg.connect(database, autocommit=True) as mine:
            start.wait()
            try:
                return act(mine)
            except (InvalidFields, Refused) as error:
                return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


@pytest.mark.parametrize(("limit", "most"), [("each", 14), ("everybody", 11)])
def test_twenty_at_once_make_exactly_the_limit(database, limited, limit, most):
    settings = limited(**{limit: most})
    with psycopg.connect(database, autocommit=True) as conn:
        users = [factories.make_user(conn) for _ in range(1 if limit == "each" else 4)]
        factories.make_workflow(conn)
        orders = []
        for number in range(20):
            user = users[number % len(users)]
            orders.append(order_of(user, [factories.make_image(conn, user=user)]))
        answers = at_once(
            database,
            [lambda mine, wish=wish: batches.create(mine, settings, order=wish) for wish in orders],
        )
        refused = [answer for answer in answers if isinstance(answer, InvalidFields)]
        assert len(refused) == 20 - most
        assert submissions.count_today(conn).count == most
        assert conn.execute("SELECT count(*) FROM batches").fetchone() == (most,)


def test_one_click_sent_ten_times_at_once_is_one_batch_at_the_limit(database, limited):
    settings = limited(each=1)
    with psycopg.connect(database, autocommit=True) as conn:
        user = factories.make_user(conn)
        factories.make_workflow(conn)
        wish = order_of(user, [factories.make_image(conn, user=user)])
    answers = at_once(
        database, [lambda mine: batches.create(mine, settings, order=wish) for _ in range(10)]
    )
    assert len(set(answers)) == 1, "all are answered with the one batch"


def test_running_again_in_two_ways_at_once_neither_blocks_nor_doubles(database, limited):
    settings = limited(each=1)
    with psycopg.connect(database, autocommit=True) as conn:
        user = factories.make_user(conn)
        failed = factories.make_job(conn, user=user, status="failed")

        def one(mine):
            return job_service.retry(mine, settings, job_id=failed.id, user_id=user.id) or 1

        def all_of_it(mine):
            return batches.retry(mine, settings, batch_id=failed.batch_id, user_id=user.id) and 1

        answers = at_once(database, [one, all_of_it] * 5)
        assert sum(answer == 1 for answer in answers) == 1
        assert submissions.count_today(conn).count == 1
