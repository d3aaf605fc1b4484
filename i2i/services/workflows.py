"""Workflows: read, save, seed, switch. What does not hold is refused before it is saved."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.errors import ForeignKeyViolation

from i2i import forms
from i2i.config import ROOT
from i2i.errors import NotFound, Refused, plural
from i2i.forms import Definition
from i2i.models import Workflow
from i2i.queries import jobs, workflows
from i2i.services import audit

SEEDS_DIR = ROOT / "i2i" / "seeds"


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving did: `change` is "added", "changed" or "unchanged"; for seeds also "kept"."""

    id: str
    change: str
    version: int


def definition_of(document: Mapping[str, Any]) -> Definition:
    """The definition that a stored version holds; it was checked when it was saved."""
    return _parse(json.dumps(document, sort_keys=True))


@lru_cache(maxsize=64)
def _parse(document: str) -> Definition:
    return forms.parse_definition(json.loads(document))


def get(conn: Connection[Any], *, workflow_id: str) -> Workflow:
    """The workflow as it stands; NotFound with a sentence."""
    workflow = workflows.find(conn, workflow_id=workflow_id)
    if workflow is None:
        raise NotFound(f"There is no workflow {workflow_id}.")
    return workflow


def save(conn: Connection[Any], definition: Definition, *, seed_digest: str | None = None) -> Saved:
    """Check and store a definition as the workflow's current state; InvalidWorkflow otherwise."""
    forms.check_definition(definition)
    with conn.transaction():
        before = workflows.find(conn, workflow_id=definition.id)
        workflows.save(
            conn,
            workflow_id=definition.id,
            name=definition.name,
            description=definition.description,
            fal_endpoint=definition.fal_endpoint,
            parameter_schema=definition.parameter_schema,
            default_parameters=definition.default_parameters,
            request_template=definition.request_template,
            unit_price=definition.unit_price,
            price_unit=definition.price_unit,
            currency=definition.currency,
            max_side=definition.max_side,
            formats=definition.formats,
            max_references=definition.max_references,
            deadline_seconds=definition.deadline_seconds,
            usual_seconds=definition.usual_seconds,
            is_active=definition.is_active,
            seed_digest=seed_digest,
        )
        after = get(conn, workflow_id=definition.id)
        saved = Saved(definition.id, _change(before, after), after.version)
        if saved.change != "unchanged":
            detail = f"{saved.change}, version {saved.version}"
            audit.record(conn, "workflow.saved", target=definition.id, detail=detail)
    return saved


def _change(before: Workflow | None, after: Workflow) -> str:
    if before is None:
        return "added"
    same = (before.version, before.is_active) == (after.version, after.is_active)
    return "unchanged" if same else "changed"


def changed_keys(before: Workflow, definition: Definition) -> list[str]:
    """The keys of a definition that saving it would change."""
    old = forms.dump_document(definition_of(before.definition)) | {"is_active": before.is_active}
    new = forms.dump_document(definition)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def save_edited(
    conn: Connection[Any], definitions: Sequence[Definition]
) -> list[tuple[Saved, list[str]]]:
    """Store an operator's definitions together or not at all; what became of each, changed keys."""
    with conn.transaction():
        return [_save_one_edited(conn, definition) for definition in definitions]


def _save_one_edited(conn: Connection[Any], definition: Definition) -> tuple[Saved, list[str]]:
    before = workflows.find(conn, workflow_id=definition.id)
    changed = changed_keys(before, definition) if before else []
    # Nothing, or only switched on or off: still the shipped one, which later seeds may update.
    digest = before.seed_digest if before and set(changed) <= {"is_active"} else None
    return save(conn, definition, seed_digest=digest), changed


def shipped() -> list[Definition]:
    """The workflows that come with this release."""
    return [
        forms.parse_definition(tomllib.loads(path.read_text(encoding="utf-8")))
        for path in sorted(SEEDS_DIR.glob("*.toml"))
    ]


def seed(conn: Connection[Any], *, reset: bool = False) -> list[Saved]:
    """Store the shipped workflows. A row that an operator edited is kept, unless `reset` is set.

    Switching a workflow on or off is no edit: it stays switched, and later seeds still reach it.
    """
    return [_seed_one(conn, definition, reset=reset) for definition in shipped()]


def _seed_one(conn: Connection[Any], definition: Definition, *, reset: bool) -> Saved:
    before = workflows.find(conn, workflow_id=definition.id)
    if before is not None and not reset:
        if before.seed_digest != _digest(definition_of(before.definition)):
            return Saved(definition.id, "kept", before.version)
        definition = replace(definition, is_active=before.is_active)
    return save(conn, definition, seed_digest=_digest(definition))


def _digest(definition: Definition) -> str:
    """Names what a definition says, whether it was read from a file or from the database."""
    document = forms.dump_document(replace(definition, is_active=True))
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def set_active(
    conn: Connection[Any], *, workflow_id: str, is_active: bool, cancel_waiting: bool = False
) -> int:
    """Switch a workflow on or off; how many waiting pictures were cancelled with it."""
    get(conn, workflow_id=workflow_id)
    with conn.transaction():
        workflows.set_active(conn, workflow_id=workflow_id, is_active=is_active)
        audit.record(
            conn, "workflow.switched", target=workflow_id, detail="on" if is_active else "off"
        )
        if is_active or not cancel_waiting:
            return 0
        return jobs.cancel_waiting_of_workflow(conn, workflow_name=workflow_id)


def choose_sample(
    conn: Connection[Any], *, workflow_id: str, job_id: UUID | None, user_id: UUID
) -> None:
    """Show a finished picture of one's own on the workflow's card, or none; NotFound otherwise."""
    get(conn, workflow_id=workflow_id)
    with conn.transaction():
        if job_id is None:
            workflows.remove_sample(conn, workflow_id=workflow_id)
        elif not workflows.set_sample(
            conn, workflow_id=workflow_id, job_id=job_id, user_id=user_id
        ):
            raise NotFound("This picture cannot be its sample.")
        shown = f"job {job_id}" if job_id else "none"
        audit.record(conn, "workflow.sample_chosen", target=workflow_id, detail=shown)


def delete(conn: Connection[Any], *, workflow_id: str) -> None:
    """Remove a workflow that no picture names; Refused otherwise."""
    get(conn, workflow_id=workflow_id)
    try:
        with conn.transaction():
            workflows.delete(conn, workflow_id=workflow_id)
            audit.record(conn, "workflow.deleted", target=workflow_id)
    except ForeignKeyViolation as error:
        count = jobs.count_of_workflow(conn, workflow_name=workflow_id).count
        raise Refused(
            f"{workflow_id} was used for {plural(count, 'picture')}, which name it. "
            f"Switch it off instead: flask workflows disable {workflow_id}"
        ) from error
