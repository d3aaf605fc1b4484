"""Rules about where things may stand, read from the source; imports by import-linter's contracts."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from i2i.config import ROOT

PACKAGE = ROOT / "i2i"

SOURCES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}

STATEMENT = re.compile(
    r"\s*(/\*.*?\*/\s*)?(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|WITH|MERGE|TRUNCATE|CREATE|ALTER"
    r"|DROP|LISTEN|NOTIFY|LOCK)\b(?-i:.*)",
    re.DOTALL,
)

MAY_HOLD_SQL = {
    "db.py": "reads the migration table and the catalogue",
    "embedded.py": "asks its server whether it answers and makes the first database",
    "cli/db.py": "locks, repairs and looks at the server; LISTEN has no parameters",
    "cli/worker.py": "LISTEN has no parameters",
}

MAY_OPEN_SOCKETS = {
    "gateways/fal.py": "the only HTTP out",
    "gateways/deadlines.py": "shuts down what gateways/fal.py has opened",
    "gateways/s3.py": "asks the bucket that BLOB_URL names",
    "practice.py": "listens on loopback and calls back there",
    "cli/run.py": "asks its own children whether they answer",
}

NETWORK_MODULES = {
    *("socket", "ssl", "http.client", "http.server", "urllib.request", "urllib3", "requests"),
    *("httpx", "socketserver", "ftplib", "smtplib", "asyncio", "fal_client", "boto3"),
}


def calls_of(tree, *names):
    """Lines where a method of one of these names is called."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
    ]


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_keep_to_their_layers():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SOURCES)
def test_only_services_open_transactions(name):
    found = calls_of(SOURCES[name], "transaction")
    # db.py says how one begins behind a pooler.
    assert not found or name.startswith(("services/", "db.py")), f"lines {found}"


@pytest.mark.parametrize("name", SOURCES)
def test_nobody_commits_by_hand(name):
    assert not calls_of(SOURCES[name], "commit", "rollback", "set_autocommit")


@pytest.mark.parametrize("name", SOURCES)
def test_statements_stand_in_sql_files(name):
    found = [
        node.value
        for node in ast.walk(SOURCES[name])
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STATEMENT.match(node.value)
        and node.value.split()[0].isupper()
    ]
    assert not found or name in MAY_HOLD_SQL, found


@pytest.mark.parametrize("name", SOURCES)
def test_only_gateways_open_sockets(name):
    found = {
        module
        for module in imports_of(SOURCES[name])
        if any(module == each or module.startswith(f"{each}.") for each in NETWORK_MODULES)
    }
    assert not found or name in MAY_OPEN_SOCKETS, found


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("queries/")])
def test_query_functions_take_a_connection_and_keywords(name):
    for function in SOURCES[name].body:
        if isinstance(function, ast.FunctionDef):
            assert [argument.arg for argument in function.args.args] == ["conn"], function.name


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_is_a_drawer_for_everything(name):
    assert Path(name).stem not in {"utils", "util", "helpers", "common", "misc"}


def test_allowances_are_needed():
    assert {name for name in MAY_OPEN_SOCKETS | MAY_HOLD_SQL if name not in SOURCES} == set()
