"""What is refused without a service knowing it is recorded here, after the answer is made."""

from uuid import UUID

from flask import Flask, Response, g, request

from i2i.models import Role
from i2i.services import audit
from i2i.web.database import lend


def register(app: Flask) -> None:
    """Look at each answer."""
    app.after_request(record)


def record(response: Response) -> Response:
    """Things of others, operators' pages, other sites' forms, bad tokens, uploads as a whole."""
    status = response.status_code
    if status == 404 and g.get("user"):
        _record_not_found()
    elif status == 403:
        why = "not by this way of signing in" if g.get("user") else "from another site"
        audit.lend_refusal(lend, "access.refused", target=_place(), detail=why)
    elif status == 401 and "Authorization" in request.headers:
        audit.lend_refusal(lend, "access.refused", target=_place(), detail="no good token")
    elif request.endpoint == "images.create" and status in {400, 413, 507}:
        audit.lend_refusal(lend, "upload.refused", target="all files", detail=f"status {status}")
    return response


def _record_not_found() -> None:
    """404 looks the same for what is nowhere; the record knows the difference."""
    thing_id = (request.view_args or {}).get("id")
    if request.blueprint == "admin" and g.user.role != Role.ADMIN:
        audit.lend_refusal(lend, "access.refused", target=_place(), detail="only for admins")
    elif isinstance(thing_id, UUID):
        audit.lend_foreign(lend, thing_id=thing_id)


def _place() -> str:
    """Method and path; never the query, which may hold anything."""
    return f"{request.method} {request.path}"
