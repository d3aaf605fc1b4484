"""Batches: one click makes pictures of several photos; the same click again makes nothing new."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice, product
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import forms
from i2i.config import Settings
from i2i.errors import InvalidFields, NotFound, PerhapsCharged, Refused, plural
from i2i.forms import Definition
from i2i.models import (
    Batch,
    BatchVersion,
    Image,
    ImageStatus,
    JobCard,
    JobStatus,
    Verdict,
    Workflow,
)
from i2i.queries import batches, images, jobs, submissions, workflows
from i2i.services import audit, limits, trash
from i2i.services.workflows import definition_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person asks for. `parameters` are validated by forms.parse_form or parse_json.

    `only`: the photos and variations wanted, from 0, where these are not all.
    """

    user_id: UUID
    workflow_id: str
    image_ids: Sequence[UUID]
    reference_ids: Sequence[UUID]
    parameters: Mapping[str, Any]
    variations: int
    pilot: int
    client_key: str
    parent_id: UUID | None = None
    only: frozenset[tuple[UUID, int]] | None = None

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
        if self.only is not None:
            content.append(sorted(map(str, self.only)))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def get(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> Batch:
    """The user's own batch; NotFound otherwise."""
    batch = batches.find(conn, batch_id=batch_id, user_id=user_id)
    if batch is None:
        raise NotFound("This batch does not exist.")
    return batch


def version(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> BatchVersion:
    """How far the user's own batch has changed; NotFound otherwise."""
    found = batches.find_version(conn, batch_id=batch_id, user_id=user_id)
    if found is None:
        raise NotFound("This batch does not exist.")
    return found


def pictures(conn: Connection[Any], *, batch: Batch) -> list[JobCard]:
    """Its pictures in order; NotFound when none is left, InTrash when all can come back."""
    found = jobs.list_cards(conn, batch_id=batch.id, user_id=batch.user_id)
    if not found:
        raise trash.missing(conn, user_id=batch.user_id, batch_id=batch.id)
    return found


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
        pictures = _pictures(order, photos)
        _check_limits(conn, settings, order=order, pictures=len(pictures))
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
                definition, order.parameters, photos=[photo for photo, _ in pictures], variations=1
            ),
            client_key=order.client_key,
            content_digest=order.digest,
        )
        if made is None:
            return _resent(conn, order=order)
        for position, reference in enumerate(references, start=1):
            batches.add_reference(conn, batch_id=made.id, position=position, image_id=reference.id)
        _create_jobs(conn, batch_id=made.id, definition=definition, order=order, pictures=pictures)
        if order.parent_id:  # what a pilot held back is not made twice
            jobs.cancel_held_of_parent(conn, batch_id=made.id)
        images.notify_work(conn)
        _record(conn, "batch.created", made.id, pictures=len(pictures))
        return made.id


def _record(conn: Connection[Any], action: str, batch_id: UUID, *, pictures: int) -> None:
    """A second click that finds nothing left to do is no event."""
    if pictures:
        audit.record(conn, action, target=f"batch {batch_id}", detail=plural(pictures, "picture"))


