"""Batches: sql/batches.sql."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from i2i.models import Batch, BatchVersion, Id, LastUsed
from i2i.sql import load

SQL = load("batches")


def create(
    conn: Connection[Any],
    *,
    user_id: UUID,
    parent_id: UUID | None = None,
    workflow_version_id: int,
    parameters: Mapping[str, Any],
    variations: int,
    pilot: int,
    estimate: Decimal | None,
    client_key: str,
    content_digest: str,
) -> Id | None:
    """The new batch's id, or None when this client_key made one before."""
    return SQL["create"].optional(
        conn,
        Id,
        user_id=user_id,
        parent_id=parent_id,
        workflow_version_id=workflow_version_id,
        parameters=Jsonb(parameters),
        variations=variations,
        pilot=pilot,
        estimate=estimate,
        client_key=client_key,
        content_digest=content_digest,
    )


def add_reference(conn: Connection[Any], *, batch_id: UUID, position: int, image_id: UUID) -> int:
    return SQL["add_reference"].execute(
        conn, batch_id=batch_id, position=position, image_id=image_id
    )


def find(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> Batch | None:
    return SQL["find"].optional(conn, Batch, batch_id=batch_id, user_id=user_id)


def find_by_client_key(conn: Connection[Any], *, client_key: str, user_id: UUID) -> Batch | None:
    return SQL["find_by_client_key"].optional(conn, Batch, client_key=client_key, user_id=user_id)


def list_children(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> list[Batch]:
    return SQL["list_children"].many(conn, Batch, batch_id=batch_id, user_id=user_id)


def find_last_used(conn: Connection[Any], *, user_id: UUID, workflow_name: str) -> LastUsed | None:
    """The settings of the user's newest batch of this workflow."""
    return SQL["find_last_used"].optional(
        conn, LastUsed, user_id=user_id, workflow_name=workflow_name
    )


def find_version(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> BatchVersion | None:
    return SQL["find_version"].optional(conn, BatchVersion, batch_id=batch_id, user_id=user_id)
