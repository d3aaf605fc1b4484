"""The worker: moves jobs forward one short step at a time. Knows no Flask.

A step is a claim (one UPDATE with a lease and a fence), bounded work with no connection held, and
one guarded write. Waiting for a GPU holds no thread: a job at fal is a row with a time to look
again. docs/job-states.md has the picture.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from i2i import imaging
from i2i.config import LEASE_SECONDS, Settings
from i2i.errors import (
    FalAccount,
    FalError,
    FalGone,
    FalNotSent,
    FalRejected,
    FalTemporary,
    FalUnclear,
    ImagingFailed,
    InvalidImage,
    InvalidWorkflow,
    NotFound,
    StorageError,
)
from i2i.forms import Definition
from i2i.gateways.fal import Fal, Status, boottime, request_urls
from i2i.gateways.storage import Storage, image_key, incoming, sweep
from i2i.models import FalTask, Image, Job, JobStatus, PrepareTask
from i2i.queries import images, jobs, submissions, workflows
from i2i.services import images as image_service
from i2i.services import jobs as job_service
from i2i.services.jobs import Sending
from i2i.services.workflows import definition_of

log = logging.getLogger("i2i.worker")

Step = Callable[[], None]
Task = TypeVar("Task", Sending, FalTask, PrepareTask)

RENEW_SECONDS = 15.0
"""How often long transfers renew their lease of LEASE_SECONDS."""

DECODE_LEASE_SECONDS = imaging.WALL_SECONDS + 30.0
"""A lease that outlives the limited child, which cannot be asked to renew one."""

PROOF_SECONDS = 900.0
"""How long fal's list may lag: only after that does a request's absence prove anything."""

GRACE_SECONDS = 120.0
"""How long after the deadline's cancel request a picture may still come."""

GONE_SECONDS = 600.0
"""How long fal may answer 404 for an id that it gave us before the list is searched."""

LATE_SECONDS = 86_400.0
"""How long something paid is looked for before it counts as lost."""

DATABASE_TROUBLE = (psycopg.OperationalError, PoolTimeout)


class LeaseLostError(Exception):
    """Somebody else owns the row by now: stop, and change nothing."""


class Lease:
    """Renews a job's lease while a long transfer runs; call it as often as you like."""

    def __init__(self, pool: ConnectionPool[Connection[Any]], *, job_id: UUID, fence: int) -> None:
        self._pool = pool
        self._job_id = job_id
        self._fence = fence
        self._renewed = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self.renew(LEASE_SECONDS)

    def renew(self, seconds: float) -> None:
        """Own the job for that long from now; LeaseLostError when it is not ours any more."""
        with self._pool.connection() as conn:
            if not jobs.renew_lease(
                conn, job_id=self._job_id, fence=self._fence, lease_seconds=seconds
            ):
                raise LeaseLostError
        self._renewed = time.monotonic()


