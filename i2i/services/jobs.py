"""Jobs: every transition of docs/job-states.md, each in one transaction.

The worker calls the first part, users and operators the last. A transition that names a fence and
changes no row means that somebody else owns the job by now: the caller simply stops.
"""

import logging
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from psycopg import Connection, Rollback
from psycopg.errors import UniqueViolation

from i2i import forms
from i2i.config import LEASE_SECONDS, Settings
from i2i.errors import FalError, FalUnclear, InvalidFields, NotFound, Refused
from i2i.explanations import Explanation, explain, of_code
from i2i.forms import Definition
from i2i.gateways.fal import Accepted
from i2i.models import (
    FalTask,
    Image,
    Job,
    JobCard,
    JobStatus,
    LateTask,
    Reason,
    SendTask,
    SubmissionState,
    Verdict,
)
from i2i.queries import images, jobs, submissions, webhooks
from i2i.services import audit, limits, trash
from i2i.services.workflows import definition_of

log = logging.getLogger("i2i.jobs")

MOST_CRASHES = 3
"""Crashes in a row before anything was sent that fail a job: it is the job that kills workers."""

LONGEST_NOTE = 1000
"""Characters of the note beside a verdict."""

LOST = "Answer lost. We are looking for it at the provider."


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A claimed job and all that its request is made of."""

    task: SendTask
    token: str
    original: Image
    references: Sequence[Image]

    @cached_property
    def definition(self) -> Definition:
        """The workflow version's; InvalidWorkflow when this release cannot read it any more."""
        return definition_of(self.task.definition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """The next picture in line, not claimed: first its copies for fal are made, and its photo held.

    `crashes` of workers that did so before; then it is claimed without, so that it bears the blame.
    """

    job_id: UUID
    definition: Definition
    original: Image
    references: Sequence[Image]
    fence: int
    crashes: int


# --- sending


def claim_send(
    conn: Connection[Any],
    settings: Settings,
    *,
    has_copies: Callable[[Sending], bool] = lambda _sending: True,
    now: datetime | None = None,
) -> Sending | Copying | None:
    """Take the fairest pending job and record the intent to send it; None when none may go.

    Where copies for fal are not there yet, its photo is held instead, and the job goes on waiting.
    """
    while True:
        with conn.transaction() as claim:
            sending = _claim(conn, settings, now=now)
            if sending is None or has_copies(sending):
                return sending and _intend(conn, sending)
            raise Rollback(claim)
        photo = sending.original
        lease = images.lease_ready(conn, image_id=photo.id, lease_seconds=LEASE_SECONDS, now=now)
        if lease is not None:
            return Copying(
                job_id=sending.task.id,
                definition=sending.definition,
                original=photo,
                references=sending.references,
                fence=lease.fence,
                crashes=lease.crashes,
            )
        # Another worker was first, so the next in line has another photo.


def claim_copied(conn: Connection[Any], settings: Settings, copying: Copying) -> Sending | None:
    """Let the photo go and take its job, if that may still go; None where it may not."""
    with conn.transaction():
        if images.end_lease(conn, image_id=copying.original.id, fence=copying.fence):
            sending = _claim(conn, settings, job_id=copying.job_id)
            return sending and _intend(conn, sending)
    return None


def _claim(
    conn: Connection[Any],
    settings: Settings,
    *,
    job_id: UUID | None = None,
    now: datetime | None = None,
) -> Sending | None:
    jobs.lock_queue(conn)
    task = jobs.claim_send(
        conn,
        lease_seconds=LEASE_SECONDS,
        max_in_flight=settings.max_in_flight,
        max_per_user=settings.max_in_flight_per_user,
        job_id=job_id,
        now=now,
    )
    if task is None:
        return None
    original = images.find(conn, image_id=task.original_image_id, user_id=task.user_id)
    if original is None:  # pragma: no cover - a foreign key forbids it
        raise LookupError(f"job {task.id} names a photo that is gone")
    return Sending(
        task=task,
        token=secrets.token_hex(16),
        original=original,
        references=images.find_references(conn, batch_id=task.batch_id),
    )


def _intend(conn: Connection[Any], sending: Sending) -> Sending:
    """Write the submission before anything of it leaves."""
    task = sending.task
    submissions.create(
        conn,
        job_id=task.id,
        user_id=task.user_id,
        user_email=task.email,
        workflow_version_id=task.workflow_version_id,
        # A stored version may be broken; it fails its job later, and nobody else's.
        endpoint=str(task.definition.get("fal_endpoint", "")),
        token=sending.token,
    )
    return sending


def begin_send(
    conn: Connection[Any], sending: Sending, *, urls: Sequence[str]
) -> Mapping[str, Any] | None:
    """Make the request for inputs at `urls` (photo first), and commit it before its first byte.

    None, and nothing may be sent, when the job was cancelled meanwhile (it ends here, free), when
    the breaker has opened (it waits again), or when it belongs to another worker.

    Raises:
        InvalidWorkflow: the request cannot be made of them.
    """
    task = sending.task
    arguments = forms.render_request(
        sending.definition.request_template,
        parameters=task.parameters,
        image_urls=urls[:1],
        references=urls[1:],
    )
    price = forms.estimate(
        sending.definition,
        parameters=task.parameters,
        width=sending.original.width,
        height=sending.original.height,
    )
    with conn.transaction():
        if jobs.lock_sendable(
            conn, job_id=task.id, fence=task.fence, lease_seconds=LEASE_SECONDS
        ) and submissions.mark_sent(conn, token=sending.token, arguments=arguments, estimate=price):
            return arguments
        if jobs.cancel_sending(conn, job_id=task.id, fence=task.fence) or jobs.return_to_pending(
            conn, job_id=task.id, fence=task.fence, crashes=task.crashes, delay_seconds=0
        ):
            submissions.abandon(conn, token=sending.token, detail="held back before it was sent")
    return None


def accept(conn: Connection[Any], *, job_id: UUID, token: str, accepted: Accepted) -> bool:
    """Save fal's answer. Keyed by the token: also when the lease is gone or the answer is late.

    False when the job does not run on with it. What was given up meanwhile is looked for under its
    id, and so is what counted as never accepted: no picture of it is lost.
    """
    with _one_owner(conn, token=token, request_id=accepted.request_id):
        if submissions.accept(conn, token=token, **asdict(accepted)):
            jobs.accept(conn, job_id=job_id, fal_job_id=accepted.request_id, delay_seconds=1)
            return True
        if submissions.find_late_request(conn, token=token, **asdict(accepted)):
            return False
        if submissions.revive(conn, token=token, **asdict(accepted)):
            log.error("fal ran request %s, which counted as never accepted", accepted.request_id)
            return False
    known = webhooks.find_submission(conn, token=token, request_id=accepted.request_id)
    if known is not None and known.request_id not in {None, accepted.request_id}:
        log.error(
            "fal answers request %s, but the submission is request %s: ignored",
            accepted.request_id,
            known.request_id,
        )
    return False


def find_late(conn: Connection[Any], *, token: str, accepted: Accepted) -> None:
    """Save under which id fal runs what was given up."""
    with _one_owner(conn, token=token, request_id=accepted.request_id):
        submissions.find_late_request(conn, token=token, **asdict(accepted))


@contextmanager
def _one_owner(conn: Connection[Any], *, token: str, request_id: str) -> Iterator[None]:
    """A transaction that gives a submission fal's id; one that is another's is left there."""
    try:
        with conn.transaction():
            yield
    except UniqueViolation as error:
        if error.diag.constraint_name != "submissions_request_key":
            raise
        log.error(  # noqa: TRY400 - nothing of ours broke
            "request %s is another submission's, so not that of %s: ignored", request_id, token
        )


def give_back(
    conn: Connection[Any],
    *,
    task: SendTask,
    token: str,
    error: FalError,
    delay_seconds: float,
    attention: str | None = None,
) -> None:
    """The request provably was not accepted: close its submission and let the job wait again.

    Keyed by the token, as every answer: also when the job counts as `unknown` meanwhile.
    """
    with conn.transaction():
        if _close(conn, token=token, error=error):
            jobs.return_to_pending(
                conn,
                job_id=task.id,
                fence=None,
                crashes=0,
                delay_seconds=delay_seconds,
                attention=attention,
            )


def _close(conn: Connection[Any], *, token: str, error: FalError) -> bool:
    """End a submission that cost nothing; False when it has ended, or was accepted."""
    return bool(
        submissions.abandon(conn, token=token, detail=error.detail)
        or submissions.reject(
            conn,
            token=token,
            http_status=error.http_status,
            error_type=error.error_type,
            detail=error.detail,
        )
    )


def refuse(
    conn: Connection[Any],
    *,
    task: SendTask,
    token: str,
    error: FalError,
    explanation: Explanation | None = None,
) -> None:
    """Not accepted and never will be: failed, and cost nothing. Keyed by the token."""
    why = explanation or explain(error, at_submit=True)
    with conn.transaction():
        if _close(conn, token=token, error=error):
            jobs.fail(
                conn,
                job_id=task.id,
                fence=None,
                error_code=why.code,
                error_message=why.sentence,
            )


def stumble(conn: Connection[Any], *, task: SendTask, token: str, detail: str) -> None:
    """Something unforeseen happened before the POST: wait, or after three times in a row fail.

    After the POST nothing is changed here: the lease's end decides.
    """
    with conn.transaction():
        if submissions.abandon(conn, token=token, detail=detail):
            _count_crash(conn, job_id=task.id, fence=task.fence, crashes=task.crashes)


def lose_answer(conn: Connection[Any], *, task: SendTask, token: str, error: FalUnclear) -> None:
    """Sent, and no clear answer: never sent again by itself, looked for instead."""
    with conn.transaction():
        if submissions.lose_answer(
            conn, token=token, http_status=error.http_status, detail=error.detail, sending=True
        ):
            jobs.lose_answer(
                conn, job_id=task.id, fence=task.fence, attention=LOST, delay_seconds=2
            )


def recover_expired(conn: Connection[Any], *, now: datetime | None = None) -> int:
    """Take over from workers that vanished while sending; how many jobs were moved.

    Before `sent` nothing can have cost money: the job waits again, or fails after three crashes in
    a row. From `sent` on only fal knows, so the job becomes `unknown`.
    """
    with conn.transaction():
        expired = jobs.claim_expired(conn, lease_seconds=LEASE_SECONDS, now=now)
        for task in expired:
            if task.state == SubmissionState.SENT and task.token is not None:
                submissions.lose_answer(
                    conn, token=task.token, http_status=None, detail="the worker vanished"
                )
                jobs.lose_answer(
                    conn, job_id=task.id, fence=task.fence, attention=LOST, delay_seconds=0
                )
                continue
            if task.token is not None:
                submissions.abandon(conn, token=task.token, detail="the worker vanished")
            _count_crash(conn, job_id=task.id, fence=task.fence, crashes=task.crashes)
    return len(expired)


def _count_crash(conn: Connection[Any], *, job_id: UUID, fence: int, crashes: int) -> None:
    """Wait again, or after the third crash in a row fail; a wish to cancel comes before both."""
    if jobs.cancel_sending(conn, job_id=job_id, fence=fence):
        return
    if crashes + 1 >= MOST_CRASHES:
        poison = of_code("poison")
        jobs.fail(
            conn,
            job_id=job_id,
            fence=fence,
            error_code=poison.code,
            error_message=poison.sentence,
        )
    else:
        jobs.return_to_pending(
            conn,
            job_id=job_id,
            fence=fence,
            crashes=crashes + 1,
            delay_seconds=2 ** (crashes + 1),
        )


# --- at fal


def poll_delay(*, in_flight: int, queue_position: int | None) -> float:
    """Seconds until the next look: 50 a second in all; at most 10 s, behind the queue's head 30.

    A tenth of a second for each place in line, too: what is far behind cannot be the next to end,
    and no workflow makes ten pictures a second.
    """
    places = queue_position or 0
    most = 30.0 if places else 10.0
    wanted = max(1.0, in_flight / 50, places / 10)
    return min(most, wanted) * random.uniform(0.9, 1.1)  # noqa: S311


def back_off(crashes: int) -> float:
    """Seconds to wait after the n-th trouble in a row, with jitter, at most five minutes."""
    return min(300.0, 2.0 ** min(crashes + 1, 9)) * random.uniform(0.75, 1.25)  # noqa: S311


def begin_storing(
    conn: Connection[Any], *, task: FalTask, urls: Sequence[str], cost: Decimal | None
) -> bool:
    """Fal has made it: keep where the pictures are, and what it cost, before they are fetched."""
    with conn.transaction():
        if not jobs.begin_storing(conn, job_id=task.id, fence=task.fence):
            return False
        submissions.save_outputs(conn, token=task.token, output_urls=urls, cost=cost)
    return True


def fail(
    conn: Connection[Any],
    *,
    task: FalTask,
    error: FalError,
    explanation: Explanation | None = None,
    charged: str | None = None,
    outcome: str = "error",
) -> None:
    """No picture will come of it: settle the submission, fail the job.

    Outcome `expired` may be wrong: such a picture is looked for one more day.
    """
    why = explanation or explain(error)
    with conn.transaction():
        if jobs.fail(
            conn,
            job_id=task.id,
            fence=task.fence,
            error_code=why.code,
            error_message=why.sentence,
        ):
            submissions.settle(
                conn,
                token=task.token,
                outcome=outcome,
                charged=charged or why.charged,
                http_status=error.http_status,
                error_type=error.error_type,
                detail=error.detail,
                look=outcome == "expired" and (charged or why.charged) == "unknown",
            )


def confirm_cancelled(conn: Connection[Any], *, task: FalTask, detail: str) -> None:
    """Fal stopped before a picture was made.

    Whether a machine had begun, and so whether it was charged, nobody tells: it may have begun
    since our last look.
    """
    with conn.transaction():
        if jobs.cancel_at_fal(conn, job_id=task.id, fence=task.fence):
            submissions.settle(
                conn, token=task.token, outcome="cancelled", charged="unknown", detail=detail
            )


def lose_accepted(conn: Connection[Any], *, task: FalTask, error: FalError) -> None:
    """Fal no longer knows an id that it gave us: look in its list instead."""
    with conn.transaction():
        if jobs.lose_answer(
            conn, job_id=task.id, fence=task.fence, attention=LOST, delay_seconds=30
        ):
            submissions.lose_answer(
                conn, token=task.token, http_status=error.http_status, detail=error.detail
            )


def prove_absent(conn: Connection[Any], *, task: FalTask) -> None:
    """The request never arrived, as the caller has proven: it was free, and the job waits again."""
    with conn.transaction() as transaction:
        if not (
            jobs.return_to_pending(
                conn, job_id=task.id, fence=task.fence, crashes=0, delay_seconds=0
            )
            and submissions.prove_absent(
                conn, token=task.token, detail="proven absent from fal's list"
            )
        ):
            raise Rollback(transaction)


def complete(
    conn: Connection[Any],
    *,
    task: FalTask,
    result: Mapping[str, Any],
    processing_time_ms: int,
) -> bool:
    """Record the stored picture, finish the job and settle its submission; False: not ours.

    `result` holds the columns of queries.images.create_result.
    """
    with conn.transaction():
        # Takes the row's lock, so that nobody can claim the job before this commits.
        if not jobs.renew_lease(
            conn, job_id=task.id, fence=task.fence, lease_seconds=LEASE_SECONDS
        ):
            return False
        images.create_result(conn, **result)
        jobs.complete(
            conn,
            job_id=task.id,
            fence=task.fence,
            result_image_id=result["image_id"],
            processing_time_ms=processing_time_ms,
        )
        submissions.settle(conn, token=task.token, outcome="picture", charged="yes")
    return True


# --- late pictures


def take_late(
    conn: Connection[Any], *, task: LateTask, urls: Sequence[str], cost: Decimal | None
) -> str:
    """A picture of a request that was given up: "reopened", or "further" when a newer one is there.

    Reopened means: its job is `storing`, and the picture is collected like any other. A further
    one is for the caller to store (add_further). "gone": nobody wants it any more.
    """
    if task.job_id is None or task.user_id is None or task.request_id is None:
        submissions.stop_looking(conn, token=task.token)
        return "gone"
    with conn.transaction() as transaction:
        if submissions.reopen(conn, token=task.token, output_urls=urls, cost=cost) and jobs.reopen(
            conn, job_id=task.job_id, fal_job_id=task.request_id
        ):
            return "reopened"
        # Also when the job waits to be sent again: nothing newer lives yet, but it is wanted.
        raise Rollback(transaction)
    return "further"


def withhold_late(conn: Connection[Any], *, task: LateTask, cost: Decimal | None) -> None:
    """It was made late, and the safety filter holds it back: charged, as it is in time."""
    why = of_code("safety")
    with conn.transaction():
        submissions.settle_late(conn, token=task.token, outcome="error", cost=cost)
        if task.job_id is not None:
            jobs.explain_withheld(
                conn,
                job_id=task.job_id,
                token=task.token,
                error_code=why.code,
                error_message=why.sentence,
            )


def add_further(
    conn: Connection[Any],
    *,
    task: LateTask,
    job_id: UUID,
    cost: Decimal | None,
    result: Mapping[str, Any],
) -> None:
    """Record a stored picture beside the result; `result` as in complete()."""
    with conn.transaction():
        images.create_result(conn, **result)
        images.add_further_output(
            conn, image_id=result["image_id"], job_id=job_id, submission_id=task.id
        )
        submissions.settle_late(conn, token=task.token, outcome="picture", cost=cost)


# --- what users and operators do


def get_card(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> JobCard:
    """The user's own picture; NotFound otherwise, InTrash where it can come back."""
    card = jobs.find_card(conn, job_id=job_id, user_id=user_id)
    if card is None:
        raise trash.missing(conn, user_id=user_id, job_id=job_id)
    return card


def get(conn: Connection[Any], *, job_id: UUID) -> Job:
    """Any job, for operators; NotFound with a sentence."""
    job = jobs.find(conn, job_id=job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def cancel(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> str:
    """Cancel one picture: "cancelled" (free) or "asked" (it may still finish and be charged)."""
    with conn.transaction():
        if jobs.cancel_waiting(conn, user_id=user_id, job_id=job_id):
            _record(conn, "job.cancelled", job_id)
            return "cancelled"
        if not jobs.ask_cancel(conn, job_id=job_id, user_id=user_id):
            raise Refused("This picture cannot be cancelled any more: it is finished.")
        images.notify_work(conn)
        _record(conn, "job.cancelled", job_id, detail="asked at fal")
    return "asked"


def retry(conn: Connection[Any], settings: Settings, *, job_id: UUID, user_id: UUID) -> None:
    """Start a failed or cancelled picture again with the same settings; Refused in other states."""
    with conn.transaction():
        limits.check(conn, settings, user_id=user_id, pictures=1)
        if not jobs.retry(
            conn,
            user_id=user_id,
            job_id=job_id,
            statuses=[JobStatus.FAILED, JobStatus.CANCELLED],
        ):
            raise Refused(
                "Only a picture that failed or was cancelled can be run again, and only if its "
                "photo could be read. Nothing was sent."
            )
        images.notify_work(conn)
        _record(conn, "job.retried", job_id)


def look_again(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> None:
    """Have the worker search for a lost answer at once; Refused when none is lost."""
    with conn.transaction():
        if not jobs.hurry(conn, job_id=job_id, user_id=user_id):
            raise Refused("There is nothing to look for: the answer of this picture is known.")
        images.notify_work(conn)
        _record(conn, "job.searched", job_id)


def send_again(conn: Connection[Any], settings: Settings, *, job_id: UUID, user_id: UUID) -> None:
    """A person takes the risk of a second charge. The first picture, if it comes, is kept too."""
    with conn.transaction():
        limits.check(conn, settings, user_id=user_id, pictures=1)
        if not jobs.give_up_unknown(conn, job_id=job_id, user_id=user_id, status=JobStatus.PENDING):
            raise Refused("The answer of this picture has come meanwhile. Nothing was sent again.")
        submissions.settle_live(conn, job_id=job_id, detail="sent again by a person")
        images.notify_work(conn)
        _record(conn, "job.sent_again", job_id)


def give_up(conn: Connection[Any], *, job_id: UUID, user_id: UUID) -> None:
    """A person stops waiting for a lost answer. If the picture still comes, it is kept."""
    why = of_code("given_up")
    with conn.transaction():
        if not jobs.give_up_unknown(
            conn,
            job_id=job_id,
            user_id=user_id,
            status=JobStatus.FAILED,
            error_code=why.code,
            error_message=why.sentence,
        ):
            raise Refused("The answer of this picture has come meanwhile.")
        submissions.settle_live(conn, job_id=job_id, detail="given up by a person")
        _record(conn, "job.given_up", job_id)


def _record(conn: Connection[Any], action: str, job_id: UUID, *, detail: str = "") -> None:
    audit.record(conn, action, target=f"job {job_id}", detail=detail)


def judge(
    conn: Connection[Any],
    *,
    job_id: UUID,
    user_id: UUID,
    verdict: str,
    reason: str = "",
    note: str = "",
) -> None:
    """Approve or reject a picture, or take that back ("none"); a reason goes with a rejection.

    InvalidFields names what is no verdict, no reason or too long; Refused without a picture.
    """
    note = note.replace("\r\n", "\n").strip()
    wrong = {}
    if verdict not in {*Verdict, "none"}:
        wrong["verdict"] = "Approve the picture, reject it, or take your verdict back."
    if reason and (verdict != Verdict.REJECTED or reason not in set(Reason)):
        wrong["reason"] = "Choose one of the reasons, for a picture that you reject."
    if len(note) > LONGEST_NOTE:
        wrong["note"] = f"Write {LONGEST_NOTE:,} characters at most."
    if wrong:
        raise InvalidFields(wrong)
    judged = jobs.judge(
        conn,
        job_id=job_id,
        user_id=user_id,
        verdict=None if verdict == "none" else verdict,
        reason=reason or None,
        note="" if verdict == "none" else note,
    )
    if not judged:
        raise Refused("There is no picture to judge yet.")
