"""What all commands share: refusals as one line, the database, tables and JSON.

Exit status: 0 on success, 1 on a refusal with one line on stderr, 2 on wrong usage.
"""

import contextlib
import json
import os
import pwd
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import IO, Any
from uuid import UUID

import click
import psycopg
from flask import current_app
from flask.cli import AppGroup, ScriptInfo
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from i2i import db, embedded, origin
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable, I2IError, Refused
from i2i.services import audit

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON, for scripts.")
"""Adds `--json`; the command's parameter is `json_`."""


class Refusal(click.ClickException):
    """Ends a command with status 1 and one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"i2i: {self.message}", file=file or sys.stderr)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever may go wrong outside this program into a Refusal; bugs stay tracebacks."""
    try:
        yield
    except BrokenPipeError:
        raise  # somebody reads no further, as in `| head`; click ends quietly
    except psycopg.OperationalError as error:
        raise _refusal(db.explain(error)) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise _refusal("The database misses migrations. Run: flask db migrate") from error
    except psycopg.Error as error:
        raise _refusal(f"The database refused: {first_line(error)}") from error
    except (I2IError, OSError) as error:
        raise _refusal(str(error)) from error


def _refusal(message: str) -> Refusal:
    return Refusal(" ".join(message.split()))


def first_line(error: BaseException) -> str:
    """What went wrong without the driver's LINE and HINT."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Command(click.Command):
    """A command whose failures are one line, and which leaves one audit record.

    `audited` is "after" (with how it ended), "before" for what this process does not live to see
    the end of, or "never" for what only reads or writes no rows that are worth one.
    """

    def __init__(self, *args: Any, audited: str = "after", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.audited = audited

    def invoke(self, ctx: click.Context) -> Any:
        if not current_app:  # the record needs it as much as the command
            ctx.with_resource(ctx.ensure_object(ScriptInfo).load_app().app_context())
        acting = origin.acting(actor=operator(), request_id=secrets.token_hex(8))
        with refusals(), acting:
            if self.audited == "before":
                self._record(ctx)
            try:
                done = super().invoke(ctx)
            except (Exception, KeyboardInterrupt) as error:
                if self.audited == "after":
                    self._record(ctx, error=error)
                raise
            if self.audited == "after":
                self._record(ctx)
            return done

    def _record(self, ctx: click.Context, *, error: BaseException | None = None) -> None:
        """What was typed and what came of it. Where no record can be kept, a line says so."""
        if isinstance(error, DatabaseUnavailable | psycopg.OperationalError):
            return  # no database, no record
        reason = ""
        if error is not None:
            ours = isinstance(error, I2IError | click.ClickException)
            reason = first_line(error) if ours else type(error).__name__
        try:
            with connection() as conn:
                audit.record(
                    conn,
                    f"command.{'_'.join(_words(ctx)).replace('-', '_')}",
                    target=" ".join(_typed(ctx)),
                    detail=reason,
                    outcome="refused" if error else "done",
                )
        except (DatabaseUnavailable, psycopg.Error) as trouble:
            if error is None:
                warn(f"i2i: This command was not recorded: {first_line(trouble)}")


def operator() -> str:
    """The login name of whoever runs this; with sudo also the one who did, as sudo tells it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container
        name = str(os.getuid())
    asked = os.environ.get("SUDO_USER")
    return f"operator {name} (sudo by {asked})" if asked else f"operator {name}"


def _words(ctx: click.Context) -> list[str]:
    """The command's name, as in ["users", "create"]."""
    if ctx.parent is None:
        return []
    return [*_words(ctx.parent), ctx.info_name or ""]


def _typed(ctx: click.Context) -> Iterator[str]:
    """Arguments, and options that are not as usual. Passwords are never among them."""
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.type is click.UNPROCESSED:
            continue  # another program's, such as a statement for psql
        if isinstance(parameter, click.Argument):
            if value is not None:
                yield str(value)
        elif value != parameter.get_default(ctx):
            yield parameter.opts[0] if value is True else f"{parameter.opts[0]} {value}"


class Group(AppGroup):
    """Commands of one noun, run in the application's context."""

    command_class = Command


def settings() -> Settings:
    """The settings of this process, as the environment has them."""
    found = current_app.extensions["i2i"].settings
    if not isinstance(found, Settings):  # pragma: no cover - the composition root's promise
        raise TypeError("the application carries no settings")
    return found


def database_settings() -> Settings:
    """The settings with both database URLs; DatabaseUnavailable when there is no database."""
    resolved = embedded.with_database(settings())
    for name, url in (
        ("POSTGRES_URL", db.url(resolved)),
        ("POSTGRES_URL_NON_POOLING", db.direct_url(resolved)),
    ):
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq's own words would repeat the part with the password, hence `from None`.
            raise DatabaseUnavailable(
                f"{name} cannot be read. Write special characters of the password as %XX."
            ) from None
    return resolved


@contextlib.contextmanager
def connection() -> Iterator[Connection[Any]]:
    """One direct connection, closed at the end."""
    with contextlib.closing(db.connect(database_settings(), application="i2i command")) as conn:
        yield conn


def parse_id(text: str, *, noun: str) -> UUID:
    """The UUID of a row; Refused with a line that says where to find one."""
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            f"{text!r} is no id of a {noun}. They are listed by: flask {noun}s list"
        ) from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person at a terminal; a script says --yes. Refused when it is not wanted."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("Nobody can be asked here. Add --yes to do it without a question.")
    if not click.confirm(question, err=True):
        raise Refused("Nothing was changed.")


def say(line: str) -> None:
    click.echo(line)


def warn(line: str) -> None:
    click.echo(line, err=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; numbers to the right, None as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    numeric = [
        all(isinstance(row[index], int | Decimal) and row[index] is not True for row in rows)
        for index in range(len(headings))
    ]
    for line in [list(headings), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        say("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    # One row, one line: control characters of a name would also reach the terminal.
    return "".join(each if each.isprintable() else "?" for each in str(value))


def print_json(value: object) -> None:
    """Indented JSON; times in ISO 8601, ids as text, money as numbers."""
    say(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
