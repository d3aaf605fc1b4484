"""What a filter of the history finds, whichever query answers it."""

from datetime import UTC, datetime, timedelta
from functools import partial

import factories
import pytest

from i2i.queries import jobs
from i2i.services import history
from i2i.services.history import Filter

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes):
    return START + timedelta(minutes=minutes)


@pytest.fixture
def made(conn, owner, other):
    """Name to job: one in each state that filters tell apart, and somebody else's."""
    wanted = [
        ("Coat 1.jpg", "pending", None),
        ("coat 2.jpg", "failed", None),
        ("100%_wool.jpg", "completed", None),
        ("tee.jpg", "completed", "approved"),
        ("shirt.jpg", "completed", "rejected"),
        ("gone.jpg", "completed", "approved"),
    ]
    factories.make_job(conn, user=other, status="completed")
    second = factories.make_workflow(conn, id="second-v1")
    found = {}
    for number, (name, status, verdict) in enumerate(wanted):
        image = factories.make_image(conn, user=owner, name=name)
        job = factories.make_job(
            conn,
            user=owner,
            image=image,
            status=status,
            workflow=second if name == "tee.jpg" else None,
            created_at=at(number),
        )
        if verdict:
            jobs.judge(conn, job_id=job.id, user_id=owner.id, verdict=verdict, reason=None, note="")
        found[name] = job
    conn.execute(
        "UPDATE processing_jobs SET deleted_at = now() WHERE id = %s", [found["gone.jpg"].id]
    )
    return found


ALL = ["shirt.jpg", "tee.jpg", "100%_wool.jpg", "coat 2.jpg", "Coat 1.jpg"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ALL),
        ({"q": "COAT"}, ["coat 2.jpg", "Coat 1.jpg"]),
        ({"q": "%"}, ["100%_wool.jpg"]),
        ({"q": "_"}, ["100%_wool.jpg"]),
        ({"q": "coat", "statuses": ["failed"]}, ["coat 2.jpg"]),
        ({"q": "t", "verdict": "approved", "workflow": "second-v1"}, ["tee.jpg"]),
        ({"statuses": ["failed"]}, ["coat 2.jpg"]),
        ({"statuses": ["failed", "completed"]}, ALL[:4]),
        ({"workflow": "basic-v1"}, [name for name in ALL if name != "tee.jpg"]),
        ({"workflow": "other"}, []),
        ({"verdict": "none"}, ["100%_wool.jpg"]),
        ({"verdict": "approved"}, ["tee.jpg"]),
        ({"verdict": "rejected"}, ["shirt.jpg"]),
        ({"verdict": "none", "workflow": "second-v1"}, []),
        ({"verdict": "approved", "statuses": ["completed"]}, ["tee.jpg"]),
        ({"workflow": "basic-v1", "statuses": ["failed"]}, ["coat 2.jpg"]),
        ({"created_from": at(3)}, ["shirt.jpg", "tee.jpg"]),
        ({"created_to": at(1)}, ["Coat 1.jpg"]),
        ({"verdict": "approved", "created_to": at(1)}, []),
        ({"workflow": "basic-v1", "created_from": at(1), "created_to": at(2)}, ["coat 2.jpg"]),
    ],
)
def test_a_filter_finds_the_same_in_both_views(conn, owner, made, filters, names):
    chosen = Filter(user_id=owner.id, **filters)
    page = history.page(conn, chosen, page_size=24)
    assert [card.original_filename for card in page] == names
    assert history.pick(conn, chosen) == [made[name].id for name in names]
    assert history.count(conn, chosen) == len(names)
    batches = history.page_batches(conn, chosen, page_size=24)
    assert [batch.id for batch in batches] == [made[name].batch_id for name in names]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"workflow": "basic-v1"},
        {"verdict": "none"},
        {"q": "coat"},
        {"workflow": "basic-v1", "verdict": "none"},
    ],
)
def test_every_way_is_turned_over_page_by_page(conn, owner, filters):
    """Nine pictures, of which three share an instant."""
    photo = factories.make_image(conn, user=owner, name="coat.jpg")
    make = partial(factories.make_job, conn, user=owner, image=photo, status="completed")
    made = [make(created_at=at(0 if number < 3 else number)) for number in range(9)]
    chosen = Filter(user_id=owner.id, **filters)
    for turn in (history.page, history.page_batches):
        seen, last = [], None
        while page := turn(conn, chosen, page_size=2, after=last):
            seen += page
            last = page[-1].created_at, page[-1].id
        order = [(row.created_at, row.id) for row in seen]
        assert len(order) == 9
        assert order == sorted(order, reverse=True)
    assert len(history.pick(conn, chosen)) == len(made)


def test_more_than_can_be_counted_is_said_to_be_more(conn, owner, monkeypatch):
    monkeypatch.setattr(history, "MOST_COUNTED", 2)
    for _ in range(4):
        factories.make_job(conn, user=owner)
    assert history.count(conn, Filter(user_id=owner.id)) == 3


def test_a_batch_is_counted_without_what_is_in_the_trash(conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(2)]
    batch = factories.make_batch(
        conn, user=owner, photos=photos, variations=3, statuses=["pending"] * 5 + ["held"]
    )
    first, second, third, *_ = factories.jobs_of(conn, batch)
    factories.move(conn, first, user=owner, status="completed")
    factories.move(conn, second, user=owner, status="failed")
    factories.move(conn, third, user=owner, status="completed")
    conn.execute("UPDATE processing_jobs SET deleted_at = now() WHERE id = %s", [third.id])
    (row,) = history.page_batches(conn, Filter(user_id=owner.id), page_size=24)
    counts = (row.photos, row.pictures, row.completed, row.failed, row.moving, row.held)
    assert counts == (2, 5, 1, 1, 2, 1)
    assert row.image_ids == [
        jobs.find(conn, job_id=first.id).result_image_id,
        photos[0].id,
        photos[1].id,
        photos[1].id,
    ]
