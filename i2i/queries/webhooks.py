"""Callbacks of fal: sql/webhooks.sql."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import CalledBack, Clock, WebhookEvent
from i2i.sql import load

SQL = load("webhooks")


def read_clock(conn: Connection[Any]) -> Clock:
    return SQL["read_clock"].one(conn, Clock)


def find_submission(conn: Connection[Any], *, token: str, request_id: str) -> CalledBack | None:
    """What is known of the submission that a callback for this request names."""
    return SQL["find_submission"].optional(conn, CalledBack, token=token, request_id=request_id)


def create(conn: Connection[Any], *, token: str, request_id: str, body_sha256: str) -> int:
    """0 when this very body is kept already."""
    return SQL["create"].execute(conn, token=token, request_id=request_id, body_sha256=body_sha256)


def claim(conn: Connection[Any]) -> WebhookEvent | None:
    return SQL["claim"].optional(conn, WebhookEvent)


def mark_applied(conn: Connection[Any], *, event_id: int) -> int:
    return SQL["mark_applied"].execute(conn, event_id=event_id)


def make_job_due(conn: Connection[Any], *, job_id: UUID, request_id: str) -> int:
    return SQL["make_job_due"].execute(conn, job_id=job_id, request_id=request_id)


def make_look_due(conn: Connection[Any], *, token: str, request_id: str) -> int:
    return SQL["make_look_due"].execute(conn, token=token, request_id=request_id)


def purge(conn: Connection[Any]) -> int:
    return SQL["purge"].execute(conn)
