"""Every query against the migrated schema, without running one; and the loader itself.

The server prepares and describes each statement. What it says is compared with the dataclass that
the query function names, and with the keywords that it passes.
"""

import ast
import re
import types
import typing
from collections import Counter
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import ExecStatus

from i2i import models
from i2i.config import ROOT
from i2i.sql import SQL_DIR, load, parse

AGGREGATES = sorted(path.stem for path in SQL_DIR.glob("*.sql"))

METHODS = {"one": "one", "optional": "optional", "many": "many", "exec": "execute"}

TYPES = {
    bool: {"bool"},
    int: {"int4", "int8"},
    float: {"float8"},
    str: {"text"},
    datetime: {"timestamptz"},
    Decimal: {"numeric"},
    UUID: {"uuid"},
    dict[str, Any]: {"jsonb"},
    list[str]: {"_text"},
    list[UUID]: {"_uuid"},
}
"""What psycopg turns into the annotation."""


class Call(typing.NamedTuple):
    """One `SQL["block"].method(conn, Row, …)` in a query module."""

    function: str
    block: str
    method: str
    row: str | None
    keywords: frozenset[str]


def calls_of(aggregate):
    tree = ast.parse((ROOT / "i2i" / "queries" / f"{aggregate}.py").read_text())
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Subscript(
                            value=ast.Name("SQL"), slice=ast.Constant(str() as block)
                        ),
                        attr=method,
                    )
                ):
                    row = node.args[1].id if len(node.args) > 1 else None
                    names = frozenset(keyword.arg for keyword in node.keywords)
                    yield Call(function.name, block, method, row, names)


CALLS = {aggregate: list(calls_of(aggregate)) for aggregate in AGGREGATES}

EVERY_CALL = [
    pytest.param(aggregate, call, id=f"{aggregate}.{call.block}")
    for aggregate in AGGREGATES
    for call in CALLS[aggregate]
]


@pytest.fixture(scope="module")
def described(shared):
    """Describes a query: its result columns as (name, type, nullable or None where unknown)."""
    with psycopg.connect(shared, autocommit=True) as connection:
        names = dict(connection.execute("SELECT oid, typname FROM pg_type").fetchall())
        not_null = {
            (table, column): required
            for table, column, required in connection.execute(
                "SELECT attrelid, attnum, attnotnull FROM pg_attribute"
                " JOIN pg_class ON pg_class.oid = attrelid WHERE relkind = 'r'"
            )
        }

        def describe(query):
            statement = numbered(query.text)
            pgconn = connection.pgconn
            prepared = pgconn.prepare(b"", statement)
            assert prepared.status == ExecStatus.COMMAND_OK, prepared.error_message.decode()
            result = pgconn.describe_prepared(b"")
            columns = []
            for number in range(result.nfields):
                place = result.ftable(number), result.ftablecol(number)
                nullable = not not_null[place] if place in not_null else None
                columns.append(
                    (result.fname(number).decode(), names[result.ftype(number)], nullable)
                )
            return columns

        yield describe


def numbered(text):
    """`%(name)s` as the server's own `$n`, one number a name."""
    order = list(dict.fromkeys(re.findall(rb"%\((\w+)\)s", text)))
    return re.sub(
        rb"%\((\w+)\)s", lambda found: b"$%d" % (order.index(found[1]) + 1), text
    ).replace(b"%%", b"%")


@pytest.mark.parametrize(("aggregate", "call"), EVERY_CALL)
def test_a_query_is_what_its_function_says(described, aggregate, call):
    query = load(aggregate)[call.block]
    assert call.function == call.block, "function and block have one name"
    assert call.method == METHODS[query.returns]
    assert call.keywords == query.params
    columns = described(query)
    if call.method == "execute":
        return
    row = getattr(models, call.row)
    annotations = typing.get_type_hints(row)
    assert [name for name, _, _ in columns] == [field.name for field in fields(row)]
    for name, kind, nullable in columns:
        plain, optional = taken_apart(annotations[name])
        assert kind in TYPES[plain], f"{name} is {kind} in the database"
        assert nullable in {None, optional}, f"{name}: null allowed in one place only"


