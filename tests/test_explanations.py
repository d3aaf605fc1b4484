"""What a person reads when no picture was made."""

import pytest

from i2i.errors import FalError, FalRejected
from i2i.explanations import _TYPES, ALL, REFUSED, explain, of_code, without_inputs


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FalRejected("x", error_type="content_policy_violation"), "content_policy"),
        (FalRejected("x", error_type="image_load_error"), "unreadable_there"),
        (FalRejected("x", error_type="image_too_small"), "too_small"),
        (FalRejected("x", error_type="no_media_generated"), "no_picture"),
        (FalRejected("secret words", http_status=422, error_type="value_error"), "refused"),
        (FalError("x", error_type="generation_timeout"), "no_answer"),
        (FalError("x"), "refused"),
    ],
)
@pytest.mark.parametrize("at_submit", [True, False])
def test_errors_become_sentences(error, code, at_submit):
    why = explain(error, at_submit=at_submit)
    assert why.code == code
    assert "secret" not in why.sentence


def test_only_a_refused_submit_says_that_an_endpoint_is_gone():
    error = FalRejected("x", http_status=404)
    assert explain(error, at_submit=True).code == "endpoint_gone"
    assert explain(error) is REFUSED
    known = FalRejected("x", http_status=404, error_type="image_load_error")
    assert explain(known, at_submit=True).code == "unreadable_there"


@pytest.mark.parametrize("code", ALL)
def test_every_explanation_is_whole(code):
    why = ALL[code]
    assert of_code(code) is why
    assert why.charged in {"yes", "no", "unknown"}
    assert why.sentence.endswith(".")
    assert len(why.title) <= 24
    for words in (why.title, why.next_step):
        assert words[0].isupper()
        assert not words.endswith(".")
    assert not {"!", "oops", " AI "} & {*why.sentence, why.sentence.lower()}


def test_every_type_has_its_explanation():
    assert set(_TYPES.values()) <= ALL.keys()


@pytest.mark.parametrize("code", [None, "", "of an older release"])
def test_an_unknown_code_is_a_plain_refusal(code):
    assert of_code(code) is REFUSED


SENT = {
    "prompt": "A person wearing the autumn coat, studio white",
    "image_urls": ["https://v3.fal.media/files/abc/0-0.jpg"],
    "brand": "Acme",
    "steps": 28,
}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("HTTP 500: the model broke", "HTTP 500: the model broke"),
        ("not allowed: 'the AUTUMN coat, studio' in it", "not allowed: '…' in it"),
        ("cannot load https://v3.fal.media/files/abc/0-0.jpg?x=1", "cannot load …?x=1"),
        ("Acme is not allowed", "… is not allowed"),
        ("autumn", "autumn"),
        ("A person wearing the autumn coat, studio white", "…"),
        ("steps: 28 is too many", "steps: 28 is too many"),
        ("İ: a person wearing the coat", "…"),
        ("İ: broke", "İ: broke"),
        ("", ""),
    ],
)
def test_the_providers_words_are_shown_without_what_was_sent(words, shown):
    assert without_inputs(words, arguments=SENT) == shown


@pytest.mark.parametrize("arguments", [None, {}, [], ""])
def test_nothing_sent_hides_nothing(arguments):
    assert without_inputs("HTTP 500: broke", arguments=arguments) == "HTTP 500: broke"
