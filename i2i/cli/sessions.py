"""`flask sessions`: who is signed in, and ending it."""

import click

from i2i.cli.console import Group, as_json, connection, print_json, print_table, say
from i2i.queries import sessions
from i2i.services import sessions as service
from i2i.services import users

group = Group("sessions", help="Signed-in browsers.")


@group.command("list", audited="never")
@as_json
def list_(*, json_: bool) -> None:
    """Show the browsers that are signed in, the last seen first."""
    with connection() as conn:
        found = sessions.list_of_user(conn)
    if json_:
        print_json(found)
        return
    print_table(
        ["EMAIL", "LAST SEEN", "SIGNED IN", "ADDRESS", "BROWSER"],
        [
            (each.email, each.last_seen_at, each.created_at, each.ip_address, each.user_agent[:60])
            for each in found
        ],
    )


@group.command()
@click.argument("email")
def revoke(email: str) -> None:
    """Sign a user out everywhere."""
    with connection() as conn:
        user = users.get(conn, email=email)
        count = service.revoke_all(conn, email=user.email)
    say(f"{user.email} is signed out ({count} {'session' if count == 1 else 'sessions'}).")
