"""Rows for tests, made through the query functions. Every factory takes the connection first."""

import hashlib
import secrets
from itertools import count
from uuid import uuid4

from i2i import passwords
from i2i.forms import parse_definition
from i2i.gateways.storage import image_key
from i2i.queries import batches, images, jobs, submissions, users, workflows
from i2i.services import workflows as workflow_service

PASSWORD = "correct horse battery staple"

PASSWORD_HASH = passwords.hash_password(PASSWORD, rounds=4)

_numbers = count(1)


def make_user(conn, *, email=None, is_whitelisted=True, role="user", password_hash=PASSWORD_HASH):
    """A user whose password is PASSWORD."""
    return users.create(
        conn,
        email=email or f"user{next(_numbers)}@example.com",
        password_hash=password_hash,
        is_whitelisted=is_whitelisted,
        role=role,
    )


def make_image(
    conn,
    *,
    user,
    status="ready",
    name=None,
    size=(64, 48),
    data=None,
    storage=None,
    created_at=None,
):
    """An upload; with `storage` and `data` (a JPEG) its bytes are there as well."""
    number = next(_numbers)
    image_id = uuid4()
    content = data if data is not None else f"photo {number}".encode()
    key = image_key(user.id, image_id, "original.jpg")
    if storage is not None:
        target = storage.root / key
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
    images.create_upload(
        conn,
        image_id=image_id,
        user_id=user.id,
        filename="original.jpg",
        original_filename=name or f"photo{number}.jpg",
        blob_url=key,
        sha256=hashlib.sha256(content).hexdigest(),
        file_size=len(content),
        mime_type="image/jpeg",
        width=size[0],
        height=size[1],
    )
    if status == "ready":
        images.finish_preparing(conn, image_id=image_id, fence=0, width=size[0], height=size[1])
    elif status == "rejected":
        images.reject(conn, image_id=image_id, fence=0, rejection="Not readable.")
    if created_at is not None:
        conn.execute(
            "UPDATE images SET created_at = %(at)s, upload_began_at = %(at)s WHERE id = %(id)s",
            {"at": created_at, "id": image_id},
        )
    return images.find(conn, image_id=image_id, user_id=user.id)


def make_result(conn, *, user, name="result.png", has_preview=True):
    """A result's row, without bytes."""
    image_id = uuid4()
    images.create_result(
        conn,
        image_id=image_id,
        user_id=user.id,
        filename="original.png",
        original_filename=name,
        blob_url=image_key(user.id, image_id, "original.png"),
        sha256=hashlib.sha256(image_id.bytes).hexdigest(),
        file_size=1000,
        mime_type="image/png",
        width=1024,
        height=768,
        has_preview=has_preview,
    )
    return images.find(conn, image_id=image_id, user_id=user.id)


def document(**changes):
    """A small workflow that holds: a prompt, a seed, up to two references."""
    return {
        "id": "basic-v1",
        "name": "Basic",
        "description": "Puts the garment on a person.",
        "fal_endpoint": "fal-ai/qwen-image-edit-2511",
        "unit_price": 0.035,
        "max_references": 2,
        "deadline_seconds": 600,
        "usual_seconds": 20,
        "parameter_schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["setting"],
            "properties": {
                "setting": {
                    "type": "string",
                    "title": "Setting",
                    "enum": ["studio white", "outdoor"],
                    "x-order": 10,
                },
                "seed": {
                    "type": "integer",
                    "title": "Seed",
                    "minimum": 0,
                    "maximum": 2147483647,
                    "x-order": 20,
                },
            },
        },
        "default_parameters": {"setting": "studio white"},
        "request_template": {
            "prompt": "A person wearing it, {{ setting }} background",
            "image_urls": "{{ image_urls + references }}",
            "seed": "{{ seed | default(none) }}",
        },
    } | changes


def make_workflow(conn, **changes):
    """The workflow of `document(**changes)`, saved as an operator saves it."""
    definition = parse_definition(document(**changes))
    workflow_service.save(conn, definition)
    return workflows.find(conn, workflow_id=definition.id)


