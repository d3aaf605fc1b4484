"""`flask db`: the schema, its seeds, and whether the database is reachable. Alone knows yoyo.

Only one process migrates at a time: a session's advisory lock decides, taken by trying again and
again. Waiting inside PostgreSQL would hold a snapshot, which CREATE INDEX CONCURRENTLY waits for.
yoyo's own lock is a row that a killed process leaves behind; whoever holds the real lock may
therefore remove it.
"""

import contextlib
import getpass
import glob
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlencode

import click
import psycopg
from flask.cli import with_appcontext
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from i2i import db, embedded
from i2i.cli.console import (
    Command,
    Group,
    as_json,
    connection,
    database_settings,
    first_line,
    print_json,
    print_table,
    say,
    warn,
)
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable, Refused
from i2i.services import workflows

LOCK = (0x693269, 1)
"""The advisory lock of migrations: a class and a number, both chosen by us."""

PATIENCE_SECONDS = 600.0
TELL_SECONDS = 3.0
POLL_SECONDS = 0.2
HEARD_SECONDS = 2.0

group = Group("db", help="The database: schema, seeds, state.")


@group.command()
def setup() -> None:
    """Migrate, then seed."""
    apply_pending(database_settings())
    store_seeds(reset=False)


@group.command("migrate")
def migrate_command() -> None:
    """Apply what is pending; safe when several run at once."""
    apply_pending(database_settings())


@group.command("rollback")
@click.option("--steps", type=click.IntRange(min=1), help="How many; one unless given.")
@click.option("--all", "all_", is_flag=True, help="Down to an empty database.")
def rollback_command(steps: int | None, *, all_: bool) -> None:
    """Undo migrations, the newest first."""
    if all_ and steps:
        raise click.UsageError("--steps and --all exclude each other.")
    undo(database_settings(), steps=None if all_ else steps or 1)


@group.command(audited="never")
@click.option("--check", "check_", is_flag=True, help="Exit 1 when something is pending.")
@as_json
def status(*, check_: bool, json_: bool) -> None:
    """Show which migrations are applied and which are pending."""
    with connection() as conn:
        applied = applied_migrations(conn)
    shipped = db.shipped_migrations()
    rows = [(each, "applied" if each in applied else "pending") for each in shipped]
    rows += [(each, "not in this release") for each in applied if each not in shipped]
    if json_:
        print_json(
            [{"id": id_, "state": state, "applied_at": applied.get(id_)} for id_, state in rows]
        )
    else:
        print_table(
            ["MIGRATION", "STATE", "SINCE"],
            [(id_, state, applied.get(id_)) for id_, state in rows],
        )
    pending = [id_ for id_, state in rows if state == "pending"]
    if check_ and pending:
        raise Refused(f"Pending: {', '.join(pending)}. Run: flask db migrate")


@group.command("new", audited="never")
@click.argument("title")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=db.MIGRATIONS_DIR,
    help="Where to write; the project's migrations unless given.",
)
def new_command(title: str, directory: Path) -> None:
    """Write the next migration and its rollback, as in: flask db new "add x"."""
    for path in write_migration(title, directory=directory):
        say(str(path))


@click.command("seed", cls=Command)
@click.option("--reset", is_flag=True, help="Restore the shipped ones, over an operator's edits.")
@with_appcontext
def seed(*, reset: bool) -> None:
    """Store the shipped workflows; edited ones are kept."""
    store_seeds(reset=reset)


group.add_command(seed)


@group.command()
def unlock() -> None:
    """Remove the lock that a killed migration left in the migration table."""
    with migrating(database_settings(), patience=0) as backend:
        backend.break_lock()
    say("No migration is locked.")


@group.command("mark")
@click.argument("migration")
def mark_command(migration: str) -> None:
    """Note a migration as applied without running it."""
    mark(database_settings(), migration=migration)


@group.command(audited="never")
def check() -> None:
    """Say where the database is and how it answers; never the password."""
    settings = database_settings()
    with contextlib.closing(db.connect(settings, application="i2i check")) as conn:
        facts = [*describe(conn), *reach(conn, settings)]
        pending = db.pending_migrations(conn)
    facts.append(("Migrations", f"{len(pending)} pending" if pending else "up to date"))
    for name, value in facts:
        say(f"{name:<11} {value}")


@group.command(audited="before")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def shell(arguments: tuple[str, ...]) -> None:
    """Open pgcli or psql on the database; arguments after -- are its own."""
    program = shutil.which("pgcli") or shutil.which("psql") or bundled_psql()
    environ = os.environ | db.environ(db.direct_url(database_settings()))
    os.execve(program, [program, *arguments], environ)  # noqa: S606 - no shell is wanted


def bundled_psql() -> str:
    """The psql beside the embedded server; Refused when there is none."""
    with contextlib.suppress(DatabaseUnavailable):
        if (psql := embedded.binaries() / "psql").exists():
            return str(psql)
    raise Refused("psql is not installed. Install it: apt-get install postgresql-client")


# --- migrations


