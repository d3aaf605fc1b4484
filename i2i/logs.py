"""Log lines on stderr: one line each, as text for people or JSON for machines."""

import json
import logging
import sys
import time
from datetime import UTC, datetime

from i2i.config import Settings


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time in UTC, level, logger, message; line breaks become spaces, a traceback stays."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return " ".join(super().formatMessage(record).splitlines())


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
