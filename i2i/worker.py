"""The worker: moves jobs forward one short step at a time. Knows no Flask.

A step is a claim (one UPDATE with a lease and a fence), bounded work with no connection held, and
one guarded write. Waiting for a GPU holds no thread: a job at fal is a row with a time to look
again. docs/job-states.md has the picture.
"""

import functools
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from i2i import __version__, filenames, imaging, origin
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
from i2i.explanations import of_code
from i2i.gateways.fal import Fal, Listed, Result, Status, boottime, request_urls
from i2i.gateways.storage import Storage, image_key, incoming, sweep
from i2i.models import Due, FalTask, Job, JobStatus, LateTask, PrepareTask
from i2i.queries import breaker, images, jobs, submissions, workers
from i2i.queries import webhooks as callbacks
from i2i.services import breaker as breaker_service
from i2i.services import copies, trash, webhooks
from i2i.services import images as image_service
from i2i.services import jobs as job_service
from i2i.services.copies import Copies
from i2i.services.jobs import Copying, Sending

log = logging.getLogger("i2i.worker")

Step = Callable[[], None]
Task = TypeVar("Task", Copying, Sending, FalTask, LateTask, PrepareTask, None)

RENEW_SECONDS = 15.0
"""How often long transfers renew their lease of LEASE_SECONDS."""

DECODE_LEASE_SECONDS = imaging.WALL_SECONDS + 30.0
"""How long a photo is leased to be prepared."""

PROOF_SECONDS = 900.0
"""How long fal's list may lag: only after that does a request's absence prove anything."""

LATE_SECONDS = 86_400.0
"""How long something paid is looked for before it counts as lost."""

SEARCH_EDGES = (-60.0, 3600.0, 21_600.0, LATE_SECONDS)
"""Where the windows end in which fal's list is searched, in seconds from sending."""

GRACE_SECONDS = 120.0
"""How long after the deadline's cancel request a picture may still come."""

GONE_SECONDS = 600.0
"""How long fal may answer 404 for an id that it gave us before the list is searched."""

DATABASE_TROUBLE = (psycopg.OperationalError, PoolTimeout)


DRAIN_SECONDS = 18.0
"""How long the steps in hand may take after SIGTERM."""

TIDY_SECONDS = 3600.0
"""How often a worker removes what nobody needs any more."""

BEAT_SECONDS = 10.0
"""How often a worker writes down that it lives."""

BREATH_SECONDS = 0.1
"""The distance between claims that nobody hurries, with fifty requests at fal or more: each claim
takes all that came due meanwhile. With fewer it is shorter, for so few come due one by one."""

SILENT_LOOKS = 5
"""Looks in a row without an answer after which a person is told."""

NO_KEY = "No fal key is set"
UNREACHABLE = "fal cannot be reached"
"""Why a worker sends nothing, as it writes it into its row."""

UNFETCHED = "The provider does not hand the picture out. We keep asking."
UNSTORED = "Saving does not work just now; perhaps the disk is full. Nothing is lost."


class LeaseLostError(Exception):
    """Somebody else owns the row by now: stop, and change nothing."""