def apply_pending(settings: Settings, *, directory: Path = db.MIGRATIONS_DIR) -> list[str]:
    """Apply the pending migrations of a folder in order and name each; their ids.

    Raises:
        Refused: one fails, or another process migrates for too long; one line.
    """
    done = []
    with migrating(settings) as backend, backend.lock():
        # Only now, inside the lock: whoever came first may have applied everything.
        for migration in backend.to_apply(read(directory)):
            with explained(migration):
                backend.apply_one(migration)
            say(f"Applied {migration.id}")
            done.append(migration.id)
    if not done:
        say("The schema is up to date.")
    return done


def undo(
    settings: Settings, *, steps: int | None = 1, directory: Path = db.MIGRATIONS_DIR
) -> list[str]:
    """Roll migrations back, newest first; None as steps is all. Their ids.

    Raises:
        Refused: nothing was undone, because a file to undo one of them is missing; or one failed.
    """
    done = []
    with migrating(settings) as backend, backend.lock():
        applied = list(backend.to_rollback(read(directory)))
        known = {migration.id for migration in applied}
        rows = backend.execute("SELECT migration_id FROM _yoyo_migration").fetchall()
        if strangers := sorted(id_ for (id_,) in rows if id_ not in known):
            raise Refused(f"{strangers[-1]} is applied, but its file is not in this release.")
        chosen = applied[:steps]
        for migration in chosen:
            if not statements(rollback_path(directory, migration.id)):
                raise Refused(
                    f"{migration.id} has no {rollback_path(directory, migration.id).name}; "
                    "nothing was rolled back."
                )
        for migration in chosen:
            with explained(migration):
                backend.rollback_one(migration)
            say(f"Rolled back {migration.id}")
            done.append(migration.id)
    if not done:
        say("Nothing to roll back.")
    return done


def mark(settings: Settings, *, migration: str, directory: Path = db.MIGRATIONS_DIR) -> None:
    """Note a migration as applied without running it: the repair after a crash between the two."""
    with migrating(settings) as backend, backend.lock():
        found = read(directory).filter(lambda each: each.id == migration)
        if not found:
            raise Refused(f"There is no migration {migration}. They are listed by: flask db status")
        if not backend.to_apply(found):
            say(f"{migration} is applied already.")
            return
        backend.mark_migrations(found)
    say(f"{migration} counts as applied; it was not run.")


def write_migration(title: str, *, directory: Path) -> tuple[Path, Path]:
    """Write the next migration and its rollback; their paths."""
    from yoyo.migrations import heads  # noqa: PLC0415 - slow to import, and only needed here

    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not slug:
        raise Refused('Name the change in a few words, as in: flask db new "add job priority"')
    existing = read(directory)
    newest = max((int(each.id[:4]) for each in existing if each.id[:4].isdigit()), default=0)
    name = f"{newest + 1:04}.{slug}"
    depends = " ".join(sorted(each.id for each in heads(existing)))
    forward = directory / f"{name}.sql"
    backward = rollback_path(directory, name)
    head = f"-- depends: {depends}\n" if depends else ""
    for path, text in (
        (forward, f"{head}-- {title.strip()}: say why, in a sentence.\n\n"),
        (backward, f"-- Undoes {name}.\n\n"),
    ):
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return forward, backward


@contextlib.contextmanager
def migrating(settings: Settings, *, patience: float = PATIENCE_SECONDS) -> Iterator[Any]:
    """Hold the lock and lend a yoyo backend whose own stale lock is gone; both closed at the end.

    Refused when another process holds the lock for longer than `patience` seconds.
    """
    from yoyo import get_backend  # noqa: PLC0415 - takes 0.2 s, and only migrations need it

    with contextlib.closing(db.connect(settings, application="i2i migrate")) as conn:
        wait_for_lock(conn, patience=patience)
        check_rights(conn)
        logging.getLogger("yoyo").setLevel(logging.CRITICAL + 1)
        name_user()
        with get_backend(yoyo_url(db.direct_url(settings))) as backend:
            backend.break_lock()
            yield backend


def wait_for_lock(conn: Connection[Any], *, patience: float) -> None:
    """Try until the lock is ours; it is let go when the connection closes, however that happens."""
    begin = time.monotonic()
    told = False
    while not _value(conn, "SELECT pg_try_advisory_lock(%s, %s)", LOCK):
        waited = time.monotonic() - begin
        if waited >= patience:
            raise Refused(f"A migration is running ({holder(conn)}). Try again when it has ended.")
        if waited > TELL_SECONDS and not told:
            warn(f"Waiting for another migration ({holder(conn)}).")
            told = True
        time.sleep(POLL_SECONDS)


def holder(conn: Connection[Any]) -> str:
    """Who migrates just now."""
    row = conn.execute(
        "SELECT activity.pid, activity.client_addr FROM pg_locks AS held "
        "JOIN pg_stat_activity AS activity USING (pid) "
        "WHERE held.locktype = 'advisory' AND held.granted "
        "AND held.classid = %s AND held.objid = %s",
        LOCK,
    ).fetchone()
    if row is None:
        return "just ending"
    return f"server process {row[0]}, from {row[1] or 'this machine'}"


