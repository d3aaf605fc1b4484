"""Jobs in words: a glyph, a word, a fact, and the money as the ledger has it."""

import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from i2i import explanations
from i2i.models import JobCard, JobStatus
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
        "parameters": {},
        "workflow_name": "basic-v1",
        "workflow_title": "Basic",
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


@pytest.fixture(autouse=True)
def _inside_a_request(pages_app):
    with pages_app.test_request_context():
        yield


@pytest.mark.parametrize(
    ("status", "changes", "about", "expected"),
    [
        ("held", {}, {}, ("held", "quiet", "Held", "waits for you")),
        ("pending", {}, {"place": 3}, ("waiting", "quiet", "Waiting", "3rd here")),
        ("pending", {}, {}, ("waiting", "quiet", "Waiting", "")),
        (
            "pending",
            {"original_status": "preparing"},
            {"place": 1},
            ("waiting", "quiet", "Waiting", "photo is being prepared"),
        ),
        ("pending", {"attention": "x"}, {"place": 1}, ("paused", "quiet", "Paused", None)),
        ("submitting", {}, {}, ("sending", "accent", "Sending", "")),
        ("processing", {"queue_position": 2}, {}, ("sending", "accent", "Sent", "3rd at fal")),
        ("processing", {"queue_position": 0}, {}, ("sending", "accent", "Sent", None)),
        ("processing", {}, {"elapsed": 31, "usual": 40}, ("making", "accent", "Making", "31 s of about 40")),
        ("processing", {}, {"elapsed": 52, "usual": 40}, ("making", "accent", "Making", "52 s, longer than usual")),
        ("processing", {}, {"elapsed": 31}, ("making", "accent", "Making", "31 s")),
        ("processing", {}, {"elapsed": 0}, ("making", "accent", "Making", "0 s")),
        (
            "processing",
            {"cancel_requested_at": MOMENT},
            {"elapsed": 5},
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
    about = {"elapsed": None, "usual": None, "place": None} | about
    state = cards.describe_state(row(status, **changes), **about)
    assert (state.glyph, state.tone, state.word) == expected[:3]
    assert expected[3] in {None, state.fact}


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


def test_where_there_is_a_picture_there_are_no_words():
    assert cards.explain(row("completed", **DONE)) is None
    for status in ("held", "pending", "submitting", "processing", "storing", "cancelled"):
        assert cards.explain(row(status)) is None


def test_a_lost_answer_says_when_it_was_sent():
    words = cards.explain(row("unknown", sent_at=MOMENT, charged="unknown"))
    assert words.sentence.startswith("Sent at 14:05, then the line broke.")
    assert words.money == "Perhaps charged."
    assert "Sent at" not in cards.explain(row("unknown", charged="unknown")).sentence


def test_progress_stops_before_the_end():
    begun = row("processing", started_at=datetime.now(UTC) - timedelta(hours=1))
    (card,) = cards.build([begun], usual={"basic-v1": 40.0})
    assert card.progress == cards.HELD_AT
    assert card.elapsed in range(3600, 3700)
    assert cards.build([begun], usual={})[0].progress is None


def test_places_in_line_count_only_those_who_wait():
    rows = [row("processing"), row(), row("held"), row()]
    rows = [replace(each, id=uuid4()) for each in rows]
    built = cards.build(rows, usual={}, places=cards.places_in_batch(rows))
    assert (built[1].fact, built[3].fact) == ("1st here", "2nd here")
    assert [card.fact for card in cards.build(rows, usual={})][1] == ""


def test_each_job_is_shown_with_its_own_pictures():
    (card,) = cards.build([row("completed", **DONE)], usual={})
    assert card.original_thumb_url == f"/images/{UUID(int=3)}?size=thumb"
    assert card.result_thumb_url == f"/images/{UUID(int=4)}?size=thumb"
    undecodable = row("completed", **DONE | {"result_has_preview": False})
    assert cards.build([undecodable], usual={})[0].result_thumb_url is None


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
    ],
)
def test_the_status_in_a_sentence(statuses, sentence):
    rows = [row(status) for status in statuses.split()]
    shown = cards.status_sentence(rows, usual=40.0, charged=Decimal(0), at_once=10)
    assert shown == sentence


def test_how_a_batch_ended():
    rows = [row("completed", completed_at=MOMENT + timedelta(seconds=180), **DONE)] * 12
    sentence = cards.status_sentence(rows, usual=40.0, charged=Decimal("0.48"), at_once=10)
    assert sentence == "All 12 done in 3 min. $0.48 charged."


def test_without_a_usual_time_nothing_is_promised():
    sentence = cards.status_sentence([row()], usual=None, charged=Decimal(0), at_once=10)
    assert "left" not in sentence


def test_headline():
    rows = [row(), row(), row(original_image_id=uuid4())]
    assert cards.headline(rows, workflow="Mannequin to human 1") == "2 photos, Mannequin to human 1"
    assert cards.headline(rows[:1], workflow="Basic") == "1 photo, Basic"


def test_every_glyph_is_drawn(pages_app):
    """The macro draws an empty frame for what it does not know."""
    source, _, _ = pages_app.jinja_env.loader.get_source(pages_app.jinja_env, "macros.html")
    drawing = source[source.index("{% macro frame_glyph") :]
    known = set(re.findall(r'"(\w+)"', drawing[: drawing.index("{% endmacro %}")])) | {"waiting"}
    for status in JobStatus:
        for changes in ({}, {"attention": "x"}, {"cancel_requested_at": MOMENT}):
            state = cards.describe_state(
                row(status, **changes), elapsed=None, usual=None, place=None
            )
            assert state.glyph in known
