"""Presets: settings of a workflow that a user keeps under a name."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.errors import UniqueViolation

from i2i.errors import InvalidFields, NotFound
from i2i.queries import presets, users, workflows

MOST = 50
"""As many as one workflow may have: more cannot be told apart on the page."""

LONGEST_NAME = 60


def save(
    conn: Connection[Any],
    *,
    user_id: UUID,
    workflow_name: str,
    name: str,
    parameters: Mapping[str, Any],
    replace: bool,
) -> UUID:
    """Keep these settings; the preset's id. `parameters` were validated by forms.parse_form.

    With `replace` a preset of that name gets these settings. The same click again changes nothing.
    InvalidFields for `preset_name` says what to do about a name that is missing, too long or taken.
    """
    if workflows.find(conn, workflow_id=workflow_name) is None:
        raise InvalidFields({"workflow": "Choose a workflow."})
    name = _clean(name)
    with conn.transaction():
        users.lock(conn, user_id=user_id)  # parallel clicks share what is left of MOST
        before = presets.find_by_name(conn, user_id=user_id, workflow_name=workflow_name, name=name)
        kept = presets.list_of_user(conn, user_id=user_id, workflow_name=workflow_name)
        if before is None and len(kept) >= MOST:
            raise InvalidFields({"preset_name": f"{MOST} presets are the most. Delete one first."})
        if replace:
            return presets.replace(
                conn, user_id=user_id, workflow_name=workflow_name, name=name, parameters=parameters
            ).id
        made = presets.create(
            conn, user_id=user_id, workflow_name=workflow_name, name=name, parameters=parameters
        )
    if made is not None:
        return made.id
    if before is None or before.parameters != parameters:
        raise InvalidFields(
            {
                "preset_name": "You have a preset of this name. Choose another name, "
                "or tick “Replace the one of this name”."
            }
        )
    return before.id


def rename(conn: Connection[Any], *, preset_id: UUID, user_id: UUID, name: str) -> None:
    """NotFound for what is not the user's; InvalidFields for `name`."""
    try:
        name = _clean(name)
        with conn.transaction():
            found = presets.rename(conn, preset_id=preset_id, user_id=user_id, name=name)
    except InvalidFields as error:
        raise InvalidFields({"name": error.fields["preset_name"]}) from error
    except UniqueViolation as error:
        raise InvalidFields(
            {"name": "You have a preset of this name. Choose another name."}
        ) from error
    if not found:
        raise NotFound("This preset does not exist.")


def delete(conn: Connection[Any], *, preset_id: UUID, user_id: UUID) -> None:
    """NotFound for what is not the user's."""
    if not presets.delete(conn, preset_id=preset_id, user_id=user_id):
        raise NotFound("This preset does not exist.")


def _clean(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise InvalidFields({"preset_name": "Write a name."})
    if len(name) > LONGEST_NAME:
        raise InvalidFields({"preset_name": f"Write {LONGEST_NAME} characters at most."})
    return name
