"""Tokens of scripts: sql/tokens.sql."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import CurrentUser, NewToken, TokenRow
from i2i.sql import load

SQL = load("tokens")


def create(
    conn: Connection[Any], *, user_id: UUID, name: str, token_hash: bytes, days: int | None
) -> NewToken:
    """Without `days` it is good until it is revoked."""
    return SQL["create"].one(
        conn, NewToken, user_id=user_id, name=name, token_hash=token_hash, days=days
    )


def current(conn: Connection[Any], *, token_hash: bytes) -> CurrentUser | None:
    return SQL["current"].optional(conn, CurrentUser, token_hash=token_hash)


def list_all(conn: Connection[Any], *, user_id: UUID | None = None) -> list[TokenRow]:
    return SQL["list_all"].many(conn, TokenRow, user_id=user_id)


def touch(conn: Connection[Any], *, token_id: UUID) -> int:
    return SQL["touch"].execute(conn, token_id=token_id)


def revoke(conn: Connection[Any], *, token_id: UUID) -> int:
    """1, or 0 when there is no such token that is not revoked yet."""
    return SQL["revoke"].execute(conn, token_id=token_id)
