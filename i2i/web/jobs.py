"""One picture with its original: looking, judging, running again."""

from uuid import UUID

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i.errors import InvalidFields, NotFound, Refused
from i2i.models import JobCard, JobStatus
from i2i.services import batches as batch_service
from i2i.services import jobs as service
from i2i.web import batches, cards, job_page
from i2i.web.batches import jobs_as_json
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import day, money

bp = Blueprint("jobs", __name__)


@bp.get("/jobs/<uuid:id>")
def show(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """Before and after, versions, verdict, settings, what happened and what it cost."""
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    if wants_json():
        outlook = cards.outlook(connection(), settings(), [row], user_id=current_user().id)
        return jsonify(jobs_as_json([row], outlook=outlook)[0])
    return job_page.render(row)


@bp.get("/batches/<uuid:id>/review")
def review(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Begin, or go on with, looking at a batch: the first picture without a verdict."""
    return redirect(job_page.review_url(id), code=303)


@bp.get("/batches/<uuid:id>/verdicts")
def verdicts(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """What became of a review: how many were approved and rejected, and what to do with them."""
    return job_page.render_verdicts(id)


@bp.post("/jobs/<uuid:id>/cancel")
def cancel(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Cancel what waits (free); ask the provider to stop what runs."""
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    service.cancel(connection(), job_id=row.id, user_id=current_user().id)
    return _back(row)


@bp.post("/jobs/<uuid:id>/retry")
def retry(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Run a failed or cancelled picture again; asks first where it may have been charged.

    A completed one is made once more, with another seed, for the key of that button only: the
    form of a failed one may come again when its picture has been made and paid for.
    """
    row = service.get_card(connection(), job_id=id, user_id=current_user().id)
    key = request.form.get("client_key")
    if key and row.status == JobStatus.COMPLETED:
        return batches.answer(
            batch_service.once_more(
                connection(), settings(), job=row, user_id=current_user().id, client_key=key
            )
        )
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
        return job_page.render(row, errors=error.fields), 422
    return _back(row) if wants_json() else redirect(job_page.after_verdict(row), code=303)


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
        outlook = cards.outlook(conn, settings(), [row], user_id=user_id)
        return jsonify(jobs_as_json([row], outlook=outlook)[0])
    return redirect(url_for("batches.show", id=row.batch_id), code=303)
