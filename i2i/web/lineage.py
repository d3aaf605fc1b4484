"""Batches that make pictures of an earlier one again: which, and with what changes."""

from collections.abc import Mapping
from typing import Any

from flask import url_for
from psycopg import Connection

from i2i import forms
from i2i.models import Batch
from i2i.queries import batches
from i2i.services.workflows import definition_of
from i2i.web.words import day

Difference = tuple[str, str, str]
"""Label, words now, words before: "Light", "Natural", "Studio"."""

OPEN = "left open"


def differences(batch: Batch, parent: Batch) -> list[Difference]:
    """What is not as it was in the parent, in the order of the form."""
    return changes(_of_batch(batch), _of_batch(parent))


def changes(now: Mapping[str, str], was: Mapping[str, str]) -> list[Difference]:
    """The same for settings in words."""
    labels = [*now, *(label for label in was if label not in now)]
    return [
        (label, now.get(label, OPEN), was.get(label, OPEN))
        for label in labels
        if now.get(label) != was.get(label)
    ]


def in_words(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a picture or batch: label to words, the workflow first."""
    definition = definition_of(document)
    described = forms.describe(definition.parameter_schema, parameters)
    return {"Workflow": definition.name, **dict(described)}


def _of_batch(batch: Batch) -> dict[str, str]:
    words = in_words(batch.definition, batch.parameters)
    return words | {"Pictures of each photo": str(batch.variations)}


def of(conn: Connection[Any], batch: Batch) -> dict[str, Any]:
    """The batch that this one comes from, or None, and those that come from it."""
    parent = batch.parent_id and batches.find(conn, batch_id=batch.parent_id, user_id=batch.user_id)
    children = batches.list_children(conn, batch_id=batch.id, user_id=batch.user_id)
    return {
        "parent": _link(parent, changes=differences(batch, parent)) if parent else None,
        "children": [_link(each, changes=differences(each, batch)) for each in children],
    }


def _link(batch: Batch, *, changes: list[Difference]) -> dict[str, Any]:
    return {
        "url": url_for("batches.show", id=batch.id),
        "when": day(batch.created_at),
        "changes": changes,
    }
