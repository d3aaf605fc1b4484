"""One picture with its original, and the history of all."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i import forms
from i2i.errors import InvalidFields, NotFound, Refused
from i2i.models import Image, JobCard, JobEvent, JobStatus, Submission
from i2i.queries import images, submissions, users
from i2i.queries import jobs as queries
from i2i.services import batches as batch_service
from i2i.services import jobs as service
from i2i.services.images import CODES
from i2i.services.workflows import definition_of
from i2i.web import cards
from i2i.web.batches import job_as_json
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import clock, day, gigabytes, local, megabytes, money, seconds

bp = Blueprint("jobs", __name__)

PAGE_SIZE = 24

TABS = {
    "": ("All", None),
    "completed": ("Done", [JobStatus.COMPLETED]),
    "working": (
        "In work",
        [
            JobStatus.HELD,
            JobStatus.PENDING,
            JobStatus.SUBMITTING,
            JobStatus.PROCESSING,
            JobStatus.STORING,
        ],
    ),
    "failed": ("Failed", [JobStatus.FAILED, JobStatus.CANCELLED]),
    "unknown": ("Needs you", [JobStatus.UNKNOWN]),
}


@bp.get("/jobs")
def history() -> ResponseReturnValue:
    """All pictures of the user, newest first, filtered by state, workflow, dates and file name."""
    conn, user = connection(), current_user()
    tab = request.args.get("status", "")
    if tab not in TABS and tab not in set(JobStatus):
        raise NotFound("There is no such filter.")
    wanted: dict[str, Any] = {
        "statuses": TABS[tab][1] if tab in TABS else [tab],
        "workflow": request.args.get("workflow") or None,
        "q": _text("q"),
        "created_from": _date("from"),
        "created_to": _date("to", days=1),
    }
    after = read_cursor(request.args.get("after"))
    rows = queries.page_history(
        conn,
        user_id=user.id,
        page_size=PAGE_SIZE + 1,
        before=after and after[0],
        before_id=after and after[1],
        **wanted,
    )
    shown = rows[:PAGE_SIZE]
    cursor = write_cursor(shown[-1].created_at, shown[-1].id) if len(rows) > PAGE_SIZE else None
    filters: dict[str, Any] = {
        name: text
        for name in ("status", "workflow", "q", "from", "to", "size")
        if (text := request.args.get(name))
    }
    older = cursor and url_for("jobs.history", **filters, after=cursor)
    outlook = cards.outlook(conn, settings(), user_id=user.id)
    if wants_json():
        found = [job_as_json(row, outlook=outlook) for row in shown]
        return jsonify(jobs=found, next=older)
    total = queries.count_history(conn, user_id=user.id).count
    matching = queries.count_history(conn, user_id=user.id, **wanted).count
    stored = users.statistics(conn, user_id=user.id).stored_bytes
    size = request.args.get("size", "")
    size = size if size in {"s", "m", "l"} else "m"
    return render_template(
        "jobs/history.html",
        cards=cards.build(shown, outlook=outlook),
        tabs=[
            (label, url_for("jobs.history", **(filters | {"status": key})), key == tab)
            for key, (label, _) in TABS.items()
        ],
        status=tab,
        q=wanted["q"] or "",
        total=total,
        used_words=f"{gigabytes(stored)} of {gigabytes(settings().storage_quota_bytes)} used",
        page_words=f"Newest first · {len(shown)} of {matching:,}",
        newer_url=url_for("jobs.history", **filters) if after else None,
        older_url=older,
        sizes=[
            (each.upper(), url_for("jobs.history", **(filters | {"size": each})), each == size)
            for each in "sml"
        ],
        size=size,
        all_url=url_for("jobs.history"),
    )


def _text(name: str) -> str | None:
    """A search word; PostgreSQL's text holds no NUL, so nothing can contain one."""
    text = request.args.get(name, "").strip().replace("\0", "")
    return text[:200] or None


def _date(name: str, *, days: int = 0) -> datetime | None:
    text = request.args.get(name, "").strip()
    if not text:
        return None
    try:
        return datetime.fromisoformat(f"{text}T00:00:00+00:00") + timedelta(days=days)
    except (ValueError, OverflowError):
        raise NotFound("This is no date.") from None


