"""Whether this process lives, and whether it can serve."""

import psycopg
from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from i2i import db
from i2i.errors import DatabaseUnavailable
from i2i.web.database import connection

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def live() -> Response:
    """200 while the process lives."""
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> ResponseReturnValue:
    """200 when the database answers and has every migration of this release, else 503 and why."""
    try:
        pending = db.pending_migrations(connection())
    except (DatabaseUnavailable, psycopg.Error):
        return jsonify(status="unavailable", reason="The database does not answer."), 503
    if pending:
        return jsonify(
            status="unavailable", reason=f"Migrations are missing: {', '.join(pending)}."
        ), 503
    return jsonify(status="ok")
