"""Loads sql/*.sql into Query objects.

A file holds named blocks, one statement each:

    -- name: claim_next :optional
    -- Why this statement is as it is.
    UPDATE ...;

The word after the name is the cardinality: `:one` (a row must come), `:optional`, `:many`,
`:exec` (no rows; the count of changed ones).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from psycopg import Connection, Cursor
from psycopg.rows import RowFactory

from i2i.config import ROOT

Row = TypeVar("Row")

SQL_DIR = ROOT / "sql"

_HEADING = re.compile(r"^-- *name:", re.MULTILINE)
_BLOCK = re.compile(
    r"^-- name: (?P<name>[a-z][a-z0-9_]*) :(?P<returns>one|optional|many|exec)$", re.MULTILINE
)
_COMMENT = re.compile(r"--[^\n]*")
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement. `params` are the names of its placeholders."""

    name: str
    returns: str
    text: bytes  # bytes, because type checkers accept no computed str as a query
    params: frozenset[str]

    def one(self, conn: Connection[Any], row: type[Row], **params: object) -> Row:
        """The row that must be there; LookupError when it is not."""
        found = self._run(conn, row, params).fetchone()
        if found is None:
            raise LookupError(f"{self.name} returned no row")
        return found

    def optional(self, conn: Connection[Any], row: type[Row], **params: object) -> Row | None:
        """The row, or None."""
        return self._run(conn, row, params).fetchone()

    def many(self, conn: Connection[Any], row: type[Row], **params: object) -> list[Row]:
        """All rows, in the statement's order."""
        return self._run(conn, row, params).fetchall()

    def execute(self, conn: Connection[Any], **params: object) -> int:
        """The number of rows changed."""
        return conn.execute(self.text, params).rowcount

    def _run(
        self, conn: Connection[Any], row: type[Row], params: Mapping[str, object]
    ) -> Cursor[Row]:
        factory = rows_of(row)  # type: ignore[arg-type]  # a class can be hashed
        return conn.cursor(binary=True, row_factory=factory).execute(self.text, params)


@cache
def rows_of(row: type[Row]) -> RowFactory[Row]:
    """Make rows as psycopg's class_row does, at half its price: pages read hundreds of them.

    Values go straight into the slots, which have the order of the columns (tests/test_sql.py).
    """
    slots = [getattr(row, name).__set__ for name in row.__slots__]  # type: ignore[attr-defined]

    def make(values: Sequence[Any]) -> Row:
        made = object.__new__(row)
        for fill, value in zip(slots, values, strict=True):
            fill(made, value)
        return made

    return lambda _cursor: make


def parse(aggregate: str, source: str) -> Iterator[Query]:
    """Split one file's text into its queries.

    Comments are taken out because psycopg would read a `%` in them as a placeholder; the query's
    name is put in front instead, so that pg_stat_activity and the server's log show it.

    Raises:
        ValueError: a heading is misspelt; its statement would end up in the block before.
    """
    blocks = list(_BLOCK.finditer(source))
    if len(blocks) != len(_HEADING.findall(source)):
        raise ValueError(f"sql/{aggregate}.sql: a heading is not “-- name: some_name :many”")
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        body = source[block.end() : following.start() if following else len(source)]
        statement = _COMMENT.sub("", body).strip().rstrip(";")
        lines = "\n".join(line.rstrip() for line in statement.splitlines() if line.strip())
        name = f"{aggregate}.{block['name']}"
        yield Query(
            name=name,
            returns=block["returns"],
            text=f"/* {name} */ {lines}".encode(),
            params=frozenset(_PARAMETER.findall(lines)),
        )


@cache
def load(aggregate: str) -> Mapping[str, Query]:
    """The queries of `sql/<aggregate>.sql` by name; ValueError when a name stands twice."""
    queries = list(parse(aggregate, (SQL_DIR / f"{aggregate}.sql").read_text(encoding="utf-8")))
    by_name = {query.name.partition(".")[2]: query for query in queries}
    if len(by_name) != len(queries):
        raise ValueError(f"sql/{aggregate}.sql: a name stands twice")
    return by_name
