"""`flask worker`: one worker process, woken by PostgreSQL and stopped by SIGTERM."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click
import psycopg
from flask.cli import with_appcontext

from i2i import db
from i2i.cli.console import Command, database_settings, say
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable, Refused
from i2i.garbage import keep_what_stays
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import make_storage
from i2i.logs import configure_logging
from i2i.worker import Worker

log = logging.getLogger("i2i.worker")

LISTEN_SECONDS = 1.0
"""How often the listener looks whether it shall end."""

LONGEST_WAIT = 30.0


@click.command("worker", cls=Command, audited="never")
@click.option("--once", is_flag=True, help="End when nothing is left to do now.")
@with_appcontext
def run_worker(*, once: bool) -> None:
    """Move jobs forward until SIGTERM, which lets the steps in hand finish."""
    settings = database_settings()
    configure_logging(settings)
    refuse_old_schema(settings)
    size = settings.worker_threads + 2  # a thread each, the loop, and one to spare
    with db.make_pool(settings, size=size, application="i2i worker") as pool:
        worker = Worker(
            settings,
            pool=pool,
            fal=HttpFal(settings),
            storage=make_storage(settings.blob_url, data_dir=settings.data_dir),
        )
        if once:
            count = worker.run_once()
            say(f"{count} {'step' if count == 1 else 'steps'} done.")
            return
        stop_on_signals(worker.stop)
        keep_what_stays()
        with listening(settings, wake=worker.wake):
            log.info("the worker runs")
            drained = worker.run()
        log.info("the worker has stopped")
        if not drained:
            log.warning("a step in hand was cut off; another worker takes it over")
            logging.shutdown()
            os._exit(0)  # the interpreter would wait for the step's thread


def refuse_old_schema(settings: Settings) -> None:
    """Refused when the database misses a migration of this release."""
    with contextlib.closing(db.connect(settings, application="i2i worker")) as conn:
        pending = db.pending_migrations(conn)
    if pending:
        raise Refused(f"The database misses {', '.join(pending)}. Run: flask db migrate")


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` at SIGTERM and SIGINT, in a thread of its own.

    The main thread may hold the lock inside the very event that `stop` sets.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        threading.Thread(target=stop, name="stop").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


@contextlib.contextmanager
def listening(settings: Settings, *, wake: Callable[[], None]) -> Iterator[None]:
    """Call `wake` whenever somebody announces work, in a thread that ends with the context."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=listen,
        args=(settings,),
        kwargs={"wake": wake, "stopping": stopping},
        name="listen",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(LISTEN_SECONDS * 2)


def listen(settings: Settings, *, wake: Callable[[], None], stopping: threading.Event) -> None:
    """Hear NOTIFY i2i_work on a direct connection, made anew with growing pauses when it breaks."""
    wait = 1.0
    while not stopping.is_set():
        try:
            with contextlib.closing(db.connect(settings, application="i2i listen")) as conn:
                conn.execute("LISTEN i2i_work")
                wait = 1.0
                wake()  # for what was announced while nobody listened
                while not stopping.is_set():
                    for _ in conn.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                        wake()
        except (DatabaseUnavailable, psycopg.Error) as error:
            log.warning("not listening for %.0f s: %s", wait, error)
            stopping.wait(wait)
            wait = min(LONGEST_WAIT, wait * 2)