class Lease:
    """Renews the lease of a row while long work runs; call it as often as you like."""

    def __init__(
        self,
        pool: ConnectionPool[Connection[Any]],
        renew: Callable[..., int],
        **held: object,
    ) -> None:
        """`renew` is a query that takes a connection, `lease_seconds` and what is `held`."""
        self._pool = pool
        self._renew = functools.partial(renew, lease_seconds=LEASE_SECONDS, **held)
        self._renewed = time.monotonic()

    def __call__(self) -> None:
        """LeaseLostError when the row is not ours any more.

        A database that is away is asked again the next time: the lease lasts for three of them.
        """
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        try:
            with self._pool.connection() as conn:
                is_ours = self._renew(conn)
        except DATABASE_TROUBLE as error:
            log.warning("lease not renewed: %s", error)
        else:
            if not is_ours:
                raise LeaseLostError


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
        self._id = uuid4()
        self._beaten: float | None = None
        self._told: str | None = None
        self._tidied: float | None = None
        self._decoders = threading.BoundedSemaphore(settings.decoders)
        self._preparing = 0
        self._copies = Copies(settings, storage)
        self._copying = 0
        self._running: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._looked = 0.0
        self._in_flight = 0
        self._soon: float | None = None
        self._stopping = threading.Event()

    # --- the loop

    def stop(self) -> None:
        """Finish the steps in hand and claim no more; callable from any thread."""
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """There may be something to do at once."""
        self._hurry.set()
        self._wake.set()

    def run(self) -> bool:
        """Work until stop() is called; False when a step in hand did not end in time.

        Such a step may be cut off with the process: its row is taken over when the lease ends.
        """
        if not self._settings.fal_configured:
            log.warning("No fal key is set: photos are prepared, nothing is sent.")
        threads = ThreadPoolExecutor(self._settings.worker_threads, "step")
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                self._hurry.clear()
                self._keep_house(threads)
                self._dispatch(threads)
                self._rest(threads, seconds=self._pause())
                self._breathe()
        finally:
            threads.shutdown(wait=False)
            with self._lock:
                in_hand = set(self._running)
            left = wait(in_hand, timeout=DRAIN_SECONDS).not_done
            self._leave()
        return not left

    def _rest(self, threads: ThreadPoolExecutor, *, seconds: float) -> None:
        """Wait until somebody wakes us or the time is over, and keep house meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._wake.wait(min(left, BEAT_SECONDS)):
                return
            self._keep_house(threads)

    def _breathe(self) -> None:
        """Claim no more often than BREATH_SECONDS say, unless somebody hurries.

        A claim asks several questions, and many requests at fal come due one by one.
        """
        distance = BREATH_SECONDS * min(1.0, self._in_flight / 50)
        self._hurry.wait(max(0.0, self._looked + distance - time.monotonic()))

    def _keep_house(self, threads: ThreadPoolExecutor) -> None:
        """What is done every so often, whatever there is to do beside it."""
        now = time.monotonic()
        due = self._beaten is None or now - self._beaten >= BEAT_SECONDS
        if due or self._trouble() != self._told:
            self._beaten = now
            self.beat()
        if due and self._fal.silent and self._room() > 0:
            self._hand_out(threads, self._step(self._try_fal, None, on_error=None))
        if self._tidied is None or now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            threads.submit(self.tidy)

    def beat(self) -> None:
        """Write down that this worker lives and, if so, why it sends nothing."""
        self._told = self._trouble()
        try:
            with self._pool.connection() as conn:
                workers.beat(
                    conn,
                    worker_id=self._id,
                    host=platform.node(),
                    process_id=os.getpid(),
                    release=__version__,
                    trouble=self._told,
                )
        except (psycopg.Error, PoolTimeout) as error:  # no work stops for want of it
            log.warning("not written down that this worker lives: %s", error)

    def _trouble(self) -> str | None:
        if not self._settings.fal_configured:
            return NO_KEY
        return UNREACHABLE if self._fal.silent else None

    def _leave(self) -> None:
        """A clean stop: nobody shall wait for a sign of life."""
        try:
            with self._pool.connection() as conn:
                workers.leave(conn, worker_id=self._id)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("not written down that this worker stopped: %s", error)

    def _try_fal(self, _nothing: None) -> None:
        """Whether fal is there again is known by asking, where nothing else asks it."""
        with suppress(FalError):
            self._fal.probe()

    def run_once(self, *, now: datetime | None = None) -> int:
        """Do all that can be done now, in this thread; how many steps that were."""
        done = 0
        while steps := self.claim(room=1, now=now):
            for step in steps:
                step()
            done += len(steps)
        return done

    def tidy(self) -> None:
        """Remove what nobody needs any more: parts of transfers, callbacks, dead workers, trash."""
        try:
            sweep(incoming(self._settings.data_dir), older_than=LATE_SECONDS)
            self._copies.tidy()
            with self._pool.connection() as conn:
                callbacks.purge(conn)
                workers.purge(conn)
            trash.purge(
                self._pool.connection,
                self._storage,
                days=self._settings.trash_days,
                stopping=self._stopping.is_set,
            )
        except (*DATABASE_TROUBLE, StorageError, OSError) as error:
            log.warning("not tidied up: %s", error)

    def look_now(self, job: Job) -> bool:
        """Search fal's list for an unknown job at once; False: another worker is just doing it."""
        with self._pool.connection() as conn:
            tasks = jobs.claim_fal(
                conn,
                status=JobStatus.UNKNOWN,
                page_size=1,
                lease_seconds=LEASE_SECONDS,
                job_id=job.id,
            )
        for task in tasks:
            self._step(self._look, task, on_error=self._look_broke)()
        return bool(tasks)

    def _dispatch(self, threads: ThreadPoolExecutor) -> None:
        """Hand out as many steps as there are free threads. The end of each wakes the loop."""
        self._looked, self._soon = time.monotonic(), None
        room = self._room()
        if room <= 0:
            return
        try:
            steps = self.claim(room=room)
        except DATABASE_TROUBLE as error:
            log.warning("the database does not answer: %s", error)
            return
        except Exception:
            log.exception("claiming broke; it is tried again")
            return
        for step in steps:
            self._hand_out(threads, step)

    def _pause(self) -> float:
        """Seconds until something is due that no notification announces."""
        longest = self._settings.worker_poll_seconds
        return longest if self._soon is None else min(longest, max(0.01, self._soon))

    def _room(self) -> int:
        """How many threads are free."""
        with self._lock:
            return self._settings.worker_threads - len(self._running)

    def _hand_out(self, threads: ThreadPoolExecutor, step: Step) -> None:
        future = threads.submit(step)
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._finished)

    def _finished(self, future: Future[None]) -> None:
        """Something may be due sooner now; with no thread free, something waits for this one."""
        with self._lock:
            was_full = len(self._running) >= self._settings.worker_threads
            self._running.discard(future)
        if was_full:
            self._hurry.set()
        self._wake.set()

    def claim(self, *, room: int, now: datetime | None = None) -> list[Step]:
        """Claim up to `room` steps: what is paid comes first, then what runs, then the new.

        Where something breaks off, what was claimed before is returned and done.
        """
        steps: list[Step] = []
        try:
            with self._pool.connection() as conn:
                due = self._find_due(conn, now=now)
                if self._settings.fal_configured:
                    self._claim_paid(conn, steps, due=due, room=room, now=now)
                    self._claim_new(conn, steps, due=due, room=room, now=now)
                if due.photos:
                    self._claim_photos(conn, steps, room=room, now=now)
        except Exception as error:
            if not steps:
                raise
            log.warning("claiming broke off: %s", error)
        return steps

    def _find_due(self, conn: Connection[Any], *, now: datetime | None) -> Due:
        """What there is to claim, once what vanished workers left and callbacks say is written."""
        due = jobs.find_due(conn, now=now)
        if self._settings.fal_configured and (due.expired or due.callbacks):
            job_service.recover_expired(conn, now=now)
            webhooks.apply_pending(conn, self._settings)
            due = jobs.find_due(conn, now=now)
        self._soon = due.seconds
        return due

    def _claim_paid(
        self,
        conn: Connection[Any],
        steps: list[Step],
        *,
        due: Due,
        room: int,
        now: datetime | None,
    ) -> None:
        """What is at fal, or may be."""
        work: dict[str, Callable[[FalTask], None]] = {
            JobStatus.STORING: self._collect,
            JobStatus.PROCESSING: self._poll,
            JobStatus.UNKNOWN: self._look,
        }
        for status in due.looks:
            if len(steps) < room:
                tasks = jobs.claim_fal(
                    conn,
                    status=status,
                    page_size=room - len(steps),
                    lease_seconds=LEASE_SECONDS,
                    now=now,
                )
                steps += [
                    self._step(work[status], task, on_error=self._look_broke) for task in tasks
                ]
                self._in_flight = tasks[0].in_flight if tasks else self._in_flight
        if due.late and len(steps) < room:
            submissions.stop_looking_late(conn, now=now)
            late = submissions.claim_late(conn, page_size=room - len(steps), now=now)
            steps += [self._step(self._look_late, task, on_error=None) for task in late]

    def _claim_new(
        self,
        conn: Connection[Any],
        steps: list[Step],
        *,
        due: Due,
        room: int,
        now: datetime | None,
    ) -> None:
        """What may be sent; with the breaker open only the check whether that is over.

        One copy more than there are decoders is under way, so that no decoder waits for a claim.
        """
        if due.account and len(steps) < room and breaker.claim_check(conn, now=now):
            steps.append(self._step(self._check_account, None, on_error=None))
        while due.pending and len(steps) < room and self._copying <= self._settings.decoders:
            found = job_service.claim_send(
                conn, self._settings, has_copies=self._has_copies, now=now
            )
            if found is None:
                break
            if isinstance(found, Sending):
                steps.append(self._step(self._send, found, on_error=self._sending_broke))
                continue
            with self._lock:
                self._copying += 1
            steps.append(self._step(self._copy, found, on_error=None))

    def _claim_photos(
        self, conn: Connection[Any], steps: list[Step], *, room: int, now: datetime | None
    ) -> None:
        while len(steps) < room and self._preparing < self._settings.decoders:
            task = images.claim_preparing(conn, lease_seconds=DECODE_LEASE_SECONDS, now=now)
            if task is None:
                break
            with self._lock:
                self._preparing += 1
            steps.append(self._step(self._prepare, task, on_error=None))

    def _step(
        self,
        work: Callable[[Task], None],
        task: Task,
        *,
        on_error: Callable[[Task, Exception], None] | None,
    ) -> Step:
        """The work with its failures caught: the row is put off first, then the error is logged."""

        def step() -> None:
            with origin.acting(actor="worker", job_id=_job_id(task)):
                caught()

        def caught() -> None:
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

    def _has_copies(self, sending: Sending) -> bool:
        """Whether it can be claimed at once: nothing has to be decoded, or its own step shall fail.

        That is so where a worker has crashed on it, and where its workflow or the folder of copies
        cannot be read.
        """
        if sending.task.crashes:
            return True
        photos = [sending.original, *sending.references]
        try:
            return not self._copies.missing(photos, sending.definition)
        except (InvalidWorkflow, StorageError) as error:
            log.warning("job %s: no copies for fal: %s", sending.task.id, error)
            return True

    def _copy(self, copying: Copying) -> None:
        """Make the copies of a waiting picture, then claim and send it.

        What goes wrong here goes wrong again when it is sent, which knows what to do about it.
        """
        try:
            if not copying.crashes:
                self._make_copies(copying)
        except (InvalidImage, ImagingFailed, StorageError, NotFound) as error:
            log.warning("job %s: no copy for fal: %s", copying.job_id, error)
        finally:
            with self._lock:
                self._copying -= 1
        with self._pool.connection() as conn:
            sending = job_service.claim_copied(conn, self._settings, copying)
        self._wake.set()  # as when a step ends: there is room for the next copy
        if sending is not None:
            self._step(self._send, sending, on_error=self._sending_broke)()

    def _make_copies(self, copying: Copying) -> None:
        lease = Lease(
            self._pool, images.renew_lease, image_id=copying.original.id, fence=copying.fence
        )
        photos = [copying.original, *copying.references]
        for photo in self._copies.missing(photos, copying.definition):
            with self._decoding(lease):
                self._copies.make(photo, copying.definition, keep_alive=lease)

    def _send(self, sending: Sending) -> None:
        """Upload the inputs, commit `sent`, post once, save the answer."""
        try:
            urls = self._upload_inputs(sending)
            sent_at = boottime()
            with self._pool.connection() as conn:
                arguments = job_service.begin_send(conn, sending, urls=urls)
        except FalNotSent as error:
            self._give_back(sending, error)
        except (StorageError, ImagingFailed, NotFound) as error:
            self._wait_for_machine(sending, error)
        except (InvalidImage, InvalidWorkflow) as error:
            self._refuse_ourselves(sending, error)
        else:
            if arguments is not None:
                self._post(sending, arguments=arguments, sent_at=sent_at)

    def _wait_for_machine(self, sending: Sending, error: Exception) -> None:
        """This machine is in trouble, not the photo and not fal: wait, and say so."""
        log.error("job %s cannot be sent: %s", sending.task.id, error)
        self._save(
            lambda conn: job_service.give_back(
                conn,
                task=sending.task,
                token=sending.token,
                error=FalNotSent(f"not sent: {error}"[:500]),
                delay_seconds=job_service.back_off(sending.task.attempts + 3),
                attention="This photo cannot be read from our storage just now. "
                "Nothing was charged; it waits and starts by itself.",
            )
        )

    def _refuse_ourselves(self, sending: Sending, error: InvalidImage | InvalidWorkflow) -> None:
        """Nothing was sent, and never will be: the photo or the workflow does not hold."""
        why = of_code("unreadable" if isinstance(error, InvalidImage) else "workflow")
        refusal = FalRejected(str(error)[:500], error_type=why.code)
        self._save(
            lambda conn: job_service.refuse(
                conn,
                task=sending.task,
                token=sending.token,
                error=refusal,
                explanation=why,
            )
        )

    def _post(self, sending: Sending, *, arguments: Mapping[str, Any], sent_at: float) -> None:
        """The one POST. From here on the answer is saved whatever happens to the lease."""
        task, token = sending.task, sending.token
        try:
            accepted = self._fal.submit(
                task.definition["fal_endpoint"],
                dict(arguments),
                sent_at_boottime=sent_at,
                webhook_url=webhooks.address(self._settings, token=token),
            )
        except FalNotSent as error:
            self._give_back(sending, error)
        except FalRejected as error:
            log.info("job %s refused: %s", task.id, error.brief)
            refused = error
            self._save(
                lambda conn: job_service.refuse(conn, task=task, token=token, error=refused),
                patience=None,
            )
        except FalUnclear as error:
            log.warning("job %s: the answer was lost: %s", task.id, error.brief)
            unclear = error
            self._save(
                lambda conn: job_service.lose_answer(conn, task=task, token=token, error=unclear),
                patience=None,
            )
        else:
            log.info("job %s accepted as %s", task.id, accepted.request_id)
            self._save(
                lambda conn: job_service.accept(
                    conn, job_id=task.id, token=token, accepted=accepted
                ),
                patience=None,
            )

    def _upload_inputs(self, sending: Sending) -> list[str]:
        """Put photo and references into fal's storage under names that carry the token."""
        lease = Lease(
            self._pool, jobs.renew_lease, job_id=sending.task.id, fence=sending.task.fence
        )
        definition = sending.definition
        photos = [sending.original, *sending.references]
        for photo in self._copies.missing(photos, definition):
            with self._decoding(lease):
                self._copies.make(photo, definition, keep_alive=lease)
        # All are read before the first goes up: what has grown old is removed at any time.
        inputs = [self._copies.read(photo, definition) for photo in photos]
        return [
            self._fal.upload(
                name=f"{sending.token}-{index}.{copies.suffix(definition)}",
                data=data,
                content_type=copies.mime_type(definition),
                keep_alive=lease,
            )
            for index, data in enumerate(inputs)
        ]

    def _give_back(self, sending: Sending, error: FalNotSent) -> None:
        """Provably not accepted. Trouble with the account is everybody's, so it stops sending."""
        log.warning("job %s was not accepted: %s", sending.task.id, error.brief)
        account = error if isinstance(error, FalAccount) else None

        def save(conn: Connection[Any]) -> None:
            if account is not None and breaker_service.trip(conn, error=account):
                log.error("sending is paused: the account at fal takes nothing: %s", error.brief)
            job_service.give_back(
                conn,
                task=sending.task,
                token=sending.token,
                error=error,
                delay_seconds=0 if account else job_service.back_off(sending.task.attempts),
            )

        self._save(save, patience=None)

    def _check_account(self, _nothing: None) -> None:
        """Ask fal's storage, which costs nothing, whether the account is taken again."""
        try:
            self._fal.probe()
        except FalError as error:
            log.info("sending stays paused: %s", error.brief)
        else:
            log.warning("sending goes on: the account at fal takes requests again")
            self._save(breaker_service.reset)
            self.wake()

    def _sending_broke(self, sending: Sending, error: Exception) -> None:
        """Something unforeseen before the POST: put off. After it the lease's end decides."""
        with self._pool.connection() as conn:
            job_service.stumble(
                conn, task=sending.task, token=sending.token, detail=f"broke: {error}"[:500]
            )

    # --- at fal

    def _poll(self, task: FalTask) -> None:
        """Look where a request is, ask it to stop if somebody wants that, fetch its result."""
        if task.cancel_requested_at is not None and task.cancel_url:
            try:
                self._fal.cancel(task.cancel_url)
            except FalError as error:  # asked again at the next look; the picture matters more
                log.warning("job %s: fal was not asked to stop: %s", task.id, error.brief)
        try:
            status = self._fal.status(task.status_url or "")
            if status.state == "completed":
                self._finish(task, status)
            else:
                self._keep_waiting(task, status)
        except FalGone as error:
            gone = error
            if task.gone_seconds > GONE_SECONDS:
                self._save(lambda conn: job_service.lose_accepted(conn, task=task, error=gone))
            else:
                self._put_off(task, gone=True)
        except FalAccount:
            self._put_off(task, delay_seconds=60, attention=self._silence(task))
        except FalTemporary as error:
            log.info("job %s: no answer from fal: %s", task.id, error.brief)
            if task.waited_seconds > task.deadline_seconds + LATE_SECONDS:
                silent = error
                self._save(
                    lambda conn: job_service.fail(
                        conn,
                        task=task,
                        error=silent,
                        explanation=of_code("unheard"),
                        outcome="expired",
                    )
                )
            else:
                self._put_off(task, attention=self._silence(task))

    def _silence(self, task: FalTask) -> str | None:
        """A sentence once fal has not answered about a request several times in a row."""
        if task.crashes < SILENT_LOOKS:
            return None
        return "The provider does not answer about this picture. We keep asking."

    def _keep_waiting(self, task: FalTask, status: Status) -> None:
        with self._pool.connection() as conn:
            late = task.waited_seconds - task.deadline_seconds
            if late > 0 and _asked_for(task) > GRACE_SECONDS:
                job_service.fail(
                    conn,
                    task=task,
                    error=FalError("no picture before the deadline", error_type="deadline"),
                    explanation=of_code("late"),
                    outcome="expired",
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
                    in_flight=task.in_flight,
                    queue_position=status.queue_position,
                ),
            )

    def _finish(self, task: FalTask, status: Status) -> None:
        """Fal says completed, which includes failed and cancelled: the result tells which."""
        try:
            result = self._fal.result(task.response_url or "")
        except FalRejected as error:
            self._settle_failure(task, status, error)
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
        if shown:
            cost = _cost(task.unit_price, result)
            self._save(
                lambda conn: job_service.begin_storing(conn, task=task, urls=shown, cost=cost)
            )
            self.wake()
            return
        why = of_code("safety" if result.outputs else "no_picture")
        nothing = FalError("no picture to show", http_status=200, error_type=why.code)
        self._save(lambda conn: job_service.fail(conn, task=task, error=nothing, explanation=why))

    def _settle_failure(self, task: FalTask, status: Status, error: FalRejected) -> None:
        """The model refused, or fal confirms a cancel: a person's, or our own at the deadline."""
        cancelled = "client_cancelled" in {status.error_type, error.error_type}
        if not cancelled:
            log.info("job %s failed at fal: %s", task.id, error.brief)
            self._save(lambda conn: job_service.fail(conn, task=task, error=error))
        elif _is_late(task):
            self._save(
                lambda conn: job_service.fail(
                    conn,
                    task=task,
                    error=error,
                    explanation=of_code("stopped"),
                    outcome="cancelled",
                )
            )
        else:
            self._save(lambda conn: job_service.confirm_cancelled(conn, task=task, detail="at fal"))

    def _look(self, task: FalTask) -> None:
        """Find a request whose answer was lost, by its token in fal's own list."""
        try:
            found, listed = self._search(task)
        except FalError as error:
            log.info("job %s: fal's list does not answer: %s", task.id, error.brief)
            self._put_off(task, attention=job_service.LOST, delay_seconds=_search_pause(task))
            return
        known = found == task.request_id and task.waited_seconds > LATE_SECONDS
        if found is not None and not known:
            # Also under the id that it had: what fal did not know for minutes it may know again.
            log.info("job %s found as %s", task.id, found)
            self._adopt(task, request_id=found)
        elif task.request_id is not None and task.waited_seconds > LATE_SECONDS:
            self._write_off(task)
        elif self._is_absent(task, listed):
            log.info("job %s is proven never to have reached fal", task.id)
            self._save(lambda conn: job_service.prove_absent(conn, task=task))
        else:
            self._put_off(task, attention=job_service.LOST, delay_seconds=_search_pause(task))

    def _search(self, task: FalTask | LateTask) -> tuple[str | None, list[Listed]]:
        """The id under which fal's list has the request, and all that was read to find it.

        Read window by window from its sending on, so that a busy endpoint's newer requests do not
        stand in its way. When it is not found, everything up to now has been read.
        """
        listed: list[Listed] = []
        for begin, end in _windows(task.waited_seconds):
            listed += self._fal.requests(
                task.endpoint,
                since=task.sent_at + timedelta(seconds=begin),
                until=None if end is None else task.sent_at + timedelta(seconds=end),
            )
            found = _find_token(listed, task.token)
            if found is not None:
                return found, listed
        return None, listed

    def _is_absent(self, task: FalTask, listed: Sequence[Listed]) -> bool:
        """Whether fal's list proves that the request never arrived.

        It does when it shows one that we sent later, all payloads can be read, and enough time has
        passed. A request that fal once gave an id for has arrived, whatever the list says.
        """
        if task.request_id is not None or task.waited_seconds < PROOF_SECONDS:
            return False
        if not all(entry.payload for entry in listed):
            return False
        with self._pool.connection() as conn:
            later = submissions.list_later_tokens(conn, token=task.token).tokens
        return any(_find_token(listed, token) for token in later)

    def _write_off(self, task: FalTask) -> None:
        """Fal took it, and for a day knows nothing of it any more."""
        self._save(
            lambda conn: job_service.fail(
                conn,
                task=task,
                error=FalError("fal no longer knows the request", http_status=404),
                explanation=of_code("unheard"),
                outcome="expired",
            )
        )

    def _adopt(self, task: FalTask, *, request_id: str) -> None:
        accepted = request_urls(self._settings, task.endpoint, request_id)
        self._save(
            lambda conn: job_service.accept(
                conn, job_id=task.id, token=task.token, accepted=accepted
            )
        )

    # --- what was given up

    def _look_late(self, task: LateTask) -> None:
        """Fetch a picture that nobody expected any more, if it has come."""
        try:
            if task.request_id is None or task.status_url is None or task.response_url is None:
                self._find_late(task)
                return
            if self._fal.status(task.status_url).state != "completed":
                return
            result = self._fal.result(task.response_url)
        except FalRejected as error:
            log.info("submission %s: nothing came late: %s", task.id, error.brief)
            with self._pool.connection() as conn:
                submissions.stop_looking(conn, token=task.token)
            return
        except FalError as error:
            log.info("submission %s: fal does not answer: %s", task.id, error.brief)
            return
        urls = [output.url for output in result.outputs if not output.nsfw]
        cost = _cost(task.unit_price, result)
        if not urls:
            with self._pool.connection() as conn:
                if result.outputs:
                    job_service.withhold_late(conn, task=task, cost=cost)
                else:
                    submissions.stop_looking(conn, token=task.token)
            return
        with self._pool.connection() as conn:
            taken = job_service.take_late(conn, task=task, urls=urls, cost=cost)
        log.info("submission %s: a picture came late: %s", task.id, taken)
        if taken == "further" and task.job_id is not None and task.user_id is not None:
            self._collect_further(task, job_id=task.job_id, url=urls[0], cost=cost)

    def _find_late(self, task: LateTask) -> None:
        """The id under which fal runs it, from fal's list."""
        found, _ = self._search(task)
        if found is not None:
            urls = request_urls(self._settings, task.endpoint, found)
            with self._pool.connection() as conn:
                job_service.find_late(conn, token=task.token, accepted=urls)

    def _collect_further(
        self, task: LateTask, *, job_id: UUID, url: str, cost: Decimal | None
    ) -> None:
        """Keep a late picture beside the newer one. What breaks off is looked for again."""
        with self._pool.connection() as conn:
            job = jobs.find(conn, job_id=job_id)
        if job is None:
            return
        try:
            with image_service.workspace(self._settings) as folder:
                path = folder / "result"
                with path.open("wb") as sink:
                    kind = self._fal.download(url, sink, keep_alive=_no_lease)
                with self._decoding(_no_lease):
                    result = self._keep(
                        path,
                        kind=kind,
                        keep_alive=_no_lease,
                        token=task.token,
                        user_id=job.user_id,
                        original_image_id=job.original_image_id,
                        ending=f"{task.workflow_name}_{job.number}_late",
                    )
        except (FalError, StorageError, ImagingFailed, OSError) as error:
            log.warning("submission %s: the picture is not kept yet: %s", task.id, error)
            return
        self._save(
            lambda conn: job_service.add_further(
                conn, task=task, job_id=job_id, cost=cost, result=result
            )
        )

    # --- collecting

    def _collect(self, task: FalTask) -> None:
        """Fetch the picture, make its copies, store them, then finish the job."""
        lease = Lease(self._pool, jobs.renew_lease, job_id=task.id, fence=task.fence)
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
            log.warning("job %s: the picture does not come: %s", task.id, error.brief)
            self._put_off(task, attention=UNFETCHED)
        except (StorageError, ImagingFailed, OSError) as error:
            log.error("job %s: the picture cannot be stored: %s", task.id, error)  # noqa: TRY400
            self._put_off(task, attention=UNSTORED)

    def _store(self, task: FalTask, *, path: Path, kind: str | None, lease: Lease) -> None:
        """Everything after the bytes have come."""
        with self._decoding(lease):
            result = self._keep(
                path,
                kind=kind,
                keep_alive=lease,
                token=task.token,
                user_id=task.user_id,
                original_image_id=task.original_image_id,
                ending=f"{task.workflow_name}_{task.number}",
            )
        finished = functools.partial(
            job_service.complete,
            task=task,
            result=result,
            processing_time_ms=max(0, round(task.waited_seconds * 1000)),
        )
        self._save(finished)
        log.info("job %s: the picture is stored", task.id)

    def _keep(
        self,
        path: Path,
        *,
        kind: str | None,
        keep_alive: Callable[[], None],
        token: str,
        user_id: UUID,
        original_image_id: UUID,
        ending: str,
    ) -> dict[str, Any]:
        """Store a fetched picture and its copies; the columns of its row.

        A paid picture that we cannot decode is kept as well, without a preview. Its id and so its
        place come from the token: the same picture stored again after a crash is the same.
        """
        image_id = image_service.result_id(token)
        mime_type, size = _described(path, max_pixels=self._settings.max_image_pixels)
        suffix = image_service.SUFFIXES.get(mime_type, ".bin")
        key = image_key(user_id, image_id, f"original{suffix}")
        has_preview = False
        try:
            made = imaging.prepare(
                path,
                directory=path.parent,
                max_pixels=self._settings.max_image_pixels,
                keep_alive=keep_alive,
            )
            image_service.keep_copies(self._storage, user_id=user_id, image_id=image_id, made=made)
            has_preview = True
        except InvalidImage as error:
            log.warning("result %s (%s) has no preview: %s", image_id, kind, error)
        self._storage.put(key, path)
        with self._pool.connection() as conn:
            original = images.find(conn, image_id=original_image_id, user_id=user_id)
        return {
            "image_id": image_id,
            "user_id": user_id,
            "filename": key.rpartition("/")[2],
            "original_filename": filenames.for_result(
                original.original_filename if original else "picture", ending=ending, suffix=suffix
            ),
            "blob_url": key,
            "sha256": self._storage.sha256(key),
            "file_size": self._storage.size(key),
            "mime_type": mime_type,
            "width": size and size[0],
            "height": size and size[1],
            "has_preview": has_preview,
        }

    def _put_off_lost(self, task: FalTask, error: FalGone) -> None:
        """404 on a paid picture: believed only after a day of it."""
        if task.gone_seconds < LATE_SECONDS:
            self._put_off(task, attention=UNFETCHED, gone=True)
            return
        self._save(
            lambda conn: job_service.fail(
                conn, task=task, error=error, explanation=of_code("lost"), outcome="expired"
            )
        )

    # --- shared by the steps

    def _look_broke(self, task: FalTask, _error: Exception) -> None:
        self._put_off(
            task,
            delay_seconds=job_service.back_off(task.crashes + 3),
            attention="Something broke on our side. Nothing is lost; we keep trying.",
        )

    def _put_off(
        self,
        task: FalTask,
        *,
        delay_seconds: float | None = None,
        attention: str | None = None,
        gone: bool = False,
    ) -> None:
        delay = job_service.back_off(task.crashes) if delay_seconds is None else delay_seconds
        with self._pool.connection() as conn:
            jobs.postpone(
                conn,
                job_id=task.id,
                fence=task.fence,
                delay_seconds=delay,
                attention=attention,
                gone=gone,
            )

    def _save(
        self,
        write: Callable[[Connection[Any]], object],
        *,
        patience: float | None = LEASE_SECONDS,
    ) -> None:
        """Write what fal has told us, even when the database is just restarting.

        The writes are guarded and repeatable, so trying again after a lost COMMIT is safe. The
        answer of a POST is tried for as long as this process lives (patience None).
        """
        begin = time.monotonic()
        while True:
            try:
                with self._pool.connection() as conn:
                    write(conn)
            except DATABASE_TROUBLE as error:
                if patience is not None and time.monotonic() - begin > patience:
                    raise
                log.warning("not saved yet: %s", error)
                time.sleep(0.5)
            else:
                return

    @contextmanager
    def _decoding(self, keep_alive: Callable[[], None]) -> Iterator[None]:
        """One of the places for decoding; the lease is kept while waiting for it."""
        while not self._decoders.acquire(timeout=5):
            keep_alive()
        try:
            yield
        finally:
            self._decoders.release()


