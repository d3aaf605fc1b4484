"""flask db: what it says, and that no failure is more than one line."""

import json
import os
import socket
import subprocess
import sys
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from i2i import db
from i2i.config import ROOT


def assert_refused(result, *words):
    assert result.exit_code == 1, result.output
    assert_one_line(result.stderr, *words)


def assert_one_line(stderr, *words):
    assert stderr.startswith("i2i: ")
    assert stderr.count("\n") == 1, stderr
    for word in words:
        assert word in stderr


def test_setup_migrates_and_seeds(flask, db_conn):
    first = flask("db", "setup")
    assert (first.exit_code, first.stderr) == (0, "")
    assert "The schema is up to date." in first.stdout
    assert "mannequin-to-human-v1: added" in first.stdout
    again = flask("db", "setup")
    assert "mannequin-to-human-v1: unchanged" in again.stdout
    active = db_conn.execute("SELECT id, is_active FROM workflow_configs ORDER BY id").fetchall()
    assert active == [
        ("apparel-enhancement", False),
        ("mannequin-to-human-v1", True),
        ("mannequin-to-human-v2", True),
    ]


def test_an_edited_workflow_is_kept_until_reset(flask, db_conn):
    flask("seed")
    db_conn.execute("UPDATE workflow_configs SET name = 'Mine' WHERE id = 'mannequin-to-human-v1'")
    assert "mannequin-to-human-v1: kept" in flask("db", "seed").stdout
    assert "mannequin-to-human-v1: changed" in flask("seed", "--reset").stdout


