"""What must hold after any crash, fault and race: I1 to I8 of the fault table, as one list of sentences.

Three witnesses are compared: the database, the folder of pictures, and the practice server's ledger,
which stands for what fal would have charged.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

import psycopg
from psycopg.rows import namedtuple_row

JOBS = """
SELECT job.id, job.status, job.attention, job.lease_until, job.result_image_id, job.lease_until > now() AS held,
       coalesce((SELECT count(*) FROM submissions AS live WHERE live.job_id = job.id
                 AND live.state IN ('intent', 'sent', 'accepted', 'unknown')), 0) AS live,
       (SELECT array_agg(live.state) FROM submissions AS live WHERE live.job_id = job.id
        AND live.state IN ('intent', 'sent', 'accepted', 'unknown')) AS live_states
FROM processing_jobs AS job
ORDER BY job.id
"""

SUBMISSIONS = """
SELECT id, job_id, token, state, request_id, outcome, charged, look_until
FROM submissions ORDER BY created_at
"""

FILES = (
    "SELECT id, user_id, blob_url, sha256, file_size, status, has_preview, is_processed FROM images"
)

ILLEGAL = """
SELECT job_id, coalesce(from_status, 'nothing') AS before, to_status AS after
FROM job_events WHERE NOT is_legal_transition(from_status, to_status)
"""

STORIES = """
SELECT job.id, job.status, event.from_status, event.to_status,
       lag(event.to_status) OVER story AS previous,
       row_number() OVER (PARTITION BY job.id ORDER BY event.id DESC) AS from_end
FROM processing_jobs AS job LEFT JOIN job_events AS event ON event.job_id = job.id
WINDOW story AS (PARTITION BY job.id ORDER BY event.id)
"""

AT_REST = {"completed", "failed", "cancelled", "unknown"}

LIVE_STATES = {
    "held": set(),
    "pending": set(),
    "submitting": {"intent", "sent"},
    "processing": {"accepted"},
    "storing": {"accepted"},
    "unknown": {"unknown"},
    "completed": set(),
    "failed": set(),
    "cancelled": set(),
}
"""Which state the live submission of a job must have; where there is none, none may be live."""


def violations(database, *, blobs, requests, at_rest=True, resends=None):
    """Sentences about what does not hold; an empty list is the proof.

    Args:
        database: URL.
        blobs: the root of the folder store; None leaves the disk out.
        requests: `requests` of the practice ledger.
        at_rest: all work is done; False between two steps.
        resends: job id to how often a person ran it again, each of which may cost once more.
    """
    with psycopg.connect(database, autocommit=True, row_factory=namedtuple_row) as conn:
        jobs = conn.execute(JOBS).fetchall()
        submissions = conn.execute(SUBMISSIONS).fetchall()
        found = [
            *_leases(jobs, at_rest=at_rest),
            *_live(jobs),
            *_money(submissions, requests, resends=resends or {}),
            *_stories(conn),
            *_results(conn, jobs),
        ]
        if blobs is not None:
            found += _disk(conn.execute(FILES).fetchall(), blobs=Path(blobs), at_rest=at_rest)
    return found


def _leases(jobs, *, at_rest):
    """I1: nobody is stuck. At rest no job is on its way, and none is held by anybody."""
    for job in jobs:
        if at_rest and job.status not in AT_REST and not job.attention:
            yield f"I1 job {job.id} rests in {job.status} and nobody is told"
        if at_rest and job.lease_until is not None:
            yield f"I1 job {job.id} ({job.status}) is still leased until {job.lease_until}"
        if (
            job.status in {"held", "pending", "completed", "failed", "cancelled"}
            and job.lease_until
        ):
            yield f"I1 job {job.id} is {job.status} and leased"
        if job.status == "unknown" and not job.attention:
            yield f"I1 job {job.id} is unknown and nobody is told"


def _live(jobs):
    """I2: at most one request that may cost money, and it says the same as its job."""
    for job in jobs:
        states = set(job.live_states or ())
        if job.live > 1:
            yield f"I2 job {job.id} has {job.live} live submissions"
        if not states <= LIVE_STATES[job.status] or (LIVE_STATES[job.status] and not states):
            yield f"I2 job {job.id} is {job.status}, its live submissions are {sorted(states)}"


def token_of(request):
    """The token that the names of a request's inputs carry."""
    found = re.match(r"[0-9a-f]{32}", request["input_file"] or "")
    return found and found.group()