def taken_apart(annotation):
    """`X | None` as (X, True), everything else as (X, False)."""
    if isinstance(annotation, types.UnionType):
        (plain,) = set(annotation.__args__) - {type(None)}
        return plain, True
    return annotation, False


def test_every_block_has_one_function_and_every_file_a_module():
    modules = {path.stem for path in (ROOT / "i2i" / "queries").glob("[!_]*.py")}
    assert modules == set(AGGREGATES)
    for aggregate in AGGREGATES:
        callers = Counter(call.block for call in CALLS[aggregate])
        assert callers == dict.fromkeys(load(aggregate), 1), aggregate


def test_every_row_shape_is_returned_by_a_query():
    returned = {call.row for call in chain.from_iterable(CALLS.values())}
    shapes = {
        name
        for name, value in vars(models).items()
        if isinstance(value, type) and hasattr(value, "__dataclass_fields__")
    }
    assert shapes == returned - {None}


def test_every_query_function_is_used():
    used = set()
    for path in (ROOT / "i2i").rglob("*.py"):
        if path.parent.name != "queries":
            used |= query_functions_in(ast.parse(path.read_text()))
    defined = {f"{aggregate}.{call.block}" for aggregate in AGGREGATES for call in CALLS[aggregate]}
    assert defined - used == set()


def query_functions_in(tree):
    """Names such as `jobs.claim_send`, through whatever name the module was imported under."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "i2i.queries":
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
    return {
        f"{modules[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
    }


# --- The loader -------------------------------------------------------------------------------


def test_blocks_are_taken_apart():
    first, second = parse(
        "things",
        "-- Things: a file.\n\n"
        "-- name: find_by_sha256 :optional\n"
        "-- At 100 % of the cases; see %(this)s.\n"
        "SELECT id -- the key\nFROM things\n\nWHERE sha = %(sha)s AND size > %(size)s;\n\n"
        "-- name: delete :exec\n"
        "DELETE FROM things;\n",
    )
    assert (first.name, first.returns) == ("things.find_by_sha256", "optional")
    assert first.text == (
        b"/* things.find_by_sha256 */ SELECT id\n"
        b"FROM things\nWHERE sha = %(sha)s AND size > %(size)s"
    )
    assert first.params == {"sha", "size"}
    assert second.text == b"/* things.delete */ DELETE FROM things"
    assert second.params == frozenset()


@pytest.mark.parametrize(
    "heading", ["-- name: Find :one", "-- name: find :all", "-- name: find", "--name: find :one"]
)
def test_a_misspelt_heading_does_not_vanish_into_the_block_before(heading):
    with pytest.raises(ValueError, match="heading"):
        list(parse("things", f"-- name: a :one\nSELECT 1;\n{heading}\nSELECT 2;\n"))


def test_a_name_stands_once_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "twice.sql").write_text("-- name: a :one\nSELECT 1;\n-- name: a :many\nSELECT 2;\n")
    monkeypatch.setattr("i2i.sql.SQL_DIR", tmp_path)
    with pytest.raises(ValueError, match=r"twice\.sql: a name stands twice"):
        load("twice")


def test_the_four_ways_of_running_one(conn):
    one, none, several, change = parse(
        "things",
        "-- name: one :one\nSELECT 3::bigint AS count;\n"
        "-- name: none :optional\nSELECT 3::bigint AS count WHERE %(yes)s;\n"
        "-- name: several :many\nSELECT count FROM generate_series(1, 3) AS count;\n"
        "-- name: change :exec\nUPDATE rate_limits SET full_at = now();\n",
    )
    assert one.one(conn, models.Count) == models.Count(count=3)
    assert none.optional(conn, models.Count, yes=True) == models.Count(count=3)
    assert none.optional(conn, models.Count, yes=False) is None
    assert [row.count for row in several.many(conn, models.Count)] == [1, 2, 3]
    assert change.execute(conn) == 0
    with pytest.raises(LookupError, match=r"things\.none returned no row"):
        none.one(conn, models.Count, yes=False)
