"""The trash: sql/trash.sql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import Id, PurgedImage, PurgedJob, Thrown, Trashed, TrashTotals
from i2i.sql import load

SQL = load("trash")


def throw_away(conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID) -> int:
    return SQL["throw_away"].execute(conn, job_ids=list(job_ids), user_id=user_id)


def restore_jobs(
    conn: Connection[Any],
    *,
    user_id: UUID,
    job_ids: Sequence[UUID] | None = None,
    batch_id: UUID | None = None,
) -> int:
    """These, those of the batch, or all of the user's."""
    return SQL["restore_jobs"].execute(
        conn,
        user_id=user_id,
        job_ids=None if job_ids is None else list(job_ids),
        batch_id=batch_id,
    )


def restore_photos(conn: Connection[Any], *, user_id: UUID) -> int:
    return SQL["restore_photos"].execute(conn, user_id=user_id)


def find_thrown(
    conn: Connection[Any],
    *,
    user_id: UUID,
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> Thrown:
    return SQL["find_thrown"].one(conn, Thrown, user_id=user_id, job_id=job_id, batch_id=batch_id)


def page_newest(
    conn: Connection[Any],
    *,
    user_id: UUID,
    page_size: int,
    before: datetime | None = None,
    before_id: UUID | None = None,
) -> list[Trashed]:
    """What was thrown away last comes first."""
    return SQL["page_newest"].many(
        conn, Trashed, user_id=user_id, page_size=page_size, before=before, before_id=before_id
    )


def totals(conn: Connection[Any], *, user_id: UUID) -> TrashTotals:
    return SQL["totals"].one(conn, TrashTotals, user_id=user_id)


def lock_jobs_to_purge(
    conn: Connection[Any],
    *,
    days: int,
    page_size: int,
    user_id: UUID | None = None,
    now: datetime | None = None,
) -> list[PurgedJob]:
    return SQL["lock_jobs_to_purge"].many(
        conn, PurgedJob, days=days, page_size=page_size, user_id=user_id, now=now
    )


def list_images_of_jobs(conn: Connection[Any], *, job_ids: Sequence[UUID]) -> list[Id]:
    return SQL["list_images_of_jobs"].many(conn, Id, job_ids=list(job_ids))


def lock_photos_to_purge(
    conn: Connection[Any],
    *,
    days: int,
    page_size: int,
    user_id: UUID | None = None,
    now: datetime | None = None,
) -> list[Id]:
    return SQL["lock_photos_to_purge"].many(
        conn, Id, days=days, page_size=page_size, user_id=user_id, now=now
    )


def purge_jobs(conn: Connection[Any], *, job_ids: Sequence[UUID]) -> int:
    return SQL["purge_jobs"].execute(conn, job_ids=list(job_ids))


def purge_images(conn: Connection[Any], *, image_ids: Sequence[UUID]) -> list[PurgedImage]:
    return SQL["purge_images"].many(conn, PurgedImage, image_ids=list(image_ids))


def purge_batches(conn: Connection[Any], *, batch_ids: Sequence[UUID]) -> int:
    return SQL["purge_batches"].execute(conn, batch_ids=list(batch_ids))
