"""Jobs in words: a glyph, a word, a fact, and the money as the ledger has it."""

import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from i2i import explanations
from i2i.models import JobCard, JobStatus, Place
from i2i.web import cards

MOMENT = datetime(2025, 3, 1, 14, 5, tzinfo=UTC)

ROW = JobCard(
    **dict.fromkeys(field.name for field in fields(JobCard))
    | {
        "id": UUID(int=1),
        "batch_id": UUID(int=2),
        "position": 1,
        "variation": 0,
        "status": "pending",
        "workflow_name": "basic-v1",
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "original_image_id": UUID(int=3),
        "original_filename": "tee.jpg",
        "original_status": "ready",
    }
)
DONE = {"result_image_id": UUID(int=4), "result_has_preview": True, "processing_time_ms": 38_000}


def row(status="pending", **changes):
    return replace(ROW, id=uuid4(), status=status, **changes)


def begun(seconds):
    return datetime.now(UTC) - timedelta(seconds=seconds)


def look(*rows, usual=None, at_once=10, each=None, first=1, in_flight=0, paused=False):
    """The outlook on these rows: those that wait stand in line one behind the other."""
    waiting = [row for row in rows if row.status == "pending"]
    places = {
        row.id: Place(
            id=row.id, place=place, turn=place, in_flight=in_flight, preparing=False, paused=paused
        )
        for place, row in enumerate(waiting, start=first)
    }
    known = {"basic-v1": usual} if usual else {}
    return cards.Outlook(usual=known, places=places, at_once=at_once, at_once_each=each)


@pytest.fixture(autouse=True)
def _inside_a_request(pages_app):
    with pages_app.test_request_context():
        yield


@pytest.mark.parametrize(
    ("status", "changes", "about", "expected"),
    [
        ("held", {}, {}, ("held", "quiet", "Held", "waits for you")),
        ("held", {"attention": "Ask."}, {}, ("held", "amber", "Held", "perhaps made before")),
        ("pending", {}, {"first": 3}, ("waiting", "quiet", "Waiting", "3rd in line · no data yet")),
        (
            "pending",
            {},
            {"first": 3, "usual": 40.0, "at_once": 1, "in_flight": 1},
            ("waiting", "quiet", "Waiting", "3rd in line · about 3 min"),
        ),
        ("pending", {}, {"first": 3, "paused": True, "usual": 40.0}, ("paused", "quiet", "Paused", "3rd in line")),
        (
            "pending",
            {"original_status": "preparing"},
            {},
            ("waiting", "quiet", "Waiting", "photo is being prepared"),
        ),
        ("pending", {"attention": "x"}, {}, ("paused", "quiet", "Paused", "not charged")),
        ("submitting", {}, {}, ("sending", "accent", "Sending", "")),
        ("processing", {"queue_position": 2}, {}, ("sending", "accent", "Sent", "3rd at fal")),
        ("processing", {"queue_position": 0}, {}, ("sending", "accent", "Sent", None)),
        ("processing", {"started_at": 31}, {"usual": 40.0}, ("making", "accent", "Making", "31 s of about 40")),
        ("processing", {"started_at": 52}, {"usual": 40.0}, ("making", "accent", "Making", "52 s, longer than usual")),
        ("processing", {"started_at": 31}, {}, ("making", "accent", "Making", "31 s, no data yet")),
        (
            "processing",
            {"cancel_requested_at": MOMENT, "started_at": 5},
            {},
            ("stopping", "amber", "Stopping", "may still finish and be charged"),
        ),
        ("submitting", {"cancel_requested_at": MOMENT}, {}, ("stopping", "amber", "Stopping", None)),
        ("storing", {}, {}, ("saving", "accent", "Saving", "")),
        ("storing", {"attention": "x"}, {}, ("stalled", "amber", "Saving", None)),
        ("unknown", {}, {}, ("unknown", "amber", "Needs you", "perhaps charged")),
        ("completed", DONE | {"cost": Decimal("0.04")}, {}, ("done", "ink", "Done", "38 s · $0.04")),
        ("completed", DONE, {}, ("done", "ink", "Done", "38 s")),
        ("completed", DONE | {"result_has_preview": False}, {}, ("done", "ink", "Done", "no preview")),
        ("failed", {"charged": "no"}, {}, ("failed", "red", "Failed", "not charged")),
        (
            "failed",
            {"charged": "yes", "cost": Decimal("0.04")},
            {},
            ("failed", "red", "Failed", "charged $0.04"),
        ),
        ("cancelled", {}, {}, ("cancelled", "quiet", "Cancelled", "not charged")),
        (
            "cancelled",
            {"charged": "unknown", "estimate": Decimal("0.04")},
            {},
            ("cancelled", "quiet", "Cancelled", "perhaps charged $0.04"),
        ),
    ],
)  # fmt: skip
def test_how_a_job_stands(status, changes, about, expected):
    if "started_at" in changes:
        changes = changes | {"started_at": begun(changes["started_at"])}
    job = row(status, **changes)
    state = cards.describe_state(job, outlook=look(job, **about))
    assert (state.glyph, state.tone, state.word) == expected[:3]
    assert expected[3] in {None, state.fact}
    assert len(state.short) <= len(state.fact)


