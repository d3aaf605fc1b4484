"""The page of one picture, and the review of a batch: before and after, versions, verdict, story.

One page serves both. In a review (`?review`) its neighbours are the finished pictures of the batch,
and a verdict leads to the next of them.
"""

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from psycopg import Connection

from i2i.models import (
    Batch,
    FilmFrame,
    Image,
    JobCard,
    JobEvent,
    JobStatus,
    JobVersion,
    Submission,
    Verdict,
)
from i2i.queries import images, jobs, submissions
from i2i.services import batches as batch_service
from i2i.services.images import CODES
from i2i.services.jobs import LONGEST_NOTE
from i2i.web import cards, lineage
from i2i.web.addresses import with_query
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.sessions import current_user
from i2i.web.state import settings
from i2i.web.words import clock, day, local, megabytes, money, ordinal, seconds

MOST_VERSIONS = 24
"""Versions of one photo on its page, the newest."""

FILM = 24
"""Pictures of the film strip: so many of a large batch, around the one that is shown."""

AHEAD = 3
"""Pictures whose files the browser fetches before they are asked for."""


def render(row: JobCard, *, errors: Mapping[str, str] | None = None) -> str:
    """The page; with `errors` of a verdict that did not hold, what was typed stays."""
    conn, user = connection(), current_user()
    film = neighbours(conn, row)
    ledger = submissions.list_of_job(conn, job_id=row.id)
    outlook = cards.outlook(conn, settings(), [row], user_id=user.id)
    card = cards.build([row], outlook=outlook)[0]
    versions = _versions(conn, row)
    own = next(each for each in versions if each.id == row.id)
    parent = next((each for each in versions if each.id == row.parent_id), None)
    files = _files(conn, row)
    return render_template(
        "jobs/show.html",
        card=card,
        batch_url=url_for("batches.show", id=row.batch_id),
        **_film(film, row=row),
        facts=_facts(row, number=own.number, versions=len(versions)),
        original=files["original"],
        before=_before(row, parent=parent, original=files["original"]),
        sides=_sides(row, parent=parent),
        **_zooms(row),
        results=files["results"],
        verdict=_verdict(row, errors=errors or {}),
        versions=_version_cards(versions, shown=row),
        settings=_settings(own, parent=parent),
        change_url=change_url(row),
        once_more=_once_more(row, own),
        story=_story(row, jobs.list_events(conn, job_id=row.id)),
        costs=_costs(ledger),
        request=_request(ledger),
        actions_more=_more(row),
        delete=_delete(row),
        review_keys=user.review_keys,
    )


def url(job_id: UUID, **changes: str | None) -> str:
    """The page of a picture as it is looked at now: reviewing, and against the same side."""
    return url_for("jobs.show", id=job_id, **(_kept() | changes))


def _kept() -> dict[str, Any]:
    kept = ("review", "against", "zoom")
    return {name: request.args[name] for name in kept if name in request.args}


# --- neighbours


def neighbours(conn: Connection[Any], row: JobCard) -> list[FilmFrame]:
    """The pictures to walk through, in order: of the batch, in a review only what can be judged."""
    film = jobs.list_film(conn, batch_id=row.batch_id, user_id=current_user().id)
    if "review" not in request.args:
        return film
    return [each for each in film if each.status == JobStatus.COMPLETED or each.id == row.id]


def after_verdict(row: JobCard) -> str:
    """Where a verdict leads: to what was asked for with it, in a review on, else back."""
    if request.form.get("then") == "again":
        return change_url(row)
    if "review" not in request.args or request.form.get("verdict") == "none":
        return url(row.id)
    film = neighbours(connection(), row)
    place = [each.id for each in film].index(row.id)
    if place + 1 < len(film):
        return url(film[place + 1].id)
    return url_for("jobs.verdicts", id=row.batch_id)


