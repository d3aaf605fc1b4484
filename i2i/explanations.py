"""Why a picture was not made: one table from fal's error types to words, a next step and money.

Types: https://fal.ai/docs, "errors" and "request errors". The provider's own words stay in the
ledger, for operators.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from i2i.errors import FalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a person reads. `charged` is what is known of money when fal answers like this."""

    code: str
    title: str
    sentence: str
    next_step: str
    charged: str = "unknown"


RUN_AGAIN = "Run again"
OTHER_SETTINGS = "Try other settings"
UPLOAD_AGAIN = "Upload another photo"
ASK_ADMIN = "Ask your admin"

REFUSED = Explanation(
    code="refused",
    title="Not made",
    sentence="The provider did not accept this request.",
    next_step=OTHER_SETTINGS,
)
ALL = {
    each.code: each
    for each in (
        REFUSED,
        Explanation(
            code="content_policy",
            title="Refused",
            sentence="The provider's content check stopped this photo.",
            next_step=OTHER_SETTINGS,
        ),
        Explanation(
            code="safety",
            title="Withheld",
            sentence="A picture was made, but the provider's safety filter held it back.",
            next_step=OTHER_SETTINGS,
            charged="yes",
        ),
        Explanation(
            code="no_picture",
            title="No picture",
            sentence="The provider made no picture of this photo.",
            next_step=OTHER_SETTINGS,
        ),
        Explanation(
            code="too_small",
            title="Too small",
            sentence="This photo is too small for the workflow. Upload a larger one.",
            next_step=UPLOAD_AGAIN,
        ),
        Explanation(
            code="too_large",
            title="Too large",
            sentence="This photo is too large for the workflow. Export it smaller.",
            next_step=UPLOAD_AGAIN,
        ),
        Explanation(
            code="unreadable_there",
            title="Not readable",
            sentence="The provider could not open this photo.",
            next_step=RUN_AGAIN,
        ),
        Explanation(
            code="no_answer",
            title="No answer",
            sentence="The provider gave up on this picture.",
            next_step=RUN_AGAIN,
            charged="no",
        ),
        Explanation(
            code="endpoint_gone",
            title="Workflow out of order",
            sentence="The provider no longer offers it. Use another workflow and tell your admin.",
            next_step=ASK_ADMIN,
            charged="no",
        ),
        Explanation(
            code="lost",
            title="Lost",
            sentence="The provider made it but no longer has it.",
            next_step=RUN_AGAIN,
            charged="yes",
        ),
        Explanation(
            code="unheard",
            title="Lost",
            sentence="The provider took it and no longer answers about it. "
            "If its picture still comes, it appears here.",
            next_step=RUN_AGAIN,
        ),
        Explanation(
            code="stopped",
            title="Late",
            sentence="No picture came in time, and the provider has stopped.",
            next_step=RUN_AGAIN,
        ),
        Explanation(
            code="late",
            title="Late",
            sentence="No picture came in time, and the provider was asked to stop. "
            "If it still comes within a day, it appears here.",
            next_step=RUN_AGAIN,
        ),
        Explanation(
            code="given_up",
            title="Answer lost",
            sentence="Its answer was lost, and you gave it up. "
            "If it still comes within a day, it appears here.",
            next_step=RUN_AGAIN,
        ),
        # Ours, before anything was sent.
        Explanation(
            code="unreadable",
            title="Not readable",
            sentence="This photo could not be read. Upload it again.",
            next_step=UPLOAD_AGAIN,
            charged="no",
        ),
        Explanation(
            code="workflow",
            title="Workflow out of order",
            sentence="This workflow cannot be filled in with these settings. Tell your admin.",
            next_step=ASK_ADMIN,
            charged="no",
        ),
        Explanation(
            code="poison",
            title="Not readable",
            sentence="This photo stopped our worker three times. "
            "Save it anew from your photo editor and upload it again.",
            next_step=UPLOAD_AGAIN,
            charged="no",
        ),
    )
}

_TYPES = {
    "content_policy_violation": "content_policy",
    "no_media_generated": "no_picture",
    "image_too_small": "too_small",
    "image_too_large": "too_large",
    "file_too_large": "too_large",
    "image_load_error": "unreadable_there",
    "file_download_error": "unreadable_there",
    "unsupported_image_format": "unreadable_there",
    "generation_timeout": "no_answer",
    "request_timeout": "no_answer",
    "startup_timeout": "no_answer",
    "internal_server_error": "no_answer",
    "internal_error": "no_answer",
    "downstream_service_error": "no_answer",
    "downstream_service_unavailable": "no_answer",
    "runner_scheduling_failure": "no_answer",
    "runner_connection_timeout": "no_answer",
    "runner_connection_refused": "no_answer",
    "runner_connection_error": "no_answer",
    "runner_disconnected": "no_answer",
    "runner_incomplete_response": "no_answer",
    "runner_server_error": "no_answer",
}


def explain(error: FalError, *, at_submit: bool = False) -> Explanation:
    """What to say of an answer of fal; only a refused submit can mean that an endpoint is gone."""
    code = _TYPES.get(error.error_type or "")
    if code is None and at_submit and error.http_status == 404:
        code = "endpoint_gone"
    return ALL[code] if code else REFUSED


def of_code(code: str | None) -> Explanation:
    """The explanation that a stored code names."""
    return ALL.get(code or "", REFUSED)


ECHO = 10
"""So many letters in a row that also stand in a request are an echo of it, not chance."""


def without_inputs(words: str, *, arguments: object) -> str:
    """The provider's words for operators; what repeats a part of the request becomes "…".

    Args:
        words: an error's text as the ledger keeps it.
        arguments: what was sent, as JSON; prompts, addresses of pictures and all.
    """
    texts = {text.strip() for text in _texts(arguments)}
    for short in sorted(text for text in texts if 2 < len(text) < ECHO):
        words = re.sub(rf"(?<!\w){re.escape(short)}(?!\w)", "…", words, flags=re.IGNORECASE)
    sent = [text.lower() for text in texts if len(text) >= ECHO]
    echoes = {text[at : at + ECHO] for text in sent for at in range(len(text) - ECHO + 1)}
    low = words.lower()
    if len(low) != len(words):  # a letter that became two: rather lose all than show some
        return "…" if any(each in low for each in echoes) else words
    hidden = [False] * len(words)
    for at in range(len(words) - ECHO + 1):
        if low[at : at + ECHO] in echoes:
            hidden[at : at + ECHO] = [True] * ECHO
    shown = "".join("\0" if gone else letter for gone, letter in zip(hidden, words, strict=True))
    return re.sub("\0+", "…", shown)


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
