"""`flask jobs`: what is in the queue, what it cost, and the operator's buttons.

Shows states, errors and costs, never prompts or pictures: those are the user's.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC
from typing import Any

import click
from psycopg import Connection

from i2i import db
from i2i.cli.console import (
    Group,
    as_json,
    connection,
    database_settings,
    parse_id,
    print_json,
    print_table,
    say,
    settings,
)
from i2i.errors import Refused, plural
from i2i.explanations import without_inputs
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import make_storage
from i2i.logs import configure_logging
from i2i.models import Job, JobStatus, Submission
from i2i.queries import jobs, submissions
from i2i.queries import users as user_queries
from i2i.services import health, users
from i2i.services import jobs as service
from i2i.worker import Worker

group = Group("jobs", help="Pictures in the making, and what they cost.")

PRIVATE = {"parameters", "arguments"}
"""What users wrote; never printed."""


@group.command("list", audited="never")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]))
@click.option("--user", metavar="EMAIL", help="Only this user's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
def list_(status: str | None, user: str | None, limit: int, *, json_: bool) -> None:
    """Show jobs, the newest first."""
    with connection() as conn:
        user_id = users.get(conn, email=user).id if user else None
        found = jobs.list_newest(conn, page_size=limit, status=status, user_id=user_id)
        emails = {each.id: each.email for each in user_queries.list_all(conn)}
    if json_:
        print_json([public(each) | {"email": emails.get(each.user_id)} for each in found])
        return
    print_table(
        ["ID", "STATUS", "USER", "WORKFLOW", "CREATED", "NOTE"],
        [
            (
                each.id,
                each.status,
                emails.get(each.user_id),
                each.workflow_name,
                each.created_at,
                each.attention or each.error_message or "",
            )
            for each in found
        ],
    )


def public(row: Job | Submission) -> dict[str, Any]:
    """A row without what its user wrote."""
    return {name: value for name, value in asdict(row).items() if name not in PRIVATE}


@group.command(audited="never")
@click.argument("job")
@as_json
def show(job: str, *, json_: bool) -> None:
    """Show a job and every request it made."""
    with connection() as conn:
        found = find(conn, job)
        ledger = submissions.list_of_job(conn, job_id=found.id)
        user = user_queries.find(conn, user_id=found.user_id)
    if json_:
        print_json(public(found) | {"submissions": [public(each) for each in ledger]})
        return
    print_table(
        ["JOB", str(found.id)],
        [
            ("Status", found.status),
            ("User", user and user.email),
            ("Workflow", found.workflow_name),
            ("Batch", found.batch_id),
            ("At fal", found.fal_job_id),
            ("Created", found.created_at),
            ("Completed", found.completed_at),
            ("Cancel asked", found.cancel_requested_at),
            ("Attention", found.attention),
            ("Error", found.error_message),
        ],
    )
    for number, submission in enumerate(ledger, start=1):
        say(f"Request {number}: {'; '.join(submission_words(submission))}.")


def find(conn: Connection[Any], text: str) -> Job:
    return service.get(conn, job_id=parse_id(text, noun="job"))


def submission_words(row: Submission) -> Iterator[str]:
    """What became of one request, in the order in which it happened."""
    yield f"{row.workflow_name} version {row.workflow_version} at {row.endpoint}"
    if row.sent_at:
        yield f"sent {row.sent_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    if row.request_id:
        yield f"accepted as {row.request_id}"
    yield {
        "intent": "getting ready, not sent",
        "sent": "waiting for fal's answer",
        "accepted": "fal works on it",
        "unknown": "the answer was lost, it may have been accepted",
        "rejected": "refused by fal before it was accepted",
        "abandoned": "never sent, or proven never to have arrived",
        "settled": {
            "picture": "a picture came",
            "error": "ended without a picture",
            "cancelled": "cancelled at fal",
            "expired": "the picture came too late or was lost",
        }.get(row.outcome or "", "ended"),
    }.get(row.state, row.state)
    if row.detail:
        yield without_inputs(row.detail, arguments=row.arguments).rstrip(".")
    yield money_words(row)


def money_words(row: Submission) -> str:
    if row.charged == "yes":
        amount, about = (row.cost, "") if row.cost is not None else (row.estimate, "about ")
        return "charged" if amount is None else f"charged {about}{amount} {row.currency}"
    free = row.charged == "no" or row.state in {"intent", "rejected", "abandoned"}
    return "not charged" if free else "the charge is not known yet"


@group.command()
@click.argument("job")
def retry(job: str) -> None:
    """Run a failed or cancelled job again with the same settings."""
    with connection() as conn:
        found = find(conn, job)
        service.retry(conn, settings(), job_id=found.id, user_id=found.user_id)
    say("It waits for the worker; a new request will be sent and may be charged.")


@group.command()
@click.argument("job")
def cancel(job: str) -> None:
    """Cancel a job: free while it waits, else fal is asked to stop."""
    with connection() as conn:
        found = find(conn, job)
        how = service.cancel(conn, job_id=found.id, user_id=found.user_id)
    say(
        "Cancelled before it was sent; nothing was charged."
        if how == "cancelled"
        else "fal will be asked to stop; a picture that comes after all is kept and charged."
    )


@group.command()
@click.argument("job")
def recover(job: str) -> None:
    """Search fal's list for a job whose answer was lost, once and now."""
    configure_logging(replace(settings(), log_level="info"))
    if not settings().fal_configured:
        raise Refused("No fal key is set, so fal's list cannot be read. Set FAL_KEY.")
    resolved = database_settings()
    with connection() as conn:
        found = find(conn, job)
        if found.status != JobStatus.UNKNOWN:
            raise Refused(f"This job is {found.status}; only an unknown one is searched for.")
        with db.make_pool(resolved, size=2, application="i2i recover") as pool:
            worker = Worker(
                resolved,
                pool=pool,
                fal=HttpFal(resolved),
                storage=make_storage(resolved.blob_url, data_dir=resolved.data_dir),
            )
            looked = worker.look_now(found)
        after = service.get(conn, job_id=found.id)
    say(outcome_words(after) if looked else "A worker is searching for it at this moment.")


