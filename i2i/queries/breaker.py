"""The breaker: sql/breaker.sql."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import Bar, Breaker
from i2i.sql import load

SQL = load("breaker")


def find(conn: Connection[Any]) -> Breaker:
    return SQL["find"].one(conn, Breaker)


def find_for_bar(conn: Connection[Any], *, user_id: UUID) -> Bar:
    return SQL["find_for_bar"].one(conn, Bar, user_id=user_id)


def trip(conn: Connection[Any], *, reason: str) -> int:
    return SQL["trip"].execute(conn, reason=reason)


def claim_check(conn: Connection[Any], *, now: datetime | None = None) -> int:
    """1 when the caller shall check now, else 0."""
    return SQL["claim_check"].execute(conn, now=now)


def reset(conn: Connection[Any]) -> int:
    return SQL["reset"].execute(conn)
