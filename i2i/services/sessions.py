"""Signing in and out. The cookie holds a 256-bit token; the table only its SHA-256."""

import hashlib
import hmac
import ipaddress
import secrets
from contextlib import suppress
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import origin, passwords
from i2i.config import Settings
from i2i.errors import InvalidFields, NotFound, TooManyTries, WrongCredentials, plural
from i2i.models import CurrentUser, User
from i2i.queries import buckets as bucket_queries
from i2i.queries import sessions, users
from i2i.services import audit
from i2i.services import buckets as bucket_service
from i2i.services import users as user_service

# Wrong tries in buckets.WINDOW: for one account, from one address, and in all. Ten are many for a
# person and few for a machine; what succeeds is given back, so an office behind one address has
# enough.
_PER_ACCOUNT, _PER_ADDRESS, _IN_ALL = 10, 10, 1000


def sign_in(
    conn: Connection[Any],
    settings: Settings,
    *,
    email: str,
    password: str,
    ip_address: str,
    user_agent: str,
    time_zone: str = "",
    former_token: str = "",
) -> str:
    """A new session's token. WrongCredentials says nothing about which part was wrong.

    `time_zone` is the browser's; a user who has chosen none gets it, and an unknown one is dropped.
    `former_token` is what this browser brought along: that session ends.

    An unknown address costs the same time as a known one. TooManyTries before the password is
    checked; a try that succeeds is given back.
    """
    # PostgreSQL keeps neither; with the mark for unreadable characters it is nobody's address.
    email = email.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8").strip()
    user = users.find_by_email(conn, email=email)
    known = user.password_hash if user and user.may_sign_in else None
    buckets = _buckets(settings, email=email, ip_address=ip_address)
    target = _whom(settings, user, email=email)
    try:
        fits = _try(conn, settings, buckets=buckets, password=password, known=known)
    except TooManyTries:
        audit.record_refusal(conn, "session.limited", target=target)
        raise
    token = None
    if fits and user is not None:
        token = _begin(
            conn, user, ip_address=ip_address, user_agent=user_agent, former_token=former_token
        )
    if token is None or user is None:
        why = "not allowed" if user and not user.may_sign_in else "no match"
        audit.record_refusal(conn, "session.refused", target=target, detail=why)
        raise WrongCredentials(
            "E-mail and password do not match an account that may sign in. "
            "Check both and try again."
        )
    with suppress(InvalidFields):
        user_service.set_time_zone(conn, user_id=user.id, time_zone=time_zone, is_guess=True)
    return token


def _begin(
    conn: Connection[Any], user: User, *, ip_address: str, user_agent: str, former_token: str
) -> str | None:
    """A new session's token; None when the password was changed while it was checked."""
    token = secrets.token_urlsafe(32)
    with origin.acting(actor=user.email, actor_id=user.id), conn.transaction():
        if not users.lock_password(conn, user_id=user.id, password_hash=user.password_hash):
            return None
        audit.record(conn, "session.created")
        sessions.delete_expired(conn)
        bucket_queries.delete_full(conn)
        if former_token:
            sessions.delete_by_token(conn, token_hash=passwords.hash_token(former_token))
        sessions.create(
            conn,
            token_hash=passwords.hash_token(token),
            user_id=user.id,
            user_agent=user_agent[:300],
            ip_address=ip_address,
        )
    return token


def sign_out(conn: Connection[Any], *, user: CurrentUser) -> None:
    """End the session in use."""
    with conn.transaction():
        sessions.delete(conn, session_id=user.session_id, user_id=user.id)
        audit.record(conn, "session.ended")


def revoke(conn: Connection[Any], *, session_id: UUID, user: CurrentUser) -> None:
    """Sign another browser of one's own out; NotFound when it is not there."""
    with conn.transaction():
        if not sessions.delete(conn, session_id=session_id, user_id=user.id):
            raise NotFound("This session has ended.")
        audit.record(conn, "session.revoked", target=user.email, detail="1 session")


