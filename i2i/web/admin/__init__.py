"""The operator's pages, one module a noun; for everybody else they do not exist."""

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue

from i2i.errors import NotFound
from i2i.models import Role
from i2i.web.sessions import current_user

bp = Blueprint("admin", __name__, url_prefix="/admin")


@bp.before_request
def require_admin() -> None:
    """Runs after require_user, so somebody is signed in."""
    if current_user().role != Role.ADMIN:
        raise NotFound("This page does not exist.")


@bp.get("/")
def start() -> ResponseReturnValue:
    """The page that an operator needs first when something is wrong."""
    return redirect(url_for("admin.health"), code=303)


from i2i.web.admin import (  # noqa: E402 - their routes join the blueprint
    health,  # noqa: F401
    jobs,  # noqa: F401
    usage,  # noqa: F401
    users,  # noqa: F401
    workflows,  # noqa: F401
)
