"""`flask users`: accounts are made and ended by an operator."""

import sys
from dataclasses import asdict
from typing import Any

import click

from i2i import passwords
from i2i.cli.console import (
    Group,
    as_json,
    confirm,
    connection,
    print_json,
    print_table,
    say,
    settings,
)
from i2i.errors import Refused
from i2i.gateways.storage import make_storage
from i2i.models import Role, UserOverview
from i2i.queries import users as queries
from i2i.services import users

group = Group("users", help="Accounts: who may sign in.")

password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@group.command()
@click.argument("email")
@click.option("--admin", is_flag=True, help="May see the admin pages.")
@click.option("--no-whitelist", is_flag=True, help="May not sign in yet.")
@password_stdin
def create(email: str, *, admin: bool, no_whitelist: bool, password_stdin: bool) -> None:
    """Make an account; prints a password unless one is given."""
    password = read_password() if password_stdin else passwords.make_password()
    with connection() as conn:
        user = users.create(
            conn,
            settings(),
            email=email,
            password=password,
            role=Role.ADMIN if admin else Role.USER,
            is_whitelisted=not no_whitelist,
            is_generated=not password_stdin,
        )
    say(f"Created {user.email}{'' if user.is_whitelisted else ', who may not sign in yet'}.")
    if not password_stdin:
        say_password(password)


def say_password(password: str) -> None:
    """The last line is the password, for scripts that read it."""
    say("It opens one page, where another is chosen, and works for 24 hours.")
    say(f"Password, shown only now: {password}")


def read_password() -> str:
    """All of standard input without its last line break."""
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise Refused("The password on standard input is not UTF-8 text.") from None
    return text.removesuffix("\n").removesuffix("\r")


@group.command("list", audited="never")
@as_json
def list_(*, json_: bool) -> None:
    """Show all accounts and what they have used."""
    with connection() as conn:
        found = [describe(user) for user in queries.list_overview(conn)]
    if json_:
        print_json(found)
        return
    print_table(
        [
            "EMAIL",
            "ROLE",
            "WHITELISTED",
            "CREATED",
            "UPLOADS",
            "PICTURES",
            "MB",
            "CHARGED",
            "PASSWORD",
        ],
        [
            (
                each["email"],
                each["role"],
                each["is_whitelisted"],
                each["created_at"],
                each["uploads"],
                each["pictures"],
                round(each["stored_bytes"] / 1e6),
                f"${each['charged']:.2f}",
                password_word(each),
            )
            for each in found
        ],
    )


def password_word(user: dict[str, Any]) -> str:
    """Whose the password is: "own", or "given" or "expired" for a generated one."""
    if user["password_expires_at"] is None:
        return "own"
    return "expired" if user["password_expired"] else "given"


def describe(user: UserOverview) -> dict[str, Any]:
    """One object of `list --json`. `is_active` is the whitelist; `charged` is in US dollars."""
    return asdict(user) | {"is_active": user.is_whitelisted}


@group.command()
@click.argument("email")
def whitelist(email: str) -> None:
    """Let a user sign in."""
    with connection() as conn:
        user = users.set_whitelisted(conn, email=email, is_whitelisted=True)
    say(f"{user.email} may sign in.")


@group.command()
@click.argument("email")
def unwhitelist(email: str) -> None:
    """Sign a user out and cancel what was not sent; what fal has runs on and is kept."""
    with connection() as conn:
        user = users.set_whitelisted(conn, email=email, is_whitelisted=False)
    say(f"{user.email} is signed out and may not sign in; waiting pictures were cancelled.")


@group.command("set-password")
@click.argument("email")
@password_stdin
def set_password(email: str, *, password_stdin: bool) -> None:
    """Set a new password and end all sessions; prints one unless it is given."""
    password = read_password() if password_stdin else passwords.make_password()
    with connection() as conn:
        user = users.get(conn, email=email)
        users.set_password(
            conn,
            settings(),
            user_id=user.id,
            password=password,
            is_generated=not password_stdin,
        )
    say(f"{user.email} has a new password and is signed out everywhere.")
    if not password_stdin:
        say_password(password)


@group.command("set-role")
@click.argument("email")
@click.argument("role", type=click.Choice([role.value for role in Role]))
def set_role(email: str, role: str) -> None:
    """Make a user an admin, or no longer."""
    with connection() as conn:
        user = users.set_role(conn, email=email, role=role)
    say(f"{user.email} has the role {role}.")


@group.command()
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(email: str, *, yes: bool) -> None:
    """Remove an account with its photos and pictures; the ledger of costs stays."""
    storage = make_storage(settings().blob_url, data_dir=settings().data_dir)
    with connection() as conn:
        user = users.get(conn, email=email)
        has = queries.statistics(conn, user_id=user.id)
        confirm(
            f"Delete {user.email} with {has.uploads} photos and {has.pictures} pictures for good?",
            yes=yes,
        )
    users.delete(connection, storage, email=user.email)
    say(f"Deleted {user.email}. The ledger keeps what was sent and charged.")
