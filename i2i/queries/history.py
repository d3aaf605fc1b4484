"""History: sql/history.sql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import HistoryBatch, HistoryHead, Id, JobCard, Standing
from i2i.sql import load

SQL = load("history")


def pick_by_status(
    conn: Connection[Any],
    *,
    user_id: UUID,
    statuses: Sequence[str],
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int | None,
) -> list[Id]:
    return SQL["pick_by_status"].many(
        conn,
        Id,
        user_id=user_id,
        statuses=list(statuses),
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def page_newest(
    conn: Connection[Any],
    *,
    user_id: UUID,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int,
) -> list[JobCard]:
    return SQL["page_newest"].many(
        conn,
        JobCard,
        user_id=user_id,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def pick_by_workflow(
    conn: Connection[Any],
    *,
    user_id: UUID,
    workflow: str,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int | None,
) -> list[Id]:
    return SQL["pick_by_workflow"].many(
        conn,
        Id,
        user_id=user_id,
        workflow=workflow,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def pick_by_verdict(
    conn: Connection[Any],
    *,
    user_id: UUID,
    verdict: str,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int | None,
) -> list[Id]:
    """`verdict` is one of models.Verdict, or "none"."""
    return SQL["pick_by_verdict"].many(
        conn,
        Id,
        user_id=user_id,
        verdict=verdict,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def pick_by_several(
    conn: Connection[Any],
    *,
    user_id: UUID,
    statuses: Sequence[str],
    workflow: str | None,
    verdict: str | None,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int | None,
) -> list[Id]:
    return SQL["pick_by_several"].many(
        conn,
        Id,
        user_id=user_id,
        statuses=list(statuses),
        workflow=workflow,
        verdict=verdict,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def pick_newest_by_name(
    conn: Connection[Any],
    *,
    user_id: UUID,
    q: str,
    statuses: Sequence[str],
    workflow: str | None,
    verdict: str | None,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int,
) -> list[Id]:
    """Of the newest hundreds: fewer than page_size means that there may be more."""
    return SQL["pick_newest_by_name"].many(
        conn,
        Id,
        user_id=user_id,
        q=q,
        statuses=list(statuses),
        workflow=workflow,
        verdict=verdict,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def pick_by_name(
    conn: Connection[Any],
    *,
    user_id: UUID,
    q: str,
    statuses: Sequence[str],
    workflow: str | None,
    verdict: str | None,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int | None,
) -> list[Id]:
    return SQL["pick_by_name"].many(
        conn,
        Id,
        user_id=user_id,
        q=q,
        statuses=list(statuses),
        workflow=workflow,
        verdict=verdict,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def page_batches(
    conn: Connection[Any],
    *,
    user_id: UUID,
    q: str | None,
    statuses: Sequence[str],
    workflow: str | None,
    verdict: str | None,
    created_from: datetime | None,
    before: datetime | None,
    before_id: UUID | None,
    page_size: int,
) -> list[HistoryBatch]:
    return SQL["page_batches"].many(
        conn,
        HistoryBatch,
        user_id=user_id,
        q=q,
        statuses=list(statuses),
        workflow=workflow,
        verdict=verdict,
        created_from=created_from,
        before=before,
        before_id=before_id,
        page_size=page_size,
    )


def list_photos(
    conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID, page_size: int
) -> list[Id]:
    return SQL["list_photos"].many(
        conn, Id, job_ids=list(job_ids), user_id=user_id, page_size=page_size
    )


def count_statuses(
    conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID
) -> list[Standing]:
    return SQL["count_statuses"].many(conn, Standing, job_ids=list(job_ids), user_id=user_id)


def head(conn: Connection[Any], *, user_id: UUID) -> HistoryHead:
    return SQL["head"].one(conn, HistoryHead, user_id=user_id)
