"""Spending limits: how many pictures may still be made today, for a user and for the whole site.

Counted from the ledger and from what waits, in UTC days, inside the transaction that asks for more.
"""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.config import Settings
from i2i.errors import Refused, plural
from i2i.queries import submissions


def left_today(conn: Connection[Any], settings: Settings, *, user_id: UUID) -> int:
    """Pictures that this user may still ask for today; below zero when too many were asked for."""
    everybody = settings.daily_pictures - submissions.count_today(conn).count
    own = settings.daily_pictures_per_user - submissions.count_today(conn, user_id=user_id).count
    return min(everybody, own)


def in_words(left: int) -> str:
    """What is left of today, as a sentence."""
    if left <= 0:
        return "No more pictures may be made today."
    return f"Only {plural(left, 'more picture')} may be made today."


def check(conn: Connection[Any], settings: Settings, *, user_id: UUID, pictures: int) -> None:
    """Refused, saying how many are left, when `pictures` more are too many.

    Call it in the transaction that asks for them, before or (with 0) after: it takes a lock until
    the transaction ends, so that parallel clicks cannot share one remainder.
    """
    submissions.lock_limits(conn)
    left = left_today(conn, settings, user_id=user_id)
    if pictures > left:
        raise Refused(
            f"{in_words(left)} Nothing was sent or charged. "
            f"{'Choose fewer, or go' if left > 0 else 'Go'} on tomorrow (UTC)."
            if pictures
            else "So many pictures may not be made today. Nothing was sent or charged. "
            "Run them again one by one, or go on tomorrow (UTC)."
        )
