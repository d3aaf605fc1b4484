"""Jobs in the words of the pages: each state is a glyph, a word and, if useful, a fact.

LOOK: the table of states in docs/architecture.md. The money words come from the ledger alone.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from flask import url_for
from psycopg import Connection

from i2i import explanations
from i2i.config import Settings
from i2i.explanations import of_code
from i2i.models import ImageStatus, JobCard, JobStatus, Place, Reason, Verdict
from i2i.queries import jobs
from i2i.web.addresses import Address, by_id
from i2i.web.words import clock, day, money, ordinal, plural, seconds

Action = tuple[str, str, str, dict[str, str]]
"""Label, method, URL and hidden fields."""

HELD_AT = 0.95
"""Where the line of progress stops: nobody knows when the provider is done."""

MOST_CELLS = 120
"""Pictures that have a frame each in the strip; above it is drawn in proportional segments."""

IN_BAR = 12
"""Frames of the strip in the bar; of a larger batch it shows as many, evenly chosen."""

REASONS = {
    Reason.COLOUR: "Colour",
    Reason.LOGO: "Logo or print",
    Reason.FIT: "Fit",
    Reason.ANATOMY: "Hands or face",
    Reason.BACKGROUND: "Background",
    Reason.OTHER: "Other",
}
"""What can be wrong with a picture, in the order of the keys 1 to 6."""

STRIP_ORDER = (
    *("approved", "done", "rejected", "failed", "unknown", "stalled", "saving", "stopping"),
    *("making", "sending", "waiting", "paused", "held", "cancelled"),
)

LONGER = 1.2
"""From how many medians on it takes longer than usual; live.js counts on with the same."""


class State(NamedTuple):
    """How a job stands: the glyph's name, the tone of its colour, a word and a fact.

    `short` is the fact where there is no room for more.
    """

    glyph: str
    tone: str
    word: str
    fact: str = ""
    short: str = ""


class Words(NamedTuple):
    """What stands where a picture could not be made."""

    title: str
    sentence: str
    money: str
    tone: str


class Card(NamedTuple):
    """One job as the templates show it; fields as batches/show.html lists them.

    A tuple, for a page makes hundreds: a frozen dataclass takes three times as long.
    """

    id: str
    position: int
    url: str
    verdict: str | None
    original_filename: str
    original_thumb_url: str
    result_thumb_url: str | None
    inset_thumb_url: str | None
    glyph: str
    tone: str
    word: str
    fact: str
    short: str
    progress: float | None
    elapsed: int | None
    usual: float | None
    late: bool
    words: Words | None
    actions: list[Action]
    busy: bool


BUSY = {
    JobStatus.PENDING,
    JobStatus.SUBMITTING,
    JobStatus.PROCESSING,
    JobStatus.STORING,
    JobStatus.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be said of the time to come.

    `usual`: the median seconds of each workflow that has made pictures; `places`: those of the
    user's waiting pictures; `at_once`: how many are made at a time, for all and for each user.
    """

    usual: Mapping[str, float]
    places: Mapping[UUID, Place]
    at_once: int
    at_once_each: int | None

    def seconds_left(self, row: JobCard) -> float | None:
        """Until the picture is there; None while nobody can know."""
        usual, place = self.usual.get(row.workflow_name), self.places.get(row.id)
        if usual is None or row.cancel_requested_at:
            return None
        if row.status == JobStatus.PENDING and place is not None and not place.paused:
            rounds = math.ceil((place.in_flight + place.place) / self.at_once)
            if self.at_once_each:
                rounds = max(rounds, math.ceil(place.turn / self.at_once_each))
            return rounds * usual
        if row.status in {JobStatus.SUBMITTING, JobStatus.PROCESSING}:
            return max(0.0, usual - (_elapsed(row) or 0))
        return None


NOTHING_KNOWN = Outlook(usual={}, places={}, at_once=1, at_once_each=None)


def outlook(
    conn: Connection[Any], settings: Settings, rows: Sequence[JobCard], *, user_id: UUID
) -> Outlook:
    """How things stand just now, for these pictures of a user; what is at rest needs no look."""
    if not any(row.status in BUSY for row in rows):
        return NOTHING_KNOWN
    return outlook_of(conn, settings, places=jobs.list_places(conn, user_id=user_id))


def outlook_of(conn: Connection[Any], settings: Settings, *, places: Sequence[Place]) -> Outlook:
    """How things stand, where the user's places in line are known already."""
    return Outlook(
        usual=usual_seconds(conn),
        places={place.id: place for place in places},
        at_once=settings.max_in_flight,
        at_once_each=settings.max_in_flight_per_user,
    )


