"""Images: sql/images.sql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import Count, Image, ImageBytes, ImageLease, PrepareTask, ResultFile, StoredImage
from i2i.sql import load

SQL = load("images")


def create_upload(
    conn: Connection[Any],
    *,
    image_id: UUID,
    user_id: UUID,
    filename: str,
    original_filename: str,
    blob_url: str,
    sha256: str,
    file_size: int,
    mime_type: str,
    width: int,
    height: int,
) -> Image:
    """The new row; UniqueViolation images_upload_key when the user has these bytes already."""
    return SQL["create_upload"].one(
        conn,
        Image,
        image_id=image_id,
        user_id=user_id,
        filename=filename,
        original_filename=original_filename,
        blob_url=blob_url,
        sha256=sha256,
        file_size=file_size,
        mime_type=mime_type,
        width=width,
        height=height,
    )


def create_result(
    conn: Connection[Any],
    *,
    image_id: UUID,
    user_id: UUID,
    filename: str,
    original_filename: str,
    blob_url: str,
    sha256: str,
    file_size: int,
    mime_type: str,
    width: int | None,
    height: int | None,
    has_preview: bool,
) -> int:
    return SQL["create_result"].execute(
        conn,
        image_id=image_id,
        user_id=user_id,
        filename=filename,
        original_filename=original_filename,
        blob_url=blob_url,
        sha256=sha256,
        file_size=file_size,
        mime_type=mime_type,
        width=width,
        height=height,
        has_preview=has_preview,
    )


def add_further_output(
    conn: Connection[Any], *, image_id: UUID, job_id: UUID, submission_id: UUID
) -> int:
    return SQL["add_further_output"].execute(
        conn, image_id=image_id, job_id=job_id, submission_id=submission_id
    )


def find(conn: Connection[Any], *, image_id: UUID, user_id: UUID) -> Image | None:
    return SQL["find"].optional(conn, Image, image_id=image_id, user_id=user_id)


def find_visible(conn: Connection[Any], *, image_id: UUID, user_id: UUID) -> Image | None:
    return SQL["find_visible"].optional(conn, Image, image_id=image_id, user_id=user_id)


def find_of_sample(conn: Connection[Any], *, job_id: UUID, is_result: bool) -> Image | None:
    """The photo or the result of a job, whoever owns it; only for a workflow's sample."""
    return SQL["find_of_sample"].optional(conn, Image, job_id=job_id, is_result=is_result)


def find_upload_by_sha256(conn: Connection[Any], *, user_id: UUID, sha256: str) -> Image | None:
    return SQL["find_upload_by_sha256"].optional(conn, Image, user_id=user_id, sha256=sha256)


def find_uploads(conn: Connection[Any], *, image_ids: Sequence[UUID], user_id: UUID) -> list[Image]:
    """Those of the ids that are the user's uploads and not in the trash, in name order."""
    return SQL["find_uploads"].many(conn, Image, image_ids=list(image_ids), user_id=user_id)


def list_of_batch(
    conn: Connection[Any],
    *,
    batch_id: UUID,
    user_id: UUID,
    status: str | None = None,
    verdict: str | None = None,
) -> list[Image]:
    """The photos of a batch that can still be used, in name order; `status` is the pictures'."""
    return SQL["list_of_batch"].many(
        conn, Image, batch_id=batch_id, user_id=user_id, status=status, verdict=verdict
    )


def lock_uploads(conn: Connection[Any], *, image_ids: Sequence[UUID]) -> int:
    """Keep the images' states as they are until the transaction ends."""
    return SQL["lock_uploads"].execute(conn, image_ids=list(image_ids))


def find_references(conn: Connection[Any], *, batch_id: UUID) -> list[Image]:
    """A batch's reference pictures in their order."""
    return SQL["find_references"].many(conn, Image, batch_id=batch_id)


