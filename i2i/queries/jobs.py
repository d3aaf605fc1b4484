"""Processing jobs: sql/jobs.sql."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from i2i.models import (
    AttentionCount,
    Count,
    Due,
    ExpiredTask,
    FalTask,
    FilmFrame,
    Job,
    JobCard,
    JobEvent,
    JobParameters,
    JobVersion,
    ParentResult,
    Place,
    QueueCount,
    Retried,
    SendTask,
    TroubledJob,
    UsualSeconds,
)
from i2i.sql import load

SQL = load("jobs")


def create(
    conn: Connection[Any],
    *,
    batch_id: UUID,
    image_ids: Sequence[UUID],
    variations: Sequence[int],
    parameters: Sequence[Mapping[str, Any]],
    statuses: Sequence[str],
) -> int:
    """The pictures of a batch in order; the four sequences have one length."""
    return SQL["create"].execute(
        conn,
        batch_id=batch_id,
        image_ids=list(image_ids),
        variations=list(variations),
        parameters=[Jsonb(each) for each in parameters],
        statuses=list(statuses),
    )


def find(conn: Connection[Any], *, job_id: UUID) -> Job | None:
    return SQL["find"].optional(conn, Job, job_id=job_id)


def find_card(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> JobCard | None:
    return SQL["find_card"].optional(conn, JobCard, job_id=job_id, user_id=user_id)


def list_cards(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> list[JobCard]:
    return SQL["list_cards"].many(conn, JobCard, batch_id=batch_id, user_id=user_id)


def list_chosen_cards(
    conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID
) -> list[JobCard]:
    """In the order of the ids; what is not the user's, or in the trash, is left out."""
    return SQL["list_chosen_cards"].many(conn, JobCard, job_ids=list(job_ids), user_id=user_id)


def list_parameters(
    conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID
) -> list[JobParameters]:
    """In no order."""
    return SQL["list_parameters"].many(conn, JobParameters, job_ids=list(job_ids), user_id=user_id)


