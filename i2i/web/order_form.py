"""The form of a new batch: what its page shows, and what a request says about it.

The routes are in web/batches.py. What is typed comes from the request and goes back into the form.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import forms
from i2i.errors import InvalidFields, NotFound, Refused
from i2i.forms import Definition
from i2i.models import Batch, Image, Workflow
from i2i.queries import batches as queries
from i2i.queries import images, presets, workflows
from i2i.services import batches as service
from i2i.services import limits
from i2i.services.batches import Order
from i2i.services.workflows import definition_of
from i2i.web import cards, docket
from i2i.web.database import connection
from i2i.web.images import chosen_ids, facts
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import seconds
from i2i.web.workflows import SIDES

LINKED_PHOTOS = 150
"""As many photos fit into an address; a form with more is sent as a POST."""

PILOT_PHOTOS = 2
REFERENCES_OFFERED = 12
GROUP_HELP = {"Model": "“Any” lets the workflow choose."}
KINDS = {"choices_select": "select"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the form on screen is about: photos, the workflow chosen, and how many of each."""

    photos: Sequence[Image]
    reference_ids: Sequence[UUID]
    workflow: Workflow
    definition: Definition
    offered: Sequence[Workflow]
    parent: Batch | None
    variations: int
    pilot: int
    client_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Settings to begin with: `key` is "shipped", "last" or a preset's id."""

    key: str
    name: str
    stored: Mapping[str, Any]


# --- What the request says ----------------------------------------------------------------------


def read() -> Choice:
    """What this request says; nothing typed is lost, whatever it is.

    With a `parent` the form begins as that batch was made, for the photos that `scope` names.
    """
    conn, user_id = connection(), current_user().id
    image_ids, reference_ids, left_out = chosen_ids("image", "reference", "without")
    image_ids = [each for each in image_ids if each not in left_out]
    parent = _parent()
    photos = images.find_uploads(conn, image_ids=image_ids, user_id=user_id)
    variations = 1
    if parent and not _is_filled_in():
        variations = parent.variations
        photos = photos or service.photos_again(
            conn, batch_id=parent.id, user_id=user_id, scope=request.values.get("scope", "all")
        )
        again = images.find_references(conn, batch_id=parent.id)
        reference_ids = reference_ids or [image.id for image in again]
    offered = workflows.list_all(conn, only_active=True)
    workflow = _workflow(offered, parent=parent)
    return Choice(
        photos=photos,
        reference_ids=reference_ids,
        workflow=workflow,
        definition=definition_of(workflow.definition),
        offered=offered,
        parent=parent,
        variations=_number("variations", default=variations),
        pilot=_pilot(),
        client_key=request.values.get("client_key") or secrets.token_urlsafe(16),
    )


def _is_filled_in() -> bool:
    """Whether it is the form itself that was sent, and not a link to it."""
    return "client_key" in request.values


def _parent() -> Batch | None:
    """The batch that is made again; NotFound when it is not the user's."""
    if not request.values.get("parent"):
        return None
    (ids,) = chosen_ids("parent")
    return service.get(connection(), batch_id=ids[0], user_id=current_user().id)


def _workflow(offered: Sequence[Workflow], *, parent: Batch | None) -> Workflow:
    """The one asked for, also when it was switched off meanwhile: then saving says so."""
    if not offered:
        raise Refused("No workflow is switched on. Ask your admin to switch one on.")
    wanted = request.values.get("switch") or request.values.get("workflow")
    if not wanted and parent:
        wanted = parent.workflow_name
    found = next((each for each in offered if each.id == wanted), None)
    if found is None and wanted:
        found = workflows.find(connection(), workflow_id=wanted)
    usual = next((each for each in offered if each.id == "mannequin-to-human-v1"), offered[0])
    return found or usual


def _number(name: str, *, default: int) -> int:
    """A small whole number of the form; what is none becomes -1, which no field accepts."""
    text = request.values.get(name, "").strip()
    if not text:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1


def _pilot() -> int:
    """How many photos to make first. The page's box says whether, the number beside it how many."""
    if request.values.get("pilot") and "pilot_photos" in request.values:
        return _number("pilot_photos", default=-1)
    return _number("pilot", default=0)


def parameters(choice: Choice) -> forms.Parameters:
    """The settings that were sent; InvalidFields when one does not hold."""
    return forms.parse_form(
        choice.definition.parameter_schema,
        choice.definition.default_parameters,
        {name: value for name, value in request.form.items() if name not in forms.RESERVED},
    )


def workflow_id(choice: Choice) -> str:
    """The workflow whose settings are checked, if the form names it; else nothing is ordered."""
    named = {request.form.get("switch"), request.form.get("workflow")}
    return choice.workflow.id if choice.workflow.id in named else ""


