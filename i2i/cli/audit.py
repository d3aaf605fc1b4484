"""`flask audit`: who did what, from where."""

from datetime import UTC, datetime

import click

from i2i.cli.console import Group, as_json, connection, print_json, print_table
from i2i.queries import audit

group = Group("audit", help="What was done and refused, by whom.")


@group.command("list", audited="never")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="Only from this time on, in UTC.",
)
@click.option("--actor", metavar="EMAIL", help="Only what this one did.")
@click.option("--action", metavar="ACTION", help="Only this, or all of a noun, as in: session.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
def list_(
    since: datetime | None, actor: str | None, action: str | None, limit: int, *, json_: bool
) -> None:
    """Show what was done and refused, the newest first."""
    since = since.replace(tzinfo=UTC) if since else None
    with connection() as conn:
        found = (
            audit.list_of_actor(conn, actor=actor, page_size=limit, action=action, since=since)
            if actor
            else audit.list_newest(conn, page_size=limit, action=action, since=since)
        )
    if json_:
        print_json(found)
        return
    print_table(
        ["TIME", "ACTION", "OUTCOME", "ACTOR", "ADDRESS", "TARGET", "DETAIL"],
        [
            (
                each.created_at,
                each.action,
                each.outcome,
                each.actor or "-",
                each.ip_address,
                each.target,
                each.detail,
            )
            for each in found
        ],
    )