def list_film(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> list[FilmFrame]:
    return SQL["list_film"].many(conn, FilmFrame, batch_id=batch_id, user_id=user_id)


def list_versions(
    conn: Connection[Any],
    *,
    image_id: UUID,
    user_id: UUID,
    job_id: UUID,
    parent_id: UUID | None,
    page_size: int,
) -> list[JobVersion]:
    """In no order that a page could use: sort by number."""
    return SQL["list_versions"].many(
        conn,
        JobVersion,
        image_id=image_id,
        user_id=user_id,
        job_id=job_id,
        parent_id=parent_id,
        page_size=page_size,
    )


def list_parent_results(
    conn: Connection[Any], *, batch_id: UUID, user_id: UUID
) -> list[ParentResult]:
    return SQL["list_parent_results"].many(conn, ParentResult, batch_id=batch_id, user_id=user_id)


def list_newest(
    conn: Connection[Any], *, page_size: int, status: str | None = None, user_id: UUID | None = None
) -> list[Job]:
    return SQL["list_newest"].many(conn, Job, page_size=page_size, status=status, user_id=user_id)


def count_statuses(conn: Connection[Any]) -> list[QueueCount]:
    return SQL["count_statuses"].many(conn, QueueCount)


def count_attention(conn: Connection[Any]) -> list[AttentionCount]:
    return SQL["count_attention"].many(conn, AttentionCount)


def page_troubled(
    conn: Connection[Any],
    *,
    page_size: int,
    failed: bool | None = None,
    before: datetime | None = None,
    before_id: UUID | None = None,
) -> list[TroubledJob]:
    """`failed`: only those (True), or only what may still go well (False)."""
    return SQL["page_troubled"].many(
        conn,
        TroubledJob,
        page_size=page_size,
        failed=failed,
        before=before,
        before_id=before_id,
    )


def count_in_flight(conn: Connection[Any]) -> Count:
    return SQL["count_in_flight"].one(conn, Count)


def count_of_workflow(conn: Connection[Any], *, workflow_name: str) -> Count:
    return SQL["count_of_workflow"].one(conn, Count, workflow_name=workflow_name)


def list_usual_seconds(conn: Connection[Any]) -> list[UsualSeconds]:
    return SQL["list_usual_seconds"].many(conn, UsualSeconds)


def list_places(conn: Connection[Any], *, user_id: UUID) -> list[Place]:
    return SQL["list_places"].many(conn, Place, user_id=user_id)


def find_due(conn: Connection[Any], *, now: datetime | None = None) -> Due:
    return SQL["find_due"].one(conn, Due, now=now)


def lock_queue(conn: Connection[Any]) -> int:
    return SQL["lock_queue"].execute(conn)


def claim_send(
    conn: Connection[Any],
    *,
    lease_seconds: float,
    max_in_flight: int,
    max_per_user: int | None,
    job_id: UUID | None = None,
    now: datetime | None = None,
) -> SendTask | None:
    """The next in line; or the one named, if it may go, due or not."""
    return SQL["claim_send"].optional(
        conn,
        SendTask,
        lease_seconds=lease_seconds,
        max_in_flight=max_in_flight,
        max_per_user=max_per_user,
        job_id=job_id,
        now=now,
    )


def claim_fal(
    conn: Connection[Any],
    *,
    status: str,
    page_size: int,
    lease_seconds: float,
    job_id: UUID | None = None,
    now: datetime | None = None,
) -> list[FalTask]:
    """Jobs of a state that are due; or the one named, due or not."""
    return SQL["claim_fal"].many(
        conn,
        FalTask,
        status=status,
        page_size=page_size,
        lease_seconds=lease_seconds,
        job_id=job_id,
        now=now,
    )


def claim_expired(
    conn: Connection[Any], *, lease_seconds: float, now: datetime | None = None
) -> list[ExpiredTask]:
    return SQL["claim_expired"].many(conn, ExpiredTask, lease_seconds=lease_seconds, now=now)


def renew_lease(conn: Connection[Any], *, job_id: UUID, fence: int, lease_seconds: float) -> int:
    return SQL["renew_lease"].execute(conn, job_id=job_id, fence=fence, lease_seconds=lease_seconds)


def lock_sendable(conn: Connection[Any], *, job_id: UUID, fence: int, lease_seconds: float) -> int:
    return SQL["lock_sendable"].execute(
        conn, job_id=job_id, fence=fence, lease_seconds=lease_seconds
    )


def return_to_pending(
    conn: Connection[Any],
    *,
    job_id: UUID,
    fence: int | None,
    crashes: int,
    delay_seconds: float,
    attention: str | None = None,
) -> int:
    return SQL["return_to_pending"].execute(
        conn,
        job_id=job_id,
        fence=fence,
        crashes=crashes,
        delay_seconds=delay_seconds,
        attention=attention,
    )


def accept(conn: Connection[Any], *, job_id: UUID, fal_job_id: str, delay_seconds: float) -> int:
    return SQL["accept"].execute(
        conn, job_id=job_id, fal_job_id=fal_job_id, delay_seconds=delay_seconds
    )


def lose_answer(
    conn: Connection[Any], *, job_id: UUID, fence: int, attention: str, delay_seconds: float
) -> int:
    return SQL["lose_answer"].execute(
        conn, job_id=job_id, fence=fence, attention=attention, delay_seconds=delay_seconds
    )


def keep_waiting(
    conn: Connection[Any],
    *,
    job_id: UUID,
    fence: int,
    queue_position: int | None,
    running: bool,
    delay_seconds: float,
) -> int:
    return SQL["keep_waiting"].execute(
        conn,
        job_id=job_id,
        fence=fence,
        queue_position=queue_position,
        running=running,
        delay_seconds=delay_seconds,
    )


def postpone(
    conn: Connection[Any],
    *,
    job_id: UUID,
    fence: int,
    delay_seconds: float,
    attention: str | None = None,
    gone: bool = False,
) -> int:
    return SQL["postpone"].execute(
        conn,
        job_id=job_id,
        fence=fence,
        delay_seconds=delay_seconds,
        attention=attention,
        gone=gone,
    )


def begin_storing(conn: Connection[Any], *, job_id: UUID, fence: int) -> int:
    return SQL["begin_storing"].execute(conn, job_id=job_id, fence=fence)


def complete(
    conn: Connection[Any],
    *,
    job_id: UUID,
    fence: int,
    result_image_id: UUID,
    processing_time_ms: int,
) -> int:
    return SQL["complete"].execute(
        conn,
        job_id=job_id,
        fence=fence,
        result_image_id=result_image_id,
        processing_time_ms=processing_time_ms,
    )


def fail(
    conn: Connection[Any], *, job_id: UUID, fence: int | None, error_code: str, error_message: str
) -> int:
    return SQL["fail"].execute(
        conn, job_id=job_id, fence=fence, error_code=error_code, error_message=error_message
    )


def fail_of_image(
    conn: Connection[Any], *, image_id: UUID, error_code: str, error_message: str
) -> int:
    return SQL["fail_of_image"].execute(
        conn, image_id=image_id, error_code=error_code, error_message=error_message
    )


def mark_result(conn: Connection[Any], *, image_id: UUID, attention: str | None) -> int:
    return SQL["mark_result"].execute(conn, image_id=image_id, attention=attention)


def cancel_sending(conn: Connection[Any], *, job_id: UUID, fence: int) -> int:
    return SQL["cancel_sending"].execute(conn, job_id=job_id, fence=fence)


def cancel_at_fal(conn: Connection[Any], *, job_id: UUID, fence: int) -> int:
    return SQL["cancel_at_fal"].execute(conn, job_id=job_id, fence=fence)


def cancel_waiting(
    conn: Connection[Any],
    *,
    user_id: UUID,
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> int:
    return SQL["cancel_waiting"].execute(conn, user_id=user_id, job_id=job_id, batch_id=batch_id)


def cancel_held_of_parent(conn: Connection[Any], *, batch_id: UUID) -> int:
    return SQL["cancel_held_of_parent"].execute(conn, batch_id=batch_id)


def ask_cancel_sending(conn: Connection[Any], *, user_id: UUID) -> int:
    return SQL["ask_cancel_sending"].execute(conn, user_id=user_id)


def count_at_fal(conn: Connection[Any], *, user_id: UUID) -> Count:
    return SQL["count_at_fal"].one(conn, Count, user_id=user_id)


def cancel_waiting_of_workflow(conn: Connection[Any], *, workflow_name: str) -> int:
    return SQL["cancel_waiting_of_workflow"].execute(conn, workflow_name=workflow_name)


def ask_cancel(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> int:
    return SQL["ask_cancel"].execute(conn, job_id=job_id, user_id=user_id)


def ask_cancel_late(conn: Connection[Any], *, job_id: UUID, fence: int) -> int:
    return SQL["ask_cancel_late"].execute(conn, job_id=job_id, fence=fence)


def release(conn: Connection[Any], *, batch_id: UUID, user_id: UUID) -> int:
    return SQL["release"].execute(conn, batch_id=batch_id, user_id=user_id)


def retry(
    conn: Connection[Any],
    *,
    user_id: UUID,
    statuses: Sequence[str],
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
    perhaps: bool = True,
) -> list[Retried]:
    return SQL["retry"].many(
        conn,
        Retried,
        user_id=user_id,
        statuses=list(statuses),
        job_id=job_id,
        batch_id=batch_id,
        perhaps=perhaps,
    )


def reopen(conn: Connection[Any], *, job_id: UUID, fal_job_id: str) -> int:
    return SQL["reopen"].execute(conn, job_id=job_id, fal_job_id=fal_job_id)


def explain_withheld(
    conn: Connection[Any], *, job_id: UUID, token: str, error_code: str, error_message: str
) -> int:
    return SQL["explain_withheld"].execute(
        conn, job_id=job_id, token=token, error_code=error_code, error_message=error_message
    )


def hurry(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> int:
    return SQL["hurry"].execute(conn, job_id=job_id, user_id=user_id)


def give_up_unknown(
    conn: Connection[Any],
    *,
    job_id: UUID,
    user_id: UUID,
    status: str,
    error_code: str | None = None,
    error_message: str | None = None,
) -> int:
    """Leave `unknown` for `pending`, or for `failed` with its reason."""
    return SQL["give_up_unknown"].execute(
        conn,
        job_id=job_id,
        user_id=user_id,
        status=status,
        error_code=error_code,
        error_message=error_message,
    )


def judge(
    conn: Connection[Any],
    *,
    job_id: UUID,
    user_id: UUID,
    verdict: str | None,
    reason: str | None,
    note: str,
) -> int:
    return SQL["judge"].execute(
        conn, job_id=job_id, user_id=user_id, verdict=verdict, reason=reason, note=note
    )


def list_events(conn: Connection[Any], *, job_id: UUID) -> list[JobEvent]:
    """Every transition, oldest first."""
    return SQL["list_events"].many(conn, JobEvent, job_id=job_id)
