"""The breaker: when the account at fal takes nothing, sending stops; nothing fails meanwhile."""

from typing import Any

from psycopg import Connection

from i2i.errors import FalAccount
from i2i.queries import breaker, images


def trip(conn: Connection[Any], *, error: FalAccount) -> bool:
    """Stop sending; False when it was stopped already."""
    # fal's words for it are "User is locked. Reason: …"; any other 403 is about the key's rights.
    locked = error.http_status == 402 or (
        error.http_status == 403 and "user is locked" in error.detail.lower()
    )
    return bool(breaker.trip(conn, reason="balance" if locked else "key"))


def reset(conn: Connection[Any]) -> bool:
    """The account takes requests again: wake the workers."""
    with conn.transaction():
        closed = bool(breaker.reset(conn))
        images.notify_work(conn)
    return closed
