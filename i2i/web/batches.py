"""Batches: choose settings, make pictures, watch them."""

import secrets
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import forms
from i2i.errors import InvalidFields, PerhapsCharged
from i2i.models import Batch, JobCard, JobStatus, Place, Verdict
from i2i.queries import jobs, submissions
from i2i.services import batches as service
from i2i.services.workflows import definition_of
from i2i.web import cards, images, lineage, order_form, sizes
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import money, plural

bp = Blueprint("batches", __name__)

Button = tuple[str, cards.Action]
"""Style ("text", "outlined" or "filled") and action."""

MANY = 30
"""Pictures above which small frames are the usual ones."""


@bp.route("/batches/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """Choose a workflow and fill its form; what was typed is shown with its price.

    POST is the same for a choice too large for an address; a smaller one gets its address.
    """
    choice = order_form.read()
    if not choice.photos:
        return redirect(images.address("images.upload", images.typed_settings()), code=303)
    if request.method == "POST" and len(choice.photos) <= order_form.LINKED_PHOTOS:
        url = images.address("batches.new", dict(request.values.lists()))
        if "?" in url:
            return redirect(url, code=303)
    return order_form.page(choice, errors={})


@bp.post("/batches/estimate")
def estimate() -> ResponseReturnValue:
    """The docket for what is typed, for scripts; nothing is kept."""
    docket = order_form.estimate(order_form.read())
    if wants_json():
        return jsonify(
            pictures=docket.pictures,
            total=None if docket.total is None else str(docket.total),
            summary=" ".join([docket.sentence, *docket.notes]),
            warning=docket.warning or None,
        )
    return render_template("batches/_docket.html", docket=docket)


@bp.post("/batches")
def create() -> ResponseReturnValue:
    """Make the pictures, or show the form again with everything typed and what to change."""
    choice = order_form.read()
    try:
        batch_id = service.create(connection(), settings(), order=order_form.order(choice))
    except InvalidFields as error:
        if wants_json():
            return jsonify(error="Nothing was sent or charged.", fields=error.fields), 422
        return order_form.page(choice, errors=error.fields), 422
    if wants_json():
        batch = service.get(connection(), batch_id=batch_id, user_id=current_user().id)
        return jsonify(_as_json(batch)), 201
    return redirect(url_for("batches.show", id=batch_id), code=303)


@bp.get("/batches/<uuid:id>")
def show(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """The batch with all its pictures."""
    batch = service.get(connection(), batch_id=id, user_id=current_user().id)
    if wants_json():
        return jsonify(_as_json(batch))
    version, places = _version(id)
    page = _page(batch, places=places, version=version)
    size = sizes.chosen(default="s" if len(page["cards"]) > MANY else "m")
    return render_template(
        "batches/show.html",
        size=size,
        sizes=sizes.switch("batches.show", size, id=id),
        **lineage.of(connection(), batch),
        **page,
    )


@bp.get("/batches/<uuid:id>/live")
def live(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """The cards that changed since a version, with counts and title; 304 when nothing did."""
    version, places = _version(id)
    response = Response(headers={"Cache-Control": "private, no-cache"})
    response.set_etag(version.etag)
    if request.if_none_match.contains_weak(version.etag):  # proxies that compress weaken it
        response.status_code = 304
        return response
    batch = service.get(connection(), batch_id=id, user_id=current_user().id)
    page = _page(batch, places=places, version=version, since=_since())
    response.set_data(render_template("batches/_cards.html", **page))
    return response


@dataclass(frozen=True, slots=True)
class Version:
    """What a page shows: a number for all changes of its jobs, a name for its line, and when.

    The line's name begins with its pace, a word for whether it moves at all.
    """

    revision: int
    line: str
    read_at: datetime | None

    @property
    def etag(self) -> str:
        """Equal for pages that show the same."""
        return f"{self.revision}-{self.line}"

    @property
    def pace(self) -> str:
        """Whether the line moves: going, paused."""
        return self.line.partition(".")[0]

    def __str__(self) -> str:
        """As the page gives it back in `since`."""
        read_at = self.read_at.timestamp() if self.read_at else 0
        return f"{self.etag}-{round(read_at * 1_000_000)}"


def _version(batch_id: UUID) -> tuple[Version, Sequence[Place]]:
    """With the places in line of the user's pictures, which are a part of it."""
    conn, user_id = connection(), current_user().id
    row = service.version(conn, batch_id=batch_id, user_id=user_id)
    places = jobs.list_places(conn, user_id=user_id) if row.waits else []
    line = repr([(each.place, each.in_flight, each.preparing) for each in places])
    pace = "paused" if any(each.paused for each in places) else "going"
    return Version(row.revision, f"{pace}.{zlib.crc32(line.encode()):x}", row.read_at), places


def _since() -> Version | None:
    """The version that the page asking has; None when it says none that can be read."""
    revision, _, rest = request.args.get("since", "").partition("-")
    line, _, moment = rest.partition("-")
    if not all(each.isascii() and each.isdigit() and len(each) < 18 for each in (revision, moment)):
        return None
    return Version(int(revision), line, datetime.fromtimestamp(int(moment) / 1_000_000, tz=UTC))


def _page(
    batch: Batch, *, places: Sequence[Place], version: Version, since: Version | None = None
) -> dict[str, Any]:
    """What the page and its live fragment show; `since` is what is on screen.

    The version was read before the rows: what changes meanwhile comes once more rather than never.
    """
    conn = connection()
    rows = service.pictures(conn, batch=batch)
    outlook = cards.outlook_of(conn, settings(), places=places)
    spending = submissions.spending_of_batch(conn, batch_id=batch.id)
    definition = definition_of(batch.definition)
    settings_rows = forms.describe(definition.parameter_schema, batch.parameters)
    before = {}
    if batch.parent_id:
        made = jobs.list_parent_results(conn, batch_id=batch.id, user_id=batch.user_id)
        before = {each.id: each.result_image_id for each in made}
    shown, moved = rows, []
    if since is not None and since.read_at is not None:
        seen = since.read_at - timedelta(seconds=5)  # transactions commit in any order
        changed = {row.id for row in rows if row.updated_at > seen}
        waiting = outlook.places.keys() - changed
        if since.pace != version.pace:
            changed |= waiting
        elif since.line != version.line:
            moved = [row for row in rows if row.id in waiting]
        shown = [row for row in rows if row.id in changed]
    cells = cards.cells(rows, outlook=outlook)
    count = cards.counts(rows)
    busy = cards.batch_status(count) in {"working", "attention"}
    return {
        "batch": {
            "id": batch.id,
            "title": cards.headline(rows, workflow=definition.name),
            "created_at": batch.created_at,
            "settings_words": forms.in_words(definition.parameter_schema, batch.parameters, most=4),
            "status_sentence": cards.status_sentence(
                rows, outlook=outlook, charged=spending.charged
            ),
            "tab_title": f"({count[JobStatus.COMPLETED]}/{len(rows)}) Batch – i2i",
            "cells": cells,
            "segments": cards.segments(cells),
            "pictures": len(rows),
            "charged": spending.charged,
            "estimate": batch.estimate,
            "busy": busy,
        },
        "settings": settings_rows,
        "actions": _actions(batch, rows=rows),
        "pilot": _pilot(batch, rows=rows),
        "version": version.etag,
        "since": str(version),
        "cards": cards.build(shown, outlook=outlook, before=before),
        "moved": cards.build(moved, outlook=outlook),
    }


def _actions(batch: Batch, *, rows: Sequence[JobCard]) -> list[Button]:
    """What can be done with several at once; an ellipsis means that a question follows."""
    found: list[Button] = []
    count = cards.counts(rows)
    if waiting := count[JobStatus.PENDING]:
        url = url_for("batches.cancel", id=batch.id)
        found.append(("text", (f"Cancel {waiting} waiting", "post", url, {})))
    retry = url_for("batches.retry", id=batch.id)
    for status, words in (
        (JobStatus.FAILED, "Retry {} failed"),
        (JobStatus.CANCELLED, "Run {} cancelled again"),
    ):
        if count[status]:
            asks = any(row.charged == "unknown" for row in rows if row.status == status)
            label = words.format(count[status]) + ("…" if asks else "")
            found.append(("text", (label, "post", retry, {"scope": status.value})))
    again = ("Same again, but…", "all")
    if rejected := sum(row.verdict == Verdict.REJECTED for row in rows):
        fields = {"scope": "rejected", "client_key": secrets.token_urlsafe(16)}
        found.append(("text", (f"Run {rejected} rejected again", "post", retry, fields)))
        again = ("Rejected again, but…", "rejected")
    if cards.batch_status(count) == "done" and rows:
        label, scope = again
        url = url_for("batches.new", parent=batch.id, scope=scope)
        found.append(("text", (label, "get", url, {})))
    return found + _next_steps(batch, rows=rows)


def _next_steps(batch: Batch, *, rows: Sequence[JobCard]) -> list[Button]:
    """Download what is there; review it when all is there, then take what was approved."""
    verdicts = Counter(row.verdict for row in rows if row.status == JobStatus.COMPLETED)
    done, to_judge = verdicts.total(), verdicts[None]
    if not done:
        return []
    zipped = url_for("batches.download", id=batch.id)
    download: Button = ("outlined", (f"Download {done} (ZIP)", "get", zipped, {}))
    if cards.batch_status(cards.counts(rows)) != "done":
        return [download]
    if to_judge:
        which = plural(done, "picture") if to_judge == done else f"the other {to_judge}"
        url = url_for("jobs.review", id=batch.id)
        return [download, ("filled", (f"Review {which}", "get", url, {}))]
    words = [f"{verdicts[each]} {each}" for each in Verdict if verdicts[each]]
    found: list[Button] = [
        ("text", (", ".join(words), "get", url_for("jobs.verdicts", id=batch.id), {}))
    ]
    if approved := verdicts[Verdict.APPROVED]:
        url = url_for("batches.download", id=batch.id, verdict=Verdict.APPROVED)
        filled: Button = ("filled", (f"Download {approved} approved (ZIP)", "get", url, {}))
        return [*found, *([download] if approved < done else []), filled]
    return [*found, download]


def _pilot(batch: Batch, *, rows: Sequence[JobCard]) -> dict[str, Any] | None:
    """The question after a pilot, or a restore, once nothing moves; None without held ones."""
    held = [row for row in rows if row.status == JobStatus.HELD]
    if not held or any(row.status in cards.BUSY - {JobStatus.UNKNOWN} for row in rows):
        return None
    done = [row for row in rows if row.status == JobStatus.COMPLETED]
    cost = f", about {money(batch.estimate * len(held) / len(rows))}" if batch.estimate else ""
    rest = str(len(held)) if len(held) == len(rows) else f"other {len(held)}"
    restored = next((row.attention for row in held if row.attention), None)
    release = url_for("batches.release", id=batch.id)
    cancel = url_for("batches.cancel", id=batch.id)
    change = url_for("batches.new", parent=batch.id, scope="held")
    return {
        "title": "Make them again?" if restored else "Good so far?",
        "look": (
            f"Look at the {plural(len(done), 'picture')} at full size",
            url_for("jobs.show", id=done[0].id, review=1),
        )
        if done
        else None,
        "sentence": f"{restored} Made now, they are charged anew{cost}."
        if restored
        else f"The {rest} will be made with exactly these settings{cost}.",
        "actions": [
            ("filled", (f"Make the {rest}", "post", release, {})),
            ("outlined", ("Change settings", "get", change, {})),
            ("text", (f"Cancel the {rest}", "post", cancel, {})),
        ],
    }


@bp.post("/batches/<uuid:id>/release")
def release(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Start the held rest of a pilot."""
    service.release(connection(), batch_id=id, user_id=current_user().id)
    return answer(id)


@bp.post("/batches/<uuid:id>/cancel")
def cancel(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Cancel what has not started."""
    service.cancel(connection(), batch_id=id, user_id=current_user().id)
    return answer(id)


@bp.post("/batches/<uuid:id>/retry")
def retry(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Run pictures again, here or in a child batch; asks first where some were perhaps charged."""
    sent = request.form
    try:
        made_in = service.retry(
            connection(),
            settings(),
            batch_id=id,
            user_id=current_user().id,
            scope=sent.get("scope", "failed"),
            perhaps={"1": True, "free": False}.get(sent.get("confirm", "")),
            changes={name: text for name, text in sent.items() if name not in forms.RESERVED},
            client_key=sent.get("client_key") or secrets.token_urlsafe(16),
        )
    except PerhapsCharged as error:
        return _ask(id, error)
    return answer(made_in)


def _ask(batch_id: UUID, perhaps: PerhapsCharged) -> ResponseReturnValue:
    """The question before pictures that may be paid twice; for scripts 409 and what to add."""
    if wants_json():
        return jsonify(
            error=f"{perhaps} Add confirm=1 to run them all, confirm=free to leave these out."
        ), 409
    url = url_for("batches.retry", id=batch_id)
    fields = {"scope": request.form.get("scope", "failed")}
    if key := request.form.get("client_key"):
        fields["client_key"] = key
    rest = f"Only the {perhaps.others} not charged" if perhaps.others else ""
    return render_template(
        "jobs/confirm.html",
        title=f"Run {plural(perhaps.number + perhaps.others, 'picture')} again?",
        sentences=[str(perhaps)],
        keep=("Leave them", url_for("batches.show", id=batch_id)),
        also=[(rest, "post", url, fields | {"confirm": "free"})] if rest else [],
        action=("Send all again, may be charged twice", "post", url, fields | {"confirm": "1"}),
    )


def answer(batch_id: UUID) -> ResponseReturnValue:
    """To the batch that something was done to; for scripts the batch itself."""
    if wants_json():
        batch = service.get(connection(), batch_id=batch_id, user_id=current_user().id)
        return jsonify(_as_json(batch))
    return redirect(url_for("batches.show", id=batch_id), code=303)


def _as_json(batch: Batch) -> dict[str, Any]:
    conn = connection()
    rows = service.pictures(conn, batch=batch)
    outlook = cards.outlook(conn, settings(), rows, user_id=batch.user_id)
    count = cards.counts(rows)
    return {
        "id": batch.id,
        "url": url_for("batches.show", id=batch.id),
        "status": cards.batch_status(count),
        "counts": dict(count),
        "jobs": jobs_as_json(rows, outlook=outlook),
    }


def jobs_as_json(rows: Sequence[JobCard], *, outlook: cards.Outlook) -> list[dict[str, Any]]:
    """Jobs for scripts; the keys are SURFACE's, in `docs/reference.md`."""
    ids = [row.id for row in rows]
    found = jobs.list_parameters(connection(), job_ids=ids, user_id=current_user().id)
    parameters = {each.id: each.parameters for each in found}
    return [
        _job_as_json(row, outlook=outlook, parameters=parameters.get(row.id, {})) for row in rows
    ]


def _job_as_json(
    row: JobCard, *, outlook: cards.Outlook, parameters: dict[str, Any]
) -> dict[str, Any]:
    words = cards.explain(row)
    offered = cards.actions(row)
    place, left = outlook.places.get(row.id), outlook.seconds_left(row)
    return {
        "id": row.id,
        "url": url_for("jobs.show", id=row.id),
        "status": row.status,
        "attention": row.attention,
        "original_filename": row.original_filename,
        "workflow": row.workflow_name,
        "parameters": parameters,
        "error": words.sentence
        if words and row.status in {JobStatus.FAILED, JobStatus.UNKNOWN}
        else None,
        "next_step": offered[0][0] if offered else None,
        "charged": row.charged or "no",
        "queue_position": place.place if place else row.queue_position,
        "eta_seconds": None if left is None else round(left),
        "original_url": url_for("images.show", id=row.original_image_id),
        "result_url": row.result_image_id and url_for("images.show", id=row.result_image_id),
        "created_at": row.created_at.isoformat(),
        "completed_at": row.completed_at.isoformat() if row.completed_at else None,
        "processing_time_ms": row.processing_time_ms,
        "verdict": row.verdict,
        "verdict_reason": row.verdict_reason,
        "verdict_note": row.verdict_note,
    }
