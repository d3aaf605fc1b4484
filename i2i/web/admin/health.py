"""Whether everything works, trouble first. `flask jobs stats` asks the same in a terminal."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from psycopg import Connection

from i2i import __version__, db
from i2i.errors import StorageError, plural
from i2i.explanations import without_inputs
from i2i.gateways.storage import space
from i2i.models import (
    AttentionCount,
    Backup,
    Breaker,
    FailedRequest,
    JobStatus,
    QueueCount,
    WorkerRow,
)
from i2i.queries import health as queries
from i2i.queries import submissions
from i2i.services import health as service
from i2i.services.health import Health
from i2i.web.admin import bp
from i2i.web.database import connection
from i2i.web.errors import wants_json
from i2i.web.state import settings
from i2i.web.words import clock, day, gigabytes, seconds

FAILURES = 10

TONES = ("trouble", "warning", "fine")
"""How bad it is, the worst first: something stands still, somebody should look, it works."""

FULL, SCARCE = 0.01, 0.1
"""Parts of a disk that are left when uploads may fail, and when somebody should make room."""

UNFINISHED = {
    JobStatus.HELD: "Held",
    JobStatus.PENDING: "Waiting",
    JobStatus.SUBMITTING: "Sending",
    JobStatus.PROCESSING: "At the provider",
    JobStatus.STORING: "Saving",
    JobStatus.UNKNOWN: "Answer lost",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of the page: `tone` is one of TONES, `link` a page that tells more, or None."""

    tone: str
    word: str
    fact: str
    link: tuple[str, str] | None = None


@bp.get("/health")
def health() -> ResponseReturnValue:
    """What an operator at night wants to know."""
    conn = connection()
    standing = service.read(conn)
    failures = submissions.list_failures(conn, page_size=FAILURES)
    facts = sorted(gather(conn, standing), key=lambda each: TONES.index(each.tone))
    if wants_json():
        return jsonify(
            status=facts[0].tone,
            facts=[{"tone": each.tone, "word": each.word, "fact": each.fact} for each in facts],
            queue={each.status: {"jobs": each.count, **_oldest(each)} for each in standing.queue},
            workers=[asdict(each) for each in standing.workers],
            failures=[describe_failure(each) for each in failures],
        )
    waiting = {each.status: each for each in standing.queue}
    return render_template(
        "admin/health.html",
        facts=facts,
        summary=summarise(facts),
        queue=[(word, waiting.get(status)) for status, word in UNFINISHED.items()],
        failures=[describe_failure(each) for each in failures],
        release=__version__,
    )


def _oldest(each: QueueCount) -> dict[str, float]:
    """For what has ended, the age of the oldest says nothing."""
    unfinished = each.status in set(UNFINISHED)
    return {"oldest_seconds": round(each.oldest_seconds, 1)} if unfinished else {}


def summarise(facts: Iterable[Fact]) -> str:
    """The sentence under the title."""
    tones = [each.tone for each in facts]
    parts = [
        plural(tones.count("trouble"), "trouble") if "trouble" in tones else "",
        plural(tones.count("warning"), "warning") if "warning" in tones else "",
    ]
    found = " and ".join(part for part in parts if part)
    return f"{found}, listed first." if found else "Everything works."


def describe_failure(row: FailedRequest) -> dict[str, Any]:
    """A failed request without what its user wrote."""
    return {
        "failed_at": row.failed_at,
        "user": row.user_email,
        "workflow": row.workflow_name,
        "error_type": row.error_type,
        "http_status": row.http_status,
        "words": without_inputs(row.detail or "", arguments=row.arguments),
        "charged": row.charged,
    }


def gather(conn: Connection[Any], standing: Health) -> Iterator[Fact]:
    """All facts, in the order in which things depend on each other."""
    yield from _of_database(conn)
    yield from _of_workers(standing.workers)
    yield _of_fal(standing.living)
    yield _of_breaker(standing.breaker)
    yield _of_queue(standing)
    yield _of_today(standing.counted_today)
    yield from _of_attention(standing.attention)
    yield from _of_disks()
    yield _of_backup(standing.backup)
    yield from _of_proxies()


def _of_database(conn: Connection[Any]) -> Iterator[Fact]:
    begin = time.perf_counter()
    queries.ping(conn)
    latency = (time.perf_counter() - begin) * 1000
    facts = queries.describe_database(conn)
    yield Fact(
        tone="fine",
        word="Database",
        fact=f"PostgreSQL {facts.version.partition(' ')[0]} · answers in {latency:.1f} ms · "
        f"{gigabytes(facts.size)}",
    )
    pending = db.pending_migrations(conn)
    yield Fact(
        tone="trouble" if pending else "fine",
        word="Schema",
        fact=f"{', '.join(pending)} missing: run flask db migrate" if pending else "up to date",
    )


def _of_workers(rows: list[WorkerRow]) -> Iterator[Fact]:
    if not any(service.lives(each) for each in rows):
        yield Fact(tone="trouble", word="Worker", fact="No worker is running: pictures wait")
    for row in rows:
        seen = f"seen {seconds(row.silent_seconds)} ago"
        word = f"Worker on {row.host}"
        if not service.lives(row):
            gone = "it was killed or hangs; forgotten after a day"
            yield Fact(tone="warning", word=word, fact=f"{seen} · {gone}")
        elif row.release != __version__:
            other = f"runs release {row.release}, these pages {__version__}"
            yield Fact(tone="warning", word=word, fact=f"{seen} · {other}")
        else:
            yield Fact(tone="fine", word=word, fact=f"{seen} · process {row.process_id}")