def check_rights(conn: Connection[Any]) -> None:
    """Refused for a role that may not create tables; yoyo would only say that it is locked."""
    if not _value(conn, "SELECT has_schema_privilege(current_schema(), 'CREATE')"):
        raise Refused(
            f"The role {conn.info.user} may not create tables in {conn.info.dbname}. "
            "Migrate as the owner: set POSTGRES_URL_NON_POOLING."
        )


def name_user() -> None:
    """Make yoyo's log entry possible for a user number without a name, as in containers."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "i2i"


def yoyo_url(url: str) -> str:
    """A libpq URL as yoyo reads it: everything as arguments, which it hands to psycopg as they are.

    A statement that waits for a lock gives up after five seconds, before it blocks everybody else.
    """
    given = conninfo_to_dict(url)
    given["options"] = f"{given.get('options') or ''} -c lock_timeout=5s".strip()
    given.setdefault("connect_timeout", "5")
    given["application_name"] = "i2i migrate"
    return f"postgresql+psycopg:///?{urlencode(given)}"


def read(directory: Path) -> Any:
    """Yoyo's list of the migrations in a folder; Refused when they do not fit together."""
    from yoyo import exceptions, read_migrations  # noqa: PLC0415 - as in migrating

    found = read_migrations(glob.escape(str(directory)))
    migrations = found.__class__(sorted(found, key=lambda each: each.id))
    try:
        for migration in migrations:
            migration.load()
    except exceptions.BadMigration as error:
        raise Refused(f"{error.args[0]}.") from error
    return migrations


@contextlib.contextmanager
def explained(migration: Any) -> Iterator[None]:
    """Name the migration that failed and what is left of it."""
    try:
        yield
    except psycopg.Error as error:
        left = "and changed nothing" if migration.use_transactions else "and may be half done"
        raise Refused(f"{migration.id} failed {left}: {first_line(error)}") from error


def rollback_path(directory: Path, migration: str) -> Path:
    return directory / f"{migration}.rollback.sql"


def statements(path: Path) -> str:
    """What a file holds beside comments; empty when it is missing."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    return re.sub(r"--[^\n]*|\s+", "", text)


def applied_migrations(conn: Connection[Any]) -> dict[str, datetime]:
    """When each applied migration was applied, oldest first. Reads only."""
    if not _value(conn, "SELECT to_regclass('_yoyo_migration') IS NOT NULL"):
        return {}
    rows = conn.execute(
        "SELECT migration_id, applied_at_utc FROM _yoyo_migration ORDER BY migration_id"
    )
    return {id_: at.replace(tzinfo=UTC) for id_, at in rows}


def _value(conn: Connection[Any], query: LiteralString, values: Any = None) -> Any:
    row = conn.execute(query, values).fetchone()
    return row[0] if row else None


# --- seeds and state


def store_seeds(*, reset: bool) -> None:
    """Store the shipped workflows and say what became of each."""
    with connection() as conn:
        for saved in workflows.seed(conn, reset=reset):
            hint = " (edited here; --reset restores the shipped one)"
            say(f"{saved.id}: {saved.change}{hint if saved.change == 'kept' else ''}")


def describe(conn: Connection[Any]) -> list[tuple[str, object]]:
    """Where the server is and what it is."""
    info = conn.info
    begin = time.perf_counter()
    conn.execute("SELECT 1")
    latency = (time.perf_counter() - begin) * 1000
    return [
        ("Host", info.host or "this machine"),
        ("Port", info.port),
        ("Database", info.dbname),
        ("User", info.user),
        ("TLS", "yes" if conn.pgconn.ssl_in_use else "no"),
        ("Server", f"PostgreSQL {_value(conn, 'SHOW server_version')}"),
        ("Latency", f"{latency:.1f} ms"),
    ]


def reach(conn: Connection[Any], settings: Settings) -> list[tuple[str, object]]:
    """How the pooled URL answers, and whether its NOTIFY is heard on the direct connection."""
    word = secrets.token_hex(8)
    conn.execute("LISTEN i2i_check")
    begin = time.perf_counter()
    options = db.options(settings, application="i2i check")
    with contextlib.closing(psycopg.connect(db.url(settings), **options)) as pooled:
        took = (time.perf_counter() - begin) * 1000
        way = "direct"
        if settings.prepare_threshold is None:
            way = f"{pooled.info.host}:{pooled.info.port}, without prepared statements"
        pooled.execute("SELECT pg_notify('i2i_check', %s)", [word])
    heard = any(
        message.payload == word for message in conn.notifies(timeout=HEARD_SECONDS, stop_after=1)
    )
    unheard = f"not heard: workers look every {settings.worker_poll_seconds:g} s instead. "
    unheard += "Set POSTGRES_URL_NON_POOLING to the server itself."
    return [
        ("Pool", f"{way}; connects in {took:.0f} ms"),
        ("LISTEN", "heard" if heard else unheard),
    ]
