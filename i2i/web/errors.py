"""Errors as pages and as JSON: what happened, whether it cost money, and two ways out."""

import logging
from collections.abc import Sequence

import psycopg
from flask import Flask, Response, g, jsonify, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from i2i import origin
from i2i.errors import (
    DatabaseUnavailable,
    InvalidFields,
    NotFound,
    Refused,
    StorageError,
    TooBusy,
    TooManyTries,
)
from i2i.web import database

log = logging.getLogger("i2i.web")

PAGES = {
    400: (
        "Not understood",
        (
            "The browser sent something that does not hold together. Nothing was changed. "
            "Go back and try again."
        ),
    ),
    403: ("Not from here", "This form was sent from another site. Nothing was changed."),
    404: ("Nothing here", "This page does not exist, was deleted, or is not yours to see."),
    405: ("Nothing here", "This address does not answer to that."),
    409: ("Not possible now", "Nothing was changed."),
    413: (
        "Too much at once",
        (
            "The request is larger than this site takes. Nothing was stored. "
            "Send fewer or smaller photos."
        ),
    ),
    500: (
        "Something broke on our side",
        ("Your pictures and uploads are safe, and nothing was sent twice. Try again in a minute."),
    ),
    503: (
        "Back in a moment",
        "The database is restarting; nothing is lost. Try again in a minute.",
    ),
    507: (
        "No room",
        "The disk of this site is full. Nothing was stored; try again when it has room.",
    ),
}


def wants_json() -> bool:
    """Whether the client asks for JSON rather than a page."""
    if "wants_json" not in g:
        best = request.accept_mimetypes.best_match(["text/html", "application/json"])
        g.wants_json = best == "application/json"
    return bool(g.wants_json)


Action = tuple[str, str, str, dict[str, str]]
"""Label, method, url and fields of a button."""


def answer(
    status: int,
    *,
    title: str | None = None,
    sentence: str | None = None,
    actions: Sequence[Action] | None = None,
) -> ResponseReturnValue:
    """An error as the client wants it; title, sentence and actions replace the usual ones.

    Where the fault is ours the request's id stands beside it: it finds the lines in the log.
    """
    known, usual = PAGES.get(status, ("Not possible", "This cannot be done. Nothing was changed."))
    request_id = origin.current().request_id if status >= 500 else None
    if wants_json():
        ids = {"request_id": request_id} if request_id else {}
        return jsonify(error=sentence or usual, **ids), status
    usual_actions: list[Action] = [
        ("Upload", "get", url_for("images.upload"), {}),
        ("History", "get", url_for("jobs.history"), {}),
    ]
    page = render_template(
        "errors/error.html",
        title=title or known,
        sentence=sentence or usual,
        code=status,
        actions=actions or usual_actions,
        request_id=request_id,
    )
    return page, status


def register(app: Flask) -> None:
    """Turn every error that reaches Flask into a page."""
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(NotFound, lambda _error: answer(404))
    app.register_error_handler(Refused, lambda error: answer(409, sentence=str(error)))
    app.register_error_handler(InvalidFields, lambda error: answer(422, sentence=str(error)))
    app.register_error_handler(StorageError, lambda error: answer(507, sentence=str(error)))
    app.register_error_handler(DatabaseUnavailable, on_database)
    app.register_error_handler(psycopg.DataError, on_data)
    app.register_error_handler(psycopg.OperationalError, on_database)
    app.register_error_handler(
        TooBusy, lambda error: later(answer(503, sentence=str(error)), seconds=1)
    )
    app.register_error_handler(TooManyTries, on_too_many)
    app.register_error_handler(Exception, on_unforeseen)


def on_http(error: HTTPException) -> ResponseReturnValue:
    """Werkzeug's own errors; those with a response (redirects) stay as they are."""
    if error.response is not None or error.code is None:
        return error
    # A sentence of ours says what was not stored or changed; Werkzeug's are for developers.
    ours = error.description if error.description and "Nothing was" in error.description else None
    response = make_response(answer(error.code, sentence=ours))
    for name, value in error.get_headers():  # Allow, Content-Range, Retry-After
        if name != "Content-Type":
            response.headers[name] = value
    return response


def on_data(error: psycopg.DataError) -> ResponseReturnValue:
    """400: a value that PostgreSQL cannot hold, such as text with a NUL, came from outside."""
    log.warning("400 at %s: %s", request.path, type(error).__name__)
    return answer(400)


def on_too_many(error: TooManyTries) -> ResponseReturnValue:
    """429 with the time to wait, also for programs."""
    return later(answer(429, sentence=str(error)), seconds=error.retry_after)


def on_database(error: DatabaseUnavailable | psycopg.OperationalError) -> ResponseReturnValue:
    """503: it is worth trying again soon."""
    log.warning("503: %s", error)
    database.release()
    g.pop("user", None)  # the page is made without asking the database again
    return later(answer(503), seconds=5)


def later(answered: ResponseReturnValue, *, seconds: int) -> Response:
    """The same answer, saying when to come back."""
    response = make_response(answered)
    response.headers["Retry-After"] = str(seconds)
    return response


def on_unforeseen(error: Exception) -> ResponseReturnValue:
    """500; the log tells more."""
    log.error("%s %s broke", request.method, request.path, exc_info=error)
    database.release()
    return answer(500)