def order(choice: Choice) -> Order:
    """What the form asks for; InvalidFields names everything that does not hold, not the first."""
    try:
        return _order(choice, parameters=parameters(choice))
    except InvalidFields as error:
        unfinished = _order(choice, parameters={})
        more = service.faults(connection(), settings(), order=unfinished)
        raise InvalidFields(error.fields | more) from error


def _order(choice: Choice, *, parameters: forms.Parameters) -> Order:
    return Order(
        user_id=current_user().id,
        workflow_id=workflow_id(choice),
        image_ids=chosen_ids("image")[0],
        reference_ids=choice.reference_ids,
        parameters=parameters,
        variations=choice.variations,
        pilot=choice.pilot,
        client_key=choice.client_key,
        parent_id=choice.parent.id if choice.parent else None,
    )


# --- What the form is filled with ---------------------------------------------------------------


def _values(choice: Choice, starts: Sequence[Start]) -> Mapping[str, str]:
    """The text of every setting: of the start just chosen, else as typed, else as it begins."""
    if key := request.values.get("preset"):
        return _fill(choice, _start(starts, key=key).stored)
    begun = _begin(choice, starts)
    if "switch" in request.values:
        return _carried_over(choice, begun)
    typed = request.values
    # The form was filled in, and a browser sends nothing for a box that is not ticked.
    absent = {
        name: "" if _is_filled_in() and prop["type"] == "boolean" else begun[name]
        for name, prop in choice.definition.parameter_schema["properties"].items()
    }
    return {name: typed.get(name, text) for name, text in absent.items()}


def _start(starts: Sequence[Start], *, key: str) -> Start:
    found = next((start for start in starts if start.key == key), None)
    if found is None:
        raise NotFound("This preset does not exist.")
    return found


def _begin(choice: Choice, starts: Sequence[Start]) -> Mapping[str, str]:
    """What an untouched form holds: the parent's settings, else those last used, else shipped."""
    last = next((start for start in starts if start.key == "last"), starts[0])
    return _fill(choice, choice.parent.parameters if choice.parent else last.stored)


def _fill(choice: Choice, stored: Mapping[str, Any]) -> Mapping[str, str]:
    """Settings of another day, as far as this workflow still takes them."""
    kept, _ = forms.fit(*_frame(choice.definition), stored)
    return _texts(choice.definition, kept)


def _frame(definition: Definition) -> tuple[forms.Schema, Mapping[str, Any]]:
    return definition.parameter_schema, definition.default_parameters


def _texts(definition: Definition, values: Mapping[str, Any]) -> dict[str, str]:
    """What a browser would send: what was left out is empty, what does not count now is usual."""
    properties = definition.parameter_schema["properties"]
    idle = {
        name: value
        for name, value in definition.default_parameters.items()
        if "x-when" in properties[name]
    }
    return {name: forms.as_text(values.get(name, idle.get(name))) for name in properties}


def _carried_over(choice: Choice, begun: Mapping[str, str]) -> Mapping[str, str]:
    """Another workflow: what was changed by hand in the one before goes along where it fits."""
    before = workflows.find(connection(), workflow_id=request.values.get("workflow", ""))
    if before is None:
        return begun
    left = replace(choice, workflow=before, definition=definition_of(before.definition))
    was = _begin(left, _starts(left))
    values = dict(begun)
    for name in values.keys() & was.keys():
        text = request.values.get(name, "")
        if text and text != was[name]:
            try:
                forms.parse_form(*_frame(choice.definition), values | {name: text})
            except InvalidFields:
                continue
            values[name] = text
    return values


def _starts(choice: Choice) -> list[Start]:
    """Shipped settings, those last used, and the user's presets of this workflow."""
    conn, user_id = connection(), current_user().id
    shipped = choice.definition.default_parameters
    starts = [Start(key="shipped", name="Shipped settings", stored=shipped)]
    last = queries.find_last_used(conn, user_id=user_id, workflow_name=choice.workflow.id)
    if last:
        starts.append(Start(key="last", name="Last used", stored=last.parameters))
    own = presets.list_of_user(conn, user_id=user_id, workflow_name=choice.workflow.id)
    return starts + [Start(key=str(p.id), name=p.name, stored=p.parameters) for p in own]


def _applied(choice: Choice, starts: Sequence[Start], values: Mapping[str, str]) -> Start | None:
    """The start that the form shows: the one just chosen, else the first with these values."""
    if key := request.values.get("preset"):
        return _start(starts, key=key)
    shipped, *own = starts
    return next(
        (each for each in [*own, shipped] if _texts(choice.definition, each.stored) == values), None
    )