def usual_seconds(conn: Connection[Any]) -> dict[str, float]:
    """The median time of each workflow that has made pictures."""
    return {row.workflow_name: row.seconds for row in jobs.list_usual_seconds(conn)}


def build(
    rows: Sequence[JobCard], *, outlook: Outlook, before: Mapping[UUID, UUID] | None = None
) -> list[Card]:
    """Cards for jobs in their order; `before` has the pictures that some of them make again."""
    page, thumb, before = by_id("jobs.show"), by_id("images.show", size="thumb"), before or {}
    return [
        _card(row, outlook=outlook, before=before.get(row.id), page=page, thumb=thumb)
        for row in rows
    ]


def _card(
    row: JobCard, *, outlook: Outlook, before: UUID | None, page: Address, thumb: Address
) -> Card:
    job_id, original = str(row.id), thumb(row.original_image_id)
    elapsed, usual = _elapsed(row), outlook.usual.get(row.workflow_name)
    state = describe_state(row, outlook=outlook)
    result = row.result_image_id if row.result_has_preview else None
    return Card(
        id=job_id,
        position=row.position,
        url=page(job_id),
        verdict=row.verdict,
        original_filename=row.original_filename,
        original_thumb_url=original,
        result_thumb_url=thumb(result) if result else None,
        inset_thumb_url=thumb(before) if before else original if result else None,
        glyph=state.glyph,
        tone=state.tone,
        word=state.word,
        fact=state.fact,
        short=state.short or state.fact,
        progress=min(HELD_AT, elapsed / usual) if usual and elapsed is not None else None,
        elapsed=elapsed,
        usual=round(usual, 1) if usual else None,
        late=_is_late(elapsed, usual),
        words=explain(row),
        actions=actions(row),
        busy=row.status in BUSY,
    )


def _elapsed(row: JobCard) -> int | None:
    """Whole seconds that the provider has worked on it; None when it does not."""
    if row.status != JobStatus.PROCESSING or row.started_at is None or row.cancel_requested_at:
        return None
    return max(0, round((datetime.now(UTC) - row.started_at).total_seconds()))


def _is_late(elapsed: int | None, usual: float | None) -> bool:
    return elapsed is not None and usual is not None and elapsed > usual * LONGER


def describe_state(row: JobCard, *, outlook: Outlook) -> State:
    """The state's glyph, word and fact."""
    match row.status:
        case JobStatus.COMPLETED:  # the most by far
            return _done(row)
        case JobStatus.HELD if row.attention:
            return State("held", "amber", "Held", "perhaps made before", "perhaps made")
        case JobStatus.HELD:
            return State("held", "quiet", "Held", "waits for you")
        case JobStatus.PENDING:
            return _waiting(row, outlook=outlook)
        case JobStatus.SUBMITTING | JobStatus.PROCESSING if row.cancel_requested_at:
            return State(
                "stopping", "amber", "Stopping", "may still finish and be charged", "may be charged"
            )
        case JobStatus.SUBMITTING:
            return State("sending", "accent", "Sending")
        case JobStatus.PROCESSING if row.started_at is None:
            queued = f"{ordinal(row.queue_position + 1)} at fal" if row.queue_position else ""
            return State("sending", "accent", "Sent", queued)
        case JobStatus.PROCESSING:
            return _making(_elapsed(row) or 0, outlook.usual.get(row.workflow_name))
        case JobStatus.STORING if row.attention:
            return State("stalled", "amber", "Saving", "waits, nothing lost")
        case JobStatus.STORING:
            return State("saving", "accent", "Saving")
        case JobStatus.FAILED:
            return State("failed", "red", "Failed", charge(row).rstrip(".").lower())
        case JobStatus.CANCELLED:
            return State("cancelled", "quiet", "Cancelled", charge(row).rstrip(".").lower())
        case _:
            return State("unknown", "amber", "Needs you", "perhaps charged")


def _waiting(row: JobCard, *, outlook: Outlook) -> State:
    place = outlook.places.get(row.id)
    if place is not None and place.paused:
        where = ordinal(place.place)
        return State("paused", "quiet", "Paused", f"{where} in line", where)
    if row.attention:
        return State("paused", "quiet", "Paused", "not charged")
    if row.original_status == ImageStatus.PREPARING:
        return State("waiting", "quiet", "Waiting", "photo is being prepared", "preparing")
    if place is None:
        return State("waiting", "quiet", "Waiting")
    where, left = ordinal(place.place), outlook.seconds_left(row)
    if left is None:
        return State("waiting", "quiet", "Waiting", f"{where} in line · no data yet", where)
    when = seconds(left)
    return State(
        "waiting", "quiet", "Waiting", f"{where} in line · about {when}", f"{where} · {when}"
    )


