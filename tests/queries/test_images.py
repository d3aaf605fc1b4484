"""Reading and claiming images."""

from datetime import UTC, datetime, timedelta

import factories
import pytest

from i2i.queries import images

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def turn_over(conn, user, *, page_size):
    seen, last = [], None
    while page := images.page_uploads(
        conn,
        user_id=user.id,
        page_size=page_size,
        before=last and last.created_at,
        before_id=last and last.id,
    ):
        seen += [image.original_filename for image in page]
        last = page[-1]
    return seen


@pytest.mark.parametrize("page_size", [1, 2, 5, 9])
def test_the_newest_upload_comes_first_and_each_in_name_order(conn, owner, other, page_size):
    """Whatever came first of an upload; a page may end within one."""
    for minutes, name in [
        (0, "old 2.jpg"),
        (0, "old 10.jpg"),
        (0, "old 1.jpg"),
        (60, "new 10.jpg"),
        (60, "new 9.jpg"),
        (60, "new 9.jpg"),
        (30, "zebra.jpg"),
    ]:
        at = START + timedelta(minutes=minutes)
        factories.make_image(conn, user=owner, name=name, created_at=at)
    factories.make_image(conn, user=other)
    factories.make_result(conn, user=owner)
    newest = ["new 9.jpg", "new 9.jpg", "new 10.jpg"]
    assert turn_over(conn, owner, page_size=page_size) == [
        *newest,
        "zebra.jpg",
        *("old 1.jpg", "old 2.jpg", "old 10.jpg"),
    ]


def test_what_comes_within_minutes_is_one_upload(conn, owner, other):
    """`now()` stands still here, so it is the photos before that are moved into the past."""
    for name, user in [("c.jpg", owner), ("b.jpg", owner), ("x.jpg", other), ("a.jpg", owner)]:
        factories.make_image(conn, user=user, name=name)
        conn.execute(
            "UPDATE images SET created_at = created_at - interval '7 minutes',"
            " upload_began_at = upload_began_at - interval '7 minutes'"
        )
    assert turn_over(conn, owner, page_size=2) == ["a.jpg", "b.jpg", "c.jpg"]
    conn.execute("UPDATE images SET created_at = created_at - interval '7 minutes'")
    factories.make_image(conn, user=owner, name="z.jpg")
    assert turn_over(conn, owner, page_size=2) == ["z.jpg", "a.jpg", "b.jpg", "c.jpg"]


def test_a_page_goes_on_where_its_photo_is_gone_for_good(conn, owner):
    made = [factories.make_image(conn, user=owner, name=f"{number}.jpg") for number in range(3)]
    conn.execute("DELETE FROM images WHERE id = %s", [made[0].id])
    left = images.page_uploads(
        conn, user_id=owner.id, page_size=9, before=made[0].created_at, before_id=made[0].id
    )
    assert [image.id for image in left] == [made[1].id, made[2].id]


NAMES = [
    *("7.jpg", "0008.jpg", "9.jpg", "10.jpg", "90 b.jpg", "90-a.jpg"),
    *("a.jpg", "B.PNG", "cafe 1.jpg", "CAFÉ 2.jpg", "cafz.jpg"),
    *("IMG_2.jpg", "IMG_2 copy.jpg", "img_2_b.jpg", "IMG_10.jpg", "IMG_0100.jpg", "IMG_1000.jpg"),
    *("IMG_20260301_9.jpg", "IMG_20260301_12.jpg"),
    *(
        "look 99999999999999999998.jpg",
        "look 99999999999999999999.jpg",
        "スタジオ2.jpg",
        "スタジオ10.jpg",
    ),
]
"""In the order in which people count and read them."""


def test_names_stand_as_people_count(conn, owner):
    made = [factories.make_image(conn, user=owner, name=name) for name in sorted(NAMES)]
    ids = [image.id for image in made]
    found = images.find_uploads(conn, image_ids=ids, user_id=owner.id)
    assert [image.original_filename for image in found] == NAMES


@pytest.mark.parametrize(
    "name", ["a1" * 127, "9" * 255, "é" * 255, "\U0001f457" * 255, ".jpg", "0"]
)
def test_no_name_is_too_odd_for_the_order(conn, owner, name):
    image = factories.make_image(conn, user=owner, name=name)
    assert turn_over(conn, owner, page_size=1) == [image.original_filename]


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
