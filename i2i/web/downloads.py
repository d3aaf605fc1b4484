"""Many pictures as one ZIP: of a batch, or of what was chosen in the history."""

import threading
from uuid import UUID

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from i2i.errors import NotFound, Refused
from i2i.models import Verdict
from i2i.queries import jobs
from i2i.services import archives
from i2i.services import batches as batch_service
from i2i.web import batches, history, words
from i2i.web.database import THREADS, connection, release
from i2i.web.errors import answer, later
from i2i.web.images import attachment
from i2i.web.sessions import current_user
from i2i.web.state import state

bp = Blueprint("downloads", __name__)

AT_ONCE = max(1, THREADS // 4)
"""Archives that one process sends at a time: each holds a thread for as long as it takes."""

RETRY_SECONDS = 20

_places = threading.BoundedSemaphore(AT_ONCE)


@batches.bp.get("/batches/<uuid:id>.zip", endpoint="download")
def of_batch(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """What a batch has made; with `verdict` only what has that one."""
    conn, user = connection(), current_user()
    batch = batch_service.get(conn, batch_id=id, user_id=user.id)
    verdict = request.args.get("verdict")
    if verdict not in {None, "none", *Verdict}:
        raise NotFound("There is no such verdict.")
    chosen = [
        card.id
        for card in jobs.list_cards(conn, batch_id=batch.id, user_id=user.id)
        if verdict in {None, card.verdict or "none"}
    ]
    moment = words.local(batch.created_at)
    return _send(chosen, name=f"batch-{moment:%Y-%m-%d-%H%M}{f'-{verdict}' if verdict else ''}.zip")


@bp.get("/jobs.zip")
def of_selection() -> ResponseReturnValue:
    """What the pictures chosen in the history have made."""
    chosen = history.chosen_jobs()
    if not chosen:
        raise Refused("Nothing was chosen. Choose the pictures to download first.")
    return _send(chosen, name="pictures.zip")


def _send(job_ids: list[UUID], *, name: str) -> ResponseReturnValue:
    """Stream the archive with its length; 503 while as many are sent as may be.

    The connection goes back before the first byte. A part can be asked for, so that a broken
    download goes on: what lies before it is read again, and not sent.
    """
    storage = state().storage
    archive = archives.plan(connection(), storage, job_ids=job_ids, user_id=current_user().id)
    release()
    if not _places.acquire(blocking=False):
        busy = "Other downloads are being sent just now. Try again in a moment."
        return later(answer(503, sentence=busy), seconds=RETRY_SECONDS)
    response = Response(archives.stream(archive, storage), mimetype="application/zip")
    response.call_on_close(_places.release)
    response.content_length = archive.length
    response.headers["Content-Disposition"] = attachment(name)
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(archive.etag)
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=archive.length)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return response