@pytest.mark.parametrize(
    ("charged", "cost", "estimate", "sentence"),
    [
        ("yes", "0.04", "0.05", "Charged $0.04."),
        ("yes", None, "0.05", "Charged $0.05."),
        ("yes", None, None, "Charged."),
        ("unknown", None, "0.05", "Perhaps charged $0.05."),
        ("unknown", None, None, "Perhaps charged."),
        ("no", None, "0.05", "Not charged."),
        (None, None, None, "Not charged."),
    ],
)
def test_the_money_comes_from_the_ledger(charged, cost, estimate, sentence):
    of_ledger = {
        "charged": charged,
        "cost": cost and Decimal(cost),
        "estimate": estimate and Decimal(estimate),
    }
    failed = row("failed", error_code="content_policy", error_message="Stopped.", **of_ledger)
    assert cards.charge(failed) == sentence
    words = cards.explain(failed)
    assert (words.title, words.sentence, words.money) == ("Refused", "Stopped.", sentence)


def test_reasons_have_titles_and_new_ones_do_not_break():
    known = [(each.code, each.title) for each in explanations.ALL.values()]
    for code, title in [*known, ("never heard of", "Not made"), (None, "Not made")]:
        words = cards.explain(row("failed", error_code=code, error_message="Because."))
        assert words.title == title


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"error_code": "content_policy"}, ["Try other settings", "Run again"]),
        ({"error_code": "too_small"}, ["Upload again"]),
        ({"error_code": "unreadable", "original_status": "rejected"}, ["Upload again"]),
        ({"error_code": "safety", "charged": "yes"}, ["Try other settings"]),
        ({"error_code": "no_answer"}, ["Run again"]),
        ({"error_code": "late", "charged": "unknown"}, ["Run again…"]),
        ({"error_code": "endpoint_gone"}, ["Use another workflow"]),
    ],
)
def test_each_failure_has_its_ways_out(changes, labels):
    offered = cards.actions(row("failed", error_message="Because.", **changes))
    assert [label for label, *_ in offered] == labels


def test_where_there_is_a_picture_there_are_no_words():
    assert cards.explain(row("completed", **DONE)) is None
    for status in ("held", "pending", "submitting", "processing", "storing", "cancelled"):
        assert cards.explain(row(status)) is None


def test_a_lost_file_is_not_called_a_picture():
    lost = row(
        "completed",
        result_image_id=uuid4(),
        result_has_preview=False,
        attention="The stored file is gone.",
        charged="yes",
        cost=Decimal("0.04"),
        verdict="approved",
    )
    state = cards.describe_state(lost, outlook=look())
    assert (state.word, state.fact, state.tone) == ("Done", "file lost", "red")
    words = cards.explain(lost)
    assert (words.title, words.sentence) == ("File lost", "The stored file is gone.")
    assert words.money == "Charged $0.04."


def test_a_lost_answer_says_when_it_was_sent():
    words = cards.explain(row("unknown", sent_at=MOMENT, charged="unknown"))
    assert words.sentence.startswith("Sent at 14:05, then the line broke.")
    assert words.money == "Perhaps charged."
    assert "Sent at" not in cards.explain(row("unknown", charged="unknown")).sentence


def test_progress_stops_before_the_end():
    job = row("processing", started_at=begun(3600))
    (card,) = cards.build([job], outlook=look(job, usual=40.0))
    assert card.progress == cards.HELD_AT
    assert card.elapsed in range(3600, 3700)
    assert cards.build([job], outlook=look(job))[0].progress is None


@pytest.mark.parametrize(
    ("place", "about", "seconds"),
    [
        (1, {}, 40),
        (10, {}, 40),
        (11, {}, 80),
        (1, {"in_flight": 10}, 80),
        (3, {"each": 1}, 120),
        (3, {"each": 2}, 80),
        (3, {"paused": True}, None),
    ],
)
def test_a_waiting_picture_comes_with_its_round(place, about, seconds):
    job = row()
    assert look(job, first=place, usual=40.0, **about).seconds_left(job) == seconds
    assert look(job, first=place, **about).seconds_left(job) is None


