"""The trash: what goes, what comes back, what has to wait, and what stays for ever."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import factories
import pytest

from i2i.errors import NotFound, Refused
from i2i.gateways.storage import image_key
from i2i.queries import images, jobs, trash
from i2i.services import history
from i2i.services import images as image_service
from i2i.services import trash as service
from i2i.services.history import Filter

MOVING = ["submitting", "processing", "storing", "unknown"]
DONE = ["completed", "failed", "cancelled"]


@pytest.fixture
def lend(conn):
    @contextmanager
    def lend_():
        yield conn

    return lend_


@pytest.fixture
def purge(lend, storage):
    """What the worker's housekeeping does, some days later."""

    def purge_(*, later=8, **more):
        now = datetime.now(UTC) + timedelta(days=later)
        return service.purge(lend, storage, days=7, now=now, **more)

    return purge_


def throw(conn, job):
    return service.throw_away(conn, job_ids=[job.id], user_id=job.user_id)


def keep_bytes(storage, image):
    for name in (image.filename, "thumb.webp", "preview.webp"):
        path = storage.root / image_key(image.user_id, image.id, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bytes")


def exists(conn, table, row_id):
    return bool(conn.execute(f"SELECT FROM {table} WHERE id = %s", [row_id]).rowcount)


@pytest.mark.parametrize("status", [*DONE, "held", "pending"])
def test_to_the_trash_and_back(conn, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    assert throw(conn, job) == 1
    assert throw(conn, job) == 0
    assert jobs.find_card(conn, job_id=job.id, user_id=owner.id) is None
    (item,) = trash.page_newest(conn, user_id=owner.id, page_size=24)
    assert (item.is_job, item.id) == (True, job.id)
    service.restore(conn, job_id=job.id, user_id=owner.id)
    card = jobs.find_card(conn, job_id=job.id, user_id=owner.id)
    assert card.status == ("cancelled" if status in {"held", "pending"} else status)
    assert trash.page_newest(conn, user_id=owner.id, page_size=24) == []
    with pytest.raises(NotFound):
        service.restore(conn, job_id=job.id, user_id=owner.id)


@pytest.mark.parametrize("status", MOVING)
def test_what_is_being_made_stays(conn, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    with pytest.raises(Refused, match="just being made"):
        throw(conn, job)
    assert jobs.find_card(conn, job_id=job.id, user_id=owner.id).status == status


def test_nobody_elses_trash(conn, owner, other):
    job = factories.make_job(conn, user=owner, status="completed")
    assert service.throw_away(conn, job_ids=[job.id], user_id=other.id) == 0
    throw(conn, job)
    with pytest.raises(NotFound):
        service.restore(conn, job_id=job.id, user_id=other.id)
    service.restore_all(conn, user_id=other.id)
    assert trash.page_newest(conn, user_id=other.id, page_size=24) == []
    assert trash.totals(conn, user_id=owner.id).pictures == 1


def test_a_photo_hides_and_its_pictures_stay(conn, owner):
    photo = factories.make_image(conn, user=owner, name="coat.jpg")
    job = factories.make_job(conn, user=owner, status="completed", image=photo)
    images.set_deleted(conn, image_id=photo.id, user_id=owner.id, deleted=True)
    (item,) = trash.page_newest(conn, user_id=owner.id, page_size=24)
    assert (item.is_job, item.is_needed, item.original_filename) == (False, True, "coat.jpg")
    assert jobs.find_card(conn, job_id=job.id, user_id=owner.id).original_filename == "coat.jpg"
    assert image_service.get_visible(conn, image_id=photo.id, user_id=owner.id)
    throw(conn, job)
    for image_id in (photo.id, job.result_image_id):
        with pytest.raises(NotFound):
            image_service.get_visible(conn, image_id=image_id, user_id=owner.id)
    items = trash.page_newest(conn, user_id=owner.id, page_size=24)
    assert [(each.is_job, each.is_needed) for each in items].count((False, False)) == 1
    service.restore_all(conn, user_id=owner.id)
    assert image_service.get_visible(conn, image_id=photo.id, user_id=owner.id)


def test_after_seven_days_rows_and_bytes_go_and_the_ledger_stays(conn, owner, storage, purge):
    photo = factories.make_image(conn, user=owner)
    job = factories.make_job(conn, user=owner, status="completed", image=photo)
    other = factories.make_job(conn, user=owner, status="completed", image=photo)
    result = images.find(conn, image_id=job.result_image_id, user_id=owner.id)
    for image in (photo, result):
        keep_bytes(storage, image)
    ledger = conn.execute("SELECT count(*), max(charged) FROM submissions").fetchone()
    throw(conn, job)
    assert purge(later=6) == 0
    assert exists(conn, "processing_jobs", job.id)
    assert purge() == 1
    assert not exists(conn, "processing_jobs", job.id)
    assert not exists(conn, "images", result.id)
    assert not exists(conn, "batches", job.batch_id)
    assert list(storage.keys(f"users/{owner.id}/{result.id}/")) == []
    assert len(list(storage.keys(f"users/{owner.id}/{photo.id}/"))) == 3
    assert exists(conn, "processing_jobs", other.id)
    assert conn.execute("SELECT count(*), max(charged) FROM submissions").fetchone() == ledger


def test_a_photo_goes_with_the_last_picture_made_from_it(conn, owner, storage, purge):
    photo, reference = (factories.make_image(conn, user=owner) for _ in range(2))
    batch = factories.make_batch(conn, user=owner, photos=[photo], references=[reference])
    (job,) = factories.jobs_of(conn, batch)
    factories.move(conn, job, user=owner, status="failed")
    for image in (photo, reference):
        keep_bytes(storage, image)
        images.set_deleted(conn, image_id=image.id, user_id=owner.id, deleted=True)
    assert purge() == 0
    throw(conn, job)
    assert purge() == 3
    assert list(storage.keys(f"users/{owner.id}/")) == []


@pytest.mark.parametrize("status", MOVING)
def test_what_moves_again_in_the_trash_waits(conn, owner, purge, status):
    """A late picture takes a job up again that lies in the trash."""
    job = factories.make_job(conn, user=owner, status=status)
    conn.execute("UPDATE processing_jobs SET deleted_at = now() WHERE id = %s", [job.id])
    assert purge() == 0
    assert exists(conn, "processing_jobs", job.id)


def test_a_picture_that_may_still_come_waits(conn, owner, purge):
    job = factories.make_job(conn, user=owner, status="failed")
    throw(conn, job)
    conn.execute(
        "UPDATE submissions SET state = 'settled', outcome = 'expired', charged = 'unknown',"
        " look_after = now(), look_until = now() + interval '1 day' WHERE job_id = %s",
        [job.id],
    )
    assert purge() == 0


def test_a_crash_between_rows_and_bytes_leaves_only_bytes(conn, owner, storage, purge, monkeypatch):
    job = factories.make_job(conn, user=owner, status="completed")
    result = images.find(conn, image_id=job.result_image_id, user_id=owner.id)
    keep_bytes(storage, result)
    throw(conn, job)

    def crash(*_):
        raise SystemExit

    monkeypatch.setattr(type(storage), "delete", crash)
    with pytest.raises(SystemExit):
        purge()
    assert not exists(conn, "images", result.id)
    assert len(list(storage.keys(f"users/{owner.id}/{result.id}/"))) == 3


def test_only_one_users_trash_is_emptied(conn, owner, other, purge):
    mine, theirs = (
        factories.make_job(conn, user=user, status="completed") for user in (owner, other)
    )
    for job in (mine, theirs):
        throw(conn, job)
    assert purge(user_id=owner.id) == 1
    assert exists(conn, "processing_jobs", theirs.id)


def test_more_than_one_round(conn, owner, purge, monkeypatch):
    monkeypatch.setattr(service, "AT_ONCE", 2)
    for _ in range(5):
        throw(conn, factories.make_job(conn, user=owner, status="failed"))
    assert purge() == 5


def test_the_trash_counts_as_used_until_it_is_emptied(conn, owner, settings, lend, storage):
    job = factories.make_job(conn, user=owner, status="completed")
    before = images.stored_bytes(conn, user_id=owner.id).count
    throw(conn, job)
    assert images.stored_bytes(conn, user_id=owner.id).count == before
    assert trash.totals(conn, user_id=owner.id).stored_bytes == 1000
    service.purge(lend, storage, days=0, user_id=owner.id)
    assert images.stored_bytes(conn, user_id=owner.id).count == before - 1000


def test_the_trash_is_turned_over_page_by_page(conn, owner):
    """Pictures and photos that were thrown away at one instant."""
    for _ in range(4):
        throw(conn, factories.make_job(conn, user=owner, status="failed"))
        photo = factories.make_image(conn, user=owner)
        images.set_deleted(conn, image_id=photo.id, user_id=owner.id, deleted=True)
    seen, last = [], None
    while page := trash.page_newest(
        conn,
        user_id=owner.id,
        page_size=3,
        before=last and last.deleted_at,
        before_id=last and last.id,
    ):
        seen += page
        last = page[-1]
    assert len({item.id for item in seen}) == len(seen) == 8
    assert history.page(conn, Filter(user_id=owner.id), page_size=24) == []
