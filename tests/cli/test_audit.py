"""flask audit: what was done, read in a terminal."""

import json
import os
import pwd

import click
import factories

from i2i import origin
from i2i.app import create_app
from i2i.cli.console import Command
from i2i.queries import audit as queries
from i2i.services import audit


def test_list_filters_and_keeps_to_one_line_an_event(flask, db_conn):
    with origin.acting(actor="mara@example.com", ip_address="192.0.2.7"):
        audit.record(db_conn, "user.created", target="anna\n2026-11-23 FORGED")
    audit.record(db_conn, "session.refused", outcome="refused")
    text = flask("audit", "list").stdout
    assert len(text.splitlines()) == 4  # with the migration of the template
    assert "anna 2026-11-23 FORGED" in text
    only = flask("audit", "list", "--actor", "MARA@example.com", "--json").stdout
    assert [each["action"] for each in json.loads(only)] == ["user.created"]
    only = flask("audit", "list", "--action", "session", "--limit", "1", "--json").stdout
    assert [each["outcome"] for each in json.loads(only)] == ["refused"]
    assert json.loads(flask("audit", "list", "--since", "2999-01-01", "--json").stdout) == []


OPERATOR = f"operator {pwd.getpwuid(os.getuid()).pw_name}"

READS = {
    *("audit list", "db check", "db new", "db status", "jobs list", "jobs show", "jobs stats"),
    *("practice-fal", "sessions list", "tokens list", "users list", "worker", "workflows check"),
    *("workflows export", "workflows list", "workflows show"),
}
"""They leave no record of their own; what the worker does is in `job_events`."""


def commands_of(group, before=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, (*before, name))
        elif isinstance(command, Command):
            yield " ".join((*before, name)), command


def test_all_others_leave_a_record(make_settings):
    found = dict(commands_of(create_app(make_settings()).cli))
    assert {name for name, each in found.items() if each.audited == "never"} == READS
    before = {name for name, each in found.items() if each.audited == "before"}
    assert before == {"db shell", "db studio"}


def records(connection, action="command"):
    return [
        (each.action, each.outcome, each.actor.partition(" (")[0], each.target, each.detail)
        for each in reversed(queries.list_newest(connection, page_size=100, action=action))
        if each.action != "command.db_migrate"  # the template's own
    ]


def test_a_command_is_recorded_once_with_what_was_typed_and_how_it_ended(flask, db_conn):
    secret = "a sentence from standard input"
    flask("users", "create", "anna@example.com", "--admin", "--password-stdin", stdin=secret)
    flask("users", "set-role", "nobody@example.com", "user")
    flask("users", "list")
    flask("db", "seed")
    assert records(db_conn) == [
        (
            *("command.users_create", "done", OPERATOR),
            *("anna@example.com --admin --password-stdin", ""),
        ),
        (
            *("command.users_set_role", "refused", OPERATOR),
            *("nobody@example.com user", "There is no user nobody@example.com."),
        ),
        ("command.db_seed", "done", OPERATOR, "", ""),
    ]
    ((*_, target, _),) = records(db_conn, "user.created")
    assert target == "anna@example.com"
    rows = db_conn.execute("SELECT audit_events::text FROM audit_events").fetchall()
    assert secret not in str(rows)


def test_the_deed_of_a_command_and_its_record_share_an_id(flask, db_conn):
    factories.make_user(db_conn, email="anna@example.com")
    flask("sessions", "revoke", "anna@example.com")
    command, deed = queries.list_newest(db_conn, page_size=2)
    assert (command.action, deed.action) == ("command.sessions_revoke", "session.revoked")
    assert command.request_id == deed.request_id


def test_a_command_that_is_interrupted_is_recorded(make_settings, database, db_conn):
    app = create_app(make_settings(POSTGRES_URL=database))

    @app.cli.command(cls=Command)
    def long():
        raise KeyboardInterrupt

    assert app.test_cli_runner().invoke(args=["long"]).exit_code == 1
    assert records(db_conn) == [("command.long", "refused", OPERATOR, "", "KeyboardInterrupt")]


def test_a_command_that_takes_the_table_away_says_that_it_is_not_recorded(flask):
    done = flask("db", "rollback", "--all")
    assert done.exit_code == 0
    assert "This command was not recorded" in done.stderr
