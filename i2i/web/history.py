"""The history of all pictures, by picture and by batch, and what is done with several at once."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flask import jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from i2i.errors import NotFound, Refused
from i2i.models import HistoryBatch, JobStatus, Verdict
from i2i.queries import history as queries
from i2i.services import history as service
from i2i.services import trash
from i2i.services.history import MOST_COUNTED, Filter
from i2i.web import cards, sizes
from i2i.web.addresses import with_query
from i2i.web.batches import jobs_as_json
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.jobs import bp
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import day, gigabytes, plural, zone

PAGE_SIZE = 24

MOST_PHOTOS = 180
"""Photos of one new batch from here: their ids stand in an address, which has an end."""

WORKING = (
    *(JobStatus.HELD, JobStatus.PENDING, JobStatus.SUBMITTING, JobStatus.PROCESSING),
    JobStatus.STORING,
)
STATUSES: dict[str, tuple[JobStatus, ...]] = {
    "": (),
    **{status: (status,) for status in JobStatus},
    "working": WORKING,
    "failed": (JobStatus.FAILED, JobStatus.CANCELLED),
}

TABS: list[tuple[str, dict[str, str]]] = [
    ("All", {}),
    ("To review", {"verdict": "none"}),
    ("Approved", {"verdict": "approved"}),
    ("Rejected", {"verdict": "rejected"}),
    ("Failed", {"status": "failed"}),
    ("Needs you", {"status": "unknown"}),
]

FIELDS = ("status", "workflow", "verdict", "q", "from", "to")


@dataclass(frozen=True, slots=True)
class View:
    """What the address asks for: the filter, and the words of it as they were typed.

    `here` is the address without them.
    """

    chosen: Filter
    typed: dict[str, str]
    by_batch: bool
    here: str

    def url(self, **more: Any) -> str:
        """This page with other words; None takes one away."""
        view = {"view": "batches"} if self.by_batch else {}
        return with_query(self.here, view | self.typed | more)


def read() -> View:
    """The view that this request names; NotFound for a filter that does not exist."""
    values = request.values
    typed = {name: text for name in FIELDS if (text := _text(name, values.get(name, "")))}
    status, verdict = typed.get("status", ""), typed.get("verdict")
    if status not in STATUSES or verdict not in {None, "none", *Verdict}:
        raise NotFound("There is no such filter.")
    view = values.get("view", "pictures")
    if view not in {"pictures", "batches"}:
        raise NotFound("There is no such view.")
    chosen = Filter(
        user_id=current_user().id,
        statuses=STATUSES[status],
        workflow=typed.get("workflow"),
        verdict=verdict,
        q=typed.get("q"),
        created_from=_date(typed.get("from")),
        created_to=_date(typed.get("to"), days=1),
    )
    return View(chosen, typed, by_batch=view == "batches", here=url_for("jobs.history"))


def _text(name: str, given: str) -> str:
    """A word of the filter; a file name holds no NUL, so nothing is looked for by one."""
    text = given.strip()
    return text.replace("\0", "")[:200] if name == "q" else text


def _date(text: str | None, *, days: int = 0) -> datetime | None:
    """Midnight of a day on the reader's clock."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(f"{text}T00:00:00").replace(tzinfo=zone()) + timedelta(
            days=days
        )
    except (ValueError, OverflowError):
        raise NotFound("This is no date.") from None


@bp.get("/jobs", endpoint="history")
def show() -> ResponseReturnValue:
    """All pictures of the user, or their batches, newest first, as far as the filter finds them."""
    view, after = read(), read_cursor(request.args.get("after"))
    head = queries.head(connection(), user_id=current_user().id)
    page = _batches(view, after) if view.by_batch else _pictures(view, after, total=head.pictures)
    if wants_json():
        return jsonify(page["json"])
    size = sizes.chosen(default="m")
    return render_template(
        "jobs/history.html",
        tabs=[(label, _tab(view, words), _is_tab(view, words)) for label, words in TABS],
        views=[
            ("Pictures", view.url(view=None), not view.by_batch),
            ("Batches", view.url(view="batches"), view.by_batch),
        ],
        typed=view.typed,
        by_batch=view.by_batch,
        workflows=list(zip(head.workflow_ids, head.workflow_names, strict=True)),
        total=head.pictures,
        used_words=f"{gigabytes(head.stored_bytes)} of "
        f"{gigabytes(settings().storage_quota_bytes)} used",
        newer_url=view.url() if after else None,
        sizes=sizes.switch("jobs.history", size, **view.typed),
        size=size,
        all_url=url_for("jobs.history"),
        **page,
    )