def _making(elapsed: int, usual: float | None) -> State:
    short = f"{elapsed} s"
    if usual is None:
        return State("making", "accent", "Making", f"{short}, no data yet", short)
    if _is_late(elapsed, usual):
        return State("making", "accent", "Making", f"{short}, longer than usual", short)
    return State("making", "accent", "Making", f"{short} of about {round(usual)}", short)


def _done(row: JobCard) -> State:
    if row.attention:
        return State("failed", "red", "Done", "file lost")
    if row.verdict == Verdict.APPROVED and row.verdict_at:
        when = day(row.verdict_at)
        return State("approved", "ink", "Approved", when, when.partition(" ")[0])
    if row.verdict == Verdict.REJECTED:
        return State("rejected", "ink", "Rejected", reason(row.verdict_reason))
    if row.result_image_id and not row.result_has_preview:
        return State("done", "ink", "Done", "no preview")
    if row.further:
        made = f"{row.further + 1} pictures"
        return State("done", "ink", "Done", f"{made}, one came late", made)
    took = seconds((row.processing_time_ms or 0) / 1000)
    return State("done", "ink", "Done", f"{took} · {money(row.cost)}" if row.cost else took, took)


def reason(code: str | None) -> str:
    """Why a picture was rejected, as in "hands or face"; empty where nobody said."""
    return REASONS[Reason(code)].lower() if code else ""


def charge(row: JobCard) -> str:
    """The money sentence, from the ledger: charged, perhaps, or not; over all its requests."""
    charged = _amount("Charged", row.cost if row.cost is not None else row.estimate)
    perhaps = row.perhaps if row.perhaps is not None else row.estimate
    if row.charged == "yes":
        return f"{charged}, perhaps {money(row.perhaps)} more." if row.perhaps else f"{charged}."
    if row.charged == "unknown":
        return f"{_amount('Perhaps charged', perhaps)}."
    return "Not charged."


def _amount(word: str, amount: Decimal | None) -> str:
    return word if amount is None else f"{word} {money(amount)}"


def explain(row: JobCard) -> Words | None:
    """Title, sentence and money where there is no picture to show; None where there is one."""
    if row.status == JobStatus.HELD and row.attention:
        return Words("Held", row.attention, "", "amber")
    if row.status == JobStatus.FAILED:
        title = of_code(row.error_code).title
        return Words(title, row.error_message or "", charge(row), "red")
    if row.status == JobStatus.UNKNOWN:
        when = f"Sent at {clock(row.sent_at)}, then the line broke. " if row.sent_at else ""
        return Words("Answer lost", f"{when}We are looking for it.", charge(row), "amber")
    if row.status == JobStatus.COMPLETED and row.attention:
        return Words("File lost", row.attention, charge(row), "red")
    if row.status == JobStatus.COMPLETED and not row.result_has_preview:
        return Words("No preview", "The file is kept; download it to look.", charge(row), "ink")
    return None


def actions(row: JobCard) -> list[Action]:
    """What can be done about it, the likeliest first."""
    if row.status == JobStatus.COMPLETED:
        return []
    if row.status in {JobStatus.HELD, JobStatus.PENDING}:
        return [("Cancel", "post", by_id("jobs.cancel")(row.id), {})]
    if row.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
        label = "Run again…" if row.charged == "unknown" else "Run again"
        again: Action = (label, "post", by_id("jobs.retry")(row.id), {})
        return _ways_out(row, again=again)
    if row.status == JobStatus.UNKNOWN:
        url = by_id("jobs.recover")(row.id)
        return [
            ("Look again", "post", url, {"action": "look"}),
            ("Send again…", "post", url, {"action": "send"}),
        ]
    return []