class Worker:
    """Steps over rows with a few threads; any number of workers may run on any hosts."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: ConnectionPool[Connection[Any]],
        fal: Fal,
        storage: Storage,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._fal = fal
        self._storage = storage
        self._decoders = threading.BoundedSemaphore(settings.decoders)
        self._preparing = 0
        self._running: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()

    # --- the loop

    def stop(self) -> None:
        """Finish the steps in hand and claim no more; callable from any thread."""
        self._stopping.set()
        self._wake.set()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def run(self) -> None:
        """Work until stop() is called."""
        sweep(incoming(self._settings.data_dir), older_than=LATE_SECONDS)
        if not self._settings.fal_configured:
            log.warning("No fal key is set: photos are prepared, nothing is sent.")
        with ThreadPoolExecutor(self._settings.worker_threads, "step") as threads:
            while not self._stopping.is_set():
                self._wake.clear()
                if not self._dispatch(threads):
                    self._wake.wait(self._pause())

    def run_once(self, *, now: datetime | None = None) -> int:
        """Do all that can be done now, in this thread; how many steps that were."""
        done = 0
        while steps := self.claim(room=1, now=now):
            for step in steps:
                step()
            done += len(steps)
        return done

    def look_now(self, job: Job) -> bool:
        """Search fal's list for an unknown job at once; False: another worker is just doing it."""
        with self._pool.connection() as conn:
            # Long overdue, hence the first to be claimed; a step in hand loses by the fence.
            jobs.postpone(
                conn,
                job_id=job.id,
                fence=job.fence,
                delay_seconds=-365 * LATE_SECONDS,
                attention=job.attention,
            )
            tasks = jobs.claim_fal(
                conn, status=JobStatus.UNKNOWN, page_size=1, lease_seconds=LEASE_SECONDS
            )
        for task in tasks:
            self._step(self._look, task, on_error=self._look_broke)()
        return any(task.id == job.id for task in tasks)

    def _dispatch(self, threads: ThreadPoolExecutor) -> bool:
        """Hand out as many steps as there are free threads; True: look again at once."""
        with self._lock:
            room = self._settings.worker_threads - len(self._running)
        if room <= 0:
            return False
        try:
            steps = self.claim(room=room)
        except DATABASE_TROUBLE as error:
            log.warning("the database does not answer: %s", error)
            return False
        for step in steps:
            future = threads.submit(step)
            with self._lock:
                self._running.add(future)
            future.add_done_callback(self._finished)
        return bool(steps)

    def _finished(self, future: Future[None]) -> None:
        with self._lock:
            self._running.discard(future)
        self._wake.set()

    def _pause(self) -> float:
        """Seconds until something is due that no notification announces."""
        longest = self._settings.worker_poll_seconds
        try:
            with self._pool.connection() as conn:
                due = jobs.next_due(conn).seconds
        except DATABASE_TROUBLE:
            return longest
        return longest if due is None else min(longest, max(0.01, due))

    def claim(self, *, room: int, now: datetime | None = None) -> list[Step]:
        """Claim up to `room` steps: what is paid comes first, then what runs, then the new."""
        steps: list[Step] = []
        with self._pool.connection() as conn:
            if self._settings.fal_configured:
                job_service.recover_expired(conn, now=now)
                steps += self._claim_fal(conn, room=room, now=now)
                while len(steps) < room:
                    sending = job_service.claim_send(conn, self._settings, now=now)
                    if sending is None:
                        break
                    steps.append(self._step(self._send, sending, on_error=self._sending_broke))
            while len(steps) < room and self._preparing < self._settings.decoders:
                task = images.claim_preparing(conn, lease_seconds=DECODE_LEASE_SECONDS, now=now)
                if task is None:
                    break
                with self._lock:
                    self._preparing += 1
                steps.append(self._step(self._prepare, task, on_error=None))
        return steps

    def _claim_fal(self, conn: Connection[Any], *, room: int, now: datetime | None) -> list[Step]:
        steps: list[Step] = []
        looks: list[tuple[JobStatus, Callable[[FalTask], None]]] = [
            (JobStatus.STORING, self._collect),
            (JobStatus.PROCESSING, self._poll),
            (JobStatus.UNKNOWN, self._look),
        ]
        for status, work in looks:
            if len(steps) < room:
                tasks = jobs.claim_fal(
                    conn,
                    status=status,
                    page_size=room - len(steps),
                    lease_seconds=LEASE_SECONDS,
                    now=now,
                )
                steps += [self._step(work, task, on_error=self._look_broke) for task in tasks]
        return steps

    def _step(
        self,
        work: Callable[[Task], None],
        task: Task,
        *,
        on_error: Callable[[Task, Exception], None] | None,
    ) -> Step:
        """The work with its failures caught: the row is put off first, then the error is logged."""

        def step() -> None:
            try:
                work(task)
            except LeaseLostError:
                log.warning("%s went to another worker", _name(task))
            except Exception as error:
                log.exception("%s: a step broke", _name(task))
                if on_error is not None:
                    try:
                        on_error(task, error)
                    except DATABASE_TROUBLE:
                        log.warning("%s waits for its lease to end", _name(task))

        return step

    # --- preparing

    def _prepare(self, task: PrepareTask) -> None:
        try:
            image_service.prepare(self._pool.connection, self._storage, self._settings, task=task)
        except (ImagingFailed, StorageError, NotFound) as error:
            log.warning("image %s is put off: %s", task.id, error)
        finally:
            with self._lock:
                self._preparing -= 1

    # --- sending

    def _send(self, sending: Sending) -> None:
        """Upload the inputs, commit `sent`, post once, save the answer."""
        task, token = sending.task, sending.token
        try:
            urls = self._upload_inputs(sending)
        except FalNotSent as error:
            self._give_back(sending, error)
            return
        except InvalidImage as error:
            refusal = FalRejected(str(error), error_type="image_load_error")
            self._save(lambda conn: job_service.refuse(conn, task=task, token=token, error=refusal))
            return
        with self._pool.connection() as conn:
            arguments = job_service.save_arguments(conn, sending, urls=urls)
            sent_at = boottime()
            if not job_service.begin_send(conn, sending):
                return
        self._post(sending, arguments=arguments, sent_at=sent_at)

    def _post(self, sending: Sending, *, arguments: Mapping[str, Any], sent_at: float) -> None:
        """The one POST. From here on the answer is saved whatever happens to the lease."""
        task, token = sending.task, sending.token
        try:
            accepted = self._fal.submit(
                sending.definition.fal_endpoint, dict(arguments), sent_at_boottime=sent_at
            )
        except FalNotSent as error:
            self._give_back(sending, error)
        except FalRejected as error:
            log.info("job %s refused: %s", task.id, error.detail)
            refused = error
            self._save(lambda conn: job_service.refuse(conn, task=task, token=token, error=refused))
        except FalUnclear as error:
            log.warning("job %s: the answer was lost: %s", task.id, error.detail)
            unclear = error
            self._save(
                lambda conn: job_service.lose_answer(conn, task=task, token=token, error=unclear)
            )
        else:
            log.info("job %s accepted as %s", task.id, accepted.request_id)
            self._save(
                lambda conn: job_service.accept(
                    conn, job_id=task.id, token=token, accepted=accepted
                )
            )

    def _upload_inputs(self, sending: Sending) -> list[str]:
        """Put photo and references into fal's storage under names that carry the token."""
        lease = Lease(self._pool, job_id=sending.task.id, fence=sending.task.fence)
        definition = sending.definition
        kind = "png" if definition.formats[0] == "png" else "jpeg"
        suffix = {"png": "png", "jpeg": "jpg"}[kind]
        urls = []
        for index, image in enumerate([sending.original, *sending.references]):
            with (
                image_service.workspace(self._settings) as folder,
                self._storage.local_path(image.blob_url) as source,
            ):
                with self._decoding(lease):
                    lease.renew(DECODE_LEASE_SECONDS)
                    rendered = imaging.render(
                        source,
                        directory=folder,
                        max_side=definition.max_side,
                        format="png" if kind == "png" else "jpeg",
                    )
                urls.append(
                    self._fal.upload(
                        name=f"{sending.token}-{index}.{suffix}",
                        data=rendered.path.read_bytes(),
                        content_type=rendered.mime_type,
                        keep_alive=lease,
                    )
                )
        return urls

    def _give_back(self, sending: Sending, error: FalNotSent) -> None:
        """Provably not accepted. An account's trouble is everybody's, so it waits a minute."""
        account = isinstance(error, FalAccount)
        log.warning("job %s was not accepted: %s", sending.task.id, error.detail)
        self._save(
            lambda conn: job_service.give_back(
                conn,
                task=sending.task,
                token=sending.token,
                error=error,
                delay_seconds=60 if account else job_service.back_off(1),
                attention="The account at the provider does not take requests just now. "
                "Nothing was charged; this picture waits and starts by itself."
                if account
                else None,
            )
        )

    def _sending_broke(self, sending: Sending, error: Exception) -> None:
        """Something unforeseen before the POST: put off. After it the lease's end decides."""
        if isinstance(error, InvalidWorkflow):
            refusal = FalRejected(str(error), error_type="workflow")
            with self._pool.connection() as conn:
                job_service.refuse(conn, task=sending.task, token=sending.token, error=refusal)
            return
        with self._pool.connection() as conn:
            if submissions.abandon(conn, token=sending.token, detail=f"broke: {error}"[:500]):
                jobs.return_to_pending(
                    conn,
                    job_id=sending.task.id,
                    fence=sending.task.fence,
                    crashes=0,
                    delay_seconds=job_service.back_off(3),
                )

    # --- at fal

    def _poll(self, task: FalTask) -> None:
        """Look where a request is, ask it to stop if somebody wants that, fetch its result."""
        try:
            if task.cancel_requested_at is not None and task.cancel_url:
                self._fal.cancel(task.cancel_url)
            status = self._fal.status(task.status_url or "")
            if status.state == "completed":
                self._finish(task, status)
            else:
                self._keep_waiting(task, status)
        except FalGone as error:
            gone = error
            if task.waited_seconds > GONE_SECONDS:
                self._save(lambda conn: job_service.lose_accepted(conn, task=task, error=gone))
            else:
                self._put_off(task)
        except FalAccount:
            self._put_off(task, delay_seconds=60)
        except FalTemporary as error:
            log.info("job %s: no answer from fal: %s", task.id, error.detail)
            self._put_off(task)

    def _keep_waiting(self, task: FalTask, status: Status) -> None:
        with self._pool.connection() as conn:
            late = task.waited_seconds - self._definition(conn, task).deadline_seconds
            if late > 0 and _asked_for(task) > GRACE_SECONDS:
                job_service.fail(
                    conn,
                    task=task,
                    error=FalError("no picture before the deadline", error_type="deadline"),
                    outcome="expired",
                    explained=(
                        "late",
                        "No picture came in time, and the provider was asked to stop.",
                    ),
                )
                return
            if late > 0:
                jobs.ask_cancel_late(conn, job_id=task.id, fence=task.fence)
            jobs.keep_waiting(
                conn,
                job_id=task.id,
                fence=task.fence,
                queue_position=status.queue_position if status.state == "queued" else None,
                running=status.state == "running",
                delay_seconds=job_service.poll_delay(
                    in_flight=jobs.count_in_flight(conn).count,
                    queue_position=status.queue_position,
                ),
            )

    def _finish(self, task: FalTask, status: Status) -> None:
        """Fal says completed, which includes failed and cancelled: the result tells which."""
        try:
            result = self._fal.result(task.response_url or "")
        except FalRejected as error:
            if "client_cancelled" in {status.error_type, error.error_type}:
                self._save(
                    lambda conn: job_service.confirm_cancelled(conn, task=task, detail="at fal")
                )
                return
            log.info("job %s failed at fal: %s", task.id, error.detail)
            refused = error
            self._save(lambda conn: job_service.fail(conn, task=task, error=refused))
            return
        except FalTemporary as error:
            if status.error_type is None or (error.http_status or 0) < 500:
                raise
            # The status says that the model failed; a 5xx is then the answer, and is not billed.
            failed = FalError(
                error.detail, http_status=error.http_status, error_type=status.error_type
            )
            self._save(lambda conn: job_service.fail(conn, task=task, error=failed, charged="no"))
            return
        shown = [output.url for output in result.outputs if not output.nsfw]
        if not shown:
            withheld = bool(result.outputs)
            explained = (
                ("safety", "A picture was made, but the provider's safety filter held it back.")
                if withheld
                else ("no_picture", "The provider made no picture of this photo.")
            )
            self._save(
                lambda conn: job_service.fail(
                    conn,
                    task=task,
                    error=FalError("no picture to show", http_status=200, error_type=explained[0]),
                    charged="yes" if withheld else "unknown",
                    explained=explained,
                )
            )
            return
        with self._pool.connection() as conn:
            price = self._definition(conn, task).unit_price
            units = result.billable_units
            cost: Decimal | None = None if price is None or units is None else price * units
            job_service.begin_storing(conn, task=task, urls=shown, cost=cost)

    def _look(self, task: FalTask) -> None:
        """Find a request whose answer was lost, by its token in fal's own list."""
        try:
            listed = self._fal.requests(task.endpoint, since=task.sent_at - timedelta(seconds=60))
        except FalError as error:
            log.info("job %s: fal's list does not answer: %s", task.id, error.detail)
            self._put_off(task, attention=job_service.LOST, delay_seconds=30)
            return
        for entry in listed:
            if entry.payload and task.token in entry.payload:
                log.info("job %s found as %s", task.id, entry.request_id)
                self._adopt(task, request_id=entry.request_id)
                return
        with self._pool.connection() as conn:
            later = submissions.list_later_tokens(conn, token=task.token).tokens
            seen = any(
                token in entry.payload for entry in listed if entry.payload for token in later
            )
            if seen and task.waited_seconds >= PROOF_SECONDS and all(e.payload for e in listed):
                log.info("job %s is proven never to have reached fal", task.id)
                job_service.prove_absent(conn, task=task)
                return
        self._put_off(
            task, attention=job_service.LOST, delay_seconds=min(60, 2 + task.waited_seconds / 10)
        )

    def _adopt(self, task: FalTask, *, request_id: str) -> None:
        accepted = request_urls(self._settings, task.endpoint, request_id)
        self._save(
            lambda conn: job_service.accept(
                conn, job_id=task.id, token=task.token, accepted=accepted
            )
        )

    # --- collecting

    def _collect(self, task: FalTask) -> None:
        """Fetch the picture, make its copies, store them, then finish the job."""
        lease = Lease(self._pool, job_id=task.id, fence=task.fence)
        urls = task.output_urls or []
        try:
            with image_service.workspace(self._settings) as folder:
                path = folder / "result"
                with path.open("wb") as sink:
                    kind = self._fal.download(urls[0], sink, keep_alive=lease)
                self._store(task, path=path, kind=kind, lease=lease)
        except FalGone as error:
            self._put_off_lost(task, error)
        except FalTemporary as error:
            log.warning("job %s: the picture does not come: %s", task.id, error.detail)
            self._put_off(
                task, attention="The provider does not hand the picture out. We keep asking."
            )
        except (StorageError, ImagingFailed, OSError) as error:
            log.error("job %s: the picture cannot be stored: %s", task.id, error)  # noqa: TRY400
            self._put_off(task, attention="Saving waits for disk space. Nothing is lost.")

    def _store(self, task: FalTask, *, path: Path, kind: str | None, lease: Lease) -> None:
        """Everything after the bytes have come. A paid picture we cannot decode is kept as well."""
        image_id = uuid5(NAMESPACE_URL, f"i2i:{task.token}:0")
        mime_type, size = _described(path, kind=kind, max_pixels=self._settings.max_image_pixels)
        suffix = image_service.SUFFIXES.get(mime_type, ".bin")
        key = image_key(task.user_id, image_id, f"original{suffix}")
        has_preview = False
        with self._decoding(lease):
            lease.renew(DECODE_LEASE_SECONDS)
            try:
                made = imaging.prepare(
                    path, directory=path.parent, max_pixels=self._settings.max_image_pixels
                )
                image_service.keep_copies(
                    self._storage, user_id=task.user_id, image_id=image_id, made=made
                )
                has_preview = True
            except InvalidImage as error:
                log.warning("job %s: the result has no preview: %s", task.id, error)
        self._storage.put(key, path)
        with self._pool.connection() as conn:
            original = images.find(conn, image_id=task.original_image_id, user_id=task.user_id)
            result = {
                "image_id": image_id,
                "user_id": task.user_id,
                "filename": key.rpartition("/")[2],
                "original_filename": _result_name(original, task=task, suffix=suffix),
                "blob_url": key,
                "sha256": self._storage.sha256(key),
                "file_size": self._storage.size(key),
                "mime_type": mime_type,
                "width": size and size[0],
                "height": size and size[1],
                "has_preview": has_preview,
            }
        self._save(
            lambda conn: job_service.complete(
                conn,
                task=task,
                result=result,
                processing_time_ms=max(0, round(task.waited_seconds * 1000)),
            )
        )
        log.info("job %s completed", task.id)

    def _put_off_lost(self, task: FalTask, error: FalGone) -> None:
        """404 on a paid picture: believed only after a day."""
        if task.waited_seconds < LATE_SECONDS:
            self._put_off(
                task, attention="The provider does not hand the picture out. We keep asking."
            )
            return
        self._save(
            lambda conn: job_service.fail(
                conn,
                task=task,
                error=error,
                outcome="expired",
                charged="yes",
                explained=("lost", "The provider made it but no longer has it."),
            )
        )

    # --- shared by the steps

    def _definition(self, conn: Connection[Any], task: FalTask) -> Definition:
        version = workflows.find_version(conn, version_id=task.workflow_version_id)
        if version is None:  # pragma: no cover - a foreign key forbids it
            raise LookupError(f"job {task.id} names a workflow that is gone")
        return definition_of(version.definition)

    def _look_broke(self, task: FalTask, _error: Exception) -> None:
        self._put_off(task, delay_seconds=job_service.back_off(task.crashes + 3))

    def _put_off(
        self, task: FalTask, *, delay_seconds: float | None = None, attention: str | None = None
    ) -> None:
        delay = job_service.back_off(task.crashes) if delay_seconds is None else delay_seconds
        with self._pool.connection() as conn:
            jobs.postpone(
                conn,
                job_id=task.id,
                fence=task.fence,
                delay_seconds=delay,
                attention=attention,
            )

    def _save(self, write: Callable[[Connection[Any]], object]) -> None:
        """Write what fal has told us, even when the database is just restarting.

        The writes are guarded and repeatable, so trying again after a lost COMMIT is safe.
        """
        deadline = time.monotonic() + LEASE_SECONDS
        while True:
            try:
                with self._pool.connection() as conn:
                    write(conn)
            except DATABASE_TROUBLE:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    @contextmanager
    def _decoding(self, lease: Lease) -> Iterator[None]:
        """One of the places for decoding; the lease is kept while waiting for it."""
        while not self._decoders.acquire(timeout=5):
            lease()
        try:
            yield
        finally:
            self._decoders.release()


