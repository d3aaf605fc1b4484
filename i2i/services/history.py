"""History: what a user's filter finds, page by page or all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i.models import HistoryBatch, JobCard, JobStatus
from i2i.queries import history, jobs

MOST_COUNTED = 1000
"""Pictures that are counted one by one; what is more is said to be more."""

Cursor = tuple[datetime, UUID]
"""The last row of the page before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of a user's pictures are meant; everything that is None or empty lets all pass.

    `verdict` is one of models.Verdict, or "none" for what is made and not judged. `q` is a part of
    the photo's name, without case. `created_from` is in, `created_to` is out.
    """

    user_id: UUID
    statuses: Sequence[str] = ()
    workflow: str | None = None
    verdict: str | None = None
    q: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    @property
    def all_statuses(self) -> list[str]:
        """The states meant, by name."""
        return list(self.statuses or JobStatus)

    def end(self, after: Cursor | None) -> dict[str, Any]:
        """Where to begin, going back in time: after that row, or at created_to if it is earlier."""
        if self.created_to and (after is None or self.created_to <= after[0]):
            return {"before": self.created_to, "before_id": UUID(int=0)}
        return {"before": after and after[0], "before_id": after and after[1]}


def pick(
    conn: Connection[Any],
    chosen: Filter,
    *,
    page_size: int | None = None,
    after: Cursor | None = None,
) -> list[UUID]:
    """Ids of the pictures found, newest first; without a page_size all of them."""
    place: dict[str, Any] = {
        "user_id": chosen.user_id,
        "created_from": chosen.created_from,
        "page_size": page_size,
        **chosen.end(after),
    }
    statuses, workflow, verdict = chosen.all_statuses, chosen.workflow, chosen.verdict
    if chosen.q:
        place |= {"q": chosen.q, "statuses": statuses, "workflow": workflow, "verdict": verdict}
        found = history.pick_newest_by_name(conn, **place) if page_size else []
        if page_size is None or len(found) < page_size:
            found = history.pick_by_name(conn, **place)
    elif (bool(chosen.statuses), bool(workflow), bool(verdict)).count(True) > 1:
        found = history.pick_by_several(
            conn, statuses=statuses, workflow=workflow, verdict=verdict, **place
        )
    elif verdict:
        found = history.pick_by_verdict(conn, verdict=verdict, **place)
    elif workflow:
        found = history.pick_by_workflow(conn, workflow=workflow, **place)
    else:
        found = history.pick_by_status(conn, statuses=statuses, **place)
    return [each.id for each in found]


def page(
    conn: Connection[Any], chosen: Filter, *, page_size: int, after: Cursor | None = None
) -> list[JobCard]:
    """The pictures of a page, newest first."""
    if not (chosen.q or chosen.statuses or chosen.workflow or chosen.verdict):
        return history.page_newest(
            conn,
            user_id=chosen.user_id,
            created_from=chosen.created_from,
            page_size=page_size,
            **chosen.end(after),
        )
    found = pick(conn, chosen, page_size=page_size, after=after)
    return jobs.list_chosen_cards(conn, job_ids=found, user_id=chosen.user_id)


def count(conn: Connection[Any], chosen: Filter) -> int:
    """How many a filter finds; MOST_COUNTED + 1 stands for all that is more."""
    return len(pick(conn, chosen, page_size=MOST_COUNTED + 1))


def page_batches(
    conn: Connection[Any], chosen: Filter, *, page_size: int, after: Cursor | None = None
) -> list[HistoryBatch]:
    """Batches with a picture that the filter finds, newest first."""
    return history.page_batches(
        conn,
        user_id=chosen.user_id,
        q=chosen.q,
        statuses=chosen.all_statuses,
        workflow=chosen.workflow,
        verdict=chosen.verdict,
        created_from=chosen.created_from,
        page_size=page_size,
        **chosen.end(after),
    )
