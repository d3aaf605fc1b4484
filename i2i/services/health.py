"""How the site stands: the numbers that /admin/health, `flask jobs stats` and /metrics share."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from i2i.models import AttentionCount, Breaker, QueueCount, Spending, WorkerRow
from i2i.queries import breaker, jobs, submissions, workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Jobs by state, money, what stands still, and who works.

    `today` is what was sent since midnight UTC; `counted_today` is what counts against the limit
    of the day, waiting pictures included.
    """

    queue: list[QueueCount]
    in_flight: int
    today: Spending
    counted_today: int
    breaker: Breaker
    attention: list[AttentionCount]
    workers: list[WorkerRow]

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
    )


def lives(row: WorkerRow) -> bool:
    """Whether a worker was heard of just now."""
    return row.silent_seconds <= workers.SILENT_SECONDS