def list_further_outputs(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> list[Image]:
    """Pictures of a job beside its result, in the order of their arrival."""
    return SQL["list_further_outputs"].many(conn, Image, job_id=job_id, user_id=user_id)


def list_results(
    conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID
) -> list[ResultFile]:
    """In the photos' name order; a job has several where pictures came late."""
    return SQL["list_results"].many(conn, ResultFile, job_ids=list(job_ids), user_id=user_id)


def page_uploads(
    conn: Connection[Any],
    *,
    user_id: UUID,
    page_size: int,
    status: str | None = None,
    before: datetime | None = None,
    before_id: UUID | None = None,
) -> list[Image]:
    """Newest upload first, each in name order; `before…` are the last row of the page before."""
    return SQL["page_uploads"].many(
        conn,
        Image,
        user_id=user_id,
        page_size=page_size,
        status=status,
        before=before,
        before_id=before_id,
    )


def page_stored(
    conn: Connection[Any], *, page_size: int, after_id: UUID | None = None
) -> list[StoredImage]:
    return SQL["page_stored"].many(conn, StoredImage, page_size=page_size, after_id=after_id)


def find_stored(conn: Connection[Any], *, image_id: UUID) -> StoredImage | None:
    return SQL["find_stored"].optional(conn, StoredImage, image_id=image_id)


def list_stored(conn: Connection[Any], *, image_ids: list[UUID]) -> list[StoredImage]:
    return SQL["list_stored"].many(conn, StoredImage, image_ids=image_ids)


def stored_bytes(conn: Connection[Any], *, user_id: UUID) -> Count:
    return SQL["stored_bytes"].one(conn, Count, user_id=user_id)


def sum_bytes(conn: Connection[Any]) -> list[ImageBytes]:
    return SQL["sum_bytes"].many(conn, ImageBytes)


def claim_preparing(
    conn: Connection[Any], *, lease_seconds: float, now: datetime | None = None
) -> PrepareTask | None:
    return SQL["claim_preparing"].optional(conn, PrepareTask, lease_seconds=lease_seconds, now=now)


def lease_ready(
    conn: Connection[Any], *, image_id: UUID, lease_seconds: float, now: datetime | None = None
) -> ImageLease | None:
    return SQL["lease_ready"].optional(
        conn, ImageLease, image_id=image_id, lease_seconds=lease_seconds, now=now
    )


def renew_lease(conn: Connection[Any], *, image_id: UUID, fence: int, lease_seconds: float) -> int:
    return SQL["renew_lease"].execute(
        conn, image_id=image_id, fence=fence, lease_seconds=lease_seconds
    )


def end_lease(conn: Connection[Any], *, image_id: UUID, fence: int) -> int:
    return SQL["end_lease"].execute(conn, image_id=image_id, fence=fence)


def finish_preparing(
    conn: Connection[Any], *, image_id: UUID, fence: int, width: int, height: int
) -> int:
    return SQL["finish_preparing"].execute(
        conn, image_id=image_id, fence=fence, width=width, height=height
    )


def reject(conn: Connection[Any], *, image_id: UUID, fence: int, rejection: str) -> int:
    return SQL["reject"].execute(conn, image_id=image_id, fence=fence, rejection=rejection)


def postpone_preparing(
    conn: Connection[Any], *, image_id: UUID, fence: int, delay_seconds: float
) -> int:
    return SQL["postpone_preparing"].execute(
        conn, image_id=image_id, fence=fence, delay_seconds=delay_seconds
    )


def mark_lost(conn: Connection[Any], *, image_id: UUID, rejection: str) -> int:
    return SQL["mark_lost"].execute(conn, image_id=image_id, rejection=rejection)


def mark_found(conn: Connection[Any], *, image_id: UUID) -> int:
    return SQL["mark_found"].execute(conn, image_id=image_id)


def show_preview(conn: Connection[Any], *, image_id: UUID) -> int:
    return SQL["show_preview"].execute(conn, image_id=image_id)


def set_deleted(conn: Connection[Any], *, image_id: UUID, user_id: UUID, deleted: bool) -> int:
    return SQL["set_deleted"].execute(conn, image_id=image_id, user_id=user_id, deleted=deleted)


def notify_work(conn: Connection[Any]) -> int:
    """Wake the workers when the transaction commits."""
    return SQL["notify_work"].execute(conn)
