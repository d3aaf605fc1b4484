"""The form of a new batch: what its page shows, and what a request says about it.

The routes are in web/batches.py. What is typed comes from the request and goes back into the form.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import render_template, request, url_for

from i2i import forms
from i2i.errors import InvalidFields, Refused
from i2i.forms import Definition
from i2i.models import Batch, Image, Workflow
from i2i.queries import batches as queries
from i2i.queries import images, workflows
from i2i.services import batches as service
from i2i.services.batches import Order
from i2i.services.workflows import definition_of
from i2i.web import cards
from i2i.web.database import connection
from i2i.web.images import chosen_ids, facts
from i2i.web.sessions import current_user
from i2i.web.words import money, seconds

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
    parent: Batch | None
    variations: int
    pilot: int
    client_key: str


def read() -> Choice:
    """What this request says; nothing typed is lost, whatever it is.

    With a `parent` the form begins as that batch was made, for the photos that `scope` names.
    """
    image_ids, reference_ids = chosen_ids("image", "reference")
    conn, user_id = connection(), current_user().id
    parent = _parent()
    photos = images.find_uploads(conn, image_ids=image_ids, user_id=user_id)
    variations = 1
    if parent and "client_key" not in request.values:
        variations = parent.variations
        photos = photos or service.photos_again(
            conn, batch_id=parent.id, user_id=user_id, scope=request.values.get("scope", "all")
        )
        again = images.find_references(conn, batch_id=parent.id)
        reference_ids = reference_ids or [image.id for image in again]
    offered = workflows.list_all(conn, only_active=True)
    if not offered:
        raise Refused("No workflow is switched on. Ask your admin to switch one on.")
    wanted = request.values.get("workflow") or (parent and parent.workflow_name)
    workflow = next((each for each in offered if each.id == wanted), None)
    if workflow is None and wanted:  # switched off meanwhile: the form stays, saving says so
        workflow = workflows.find(conn, workflow_id=wanted)
    workflow = workflow or _default(offered)
    return Choice(
        photos=photos,
        reference_ids=reference_ids,
        workflow=workflow,
        definition=definition_of(workflow.definition),
        offered=offered,
        parent=parent,
        variations=_number("variations", default=variations),
        pilot=_number("pilot", default=0),
        client_key=request.values.get("client_key") or secrets.token_urlsafe(16),
    )


def order(choice: Choice) -> Order:
    """What the form asks for; InvalidFields when a setting does not hold."""
    return Order(
        user_id=current_user().id,
        workflow_id=request.form.get("workflow", ""),
        image_ids=chosen_ids("image")[0],
        reference_ids=choice.reference_ids,
        parameters=forms.parse_form(
            choice.definition.parameter_schema,
            choice.definition.default_parameters,
            {name: value for name, value in request.form.items() if name not in forms.RESERVED},
        ),
        variations=choice.variations,
        pilot=choice.pilot,
        client_key=choice.client_key,
        parent_id=choice.parent.id if choice.parent else None,
    )


def _parent() -> Batch | None:
    """The batch that is made again; NotFound when it is not the user's."""
    text = request.values.get("parent")
    if not text:
        return None
    (ids,) = chosen_ids("parent")
    return service.get(connection(), batch_id=ids[0], user_id=current_user().id)


def _begin(choice: Choice) -> dict[str, str]:
    """Settings of the parent, or those last used, as a browser would send them."""
    last = choice.parent or queries.find_last_used(
        connection(), user_id=current_user().id, workflow_name=choice.workflow.id
    )
    if last is None:
        return {}
    schema = choice.definition.parameter_schema
    kept, _ = forms.fit(schema, choice.definition.default_parameters, last.parameters)
    return {name: forms.as_text(kept.get(name)) for name in schema["properties"]}


def _default(offered: Sequence[Workflow]) -> Workflow:
    return next((each for each in offered if each.id == "mannequin-to-human-v1"), offered[0])


def _number(name: str, *, default: int) -> int:
    """A small whole number of the form; what is none becomes -1, which no field accepts."""
    text = request.values.get(name, "").strip()
    if not text:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1


def page(choice: Choice, *, errors: Mapping[str, str]) -> str:
    """The page with everything typed; `errors` are sentences by field name."""
    typed = _begin(choice) | request.values.to_dict()
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
        parent=choice.parent,
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
    default = forms.as_text(field.default)
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
        "value": typed.get(field.name, default),
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
