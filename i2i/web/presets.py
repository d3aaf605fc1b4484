"""Presets: keep the settings of a form under a name, rename them, delete them."""

from typing import Any
from uuid import UUID

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import forms
from i2i.errors import InvalidFields
from i2i.models import Preset
from i2i.queries import presets as queries
from i2i.queries import workflows
from i2i.services import presets as service
from i2i.services.workflows import definition_of
from i2i.web import order_form
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.sessions import current_user

bp = Blueprint("presets", __name__)

SAVED = {"renamed": "Preset renamed.", "deleted": "Preset deleted."}


@bp.get("/presets")
def index() -> ResponseReturnValue:
    """The user's presets, by workflow and name."""
    if wants_json():
        found = queries.list_of_user(connection(), user_id=current_user().id)
        return jsonify(presets=[_as_json(preset) for preset in found])
    return _page(said=SAVED.get(request.args.get("saved", "")))


@bp.post("/presets")
def create() -> ResponseReturnValue:
    """Keep the settings of the new-batch form and go back to it, or say in it what is wrong."""
    choice = order_form.read()
    try:
        preset_id = service.save(
            connection(),
            user_id=current_user().id,
            workflow_name=order_form.workflow_id(choice),
            name=request.form.get("preset_name", ""),
            parameters=order_form.parameters(choice),
            replace="preset_replace" in request.form,
        )
    except InvalidFields as error:
        consequence = "The preset was not saved. Nothing was sent or charged."
        if wants_json():
            return jsonify(error=consequence, fields=error.fields), 422
        return order_form.page(choice, errors=error.fields, consequence=consequence), 422
    if wants_json():
        return jsonify(id=preset_id), 201
    return order_form.again(choice, preset=preset_id)


@bp.post("/presets/<uuid:id>/rename")
def rename(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """Give it another name."""
    name = request.form.get("name", "")
    try:
        service.rename(connection(), preset_id=id, user_id=current_user().id, name=name)
    except InvalidFields as error:
        if wants_json():
            return jsonify(error="Nothing was changed.", fields=error.fields), 422
        return _page(fault=(id, name, error.fields["name"])), 422
    return _done("renamed")


@bp.post("/presets/<uuid:id>/delete")
def delete(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Forget it; pictures made with it keep their settings."""
    service.delete(connection(), preset_id=id, user_id=current_user().id)
    return _done("deleted")


def _done(what: str) -> ResponseReturnValue:
    if wants_json():
        return jsonify(saved=what)
    return redirect(url_for("presets.index", saved=what), code=303)


def _page(*, said: str | None = None, fault: tuple[UUID, str, str] | None = None) -> str:
    conn = connection()
    schemas = {
        each.id: definition_of(each.definition).parameter_schema
        for each in workflows.list_all(conn, only_active=False)
    }
    found = queries.list_of_user(conn, user_id=current_user().id)
    return render_template(
        "presets/index.html",
        presets=[
            {
                "id": each.id,
                "name": each.name,
                "workflow": each.workflow_title,
                "words": forms.in_words(schemas[each.workflow_name], each.parameters),
                "updated_at": each.updated_at,
                "typed": fault[1] if fault and fault[0] == each.id else each.name,
                "error": fault[2] if fault and fault[0] == each.id else None,
            }
            for each in found
        ],
        said=said,
    )


def _as_json(preset: Preset) -> dict[str, Any]:
    return {
        "id": preset.id,
        "workflow": preset.workflow_name,
        "name": preset.name,
        "parameters": preset.parameters,
        "updated_at": preset.updated_at.isoformat(),
    }
