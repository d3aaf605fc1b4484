"""The breaker: when the account at fal takes nothing, sending stops; nothing fails meanwhile."""

from typing import Any

from psycopg import Connection

from i2i.errors import FalAccount
from i2i.queries import breaker, images


def trip(conn: Connection[Any], *, error: FalAccount) -> bool:
    """Stop sending; False when it was stopped already."""
    detail = error.detail.lower()
    locked = error.http_status == 402 or "lock" in detail or "balance" in detail
    return bool(breaker.trip(conn, reason="balance" if locked else "key"))


def reset(conn: Connection[Any]) -> bool:
    """The account takes requests again: wake the workers."""
    with conn.transaction():
        closed = bool(breaker.reset(conn))
        images.notify_work(conn)
    return closed