def outcome_words(job: Job) -> str:
    if job.status == JobStatus.UNKNOWN:
        return "Not found so far. The worker keeps looking; nothing is sent again by itself."
    if job.status == JobStatus.PENDING:
        return "It never arrived, so it was free. It waits for the worker and is sent again."
    if job.fal_job_id:
        return f"Found: fal has it as {job.fal_job_id}. The worker fetches the picture."
    return f"It is {job.status} now."


@group.command(audited="never")
@as_json
def stats(*, json_: bool) -> None:
    """Count jobs by state, money of today (UTC), and what stands still; as the page of health."""
    with connection() as conn:
        found = health.read(conn)
    counted = {each.status: each.count for each in found.queue}
    states = {status.value: counted.get(status, 0) for status in JobStatus}
    today, pause = found.today, found.breaker
    if json_:
        print_json(
            {
                "states": states,
                "in_flight": found.in_flight,
                "max_in_flight": settings().max_in_flight,
                "today": today,
                "daily_pictures": settings().daily_pictures,
                "breaker": pause,
                "attention": found.attention,
                "workers": found.workers,
                "backup": found.backup,
            }
        )
        return
    print_table(["STATE", "JOBS"], list(states.items()))
    say(f"In flight: {found.in_flight} of {settings().max_in_flight}")
    say(
        f"Today: {today.pictures} of {settings().daily_pictures} pictures sent, "
        f"${today.charged:.2f} charged, {today.perhaps} not known yet"
    )
    for each in found.attention:
        say(f"Needs a look: {plural(each.count, 'job')} ({each.status}): {each.reason or '-'}")
    for row in found.workers:
        trouble = f": {row.trouble}" if row.trouble else ""
        say(
            f"Worker on {row.host} ({row.process_id}): seen {row.silent_seconds:.0f} s ago{trouble}"
        )
    if not found.living:
        say("No worker is running: pictures wait")
    if found.backup is None:
        say("No backup was ever verified")
    else:
        say(f"Newest verified backup: of {found.backup.taken_at:%Y-%m-%d %H:%M}Z")
    if pause.opened_at is not None:
        say(
            f"Sending is paused since {pause.opened_at:%Y-%m-%d %H:%M}Z "
            f"(the account's {pause.reason}); waiting: {plural(pause.waiting, 'picture')}"
        )
