"""Log lines: one an event whatever is in it, with the ids of what it belongs to, and no one's data."""

import json
import logging
from uuid import UUID

import psycopg
import pytest

from i2i import origin
from i2i.errors import FalRejected, FalUnclear
from i2i.logs import JsonFormatter, TextFormatter

BREAKS = "a\r\n2026-11-23 INFO login ok\x1b[2J\x85b\u2028c\0"

JOB = UUID("6951688a-1b68-4f6e-a267-7e02957571c6")


def record(message, *, exc_info=None):
    return logging.LogRecord("i2i.worker", logging.WARNING, "x.py", 1, message, (), exc_info)


def caught(function):
    with pytest.raises(Exception) as trouble:
        function()
    return trouble.type, trouble.value, trouble.tb


def test_json_lines_hold_time_level_logger_message_and_exception():
    line = JsonFormatter().format(record("a\nb", exc_info=(ValueError, ValueError("x\ny"), None)))
    fields = json.loads(line)
    assert (fields["level"], fields["logger"]) == ("warning", "i2i.worker")
    assert fields["message"] == "a\nb"
    assert fields["exception"].endswith("ValueError: x\ny")
    assert fields["time"].endswith("Z")


@pytest.mark.parametrize("message", [BREAKS, "\ud800", '"}\n{"level": "info"'])
def test_a_json_line_is_one_line_to_every_reader(message):
    line = JsonFormatter().format(record(message))
    assert line.splitlines() == [line]
    assert line.isascii()
    assert json.loads(line)["message"] == message


def test_a_text_line_is_one_line_and_a_traceback_cannot_look_like_one():
    trouble = caught(lambda: int(BREAKS))
    first, *rest = TextFormatter().format(record(BREAKS, exc_info=trouble)).splitlines()
    assert first.endswith("Z WARNING i2i.worker: a 2026-11-23 INFO login ok [2J b c ")
    assert rest
    assert {line[:4] for line in rest} == {"    "}
    assert "\x1b" not in "".join(rest)


def test_a_line_names_its_request_and_its_job():
    with origin.acting(request_id="r1", job_id=JOB):
        line, text = (kind().format(record("x")) for kind in (JsonFormatter, TextFormatter))
    fields = json.loads(line)
    assert (fields["request_id"], fields["job_id"]) == ("r1", str(JOB))
    assert text.endswith(f"x request_id=r1 job_id={JOB}")
    assert "request_id" not in JsonFormatter().format(record("x"))


def test_the_row_that_postgresql_quotes_is_not_logged(conn):
    def wrong():
        conn.execute(
            "INSERT INTO users (email, password_hash) VALUES ('no address', 'canary hash')"
        )

    def wrapped():
        try:
            with conn.transaction():
                wrong()
        except psycopg.Error as error:
            raise RuntimeError("something else") from error

    trouble = caught(wrapped)
    assert "canary hash" in logging.Formatter().format(record("x", exc_info=trouble))
    for kind in (JsonFormatter, TextFormatter):
        line = kind().format(record("x", exc_info=trouble))
        assert "users_email_shape" in line
        assert "canary" not in line


def test_fals_own_words_are_not_logged():
    refused = FalRejected("HTTP 422: body.prompt: a canary", http_status=422, error_type="value")
    assert refused.brief == "HTTP 422 value"
    assert FalRejected("x", http_status=422, error_type="a canary").brief == "HTTP 422"
    assert FalUnclear("the answer broke off").brief == "the answer broke off"
