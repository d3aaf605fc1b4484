"""Presets: sql/presets.sql."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from i2i.models import Id, Preset
from i2i.sql import load

SQL = load("presets")


def create(
    conn: Connection[Any],
    *,
    user_id: UUID,
    workflow_name: str,
    name: str,
    parameters: Mapping[str, Any],
) -> Id | None:
    """The new preset's id, or None when the name is taken."""
    return SQL["create"].optional(
        conn,
        Id,
        user_id=user_id,
        workflow_name=workflow_name,
        name=name,
        parameters=Jsonb(parameters),
    )


def replace(
    conn: Connection[Any],
    *,
    user_id: UUID,
    workflow_name: str,
    name: str,
    parameters: Mapping[str, Any],
) -> Id:
    return SQL["replace"].one(
        conn,
        Id,
        user_id=user_id,
        workflow_name=workflow_name,
        name=name,
        parameters=Jsonb(parameters),
    )


def find_by_name(
    conn: Connection[Any], *, user_id: UUID, workflow_name: str, name: str
) -> Preset | None:
    """Capital letters make no difference."""
    return SQL["find_by_name"].optional(
        conn, Preset, user_id=user_id, workflow_name=workflow_name, name=name
    )


def list_of_user(
    conn: Connection[Any], *, user_id: UUID, workflow_name: str | None = None
) -> list[Preset]:
    """By workflow and name."""
    return SQL["list_of_user"].many(conn, Preset, user_id=user_id, workflow_name=workflow_name)


def rename(conn: Connection[Any], *, preset_id: UUID, user_id: UUID, name: str) -> int:
    """UniqueViolation presets_name_key when the name is taken."""
    return SQL["rename"].execute(conn, preset_id=preset_id, user_id=user_id, name=name)


def delete(conn: Connection[Any], *, preset_id: UUID, user_id: UUID) -> int:
    return SQL["delete"].execute(conn, preset_id=preset_id, user_id=user_id)
