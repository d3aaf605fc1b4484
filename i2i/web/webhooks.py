"""Where fal calls back. No session and no page: a signature says who it is.

Answered within milliseconds, since fal waits 15 s and then calls again. Every answer but 2xx makes
fal call again later, so a wrong 4xx costs nothing but time, for the worker asks fal anyway.
"""

import hashlib
import json
from typing import cast

from flask import Blueprint, Flask, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from i2i.config import Settings
from i2i.errors import FalTemporary, NotFound, Refused
from i2i.gateways.fal import HttpFal
from i2i.gateways.webhooks import MOST_SKEW_SECONDS, Keys, Signature
from i2i.queries import webhooks as queries
from i2i.services import webhooks as service
from i2i.web.database import connection
from i2i.web.errors import later
from i2i.web.state import settings

bp = Blueprint("webhooks", __name__)

RETRY_SECONDS = 60
"""When fal shall come again while we cannot tell whether it is fal."""

KEYS_SECONDS = 5.0
"""Fetching fal's keys, in all: fal itself waits for 15 s."""


def register(app: Flask, *, settings: Settings) -> None:
    """The route, and the keys of fal that this process keeps."""
    app.extensions["i2i webhooks"] = Keys(HttpFal(settings, read_seconds=KEYS_SECONDS).jwks)
    app.register_blueprint(bp)


@bp.post("/webhooks/fal/<token>")
def receive(token: str) -> ResponseReturnValue:
    """Keep what fal says about one submission: 200 when it is kept, also when it was before."""
    if settings().public_url is None:
        return _refuse("Nothing here.", 404)
    body = request.get_data()
    signature = Signature.from_headers(dict(request.headers))
    if signature is None:
        return _refuse("The signature is missing or not complete.", 401)
    try:
        genuine = cast("Keys", current_app.extensions["i2i webhooks"]).verify(signature, body)
    except FalTemporary:
        answer = _refuse("The signature cannot be checked just now.", 503)
        return later(answer, seconds=RETRY_SECONDS)
    if not genuine:
        return _refuse("The signature does not hold.", 401)
    return _keep(signature, token=token, body=body)


def _keep(signature: Signature, *, token: str, body: bytes) -> ResponseReturnValue:
    """The callback is signed by fal: is it of now, whole, and this submission's?"""
    conn = connection()
    if abs(queries.read_clock(conn).seconds - signature.timestamp) > MOST_SKEW_SECONDS:
        return _refuse("The signature is too old, or from the future.", 401)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return _refuse("The body is not JSON.", 400)
    if not isinstance(content, dict) or content.get("request_id") != signature.request_id:
        return _refuse("The body does not name the request that is signed.", 400)
    try:
        service.receive(
            conn,
            token=token,
            request_id=signature.request_id,
            body_sha256=hashlib.sha256(body).hexdigest(),
        )
    except NotFound:
        return _refuse("Nothing here.", 404)
    except Refused as error:
        return _refuse(str(error), 409)
    return jsonify(status="ok")


def _refuse(sentence: str, status: int) -> ResponseReturnValue:
    return jsonify(error=sentence), status
