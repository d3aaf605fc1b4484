"""`flask tokens`: what lets scripts in."""

from datetime import UTC, datetime

import click

from i2i.cli.console import Group, as_json, connection, parse_id, print_json, print_table, say
from i2i.models import TokenRow
from i2i.queries import tokens
from i2i.services import tokens as service
from i2i.services import users

group = Group("tokens", help="Tokens with which scripts do what a user may do.")


@group.command()
@click.argument("email")
@click.option("--name", required=True, help="What it is for, as in “upload from the studio”.")
@click.option("--days", type=click.IntRange(1, 3650), help="Good for so long; else until revoked.")
def create(email: str, name: str, days: int | None) -> None:
    """Make a token for a user and print it, once."""
    with connection() as conn:
        token, row = service.create(conn, email=email, name=name, days=days)
    say(token)
    until = f"until {row.expires_at:%Y-%m-%d %H:%M}Z" if row.expires_at else "until it is revoked"
    click.echo(f"Good {until}: flask tokens revoke {row.id}. It is not shown again.", err=True)


@group.command("list", audited="never")
@click.option("--user", metavar="EMAIL", help="Only this user's.")
@as_json
def list_(user: str | None, *, json_: bool) -> None:
    """Show tokens, the newest first."""
    with connection() as conn:
        user_id = users.get(conn, email=user).id if user else None
        found = tokens.list_all(conn, user_id=user_id)
    if json_:
        print_json(found)
        return
    print_table(
        ["ID", "EMAIL", "NAME", "CREATED", "LAST USED", "STATE"],
        [
            (
                each.id,
                each.email,
                each.name,
                each.created_at,
                each.last_used_at or "never",
                _state(each),
            )
            for each in found
        ],
    )


def _state(row: TokenRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is None:
        return "good"
    return "expired" if row.expires_at <= datetime.now(UTC) else f"until {row.expires_at:%Y-%m-%d}"


@group.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """End a token; what used it is refused from now on."""
    with connection() as conn:
        service.revoke(conn, token_id=parse_id(token_id, noun="token"))
    say("The token is revoked.")
