"""Buckets of tries: sql/buckets.sql."""

from typing import Any

from psycopg import Connection

from i2i.models import Bucket
from i2i.sql import load

SQL = load("buckets")


def wait_briefly(conn: Connection[Any]) -> int:
    """LockNotAvailable after two seconds of waiting, until the transaction ends."""
    return SQL["wait_briefly"].execute(conn)


def take(
    conn: Connection[Any], *, bucket: str, capacity: int, refill_seconds: int
) -> Bucket | None:
    """Take one try from the bucket; None when there is none left."""
    return SQL["take"].optional(
        conn, Bucket, bucket=bucket, capacity=capacity, refill_seconds=refill_seconds
    )


def find(conn: Connection[Any], *, bucket: str) -> Bucket | None:
    return SQL["find"].optional(conn, Bucket, bucket=bucket)


def give_back(conn: Connection[Any], *, bucket: str, capacity: int, refill_seconds: int) -> int:
    return SQL["give_back"].execute(
        conn, bucket=bucket, capacity=capacity, refill_seconds=refill_seconds
    )


def delete_full(conn: Connection[Any]) -> int:
    return SQL["delete_full"].execute(conn)
