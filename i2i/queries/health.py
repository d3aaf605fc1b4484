"""The database itself: sql/health.sql."""

from typing import Any

from psycopg import Connection

from i2i.models import Count, DatabaseFacts
from i2i.sql import load

SQL = load("health")


def ping(conn: Connection[Any]) -> Count:
    return SQL["ping"].one(conn, Count)


def describe_database(conn: Connection[Any]) -> DatabaseFacts:
    return SQL["describe_database"].one(conn, DatabaseFacts)
