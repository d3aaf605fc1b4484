"""Each request has an id: in its answer, on pages of errors, in its log lines and audit records."""

import re
import secrets

from flask import Flask, Response, request

from i2i import origin
from i2i.origin import Origin
from i2i.web.state import settings

HEADER = "X-Request-Id"

SHAPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
"""What a proxy may call a request; anything else could forge a line or a tag."""


def register(app: Flask) -> None:
    """Name each request before anything else looks at it."""
    app.before_request(begin)
    app.after_request(tell)
    app.teardown_request(lambda _error: origin.begin(Origin()))


def begin() -> None:
    """Nobody is known yet. Only a trusted proxy names requests, and only with a harmless name."""
    given = request.headers.get(HEADER, "") if settings().trusted_proxies else ""
    origin.begin(
        Origin(
            ip_address=request.remote_addr,
            request_id=given if SHAPE.fullmatch(given) else secrets.token_hex(8),
        )
    )


def tell(response: Response) -> Response:
    """The id goes back with the answer."""
    if request_id := origin.current().request_id:
        response.headers[HEADER] = request_id
    return response
