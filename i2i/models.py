"""Rows as frozen values: one dataclass for each shape that a query returns, and the states' names.

Fields stand in the order of the query's columns; `tests/test_sql.py` checks names, types and nulls.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


class Role(StrEnum):
    """What a user may do."""

    USER = "user"
    ADMIN = "admin"


class ImageStatus(StrEnum):
    """An upload's way: `preparing` until the worker has decoded it."""

    PREPARING = "preparing"
    READY = "ready"
    REJECTED = "rejected"


class JobStatus(StrEnum):
    """The states of docs/job-states.md."""

    HELD = "held"
    PENDING = "pending"
    SUBMITTING = "submitting"
    PROCESSING = "processing"
    STORING = "storing"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """What a person thinks of a picture."""

    APPROVED = "approved"
    REJECTED = "rejected"


class Reason(StrEnum):
    """What is wrong with a picture that was rejected."""

    COLOUR = "colour"
    LOGO = "logo"
    FIT = "fit"
    ANATOMY = "anatomy"
    BACKGROUND = "background"
    OTHER = "other"


class SubmissionState(StrEnum):
    """A submission's way; live are intent, sent, accepted and unknown."""

    INTENT = "intent"
    SENT = "sent"
    ACCEPTED = "accepted"
    SETTLED = "settled"
    REJECTED = "rejected"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One number."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Id:
    """The id of a row that was just written or chosen."""

    id: UUID


# --- users and sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who has an account; who is whitelisted may sign in until the password runs out."""

    id: UUID
    email: str
    password_hash: str
    is_whitelisted: bool
    role: str
    created_at: datetime
    updated_at: datetime
    may_sign_in: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStatistics:
    """What one user has and has used. Bytes; money in US dollars."""

    uploads: int
    pictures: int
    jobs: int
    failed: int
    stored_bytes: int
    charged: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOverview:
    """A user as operators see them. `sessions` are good ones; bytes; money in US dollars."""

    id: UUID
    email: str
    role: str
    is_whitelisted: bool
    password_expires_at: datetime | None
    password_expired: bool
    created_at: datetime
    updated_at: datetime
    sessions: int
    last_seen_at: datetime | None
    uploads: int
    pictures: int
    jobs: int
    failed: int
    stored_bytes: int
    charged: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentUser:
    """The user of a session, or of a script's token, that is still good.

    With `password_expires_at` the password was generated, and another one has to be chosen first.
    `unseen` once a minute, when the time of this use is to be written down.
    """

    session_id: UUID
    id: UUID
    email: str
    role: str
    time_zone: str | None
    review_keys: bool
    password_expires_at: datetime | None
    unseen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token of a script that was just made; without `expires_at` it is good until revoked."""

    id: UUID
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token of a script, as operators see it."""

    id: UUID
    email: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One signed-in browser."""

    id: UUID
    user_id: UUID
    email: str
    user_agent: str
    ip_address: str
    created_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A rate limit's bucket: the instant at which it is full again."""

    full_at: datetime


# --- images


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An upload or a result. Width and height as displayed; null for an undecodable result."""

    id: UUID
    user_id: UUID
    filename: str
    original_filename: str
    blob_url: str
    sha256: str
    file_size: int
    mime_type: str
    width: int | None
    height: int | None
    is_processed: bool
    status: str
    rejection: str | None
    has_preview: bool
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """A file that a job has made, with what it was made: settings, and the workflow's version."""

    job_id: UUID
    parameters: dict[str, Any]
    workflow_version: int
    original_filename: str
    blob_url: str
    sha256: str
    file_size: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTask:
    """An image claimed for decoding; the fence names this claim."""

    id: UUID
    user_id: UUID
    blob_url: str
    original_filename: str
    fence: int
    crashes: int


