"""Rows 23, 59 and 60: what signatures open, what programs may do and keep, what they are made of."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import house as houses
import pictures
import psycopg
import pytest
from house import House, Visitor, wait_until
from itsdangerous import URLSafeSerializer
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import features

from i2i.app import create_app
from i2i.config import ROOT, Settings
from i2i.sql import SQL_DIR, load

DEPLOY = ROOT / "docs" / "deploy"


# --- Row 59: the database --------------------------------------------------------------------


def as_role(url, role):
    """The URL of the same database for another role; the throw-away server trusts."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}@{host}", path="/installed"))


@pytest.fixture(scope="module")
def installed(server, admin_conn, tmp_path_factory):
    """A database made as docs/operations.md says; the variables of the programs."""
    text = (DEPLOY / "roles.sql").read_text().replace("DATABASE i2i", "DATABASE installed")
    statements = re.sub("--.*", "", text).split(";")
    for statement in filter(str.strip, statements):
        admin_conn.execute(statement)
    owner = as_role(server.url, "i2i_migrate")
    environ = {
        "POSTGRES_URL": as_role(server.url, "i2i_app"),
        "SECRET_KEY": "only-for-tests-0123456789",
        "DATA_DIR": str(tmp_path_factory.mktemp("installed")),
    }
    settings = Settings.from_env(environ | {"POSTGRES_URL_NON_POOLING": owner})
    done = create_app(settings).test_cli_runner().invoke(args=["db", "setup"])
    assert done.exit_code == 0, done.output
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute((DEPLOY / "grants.sql").read_text())
        connection.execute("CREATE TABLE of_a_later_migration (id integer)")
    yield environ
    admin_conn.execute("DROP DATABASE installed WITH (FORCE)")
    for role in ("i2i_app", "i2i_migrate"):
        admin_conn.execute(f"DROP ROLE {role}")


@pytest.fixture
def app_role(installed):
    with psycopg.connect(installed["POSTGRES_URL"], autocommit=True) as connection:
        yield connection


