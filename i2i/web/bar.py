"""Above every page: how far the newest batch is, and why no pictures are made just now."""

from flask import Flask, g

from i2i.models import Bar, Role
from i2i.queries import breaker
from i2i.web import cards, words
from i2i.web.database import connection


def register(app: Flask) -> None:
    """Tell the templates."""
    app.context_processor(show)


def show() -> dict[str, object]:
    """For base.html: `running` and `banner`; None where the database was not asked."""
    user = g.get("user")
    if user is None or "connection" not in g:
        return {"running": None, "banner": None}
    bar = breaker.find_for_bar(connection(), user_id=user.id)
    running = bar.working_batch_id and cards.running(
        connection(), batch_id=bar.working_batch_id, user_id=user.id
    )
    return {"running": running, "banner": banner(bar, role=user.role)}


def banner(bar: Bar, *, role: str) -> dict[str, object] | None:
    """Why no pictures are made just now, if they are not."""
    if bar.opened_at is None or bar.checked_at is None or bar.next_check_at is None:
        return None
    why, over = {
        "balance": (
            "The account at fal has no balance left or is locked.",
            "when it is topped up",
        ),
        "key": ("The account at fal does not take our key.", "when that is over"),
    }[bar.reason or "key"]
    waits = "waits and starts by itself" if bar.waiting == 1 else "wait and start by themselves"
    return {
        "title": "Making pictures is paused.",
        "sentence": f"{why} Nothing failed and nothing is lost: "
        f"{words.plural(bar.waiting, 'picture')} {waits} {over}.",
        "more": "Uploading, looking and downloading work as always. "
        f"Last checked {words.clock(bar.checked_at)}, "
        f"again at {words.clock(bar.next_check_at)}.",
        "link": ("Billing at fal", "https://fal.ai/dashboard/billing")
        if role == Role.ADMIN
        else None,
    }
