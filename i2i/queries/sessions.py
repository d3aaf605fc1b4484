"""Sessions: sql/sessions.sql."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import CurrentUser, Id, Session
from i2i.sql import load

SQL = load("sessions")


def create(
    conn: Connection[Any], *, token_hash: bytes, user_id: UUID, user_agent: str, ip_address: str
) -> Id:
    return SQL["create"].one(
        conn,
        Id,
        token_hash=token_hash,
        user_id=user_id,
        user_agent=user_agent,
        ip_address=ip_address,
    )


def current(conn: Connection[Any], *, token_hash: bytes) -> CurrentUser | None:
    return SQL["current"].optional(conn, CurrentUser, token_hash=token_hash)


def list_of_user(conn: Connection[Any], *, user_id: UUID | None = None) -> list[Session]:
    """The good sessions of one user, or of all; the last seen first."""
    return SQL["list_of_user"].many(conn, Session, user_id=user_id)


def touch(conn: Connection[Any], *, session_id: UUID) -> int:
    return SQL["touch"].execute(conn, session_id=session_id)


def set_token(conn: Connection[Any], *, session_id: UUID, token_hash: bytes) -> int:
    return SQL["set_token"].execute(conn, session_id=session_id, token_hash=token_hash)


def delete(conn: Connection[Any], *, session_id: UUID, user_id: UUID) -> int:
    return SQL["delete"].execute(conn, session_id=session_id, user_id=user_id)


def delete_by_token(conn: Connection[Any], *, token_hash: bytes) -> int:
    return SQL["delete_by_token"].execute(conn, token_hash=token_hash)


def delete_of_user(conn: Connection[Any], *, user_id: UUID, keep: UUID | None = None) -> int:
    return SQL["delete_of_user"].execute(conn, user_id=user_id, keep=keep)


def delete_expired(conn: Connection[Any]) -> int:
    return SQL["delete_expired"].execute(conn)