def revoke_all(conn: Connection[Any], *, email: str, keep: UUID | None = None) -> int:
    """Sign a user out everywhere, or everywhere but here; how many sessions ended."""
    user = user_service.get(conn, email=email)
    with conn.transaction():
        count = sessions.delete_of_user(conn, user_id=user.id, keep=keep)
        audit.record(conn, "session.revoked", target=user.email, detail=plural(count, "session"))
    return count


def change_password(
    conn: Connection[Any],
    settings: Settings,
    *,
    user: CurrentUser,
    current: str,
    password: str,
    ip_address: str,
) -> str:
    """A user's own change: this session's new token; the other sessions end.

    InvalidFields when the current password is wrong, which counts as a wrong try at signing in
    (TooManyTries), or when the new one does not do.
    """
    buckets = _buckets(settings, email=user.email, ip_address=ip_address)
    known = _known(conn, user)
    try:
        fits = _try(conn, settings, buckets=buckets, password=current, known=known)
    except TooManyTries:
        audit.record_refusal(conn, "session.limited", target=user.email)
        raise
    if not fits:
        audit.record_refusal(
            conn, "password.refused", target=user.email, detail="wrong current one"
        )
        raise InvalidFields({"current": "This is not your current password."})
    return _replace_password(conn, settings, user=user, password=password)


def choose_password(
    conn: Connection[Any], settings: Settings, *, user: CurrentUser, password: str
) -> str:
    """A password of one's own in place of a generated one: this session's new token.

    The generated one opened this session and opens nothing else, so it is not asked for again.
    InvalidFields when the new one does not do.
    """
    known = _known(conn, user)
    if passwords.verify_password(password, known, rounds=settings.bcrypt_rounds):
        raise InvalidFields({"password": "This is the one you were given. Choose another one."})
    return _replace_password(conn, settings, user=user, password=password)


def _known(conn: Connection[Any], user: CurrentUser) -> str | None:
    row = users.find(conn, user_id=user.id)
    return row.password_hash if row else None


def _replace_password(
    conn: Connection[Any], settings: Settings, *, user: CurrentUser, password: str
) -> str:
    """NotFound when the session ended while the old one was checked: then nothing changes."""
    token = secrets.token_urlsafe(32)
    with conn.transaction():
        user_service.set_password(
            conn, settings, user_id=user.id, password=password, keep_session=user.session_id
        )
        if not sessions.set_token(
            conn, session_id=user.session_id, token_hash=passwords.hash_token(token)
        ):
            raise NotFound("This session has ended.")
    return token


def _fingerprint(settings: Settings, text: str) -> str:
    """Tells equal texts from others, and nothing else without our key.

    What is typed for an address may be a password in the wrong field, so it is kept nowhere.
    """
    return hmac.digest(settings.secret_key.encode(), text.lower().encode(), hashlib.sha256).hex()


def _whom(settings: Settings, user: User | None, *, email: str) -> str:
    """Who was to be signed in, for the record."""
    unknown = f"no account ({_fingerprint(settings, email)[:12]})"
    return user.email if user else unknown


def _buckets(settings: Settings, *, email: str, ip_address: str) -> dict[str, int]:
    """What a try is taken from, and how much each holds."""
    return {
        f"sign-in address {_network(ip_address)}": _PER_ADDRESS,
        f"sign-in account {_fingerprint(settings, email)}": _PER_ACCOUNT,
        "sign-in": _IN_ALL,
    }


def _network(ip_address: str) -> str:
    """The address; of IPv6 its /64, for one line has 2⁶⁴ of them."""
    try:
        address = ipaddress.ip_address(ip_address.partition("%")[0])
    except ValueError:
        return ip_address
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _try(
    conn: Connection[Any],
    settings: Settings,
    *,
    buckets: dict[str, int],
    password: str,
    known: str | None,
) -> bool:
    """Whether the password fits. Only a wrong one uses a try up, not a right or unchecked one."""
    bucket_service.take(conn, buckets)
    wrong = False
    try:
        wrong = not passwords.verify_password(password, known, rounds=settings.bcrypt_rounds)
    finally:
        if not wrong:
            bucket_service.give_back(conn, buckets)
    return not wrong