def photos_again(
    conn: Connection[Any], *, batch_id: UUID, user_id: UUID, scope: str
) -> list[Image]:
    """The photos of a batch to make again: of `failed`, `held`, `rejected` or `all` pictures."""
    return images.list_of_batch(
        conn,
        batch_id=batch_id,
        user_id=user_id,
        status=scope if scope in {JobStatus.FAILED, JobStatus.HELD} else None,
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


def faults(conn: Connection[Any], settings: Settings, *, order: Order) -> dict[str, str]:
    """What `create` would say about everything but the settings, as far as can be known now."""
    try:
        _check(conn, settings, order=order)
    except InvalidFields as error:
        return error.fields
    return {}


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


def _pictures(order: Order, photos: Sequence[Image]) -> list[tuple[Image, int]]:
    """Photo and variation of each picture, photo by photo."""
    return [
        (photo, variation)
        for photo, variation in product(photos, range(order.variations))
        if order.only is None or (photo.id, variation) in order.only
    ]


def _create_jobs(
    conn: Connection[Any],
    *,
    batch_id: UUID,
    definition: Definition,
    order: Order,
    pictures: Sequence[tuple[Image, int]],
) -> None:
    first = dict.fromkeys(photo.id for photo, _ in pictures)
    pilot = set(islice(first, order.pilot)) if order.pilot else first
    jobs.create(
        conn,
        batch_id=batch_id,
        image_ids=[photo.id for photo, _ in pictures],
        variations=[variation for _, variation in pictures],
        parameters=[
            forms.vary_seed(order.parameters, variation, schema=definition.parameter_schema)
            for _, variation in pictures
        ],
        statuses=[
            JobStatus.PENDING if photo.id in pilot else JobStatus.HELD for photo, _ in pictures
        ],
    )


def release(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> int:
    """Start the held rest of a pilot; how many start."""
    get(conn, batch_id=batch_id, user_id=user_id)
    with conn.transaction():
        released = jobs.release(conn, batch_id=batch_id, user_id=user_id)
        images.notify_work(conn)
        _record(conn, "batch.released", batch_id, pictures=released)
    return released


def cancel(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> int:
    """Cancel what has not started, which is free; how many were cancelled."""
    get(conn, batch_id=batch_id, user_id=user_id)
    with conn.transaction():
        cancelled = jobs.cancel_waiting(conn, user_id=user_id, batch_id=batch_id)
        _record(conn, "batch.cancelled", batch_id, pictures=cancelled)
    return cancelled


SCOPES = {
    "failed": [JobStatus.FAILED],
    "cancelled": [JobStatus.CANCELLED],
    "rejected": [],
    "all": [JobStatus.FAILED, JobStatus.CANCELLED],
}
"""What a retry may name, and what of it starts again in place, as the same job."""


def retry(
    conn: Connection[Any],
    settings: Settings,
    *,
    batch_id: UUID,
    user_id: UUID,
    scope: str = "failed",
    perhaps: bool | None = None,
    changes: Mapping[str, str] | None = None,
    client_key: str = "",
) -> UUID:
    """Make pictures again; the batch in which they are made.

    With the same settings failed and cancelled ones start in place. What is completed, or gets
    other settings (`changes`, as a form sends them), is made by a child batch, and `client_key`
    names that click. `perhaps` says whether those that were perhaps charged start too; where there
    are some and it says nothing, PerhapsCharged asks.
    """
    parent = get(conn, batch_id=batch_id, user_id=user_id)
    if scope not in SCOPES:
        raise InvalidFields({"scope": "Choose failed, cancelled, rejected or all."})
    with conn.transaction():
        submissions.lock_limits(conn)  # before the rows, as everybody does
        rows = [
            row
            for row in jobs.list_cards(conn, batch_id=batch_id, user_id=user_id)
            if _is_made_by_child(row, scope=scope, changed=bool(changes))
        ]
        started = 0 if changes else _retry_in_place(conn, parent, scope=scope, perhaps=perhaps)
        # They count by now, so it is enough that nothing is exceeded.
        limits.check(conn, settings, user_id=user_id, pictures=0)
        images.notify_work(conn)
        if started:
            _record(conn, "batch.retried", batch_id, pictures=started)
        if rows:
            order = _order_again(conn, parent, rows=rows, changes=changes, client_key=client_key)
            return create(conn, settings, order=order)
    if not started:
        raise Refused(
            "Nothing to run again: no picture of this batch is in question, or their photos could "
            "not be read. Nothing was sent."
        )
    return batch_id


def once_more(
    conn: Connection[Any], settings: Settings, *, job: JobCard, user_id: UUID, client_key: str
) -> UUID:
    """The same picture with another seed, which the provider chooses; the child batch it is in."""
    parent = get(conn, batch_id=job.batch_id, user_id=user_id)
    order = _order_again(conn, parent, rows=[job], changes=None, client_key=client_key)
    unseeded = {name: value for name, value in order.parameters.items() if name != "seed"}
    return create(conn, settings, order=replace(order, parameters=unseeded))


def _is_made_by_child(row: JobCard, *, scope: str, changed: bool) -> bool:
    if scope == "rejected":
        return row.verdict == Verdict.REJECTED
    if changed:
        return row.status in {*SCOPES[scope], *([JobStatus.COMPLETED] if scope == "all" else [])}
    return scope == "all" and row.status == JobStatus.COMPLETED


def _retry_in_place(
    conn: Connection[Any], batch: Batch, *, scope: str, perhaps: bool | None
) -> int:
    started = jobs.retry(
        conn,
        user_id=batch.user_id,
        batch_id=batch.id,
        statuses=SCOPES[scope],
        perhaps=perhaps is not False,
    )
    asked = sum(job.perhaps for job in started)
    if asked and perhaps is None:
        raise PerhapsCharged(asked, others=len(started) - asked)
    return len(started)


def _order_again(
    conn: Connection[Any],
    parent: Batch,
    *,
    rows: Sequence[JobCard],
    changes: Mapping[str, str] | None,
    client_key: str,
) -> Order:
    """Exactly these pictures with the parent's settings and the changes to them."""
    workflow = workflows.find(conn, workflow_id=parent.workflow_name)
    if workflow is None:
        raise Refused("Its workflow is gone. Choose another one. Nothing was sent.")
    definition = definition_of(workflow.definition)
    schema, defaults = definition.parameter_schema, definition.default_parameters
    kept, lost = forms.fit(schema, defaults, parent.parameters)
    if lost:
        raise Refused(
            f"The workflow takes other settings by now ({', '.join(lost)}). "
            "Choose “Same again, but…” and look them over. Nothing was sent."
        )
    typed = {name: forms.as_text(value) for name, value in kept.items()}
    return Order(
        user_id=parent.user_id,
        workflow_id=parent.workflow_name,
        image_ids=list(dict.fromkeys(row.original_image_id for row in rows)),
        reference_ids=[each.id for each in images.find_references(conn, batch_id=parent.id)],
        parameters=forms.parse_form(schema, defaults, typed | dict(changes)) if changes else kept,
        variations=max(row.variation for row in rows) + 1,
        pilot=0,
        client_key=client_key,
        parent_id=parent.id,
        only=frozenset((row.original_image_id, row.variation) for row in rows),
    )
