"""Kill a worker at its 1st, 2nd, 3rd … network or commit point until none is left.

A program of its own: single-threaded, it imports everything once and forks for every run. A run is a
fresh copy of a database, a practice server, a worker that dies at point k, a second worker that takes
over with time moved on, and the invariants. The points are set at the border, around urllib3's
connections and psycopg's commits; i2i itself is not touched.

    before connecting · connected, before the first byte · written · answer begun · answer read
    before each COMMIT that changes a row · after it

`python enumeration.py '{"server": …, "template": …, "folder": …}'` reads orders such as `{"scenario":
"hang", "first": 1, "step": 2}` from its input, one a line, and answers each with one line of JSON.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import factories
import pictures
import psycopg
import urllib3
from invariants import violations
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool
from urllib3.connection import HTTPConnection
from werkzeug.serving import make_server

from i2i import imaging
from i2i import practice as practice_module
from i2i.app import create_app
from i2i.config import Settings
from i2i.errors import Refused
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import make_storage
from i2i.practice import PracticeServer
from i2i.queries import jobs as job_queries
from i2i.services import jobs as job_service
from i2i.worker import Worker

BEFORE, AFTER = 400, 1000
"""Seconds by which the first and the second worker live ahead: pauses are over, at the second one
the first one's leases as well, and fal's list counts as proof."""

ROUNDS = 9
CANCELLED_UNTIL = 50
"""Runs that are cancelled early end before their point; later ones still count."""

GUARD_SECONDS = 60
CRASHED = 137
MOST_POINTS = 500
PRACTICE_SIDE = 64
WRITES = re.compile(rb"\b(INSERT|UPDATE|DELETE)\b")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What fal does and what else happens. `how` names the end: exit, or a real SIGKILL."""

    name: str
    faults: tuple[str, ...] = ()
    how: str = "exit"
    refused: bool = False
    cancel: str | None = None
    full: bool = False
    preparing: bool = False
    webhooks: bool = False


FAULTS = {
    "healthy": (),
    "answer lost": ("lost_answer",),
    "hang": ("hang",),
    "429": ("refuse_429",),
    "500": ("server_error",),
    "502 nginx": ("bad_gateway_nginx",),
    "403 locked": ("locked",),
}

SCENARIOS = [
    Scenario(name="healthy", preparing=True),
    Scenario(name="healthy, SIGKILL", how="SIGKILL"),
    *(Scenario(name=name, faults=modes) for name, modes in FAULTS.items() if modes),
    Scenario(name="refused", refused=True),
    Scenario(name="cancelled at any time", cancel="any"),
    Scenario(name="cancelled at fal", cancel="fal", faults=("never",)),
    Scenario(name="no room to store", full=True),
    *(
        Scenario(name=f"{name}, callbacks", faults=modes, webhooks=True)
        for name, modes in FAULTS.items()
    ),
    Scenario(name="refused, callbacks", refused=True, webhooks=True),
    Scenario(name="callback first", faults=("webhook_early",), webhooks=True),
    Scenario(name="cancelled, callbacks", cancel="any", webhooks=True),
    Scenario(name="no room, callbacks", full=True, webhooks=True),
]


# The points ---------------------------------------------------------------------------------------


class Points:
    """Counts what the main thread reaches, writes it down, and dies at the k-th."""

    def __init__(self, path, *, crash_at, how, cancel_at=None, cancel=None):
        self._log = path.open("ab", buffering=0)
        self._crash_at, self._how = crash_at, how
        self._cancel_at, self._cancel = cancel_at, cancel
        self._main = threading.get_ident()
        self._count = 0

    def reach(self, name, *, locked=False):
        """`locked`: a transaction is open, so that a cancel would wait for the very thread it is in."""
        if threading.get_ident() != self._main or self._count < 0:
            return
        self._count += 1
        self._log.write(f"{name}\n".encode())
        if self._count == self._crash_at:
            if self._how == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(CRASHED)
        if self._cancel is not None and self._count >= self._cancel_at and not locked:
            cancel, self._cancel = self._cancel, None
            count, self._count = self._count, -1
            cancel()
            self._count = count


def install(points):
    """Put the points around every HTTP exchange and every commit of this process, for good."""
    _install_http(points)
    _install_commits(points)


