"""`GET /metrics`: the numbers of the site for Prometheus, to whoever has METRICS_TOKEN."""

import hmac
import time

from flask import Blueprint, Flask, Response, abort, current_app, g, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from i2i.web.state import settings, state

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def show() -> ResponseReturnValue:
    """Prometheus' text; 404 where no token is set, as if there were no such page."""
    token = settings().metrics_token
    if token is None:
        abort(404)
    given = request.authorization
    bearer = given.token if given is not None and given.type == "bearer" else None
    if not hmac.compare_digest((bearer or "").encode(), token.encode()):
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer"))
    text, content_type = current_app.extensions["i2i meter"].render(state())
    return Response(text, content_type=content_type)


def register(app: Flask, *, token: str | None) -> None:
    """Count requests from now on, if anybody may ask for the numbers."""
    if token is None:
        return
    try:
        from i2i.web.prometheus import Meter  # noqa: PLC0415 - for those who want it
    except ModuleNotFoundError:
        raise SystemExit(
            "i2i: METRICS_TOKEN needs prometheus-client: pip install -r requirements-metrics.txt"
        ) from None
    meter = app.extensions["i2i meter"] = Meter()

    def begin() -> None:
        g.begun = time.perf_counter()

    def count(response: Response) -> Response:
        meter.count(
            method=request.method if request.url_rule else "",
            route=request.url_rule.rule if request.url_rule else "",
            status=response.status_code,
            seconds=time.perf_counter() - g.begun if "begun" in g else 0.0,
        )
        return response

    app.before_request(begin)
    app.after_request(count)