def _lost(choice: Choice, start: Start | None) -> dict[str, Any] | None:
    """What of the preset just chosen this workflow no longer takes, by label."""
    if start is None or "preset" not in request.values:
        return None
    _, lost = forms.fit(*_frame(choice.definition), start.stored)
    return {"name": start.name, "settings": lost} if lost else None


# --- The page -----------------------------------------------------------------------------------


def page(
    choice: Choice,
    *,
    errors: Mapping[str, str],
    consequence: str = "Nothing was sent or charged.",
) -> str:
    """The page with everything typed; `errors` are sentences by field name."""
    starts = _starts(choice)
    values = _values(choice, starts)
    applied = _applied(choice, starts, values)
    usual = cards.usual_seconds(connection())
    fields = _fields(choice.definition, values, errors=errors)
    references = _references(choice)
    pilot_offered = len(choice.photos) > PILOT_PHOTOS
    shown = {field["name"] for field in fields} | {"image", "workflow", "variations", "preset_name"}
    shown |= {"reference"} if references["images"] else set()
    shown |= {"pilot"} if pilot_offered else set()
    return render_template(
        "batches/new.html",
        images=[facts(photo) for photo in choice.photos],
        parent=choice.parent,
        held=_held(choice),
        workflows=[_offer(each, choice=choice, usual=usual) for each in choice.offered],
        workflow_id=choice.workflow.id,
        switched_off=not choice.workflow.is_active,
        starts=[(start.key, start.name, start is applied) for start in starts],
        lost=_lost(choice, applied),
        preset_name=request.values.get("preset_name", ""),
        preset_replace="preset_replace" in request.values,
        groups=_groups(fields),
        advanced=_advanced(fields, shipped=_texts(choice.definition, starts[0].stored)),
        references=references,
        variations=choice.variations,
        pilot=_pilot_offer(choice) if pilot_offered else None,
        # A form that was refused for its key gets a new one: sending it again is a new wish.
        client_key=secrets.token_urlsafe(16) if "client_key" in errors else choice.client_key,
        faults=errors,
        errors=_summary(errors, fields=fields, shown=shown),
        consequence=consequence,
        docket=_docket(choice, values=values, usual=usual),
        **_addresses(choice),
    )


def _held(choice: Choice) -> int:
    """Of how many of these photos the parent holds pictures back, which this order would cancel."""
    if choice.parent is None:
        return 0
    held = service.photos_again(
        connection(), batch_id=choice.parent.id, user_id=choice.parent.user_id, scope="held"
    )
    return len({photo.id for photo in held} & {photo.id for photo in choice.photos})


def _summary(
    errors: Mapping[str, str], *, fields: Sequence[Mapping[str, Any]], shown: Collection[str]
) -> list[tuple[str, str]]:
    """As in ("seed", "Seed: whole numbers only."); without a name where the page has no field."""
    labels = {field["name"]: field["label"] for field in fields}
    return [
        (
            name if name in shown else "",
            f"{labels[name]}: {text[:1].lower()}{text[1:]}" if name in labels else text,
        )
        for name, text in errors.items()
    ]


def estimate(choice: Choice) -> docket.Docket:
    """The docket alone, for what is typed."""
    values = _values(choice, _starts(choice))
    return _docket(choice, values=values, usual=cards.usual_seconds(connection()))


def again(choice: Choice, *, preset: UUID) -> ResponseReturnValue:
    """Back to the form, filled with this preset and with everything else that was sent."""
    if len(choice.photos) > LINKED_PHOTOS:
        return page(choice, errors={})
    url = url_for(
        "batches.new",
        image=[photo.id for photo in choice.photos],
        reference=choice.reference_ids,
        workflow=choice.workflow.id,
        parent=choice.parent and choice.parent.id,
        variations=choice.variations,
        pilot=choice.pilot or None,
        client_key=choice.client_key,
        preset=preset,
        _anchor="start",
    )
    return redirect(url, code=303)


def _addresses(choice: Choice) -> dict[str, str]:
    """Where the form's questions go."""
    few = len(choice.photos) <= LINKED_PHOTOS
    return {"ask_url": url_for("batches.new"), "ask_method": "get" if few else "post"}


def _offer(workflow: Workflow, *, choice: Choice, usual: Mapping[str, float]) -> dict[str, Any]:
    """A workflow to choose, with its price for the first photo."""
    definition = definition_of(workflow.definition)
    photo = choice.photos[0] if choice.photos else None
    price = forms.estimate(
        definition,
        parameters=definition.default_parameters,
        width=photo.width if photo else None,
        height=photo.height if photo else None,
    )
    measured = usual.get(workflow.id)
    return {
        "id": workflow.id,
        "name": definition.name,
        "description": definition.description,
        "price": price,
        "sample": [
            url_for("workflows.sample", workflow_id=workflow.id, side=side) for side in SIDES
        ]
        if workflow.sample_job_id
        else [],
        "usual_words": f"usually {seconds(measured)}" if measured else "time: no data yet",
    }