def _install_http(points):
    connect, request = HTTPConnection.connect, HTTPConnection.request
    getresponse, close = HTTPConnection.getresponse, HTTPConnection.close

    def connect_(self):
        points.reach("before connecting")
        connect(self)

    def request_(self, method, url, *args, **kwargs):
        self.what = f"{method} {re.sub(r'[0-9a-f]{16,}', '*', url.partition('?')[0])}"
        points.reach(f"{self.what}: before the first byte")
        request(self, method, url, *args, **kwargs)
        points.reach(f"{self.what}: written")

    def getresponse_(self):
        response = getresponse(self)
        points.reach(f"{self.what}: answer begun")
        self.answered = True
        return response

    def close_(self):
        close(self)
        if getattr(self, "answered", False):
            self.answered = False
            points.reach(f"{self.what}: answer read")

    HTTPConnection.connect, HTTPConnection.request = connect_, request_
    HTTPConnection.getresponse, HTTPConnection.close = getresponse_, close_


def _install_commits(points):
    transaction, execute = psycopg.Connection.transaction, psycopg.Cursor.execute

    def is_idle(conn):
        return conn.info.transaction_status == TransactionStatus.IDLE

    @contextlib.contextmanager
    def transaction_(self, *args, **kwargs):
        outermost = is_idle(self)
        if outermost:
            self.wrote = None
        with transaction(self, *args, **kwargs) as block:
            yield block
            if outermost and self.wrote:
                points.reach(f"{self.wrote}: before COMMIT", locked=True)
        if outermost and self.wrote:
            points.reach(f"{self.wrote}: after COMMIT")

    def execute_(self, query, *args, **kwargs):
        text = query.encode() if isinstance(query, str) else bytes(query)
        if is_idle(self.connection) and WRITES.search(text):
            # The same commit as autocommit's, with a moment before it.
            with self.connection.transaction():
                return execute_(self, query, *args, **kwargs)
        result = execute(self, query, *args, **kwargs)
        tag = (self.statusmessage or "").partition(" ")[0]
        if tag in {"INSERT", "UPDATE", "DELETE"} and self.rowcount > 0:
            named = re.match(rb"/\* ([\w.]+)", text)
            self.connection.wrote = named[1].decode() if named else tag
        return result

    psycopg.Connection.transaction, psycopg.Cursor.execute = transaction_, execute_


def save_time(kept):
    """Leave out what a killed process cannot tell from the real thing, and what all runs repeat.

    What a process wrote outlives its SIGKILL without any fsync. The copies of a picture are made
    once, and copied after that.
    """
    os.fsync = lambda _descriptor: None
    kept.mkdir(parents=True)
    program = compile(Path(imaging.__file__).read_bytes(), imaging.__file__, "exec")
    imaging.subprocess.run = functools.partial(_decode, subprocess.run, program, kept)
    practice_module.LONG_SIDE = PRACTICE_SIDE


def _decode(usual, program, kept, command, **options):
    """In place of the start of the limited child: a fork of this process, the first time."""
    if imaging.__file__ not in command:
        return usual(command, **options)
    request = json.loads(command[-1])
    copies = request.pop("copies")
    request["bytes"] = hashlib.sha256(Path(request.pop("source")).read_bytes()).hexdigest()
    request["copies"] = [{**copy, "path": ""} for copy in copies]
    name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    files = {kept / f"{name}-{number}": copy["path"] for number, copy in enumerate(copies)}
    if all(each.exists() for each in files):
        for each, path in files.items():
            shutil.copyfile(each, path)
        return subprocess.CompletedProcess(command, 0, b"{}", b"")
    done = _decode_by_fork(program, command)
    if done.returncode == 0 and json.loads(done.stdout) == {}:
        for each, path in files.items():
            beside = each.with_suffix(f".{os.getpid()}")
            shutil.copyfile(path, beside)
            beside.rename(each)
    return done


def _decode_by_fork(program, command):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with guarded():
            os.dup2(writer, 1)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
            sys.argv = command[2:]
            exec(program, {"__name__": "__main__", "__file__": imaging.__file__})
            sys.stdout.flush()
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return subprocess.CompletedProcess(command, status, said, b"")


# A run --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded():
    """The body of a forked process: it never returns into the zygote's code."""
    try:
        yield
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


