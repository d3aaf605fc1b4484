"""The audit trail: one row for what somebody did or was refused, with time, actor and address.

Who acts is known from `i2i.origin`. What a record says is chosen by whoever calls: names of things
and reasons, never passwords, cookies, keys or prompts.
"""

import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from i2i import origin
from i2i.errors import DatabaseUnavailable, TooManyTries
from i2i.queries import audit
from i2i.services import Connect, buckets

log = logging.getLogger("i2i.audit")

MOST_REFUSALS, MOST_IN_ALL = 30, 1000
"""Refusals that are recorded in buckets.WINDOW, of one action and actor (or address) and of all: a
flood must not fill the disk. What is beyond is refused all the same."""


def record(
    conn: Connection[Any], action: str, *, target: str = "", detail: str = "", outcome: str = "done"
) -> None:
    """Write down what was done, in the transaction of the deed: neither is without the other.

    `action` is a noun and a verb, as in "user.created"; docs/reference.md lists them.
    """
    who = origin.current()
    audit.record(
        conn,
        action=action,
        outcome=outcome,
        actor_id=who.actor_id,
        actor=_line(who.actor, length=254),
        ip_address=who.ip_address,
        target=_line(target, length=500),
        detail=_line(detail, length=1000),
        request_id=who.request_id,
    )


def record_refusal(
    conn: Connection[Any], action: str, *, target: str = "", detail: str = ""
) -> None:
    """Write down what was refused, so many of a kind. Never raises: a refusal stays one."""
    who = origin.current()
    kind = f"audit {action} {who.actor or who.ip_address}"
    try:
        with suppress(TooManyTries), conn.transaction():
            buckets.take(conn, {kind: MOST_REFUSALS, "audit": MOST_IN_ALL})
            record(conn, action, target=target, detail=detail, outcome="refused")
    except psycopg.Error as error:
        log.warning("%s was refused, and not recorded: %s", action, type(error).__name__)


def lend_refusal(connect: Connect, action: str, *, target: str = "", detail: str = "") -> None:
    """The same for whoever holds no connection."""
    try:
        with connect() as conn:
            record_refusal(conn, action, target=target, detail=detail)
    except (DatabaseUnavailable, psycopg.Error) as error:
        log.warning("%s was refused, and not recorded: %s", action, type(error).__name__)


def lend_foreign(connect: Connect, *, thing_id: UUID) -> None:
    """Write down that the actor asked for this, if it exists and is somebody else's."""
    actor_id = origin.current().actor_id
    if actor_id is None:
        return
    try:
        with connect() as conn:
            found = audit.find_foreign(conn, thing_id=thing_id, user_id=actor_id)
            if found is not None:
                target = f"{found.noun} {thing_id} of {found.email}"
                record_refusal(conn, "access.refused", target=target)
    except (DatabaseUnavailable, psycopg.Error) as error:
        log.warning("access.refused was not looked into: %s", type(error).__name__)


def _line(text: str, *, length: int) -> str:
    """On one line, and without what PostgreSQL or a terminal cannot take."""
    return "".join(each if each.isprintable() else " " for each in text)[:length]
