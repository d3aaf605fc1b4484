"""The trash: what is thrown away can come back for some days, then rows and bytes go for good.

Rows first, bytes after: a crash between the two leaves bytes without a row, which a sweep finds.
The ledger stays as it is, whatever goes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.errors import InTrash, NotFound, Refused, plural
from i2i.gateways.storage import Storage, image_key
from i2i.models import PurgedImage
from i2i.queries import history, trash
from i2i.services import Connect, audit

AT_ONCE = 200
"""Rows of one transaction of the purge."""


def throw_away(conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID) -> int:
    """Put pictures in the trash; how many that were. What waits is cancelled, which is free.

    What is just being made stays: nobody could say what becomes of it. Refused when nothing else
    is among them.
    """
    thrown = trash.throw_away(conn, job_ids=job_ids, user_id=user_id)
    if not thrown and history.count_statuses(conn, job_ids=job_ids, user_id=user_id):
        raise Refused(
            "What is just being made, or looked for, cannot be deleted. Stop it or wait until it "
            "is done, then delete it."
        )
    return thrown


def missing(
    conn: Connection[Any],
    *,
    user_id: UUID,
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> NotFound:
    """What to raise for a picture, or a batch without any, that is not to be seen."""
    thrown = trash.find_thrown(conn, user_id=user_id, job_id=job_id, batch_id=batch_id)
    if thrown.deleted_at is None:
        return NotFound("It does not exist.")
    return InTrash(
        pictures=thrown.pictures, deleted_at=thrown.deleted_at, job_id=job_id, batch_id=batch_id
    )


def restore(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> None:
    """Take one picture out of the trash; NotFound when it is not there."""
    if not trash.restore_jobs(conn, user_id=user_id, job_ids=[job_id]):
        raise NotFound("This picture does not exist.")


def restore_batch(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> None:
    """Take a batch's pictures out of the trash; NotFound when none is there."""
    if not trash.restore_jobs(conn, user_id=user_id, batch_id=batch_id):
        raise NotFound("None of its pictures is in the trash.")


def restore_all(conn: Connection[Any], *, user_id: UUID) -> None:
    """Take everything of the user's out of the trash."""
    with conn.transaction():
        trash.restore_jobs(conn, user_id=user_id)
        trash.restore_photos(conn, user_id=user_id)


def purge(
    connect: Connect,
    storage: Storage,
    *,
    days: int,
    user_id: UUID | None = None,
    now: datetime | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Remove what was thrown away that many days ago, of one user or of all; how many rows.

    What may still change waits: pictures that are at fal, or that may come late, and photos from
    which pictures were made that are still there. Several at once do not get into each other's way.
    """
    removed = 0
    while not stopping():
        with connect() as conn:
            rows, gone = _purge_some(conn, days=days, user_id=user_id, now=now)
        for image in gone:
            _remove_bytes(storage, image)
        removed += rows
        if not rows:
            break
    return removed


def _purge_some(
    conn: Connection[Any], *, days: int, user_id: UUID | None, now: datetime | None
) -> tuple[int, list[PurgedImage]]:
    """One transaction's worth: how many rows, and the images whose bytes go next."""
    with conn.transaction():
        jobs = trash.lock_jobs_to_purge(
            conn, days=days, page_size=AT_ONCE, user_id=user_id, now=now
        )
        ids = [job.id for job in jobs]
        made = [each.id for each in trash.list_images_of_jobs(conn, job_ids=ids)]
        trash.purge_jobs(conn, job_ids=ids)
        trash.purge_batches(conn, batch_ids=list({job.batch_id for job in jobs}))
        photos = trash.lock_photos_to_purge(
            conn, days=days, page_size=AT_ONCE, user_id=user_id, now=now
        )
        gone = trash.purge_images(conn, image_ids=made + [each.id for each in photos])
        rows = len(jobs) + len(photos)
        if user_id is not None and rows:  # a person's wish; by age it goes by itself
            audit.record(conn, "trash.emptied", detail=plural(rows, "thing"))
    return rows, gone


def _remove_bytes(storage: Storage, image: PurgedImage) -> None:
    folder = image_key(image.user_id, image.id, "x").removesuffix("x")
    for key in list(storage.keys(folder)):
        storage.delete(key)