def preview(definition: Definition) -> list[dict[str, Any]]:
    """The settings of a workflow as its users will see them, advanced ones last."""
    shown = _fields(definition, _texts(definition, definition.default_parameters), errors={})
    return sorted(shown, key=lambda field: bool(field["advanced"]))


def _fields(
    definition: Definition, values: Mapping[str, str], *, errors: Mapping[str, str]
) -> list[dict[str, Any]]:
    asked = {each.name: each for each in forms.fields(*_frame(definition))}
    return [
        _field(each, asked=asked, value=values[name], error=errors.get(name))
        for name, each in asked.items()
    ]


def _field(
    field: forms.Field, *, asked: Mapping[str, forms.Field], value: str, error: str | None
) -> dict[str, Any]:
    kind = "slider" if field.widget == "slider" else KINDS.get(field.kind, field.kind)
    return {
        "name": field.name,
        "label": field.label,
        "help": field.help,
        "kind": kind,
        "choices": list(field.choices),
        "minimum": field.minimum,
        "maximum": field.maximum,
        "unit": field.unit.strip(),
        "value": value,
        "error": error,
        "required": field.required,
        "advanced": field.advanced,
        "group": field.group,
        "when": next((_when(asked[name], wanted) for name, wanted in field.when.items()), None),
    }


def _when(other: forms.Field, wanted: str) -> dict[str, str]:
    """The choice that a field depends on, with a sentence for who has no script to hide it."""
    words = f"Counts only while {other.label} is “{dict(other.choices)[wanted]}”."
    return {"name": other.name, "value": wanted, "words": words}


def _groups(fields: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for field in fields:
        if not field["advanced"]:
            groups.setdefault(field["group"], []).append(field)
    return [(title, GROUP_HELP.get(title, ""), members) for title, members in groups.items()]


def _advanced(
    fields: Sequence[Mapping[str, Any]], *, shipped: Mapping[str, str]
) -> dict[str, Any] | None:
    """What is folded, by name; open where something in it is wrong or not as shipped."""
    found = [field for field in fields if field["advanced"]]
    if not found:
        return None
    return {
        "fields": found,
        "names": ", ".join(field["label"].lower() for field in found),
        "open": any(field["error"] or field["value"] != shipped[field["name"]] for field in found),
    }


def _references(choice: Choice) -> dict[str, Any]:
    """The ticked ones, and a page of the user's uploads, newest first."""
    most, user_id = choice.definition.max_references, current_user().id
    if not most:
        return {"most": 0, "images": [], "ticked": [], "cursor": "", "older": ""}
    after = read_cursor(request.values.get("uploads"))
    found = images.page_uploads(
        connection(),
        user_id=user_id,
        page_size=REFERENCES_OFFERED + 1,
        status="ready",
        before=after and after[0],
        before_id=after and after[1],
    )
    offered, rest = found[:REFERENCES_OFFERED], found[REFERENCES_OFFERED:]
    ticked = images.find_uploads(connection(), image_ids=choice.reference_ids, user_id=user_id)
    every = {image.id: image for image in [*ticked, *offered]}
    return {
        "most": most,
        "images": [facts(image) for image in every.values()],
        "ticked": choice.reference_ids,
        "cursor": request.values.get("uploads", ""),
        "older": write_cursor(offered[-1].created_at, offered[-1].id) if rest else "",
    }


def _pilot_offer(choice: Choice) -> dict[str, Any]:
    """The question, as typed: whether to make some photos first, and how many."""
    photos = choice.pilot if 0 < choice.pilot < len(choice.photos) else PILOT_PHOTOS
    return {
        "ticked": choice.pilot != 0,
        "photos": request.values.get("pilot_photos", str(photos)),
        "rest": len(choice.photos) - photos,
    }


def _docket(
    choice: Choice, *, values: Mapping[str, str], usual: Mapping[str, float]
) -> docket.Docket:
    """The sum for what is typed; where a value does not hold, for the shipped one."""
    definition = choice.definition
    try:
        wanted = forms.parse_form(*_frame(definition), values)
    except InvalidFields as error:
        shipped = _texts(definition, definition.default_parameters)
        wanted = forms.parse_form(
            *_frame(definition), {**values, **{name: shipped[name] for name in error.fields}}
        )
    return docket.build(
        definition,
        wanted,
        photos=choice.photos,
        variations=max(1, min(4, choice.variations)),
        pilot=choice.pilot,
        usual=usual.get(choice.workflow.id),
        left=limits.left_today(connection(), settings(), user_id=current_user().id),
        settings=settings(),
    )
