"""Audit: sql/audit.sql."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import AuditEvent, Foreign
from i2i.sql import load

SQL = load("audit")


def record(
    conn: Connection[Any],
    *,
    action: str,
    outcome: str,
    actor_id: UUID | None,
    actor: str,
    ip_address: str | None,
    target: str,
    detail: str,
    request_id: str | None,
) -> int:
    return SQL["record"].execute(
        conn,
        action=action,
        outcome=outcome,
        actor_id=actor_id,
        actor=actor,
        ip_address=ip_address,
        target=target,
        detail=detail,
        request_id=request_id,
    )


def list_newest(
    conn: Connection[Any],
    *,
    page_size: int,
    action: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
    before_id: int | None = None,
) -> list[AuditEvent]:
    return SQL["list_newest"].many(
        conn,
        AuditEvent,
        page_size=page_size,
        action=action,
        since=since,
        before=before,
        before_id=before_id,
    )


def list_of_actor(
    conn: Connection[Any],
    *,
    actor: str,
    page_size: int,
    action: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
    before_id: int | None = None,
) -> list[AuditEvent]:
    """What one person did, whatever the case of the address."""
    return SQL["list_of_actor"].many(
        conn,
        AuditEvent,
        actor=actor,
        page_size=page_size,
        action=action,
        since=since,
        before=before,
        before_id=before_id,
    )


def find_foreign(conn: Connection[Any], *, thing_id: UUID, user_id: UUID) -> Foreign | None:
    return SQL["find_foreign"].optional(conn, Foreign, thing_id=thing_id, user_id=user_id)