def _money(submissions, requests, *, resends):
    """I3, I4, I5: what fal knows and what we know of money agree, and no click costs twice."""
    by_token = {each.token: each for each in submissions}
    at_fal = {token_of(request): request for request in requests}
    known = {request["request_id"]: token_of(request) for request in requests}
    for each in submissions:
        if each.request_id is not None and known.get(each.request_id) != each.token:
            yield f"I3 submission {each.token} names request {each.request_id}, which is not its own"
        if each.token in at_fal and each.state in {"intent", "rejected", "abandoned"}:
            yield f"I4 submission {each.token} counts as free ({each.state}), and fal has run it"
        if each.charged == "yes" and each.token not in at_fal:
            yield f"I4 submission {each.token} counts as charged, and fal has never seen it"
        if (
            each.charged == "no"
            and each.outcome != "error"
            and at_fal.get(each.token, {}).get("charged")
        ):
            yield f"I4 submission {each.token} counts as not charged, and fal has charged it"
    posts = Counter(token_of(request) for request in requests)
    charged = Counter()
    for request in requests:
        submission = by_token.get(token_of(request))
        if submission is None:
            yield f"I5 fal has run {request['request_id']}, which the ledger does not know"
        elif request["charged"] and submission.job_id is not None:
            charged[submission.job_id] += 1
    yield from (f"I4 token {token} was posted {n} times" for token, n in posts.items() if n > 1)
    for job_id, times in charged.items():
        if times > 1 + resends.get(job_id, 0):
            yield f"I4 job {job_id} was charged {times} times"


def _results(conn, jobs):
    """I6, the rows: a completed job has its picture, and only a completed one has one."""
    for job in jobs:
        if (job.status == "completed") != (job.result_image_id is not None):
            yield f"I6 job {job.id} is {job.status} with result {job.result_image_id}"
    lost = conn.execute(
        "SELECT token FROM submissions AS paid WHERE outcome = 'picture' AND job_id IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM processing_jobs WHERE id = paid.job_id AND status = 'completed')"
        " AND NOT EXISTS (SELECT FROM further_outputs WHERE submission_id = paid.id)"
    )
    yield from (f"I6 the picture of submission {row.token} is nowhere" for row in lost)
    # A picture that fal has made and that we gave up is looked for, or its end is on record.
    stray = conn.execute(
        "SELECT id FROM images WHERE is_processed AND NOT EXISTS"
        " (SELECT FROM processing_jobs WHERE result_image_id = images.id)"
        " AND NOT EXISTS (SELECT FROM further_outputs WHERE image_id = images.id)"
    )
    yield from (f"I6 picture {row.id} belongs to no job" for row in stray)


def _disk(images, *, blobs, at_rest):
    """I6 and I7, the bytes: every row has exactly its bytes; at rest nothing lies without a row."""
    for image in images:
        path = blobs / image.blob_url
        if not path.is_file():
            yield f"I6 image {image.id} has no file"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != image.sha256:
            yield f"I6 image {image.id} is not the bytes that were recorded"
        if image.is_processed and image.has_preview:
            for name in ("thumb.webp", "preview.webp"):
                if not path.with_name(name).is_file():
                    yield f"I6 image {image.id} misses its {name}"
    if at_rest and (blobs / "users").is_dir():
        owned = {str(image.id) for image in images}
        for path in (blobs / "users").rglob("*"):
            if path.is_file() and path.parent.name not in owned:
                yield f"I7 {path.relative_to(blobs)} belongs to no row"


def _stories(conn):
    """I8: every job's events are legal, follow one another, and end where the job is."""
    for row in conn.execute(ILLEGAL):
        yield f"I8 job {row.job_id} went from {row.before} to {row.after}"
    for row in conn.execute(STORIES):
        if row.to_status is None:
            yield f"I8 job {row.id} has no story"
        elif row.from_status != row.previous:
            yield f"I8 job {row.id}: {row.previous} is followed by a change from {row.from_status}"
        elif row.from_end == 1 and row.to_status != row.status:
            yield f"I8 job {row.id} is {row.status}, its story ends with {row.to_status}"
