"""Workflows: read, change with a preview, switch on and off. `flask workflows` does the same."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import documents, forms
from i2i.errors import InvalidWorkflow, NotFound, Refused
from i2i.forms import Definition
from i2i.models import Workflow, WorkflowVersion
from i2i.queries import workflows as queries
from i2i.services import workflows as service
from i2i.web import order_form
from i2i.web.admin import bp
from i2i.web.database import connection
from i2i.web.sessions import current_user
from i2i.web.workflows import SIDES

EXAMPLE_URLS = ["https://example.com/photo.jpg"]
"""Stands for the photo in the request that the preview shows."""

PAIRS_OFFERED = 12

SHOWN_AROUND = 1
"""Lines before and after the one that is wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a document, and the lines around the place: (number, text, is it)."""

    sentence: str
    lines: Sequence[tuple[int, str, bool]]


@bp.get("/workflows")
def workflows() -> ResponseReturnValue:
    """All of them, also those that are switched off."""
    return render_template("admin/workflows.html", rows=queries.list_overview(connection()))


@bp.get("/workflows/new")
def new_workflow() -> ResponseReturnValue:
    """A new one, begun as a copy of another."""
    rows = queries.list_overview(connection())
    wanted = request.args.get("copy") or (rows[0].id if rows else "")
    definition = replace(_definition(service.get(connection(), workflow_id=wanted)), id="new-id")
    return _edit_page(None, text=_as_text(definition), preview=None)


@bp.post("/workflows")
def create_workflow() -> ResponseReturnValue:
    """Check, preview or save a new one."""
    return _take(None)


@bp.get("/workflows/<workflow_id>")
def workflow(workflow_id: str) -> ResponseReturnValue:
    """One as it stands, its document to change, and its versions."""
    found = service.get(connection(), workflow_id=workflow_id)
    return _edit_page(found, text=_as_text(_definition(found)), preview=None)


@bp.post("/workflows/<workflow_id>")
def change_workflow(workflow_id: str) -> ResponseReturnValue:
    """Check, preview or save it as the next version."""
    return _take(service.get(connection(), workflow_id=workflow_id))


@bp.post("/workflows/<workflow_id>/active")
def switch_workflow(workflow_id: str) -> ResponseReturnValue:
    """Offer it to users, or no more; what waits still runs, unless it is to be cancelled."""
    service.set_active(
        connection(),
        workflow_id=workflow_id,
        is_active=request.form.get("is_active") == "yes",
        cancel_waiting="cancel_waiting" in request.form,
    )
    return redirect(url_for("admin.workflow", workflow_id=workflow_id), code=303)


@bp.post("/workflows/<workflow_id>/sample")
def choose_sample(workflow_id: str) -> ResponseReturnValue:
    """Show a finished picture of one's own on the workflow's card; without `job` none."""
    job = request.form.get("job")
    service.choose_sample(
        connection(),
        workflow_id=workflow_id,
        job_id=_uuid(job) if job else None,
        user_id=current_user().id,
    )
    return redirect(url_for("admin.workflow", workflow_id=workflow_id, _anchor="sample"), code=303)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("This picture cannot be its sample.") from error


def _take(before: Workflow | None) -> ResponseReturnValue:
    """What a form with a document asks for; 422 with everything typed when it does not hold."""
    text = request.form.get("document", "").replace("\r\n", "\n")
    try:
        definition = _read(text, before=before)
    except InvalidWorkflow as error:
        return _edit_page(before, text=text, preview=None, fault=_fault(text, error)), 422
    if request.form.get("action") != "save":
        return _edit_page(before, text=text, preview=definition)
    service.save_edited(connection(), [definition])
    return redirect(url_for("admin.workflow", workflow_id=definition.id), code=303)


def _read(text: str, *, before: Workflow | None) -> Definition:
    definition = forms.parse_definition(documents.read(text))
    forms.check_definition(definition)
    if before is not None and definition.id != before.id:
        raise InvalidWorkflow(f"The id of a workflow never changes. It is {before.id}.", "/id")
    if before is None and queries.find(connection(), workflow_id=definition.id):
        raise InvalidWorkflow("There is a workflow with this id already. Choose another.", "/id")
    return definition


def _fault(text: str, error: InvalidWorkflow) -> Fault:
    number = documents.line_of(text, error)
    if number is None:
        return Fault(str(error), [])
    sentence = error.message
    if not sentence.startswith("Line "):
        sentence = f"Line {number}: {sentence}"
    lines = text.splitlines() or [""]
    around = range(max(1, number - SHOWN_AROUND), min(len(lines), number + SHOWN_AROUND) + 1)
    return Fault(sentence, [(each, lines[each - 1], each == number) for each in around])


def _edit_page(
    before: Workflow | None, *, text: str, preview: Definition | None, fault: Fault | None = None
) -> str:
    versions = (
        queries.list_versions(connection(), workflow_id=before.id) if before is not None else []
    )
    return render_template(
        "admin/workflow.html",
        workflow=before,
        name=_definition(before).name if before else "New workflow",
        text=text,
        rows=min(40, max(12, text.count("\n") + 2)),
        fault=fault,
        preview=preview and {"fields": order_form.preview(preview), "request": _request(preview)},
        versions=_history(versions),
        sample=_sample(before) if before else None,
    )


def _sample(workflow: Workflow) -> dict[str, Any]:
    """The pair on its card, and the pairs of one's own to choose from: urls of both sides."""
    pairs = queries.list_pairs(
        connection(),
        workflow_id=workflow.id,
        user_id=current_user().id,
        page_size=PAIRS_OFFERED,
    )
    return {
        "urls": [url_for("workflows.sample", workflow_id=workflow.id, side=side) for side in SIDES]
        if workflow.sample_job_id
        else [],
        "pairs": [
            {
                "id": pair.id,
                "name": pair.original_filename,
                "urls": [
                    url_for("images.show", id=image_id, size="thumb")
                    for image_id in (pair.original_image_id, pair.result_image_id)
                ],
                "chosen": pair.id == workflow.sample_job_id,
            }
            for pair in pairs
        ],
    }


def _request(definition: Definition) -> str:
    """What would be sent for the settings that the form begins with."""
    arguments = forms.render_request(
        definition.request_template,
        parameters=forms.parse_form(definition.parameter_schema, definition.default_parameters, {}),
        image_urls=EXAMPLE_URLS,
        references=[],
    )
    return json.dumps(arguments, indent=2, ensure_ascii=False)


def _definition(found: Workflow) -> Definition:
    return replace(service.definition_of(found.definition), is_active=found.is_active)


def _as_text(definition: Definition) -> str:
    """TOML, as `flask workflows export` writes it; JSON for what TOML cannot say."""
    document = forms.dump_document(definition)
    try:
        return documents.write_toml(document)
    except Refused:
        return json.dumps(document, indent=2, ensure_ascii=False)


def _history(versions: Sequence[WorkflowVersion]) -> list[dict[str, Any]]:
    """The versions, newest first, each with the lines that it changed: (sign, text)."""
    texts = [_as_text(service.definition_of(each.definition)).splitlines() for each in versions]
    return [
        {
            "version": each.version,
            "created_at": each.created_at,
            "lines": _changes(texts[index + 1], texts[index]) if index + 1 < len(texts) else [],
        }
        for index, each in enumerate(versions)
    ]


def _changes(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str]]:
    found = difflib.unified_diff(before, after, n=0, lineterm="")
    return [(line[0], line[1:]) for line in found if line[:3] not in {"---", "+++", "@@ "}]