@dataclass(kw_only=True)
class Run:
    """One run's database, folder and processes."""

    scenario: Scenario
    number: int
    database: str
    folder: Path
    practice_url: str = ""
    public_url: str | None = None
    pool: ConnectionPool | None = None
    children: list[int] = field(default_factory=list)

    @property
    def reached(self):
        return self.folder / "points"

    @property
    def verdict(self):
        return self.folder / "verdict.json"

    def settings(self, **environ):
        usual = {
            "SECRET_KEY": "only-for-tests-0123456789",
            "DATA_DIR": str(self.folder / "data"),
            "POSTGRES_URL": self.database,
            "DECODERS": "1",
            "FAL_QUEUE_URL": self.practice_url,
            "FAL_REST_URL": self.practice_url,
            "FAL_PLATFORM_URL": self.practice_url,
            "FAL_MEDIA_HOSTS": self.practice_url,
        }
        if self.public_url:
            usual["PUBLIC_URL"] = self.public_url
        return replace(Settings.from_env(usual | environ), bcrypt_rounds=4)

    # --- processes of a run

    def serve_practice(self):
        """Fork the practice server, with pictures of a stamp's size."""
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            with guarded():
                server = PracticeServer(self.folder / "practice", seconds=0)
                for mode in self.scenario.faults:
                    server.books.add_fault({"mode": mode, "count": 1})
                os.write(writer, server.url.encode())
                os.close(writer)
                server.run()
        self.children.append(pid)
        os.close(writer)
        with os.fdopen(reader, encoding="ascii") as said:
            self.practice_url = said.read()

    def serve_web(self):
        """Fork the pages, for the callbacks."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.public_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if (pid := os.fork()) == 0:
            with guarded():
                app = create_app(self.settings())
                make_server(
                    "127.0.0.1", 0, app, threaded=True, fd=listener.fileno()
                ).serve_forever()
        self.children.append(pid)
        listener.close()

    def fork(self, work):
        """Run `work` in a process; its exit status, negative for a signal."""
        if (pid := os.fork()) == 0:
            with guarded():
                signal.alarm(GUARD_SECONDS)
                logging.disable(logging.NOTSET)
                handler = logging.FileHandler(self.folder / "broke.log", delay=True)
                handler.addFilter(lambda record: record.exc_info is not None)
                logging.getLogger("i2i").addHandler(handler)
                work()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def end(self):
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    # --- what the two workers do

    def work(self, crash_at):
        """The first worker: it may die at a point; it ends when there is nothing more to do."""
        cancel_at = None
        if self.scenario.cancel == "any":
            cancel_at = random.Random(f"{self.scenario.name} {crash_at}").randrange(1, 45)
        points = Points(
            self.reached,
            crash_at=crash_at,
            how=self.scenario.how,
            cancel_at=cancel_at,
            cancel=self.cancel if cancel_at else None,
        )
        environ = {}
        if self.scenario.refused:
            taken = socket.socket()
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            environ = {"FAL_QUEUE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        with self.working(**environ) as worker:
            install(points)
            self.drive(worker, later=BEFORE, rounds=3 if self.scenario.refused else ROUNDS)

    def recover(self):
        """The second worker takes over; then everything is judged."""
        with self.working() as worker:
            if self.scenario.cancel == "any":
                self.cancel()
            self.make_room()
            self.drive(worker, later=AFTER)
            for _ in range(2):
                if self.look().status == "unknown":
                    # fal's list proves an absence only by something that was sent later.
                    self.add_evidence()
                    self.drive(worker, later=AFTER)
            self.drive(worker, later=AFTER, rounds=2)
            self.judge()

    @contextlib.contextmanager
    def working(self, **environ):
        """A worker with one connection, which the looks from outside share."""
        settings = self.settings(**environ)
        with ConnectionPool(
            self.database, min_size=1, max_size=1, kwargs={"autocommit": True}
        ) as pool:
            self.pool = pool
            yield Worker(
                settings,
                pool=pool,
                fal=HttpFal(settings, submit_seconds=0.2, read_seconds=5),
                storage=make_storage(settings.blob_url, data_dir=settings.data_dir),
            )

    def drive(self, worker, *, later, rounds=ROUNDS):
        """Rounds of claims and steps until all jobs are at rest; fal is given the time it needs."""
        silent = 0
        for number in range(rounds):
            steps = worker.claim(room=8, now=datetime.now(UTC) + timedelta(seconds=later))
            for step in steps:
                step()
            self.settle()
            job = self.look()
            silent = silent + 1 if self.is_searching() else 0
            if self.is_over() or silent > 2:
                break
            if job.status == "storing" and job.attention:
                self.make_room()
            if self.scenario.cancel == "fal" and number == 1:
                self.cancel()

    def look(self):
        """The job that the run is about."""
        with self.pool.connection() as conn:
            row = conn.execute("SELECT id FROM processing_jobs ORDER BY created_at, id LIMIT 1")
            return job_queries.find(conn, job_id=row.fetchone()[0])

    def is_over(self):
        return self.ask(
            "SELECT NOT EXISTS (SELECT FROM processing_jobs"
            " WHERE status NOT IN ('completed', 'failed', 'cancelled'))"
        )

    def is_searching(self):
        """Whether nothing moves but the search for lost answers."""
        return self.ask(
            "SELECT NOT EXISTS (SELECT FROM processing_jobs"
            " WHERE status NOT IN ('completed', 'failed', 'cancelled', 'unknown'))"
        )

    def ask(self, question, *args):
        with self.pool.connection() as conn:
            return conn.execute(question, args).fetchone()[0]

    def settle(self):
        """Wait until fal has made what it was asked for, and told us so."""
        while not all(self.is_settled(path) for path in self.accepted()):
            select.select([], [], [], 0.002)

    def accepted(self):
        return (self.folder / "practice" / "requests").glob("[0-9a-f]*.json")

    def is_settled(self, path):
        request = json.loads(path.read_bytes())
        if request["state"] != "COMPLETED":
            return request["fault"] == "never"
        if not request["webhook_url"] or request["error_type"] == "client_cancelled":
            return True
        return self.ask(
            "SELECT EXISTS (SELECT FROM webhook_events WHERE request_id = %s)",
            request["request_id"],
        )

    def cancel(self):
        """As the job's owner does."""
        with psycopg.connect(self.database, autocommit=True) as conn:
            job_id, user_id = conn.execute("SELECT id, user_id FROM processing_jobs").fetchone()
            with contextlib.suppress(Refused):
                job_service.cancel(conn, job_id=job_id, user_id=user_id)

    @property
    def blobs(self):
        return self.folder / "data" / "blobs"

    def take_room(self):
        """A file in place of the folder of half-written files: nothing can be stored."""
        (self.blobs / ".partial").write_bytes(b"")

    def make_room(self):
        if (self.blobs / ".partial").is_file():
            (self.blobs / ".partial").unlink()

    def add_evidence(self):
        """Another picture, sent later to the same endpoint."""
        with self.pool.connection() as conn:
            user = conn.execute("SELECT id, email FROM users").fetchone()
            image = conn.execute("SELECT id FROM images WHERE NOT is_processed").fetchone()
            factories.make_job(conn, user=Named(*user), image=Named(*image))

    def judge(self):
        http = urllib3.PoolManager(retries=False, timeout=10)
        requests = http.request("GET", f"{self.practice_url}/ledger").json()["requests"]
        http.clear()
        said = violations(self.database, blobs=self.blobs, requests=requests)
        broke = self.folder / "broke.log"
        if broke.exists():
            said.append(broke.read_text())
        passed = self.ask("SELECT count(*) FROM job_events WHERE to_status = 'unknown'")
        verdict = {
            "violations": said,
            "status": self.look().status,
            "passed_unknown": passed > 0,
        }
        self.verdict.write_text(json.dumps(verdict))


