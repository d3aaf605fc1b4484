"""`make run`: everything that i2i needs on one machine, started, watched and stopped together.

One process owns the embedded PostgreSQL and starts the others as children: the practice server,
one worker, gunicorn. It has a single thread that sleeps until a signal arrives (a stop, or the end
of a child). Children live in sessions of their own, so that Ctrl-C reaches this process only; they
ask the kernel for a SIGTERM should it be killed. PostgreSQL then stays; the next start adopts it.
"""

import contextlib
import ctypes
import fcntl
import os
import secrets
import select
import signal
import socket
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, Self

import psycopg

from i2i import db, embedded
from i2i.config import ROOT, Settings
from i2i.errors import I2IError
from i2i.queries import users as user_queries
from i2i.services import users

DEMO_EMAIL = "demo@example.com"
HOST = "127.0.0.1"
READY_SECONDS = 60
"""How long the pages may take to answer before the start is given up."""

SETTLED_SECONDS = 30
"""A child that lived this long starts again at once; the wait grows only for quick ends."""

LONGEST_WAIT = 5.0
BIG_LOG_BYTES = 10_000_000
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Stop(BaseException):
    """Somebody asked us to end; not an error, hence no Exception."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `make run` reads beside the settings. `practice_port` is None with a fal key."""

    data_dir: Path
    port: int
    practice_port: int | None
    practice_seconds: str


@dataclass(kw_only=True)
class Child:
    """One program that is kept running. `patience` is how long a TERM may take, in seconds."""

    name: str
    command: list[str]
    patience: float
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    wait: float = 0.0
    again_at: float = 0.0


def main() -> int:
    """Run until SIGINT or SIGTERM, then return 0; SystemExit with one line where it cannot."""
    begin = time.monotonic()
    try:
        options = read_options(os.environ)
        with Signals() as signals, only_one(options.data_dir):
            make_secret_key(options.data_dir)
            environ = child_environment(os.environ, options)
            settings = Settings.from_env(environ)
            killed = settings.postgres_url is None and embedded.status(options.data_dir)
            check_ports(options, patience=5 if killed else 0)
            Supervisor(options, settings, environ, signals).run(begin)
    except psycopg.Error as error:
        refuse(db.explain(error))
    except (I2IError, OSError) as error:
        refuse(str(error))
    return 0


def refuse(message: str) -> NoReturn:
    raise SystemExit(f"i2i: {message}")