def _described(path: Path, *, max_pixels: int) -> tuple[str, tuple[int, int] | None]:
    """Type and size of a fetched file; no size when it is a picture that we cannot read.

    FalTemporary when it is no picture at all, such as an error page: then it was not the result.
    """
    try:
        header = imaging.read_header(path, max_pixels=max_pixels)
    except InvalidImage as error:
        if error.code in {"empty", "not_a_photo"}:
            raise FalTemporary(f"not a picture: {error}", error_type="not_a_picture") from error
        return "application/octet-stream", None
    return header.mime_type, (header.width, header.height)


def _find_token(listed: Sequence[Listed], token: str) -> str | None:
    """The request whose input carries the token, in the names of its files."""
    return next(
        (each.request_id for each in listed if each.payload and token in each.payload), None
    )


def _windows(waited_seconds: float) -> Iterator[tuple[float, float | None]]:
    """The parts in which fal's list is read, in seconds from sending; None is now.

    fal does not say whether it lists a request under its sending or its end, so the first hour is
    not enough to call it absent. The window that holds now is open: clocks may differ.
    """
    for begin, end in pairwise(SEARCH_EDGES):
        if waited_seconds < end:
            yield begin, None
            return
        yield begin, end
    yield SEARCH_EDGES[-1], None


def _search_pause(task: FalTask) -> float:
    """Seconds until fal's list is searched again: soon at first, hourly after some hours."""
    return min(3600.0, 2 + task.waited_seconds / 10)


