"""Users: accounts are made by an operator; losing the whitelist ends sessions and waiting work."""

import zoneinfo
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from psycopg import Connection
from psycopg.errors import CheckViolation, UniqueViolation

from i2i import guessable, passwords
from i2i.config import Settings
from i2i.errors import EmailTaken, InvalidFields, NotFound, Refused, plural
from i2i.gateways.storage import Storage
from i2i.models import Role, User
from i2i.queries import jobs, sessions, users
from i2i.services import Connect, audit


def create(
    conn: Connection[Any],
    settings: Settings,
    *,
    email: str,
    password: str,
    role: Role = Role.USER,
    is_whitelisted: bool = True,
    is_generated: bool = False,
) -> User:
    """The new user; EmailTaken, or InvalidFields for an address or password that does not do.

    A password that `is_generated` opens, for a day, nothing but the page where another is chosen.
    """
    check_password(settings, email=email, password=password)
    password_hash = passwords.hash_password(password, rounds=settings.bcrypt_rounds)
    try:
        with conn.transaction():
            user = users.create(
                conn,
                email=email.strip(),
                password_hash=password_hash,
                is_whitelisted=is_whitelisted,
                role=role,
                is_generated=is_generated,
            )
            detail = user.role if is_whitelisted else f"{user.role}, may not sign in"
            audit.record(conn, "user.created", target=user.email, detail=detail)
            return user
    except UniqueViolation as error:
        if error.diag.constraint_name == "users_email_key":
            raise EmailTaken(f"There is a user {email} already.") from error
        raise
    except CheckViolation as error:
        if error.diag.constraint_name == "users_email_shape":
            raise InvalidFields({"email": f"{email!r} is not an e-mail address."}) from error
        raise


def get(conn: Connection[Any], *, email: str) -> User:
    """The user with this address, in any case; NotFound with a sentence."""
    user = users.find_by_email(conn, email=email.strip())
    if user is None:
        raise NotFound(f"There is no user {email}.")
    return user


def set_whitelisted(conn: Connection[Any], *, email: str, is_whitelisted: bool) -> User:
    """Let a user in or out; out means: signed out now, and what was not sent is cancelled."""
    user = get(conn, email=email)
    with conn.transaction():
        users.set_whitelisted(conn, user_id=user.id, is_whitelisted=is_whitelisted)
        if not is_whitelisted:
            sessions.delete_of_user(conn, user_id=user.id)
            # What is being sent comes first: it may just be given back, and waits from then on.
            jobs.ask_cancel_sending(conn, user_id=user.id)
            jobs.cancel_waiting(conn, user_id=user.id)
        action = "user.whitelisted" if is_whitelisted else "user.unwhitelisted"
        audit.record(conn, action, target=user.email)
    return user


def set_role(conn: Connection[Any], *, email: str, role: str) -> User:
    """Make a user an admin, or no longer."""
    user = get(conn, email=email)
    with conn.transaction():
        users.set_role(conn, user_id=user.id, role=role)
        audit.record(conn, "user.role_changed", target=user.email, detail=f"{user.role} to {role}")
    return user


def set_password(
    conn: Connection[Any],
    settings: Settings,
    *,
    user_id: UUID,
    password: str,
    keep_session: UUID | None = None,
    is_generated: bool = False,
) -> int:
    """Store the new password and end the user's other sessions; how many ended.

    InvalidFields("password") when it does not do; `is_generated` as in `create`.
    """
    user = users.find(conn, user_id=user_id)
    if user is None:
        raise NotFound("This account does not exist.")
    check_password(settings, email=user.email, password=password)
    password_hash = passwords.hash_password(password, rounds=settings.bcrypt_rounds)
    with conn.transaction():
        users.set_password_hash(
            conn, user_id=user_id, password_hash=password_hash, is_generated=is_generated
        )
        action = "password.changed" if keep_session else "password.reset"
        audit.record(conn, action, target=user.email)
        return sessions.delete_of_user(conn, user_id=user_id, keep=keep_session)


def check_password(settings: Settings, *, email: str, password: str) -> None:
    """InvalidFields("password") with a sentence saying what to do, unless it is a good one."""
    names = [email, *settings.trusted_hosts]
    if settings.public_url:
        names.append(urlsplit(settings.public_url).hostname or "")
    if problem := passwords.problem(password) or guessable.problem(password, names=names):
        raise InvalidFields({"password": problem})


def set_time_zone(
    conn: Connection[Any], *, user_id: UUID, time_zone: str, is_guess: bool = False
) -> None:
    """Show times as clocks show them there; a guess counts only while nothing was chosen.

    InvalidFields when it is no name of the tz database that this machine knows.
    """
    if time_zone not in _time_zones():
        raise InvalidFields({"time_zone": "Choose a place from the list."})
    users.set_time_zone(conn, user_id=user_id, time_zone=time_zone, is_guess=is_guess)


@cache
def _time_zones() -> frozenset[str]:
    """Reading them takes some 30 ms, and every sign-in asks."""
    return frozenset(zoneinfo.available_timezones())


def delete(connect: Connect, storage: Storage, *, email: str) -> User:
    """Remove the user with images, batches and jobs; the ledger keeps every submission.

    Refused while something of theirs is at fal.
    """
    with connect() as conn, conn.transaction():
        user = get(conn, email=email)
        if count := jobs.count_at_fal(conn, user_id=user.id).count:
            raise Refused(
                f"{user.email} still has {plural(count, 'picture')} in the making, "
                "which may be charged. "
                "Take the user off the whitelist, and delete when all is finished."
            )
        users.delete(conn, user_id=user.id)
        audit.record(conn, "user.deleted", target=user.email)
    # Rows first: bytes without a row are found by a sweep, a row without bytes is a broken page.
    for key in list(storage.keys(f"users/{user.id}/")):
        storage.delete(key)
    return user
