"""Backups: sql/backups.sql."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import Backup, Count, RowCounts, Snapshot
from i2i.sql import load

SQL = load("backups")


def export_snapshot(conn: Connection[Any]) -> Snapshot:
    return SQL["export_snapshot"].one(conn, Snapshot)


def count_rows(conn: Connection[Any]) -> RowCounts:
    return SQL["count_rows"].one(conn, RowCounts)


def save_verified(
    conn: Connection[Any], *, backup_id: UUID, taken_at: datetime, images: int, checked: int
) -> int:
    return SQL["save_verified"].execute(
        conn, backup_id=backup_id, taken_at=taken_at, images=images, checked=checked
    )


def find_newest(conn: Connection[Any]) -> Backup | None:
    return SQL["find_newest"].optional(conn, Backup)


def count_tables(conn: Connection[Any]) -> Count:
    return SQL["count_tables"].one(conn, Count)


def lock_queue(conn: Connection[Any]) -> int:
    return SQL["lock_queue"].execute(conn)


def return_unsent(conn: Connection[Any]) -> int:
    return SQL["return_unsent"].execute(conn)


def abandon_unsent(conn: Connection[Any], *, detail: str) -> int:
    return SQL["abandon_unsent"].execute(conn, detail=detail)


def hold_unsent(conn: Connection[Any], *, attention: str) -> int:
    return SQL["hold_unsent"].execute(conn, attention=attention)
