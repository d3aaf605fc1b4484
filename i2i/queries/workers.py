"""Workers that live: sql/workers.sql."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import WorkerRow
from i2i.sql import load

SQL = load("workers")

SILENT_SECONDS = 30.0
"""Three beats of a worker: one that is silent for longer does not run."""


def beat(
    conn: Connection[Any],
    *,
    worker_id: UUID,
    host: str,
    process_id: int,
    release: str,
    trouble: str | None,
) -> int:
    return SQL["beat"].execute(
        conn,
        worker_id=worker_id,
        host=host,
        process_id=process_id,
        release=release,
        trouble=trouble,
    )


def list_all(conn: Connection[Any]) -> list[WorkerRow]:
    return SQL["list_all"].many(conn, WorkerRow)


def leave(conn: Connection[Any], *, worker_id: UUID) -> int:
    return SQL["leave"].execute(conn, worker_id=worker_id)


def purge(conn: Connection[Any]) -> int:
    return SQL["purge"].execute(conn)