def _described(
    path: Path, *, kind: str | None, max_pixels: int
) -> tuple[str, tuple[int, int] | None]:
    """Type and size of a fetched file; no size when it is a picture that we cannot read.

    FalTemporary when it is no picture at all, such as an error page: then it was not the result.
    """
    try:
        header = imaging.read_header(path, max_pixels=max_pixels)
    except InvalidImage as error:
        if error.code in {"empty", "not_a_photo"}:
            raise FalTemporary(f"not a picture: {error}", error_type="not_a_picture") from error
        return kind or "application/octet-stream", None
    return header.mime_type, (header.width, header.height)


def _asked_for(task: FalTask) -> float:
    """Seconds since fal was first asked to stop, 0 when it was not."""
    if task.cancel_requested_at is None:
        return 0.0
    now = task.sent_at + timedelta(seconds=task.waited_seconds)
    return (now - task.cancel_requested_at).total_seconds()


def _result_name(original: Image | None, *, task: FalTask, suffix: str) -> str:
    """A result is called after its photo, its workflow and its number: `coat_basic-v1_1.jpg`."""
    stem = original.original_filename.rpartition(".")[0] if original else ""
    return f"{stem or 'picture'}_{task.workflow_name}_{task.variation + 1}{suffix}"


def _name(task: Sending | FalTask | PrepareTask) -> str:
    if isinstance(task, Sending):
        return f"job {task.task.id}"
    return f"image {task.id}" if isinstance(task, PrepareTask) else f"job {task.id}"
