"""Batches: one click makes pictures of several photos; the same click again makes nothing new."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import forms
from i2i.config import Settings
from i2i.errors import InvalidFields, NotFound, PerhapsCharged, Refused, plural
from i2i.forms import Definition
from i2i.models import Batch, Image, ImageStatus, JobStatus, Workflow
from i2i.queries import batches, images, jobs, submissions, workflows
from i2i.services import limits
from i2i.services.workflows import definition_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person asks for. `parameters` are validated by forms.parse_form or parse_json."""

    user_id: UUID
    workflow_id: str
    image_ids: Sequence[UUID]
    reference_ids: Sequence[UUID]
    parameters: Mapping[str, Any]
    variations: int
    pilot: int
    client_key: str
    parent_id: UUID | None = None

    @property
    def digest(self) -> str:
        """Names the content: the same key with another digest is another wish."""
        content: list[Any] = [
            self.workflow_id,
            sorted(map(str, self.image_ids)),
            list(map(str, self.reference_ids)),
            dict(self.parameters),
            self.variations,
            self.pilot,
        ]
        if self.parent_id:
            content.append(str(self.parent_id))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def get(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> Batch:
    """The user's own batch; NotFound otherwise."""
    batch = batches.find(conn, batch_id=batch_id, user_id=user_id)
    if batch is None:
        raise NotFound("This batch does not exist.")
    return batch


def create(conn: Connection[Any], settings: Settings, *, order: Order) -> UUID:
    """Record the batch and its jobs in one transaction and wake a worker; the batch's id.

    A resend of the same click (client_key) answers with the batch it made. InvalidFields names
    what to change; nothing was recorded or charged then. NotFound for a parent of somebody else's.
    """
    if order.parent_id:
        get(conn, batch_id=order.parent_id, user_id=order.user_id)
    with conn.transaction():
        # First of all: of two equal clicks the second finds what the first has made.
        submissions.lock_limits(conn)
        if batches.find_by_client_key(conn, client_key=order.client_key, user_id=order.user_id):
            return _resent(conn, order=order)
        photos, references, workflow = _check(conn, settings, order=order)
        _check_limits(conn, settings, order=order, pictures=len(photos) * order.variations)
        definition = definition_of(workflow.definition)
        made = batches.create(
            conn,
            user_id=order.user_id,
            parent_id=order.parent_id,
            workflow_version_id=workflow.version_id,
            parameters=order.parameters,
            variations=order.variations,
            pilot=order.pilot,
            estimate=estimate(
                definition, order.parameters, photos=photos, variations=order.variations
            ),
            client_key=order.client_key,
            content_digest=order.digest,
        )
        if made is None:
            return _resent(conn, order=order)
        for position, reference in enumerate(references, start=1):
            batches.add_reference(conn, batch_id=made.id, position=position, image_id=reference.id)
        _create_jobs(conn, batch_id=made.id, definition=definition, order=order, photos=photos)
        images.notify_work(conn)
        return made.id


def photos_again(
    conn: Connection[Any], *, batch_id: UUID, user_id: UUID, scope: str
) -> list[Image]:
    """The photos of a batch to make again: of its `failed`, its `rejected` or `all` pictures."""
    return images.list_of_batch(
        conn,
        batch_id=batch_id,
        user_id=user_id,
        status=JobStatus.FAILED if scope == "failed" else None,
        verdict="rejected" if scope == "rejected" else None,
    )


def estimate(
    definition: Definition,
    parameters: Mapping[str, Any],
    *,
    photos: Sequence[Image],
    variations: int,
) -> Decimal | None:
    """What a whole batch is expected to cost; None when the price is unknown."""
    each = [
        forms.estimate(definition, parameters=parameters, width=photo.width, height=photo.height)
        for photo in photos
    ]
    known = [price for price in each if price is not None]
    return sum(known, Decimal(0)) * variations if len(known) == len(each) else None


def _check(
    conn: Connection[Any], settings: Settings, *, order: Order
) -> tuple[list[Image], list[Image], Workflow]:
    """The photos in name order, the references in the order chosen, and the active workflow."""
    wrong: dict[str, str] = {}
    images.lock_uploads(conn, image_ids=[*order.image_ids, *order.reference_ids])
    photos = images.find_uploads(conn, image_ids=order.image_ids, user_id=order.user_id)
    found = images.find_uploads(conn, image_ids=order.reference_ids, user_id=order.user_id)
    by_id = {image.id: image for image in found}
    references = [by_id[each] for each in order.reference_ids if each in by_id]
    workflow = workflows.find(conn, workflow_id=order.workflow_id)
    if not photos:
        wrong["image"] = "Choose at least one photo."
    elif len(photos) != len(set(order.image_ids)):
        wrong["image"] = "A photo was deleted in the meantime. Choose the photos again."
    elif bad := [photo for photo in photos if photo.status == ImageStatus.REJECTED]:
        wrong["image"] = f"{bad[0].original_filename} is not readable. Leave it out."
    if len(references) != len(order.reference_ids):
        wrong["reference"] = "A reference was deleted in the meantime. Choose again."
    elif any(each.status == ImageStatus.REJECTED for each in references):
        wrong["reference"] = "A reference is not readable. Choose another."
    if workflow is None or not workflow.is_active:
        wrong["workflow"] = "This workflow is switched off. Choose another."
    elif len(references) > (most := definition_of(workflow.definition).max_references):
        wrong["reference"] = (
            f"This workflow takes up to {most} references."
            if most
            else "This workflow takes no references."
        )
    if not 1 <= order.variations <= 4:
        wrong["variations"] = "Choose 1 to 4 pictures of each photo."
    elif len(photos) * order.variations > settings.max_jobs_per_batch:
        left = limits.left_today(conn, settings, user_id=order.user_id)
        wrong["variations"] = (
            f"{len(photos) * order.variations:,} pictures are more than the "
            f"{settings.max_jobs_per_batch:,} that one batch may have. "
            f"{plural(max(0, left), 'more picture')} may be made today. "
            "Nothing was sent or charged."
        )
    if order.pilot < 0:
        wrong["pilot"] = "Choose how many photos to make first, or 0."
    if not 8 <= len(order.client_key) <= 100:
        wrong["client_key"] = "This form is incomplete. Reload the page and send it again."
    if wrong or workflow is None:
        raise InvalidFields(wrong)
    return photos, references, workflow


def _check_limits(
    conn: Connection[Any], settings: Settings, *, order: Order, pictures: int
) -> None:
    try:
        limits.check(conn, settings, user_id=order.user_id, pictures=pictures)
    except Refused as error:
        raise InvalidFields({"variations": str(error)}) from error


def _resent(conn: Connection[Any], *, order: Order) -> UUID:
    """The batch this click made before; InvalidFields when it now asks for something else."""
    batch = batches.find_by_client_key(conn, client_key=order.client_key, user_id=order.user_id)
    if batch is None or batch.content_digest != order.digest:
        raise InvalidFields(
            {
                "client_key": "This form was sent before with other settings, and its pictures "
                "are being made. Nothing new was sent or charged. Send again to make these too."
            }
        )
    return batch.id


def _create_jobs(
    conn: Connection[Any],
    *,
    batch_id: UUID,
    definition: Definition,
    order: Order,
    photos: Sequence[Image],
) -> None:
    pictures = list(product(enumerate(photos), range(order.variations)))
    jobs.create(
        conn,
        batch_id=batch_id,
        image_ids=[photo.id for (_, photo), _ in pictures],
        variations=[variation for _, variation in pictures],
        parameters=[
            forms.vary_seed(order.parameters, variation, schema=definition.parameter_schema)
            for _, variation in pictures
        ],
        statuses=[
            JobStatus.HELD if order.pilot and index >= order.pilot else JobStatus.PENDING
            for (index, _), _ in pictures
        ],
    )


def release(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> int:
    """Start the held rest of a pilot; how many start."""
    get(conn, batch_id=batch_id, user_id=user_id)
    with conn.transaction():
        released = jobs.release(conn, batch_id=batch_id, user_id=user_id)
        images.notify_work(conn)
    return released


def cancel(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> int:
    """Cancel what has not started, which is free; how many were cancelled."""
    get(conn, batch_id=batch_id, user_id=user_id)
    return jobs.cancel_waiting(conn, user_id=user_id, batch_id=batch_id)


SCOPES = {
    "failed": [JobStatus.FAILED],
    "all": [JobStatus.FAILED, JobStatus.CANCELLED],
}
"""What a retry starts again in place, as the same job."""


def retry(
    conn: Connection[Any],
    settings: Settings,
    *,
    batch_id: UUID,
    user_id: UUID,
    scope: str = "failed",
    perhaps: bool | None = None,
) -> int:
    """Start pictures again with the same settings; how many start.

    `perhaps` says whether those that were perhaps charged start too; where there are some and it
    says nothing, PerhapsCharged asks.
    """
    get(conn, batch_id=batch_id, user_id=user_id)
    if scope not in SCOPES:
        raise InvalidFields({"scope": "Choose failed or all."})
    with conn.transaction():
        submissions.lock_limits(conn)  # before the rows, as everybody does
        started = jobs.retry(
            conn,
            user_id=user_id,
            batch_id=batch_id,
            statuses=SCOPES[scope],
            perhaps=perhaps is not False,
        )
        asked = sum(job.perhaps for job in started)
        if asked and perhaps is None:
            raise PerhapsCharged(asked, others=len(started) - asked)
        # They count by now, so it is enough that nothing is exceeded.
        limits.check(conn, settings, user_id=user_id, pictures=0)
        images.notify_work(conn)
    if not started:
        raise Refused(
            "Nothing to run again: no picture of this batch has failed, or their photos could not "
            "be read. Nothing was sent."
        )
    return len(started)
