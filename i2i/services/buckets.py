"""Buckets of tries: how often something may be done in a while, counted across all processes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from i2i.errors import TooManyTries
from i2i.queries import buckets

WINDOW = 300
"""Seconds in which an empty bucket refills."""


def take(conn: Connection[Any], capacities: Mapping[str, int]) -> None:
    """A try from every bucket or from none; how much each holds is with its name.

    TooManyTries when one is empty. A locked table is an OperationalError after two seconds: without
    a count nobody may try.
    """
    with conn.transaction():
        buckets.wait_briefly(conn)
        for bucket, capacity in capacities.items():
            if not buckets.take(conn, bucket=bucket, capacity=capacity, refill_seconds=WINDOW):
                full = buckets.find(conn, bucket=bucket)
                step = WINDOW / capacity
                waiting = full.full_at.timestamp() - datetime.now(UTC).timestamp() if full else 0
                raise TooManyTries(max(1, round(waiting - WINDOW + step)))


def give_back(conn: Connection[Any], capacities: Mapping[str, int]) -> None:
    """The try did not count after all."""
    with conn.transaction():
        buckets.wait_briefly(conn)
        for bucket, capacity in capacities.items():
            buckets.give_back(conn, bucket=bucket, capacity=capacity, refill_seconds=WINDOW)