def read_options(environ: Mapping[str, str]) -> Options:
    """PORT, PRACTICE_PORT, PRACTICE_SECONDS and DATA_DIR; SystemExit names a wrong one."""

    def port(name: str, default: int) -> int:
        text = environ.get(name, "").strip() or str(default)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
            refuse(f"{name} must be a port number from 1 to 65535.")
        return int(text)

    web = port("PORT", 8000)
    has_key = environ.get("FAL_KEY", "").strip() or environ.get("FAL_KEY_FILE")
    practice = None if has_key else port("PRACTICE_PORT", web + 1)
    if practice == web:
        refuse("PRACTICE_PORT must differ from PORT.")
    seconds = environ.get("PRACTICE_SECONDS", "").strip() or "3"
    try:
        sensible = 0 <= float(seconds) <= 3600
    except ValueError:
        sensible = False
    if not sensible:
        refuse("PRACTICE_SECONDS must be a number of seconds from 0 to 3600.")
    return Options(
        data_dir=Path(environ.get("DATA_DIR") or "var").expanduser().absolute(),
        port=web,
        practice_port=practice,
        practice_seconds=seconds,
    )


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock of this DATA_DIR; the kernel lets it go however we end.

    The folder is made private. As root others may pass through it, for PostgreSQL's user.
    """
    if not data_dir.is_dir():
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    (data_dir / "log").mkdir(mode=0o700, exist_ok=True)
    with (data_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            refuse(f"Already running for {data_dir} (process {lock.read().strip() or 'unknown'}).")
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def make_secret_key(data_dir: Path) -> None:
    """Make DATA_DIR/secret_key where it is missing."""
    if not (data_dir / "secret_key").exists():
        write_private(data_dir / "secret_key", f"{secrets.token_hex(32)}\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def child_environment(environ: Mapping[str, str], options: Options) -> dict[str, str]:
    """What the children see: one DATA_DIR, and the practice server where nothing else is named."""
    given = dict(environ) | {
        "DATA_DIR": str(options.data_dir),
        "FLASK_APP": "wsgi",
        "PYTHONUNBUFFERED": "1",
    }
    if options.practice_port is not None:
        origin = f"http://{HOST}:{options.practice_port}"
        for name in ("FAL_QUEUE_URL", "FAL_REST_URL", "FAL_PLATFORM_URL", "FAL_MEDIA_HOSTS"):
            given[name] = given.get(name, "").strip() or origin
    return given


def check_ports(options: Options, *, patience: float) -> None:
    """SystemExit with one line when a port is taken. After a kill, what is ending gets a moment."""
    deadline = time.monotonic() + patience
    for name, port in (("PORT", options.port), ("PRACTICE_PORT", options.practice_port)):
        while port is not None and is_busy(port):
            if time.monotonic() > deadline:
                refuse(f"Port {port} is in use. Choose another: make run {name}={port + 10}")
            time.sleep(0.1)


def is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            refuse(f"Port {port} is reserved for root. Choose one above 1023.")
        except OSError:
            return True
    return False


class Signals:
    """Waits that end at once when a signal arrives. The handlers themselves do nothing."""

    def __init__(self) -> None:
        self.stops = 0

    def __enter__(self) -> Self:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # started with nohup
            wanted.discard(signal.SIGHUP)
        self.before = {number: signal.signal(number, lambda *_: None) for number in wanted}
        self.woken_before = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self.woken_before)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        os.close(self.reader)
        os.close(self.writer)

    def wait(self, seconds: float) -> None:
        """Sleep for so long, or until a signal arrives; counts the requests to stop."""
        if select.select([self.reader], [], [], max(0.0, seconds))[0]:
            arrived = os.read(self.reader, 512)
            self.stops += sum(number != signal.SIGCHLD for number in arrived)

    def pause(self, seconds: float) -> None:
        """As wait; raises Stop once somebody asked for it."""
        self.wait(seconds)
        if self.stops:
            raise Stop


class Supervisor:
    """Starts all parts in order, keeps them running, stops them in reverse."""

    def __init__(
        self, options: Options, settings: Settings, environ: dict[str, str], signals: Signals
    ) -> None:
        self.options = options
        self.settings = settings
        self.environ = environ
        self.signals = signals
        self.logs = options.data_dir / "log"
        self.children: list[Child] = []
        self.embedded = settings.postgres_url is None
        self.database_again_at = 0.0

    def run(self, begin: float) -> None:
        """Until somebody asks to stop. I2IError when the start does not succeed."""
        try:
            self.start(begin)
            while True:
                self.signals.pause(self.watch())
        except Stop:
            say("Stopping.")
        finally:
            self.stop()

    def start(self, begin: float) -> None:
        """Bring everything up and say where it is."""
        say(f"Starting i2i. Logs: {self.logs}")
        python = [sys.executable, "-m"]
        if self.options.practice_port is not None:
            practice = ["flask", "practice-fal", "--port", str(self.options.practice_port)]
            practice += ["--seconds", self.options.practice_seconds]
            self.launch(Child(name="practice", command=python + practice, patience=5))
        if self.embedded:
            self.start_database()
        self.signals.pause(0)
        self.set_up_schema()
        password = self.make_demo_user()
        self.launch(Child(name="worker", command=[*python, "flask", "worker"], patience=30))
        gunicorn = ["gunicorn", "-c", str(ROOT / "gunicorn.conf.py")]
        gunicorn += ["--bind", f"{HOST}:{self.options.port}", "wsgi:app"]
        self.launch(Child(name="web", command=python + gunicorn, patience=35))
        self.wait_until_ready()
        self.welcome(password, seconds=time.monotonic() - begin)

    def start_database(self) -> None:
        server = embedded.start(self.options.data_dir)
        if not server.directory.is_relative_to(self.options.data_dir):
            say(
                f"The database lives in {server.directory}: PostgreSQL does not run as root, "
                f"and its user cannot enter {self.options.data_dir}."
            )

    def set_up_schema(self) -> None:
        """Migrate and seed; quiet unless it fails."""
        with self.log("setup") as log:
            mark = log.tell()
            process = self.spawn([sys.executable, "-m", "flask", "db", "setup"], log=log)
            try:
                while process.poll() is None:
                    self.signals.pause(1)
            finally:
                end(process, patience=30, hurry=lambda: False, signals=self.signals)
        if process.returncode:
            with (self.logs / "setup.log").open("rb") as file:
                file.seek(mark)
                told = file.read().decode("utf-8", "replace").strip().splitlines()
            refuse(
                f"The database could not be prepared: {told[-1] if told else 'no reason given'} "
                f"(see {self.logs / 'setup.log'})"
            )

    def make_demo_user(self) -> str:
        """The demo user's password, made once; user and file are made again where one is gone."""
        path = self.options.data_dir / "demo"
        settings = embedded.with_database(self.settings)
        with contextlib.closing(db.connect(settings, application="i2i run")) as conn:
            user = user_queries.find_by_email(conn, email=DEMO_EMAIL)
            password = kept_password(path)
            if user and password:
                return password
            if not password:
                letters = string.ascii_letters + string.digits
                password = "".join(secrets.choice(letters) for _ in range(20))
                write_private(path, f"{DEMO_EMAIL}\n{password}\n")
            if user:
                users.set_password(conn, settings, user_id=user.id, password=password)
            else:
                users.create(conn, settings, email=DEMO_EMAIL, password=password)
        return password

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        url = f"http://{HOST}:{self.options.port}/readyz"
        while not answers(url):
            self.watch()
            gave_up = self.children[-1].wait >= LONGEST_WAIT
            if gave_up or time.monotonic() > deadline:
                refuse(f"The web server does not start. See {self.logs / 'web.log'}")
            self.signals.pause(0.1)

    def welcome(self, password: str, *, seconds: float) -> None:
        say(f"Ready after {seconds:.1f} s: http://{HOST}:{self.options.port}/")
        say(f"Sign in as {DEMO_EMAIL} with the password {password}")
        if self.options.practice_port is not None:
            say("Practice: this machine makes the pictures and stamps them; nothing is charged.")
        say("Stop with Ctrl-C.")

    def watch(self) -> float:
        """Start again what has ended; how many seconds until the next look."""
        if self.embedded:
            self.watch_database()
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self.bury(child, now=now)
            if child.process is None and now >= child.again_at:
                self.launch(child)
        due = [child.again_at - now for child in self.children if child.process is None]
        return min([2.0, *due])

    def watch_database(self) -> None:
        """A killed server is started again; it recovers by itself, at the same address."""
        now = time.monotonic()
        if now < self.database_again_at or embedded.status(self.options.data_dir):
            return
        self.database_again_at = now + LONGEST_WAIT
        say("PostgreSQL does not run any more; starting it again.")
        try:
            self.start_database()
        except I2IError as error:
            say(str(error))

    def bury(self, child: Child, *, now: float) -> None:
        """Note the end of a child, end what it left, and decide when it starts again."""
        process, child.process = child.process, None
        if process is None:
            return
        kill_group(process)
        settled = now - child.started > SETTLED_SECONDS
        before, child.wait = (
            child.wait,
            0.25 if settled else min(LONGEST_WAIT, child.wait * 2 or 0.25),
        )
        child.again_at = now + child.wait
        if child.wait != before or settled:
            how = f"exit {process.returncode}" if process.returncode >= 0 else "killed"
            log = self.logs / f"{child.name}.log"
            say(f"The {child.name} process ended ({how}); starting it again. See {log}")

    def launch(self, child: Child) -> None:
        with self.log(child.name) as log:
            child.process = self.spawn(child.command, log=log)
        child.started = time.monotonic()
        if child not in self.children:
            self.children.append(child)

    def spawn(self, command: list[str], *, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
        )

    @contextlib.contextmanager
    def log(self, name: str) -> Iterator[IO[bytes]]:
        """A log opened for appending; a big one is put aside first."""
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > BIG_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as file:
            yield file

    def stop(self) -> None:
        """Children in reverse order, then PostgreSQL. Asking again, and again, hurries the rest.

        One request may arrive twice: make passes on what its whole process group was sent.
        """
        asked = self.signals.stops
        for child in reversed(self.children):
            if child.process is not None:
                end(
                    child.process,
                    patience=child.patience,
                    hurry=lambda: self.signals.stops > asked + 1,
                    signals=self.signals,
                )
        if self.embedded:
            embedded.stop(self.options.data_dir)


def end(
    process: "subprocess.Popen[bytes]",
    *,
    patience: float,
    hurry: Callable[[], bool],
    signals: Signals,
) -> None:
    """TERM, wait, KILL what is left of its session."""
    deadline = time.monotonic() + patience
    if process.poll() is None:
        process.terminate()
    while process.poll() is None and time.monotonic() < deadline and not hurry():
        signals.wait(0.2)
    kill_group(process)
    process.wait()


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End the process and whatever it started: its session carries its number."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def die_with(parent: int) -> Callable[[], None]:
    """For a child, before exec: a SIGTERM when `parent` ends without having stopped it."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def ask_kernel() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


def kept_password(path: Path) -> str | None:
    """The second line of DATA_DIR/demo, if there is one."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[1] if len(lines) == 2 else None


def answers(url: str) -> bool:
    """Whether the pages answer 200 at this address, never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def say(line: str) -> None:
    """One line for the person at the terminal, who may have closed it."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