@bp.get("/jobs/<uuid:id>")
def show(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """Before and after, settings, what happened and what it cost."""
    conn, user = connection(), current_user()
    row = service.get_card(conn, job_id=id, user_id=user.id)
    outlook = cards.outlook(conn, settings(), user_id=user.id)
    if wants_json():
        return jsonify(job_as_json(row, outlook=outlook))
    batch = batch_service.get(conn, batch_id=row.batch_id, user_id=user.id)
    siblings = [each.id for each in queries.list_cards(conn, batch_id=batch.id, user_id=user.id)]
    place = siblings.index(row.id)
    ledger = submissions.list_of_job(conn, job_id=row.id)
    card = cards.build([row], outlook=outlook)[0]
    schema = definition_of(batch.definition).parameter_schema
    original = images.find(conn, image_id=row.original_image_id, user_id=user.id)
    result = row.result_image_id and images.find(
        conn, image_id=row.result_image_id, user_id=user.id
    )
    further = images.list_further_outputs(conn, job_id=row.id, user_id=user.id)
    return render_template(
        "jobs/show.html",
        card=card,
        batch_url=url_for("batches.show", id=batch.id),
        batch_words=f"{place + 1} of {len(siblings)}" if len(siblings) > 1 else "",
        before_url=_link(siblings, place - 1),
        after_url=_link(siblings, place + 1),
        facts=_facts(row),
        original=_file(original) if original else None,
        results=[_file(each) for each in ([result] if result else []) + further],
        settings=[("Workflow", row.workflow_title, "")]
        + [(label, words, "") for label, words in forms.describe(schema, row.parameters)],
        story=_story(row, queries.list_events(conn, job_id=row.id)),
        costs=_costs(ledger),
        request=_request(ledger),
        actions_more=_more(row),
    )


def _link(siblings: Sequence[UUID], place: int) -> str | None:
    return url_for("jobs.show", id=siblings[place]) if 0 <= place < len(siblings) else None


def _facts(row: JobCard) -> str:
    if row.status != JobStatus.COMPLETED or row.completed_at is None:
        return f"Asked for {day(row.created_at)}"
    took = seconds((row.processing_time_ms or 0) / 1000)
    return f"Made {day(row.completed_at)} in {took} · {cards.charge(row).rstrip('.').lower()}"


def _file(image: Image) -> dict[str, Any]:
    """An image with its size in words and the name under which it is saved."""
    kind = CODES.get(image.mime_type, "File")
    pixels = f", {image.width:,} × {image.height:,}" if image.width and image.height else ""
    url = url_for("images.show", id=image.id)
    return {
        "url": url,
        "preview_url": url_for("images.show", id=image.id, size="preview")
        if image.has_preview or not image.is_processed
        else None,
        "width": image.width,
        "height": image.height,
        "words": f"{kind}{pixels}, {megabytes(image.file_size)}",
        "download_url": url_for("images.show", id=image.id, download=1),
        "download_name": image.original_filename,
    }


_STORY = {
    "held": "Held until you have seen the first ones.",
    "submitting": "Its photo goes to the provider.",
    "processing": "The provider has taken it.",
    "unknown": "The answer was lost. We look for it at the provider.",
    "storing": "The picture is made; we fetch it.",
    "completed": "The picture is stored.",
    "cancelled": "Cancelled.",
}


def _story(row: JobCard, events: Sequence[JobEvent]) -> list[tuple[str, str]]:
    """What happened, in sentences, oldest first; the day stands where it is not the first one's."""
    story = []
    for event in events:
        if event.to_status == JobStatus.PENDING:
            sentence = "Asked for." if event.from_status is None else "Waits to be sent."
        elif event.to_status == JobStatus.FAILED:
            sentence = row.error_message or "It failed."
        else:
            sentence = _STORY[event.to_status]
        story.append((event.happened_at, sentence))
    if row.cancel_requested_at:
        story.append((row.cancel_requested_at, "The provider is asked to stop."))
    story.sort(key=lambda item: item[0])
    first = local(story[0][0]).date() if story else None
    return [
        (clock(when) if local(when).date() == first else f"{day(when)}", sentence)
        for when, sentence in story
    ]


def _costs(ledger: Sequence[Submission]) -> list[tuple[str, str]]:
    return [
        (
            f"Sent {day(each.sent_at)}",
            f"{money(each.cost if each.cost is not None else each.estimate)}, {_charged(each)}",
        )
        for each in ledger
        if each.sent_at
    ]


def _charged(submission: Submission) -> str:
    if submission.state in {"rejected", "abandoned"}:
        return "not charged"
    words = {"yes": "charged", "no": "not charged"}
    return words.get(submission.charged or "", "perhaps charged")


def _request(ledger: Sequence[Submission]) -> str | None:
    """The exact request of the newest submission that had one."""
    arguments = [each.arguments for each in ledger if each.arguments is not None]
    return json.dumps(arguments[-1], indent=2, ensure_ascii=False) if arguments else None


def _more(row: JobCard) -> list[tuple[str, cards.Action]]:
    """Rarer actions: stopping what runs already, or no longer waiting for a lost answer."""
    if row.status == JobStatus.UNKNOWN:
        url = url_for("jobs.recover", id=row.id)
        return [("text", ("Give up", "post", url, {"action": "give_up"}))]
    running = row.status in {JobStatus.SUBMITTING, JobStatus.PROCESSING}
    if not running or row.cancel_requested_at:
        return []
    label = "Stop (may still finish and be charged)"
    return [("text", (label, "post", url_for("jobs.cancel", id=row.id), {}))]


@bp.post("/jobs/<uuid:id>/cancel")
def cancel(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Cancel what waits (free); ask the provider to stop what runs."""
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    service.cancel(connection(), job_id=row.id, user_id=current_user().id)
    return _back(row)


@bp.post("/jobs/<uuid:id>/retry")
def retry(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Run a failed or cancelled picture again; asks first where it may have been charged."""
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    over = row.status in {JobStatus.FAILED, JobStatus.CANCELLED}
    if over and row.charged == "unknown" and "confirm" not in request.form:
        return _ask(row, action=url_for("jobs.retry", id=id), fields={})
    service.retry(connection(), settings(), job_id=row.id, user_id=current_user().id)
    return _back(row)


@bp.post("/jobs/<uuid:id>/recover")
def recover(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """A lost answer: look again, send again (asks first), or give up."""
    conn, user = connection(), current_user()
    row = service.get_card(conn, job_id=id, user_id=user.id)
    match request.form.get("action"):
        case "look":
            service.look_again(conn, job_id=id, user_id=user.id)
        case "send" if "confirm" in request.form:
            service.send_again(conn, settings(), job_id=id, user_id=user.id)
        case "send" if row.status == JobStatus.UNKNOWN:
            return _ask(row, action=url_for("jobs.recover", id=id), fields={"action": "send"})
        case "give_up":
            service.give_up(conn, job_id=id, user_id=user.id)
        case "send":
            raise Refused("The answer of this picture has come meanwhile. Nothing was sent again.")
        case _:
            raise NotFound("There is no such action.")
    return _back(row)


@bp.post("/jobs/<uuid:id>/verdict")
def judge(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Approve, reject with a reason and a note, or take the verdict back."""
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    try:
        service.judge(
            connection(),
            job_id=row.id,
            user_id=current_user().id,
            verdict=request.form.get("verdict", ""),
            reason=request.form.get("reason", ""),
            note=request.form.get("note", ""),
        )
    except InvalidFields as error:
        if wants_json():
            return jsonify(error="Nothing was changed.", fields=error.fields), 422
        raise
    return redirect(url_for("jobs.show", id=id), code=303) if not wants_json() else _back(row)


def _ask(row: JobCard, *, action: str, fields: dict[str, str]) -> ResponseReturnValue:
    """The question before something that may be paid twice; for scripts 409 and what to add."""
    about = f" of about {money(row.estimate)}" if row.estimate is not None else ""
    when = f"It was sent {day(row.sent_at)}, and " if row.sent_at else ""
    sentence = (
        f"{when}nobody knows yet whether it was charged. If it was, sending again makes a second "
        f"picture and a second charge{about}."
    )
    if wants_json():
        return jsonify(error=f"{sentence} Add confirm=1 to do it."), 409
    return render_template(
        "jobs/confirm.html",
        title=f"Send {row.original_filename} again?",
        sentences=[sentence],
        keep=("Keep looking", url_for("jobs.show", id=row.id))
        if row.status == JobStatus.UNKNOWN
        else ("Leave it", url_for("jobs.show", id=row.id)),
        action=("Send again, may be charged twice", "post", action, {**fields, "confirm": "1"}),
    )


def _back(row: JobCard) -> ResponseReturnValue:
    if wants_json():
        conn, user_id = connection(), current_user().id
        row = service.get_card(conn, job_id=row.id, user_id=user_id)
        outlook = cards.outlook(conn, settings(), user_id=user_id)
        return jsonify(job_as_json(row, outlook=outlook))
    return redirect(url_for("batches.show", id=row.batch_id), code=303)
