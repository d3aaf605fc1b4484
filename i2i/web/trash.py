"""The trash: throwing pictures away, getting them back, and removing them for good."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i.errors import InTrash
from i2i.models import Trashed
from i2i.queries import jobs as job_queries
from i2i.queries import trash as queries
from i2i.services import jobs as job_service
from i2i.services import trash as service
from i2i.web import batches, history, jobs
from i2i.web.database import connection, lend, release
from i2i.web.errors import Action, answer, wants_json
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.sessions import current_user
from i2i.web.state import settings, state
from i2i.web.words import gigabytes, local, plural

bp = Blueprint("trash", __name__)

PAGE_SIZE = 24


@jobs.bp.post("/jobs/<uuid:id>/delete", endpoint="delete")
def delete(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """One picture goes to the trash; on a page the question comes first."""
    conn, user = connection(), current_user()
    row = job_service.get_card(conn, job_id=id, user_id=user.id)
    if not wants_json() and "confirm" not in request.form:
        return history.question(
            {row.status: 1},
            fields={},
            url=url_for("jobs.delete", id=id),
            keep=url_for("jobs.show", id=id),
            name=row.original_filename,
        )
    service.throw_away(conn, job_ids=[id], user_id=user.id)
    if wants_json():
        return jsonify(deleted=1)
    left = job_queries.list_cards(conn, batch_id=row.batch_id, user_id=user.id)
    back = url_for("batches.show", id=row.batch_id) if left else url_for("jobs.history")
    return redirect(back, code=303)


@jobs.bp.post("/jobs/<uuid:id>/restore", endpoint="restore")
def restore(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Back from the trash."""
    service.restore(connection(), job_id=id, user_id=current_user().id)
    if wants_json():
        return jsonify(url=url_for("jobs.show", id=id))
    return redirect(url_for("trash.show"), code=303)


@batches.bp.post("/batches/<uuid:id>/restore", endpoint="restore")
def restore_batch(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """All its pictures back from the trash."""
    service.restore_batch(connection(), batch_id=id, user_id=current_user().id)
    url = url_for("batches.show", id=id)
    return jsonify(url=url) if wants_json() else redirect(url, code=303)


@bp.app_errorhandler(InTrash)
def in_trash(error: InTrash) -> ResponseReturnValue:
    """404 that says how it comes back."""
    gone = local(error.deleted_at + timedelta(days=settings().trash_days))
    if error.job_id:
        which, url = "This picture was", url_for("jobs.restore", id=error.job_id)
    else:
        several = error.pictures > 1
        which = f"All {error.pictures} pictures were" if several else "Its only picture was"
        url = url_for("batches.restore", id=error.batch_id)
    sentence = f"{which} deleted and can come back until {gone.day} {gone:%b}."
    actions: list[Action] = [
        (f"Restore {plural(error.pictures, 'picture')}", "post", url, {}),
        ("Look into the trash", "get", url_for("trash.show"), {}),
    ]
    return answer(404, title="In the trash", sentence=sentence, actions=actions)


@bp.get("/trash")
def show() -> ResponseReturnValue:
    """What was thrown away, the last first, and when it goes for good."""
    conn, user = connection(), current_user()
    after = read_cursor(request.args.get("after"))
    rows = queries.page_newest(
        conn,
        user_id=user.id,
        page_size=PAGE_SIZE + 1,
        before=after and after[0],
        before_id=after and after[1],
    )
    shown = rows[:PAGE_SIZE]
    cursor = write_cursor(shown[-1].deleted_at, shown[-1].id) if len(rows) > PAGE_SIZE else None
    older = cursor and url_for("trash.show", after=cursor)
    if wants_json():
        return jsonify(trash=[_as_json(row) for row in shown], next=older)
    totals = queries.totals(conn, user_id=user.id)
    number = totals.pictures + totals.photos
    return render_template(
        "trash/show.html",
        items=[_item(row) for row in shown],
        summary=f"{_contents(totals.pictures, totals.photos)} · "
        f"{gigabytes(totals.stored_bytes)} that count as used",
        days=plural(settings().trash_days, "day"),
        page_words=f"Last deleted first · {len(shown)} of {number:,}",
        newer_url=url_for("trash.show") if after else None,
        older_url=older,
    )


def _contents(pictures: int, photos: int) -> str:
    parts = [plural(pictures, "picture")] * bool(pictures) + [plural(photos, "photo")] * bool(
        photos
    )
    return " and ".join(parts)


def _item(row: Trashed) -> dict[str, Any]:
    gone = local(row.deleted_at + timedelta(days=settings().trash_days))
    route = "jobs.restore" if row.is_job else "images.restore"
    return {
        "name": row.original_filename,
        "thumb_url": url_for("images.show", id=row.image_id, size="thumb"),
        "word": "Deleted" if row.is_job else "Photo",
        "fact": "kept for its pictures" if row.is_needed else f"gone on {gone.day} {gone:%b}",
        "restore": ("Restore", "post", url_for(route, id=row.id), {}),
    }


def _as_json(row: Trashed) -> dict[str, Any]:
    gone = row.deleted_at + timedelta(days=settings().trash_days)
    return {
        "kind": "picture" if row.is_job else "photo",
        "id": row.id,
        "original_filename": row.original_filename,
        "deleted_at": row.deleted_at.isoformat(),
        "gone_at": None if row.is_needed else gone.isoformat(),
    }


@bp.post("/trash/restore")
def restore_all() -> ResponseReturnValue:
    """Everything comes back."""
    service.restore_all(connection(), user_id=current_user().id)
    return _back()


@bp.post("/trash/empty")
def empty() -> ResponseReturnValue:
    """Everything goes for good, now; on a page the question comes first."""
    user = current_user()
    if not wants_json() and "confirm" not in request.form:
        totals = queries.totals(connection(), user_id=user.id)
        contents = _contents(totals.pictures, totals.photos) or "Nothing"
        return render_template(
            "jobs/confirm.html",
            title="Empty the trash?",
            sentences=[
                f"{contents}, {gigabytes(totals.stored_bytes)}: the files cannot come back.",
                "A photo stays as long as pictures made from it are there.",
                "What was charged stays in the books.",
            ],
            keep=("Keep", url_for("trash.show")),
            action=("Remove for good", "post", url_for("trash.empty"), {"confirm": "1"}),
        )
    release()
    service.purge(lend, state().storage, days=0, user_id=user.id)
    return _back()


def _back() -> ResponseReturnValue:
    if wants_json():
        totals = queries.totals(connection(), user_id=current_user().id)
        return jsonify(pictures=totals.pictures, photos=totals.photos)
    return redirect(url_for("trash.show"), code=303)
