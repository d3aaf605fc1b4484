"""Tokens of scripts: made and shown once, kept as their SHA-256."""

import secrets
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import passwords
from i2i.errors import InvalidFields, Refused
from i2i.models import NewToken
from i2i.queries import tokens
from i2i.services import audit, users

PREFIX = "i2i_"
"""What a token begins with, so that scanners of code find one that was committed."""

MOST_NAME = 100


def create(
    conn: Connection[Any], *, email: str, name: str, days: int | None = None
) -> tuple[str, NewToken]:
    """A token of 256 random bits for this user, and its row; NotFound, or InvalidFields."""
    user = users.get(conn, email=email)
    name = " ".join(name.split())
    if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
        raise InvalidFields({"name": f"Give a name of 1 to {MOST_NAME} characters."})
    token = PREFIX + secrets.token_urlsafe(32)
    with conn.transaction():
        row = tokens.create(
            conn, user_id=user.id, name=name, token_hash=passwords.hash_token(token), days=days
        )
        audit.record(conn, "token.created", target=user.email, detail=f"{name} ({row.id})")
    return token, row


def revoke(conn: Connection[Any], *, token_id: UUID) -> None:
    """End a token; Refused when there is none to end."""
    with conn.transaction():
        if not tokens.revoke(conn, token_id=token_id):
            raise Refused("There is no such token, or it is revoked already.")
        audit.record(conn, "token.revoked", target=f"token {token_id}")
