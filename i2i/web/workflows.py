"""Workflows, as everybody sees them: the sample on the card. Operators change it in web/admin."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from i2i.errors import NotFound
from i2i.queries import images
from i2i.services import workflows as service
from i2i.web.database import connection, release
from i2i.web.images import thumbnail

bp = Blueprint("workflows", __name__)

SIDES = ("original", "result")


@bp.get("/workflows/<workflow_id>/sample/original", defaults={"side": "original"})
@bp.get("/workflows/<workflow_id>/sample/result", defaults={"side": "result"})
def sample(workflow_id: str, side: str) -> ResponseReturnValue:
    """One side of the pair that shows what a workflow does; NotFound while there is none."""
    job_id = service.get(connection(), workflow_id=workflow_id).sample_job_id
    image = job_id and images.find_of_sample(
        connection(), job_id=job_id, is_result=side == "result"
    )
    if not image:
        raise NotFound("This workflow has no sample.")
    release()
    return thumbnail(image)