def test_status_shows_what_is_applied(flask):
    result = flask("db", "status", "--check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "0001.initial-schema  applied" in result.stdout
    rows = json.loads(flask("db", "status", "--json").stdout)
    assert [row["id"] for row in rows] == db.shipped_migrations()
    assert rows[0]["state"] == "applied"
    assert rows[0]["applied_at"].endswith("+00:00")


def test_status_check_refuses_what_is_pending(flask):
    assert flask("db", "rollback", "--all").exit_code == 0
    result = flask("db", "status", "--check")
    assert_refused(result, "Pending: 0001.initial-schema")
    assert "0001.initial-schema  pending" in result.stdout
    assert flask("db", "status").exit_code == 0
    assert_refused(flask("users", "list"), "Run: flask db migrate")


def test_status_names_what_another_release_has_applied(flask, db_conn):
    db_conn.execute(
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
        " VALUES ('x', '9999.from-tomorrow', now())"
    )
    assert "9999.from-tomorrow   not in this release" in flask("db", "status").stdout


def test_rollback_takes_steps_or_all_not_both(flask):
    assert flask("db", "rollback", "--all", "--steps", "2").exit_code == 2
    assert flask("db", "rollback", "--steps", "0").exit_code == 2


def test_mark_and_unlock_say_what_they_did(flask):
    assert "is applied already" in flask("db", "mark", "0001.initial-schema").stdout
    assert_refused(flask("db", "mark", "0001"), "There is no migration 0001")
    assert flask("db", "unlock").stdout == "No migration is locked.\n"


def test_unlock_leaves_a_running_migration_alone(flask, db_conn):
    db_conn.execute("SELECT pg_advisory_lock(6894185, 1)")
    assert_refused(flask("db", "unlock"), "A migration is running")


def test_new_writes_where_it_is_told(flask, tmp_path):
    result = flask("db", "new", "add x", "--directory", str(tmp_path))
    assert result.stdout.splitlines() == [
        str(tmp_path / "0001.add-x.sql"),
        str(tmp_path / "0001.add-x.rollback.sql"),
    ]


# --- check ----------------------------------------------------------------------------------------


def test_check_tells_everything_but_the_password(flask, database):
    secret = "hush-hush-9731"
    url = database.replace("postgres@", f"postgres:{secret}@")
    result = flask("db", "check", POSTGRES_URL=url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert secret not in result.output
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert facts["Database"] == urlsplit(database).path[1:]
    assert facts["TLS"] == "no"
    assert facts["LISTEN"] == "heard"
    assert facts["Migrations"] == "up to date"
    assert facts["Server"].startswith("PostgreSQL ")
    assert facts["Latency"].endswith(" ms")
    assert {"Host", "Port", "Pool"} <= facts.keys()


def test_check_says_when_listen_is_not_heard(flask, shared):
    # The pooled URL leads elsewhere, as a notification lost in a pooler does.
    result = flask("db", "check", POSTGRES_URL_NON_POOLING=shared)
    assert result.exit_code == 0, result.output
    assert "not heard" in result.stdout
    assert "without prepared statements" in result.stdout


def test_check_without_a_server(flask):
    result = flask("db", "check", POSTGRES_URL="postgresql://u:hush-9731@127.0.0.1:1/x")
    assert_refused(result, "Cannot reach the database", "Connection refused")
    assert "hush" not in result.output


def test_check_with_a_server_that_never_answers(finish):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        port = black_hole.getsockname()[1]
        code, out, err = finish("db", "check", POSTGRES_URL=f"postgresql://u:p@127.0.0.1:{port}/x")
    assert (code, out) == (1, "")
    assert_one_line(err, "Cannot reach the database", "timeout")


def test_check_without_the_database(flask, database):
    gone = urlunsplit(urlsplit(database)._replace(path="/never_made"))
    assert_refused(flask("db", "check", POSTGRES_URL=gone), '"never_made" does not exist')


@pytest.fixture
def guarded(server, admin_conn, database):
    """URL of a role that needs its password, and that password."""
    rules = server.directory / "data" / "pg_hba.conf"
    before = rules.read_text()
    admin_conn.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right-4711'")
    rules.write_text(f"local all guarded scram-sha-256\n{before}")
    admin_conn.execute("SELECT pg_reload_conf()")
    url = database.replace("postgres@", "guarded:{}@")
    refused = False
    for _ in range(1000):  # the server reads the file when it gets round to it
        try:
            psycopg.connect(url.format("wrong-0815")).close()
        except psycopg.OperationalError:
            refused = True
            break
    assert refused
    yield url
    rules.write_text(before)
    admin_conn.execute("SELECT pg_reload_conf()")
    admin_conn.execute("DROP ROLE guarded")


def test_check_with_a_wrong_password(flask, guarded):
    assert flask("db", "check", POSTGRES_URL=guarded.format("right-4711")).exit_code == 0
    result = flask("db", "check", POSTGRES_URL=guarded.format("wrong-0815"))
    assert_refused(result, 'password authentication failed for user "guarded"')
    assert "wrong-0815" not in result.output


def test_a_url_that_libpq_cannot_read_never_shows_the_password(flask):
    result = flask("db", "check", POSTGRES_URL="postgresql://u:hush%zz9731@127.0.0.1/x")
    assert_refused(result, "POSTGRES_URL cannot be read")
    assert "hush" not in result.output
    assert "9731" not in result.output


def test_without_any_database_every_command_says_how_to_start_one(finish):
    for command in (["db", "check"], ["users", "list"], ["worker"], ["db", "migrate"]):
        code, out, err = finish(*command)
        assert (code, out) == (1, "")
        assert_one_line(err, "POSTGRES_URL is not set", "make run")


def test_a_wrong_setting_is_one_line(finish):
    code, out, err = finish("db", "check", POSTGRES_URL="mysql://x")
    assert (code, out) == (1, "")
    assert_one_line(err, "POSTGRES_URL must be a libpq URL")
    code, out, err = finish("db", "check", BLOB_URL="ftp://bucket/prefix")
    assert (code, out) == (1, "")
    assert_one_line(err, "BLOB_URL")


# --- shell ----------------------------------------------------------------------------------------


def test_shell_is_psql_on_the_database_without_a_password_on_its_command_line(
    environ, database, tmp_path
):
    # Stands in for psql: shows how it was called.
    fake = tmp_path / "bin" / "psql"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$# $1 $PGDATABASE $PGHOST $PGUSER $PGPASSWORD"\n')
    fake.chmod(0o755)
    url = database.replace("postgres@", f"postgres:{quote('hush 9731')}@")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "db", "shell", "--", "-qAt"],
        cwd=ROOT,
        env=environ | {"POSTGRES_URL": url, "PATH": f"{fake.parent}{os.pathsep}/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    name, host = urlsplit(database).path[1:], urlsplit(database).query
    assert done.stdout.startswith(f"1 -qAt {name} /")
    assert done.stdout.endswith(" postgres hush 9731\n")
    assert host