@dataclass(frozen=True)
class Named:
    """A row by its id, as far as factories look."""

    id: object
    email: str = ""


# All runs -----------------------------------------------------------------------------------------


class Rewinder:
    """Puts a database back to what it was, which takes a tenth of the time of a new copy."""

    def __init__(self, url):
        self.url = url
        self.conn = psycopg.connect(url, autocommit=True)
        self.conn.execute("SET session_replication_role = replica")  # contents as they stand
        self.conn.execute("CREATE SCHEMA seed")
        # With their columns, but for those that the database works out by itself.
        self.tables = dict(
            self.conn.execute(
                "SELECT tablename, (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
                " WHERE attrelid = format('public.%I', tablename)::regclass AND attnum > 0"
                " AND NOT attisdropped AND attgenerated = '')"
                " FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'yoyo' ORDER BY 1"
            ).fetchall()
        )
        for table in self.tables:
            self.conn.execute(f"CREATE TABLE seed.{table} AS TABLE public.{table}")

    def rewind(self):
        """Sessions that killed processes left end first, so that nothing of theirs comes later."""
        self.conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with self.conn.transaction():
            for table, columns in self.tables.items():
                self.conn.execute(f"DELETE FROM {table}")
                self.conn.execute(
                    f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
                    f" SELECT {columns} FROM seed.{table}"
                )
            self.conn.execute(
                "SELECT setval(pg_get_serial_sequence('job_events', 'id'),"
                " (SELECT max(id) FROM job_events))"
            )