def test_row_59_the_programs_role_is_nothing_special(app_role):
    found = app_role.execute(
        "SELECT current_user, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
        " (SELECT count(*) FROM pg_auth_members WHERE member = pg_roles.oid),"
        " (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid)"
        " FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert found == ("i2i_app", False, False, False, False, False, 0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id integer)",
        "CREATE TEMPORARY TABLE mine (id integer)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION pg_trgm",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER TABLE users ADD COLUMN mine integer",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TABLE users",
        "TRUNCATE submissions",
        "SET ROLE i2i_migrate",
        "SET session_replication_role = replica",
        "COPY users TO PROGRAM 'cat'",
        "COPY users FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "UPDATE audit_events SET actor = ''",
        "DELETE FROM audit_events",
        "UPDATE job_events SET attention = ''",
        "DELETE FROM job_events",
        "UPDATE workflow_versions SET version = 1",
        "DELETE FROM workflow_versions",
        "DELETE FROM submissions",
        "DELETE FROM breaker",
        "DELETE FROM _yoyo_migration",
    ],
)
def test_row_59_the_programs_role_may_not(app_role, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_role.execute(statement)


def test_row_59_what_a_trigger_refuses_the_role_may_not_do_either(app_role):
    """Whoever could switch the trigger off owns the table; the programs do not."""
    refused = app_role.execute(
        "SELECT DISTINCT relname, event FROM pg_trigger"
        " JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid,"
        " (VALUES (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS events (bit, event)"
        " WHERE proname LIKE 'refuse%' AND tgtype & bit > 0"
    ).fetchall()
    assert ("audit_events", "UPDATE") in refused
    assert ("submissions", "DELETE") in refused
    for table, event in refused:
        granted = "SELECT has_table_privilege(%s, %s)"
        assert app_role.execute(granted, [table, event]).fetchone() == (False,), (table, event)


def test_row_59_tables_of_later_migrations_are_usable_at_once(app_role):
    app_role.execute("INSERT INTO of_a_later_migration VALUES (1)")
    assert app_role.execute("DELETE FROM of_a_later_migration").rowcount == 1


@pytest.mark.parametrize("aggregate", sorted(path.stem for path in SQL_DIR.glob("*.sql")))
def test_row_59_the_programs_role_may_run_every_query(app_role, aggregate):
    """PostgreSQL checks rights when a plan is about to run, so that EXPLAIN tells them."""
    for name, query in load(aggregate).items():
        order = sorted(query.params)
        text = re.sub(
            rb"%\((\w+)\)s",
            lambda found, order=order: b"$%d" % (order.index(found[1].decode()) + 1),
            query.text,
        ).replace(b"%%", b"%")
        app_role.execute(b"PREPARE asked AS " + text)
        given = f"({', '.join(['NULL'] * len(order))})" if order else ""
        assert app_role.execute(f"EXPLAIN EXECUTE asked{given}").fetchall(), name
        app_role.execute("DEALLOCATE asked")


# --- Row 59: secrets --------------------------------------------------------------------------

SECRETS = {
    "SECRET_KEY": "8d1f6b0c93e7a254-signs-cursors",
    "SECRET_KEY_FALLBACKS": "5e0a7c41d98f2b36-signed-before",
    "FAL_KEY": "canary-key-id:canary-key-value",
    "METRICS_TOKEN": "canary-metrics-token",
}


@pytest.fixture(scope="module")
def house(installed, tmp_path_factory):
    """All programs in the role without rights, with every secret in a file."""
    folder = tmp_path_factory.mktemp("house")
    kept = SECRETS | {"POSTGRES_URL": f"{installed['POSTGRES_URL']}&password=canary-password"}
    for name, text in kept.items():
        (folder / name.lower()).write_text(f"{text}\n")
    files = {f"{name}_FILE": str(folder / name.lower()) for name in kept}
    running = House(
        database=installed["POSTGRES_URL"], folder=folder / "data", **files, SECRET_KEY=""
    )
    running.environ["POSTGRES_URL"] = ""
    yield running.open()
    running.stop()


def test_row_59_the_whole_job_is_done_without_rights_on_the_schema(house):
    house.make_user()
    visitor = Visitor(house)
    photo = visitor.upload("coat.jpg", pictures.jpeg(pictures.photo(size=(640, 480))))["id"]
    order = [("image", photo), ("workflow", "mannequin-to-human-v1"), ("variations", "2")]
    batch = visitor.post("/batches", [*order, ("client_key", "no rights at all")]).json()

    def done():
        return visitor.get(batch["url"]).json()["status"] == "done"

    wait_until(done, what="two pictures")
    one, two = visitor.get(batch["url"]).json()["jobs"]
    assert (one["status"], two["status"]) == ("completed", "completed")
    assert visitor.post(f"/jobs/{one['id']}/verdict", {"verdict": "approved"}).status < 400
    assert visitor.post(f"/jobs/{two['id']}/delete").status < 400
    assert visitor.post("/trash/empty").status < 400
    house.flask("backup", "create", str(house.folder / "backups"))
    house.flask("workflows", "disable", "mannequin-to-human-v2")
    house.flask("users", "unwhitelist", houses.EMAIL)
    house.flask("worker", "--once")
    house.flask("users", "delete", houses.EMAIL, "--yes")
    kept = house.query("SELECT user_email, charged FROM submissions WHERE user_id IS NULL")
    assert kept == [(houses.EMAIL, "yes")] * 2


def test_row_59_no_secret_is_in_a_command_line_or_a_commands_answer(house):
    canaries = ["canary", *SECRETS.values()]
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    ours = [line for line in lines if b"gunicorn" in line or b"flask" in line]
    assert len(ours) >= 4
    told = [house.flask(*words.split()) for words in ("routes", "db check", "jobs stats", "--help")]
    told += [(house.folder / f"{name}.log").read_text() for name in ("web", "worker", "practice")]
    for text in [*told, *(line.decode() for line in ours)]:
        assert [each for each in canaries if each in text] == []


def test_row_59_no_secret_is_in_the_repository():
    shapes = (
        rb"-----BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9a-f]{32}"
    )
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    files = [ROOT / os.fsdecode(name) for name in listed if name]
    assert len(files) > 100
    assert [path for path in files if re.search(shapes, path.read_bytes())] == []
    assert not any(path.name in {".env", "secret_key", "fal_key"} for path in files)


@pytest.mark.parametrize("key", ["", "changeme-changeme-changeme", "0" * 64, "b4dk3y"])
def test_row_59_nothing_starts_with_a_weak_key(tmp_path, key):
    environ = {"PATH": os.environ["PATH"], "SECRET_KEY": key, "DATA_DIR": str(tmp_path)}
    environ["POSTGRES_URL"] = "postgresql://127.0.0.1:1/none"
    for program in (["flask", "routes"], ["gunicorn", "wsgi:app"]):
        done = subprocess.run(
            [sys.executable, "-m", *program],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=houses.PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("i2i: SECRET_KEY ")
        assert len(done.stderr.splitlines()) == 1
        assert not key or key not in done.stderr


# --- Row 23: what is signed -------------------------------------------------------------------


def test_row_23_nothing_is_opened_by_a_signature(stack):
    """There are no signed links: a picture asks for a session. Only the places in lists are signed."""
    visitor = stack.visitor()
    cursor = URLSafeSerializer("only-for-tests-0123456789", salt="cursor")
    place = ["2026-11-23T08:30:00+00:00", "0b0b7d7e-30a1-4f0e-9b0c-3f3c5a1d2e4f"]
    genuine = cursor.dumps(place)
    flipped = genuine[:-2] + ("A" if genuine[-2] != "A" else "B") + genuine[-1]
    other_purpose = URLSafeSerializer("only-for-tests-0123456789", salt="else").dumps(place)
    assert visitor.request("GET", f"/jobs?after={genuine}").status == 200
    for forged in (flipped, other_purpose, genuine.partition(".")[0]):
        assert visitor.request("GET", f"/jobs?after={forged}").status == 404


# --- Row 60 -----------------------------------------------------------------------------------

PRODUCTION = ("requirements", "requirements-s3", "requirements-metrics")

LIBRARIES = {"webp": "1.3.2", "libjpeg_turbo": "3.0"}
"""What Pillow's wheel carries. libwebp below 1.3.2 has CVE-2023-4863."""


def requirements():
    """What production asks for, and the versions that are locked."""
    for name in PRODUCTION:
        lock = (ROOT / f"{name}.txt").read_text()
        locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", lock, re.MULTILINE))
        for line in (ROOT / f"{name}.in").read_text().splitlines():
            if (text := line.partition("#")[0].strip()) and not text.startswith("-"):
                wanted = Requirement(text)
                yield pytest.param(wanted, locked[wanted.name.lower()], id=wanted.name)


@pytest.mark.parametrize(("wanted", "locked"), list(requirements()))
def test_row_60_no_version_is_below_its_floor(wanted, locked):
    floors = [each.version for each in wanted.specifier if each.operator == ">="]
    assert len(floors) == 1
    found = {locked}
    with suppress(PackageNotFoundError):  # what only some installations need
        found.add(version(wanted.name))
    assert min(map(Version, found)) >= Version(floors[0])


def test_row_60_the_libraries_in_pillows_wheel_are_above_theirs(capsys):
    found = {name: features.version(name) for name in LIBRARIES}
    with capsys.disabled():
        print(f"\nPillow {version('pillow')} carries {found}")
    for name, floor in LIBRARIES.items():
        assert Version(found[name]) >= Version(floor), name