def _film(film: Sequence[FilmFrame], *, row: JobCard) -> dict[str, Any]:
    """The strip around the picture shown, the ways to the next ones, and their files."""
    place = [each.id for each in film].index(row.id)
    first = max(0, min(place - FILM // 2, len(film) - FILM))
    after = film[place + 1 : place + 1 + AHEAD]
    left = _left_sides(row)
    return {
        "batch_words": f"{place + 1} of {len(film)}" if len(film) > 1 else "",
        "before_url": url(film[place - 1].id) if place else None,
        "after_url": url(after[0].id) if after else None,
        "sum_url": url_for("jobs.verdicts", id=row.batch_id) if "review" in request.args else None,
        "film": [_frame(each, current=each.id == row.id) for each in film[first : first + FILM]]
        if len(film) > 1
        else [],
        "ahead": [
            url_for("images.show", id=image_id, size="preview")
            for each in after
            for image_id in (
                left.get(each.id, each.original_image_id),
                each.has_preview and each.result_image_id,
            )
            if image_id
        ],
    }


def _left_sides(row: JobCard) -> dict[UUID, UUID]:
    """What the pictures of this batch are held against, where that is not their original."""
    if row.parent_id is None or request.args.get("against") == "original":
        return {}
    made = jobs.list_parent_results(connection(), batch_id=row.batch_id, user_id=current_user().id)
    return {each.id: each.result_image_id for each in made}


def _frame(frame: FilmFrame, *, current: bool) -> dict[str, Any]:
    words = {Verdict.APPROVED: ", approved", Verdict.REJECTED: ", rejected"}
    made = frame.status == JobStatus.COMPLETED
    return {
        "url": url(frame.id),
        "thumb_url": url_for(
            "images.show",
            id=(frame.has_preview and frame.result_image_id) or frame.original_image_id,
            size="thumb",
        ),
        "words": frame.original_filename
        + (words[Verdict(frame.verdict)] if frame.verdict else "" if made else ", not made"),
        "verdict": frame.verdict,
        "made": made,
        "current": current,
    }


# --- what is compared


def _files(conn: Connection[Any], row: JobCard) -> dict[str, Any]:
    user_id = current_user().id
    original = images.find(conn, image_id=row.original_image_id, user_id=user_id)
    result = row.result_image_id and images.find(
        conn, image_id=row.result_image_id, user_id=user_id
    )
    further = images.list_further_outputs(conn, job_id=row.id, user_id=user_id)
    return {
        "original": _file(original) if original else None,
        "results": [_file(each) for each in ([result] if result else []) + further],
    }


def _file(image: Image) -> dict[str, Any]:
    """An image with its size in words and the name under which it is saved."""
    kind = CODES.get(image.mime_type, "File")
    pixels = f", {image.width:,} × {image.height:,}" if image.width and image.height else ""
    return {
        "url": url_for("images.show", id=image.id),
        "thumb_url": url_for("images.show", id=image.id, size="thumb"),
        "preview_url": url_for("images.show", id=image.id, size="preview")
        if image.has_preview or not image.is_processed
        else None,
        "width": image.width,
        "height": image.height,
        "words": f"{kind}{pixels}, {megabytes(image.file_size)}"
        if image.rejection is None
        else "the file is lost",
        "download_url": url_for("images.show", id=image.id, download=1),
        "download_name": image.original_filename,
    }


def _has_result(version: JobVersion | None) -> bool:
    return version is not None and version.result_image_id is not None and version.has_preview


def _sides(row: JobCard, *, parent: JobVersion | None) -> list[tuple[str, str, bool]]:
    """What a picture that makes another one again can be held against; nothing to choose else."""
    if not _has_result(parent):
        return []
    original = request.args.get("against") == "original"
    return [
        ("Before", url(row.id, against=None), not original),
        ("Original", url(row.id, against="original"), original),
    ]


def _zooms(row: JobCard) -> dict[str, Any]:
    """Without script the two at real pixels are a page of their own, moved by its scroll bars."""
    whole = request.args.get("zoom") == "real"
    return {
        "whole": whole,
        "zooms": [
            ("Fit", url(row.id, zoom=None), not whole),
            ("1:1", url(row.id, zoom="real"), whole),
        ],
    }


def _before(
    row: JobCard, *, parent: JobVersion | None, original: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The left side of the comparison: the picture that was made before, or the original."""
    name = row.original_filename
    if parent is None or not _has_result(parent) or request.args.get("against") == "original":
        return original and original | {
            "alt": f"Original {name}",
            "names": ("Original", "Result"),
        }
    return {
        "url": url_for("images.show", id=parent.result_image_id),
        "preview_url": url_for("images.show", id=parent.result_image_id, size="preview"),
        "width": parent.result_width,
        "height": parent.result_height,
        "alt": f"Earlier result of {name}",
        "names": ("Before", "Now"),
    }


# --- versions and settings


def _versions(conn: Connection[Any], row: JobCard) -> list[JobVersion]:
    found = jobs.list_versions(
        conn,
        image_id=row.original_image_id,
        user_id=current_user().id,
        job_id=row.id,
        parent_id=row.parent_id,
        page_size=MOST_VERSIONS,
    )
    return sorted(found, key=lambda each: each.number)


def _version_cards(versions: Sequence[JobVersion], *, shown: JobCard) -> list[dict[str, Any]]:
    """Each with its verdict, and with what is not as in the version before it."""
    found, was = [], None
    for each in versions:
        now = lineage.in_words(each.definition, each.parameters)
        image_id = each.result_image_id if _has_result(each) else None
        found.append(
            {
                "number": each.number,
                "url": url_for("jobs.show", id=each.id),
                "thumb_url": image_id and url_for("images.show", id=image_id, size="thumb"),
                "verdict": each.verdict,
                "current": each.id == shown.id,
                "words": _standing(each),
                "changes": lineage.changes(now, was) if was is not None else [],
            }
        )
        was = now
    return found


def _standing(version: JobVersion) -> str:
    """As in "Rejected, colour", "Approved", "Not made"."""
    if version.verdict == Verdict.REJECTED and version.verdict_reason:
        return f"Rejected, {cards.reason(version.verdict_reason)}"
    if version.verdict:
        return version.verdict.capitalize()
    if version.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
        return "Not made"
    if version.status != JobStatus.COMPLETED:
        return "Not made yet"
    return "" if _has_result(version) else "No preview"


def _settings(own: JobVersion, *, parent: JobVersion | None) -> list[tuple[str, str, str]]:
    """Label, words and, where it is another one, what it was in the picture made again."""
    now = lineage.in_words(own.definition, own.parameters)
    was = lineage.in_words(parent.definition, parent.parameters) if parent else now
    changed = {label: before for label, _, before in lineage.changes(now, was)}
    labels = [*now, *(label for label in changed if label not in now)]
    return [(label, now.get(label, lineage.OPEN), changed.get(label, "")) for label in labels]


def _facts(row: JobCard, *, number: int, versions: int) -> str:
    which = f"{ordinal(number)} version · " if versions > 1 else ""
    if row.status != JobStatus.COMPLETED or row.completed_at is None:
        facts = f"asked for {day(row.created_at)}"
    else:
        took = seconds((row.processing_time_ms or 0) / 1000)
        money_words = cards.charge(row).rstrip(".").lower()
        facts = f"made {day(row.completed_at)} in {took} · {money_words}"
    return which + facts if which else facts[0].upper() + facts[1:]


def _once_more(row: JobCard, own: JobVersion) -> tuple[cards.Action, str] | None:
    """The same settings with another seed, and what that costs; None where there is no seed."""
    takes_seed = "seed" in own.definition["parameter_schema"]["properties"]
    if row.status != JobStatus.COMPLETED or not takes_seed:
        return None
    fields = {"client_key": secrets.token_urlsafe(16)}
    cost = "price unknown" if row.estimate is None else f"about {money(row.estimate)}"
    return ("Run again, new seed", "post", url_for("jobs.retry", id=row.id), fields), cost


def change_url(row: JobCard) -> str:
    """The form of a new batch for this photo, filled in as this picture was made."""
    return url_for("batches.new", parent=row.batch_id, image=row.original_image_id)


# --- verdict


def _verdict(row: JobCard, *, errors: Mapping[str, str]) -> dict[str, Any] | None:
    """What was said of the picture and the form to say it; None while there is none."""
    if row.status != JobStatus.COMPLETED:
        return None
    typed = request.form if errors else None
    chosen = typed.get("reason", "") if typed is not None else row.verdict_reason or ""
    return {
        "value": row.verdict,
        "said": _said(row),
        "note": typed.get("note", "") if typed is not None else row.verdict_note,
        "reasons": [(code.value, label, code == chosen) for code, label in cards.REASONS.items()],
        "url": url_for("jobs.judge", id=row.id, **_kept()),
        "errors": list(errors.items()),
        "longest": LONGEST_NOTE,
    }


def _said(row: JobCard) -> str:
    if row.verdict is None or row.verdict_at is None:
        return ""
    if row.verdict == Verdict.APPROVED:
        return f"Approved {day(row.verdict_at)}"
    why = cards.reason(row.verdict_reason)
    return f"Rejected {day(row.verdict_at)}{f' · {why}' if why else ''}"


# --- what happened


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
        elif (event.from_status, event.to_status) == (JobStatus.PENDING, JobStatus.HELD):
            sentence = "Held, because everything came back from a backup."
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
    sent = [each.arguments for each in ledger if each.arguments is not None]
    return json.dumps(_without_tokens(sent[-1]), indent=2, ensure_ascii=False) if sent else None


def _without_tokens(value: Any) -> Any:
    """The same, with the addresses of uploads cut down to where they are and what kind they are."""
    match value:
        case dict():
            return {name: _without_tokens(each) for name, each in value.items()}
        case list():
            return [_without_tokens(each) for each in value]
        case str() if value.startswith(("https://", "http://")):
            where = urlsplit(value)
            return f"{where.scheme}://{where.netloc}/…{PurePosixPath(where.path).suffix}"
        case _:
            return value


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


def _delete(row: JobCard) -> cards.Action | None:
    """To the trash; not what is just being made or looked for. A page asks first."""
    if row.status in cards.BUSY - {JobStatus.PENDING}:
        return None
    return ("Delete…", "post", url_for("jobs.delete", id=row.id), {})


# --- the sum of a review


def review_url(batch_id: UUID) -> str:
    """The first picture of a batch that nobody has judged yet; the sum when there is none."""
    batch = batch_service.get(connection(), batch_id=batch_id, user_id=current_user().id)
    film = jobs.list_film(connection(), batch_id=batch.id, user_id=batch.user_id)
    for each in film:
        if each.status == JobStatus.COMPLETED and each.verdict is None:
            return url_for("jobs.show", id=each.id, review=1)
    return url_for("jobs.verdicts", id=batch.id)


def render_verdicts(batch_id: UUID) -> ResponseReturnValue:
    """How a review stands and what comes next; for scripts the numbers."""
    conn, user = connection(), current_user()
    batch = batch_service.get(conn, batch_id=batch_id, user_id=user.id)
    rows = batch_service.pictures(conn, batch=batch)
    made = [row for row in rows if row.status == JobStatus.COMPLETED]
    count = Counter(row.verdict or "open" for row in made)
    if wants_json():
        return jsonify({name: count[name] for name in (*Verdict, "open")})
    shown = cards.build(made, outlook=cards.NOTHING_KNOWN)
    return render_template(
        "jobs/verdicts.html",
        batch_url=url_for("batches.show", id=batch.id),
        sentence=_sum(count),
        cards=[each._replace(url=with_query(each.url, {"review": 1})) for each in shown],
        **_next_steps(batch, made=made, count=count),
    )


def _sum(count: Mapping[str, int]) -> str:
    """As in "8 approved, 3 rejected, 1 not looked at"."""
    words = {Verdict.APPROVED: "approved", Verdict.REJECTED: "rejected", "open": "not looked at"}
    parts = [f"{count[name]:,} {word}" for name, word in words.items() if count.get(name)]
    return ", ".join(parts) or "No picture to look at yet"


def _next_steps(
    batch: Batch, *, made: Sequence[JobCard], count: Mapping[str, int]
) -> dict[str, Any]:
    """What a review leads to: each an action, or None where it has nothing to do."""
    rejected = [row for row in made if row.verdict == Verdict.REJECTED]
    prices = [row.estimate for row in rejected if row.estimate is not None]
    approved, left = count.get(Verdict.APPROVED, 0), count.get("open", 0)
    download = url_for("batches.download", id=batch.id, verdict=Verdict.APPROVED)
    again = url_for("batches.retry", id=batch.id)
    fields = {"scope": "rejected", "client_key": secrets.token_urlsafe(16)}
    changed = url_for("batches.new", parent=batch.id, scope="rejected")
    return {
        "look": (f"Look at {left:,} more", "get", review_url(batch.id), {}) if left else None,
        "again": (f"Run {len(rejected):,} rejected again", "post", again, fields)
        if rejected
        else None,
        "again_cost": f"about {money(sum(prices, Decimal(0)))}"
        if prices and len(prices) == len(rejected)
        else "price unknown",
        "download": (f"Download {approved:,} approved (ZIP)", "get", download, {})
        if approved
        else None,
        "change": ("Run again with changes", "get", changed, {}) if rejected else None,
    }