class Zygote:
    """Forks the runs. Opens no thread; its own connections only make and rewind databases."""

    def __init__(self, *, server, template, folder):
        self.server, self.folder = server, Path(folder)
        self.template = template
        self.prefix = f"run_{os.getpid()}"
        self.admin = psycopg.connect(server, autocommit=True)
        self.seeds = {}
        self.numbers = itertools.count(1)

    def url(self, name):
        return urlunsplit(urlsplit(self.server)._replace(path=f"/{name}"))

    def seed(self, *, preparing):
        """A database with one user, one photo and one job, and the folder that goes with it."""
        if preparing not in self.seeds:
            name = f"{self.prefix}_{'preparing' if preparing else 'ready'}"
            folder = self.folder / name
            self.admin.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
            storage = make_storage(f"file://{folder}/blobs", data_dir=folder)
            with psycopg.connect(self.url(name), autocommit=True) as conn:
                user = factories.make_user(conn, email="owner@example.com")
                photo = factories.make_image(
                    conn,
                    user=user,
                    name="coat.jpg",
                    status="preparing" if preparing else "ready",
                    data=pictures.jpeg(pictures.photo(size=(64, 48))),
                    storage=storage,
                )
                factories.make_job(conn, user=user, image=photo)
            self.seeds[preparing] = folder, Rewinder(self.url(name))
        return self.seeds[preparing]

    def run(self, scenario, crash_at):
        """One run; its points, whether it crashed, and the verdict."""
        number = next(self.numbers)
        data, rewinder = self.seed(preparing=scenario.preparing)
        rewinder.rewind()
        run = Run(
            scenario=scenario,
            number=number,
            database=rewinder.url,
            folder=self.folder / f"run-{number}",
        )
        shutil.copytree(data, run.folder / "data")
        if scenario.full:
            run.take_room()
        try:
            run.serve_practice()
            if scenario.webhooks:
                run.serve_web()
            first = run.fork(lambda: run.work(crash_at))
            second = run.fork(run.recover)
        finally:
            run.end()
        points = run.reached.read_text().splitlines() if run.reached.exists() else []
        verdict = {"violations": [], "status": "none", "passed_unknown": False}
        if run.verdict.exists():
            verdict = json.loads(run.verdict.read_text())
        crashed = first in {CRASHED, -signal.SIGKILL}
        if first not in {0, CRASHED, -signal.SIGKILL} or second != 0:
            verdict["violations"].append(f"a process ended with {first} and {second}")
        if not verdict["violations"]:
            shutil.rmtree(run.folder)
        return points, crashed, verdict

    def enumerate(self, scenario, *, first=1, step=1):
        """Runs for k = first, first + step, … until one ends without a crash."""
        begin = time.monotonic()
        result = {
            "name": scenario.name,
            "points": 0,
            "runs": 0,
            "unknown": 0,
            "still_unknown": 0,
            "ends": {},
            "violations": [],
        }
        for crash_at in range(first, MOST_POINTS, step):
            points, crashed, verdict = self.run(scenario, crash_at)
            result["runs"] += 1
            result["points"] = max(result["points"], len(points))
            result["unknown"] += verdict["passed_unknown"]
            result["still_unknown"] += verdict["status"] == "unknown"
            ends = result["ends"]
            ends[verdict["status"]] = ends.get(verdict["status"], 0) + 1
            where = f"point {crash_at} ({points[-1] if points else 'none'})"
            result["violations"] += [f"{where}: {each}" for each in verdict["violations"]]
            if not crashed and (scenario.cancel != "any" or crash_at > CANCELLED_UNTIL):
                break
        else:
            result["violations"].append(f"still crashing at point {MOST_POINTS}")
        result["seconds"] = round(time.monotonic() - begin, 1)
        return result


def main():
    begun = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    save_time(Path(begun["folder"]) / "copies")
    zygote = Zygote(**begun)
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for line in sys.stdin:
        order = json.loads(line)
        assert threading.active_count() == 1
        scenario = scenarios[order.pop("scenario")]
        sys.stdout.write(json.dumps(zygote.enumerate(scenario, **order)) + "\n")
        sys.stdout.flush()
    zygote.admin.close()


if __name__ == "__main__":
    main()
