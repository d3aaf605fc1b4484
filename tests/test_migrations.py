"""The files of migrations/, and the machinery that applies them: races, leftovers, ways back."""

import os
import re
import subprocess
import sys
from urllib.parse import quote, urlsplit, urlunsplit

import factories
import psycopg
import pytest
from house import wait_until
from yoyo.connections import parse_uri

from i2i import db
from i2i.cli import db as commands
from i2i.config import ROOT
from i2i.errors import DatabaseUnavailable, Refused

ELSEWHERE = """
import os, sys
from pathlib import Path
from i2i.cli.db import apply_pending
from i2i.config import Settings
apply_pending(Settings.from_env(os.environ), directory=Path(sys.argv[1]))
"""

PARTS = {
    "columns": """
        SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default,
               identity_generation, numeric_precision, numeric_scale
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "views": """
        SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1""",
    "functions": """
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1""",
}


def catalogue(connection):
    return {name: connection.execute(query).fetchall() for name, query in PARTS.items()}


def tables(connection):
    return {
        row[0]
        for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    }


@pytest.fixture
def empty(server, admin_conn):
    """URL of a database without anything in it."""
    admin_conn.execute("CREATE DATABASE empty_i2i")
    yield urlunsplit(urlsplit(server.url)._replace(path="/empty_i2i"))
    admin_conn.execute("DROP DATABASE empty_i2i WITH (FORCE)")


@pytest.fixture
def empty_settings(make_settings, empty):
    return make_settings(POSTGRES_URL=empty)


@pytest.fixture
def empty_conn(empty):
    with psycopg.connect(empty, autocommit=True) as connection:
        yield connection


@pytest.fixture
def migrate_process(tmp_path, empty):
    """Start `flask db migrate` on the empty database, or the same for another folder."""

    def start(directory=None, **environ):
        command = ["-m", "flask", "db", "migrate"] if directory is None else ["-c", ELSEWHERE]
        return subprocess.Popen(
            [sys.executable, *command, *([str(directory)] if directory else [])],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "SECRET_KEY": "only-for-tests-0123456789",
                "DATA_DIR": str(tmp_path / "data"),
                "POSTGRES_URL": empty,
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def write(folder, name, sql, undo=None):
    (folder / f"{name}.sql").write_text(sql)
    if undo is not None:
        (folder / f"{name}.rollback.sql").write_text(undo)


# --- the files ------------------------------------------------------------------------------------


def test_every_migration_is_well_named_and_can_be_undone():
    for path in db.MIGRATIONS_DIR.iterdir():
        assert re.fullmatch(r"\d{4}\.[a-z0-9-]+(\.rollback)?\.sql", path.name)
    for name in db.shipped_migrations():
        assert commands.statements(commands.rollback_path(db.MIGRATIONS_DIR, name))


def test_the_migrations_are_one_chain():
    names = db.shipped_migrations()
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for before, name in zip([None, *names], names, strict=False):
        text = (db.MIGRATIONS_DIR / f"{name}.sql").read_text()
        depends = re.findall(r"^-- depends: (.*)$", text, re.MULTILINE)
        assert depends == ([before] if before else [])


def test_an_index_built_concurrently_stands_alone_outside_a_transaction():
    for name in db.shipped_migrations():
        text = (db.MIGRATIONS_DIR / f"{name}.sql").read_text()
        if "CONCURRENTLY" in re.sub(r"--.*", "", text):
            assert "-- transactional: false" in text
            assert re.sub(r"--.*", "", text).count(";") == 1


# --- up, down, up ---------------------------------------------------------------------------------


def test_down_leaves_nothing_and_up_again_gives_the_same_catalogue(empty_settings, empty_conn):
    applied = commands.apply_pending(empty_settings)
    first = catalogue(empty_conn)
    assert applied == db.shipped_migrations()
    assert {"users", "images", "processing_jobs", "workflow_configs"} <= tables(empty_conn)

    assert commands.undo(empty_settings, steps=None) == list(reversed(applied))
    assert {name for name in tables(empty_conn) if "yoyo" not in name} == set()
    assert empty_conn.execute(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    ).fetchone() == (0,)

    commands.apply_pending(empty_settings)
    assert catalogue(empty_conn) == first


def test_down_works_with_rows_in_the_tables(empty_settings, empty_conn):
    commands.apply_pending(empty_settings)
    user = factories.make_user(empty_conn)
    factories.make_job(empty_conn, user=user, status="completed")
    commands.undo(empty_settings, steps=None)
    assert {name for name in tables(empty_conn) if "yoyo" not in name} == set()


def test_steps_undo_the_newest_first(empty_settings, empty_conn, tmp_path):
    for number in (1, 2, 3):
        depends = f"-- depends: 000{number - 1}.t\n" if number > 1 else ""
        sql = f"{depends}CREATE TABLE t{number} ();"
        write(tmp_path, f"000{number}.t", sql, f"DROP TABLE t{number};")
    commands.apply_pending(empty_settings, directory=tmp_path)

    assert commands.undo(empty_settings, directory=tmp_path) == ["0003.t"]
    assert commands.undo(empty_settings, steps=2, directory=tmp_path) == ["0002.t", "0001.t"]
    assert commands.undo(empty_settings, directory=tmp_path) == []
    assert not {"t1", "t2", "t3"} & tables(empty_conn)


def test_without_a_rollback_file_nothing_at_all_is_undone(empty_settings, empty_conn, tmp_path):
    write(tmp_path, "0001.one", "CREATE TABLE one ();", "-- only words")
    write(tmp_path, "0002.two", "-- depends: 0001.one\nCREATE TABLE two ();", "DROP TABLE two;")
    commands.apply_pending(empty_settings, directory=tmp_path)

    with pytest.raises(Refused, match=r"0001\.one has no 0001\.one\.rollback\.sql"):
        commands.undo(empty_settings, steps=None, directory=tmp_path)

    assert {"one", "two"} <= tables(empty_conn)


def test_what_this_release_does_not_know_is_not_undone(empty_settings, tmp_path):
    write(tmp_path, "0001.one", "CREATE TABLE one ();", "DROP TABLE one;")
    write(tmp_path, "0002.two", "-- depends: 0001.one\nCREATE TABLE two ();", "DROP TABLE two;")
    commands.apply_pending(empty_settings, directory=tmp_path)
    (tmp_path / "0002.two.sql").unlink()

    with pytest.raises(Refused, match=r"0002\.two is applied, but its file is not in this"):
        commands.undo(empty_settings, directory=tmp_path)


def test_a_failing_migration_keeps_what_came_before_and_nothing_of_itself(
    empty_settings, empty_conn, tmp_path
):
    write(tmp_path, "0001.good", "CREATE TABLE good ();", "DROP TABLE good;")
    write(tmp_path, "0002.bad", "-- depends: 0001.good\nCREATE TABLE half ();\nSELECT nonsense;")

    with pytest.raises(Refused, match=r"0002\.bad failed and changed nothing: .*nonsense"):
        commands.apply_pending(empty_settings, directory=tmp_path)

    assert "good" in tables(empty_conn)
    assert "half" not in tables(empty_conn)
    (tmp_path / "0002.bad.sql").write_text("-- depends: 0001.good\nCREATE TABLE half ();")
    assert commands.apply_pending(empty_settings, directory=tmp_path) == ["0002.bad"]


def test_a_migration_that_cannot_have_a_lock_gives_up(empty_settings, empty_conn, tmp_path):
    empty_conn.execute("CREATE TABLE busy ()")
    write(tmp_path, "0001.wait", "SET LOCAL lock_timeout = '100ms';\nALTER TABLE busy ADD x int;")
    with empty_conn.transaction():
        empty_conn.execute("LOCK TABLE busy IN ACCESS SHARE MODE")
        with pytest.raises(Refused, match="lock timeout"):
            commands.apply_pending(empty_settings, directory=tmp_path)


def test_migrations_run_with_a_lock_timeout(empty_settings, empty_conn, tmp_path):
    sql = "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS value;"
    write(tmp_path, "0001.seen", sql)
    commands.apply_pending(empty_settings, directory=tmp_path)
    assert empty_conn.execute("SELECT value FROM seen").fetchone() == ("5s",)


def test_an_index_may_be_built_concurrently_while_others_wait(empty_settings, tmp_path, empty_conn):
    empty_conn.execute("CREATE TABLE big (x int)")
    sql = "-- transactional: false\nCREATE INDEX CONCURRENTLY big_x ON big (x);"
    write(tmp_path, "0001.index", sql, "DROP INDEX big_x;")
    commands.apply_pending(empty_settings, directory=tmp_path)
    assert commands.undo(empty_settings, directory=tmp_path) == ["0001.index"]


def test_broken_dependencies_are_one_line(empty_settings, tmp_path):
    write(tmp_path, "0001.lost", "-- depends: 0000.never-written\nSELECT 1;")
    with pytest.raises(Refused, match="Could not resolve dependencies"):
        commands.apply_pending(empty_settings, directory=tmp_path)


# --- several at once, and what the dead leave behind ----------------------------------------------


def test_eight_at_once_apply_everything_once(migrate_process, empty_conn):
    processes = [migrate_process() for _ in range(8)]
    ended = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0] * 8, ended
    told = "".join(out for out, _ in ended)
    for name in db.shipped_migrations():
        assert told.count(f"Applied {name}") == 1
    assert told.count("The schema is up to date.") == 7
    rows = empty_conn.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == db.shipped_migrations()


def test_who_waits_says_so_and_goes_on(migrate_process, empty_conn):
    empty_conn.execute("SELECT pg_advisory_lock(%s, %s)", commands.LOCK)
    process = migrate_process()
    assert process.stderr.readline().startswith("Waiting for another migration (server process")
    empty_conn.execute("SELECT pg_advisory_unlock(%s, %s)", commands.LOCK)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "Applied 0001.initial-schema" in out


def test_waiting_has_an_end(empty_settings, empty_conn):
    empty_conn.execute("SELECT pg_advisory_lock(%s, %s)", commands.LOCK)
    with (
        pytest.raises(Refused, match="A migration is running"),
        commands.migrating(empty_settings, patience=0),
    ):
        pass


def test_a_killed_migration_blocks_nobody(empty_settings, empty_conn):
    commands.apply_pending(empty_settings)
    commands.undo(empty_settings)
    empty_conn.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 999999)")
    assert commands.apply_pending(empty_settings)


def test_a_migration_killed_at_work_is_run_again(
    migrate_process, empty_settings, empty_conn, tmp_path
):
    write(tmp_path, "0001.slow", "CREATE TABLE slow ();\nSELECT pg_sleep(600);")
    process = migrate_process(tmp_path)
    wait_until(lambda: sleeper(empty_conn), what="the slow migration")
    process.kill()
    process.communicate()

    # Its statement would run to its end in the server and keep the table's name locked.
    empty_conn.execute("SELECT pg_terminate_backend(%s)", [sleeper(empty_conn)])
    write(tmp_path, "0001.slow", "CREATE TABLE slow ();")
    assert commands.apply_pending(empty_settings, directory=tmp_path) == ["0001.slow"]


def sleeper(connection):
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid() AND state = 'active'"
    ).fetchone()
    return row and row[0]


def test_applied_but_not_noted_is_repaired_by_mark(empty_settings, empty_conn):
    commands.apply_pending(empty_settings)
    empty_conn.execute("DELETE FROM _yoyo_migration")
    with pytest.raises(Refused, match="already exists"):
        commands.apply_pending(empty_settings)
    for name in db.shipped_migrations():
        commands.mark(empty_settings, migration=name)
    assert commands.apply_pending(empty_settings) == []
    assert db.pending_migrations(empty_conn) == []


def test_a_user_number_without_a_name_may_migrate(migrate_process, monkeypatch):
    # As in a container: no LOGNAME, no USER, and no entry for the number.
    process = migrate_process(LOGNAME="", USER="", LNAME="", USERNAME="")
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_a_nameless_user_gets_a_name(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("LOGNAME", "")
    monkeypatch.setattr("getpass.getuser", nameless)
    commands.name_user()
    assert os.environ["LOGNAME"] == "i2i"


# --- URLs -----------------------------------------------------------------------------------------


def test_special_characters_in_passwords_and_names_survive(
    server, admin_conn, empty, make_settings, tmp_path
):
    password = "p@ss/w:rd%&+ =#?'\"é"
    role, name = "odd role&+%", "empty_i2i"
    admin_conn.execute(
        psycopg.sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
            psycopg.sql.Identifier(role), psycopg.sql.Literal(password)
        )
    )
    host = urlsplit(server.url).query or urlsplit(server.url).netloc
    url = f"postgresql://{quote(role, safe='')}:{quote(password, safe='')}@/{name}?{host}"
    settings = make_settings(POSTGRES_URL=f"{url}&options=-c%20work_mem%3D7MB")
    sql = "CREATE TABLE seen AS SELECT current_user::text, current_setting('work_mem');"
    write(tmp_path, "0001.seen", sql)
    given = commands.yoyo_url(db.direct_url(settings))
    try:
        commands.apply_pending(settings, directory=tmp_path)
        with psycopg.connect(empty) as connection:
            assert connection.execute("SELECT * FROM seen").fetchone() == (role, "7MB")
    finally:
        admin_conn.execute("ALTER DATABASE empty_i2i OWNER TO CURRENT_USER")
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(
                psycopg.sql.SQL("DROP OWNED BY {} CASCADE").format(psycopg.sql.Identifier(role))
            )
        admin_conn.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(role)))
    parsed = parse_uri(given)
    assert (parsed.args["password"], parsed.args["user"]) == (password, role)
    assert parsed.args["options"] == "-c work_mem=7MB -c lock_timeout=5s"


def test_a_role_that_may_not_create_tables_is_told_so(server, admin_conn, empty, make_settings):
    admin_conn.execute("CREATE ROLE reader LOGIN")
    try:
        settings = make_settings(POSTGRES_URL=empty.replace("postgres@", "reader@"))
        with pytest.raises((Refused, DatabaseUnavailable), match="may not create tables"):
            commands.apply_pending(settings)
    finally:
        admin_conn.execute("DROP ROLE reader")


# --- flask db new ---------------------------------------------------------------------------------


def test_new_writes_the_next_pair_with_its_dependency(tmp_path, empty_settings):
    first = commands.write_migration("Add job priority!", directory=tmp_path)
    assert [path.name for path in first] == [
        "0001.add-job-priority.sql",
        "0001.add-job-priority.rollback.sql",
    ]
    assert "depends" not in first[0].read_text()

    forward, backward = commands.write_migration("add x", directory=tmp_path)
    assert forward.read_text().startswith("-- depends: 0001.add-job-priority\n")
    forward.write_text(forward.read_text() + "CREATE TABLE x ();\n")
    backward.write_text(backward.read_text() + "DROP TABLE x;\n")
    done = commands.apply_pending(empty_settings, directory=tmp_path)
    assert done == ["0001.add-job-priority", "0002.add-x"]
    assert commands.undo(empty_settings, directory=tmp_path) == ["0002.add-x"]


def test_new_wants_words(tmp_path):
    with pytest.raises(Refused, match="Name the change"):
        commands.write_migration("!!!", directory=tmp_path)