def _tab(view: View, words: dict[str, str]) -> str:
    return view.url(**({"status": None, "verdict": None} | words))


def _is_tab(view: View, words: dict[str, str]) -> bool:
    return words == {name: view.typed[name] for name in ("status", "verdict") if name in view.typed}


def _pictures(view: View, after: service.Cursor | None, *, total: int) -> dict[str, Any]:
    conn = connection()
    rows = service.page(conn, view.chosen, page_size=PAGE_SIZE + 1, after=after)
    shown = rows[:PAGE_SIZE]
    older = _older(view, shown[-1].created_at, shown[-1].id) if len(rows) > PAGE_SIZE else None
    outlook = cards.outlook(conn, settings(), shown, user_id=view.chosen.user_id)
    if wants_json():
        return {"json": {"jobs": jobs_as_json(shown, outlook=outlook), "next": older}}
    found_in_all = _counted(service.count(conn, view.chosen)) if view.typed else f"{total:,}"
    return {
        "cards": cards.build(shown, outlook=outlook),
        "batches": [],
        "all_words": found_in_all,
        "page_words": f"Newest first · {len(shown)} of {found_in_all}",
        "older_url": older,
    }


def _counted(number: int) -> str:
    return f"more than {MOST_COUNTED:,}" if number > MOST_COUNTED else f"{number:,}"


def _older(view: View, created_at: datetime, row_id: UUID) -> str:
    return view.url(after=write_cursor(created_at, row_id))


def _batches(view: View, after: service.Cursor | None) -> dict[str, Any]:
    rows = service.page_batches(connection(), view.chosen, page_size=PAGE_SIZE + 1, after=after)
    shown = rows[:PAGE_SIZE]
    older = _older(view, shown[-1].created_at, shown[-1].id) if len(rows) > PAGE_SIZE else None
    if wants_json():
        return {"json": {"batches": [_as_json(row) for row in shown], "next": older}}
    return {
        "cards": [],
        "batches": [_batch(row) for row in shown],
        "all_words": "",
        "page_words": "Newest first",
        "older_url": older,
    }


def _as_json(row: HistoryBatch) -> dict[str, Any]:
    return {
        "id": row.id,
        "url": url_for("batches.show", id=row.id),
        "created_at": row.created_at.isoformat(),
        "workflow": row.workflow_title,
        "photos": row.photos,
        "pictures": row.pictures,
        "completed": row.completed,
        "failed": row.failed,
        "approved": row.approved,
        "rejected": row.rejected,
    }


def _batch(row: HistoryBatch) -> dict[str, Any]:
    """A batch as a frame: up to four of its pictures, and how it stands in one line."""
    glyph, tone, word = _state(row)
    return {
        "url": url_for("batches.show", id=row.id),
        "title": f"{plural(row.photos, 'photo')}, {row.workflow_title}",
        "glyph": glyph,
        "tone": tone,
        "word": word,
        "fact": day(row.created_at),
        "thumbs": [url_for("images.show", id=each, size="thumb") for each in row.image_ids],
    }


def _state(row: HistoryBatch) -> tuple[str, str, str]:
    """Glyph, tone and words; what a person has to do comes first."""
    done = f"{row.completed} of {row.pictures} done"
    if row.unknown:
        return "unknown", "amber", f"{row.unknown} need{'s' if row.unknown == 1 else ''} you"
    if row.moving:
        return "making", "accent", done
    if row.held:
        return "held", "quiet", f"{row.held} held"
    if row.failed:
        return "failed", "red", f"{row.failed} not made" if row.completed else "Not made"
    if row.approved == row.pictures:
        return "approved", "ink", "All approved"
    return "done", "ink", f"All {row.pictures} done" if row.pictures > 1 else "Done"


# --- several at once


