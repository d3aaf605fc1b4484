"""Above every page: how far the newest batch is, and why no pictures are made just now."""

from flask import Flask, g

from i2i.models import Role
from i2i.queries import batches, breaker
from i2i.web import cards, words
from i2i.web.database import connection


def register(app: Flask) -> None:
    """Tell the templates."""
    app.context_processor(lambda: {"running": running(), "banner": banner()})


def running() -> dict[str, object] | None:
    """The newest batch at work; None where the database was not asked."""
    user = g.get("user")
    if user is None or "connection" not in g:
        return None
    newest = batches.find_newest_working(connection(), user_id=user.id)
    if newest is None:
        return None
    return cards.running(connection(), batch_id=newest.id, user_id=user.id)


def banner() -> dict[str, object] | None:
    """Why no pictures are made just now, if they are not."""
    user = g.get("user")
    if user is None or "connection" not in g:
        return None
    state = breaker.find(connection(), user_id=user.id)
    if state.opened_at is None or state.checked_at is None or state.next_check_at is None:
        return None
    why, over = {
        "balance": (
            "The account at fal has no balance left or is locked.",
            "when it is topped up",
        ),
        "key": ("The account at fal does not take our key.", "when that is over"),
    }[state.reason or "key"]
    waits = "waits and starts by itself" if state.waiting == 1 else "wait and start by themselves"
    return {
        "title": "Making pictures is paused.",
        "sentence": f"{why} Nothing failed and nothing is lost: "
        f"{words.plural(state.waiting, 'picture')} {waits} {over}.",
        "more": "Uploading, looking and downloading work as always. "
        f"Last checked {words.clock(state.checked_at)}, "
        f"again at {words.clock(state.next_check_at)}.",
        "link": ("Billing at fal", "https://fal.ai/dashboard/billing")
        if user.role == Role.ADMIN
        else None,
    }
