"""Workflows: sql/workflows.sql."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from i2i.models import Pair, Workflow, WorkflowOverview, WorkflowVersion
from i2i.sql import load

SQL = load("workflows")


def save(
    conn: Connection[Any],
    *,
    workflow_id: str,
    name: str,
    description: str,
    fal_endpoint: str,
    parameter_schema: Mapping[str, Any],
    default_parameters: Mapping[str, Any],
    request_template: Mapping[str, Any],
    unit_price: Decimal | None,
    price_unit: str,
    currency: str,
    max_side: int,
    formats: Sequence[str],
    max_references: int,
    deadline_seconds: int,
    usual_seconds: int | None,
    is_active: bool,
    seed_digest: str | None,
) -> int:
    return SQL["save"].execute(
        conn,
        workflow_id=workflow_id,
        name=name,
        description=description,
        fal_endpoint=fal_endpoint,
        parameter_schema=Jsonb(parameter_schema),
        default_parameters=Jsonb(default_parameters),
        request_template=Jsonb(request_template),
        unit_price=unit_price,
        price_unit=price_unit,
        currency=currency,
        max_side=max_side,
        formats=list(formats),
        max_references=max_references,
        deadline_seconds=deadline_seconds,
        usual_seconds=usual_seconds,
        is_active=is_active,
        seed_digest=seed_digest,
    )


def find(conn: Connection[Any], *, workflow_id: str) -> Workflow | None:
    return SQL["find"].optional(conn, Workflow, workflow_id=workflow_id)


def list_pairs(
    conn: Connection[Any], *, workflow_id: str, user_id: UUID, page_size: int
) -> list[Pair]:
    """The user's finished pictures that may be its sample, newest first."""
    return SQL["list_pairs"].many(
        conn, Pair, workflow_id=workflow_id, user_id=user_id, page_size=page_size
    )


def list_all(conn: Connection[Any], *, only_active: bool) -> list[Workflow]:
    return SQL["list_all"].many(conn, Workflow, only_active=only_active)


def list_overview(conn: Connection[Any]) -> list[WorkflowOverview]:
    return SQL["list_overview"].many(conn, WorkflowOverview)


def list_versions(conn: Connection[Any], *, workflow_id: str) -> list[WorkflowVersion]:
    """All that were saved, newest first."""
    return SQL["list_versions"].many(conn, WorkflowVersion, workflow_id=workflow_id)


def set_active(conn: Connection[Any], *, workflow_id: str, is_active: bool) -> int:
    return SQL["set_active"].execute(conn, workflow_id=workflow_id, is_active=is_active)


def set_sample(conn: Connection[Any], *, workflow_id: str, job_id: UUID, user_id: UUID) -> int:
    """0 where it is no finished picture of this workflow and this user."""
    return SQL["set_sample"].execute(conn, workflow_id=workflow_id, job_id=job_id, user_id=user_id)


def remove_sample(conn: Connection[Any], *, workflow_id: str) -> int:
    return SQL["remove_sample"].execute(conn, workflow_id=workflow_id)


def delete(conn: Connection[Any], *, workflow_id: str) -> int:
    """ForeignKeyViolation while jobs or batches name it."""
    return SQL["delete"].execute(conn, workflow_id=workflow_id)