def _of_fal(living: list[WorkerRow]) -> Fact:
    """Whether fal can be reached, as the workers see it: these pages never ask it."""
    troubles = sorted({each.trouble for each in living if each.trouble})
    if not living:
        return Fact(tone="warning", word="fal", fact="not known: no worker asks")
    if troubles:
        some = "" if all(each.trouble for each in living) else "for some workers "
        return Fact(tone="trouble", word="fal", fact=f"{some}{'; '.join(troubles)}")
    practice = "the practice server stands in for it" if settings().practice else "answers"
    return Fact(tone="fine", word="fal", fact=practice)


def _of_breaker(row: Breaker) -> Fact:
    if row.opened_at is None or row.checked_at is None or row.next_check_at is None:
        return Fact(tone="fine", word="Sending", fact="not paused")
    why = {"balance": "no balance left, or locked", "key": "the key is not taken"}
    return Fact(
        tone="trouble",
        word="Sending",
        fact=f"paused since {day(row.opened_at)}: {why[row.reason or 'key']} · "
        f"{plural(row.waiting, 'picture')} waiting · last checked {clock(row.checked_at)}, "
        f"again at {clock(row.next_check_at)}",
    )


def _of_queue(standing: Health) -> Fact:
    flying = f"{standing.in_flight} of {settings().max_in_flight} in flight"
    for each in standing.queue:
        if each.status == JobStatus.PENDING:
            waiting = f"{plural(each.count, 'picture')} waiting, the oldest for"
            return Fact(
                tone="fine",
                word="Queue",
                fact=f"{waiting} {seconds(each.oldest_seconds)} · {flying}",
            )
    return Fact(tone="fine", word="Queue", fact=f"nothing waiting · {flying}")


def _of_today(count: int) -> Fact:
    most = settings().daily_pictures
    return Fact(
        tone="warning" if count >= most else "fine",
        word="Today",
        fact=f"{count:,} of {most:,} pictures sent or asked for (UTC)",
        link=("Usage", url_for("admin.usage")),
    )


def _of_attention(rows: list[AttentionCount]) -> Iterator[Fact]:
    for row in rows:
        yield Fact(
            tone="warning",
            word="Needs a look",
            fact=f"{plural(row.count, 'job')} · {row.reason or UNFINISHED[JobStatus(row.status)]}",
            link=("Look", url_for("admin.jobs", show="open")),
        )


def _of_disks() -> Iterator[Fact]:
    """DATA_DIR holds what is on its way; the blob store may lie on a disk of its own."""
    places = {"Disk of DATA_DIR": settings().data_dir}
    if settings().blob_url.startswith("file://"):
        places["Disk of the pictures"] = Path(settings().blob_url.removeprefix("file://"))
    seen = set()
    for word, folder in places.items():
        try:
            disk = space(folder)
        except StorageError as error:
            yield Fact(tone="trouble", word=word, fact=str(error))
            continue
        if disk.device not in seen:
            seen.add(disk.device)
            room = f"{gigabytes(disk.free)} free of {gigabytes(disk.total)}"
            yield Fact(tone=tone_of_disk(disk.free, disk.total), word=word, fact=room)


def _of_backup(row: Backup | None) -> Fact:
    """How much would be lost: the age of the newest backup that was found whole."""
    if row is None:
        tone = "fine" if settings().practice else "warning"
        return Fact(tone=tone, word="Backup", fact="none was ever verified")
    old = row.age_seconds > service.OLD_BACKUP_SECONDS
    return Fact(
        tone="warning" if old else "fine",
        word="Backup",
        fact=f"{seconds(row.age_seconds)} old, found whole {day(row.verified_at)} · "
        f"{plural(row.images, 'image')}, {row.checked:,} of them read",
    )


def tone_of_disk(free: int, total: int) -> str:
    """How bad it is that so many bytes are left."""
    part = free / total if total else 0.0
    return "trouble" if part < FULL else "warning" if part < SCARCE else "fine"


def _of_proxies() -> Iterator[Fact]:
    """Whether as many proxies stand before us as are trusted: each adds a hop."""
    trusted = settings().trusted_proxies
    header = request.headers.get("X-Forwarded-For", "")
    hops = len([each for each in header.split(",") if each.strip()])
    if hops == trusted:
        return
    shared = "everybody shares the proxy's address when tries at signing in are counted"
    if not trusted:
        why = f"{shared}. Set it to the number of proxies"
    elif hops > trusted:
        why = (
            "either more proxies stand here, and the number is too small, or the first of them "
            "passes on what clients say of themselves instead of replacing it"
        )
    else:
        why = f"the header is not believed, and {shared}; or you came past the proxy"
    came = f"{plural(hops, 'hop')} in X-Forwarded-For, and TRUSTED_PROXIES is {trusted}"
    yield Fact(tone="warning", word="Proxy", fact=f"{came}: {why}")
