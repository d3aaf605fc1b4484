"""Signing in and out. The cookie holds a 256-bit token; the table only its SHA-256."""

import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from i2i import passwords
from i2i.config import Settings
from i2i.errors import InvalidFields, TooManyTries, WrongCredentials
from i2i.queries import sessions, users
from i2i.services import users as user_service

WINDOW = 300
"""Seconds in which a bucket refills."""

# Tries in a window: for one account, from one address, and in all. Ten are many for a person and
# few for a machine; an office shares an address, so that one has twice as many.
_PER_ACCOUNT, _PER_ADDRESS, _IN_ALL = 10, 20, 1000


def sign_in(
    conn: Connection[Any],
    settings: Settings,
    *,
    email: str,
    password: str,
    ip_address: str,
    user_agent: str,
    time_zone: str = "",
) -> str:
    """A new session's token. WrongCredentials says nothing about which part was wrong.

    `time_zone` is the browser's; a user who has chosen none gets it, and an unknown one is dropped.

    An unknown address costs the same time as a known one. TooManyTries before anything is checked;
    a try that succeeds is given back.
    """
    # PostgreSQL keeps neither; with the mark for unreadable characters it is nobody's address.
    email = email.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8").strip()
    buckets = {
        f"sign-in address {ip_address}": _PER_ADDRESS,  # first: one address fills no other bucket
        f"sign-in account {email.lower()[:254]}": _PER_ACCOUNT,
        "sign-in": _IN_ALL,
    }
    for bucket, capacity in buckets.items():
        _take(conn, bucket=bucket, capacity=capacity)
    user = users.find_by_email(conn, email=email)
    known = user.password_hash if user and user.is_whitelisted else None
    if not passwords.verify_password(password, known, rounds=settings.bcrypt_rounds) or not user:
        raise WrongCredentials(
            "E-mail and password do not match an account that may sign in. "
            "Check both and try again."
        )
    token = secrets.token_urlsafe(32)
    with conn.transaction():
        for bucket, capacity in buckets.items():
            sessions.return_token(conn, bucket=bucket, capacity=capacity, refill_seconds=WINDOW)
        sessions.delete_expired(conn)
        sessions.delete_full_buckets(conn)
        sessions.create(
            conn,
            token_hash=passwords.hash_token(token),
            user_id=user.id,
            user_agent=user_agent[:300],
            ip_address=ip_address,
        )
    with suppress(InvalidFields):
        user_service.set_time_zone(conn, user_id=user.id, time_zone=time_zone, is_guess=True)
    return token


def _take(conn: Connection[Any], *, bucket: str, capacity: int) -> None:
    if sessions.take_token(conn, bucket=bucket, capacity=capacity, refill_seconds=WINDOW):
        return
    full = sessions.find_bucket(conn, bucket=bucket)
    step = WINDOW / capacity
    waiting = (full.full_at - datetime.now(UTC)).total_seconds() - WINDOW + step if full else step
    raise TooManyTries(max(1, round(waiting)))
