"""Use cases, and the only transactions.

A service takes a connection (or, where bytes move in between, a way to get one) first and what it
uses by keyword. No network call and no image work happens while a transaction is open.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from psycopg import Connection

Connect = Callable[[], AbstractContextManager[Connection[Any]]]
"""Lends a connection for one short piece of work, as a pool's `connection` method does."""
