"""Batches: choose settings, make pictures, watch them."""

import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import forms
from i2i.errors import InvalidFields, Refused
from i2i.forms import Definition
from i2i.models import Batch, Image, JobCard, JobStatus, Workflow
from i2i.queries import batches as queries
from i2i.queries import images, jobs, submissions, workflows
from i2i.services import batches as service
from i2i.services.batches import Order
from i2i.services.workflows import definition_of
from i2i.web import cards
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.images import chosen_ids, facts
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import money, plural, seconds

bp = Blueprint("batches", __name__)

PILOT_PHOTOS = 2
REFERENCES_OFFERED = 12
GROUP_HELP = {"Model": "“Any” lets the workflow choose."}
KINDS = {"choices_select": "select"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the form on screen is about: photos, the workflow chosen, and how many of each."""

    photos: Sequence[Image]
    reference_ids: Sequence[UUID]
    workflow: Workflow
    definition: Definition
    offered: Sequence[Workflow]
    variations: int
    pilot: int
    client_key: str


@bp.get("/batches/new")
def new() -> ResponseReturnValue:
    """Choose a workflow and fill its form; GET with typed values shows them with their price."""
    choice = _choice()
    if not choice.photos:
        return redirect(url_for("images.upload"), code=303)
    return _new_page(choice, errors={})


@bp.post("/batches")
def create() -> ResponseReturnValue:
    """Make the pictures, or show the form again with everything typed and what to change."""
    choice = _choice()
    try:
        parameters = forms.parse_form(
            choice.definition.parameter_schema,
            choice.definition.default_parameters,
            {name: value for name, value in request.form.items() if name not in forms.RESERVED},
        )
        batch_id = service.create(
            connection(),
            settings(),
            order=Order(
                user_id=current_user().id,
                workflow_id=request.form.get("workflow", ""),
                image_ids=chosen_ids("image")[0],
                reference_ids=choice.reference_ids,
                parameters=parameters,
                variations=choice.variations,
                pilot=choice.pilot,
                client_key=choice.client_key,
            ),
        )
    except InvalidFields as error:
        if wants_json():
            return jsonify(error="Nothing was sent or charged.", fields=error.fields), 422
        return _new_page(choice, errors=error.fields), 422
    if wants_json():
        batch = service.get(connection(), batch_id=batch_id, user_id=current_user().id)
        return jsonify(_as_json(batch)), 201
    return redirect(url_for("batches.show", id=batch_id), code=303)


def _choice() -> Choice:
    image_ids, reference_ids = chosen_ids("image", "reference")
    conn = connection()
    offered = workflows.list_all(conn, only_active=True)
    if not offered:
        raise Refused("No workflow is switched on. Ask your admin to switch one on.")
    wanted = request.values.get("workflow")
    workflow = next((each for each in offered if each.id == wanted), None)
    if workflow is None and wanted:  # switched off meanwhile: the form stays, saving says so
        workflow = workflows.find(conn, workflow_id=wanted)
    workflow = workflow or _default(offered)
    return Choice(
        photos=images.find_uploads(conn, image_ids=image_ids, user_id=current_user().id),
        reference_ids=reference_ids,
        workflow=workflow,
        definition=definition_of(workflow.definition),
        offered=offered,
        variations=_number("variations", default=1),
        pilot=_number("pilot", default=0),
        client_key=request.values.get("client_key") or secrets.token_urlsafe(16),
    )


def _default(offered: Sequence[Workflow]) -> Workflow:
    return next((each for each in offered if each.id == "mannequin-to-human-v1"), offered[0])


def _number(name: str, *, default: int) -> int:
    """A small whole number of the form; what is none becomes -1, which no field accepts."""
    text = request.values.get(name, "").strip()
    if not text:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1


def _new_page(choice: Choice, *, errors: Mapping[str, str]) -> str:
    typed = request.values.to_dict()
    fields = [
        _field(each, definition=choice.definition, typed=typed, error=errors.get(each.name))
        for each in forms.fields(
            choice.definition.parameter_schema, choice.definition.default_parameters
        )
    ]
    image_ids = [photo.id for photo in choice.photos]
    shown = {field["name"] for field in fields} | {
        "image",
        "reference",
        "workflow",
        "variations",
        "pilot",
    }
    return render_template(
        "batches/new.html",
        images=[facts(photo) for photo in choice.photos],
        change_url=url_for("images.upload", image=image_ids),
        workflows=[_offer(each, photos=choice.photos) for each in choice.offered],
        workflow=_offer(choice.workflow, photos=choice.photos)
        | {
            "groups": _groups(fields),
            "advanced": [field for field in fields if field["advanced"]],
            "max_references": choice.definition.max_references,
        },
        references=_references(choice),
        reference_ids=choice.reference_ids,
        variations=choice.variations,
        pilot=choice.pilot,
        pilot_photos=PILOT_PHOTOS if len(choice.photos) > PILOT_PHOTOS else 0,
        # A form that was refused for its key gets a new one: sending it again is a new wish.
        client_key=secrets.token_urlsafe(16) if "client_key" in errors else choice.client_key,
        errors=[(name if name in shown else "", text) for name, text in errors.items()],
        update_url=url_for("batches.new"),
        estimate=_estimate(choice, typed=typed),
    )


def _offer(workflow: Workflow, *, photos: Sequence[Image]) -> dict[str, Any]:
    """A workflow to choose, with its price for the first photo."""
    definition = definition_of(workflow.definition)
    photo = photos[0] if photos else None
    price = forms.estimate(
        definition,
        parameters=definition.default_parameters,
        width=photo.width if photo else None,
        height=photo.height if photo else None,
    )
    usual = cards.usual_seconds(connection()).get(workflow.id, definition.usual_seconds)
    return {
        "id": workflow.id,
        "name": definition.name,
        "description": definition.description,
        "price_words": money(price) if price is None else f"{money(price)} a picture",
        "usual_words": f"usually {seconds(usual)}" if usual else "",
        "url": url_for("batches.new", image=[photo.id for photo in photos], workflow=workflow.id),
    }


def _field(
    field: forms.Field, *, definition: Definition, typed: Mapping[str, str], error: str | None
) -> dict[str, Any]:
    default = "" if field.default is None else field.default
    if isinstance(default, bool):
        default = str(default).lower()
    if field.kind == "boolean" and "client_key" in typed:
        default = ""  # the form was filled in, and a browser sends nothing for an empty box
    kind = "slider" if field.widget == "slider" else KINDS.get(field.kind, field.kind)
    return {
        "name": field.name,
        "label": field.label,
        "help": field.help,
        "kind": kind,
        "choices": list(field.choices),
        "minimum": field.minimum,
        "maximum": field.maximum,
        "value": typed.get(field.name, str(default)),
        "error": error,
        "required": field.required,
        "advanced": field.advanced,
        "group": field.group,
        "when": next(iter(field.when.items()), None),
    }


def _groups(fields: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for field in fields:
        if not field["advanced"]:
            groups.setdefault(field["group"], []).append(field)
    return [(title, GROUP_HELP.get(title, ""), members) for title, members in groups.items()]


def _references(choice: Choice) -> list[dict[str, Any]]:
    """The user's newest other uploads, and those ticked before."""
    if not choice.definition.max_references:
        return []
    user_id = current_user().id
    ticked = images.find_uploads(connection(), image_ids=choice.reference_ids, user_id=user_id)
    newest = images.page_uploads(
        connection(), user_id=user_id, page_size=REFERENCES_OFFERED, status="ready"
    )
    offered = {image.id: image for image in [*ticked, *newest]}
    return [facts(image) for image in offered.values()]


def _estimate(choice: Choice, *, typed: Mapping[str, str]) -> dict[str, Any]:
    """The docket's sum for what is typed; for the defaults where that does not hold."""
    definition = choice.definition
    try:
        parameters = forms.parse_form(
            definition.parameter_schema,
            definition.default_parameters,
            {
                name: text
                for name, text in typed.items()
                if name in definition.parameter_schema["properties"]
            },
        )
    except InvalidFields:
        parameters = dict(definition.default_parameters)
    variations = max(1, min(4, choice.variations))
    total = service.estimate(definition, parameters, photos=choice.photos, variations=variations)
    each = {
        forms.estimate(definition, parameters=parameters, width=photo.width, height=photo.height)
        for photo in choice.photos
    }
    usual = cards.usual_seconds(connection()).get(choice.workflow.id, definition.usual_seconds)
    return {
        "photos": len(choice.photos),
        "variations": variations,
        "pictures": len(choice.photos) * variations,
        "each": each.pop() if len(each) == 1 else None,
        "total": total,
        "note": f"Usually {seconds(usual)} each." if usual else "",
    }


@bp.get("/batches/<uuid:id>")
def show(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """The batch with all its pictures."""
    batch = service.get(connection(), batch_id=id, user_id=current_user().id)
    if wants_json():
        return jsonify(_as_json(batch))
    size = request.args.get("size", "")
    outlook = cards.outlook(connection(), settings(), user_id=batch.user_id)
    page = _page(batch, outlook=outlook, version=_version(batch, outlook=outlook))
    if size not in {"s", "m", "l"}:
        size = "s" if len(page["cards"]) > 30 else "m"
    sizes = [
        (each.upper(), url_for("batches.show", id=id, size=each), each == size) for each in "sml"
    ]
    return render_template("batches/show.html", size=size, sizes=sizes, **page)


@bp.get("/batches/<uuid:id>/live")
def live(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """The cards that changed since a version, with counts and title; 304 when nothing did."""
    batch = service.get(connection(), batch_id=id, user_id=current_user().id)
    outlook = cards.outlook(connection(), settings(), user_id=batch.user_id)
    version = _version(batch, outlook=outlook)
    response = Response(headers={"Cache-Control": "private, no-cache"})
    response.set_etag(version.etag)
    if request.if_none_match.contains_weak(version.etag):  # proxies that compress weaken it
        response.status_code = 304
        return response
    page = _page(batch, outlook=outlook, version=version, since=_since())
    response.set_data(render_template("batches/_cards.html", **page))
    return response


@dataclass(frozen=True, slots=True)
class Version:
    """What a page shows: a number for all changes of its jobs, a name for its line, and when."""

    revision: int
    line: str
    read_at: datetime | None

    @property
    def etag(self) -> str:
        """Equal for pages that show the same."""
        return f"{self.revision}-{self.line}"

    def __str__(self) -> str:
        """As the page gives it back in `since`."""
        read_at = self.read_at.timestamp() if self.read_at else 0
        return f"{self.etag}-{round(read_at * 1_000_000)}"


def _version(batch: Batch, *, outlook: cards.Outlook) -> Version:
    row = queries.find_version(connection(), batch_id=batch.id)
    line = [(each.place, each.in_flight, each.paused) for each in outlook.places.values()]
    return Version(row.revision, f"{zlib.crc32(repr(line).encode()):x}", row.read_at)


def _since() -> Version | None:
    """The version that the page asking has; None when it says none that can be read."""
    revision, _, rest = request.args.get("since", "").partition("-")
    line, _, moment = rest.partition("-")
    if not all(each.isascii() and each.isdigit() and len(each) < 18 for each in (revision, moment)):
        return None
    return Version(int(revision), line, datetime.fromtimestamp(int(moment) / 1_000_000, tz=UTC))


def _page(
    batch: Batch, *, outlook: cards.Outlook, version: Version, since: Version | None = None
) -> dict[str, Any]:
    """What the page and its live fragment show; `since` is what is on screen.

    The version was read before the rows: what changes meanwhile comes once more rather than never.
    """
    conn = connection()
    rows = jobs.list_cards(conn, batch_id=batch.id, user_id=batch.user_id)
    spending = submissions.spending_of_batch(conn, batch_id=batch.id)
    definition = definition_of(batch.definition)
    settings_rows = forms.describe(definition.parameter_schema, batch.parameters)
    shown = cards.build(rows, outlook=outlook)
    moved: list[cards.Card] = []
    if since is not None and since.read_at is not None:
        seen = since.read_at - timedelta(seconds=5)  # transactions commit in any order
        changed = {row.id for row in rows if row.updated_at > seen}
        if since.line != version.line:
            moved = [each for each in shown if each.id in outlook.places and each.id not in changed]
        shown = [each for each in shown if each.id in changed]
    cells = cards.cells(rows, outlook=outlook)
    count = cards.counts(rows)
    busy = cards.batch_status(count) in {"working", "attention"}
    return {
        "batch": {
            "id": batch.id,
            "title": cards.headline(rows, workflow=definition.name),
            "created_at": batch.created_at,
            "settings_words": ", ".join(_in_short(*row) for row in settings_rows[:4]),
            "status_sentence": cards.status_sentence(
                rows, outlook=outlook, charged=spending.charged
            ),
            "tab_title": f"({count[JobStatus.COMPLETED]}/{len(rows)}) Batch – i2i",
            "cells": cells,
            "segments": cards.segments(cells),
            "pictures": len(rows),
            "charged": spending.charged,
            "estimate": batch.estimate,
            "busy": busy,
        },
        "settings": settings_rows,
        "actions": _actions(batch, rows=rows),
        "pilot": _pilot(batch, rows=rows),
        "version": version.etag,
        "since": str(version),
        "cards": shown,
        "moved": moved,
    }


def _in_short(label: str, words: str) -> str:
    """A setting in one breath: "studio white", but "style strength 75"."""
    if words[:1].isdigit() and ":" not in words:
        return f"{label.lower()} {words.partition(',')[0]}"
    return words.lower()


def _actions(batch: Batch, *, rows: Sequence[JobCard]) -> list[tuple[str, cards.Action]]:
    """What can be done with several at once; what was perhaps charged is asked for one by one."""
    found: list[tuple[str, cards.Action]] = []
    if waiting := sum(row.status == JobStatus.PENDING for row in rows):
        url = url_for("batches.cancel", id=batch.id)
        found.append(("text", (f"Cancel {waiting} waiting", "post", url, {})))
    if failed := sum(row.status == JobStatus.FAILED and row.charged != "unknown" for row in rows):
        url = url_for("batches.retry", id=batch.id)
        found.append(("text", (f"Retry {failed} failed", "post", url, {})))
    return found


def _pilot(batch: Batch, *, rows: Sequence[JobCard]) -> dict[str, Any] | None:
    """The question after a pilot, as soon as its pictures are there; None without held ones."""
    held = [row for row in rows if row.status == JobStatus.HELD]
    made = [row for row in rows if row.status != JobStatus.HELD]
    if not held or any(row.status in cards.BUSY for row in made):
        return None
    cost = f", about {money(batch.estimate * len(held) / len(rows))}" if batch.estimate else ""
    release = url_for("batches.release", id=batch.id)
    cancel = url_for("batches.cancel", id=batch.id)
    return {
        "sentence": f"Look at the {plural(len(made), 'picture')} at full size. "
        f"The other {len(held)} will be made with exactly these settings{cost}.",
        "actions": [
            ("filled", (f"Make the other {len(held)}", "post", release, {})),
            ("text", (f"Cancel the other {len(held)}", "post", cancel, {})),
        ],
    }


@bp.post("/batches/<uuid:id>/release")
def release(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Start the held rest of a pilot."""
    service.release(connection(), batch_id=id, user_id=current_user().id)
    return _back(id)


@bp.post("/batches/<uuid:id>/cancel")
def cancel(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Cancel what has not started."""
    service.cancel(connection(), batch_id=id, user_id=current_user().id)
    return _back(id)


@bp.post("/batches/<uuid:id>/retry")
def retry(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Start the failed ones again with the same settings."""
    service.retry(connection(), settings(), batch_id=id, user_id=current_user().id)
    return _back(id)


def _back(batch_id: UUID) -> ResponseReturnValue:
    if wants_json():
        batch = service.get(connection(), batch_id=batch_id, user_id=current_user().id)
        return jsonify(_as_json(batch))
    return redirect(url_for("batches.show", id=batch_id), code=303)


def _as_json(batch: Batch) -> dict[str, Any]:
    conn = connection()
    rows = jobs.list_cards(conn, batch_id=batch.id, user_id=batch.user_id)
    outlook = cards.outlook(conn, settings(), user_id=batch.user_id)
    count = cards.counts(rows)
    return {
        "id": batch.id,
        "url": url_for("batches.show", id=batch.id),
        "status": cards.batch_status(count),
        "counts": dict(count),
        "jobs": [job_as_json(row, outlook=outlook) for row in rows],
    }


def job_as_json(row: JobCard, *, outlook: cards.Outlook) -> dict[str, Any]:
    """One job for scripts; the keys are SURFACE's, in `docs/reference.md`."""
    words = cards.explain(row)
    offered = cards.actions(row)
    place, left = outlook.places.get(row.id), outlook.seconds_left(row)
    return {
        "id": row.id,
        "url": url_for("jobs.show", id=row.id),
        "status": row.status,
        "attention": row.attention,
        "original_filename": row.original_filename,
        "workflow": row.workflow_name,
        "parameters": row.parameters,
        "error": words.sentence if words and row.status != JobStatus.COMPLETED else None,
        "next_step": offered[0][0] if offered else None,
        "charged": row.charged or "no",
        "queue_position": place.place if place else row.queue_position,
        "eta_seconds": None if left is None else round(left),
        "original_url": url_for("images.show", id=row.original_image_id),
        "result_url": row.result_image_id and url_for("images.show", id=row.result_image_id),
        "created_at": row.created_at.isoformat(),
        "completed_at": row.completed_at.isoformat() if row.completed_at else None,
        "processing_time_ms": row.processing_time_ms,
    }
