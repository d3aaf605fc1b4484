"""How the site stands: the numbers that /admin/health, `flask jobs stats` and /metrics share."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from i2i.models import AttentionCount, Backup, Breaker, QueueCount, Spending, WorkerRow
from i2i.queries import backups, breaker, jobs, submissions, workers

OLD_BACKUP_SECONDS = 2 * 86400.0
"""Two days: of a nightly backup one may fail before somebody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Jobs by state, money, what stands still, and who works.

    `today` is what was sent since midnight UTC; `counted_today` is what counts against the limit
    of the day, waiting pictures included. `backup` is the newest that was found whole.
    """

    queue: list[QueueCount]
    in_flight: int
    today: Spending
    counted_today: int
    breaker: Breaker
    attention: list[AttentionCount]
    workers: list[WorkerRow]
    backup: Backup | None

    @property
    def living(self) -> list[WorkerRow]:
        """The workers that were heard of just now."""
        return [row for row in self.workers if lives(row)]


def read(conn: Connection[Any]) -> Health:
    """All of it, as it stands now."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Health(
        queue=jobs.count_statuses(conn),
        in_flight=jobs.count_in_flight(conn).count,
        today=submissions.spending_since(conn, since=midnight),
        counted_today=submissions.count_today(conn).count,
        breaker=breaker.find(conn),
        attention=jobs.count_attention(conn),
        workers=workers.list_all(conn),
        backup=backups.find_newest(conn),
    )


def lives(row: WorkerRow) -> bool:
    """Whether a worker was heard of just now."""
    return row.silent_seconds <= workers.SILENT_SECONDS