def _ways_out(row: JobCard, *, again: Action) -> list[Action]:
    """What may help, by the reason of the failure; the same once more only where it can."""
    why = of_code(row.error_code)
    if row.status == JobStatus.FAILED and why.next_step == explanations.UPLOAD_AGAIN:
        return [("Upload again", "get", url_for("images.upload"), {})]
    if row.status == JobStatus.FAILED and why.next_step == explanations.ASK_ADMIN:
        url = f"{url_for('batches.new')}?image={row.original_image_id}"
        return [("Use another workflow", "get", url, {})]
    if row.status == JobStatus.FAILED and why.next_step == explanations.OTHER_SETTINGS:
        other: Action = (explanations.OTHER_SETTINGS, "get", _form_again(row), {})
        return [other] if why.charged == "yes" else [other, again]
    return [again]


def _form_again(row: JobCard) -> str:
    return f"{url_for('batches.new')}?parent={row.batch_id}&image={row.original_image_id}"


# --- sums over a batch


def counts(rows: Sequence[JobCard]) -> Counter[str]:
    """How many jobs are in each state."""
    return Counter(row.status for row in rows)


def batch_status(count: Mapping[str, int]) -> str:
    """`working`, `waiting` (only held ones wait), `attention` or `done`."""
    if any(count.get(status) for status in BUSY - {JobStatus.UNKNOWN}):
        return "working"
    if count.get(JobStatus.UNKNOWN):
        return "attention"
    return "waiting" if count.get(JobStatus.HELD) else "done"


def status_sentence(rows: Sequence[JobCard], *, outlook: Outlook, charged: Decimal) -> str:
    """As in "5 of 12 done, 1 failed, 1 needs you. About 2 min left.", or how it ended."""
    count = counts(rows)
    done, total = count[JobStatus.COMPLETED], len(rows)
    if total and done == total:
        last = max(row.completed_at or row.created_at for row in rows)
        took = seconds((last - rows[0].created_at).total_seconds())
        which = f"All {total} done" if total > 1 else "Done"
        return f"{which} in {took}. {money(charged)} charged."
    parts = [f"{done} of {total} done"]
    if failed := count[JobStatus.FAILED]:
        parts.append(f"{failed} failed")
    if unknown := count[JobStatus.UNKNOWN]:
        parts.append(f"{unknown} need{'s' if unknown == 1 else ''} you")
    if cancelled := count[JobStatus.CANCELLED]:
        parts.append(f"{cancelled} cancelled")
    if held := count[JobStatus.HELD]:
        parts.append(f"{held} held")
    return " ".join([", ".join(parts) + ".", *_prospects(rows, outlook=outlook)])


def _prospects(rows: Sequence[JobCard], *, outlook: Outlook) -> list[str]:
    """What becomes of the rest, in a sentence; none where nothing moves or nobody knows."""
    places = [outlook.places[row.id] for row in rows if row.id in outlook.places]
    if paused := sum(place.paused for place in places):
        verbs = (
            "is paused and starts by itself"
            if paused == 1
            else "are paused and start by themselves"
        )
        return [f"{paused} {verbs}."]
    left = max((outlook.seconds_left(row) or 0 for row in rows), default=0)
    return [f"About {seconds(left)} left."] if left else []


def running(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> dict[str, object]:
    """The small strip of the bar: the batch at work, its frames and "5 of 12"."""
    rows = jobs.list_cards(conn, batch_id=batch_id, user_id=user_id)
    done = counts(rows)[JobStatus.COMPLETED]
    shown = cells(rows, outlook=NOTHING_KNOWN)
    return {
        "url": url_for("batches.show", id=batch_id),
        "cells": [shown[index * len(shown) // IN_BAR] for index in range(IN_BAR)]
        if len(shown) > IN_BAR
        else shown,
        "words": f"{done} of {len(rows)}",
    }


def cells(rows: Sequence[JobCard], *, outlook: Outlook) -> list[str]:
    """One glyph name a job, for the strip."""
    return [describe_state(row, outlook=outlook).glyph for row in rows]


def segments(shown: Sequence[str]) -> list[tuple[str, float, float]]:
    """The strip of a batch too large for a frame each: glyph, start and width in per cent.

    Empty for batches that have room.
    """
    if len(shown) <= MOST_CELLS:
        return []
    found, start = [], 0.0
    order = {glyph: place for place, glyph in enumerate(STRIP_ORDER)}
    for glyph, number in sorted(Counter(shown).items(), key=lambda each: order[each[0]]):
        width = number / len(shown) * 100
        found.append((glyph, round(start, 2), round(width, 2)))
        start += width
    return found


def headline(rows: Sequence[JobCard], *, workflow: str) -> str:
    """As in "12 photos, Mannequin to human 1"."""
    return f"{plural(len({row.original_image_id for row in rows}), 'photo')}, {workflow}"