def make_batch(
    conn,
    *,
    user,
    photos=None,
    workflow=None,
    parameters=None,
    variations=1,
    statuses=None,
    references=(),
    created_at=None,
):
    """A batch with one pending (or `statuses[i]`) job for each photo and variation."""
    workflow = workflow or workflows.find(conn, workflow_id="basic-v1") or make_workflow(conn)
    photos = photos if photos is not None else [make_image(conn, user=user)]
    parameters = parameters if parameters is not None else {"setting": "studio white"}
    made = batches.create(
        conn,
        user_id=user.id,
        workflow_version_id=workflow.version_id,
        parameters=parameters,
        variations=variations,
        pilot=0,
        estimate=None,
        client_key=secrets.token_hex(16),
        content_digest=secrets.token_hex(32),
    )
    for position, reference in enumerate(references, start=1):
        batches.add_reference(conn, batch_id=made.id, position=position, image_id=reference.id)
    pictures = [(photo, variation) for photo in photos for variation in range(variations)]
    jobs.create(
        conn,
        batch_id=made.id,
        image_ids=[photo.id for photo, _ in pictures],
        variations=[variation for _, variation in pictures],
        parameters=[parameters] * len(pictures),
        statuses=statuses or ["pending"] * len(pictures),
    )
    if created_at is not None:
        for table, column in [("batches", "id"), ("processing_jobs", "batch_id")]:
            conn.execute(
                f"UPDATE {table} SET created_at = %s WHERE {column} = %s", [created_at, made.id]
            )
    return batches.find(conn, batch_id=made.id, user_id=user.id)


def jobs_of(conn, batch):
    """The jobs of a batch in their order, as operators see them."""
    found = conn.execute(
        "SELECT id FROM processing_jobs WHERE batch_id = %s ORDER BY position", [batch.id]
    )
    return [jobs.find(conn, job_id=row[0]) for row in found.fetchall()]


def make_job(conn, *, user, status="pending", image=None, workflow=None, created_at=None):
    """A job of its own batch, brought into `status` the way a worker would, ledger included."""
    batch = make_batch(
        conn,
        user=user,
        photos=[image] if image else None,
        workflow=workflow,
        statuses=["held" if status == "held" else "pending"],
        created_at=created_at,
    )
    (job,) = jobs_of(conn, batch)
    if status == "cancelled":
        jobs.cancel_waiting(conn, user_id=user.id, job_id=job.id)
    elif status not in {"held", "pending"}:
        move(conn, job, user=user, status=status)
    return jobs.find(conn, job_id=job.id)


def claim(conn, job):
    """What a worker's claim does, aimed at one job; the fence it got."""
    return conn.execute(
        "UPDATE processing_jobs SET status = CASE status WHEN 'pending' THEN 'submitting' ELSE status"
        " END, fence = fence + 1, lease_until = now() + interval '45 seconds'"
        " WHERE id = %s RETURNING fence",
        [job.id],
    ).fetchone()[0]


def move(conn, job, *, user, status):
    """Bring a pending job on, as a worker would: submitting, unknown, failed, processing, storing or completed."""
    fence = claim(conn, job)
    token = make_submission(conn, job=job, user=user, state="intent")
    if status == "submitting":
        return
    send(conn, token)
    if status == "failed":
        submissions.reject(
            conn, token=token, http_status=422, error_type="value_error", detail="no"
        )
        jobs.fail(conn, job_id=job.id, fence=fence, error_code="refused", error_message="Refused.")
        return
    if status == "unknown":
        submissions.lose_answer(conn, token=token, http_status=None, detail="lost")
        jobs.lose_answer(conn, job_id=job.id, fence=fence, attention="Lost.", delay_seconds=0)
        return
    request_id = accept(conn, token)
    jobs.accept(conn, job_id=job.id, fal_job_id=request_id, delay_seconds=0)
    if status == "processing":
        return
    jobs.begin_storing(conn, job_id=job.id, fence=fence)
    submissions.save_outputs(conn, token=token, output_urls=["https://v3.fal.media/1"], cost=None)
    if status == "storing":
        return
    result = make_result(conn, user=user)
    fence = claim(conn, job)
    jobs.complete(
        conn, job_id=job.id, fence=fence, result_image_id=result.id, processing_time_ms=4200
    )
    submissions.settle(conn, token=token, outcome="picture", charged="yes")


def make_submission(conn, *, job, user, state="intent"):
    """The token of a new submission of this job: intent, sent, accepted or settled."""
    token = secrets.token_hex(16)
    submissions.create(
        conn,
        job_id=job.id,
        user_id=user.id,
        user_email=user.email,
        workflow_version_id=job.workflow_version_id,
        endpoint="fal-ai/qwen-image-edit-2511",
        token=token,
    )
    if state != "intent":
        send(conn, token)
    if state in {"accepted", "settled"}:
        accept(conn, token)
    if state == "settled":
        submissions.settle(conn, token=token, outcome="picture", charged="yes")
    return token


def send(conn, token):
    """Mark a submission as sent."""
    submissions.mark_sent(conn, token=token, arguments={"prompt": "x"}, estimate=None)


def accept(conn, token):
    """Mark a submission as accepted; the request's id."""
    request_id = str(uuid4())
    submissions.accept(
        conn,
        token=token,
        request_id=request_id,
        status_url="https://queue.fal.run/s",
        response_url="https://queue.fal.run/r",
        cancel_url="https://queue.fal.run/c",
    )
    return request_id