# --- workflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as it stands now; `definition` is its current version's document.

    `sample_job_id` is None, too, when a picture of the sample was deleted.
    """

    id: str
    is_active: bool
    version: int
    version_id: int
    definition: dict[str, Any]
    seed_digest: str | None
    created_at: datetime
    updated_at: datetime
    sample_job_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOverview:
    """A workflow in the operator's list; `waiting` are held and pending jobs."""

    id: str
    name: str
    is_active: bool
    version: int
    unit_price: Decimal | None
    price_unit: str
    updated_at: datetime
    jobs: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A finished job whose original and result show what its workflow does."""

    id: UUID
    original_image_id: UUID
    result_image_id: UUID
    original_filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """A state that a workflow was saved in."""

    version: int
    definition: dict[str, Any]
    created_at: datetime


# --- batches and jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One click on "Make 24 pictures"."""

    id: UUID
    user_id: UUID
    parent_id: UUID | None
    workflow_name: str
    workflow_version_id: int
    definition: dict[str, Any]
    parameters: dict[str, Any]
    variations: int
    pilot: int
    estimate: Decimal | None
    client_key: str
    content_digest: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchVersion:
    """What the live page compares: `revision` grows with every change of any job of the batch.

    `waits`: whether any picture of the user waits for its turn, of this batch or another.
    """

    revision: int
    waits: bool
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUsed:
    """Settings of a batch."""

    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings of a workflow under a name of the user's own."""

    id: UUID
    workflow_name: str
    workflow_title: str
    name: str
    parameters: dict[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One picture to make, as the worker and the commands see it."""

    id: UUID
    user_id: UUID
    batch_id: UUID
    position: int
    variation: int
    number: int
    original_image_id: UUID
    result_image_id: UUID | None
    workflow_name: str
    workflow_version_id: int
    parameters: dict[str, Any]
    fal_job_id: str | None
    status: str
    attention: str | None
    cancel_requested_at: datetime | None
    error_code: str | None
    error_message: str | None
    run_after: datetime
    fence: int
    crashes: int
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """One picture as a page shows it: the job, both images, and what the ledger says of money."""

    id: UUID
    batch_id: UUID
    position: int
    variation: int
    status: str
    attention: str | None
    cancel_requested_at: datetime | None
    error_code: str | None
    error_message: str | None
    queue_position: int | None
    processing_time_ms: int | None
    workflow_name: str
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    original_image_id: UUID
    original_filename: str
    original_status: str
    result_image_id: UUID | None
    result_has_preview: bool | None
    sent_at: datetime | None
    charged: str | None
    cost: Decimal | None
    perhaps: Decimal | None
    estimate: Decimal | None
    further: int
    verdict: str | None
    verdict_reason: str | None
    verdict_note: str
    verdict_at: datetime | None
    parent_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParameters:
    """What a picture is made with."""

    id: UUID
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFrame:
    """One picture in the film strip of a batch."""

    id: UUID
    status: str
    verdict: str | None
    original_filename: str
    original_image_id: UUID
    result_image_id: UUID | None
    has_preview: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobVersion:
    """One of the pictures made of a photo; `number` counts from 1 in the order of asking."""

    number: int
    id: UUID
    status: str
    verdict: str | None
    verdict_reason: str | None
    original_image_id: UUID
    result_image_id: UUID | None
    result_width: int | None
    result_height: int | None
    has_preview: bool
    parameters: dict[str, Any]
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentResult:
    """A job, and the picture that it makes again."""

    id: UUID
    result_image_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBytes:
    """Images of a kind, and the bytes of their files as they came."""

    is_processed: bool
    count: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCount:
    """How many jobs are in a state, and for how long the oldest has been there at all."""

    status: str
    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualSeconds:
    """How long a workflow's pictures usually take."""

    workflow_name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a waiting picture stands among everybody's, from 1.

    `turn`: its round, where each round gives every user one; `in_flight` counts everybody's;
    `preparing`: its photo is not decoded yet; `paused`: the breaker is open.
    """

    id: UUID
    place: int
    turn: int
    in_flight: int
    preparing: bool
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """A job that starts again, and whether an earlier request of it was perhaps charged."""

    id: UUID
    perhaps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a worker can claim now, and seconds until more comes due; null when nothing will.

    `looks` are the states of jobs to look at, what is paid first; `account` is the breaker's check.
    """

    expired: bool
    callbacks: bool
    looks: list[str]
    late: bool
    account: bool
    pending: bool
    photos: bool
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTask:
    """A job claimed for sending, with what its request is made of."""

    id: UUID
    user_id: UUID
    email: str
    batch_id: UUID
    workflow_version_id: int
    definition: dict[str, Any]
    parameters: dict[str, Any]
    original_image_id: UUID
    fence: int
    crashes: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLease:
    """A photo that is held while its copy is made; `crashes` of workers that held it before."""

    fence: int
    crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FalTask:
    """A job claimed for a look at fal's side, with its live submission."""

    id: UUID
    user_id: UUID
    status: str
    fence: int
    crashes: int
    cancel_requested_at: datetime | None
    started_at: datetime | None
    workflow_name: str
    number: int
    unit_price: Decimal | None
    deadline_seconds: int
    original_image_id: UUID
    token: str
    endpoint: str
    request_id: str | None
    status_url: str | None
    response_url: str | None
    cancel_url: str | None
    output_urls: list[str] | None
    sent_at: datetime
    waited_seconds: float
    gone_seconds: float
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiredTask:
    """A job whose worker vanished while sending, and how far its submission had come."""

    id: UUID
    fence: int
    crashes: int
    token: str | None
    state: str | None


# --- submissions


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A row of the ledger."""

    id: UUID
    job_id: UUID | None
    user_id: UUID | None
    user_email: str
    workflow_name: str
    workflow_version: int
    endpoint: str
    token: str
    state: str
    arguments: dict[str, Any] | None
    request_id: str | None
    outcome: str | None
    charged: str | None
    estimate: Decimal | None
    cost: Decimal | None
    currency: str
    http_status: int | None
    error_type: str | None
    detail: str | None
    created_at: datetime
    sent_at: datetime | None
    accepted_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Money and pictures of some submissions; `perhaps` counts charges that are unknown."""

    pictures: int
    charged: Decimal
    perhaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionCount:
    """How many requests ended so, and their money (`cost`), known or estimated.

    `outcome` is that of a settled one (`picture`, `error`, `cancelled`, `expired`), `rejected`,
    `abandoned`, `unknown`, or `open` while it is under way.
    """

    outcome: str
    charged: str
    count: int
    cost: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenToken:
    """The token of a submission whose picture may still come."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """What a row says of the bytes of an image; `lost_at`: since when they are known to be lost."""

    id: UUID
    user_id: UUID
    is_processed: bool
    original_filename: str
    blob_url: str
    sha256: str
    file_size: int
    has_preview: bool
    lost_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Submissions' tokens, oldest first."""

    tokens: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LateTask:
    """A settled submission whose picture may still come."""

    id: UUID
    job_id: UUID | None
    user_id: UUID | None
    workflow_name: str
    token: str
    endpoint: str
    request_id: str | None
    status_url: str | None
    response_url: str | None
    unit_price: Decimal | None
    sent_at: datetime
    waited_seconds: float


# --- history and trash


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryBatch:
    """A batch in the history; its counts leave out what is in the trash.

    `moving` neither waits for a person nor is over. `image_ids`: of its first four pictures, or
    where there is none of their photos.
    """

    id: UUID
    created_at: datetime
    workflow_title: str
    photos: int
    pictures: int
    completed: int
    failed: int
    unknown: int
    moving: int
    held: int
    approved: int
    rejected: int
    image_ids: list[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many of some pictures are in a state."""

    status: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryHead:
    """What stands above the history: pictures outside the trash, bytes with it, all workflows."""

    pictures: int
    stored_bytes: int
    workflow_ids: list[str]
    workflow_names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trashed:
    """A picture (`is_job`) or a photo in the trash; `image_id` is what to show of it.

    `is_needed`: a photo from which or with which pictures were made that are still there.
    """

    is_job: bool
    id: UUID
    deleted_at: datetime
    image_id: UUID
    original_filename: str
    is_needed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Thrown:
    """Pictures that lie in the trash, the first of them since `deleted_at`."""

    pictures: int
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashTotals:
    """What lies in a user's trash, with its bytes."""

    pictures: int
    photos: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedJob:
    """A job that goes for good, and its batch."""

    id: UUID
    batch_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedImage:
    """An image whose row is gone; its bytes go next."""

    id: UUID
    user_id: UUID


# --- callbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The database's time, in Unix seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledBack:
    """What is known of a submission that a callback names; `taken`: by another submission."""

    request_id: str | None
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """A callback to be applied, and its submission as it is now."""

    id: int
    token: str
    request_id: str
    job_id: UUID | None
    endpoint: str
    known_request_id: str | None


# --- the breaker and the story


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Whether sending is paused; closed when `opened_at` is None. `waiting` counts pictures."""

    reason: str | None
    opened_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What stands above a user's pages: the breaker, what waits for it, the batch at work."""

    reason: str | None
    opened_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None
    waiting: int
    working_batch_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One transition of a job; the first has no `from_status`."""

    from_status: str | None
    to_status: str
    happened_at: datetime


# --- the operator's view


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker process as it last wrote of itself; `trouble` is None where it can send."""

    id: UUID
    host: str
    process_id: int
    release: str
    trouble: str | None
    started_at: datetime
    seen_at: datetime
    silent_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was found whole.

    `taken_at` is how new its data are; `checked` of its `images` were read byte for byte.
    """

    id: UUID
    taken_at: datetime
    images: int
    checked: int
    verified_at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How many rows a database has where a missing one would hurt most."""

    images: int
    jobs: int
    submissions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An exported snapshot's name, its time, and what it holds (as RowCounts)."""

    snapshot: str
    taken_at: datetime
    images: int
    jobs: int
    submissions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """The server's version, and the bytes of this database."""

    version: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCount:
    """How many jobs in a state wait for a person for this reason."""

    status: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubledJob:
    """A job that failed or needs a person, what the provider last said of it, and its money."""

    id: UUID
    status: str
    attention: str | None
    error_code: str | None
    error_message: str | None
    workflow_name: str
    email: str
    created_at: datetime
    http_status: int | None
    error_type: str | None
    detail: str | None
    arguments: dict[str, Any] | None
    charged: str
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRequest:
    """A request that left and made no picture, in the provider's words."""

    job_id: UUID | None
    user_email: str
    workflow_name: str
    endpoint: str
    http_status: int | None
    error_type: str | None
    detail: str | None
    arguments: dict[str, Any] | None
    charged: str | None
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was sent by one user, with one workflow, on one day or in all (`kind`), in US dollars.

    `failed` made no picture; `unclear` counts requests whose charge nobody knows, `perhaps` their
    price.
    """

    kind: str
    name: str
    requests: int
    pictures: int
    failed: int
    charged: Decimal
    unclear: int
    perhaps: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something done or refused, as it was recorded; `outcome` is "done" or "refused"."""

    id: int
    created_at: datetime
    action: str
    outcome: str
    actor: str
    ip_address: str | None
    target: str
    detail: str
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What somebody asked for and does not own: its noun, and whose it is."""

    noun: str
    email: str