def _cost(unit_price: Decimal | None, result: Result) -> Decimal | None:
    """What fal's billable units say; None where it gives none."""
    if unit_price is None or result.billable_units is None:
        return None
    return unit_price * result.billable_units


def _no_lease() -> None:
    """For transfers that hold no job."""


def _is_late(task: FalTask) -> bool:
    """Whether it was our own deadline, and no person, that asked fal to stop."""
    asked = task.cancel_requested_at
    return asked is not None and asked >= task.sent_at + timedelta(seconds=task.deadline_seconds)


def _asked_for(task: FalTask) -> float:
    """Seconds since fal was first asked to stop, 0 when it was not."""
    if task.cancel_requested_at is None:
        return 0.0
    now = task.sent_at + timedelta(seconds=task.waited_seconds)
    return (now - task.cancel_requested_at).total_seconds()


def _job_id(task: object) -> UUID | None:
    if isinstance(task, Sending):
        return task.task.id
    if isinstance(task, Copying | LateTask):
        return task.job_id
    return task.id if isinstance(task, FalTask) else None


def _name(task: Copying | Sending | FalTask | LateTask | PrepareTask | None) -> str:
    if task is None:
        return "the check of fal"
    if isinstance(task, Copying):
        return f"job {task.job_id}"
    if isinstance(task, Sending):
        return f"job {task.task.id}"
    if isinstance(task, LateTask):
        return f"submission {task.id}"
    return f"image {task.id}" if isinstance(task, PrepareTask) else f"job {task.id}"
