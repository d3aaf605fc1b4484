"""Callbacks of fal: kept when they come, applied by a worker. Polling is complete without them.

A callback is a hint. It tells under which id fal runs a request, and that there is something to
fetch; the result itself is always asked of fal.
"""

import logging
from typing import Any

import psycopg
from psycopg import Connection

from i2i.config import Settings
from i2i.errors import NotFound, Refused
from i2i.gateways.fal import request_urls
from i2i.models import WebhookEvent
from i2i.queries import images, webhooks
from i2i.services import jobs as job_service

log = logging.getLogger("i2i.webhooks")


def address(settings: Settings, *, token: str) -> str | None:
    """Where fal shall call back for this submission; None where it cannot reach us."""
    return settings.public_url and f"{settings.public_url}/webhooks/fal/{token}"


def receive(conn: Connection[Any], *, token: str, request_id: str, body_sha256: str) -> None:
    """Keep a callback whose signature held, and wake the workers. Again and again is the same.

    Raises:
        NotFound: no submission has this token.
        Refused: the request is not this submission's.
    """
    with conn.transaction():
        submission = webhooks.find_submission(conn, token=token, request_id=request_id)
        if submission is None:
            raise NotFound
        if submission.taken or submission.request_id not in {None, request_id}:
            raise Refused("This request belongs to another submission. Nothing was changed.")
        if webhooks.create(conn, token=token, request_id=request_id, body_sha256=body_sha256):
            images.notify_work(conn)


def apply_pending(conn: Connection[Any], settings: Settings) -> int:
    """Apply every callback that nobody else is just applying, one transaction each; how many."""
    done = 0
    while _apply_next(conn, settings):
        done += 1
    return done


def _apply_next(conn: Connection[Any], settings: Settings) -> bool:
    with conn.transaction():
        event = webhooks.claim(conn)
        if event is None:
            return False
        try:
            with conn.transaction():
                _apply(conn, settings, event)
        except psycopg.IntegrityError as error:
            # One that never fits must not stand in the way of the others for ever.
            log.error("callback %s of fal cannot be applied: %s", event.id, error)  # noqa: TRY400
        webhooks.mark_applied(conn, event_id=event.id)
    return True


def _apply(conn: Connection[Any], settings: Settings, event: WebhookEvent) -> None:
    """Adopt the request where its id was not known; look at once where something may be there."""
    if event.known_request_id not in {None, event.request_id}:
        log.error(
            "fal called back for request %s, but the submission is request %s: ignored",
            event.request_id,
            event.known_request_id,
        )
        return
    urls = request_urls(settings, event.endpoint, event.request_id)
    if event.job_id is not None:
        # Guarded by the submission's state: nothing happens when its id is known by now.
        job_service.accept(conn, job_id=event.job_id, token=event.token, accepted=urls)
        webhooks.make_job_due(conn, job_id=event.job_id, request_id=event.request_id)
    webhooks.make_look_due(conn, token=event.token, request_id=event.request_id)