def test_what_is_left_of_a_running_one():
    job = row("processing", started_at=begun(30))
    assert look(usual=40.0).seconds_left(job) == pytest.approx(10, abs=2)
    late = row("processing", started_at=begun(300))
    assert look(usual=40.0).seconds_left(late) == 0
    assert look(usual=40.0).seconds_left(row("submitting")) == 40
    stopping = replace(job, cancel_requested_at=MOMENT)
    assert look(usual=40.0).seconds_left(stopping) is None


def test_each_job_is_shown_with_its_own_pictures():
    (card,) = cards.build([row("completed", **DONE)], outlook=look())
    assert card.original_thumb_url == f"/images/{UUID(int=3)}?size=thumb"
    assert card.result_thumb_url == f"/images/{UUID(int=4)}?size=thumb"
    undecodable = row("completed", **DONE | {"result_has_preview": False})
    assert cards.build([undecodable], outlook=look())[0].result_thumb_url is None


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "done"),
        (["completed", "failed", "cancelled"], "done"),
        (["held", "completed"], "waiting"),
        (["held", "unknown"], "attention"),
        (["unknown", "completed"], "attention"),
        *((["held", "unknown", status], "working") for status in ("pending", "submitting", "processing", "storing")),
    ],
)  # fmt: skip
def test_how_a_batch_stands(statuses, expected):
    assert cards.batch_status(cards.counts([row(status) for status in statuses])) == expected


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        ("completed pending pending", "1 of 3 done. About 40 s left."),
        ("completed failed unknown", "1 of 3 done, 1 failed, 1 needs you."),
        ("unknown unknown", "0 of 2 done, 2 need you."),
        ("held held completed", "1 of 3 done, 2 held."),
        ("cancelled failed", "0 of 2 done, 1 failed, 1 cancelled."),
        ("pending " * 11, "0 of 11 done. About 80 s left."),
        ("processing completed", "1 of 2 done. About 40 s left."),
    ],
)
def test_the_status_in_a_sentence(statuses, sentence):
    rows = [row(status) for status in statuses.split()]
    shown = cards.status_sentence(rows, outlook=look(*rows, usual=40.0), charged=Decimal(0))
    assert shown == sentence


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        (1, "1 of 2 done. 1 is paused and starts by itself."),
        (3, "1 of 4 done. 3 are paused and start by themselves."),
    ],
)
def test_the_status_while_nothing_is_sent(waiting, sentence):
    rows = [row("completed"), *(row() for _ in range(waiting))]
    outlook = look(*rows, usual=40.0, paused=True)
    assert cards.status_sentence(rows, outlook=outlook, charged=Decimal(0)) == sentence


def test_how_a_batch_ended():
    rows = [row("completed", completed_at=MOMENT + timedelta(seconds=180), **DONE)] * 12
    sentence = cards.status_sentence(rows, outlook=look(usual=40.0), charged=Decimal("0.48"))
    assert sentence == "All 12 done in 3 min. $0.48 charged."
    alone = cards.status_sentence(rows[:1], outlook=look(), charged=Decimal("0.04"))
    assert alone == "Done in 3 min. $0.04 charged."


def test_without_a_usual_time_nothing_is_promised():
    waiting = row()
    sentence = cards.status_sentence([waiting], outlook=look(waiting), charged=Decimal(0))
    assert sentence == "0 of 1 done."


def test_a_large_batch_is_drawn_in_shares():
    assert cards.segments(["done"] * 120) == []
    shown = ["making"] * 10 + ["done"] * 100 + ["waiting"] * 85 + ["failed"] * 5
    assert cards.segments(shown) == [
        ("done", 0.0, 50.0),
        ("failed", 50.0, 2.5),
        ("making", 52.5, 5.0),
        ("waiting", 57.5, 42.5),
    ]


def test_headline():
    rows = [row(), row(), row(original_image_id=uuid4())]
    assert cards.headline(rows, workflow="Mannequin to human 1") == "2 photos, Mannequin to human 1"
    assert cards.headline(rows[:1], workflow="Basic") == "1 photo, Basic"


def test_every_glyph_is_drawn(pages_app):
    """The macro draws an empty frame for what it does not know."""
    source, _, _ = pages_app.jinja_env.loader.get_source(pages_app.jinja_env, "macros.html")
    drawing = source[source.index("{% macro draw_glyph") :]
    known = set(re.findall(r'"(\w+)"', drawing[: drawing.index("{% endmacro %}")])) | {"waiting"}
    for status in JobStatus:
        for changes in ({}, {"attention": "x"}, {"cancel_requested_at": MOMENT}):
            job = row(status, **changes)
            for outlook in (look(job), look(job, paused=True)):
                state = cards.describe_state(job, outlook=outlook)
                assert state.glyph in known
                assert state.glyph in cards.STRIP_ORDER
