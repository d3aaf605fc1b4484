"""Submissions, the ledger: sql/submissions.sql."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from i2i.models import (
    Count,
    FailedRequest,
    LateTask,
    OpenToken,
    Spending,
    Submission,
    SubmissionCount,
    Tokens,
    Usage,
)
from i2i.sql import load

SQL = load("submissions")


def create(
    conn: Connection[Any],
    *,
    job_id: UUID,
    user_id: UUID,
    user_email: str,
    workflow_version_id: int,
    endpoint: str,
    token: str,
) -> int:
    """UniqueViolation submissions_one_live_key when the job has a live submission."""
    return SQL["create"].execute(
        conn,
        job_id=job_id,
        user_id=user_id,
        user_email=user_email,
        workflow_version_id=workflow_version_id,
        endpoint=endpoint,
        token=token,
    )


def list_of_job(conn: Connection[Any], *, job_id: UUID) -> list[Submission]:
    return SQL["list_of_job"].many(conn, Submission, job_id=job_id)


def spending_of_batch(conn: Connection[Any], *, batch_id: UUID) -> Spending:
    return SQL["spending_of_batch"].one(conn, Spending, batch_id=batch_id)


def spending_since(
    conn: Connection[Any], *, since: datetime, user_id: UUID | None = None
) -> Spending:
    return SQL["spending_since"].one(conn, Spending, since=since, user_id=user_id)


def count_outcomes(conn: Connection[Any]) -> list[SubmissionCount]:
    return SQL["count_outcomes"].many(conn, SubmissionCount)


def list_failures(conn: Connection[Any], *, page_size: int) -> list[FailedRequest]:
    return SQL["list_failures"].many(conn, FailedRequest, page_size=page_size)


def sum_usage(conn: Connection[Any], *, since: datetime, until: datetime) -> list[Usage]:
    """One row a user, a workflow and a day (UTC) with requests, and one in all."""
    return SQL["sum_usage"].many(conn, Usage, since=since, until=until)


def list_open_tokens(conn: Connection[Any]) -> list[OpenToken]:
    return SQL["list_open_tokens"].many(conn, OpenToken)


def list_later_tokens(conn: Connection[Any], *, token: str) -> Tokens:
    """Tokens of requests that reached the same endpoint and were sent after this one."""
    return SQL["list_later_tokens"].one(conn, Tokens, token=token)


def mark_sent(
    conn: Connection[Any], *, token: str, arguments: Mapping[str, Any], estimate: Decimal | None
) -> int:
    return SQL["mark_sent"].execute(
        conn, token=token, arguments=Jsonb(arguments), estimate=estimate
    )


def accept(
    conn: Connection[Any],
    *,
    token: str,
    request_id: str,
    status_url: str,
    response_url: str,
    cancel_url: str,
) -> int:
    return SQL["accept"].execute(
        conn,
        token=token,
        request_id=request_id,
        status_url=status_url,
        response_url=response_url,
        cancel_url=cancel_url,
    )


def reject(
    conn: Connection[Any],
    *,
    token: str,
    http_status: int | None,
    error_type: str | None,
    detail: str,
) -> int:
    return SQL["reject"].execute(
        conn, token=token, http_status=http_status, error_type=error_type, detail=detail
    )


def abandon(conn: Connection[Any], *, token: str, detail: str) -> int:
    return SQL["abandon"].execute(conn, token=token, detail=detail)


def prove_absent(conn: Connection[Any], *, token: str, detail: str) -> int:
    return SQL["prove_absent"].execute(conn, token=token, detail=detail)


def lose_answer(
    conn: Connection[Any],
    *,
    token: str,
    http_status: int | None,
    detail: str,
    sending: bool = False,
) -> int:
    """`sending`: it is the answer of the POST that is lost, not an id that fal gave us."""
    return SQL["lose_answer"].execute(
        conn, token=token, http_status=http_status, detail=detail, sending=sending
    )


def save_outputs(
    conn: Connection[Any], *, token: str, output_urls: Sequence[str], cost: Decimal | None
) -> int:
    return SQL["save_outputs"].execute(conn, token=token, output_urls=list(output_urls), cost=cost)


def settle(
    conn: Connection[Any],
    *,
    token: str,
    outcome: str,
    charged: str,
    http_status: int | None = None,
    error_type: str | None = None,
    detail: str | None = None,
    look: bool = False,
) -> int:
    return SQL["settle"].execute(
        conn,
        look=look,
        token=token,
        outcome=outcome,
        charged=charged,
        http_status=http_status,
        error_type=error_type,
        detail=detail,
    )


def settle_live(conn: Connection[Any], *, job_id: UUID, detail: str) -> int:
    return SQL["settle_live"].execute(conn, job_id=job_id, detail=detail)


def claim_late(
    conn: Connection[Any], *, page_size: int, now: datetime | None = None
) -> list[LateTask]:
    return SQL["claim_late"].many(conn, LateTask, page_size=page_size, now=now)


def stop_looking(conn: Connection[Any], *, token: str) -> int:
    return SQL["stop_looking"].execute(conn, token=token)


def stop_looking_late(conn: Connection[Any], *, now: datetime | None = None) -> int:
    return SQL["stop_looking_late"].execute(conn, now=now)


def find_late_request(
    conn: Connection[Any],
    *,
    token: str,
    request_id: str,
    status_url: str,
    response_url: str,
    cancel_url: str,
) -> int:
    return SQL["find_late_request"].execute(
        conn,
        token=token,
        request_id=request_id,
        status_url=status_url,
        response_url=response_url,
        cancel_url=cancel_url,
    )


def revive(
    conn: Connection[Any],
    *,
    token: str,
    request_id: str,
    status_url: str,
    response_url: str,
    cancel_url: str,
) -> int:
    return SQL["revive"].execute(
        conn,
        token=token,
        request_id=request_id,
        status_url=status_url,
        response_url=response_url,
        cancel_url=cancel_url,
    )


def reopen(
    conn: Connection[Any], *, token: str, output_urls: Sequence[str], cost: Decimal | None
) -> int:
    return SQL["reopen"].execute(conn, token=token, output_urls=list(output_urls), cost=cost)


def settle_late(conn: Connection[Any], *, token: str, outcome: str, cost: Decimal | None) -> int:
    return SQL["settle_late"].execute(conn, token=token, outcome=outcome, cost=cost)


def lock_limits(conn: Connection[Any]) -> int:
    return SQL["lock_limits"].execute(conn)


def count_today(conn: Connection[Any], *, user_id: UUID | None = None) -> Count:
    """Pictures that count against today's limits, of one user or of all."""
    return SQL["count_today"].one(conn, Count, user_id=user_id)
