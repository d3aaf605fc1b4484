"""Log lines on stderr: one line each, as text for people or JSON for machines.

A line knows the request or the job that it belongs to from `i2i.origin`.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType

import psycopg

from i2i import origin
from i2i.config import Settings

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_WITHHELD = "(values are not logged)"


class Formatter(logging.Formatter):
    """What both formats share: whom a line belongs to, and exceptions without anybody's data."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """The traceback, without the row that PostgreSQL quotes: it may hold a prompt."""
        text = super().formatException(ei)
        for error in _chain(ei[1]):
            if isinstance(error, psycopg.Error):
                for quoted in (error.diag.message_detail, error.diag.context):
                    text = text.replace(quoted, _WITHHELD) if quoted else text
        return text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that led to it."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def _context() -> dict[str, str]:
    """The ids of what this thread works on."""
    here = origin.current()
    ids = {"request_id": here.request_id, "job_id": here.job_id}
    return {name: str(each) for name, each in ids.items() if each is not None}


class JsonFormatter(Formatter):
    """One JSON object a line, in ASCII, so that every reader sees the same line breaks.

    time (UTC, ISO 8601), level, logger, message; request_id, job_id and exception if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(Formatter):
    """Time in UTC, level, logger, message and ids, on one line; a traceback follows, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        ids = "".join(f" {name}={value}" for name, value in _context().items())
        return _printable(super().formatMessage(record)) + ids

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {_printable(line)}" for line in lines)


def _printable(text: str) -> str:
    """Without what could begin a line of its own or speak to a terminal."""
    return re.sub(r"\s+", " ", "".join(each if each.isprintable() else " " for each in text))


class StderrHandler(logging.Handler):
    """Writes to what is standard error at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201 - its purpose
        except (OSError, ValueError):
            self.handleError(record)


def configure_logging(settings: Settings) -> None:
    """Send this process's log to stderr at LOG_LEVEL in LOG_FORMAT; again replaces what was set."""
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, StderrHandler)]:
        root.removeHandler(earlier)
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    # At "debug" they write whole addresses: that of a callback holds a token, a signed link opens a
    # picture. At "info" botocore says on every start where it found its key.
    for name in ("urllib3", "botocore"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
