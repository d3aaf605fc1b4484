"""Reading and claiming images."""

from datetime import UTC, datetime, timedelta

import factories
import pytest

from i2i.queries import images

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_uploads_are_turned_over_page_by_page(conn, owner, other):
    made = [
        factories.make_image(conn, user=owner, created_at=START + timedelta(minutes=number // 3))
        for number in range(7)
    ]
    factories.make_image(conn, user=other)
    factories.make_result(conn, user=owner)
    seen, last = [], None
    while page := images.page_uploads(
        conn,
        user_id=owner.id,
        page_size=2,
        before=last and last.created_at,
        before_id=last and last.id,
    ):
        seen += page
        last = page[-1]
    assert {image.id for image in seen} == {image.id for image in made}
    order = [(image.created_at, image.id) for image in seen]
    assert (len(seen), order) == (7, sorted(order, reverse=True))


def test_uploads_of_one_state(conn, owner):
    for status in ("ready", "preparing", "rejected", "ready"):
        factories.make_image(conn, user=owner, status=status)
    for status, count in [("ready", 2), ("preparing", 1), (None, 4)]:
        assert len(images.page_uploads(conn, user_id=owner.id, page_size=9, status=status)) == count


def test_the_trash_and_back(conn, owner, other):
    image = factories.make_image(conn, user=owner)

    def delete(user, deleted):
        return images.set_deleted(conn, image_id=image.id, user_id=user.id, deleted=deleted)

    assert delete(other, deleted=True) == 0
    assert delete(owner, deleted=True) == 1
    trashed = images.find(conn, image_id=image.id, user_id=owner.id)
    assert trashed.deleted_at is not None
    assert images.find_uploads(conn, image_ids=[image.id], user_id=owner.id) == []
    delete(owner, deleted=True)
    assert images.find(conn, image_id=image.id, user_id=owner.id) == trashed
    delete(owner, deleted=False)
    assert images.find(conn, image_id=image.id, user_id=owner.id) == image


def test_not_yours_is_not_there(conn, owner, other):
    image = factories.make_image(conn, user=owner)
    assert images.find(conn, image_id=image.id, user_id=other.id) is None
    assert images.find_uploads(conn, image_ids=[image.id], user_id=other.id) == []
    assert images.find_upload_by_sha256(conn, user_id=other.id, sha256=image.sha256) is None
    assert images.stored_bytes(conn, user_id=other.id).count == 0


def test_one_decoder_an_image(conn, owner):
    image = factories.make_image(conn, user=owner, status="preparing")
    task = images.claim_preparing(conn, lease_seconds=90)
    assert (task.id, task.crashes, task.fence) == (image.id, 0, 1)
    assert images.claim_preparing(conn, lease_seconds=90) is None
    later = conn.execute("SELECT now() + interval '91 seconds'").fetchone()[0]
    again = images.claim_preparing(conn, lease_seconds=90, now=later)
    assert (again.crashes, again.fence) == (1, 2)
    late = {"conn": conn, "image_id": image.id, "fence": task.fence}
    assert images.finish_preparing(**late, width=1, height=1) == 0
    assert images.reject(**late, rejection="No.") == 0
    assert images.postpone_preparing(**late, delay_seconds=1) == 0
    assert images.postpone_preparing(conn, image_id=image.id, fence=2, delay_seconds=60) == 1
    assert images.claim_preparing(conn, lease_seconds=90) is None
    third = images.claim_preparing(conn, lease_seconds=90, now=later)
    assert third.crashes == 1, "a machine in trouble is no crash"


@pytest.mark.parametrize("status", ["ready", "rejected"])
def test_what_is_prepared_is_not_claimed(conn, owner, status):
    factories.make_image(conn, user=owner, status=status)
    assert images.claim_preparing(conn, lease_seconds=90) is None


def test_results_that_no_job_shows(conn, owner):
    factories.make_job(conn, user=owner, status="completed")
    lost = factories.make_result(conn, user=owner)
    assert images.list_orphaned(conn) == [lost]


def test_a_result_stored_twice_is_one_row(conn, owner):
    result = factories.make_result(conn, user=owner)
    again = {
        "image_id": result.id,
        "user_id": owner.id,
        "filename": "other.png",
        "original_filename": "other.png",
        "blob_url": "users/other",
        "sha256": "0" * 64,
        "file_size": 1,
        "mime_type": "image/png",
        "width": None,
        "height": None,
        "has_preview": False,
    }
    assert images.create_result(conn, **again) == 0
    assert images.find(conn, image_id=result.id, user_id=owner.id) == result