def chosen_jobs() -> list[UUID]:
    """The pictures that this request is about: those named by `job`, or all that the filter finds.

    `job` is repeated, or has several ids with spaces between. With `until` "all" ends at that
    moment, so that a confirmed question never reaches what came after it was asked.
    """
    if "everything" not in request.values:
        try:
            return [UUID(text) for text in " ".join(request.values.getlist("job")).split()]
        except ValueError:
            raise NotFound("There is no such picture.") from None
    chosen, until = read().chosen, request.values.get("until", "")
    if until:
        try:
            moment = datetime.fromisoformat(until).astimezone()
        except (ValueError, OverflowError):
            raise NotFound("There is no such moment.") from None
        chosen = replace(chosen, created_to=min(moment, chosen.created_to or moment))
    return service.pick(connection(), chosen)


@bp.get("/jobs/again")
def again() -> ResponseReturnValue:
    """A new batch with the photos of the pictures chosen."""
    found = queries.list_photos(
        connection(),
        job_ids=chosen_jobs(),
        user_id=current_user().id,
        page_size=MOST_PHOTOS + 1,
    )
    if not found:
        raise Refused("The photos of these pictures are not there any more. Upload them again.")
    if len(found) > MOST_PHOTOS:
        raise Refused(f"That is more than {MOST_PHOTOS} photos. Choose fewer for one batch.")
    return redirect(url_for("batches.new", image=[each.id for each in found]), code=303)


@bp.post("/jobs/delete")
def delete_chosen() -> ResponseReturnValue:
    """The pictures chosen go to the trash; on a page the question comes first."""
    conn, user_id, ids = connection(), current_user().id, chosen_jobs()
    if wants_json():
        return jsonify(deleted=trash.throw_away(conn, job_ids=ids, user_id=user_id))
    counts = {
        each.status: each.count
        for each in queries.count_statuses(conn, job_ids=ids, user_id=user_id)
    }
    view = read()
    if not counts:
        raise Refused("Nothing was chosen. Choose the pictures to delete first.")
    if "confirm" in request.form:
        trash.throw_away(conn, job_ids=ids, user_id=user_id)
        return redirect(view.url(), code=303)
    if "everything" in request.form:
        fields = view.typed | {"everything": "1", "until": datetime.now().astimezone().isoformat()}
    else:
        fields = view.typed | {"job": " ".join(map(str, ids))}
    return question(counts, fields=fields, url=url_for("jobs.delete_chosen"), keep=view.url())


STAYS = (JobStatus.SUBMITTING, JobStatus.PROCESSING, JobStatus.STORING, JobStatus.UNKNOWN)


def question(
    counts: dict[str, int], *, fields: dict[str, str], url: str, keep: str, name: str = ""
) -> str:
    """The page before pictures go to the trash: how many, what is cancelled and what stays."""
    stays = sum(counts.get(status, 0) for status in STAYS)
    waits = sum(counts.get(status, 0) for status in (JobStatus.HELD, JobStatus.PENDING))
    goes = sum(counts.values()) - stays
    if not goes:
        raise Refused(
            "What is just being made, or looked for, cannot be deleted. Stop it or wait until it "
            "is done, then delete it."
        )
    pictures = plural(goes, "picture")
    it, them = ("It", "it") if goes == 1 else ("They", "them")
    verb, file = ("stays", "its file is") if goes == 1 else ("stay", "the files are")
    days = settings().trash_days
    sentences = [
        f"{it} {verb} in the trash for {plural(days, 'day')}, then {file} removed.",
        f"What was charged for {them} stays in the books.",
    ]
    if waits:
        sentences.append(
            f"{plural(waits, 'picture')} of these {'waits' if waits == 1 else 'wait'} to be made: "
            "cancelled, and not charged."
        )
    if stays:
        sentences.append(
            f"{plural(stays, 'picture')} {'is' if stays == 1 else 'are'} just being made, or "
            f"looked for, and {'stays' if stays == 1 else 'stay'}."
        )
    return render_template(
        "jobs/confirm.html",
        title=f"Delete {name or pictures}?",
        sentences=sentences,
        keep=("Keep", keep),
        action=(f"Delete {pictures}", "post", url, fields | {"confirm": "1"}),
    )
