"""Whether everything works, trouble first."""

from flask import render_template
from flask.typing import ResponseReturnValue

from i2i.web.admin import bp


@bp.get("/health")
def health() -> ResponseReturnValue:
    """What an operator at night wants to know."""
    return render_template("admin/health.html")
