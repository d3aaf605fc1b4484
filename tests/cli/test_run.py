"""`make run`: real processes, real signals, real ports."""

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from i2i import embedded
from i2i.cli import run
from i2i.config import ROOT

HANG_GUARD = 90


@pytest.fixture
def data_dir():
    """Where a DATA_DIR can be made that the server's user may pass through."""
    place = next(place for place in embedded.SHORT_PLACES if os.access(place, os.W_OK))
    folder = Path(tempfile.mkdtemp(prefix="i2i-test-", dir=place))
    folder.chmod(0o711)
    yield folder / "var"
    embedded.stop(folder / "var")
    shutil.rmtree(folder)


@pytest.fixture
def ports():
    """Two ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def environment(data_dir, ports, **more):
    dropped = ("FAL_", "POSTGRES_", "SECRET_KEY", "FLASK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    port, practice = map(str, ports)
    return kept | {"DATA_DIR": str(data_dir), "PORT": port, "PRACTICE_PORT": practice} | more


class Running:
    """A supervisor of its own, with what it has said so far."""

    def __init__(self, environ):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "i2i.cli.run"],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.said = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(HANG_GUARD)
        self.process.stdout.close()

    def hear(self, *wanted):
        """Read on until all these were said."""
        deadline = time.monotonic() + HANG_GUARD
        while not all(word in self.said for word in wanted):
            left = max(0, deadline - time.monotonic())
            assert select.select([self.process.stdout], [], [], left)[0], self.said
            more = os.read(self.process.stdout.fileno(), 4096).decode()
            assert more, f"It ended: {self.said}"
            self.said += more
        return self.said

    def children(self):
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def ask_to_stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(HANG_GUARD)


def wait_for_end(pid):
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], HANG_GUARD)[0], f"process {pid} lives on"
    finally:
        os.close(handle)


def wait_until_answered(url):
    pause, deadline = threading.Event(), time.monotonic() + HANG_GUARD
    while not run.answers(url):
        assert time.monotonic() < deadline, f"{url} does not answer"
        pause.wait(0.05)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_starts_restarts_survives_a_kill_and_stops(data_dir, ports):
    environ = environment(data_dir, ports)
    page = f"http://127.0.0.1:{ports[0]}/"
    with Running(environ) as first:
        said = first.hear("Stop with Ctrl-C.")
        email, password = (data_dir / "demo").read_text().split()
        assert page in said
        assert email == "demo@example.com"
        assert len(password) == 20
        assert f"Sign in as {email} with the password {password}" in said
        assert mode(data_dir / "demo") == mode(data_dir / "secret_key") == 0o600
        with urllib.request.urlopen(f"{page}readyz") as response:
            assert response.status == 200

        again = subprocess.run(
            [sys.executable, "-m", "i2i.cli.run"],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 1
        assert f"Already running for {data_dir}" in again.stderr
        assert again.stderr.count("\n") == 1

        children = first.children()
        assert len(children) == 3
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        first.hear(*(f"{name} process ended (killed)" for name in ("practice", "worker", "web")))
        wait_until_answered(f"{page}readyz")

        children = first.children()
        server = embedded.status(data_dir)
        first.process.kill()
        for pid in children:
            wait_for_end(pid)

    with Running(environ) as second:
        said = second.hear("Stop with Ctrl-C.")
        assert f"Sign in as {email} with the password {password}" in said
        assert embedded.status(data_dir) == server, "the server that was left is adopted"
        children = second.children()
        assert second.ask_to_stop(signal.SIGINT) == 0
    for pid in (*children, server.pid):
        wait_for_end(pid)
    assert embedded.status(data_dir) is None


def test_a_busy_port_is_told_before_anything_starts(data_dir, ports):
    with socket.create_server(("127.0.0.1", ports[1])):
        done = subprocess.run(
            [sys.executable, "-m", "i2i.cli.run"],
            cwd=ROOT,
            env=environment(data_dir, ports),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"i2i: Port {ports[1]} is in use.")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (data_dir / "postgres").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "65535"),  # PRACTICE_PORT would be 65536
        ("PRACTICE_PORT", "8000"),
        ("PRACTICE_SECONDS", "soon"),
        ("PRACTICE_SECONDS", "-1"),
        ("PRACTICE_SECONDS", "nan"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(name, value):
    with pytest.raises(SystemExit) as caught:
        run.read_options({name: value})
    assert caught.value.code.startswith("i2i: P")
    assert "\n" not in caught.value.code


def test_options_have_the_documented_defaults():
    options = run.read_options({})
    assert (options.port, options.practice_port) == (8000, 8001)
    assert options.practice_seconds == "3"
    assert options.data_dir == Path("var").absolute()
    assert run.read_options({"PORT": "9000"}).practice_port == 9001


def test_with_a_fal_key_nothing_is_practised(tmp_path):
    given = {"FAL_KEY": "key", "DATA_DIR": str(tmp_path)}
    options = run.read_options(given)
    assert options.practice_port is None
    assert "FAL_QUEUE_URL" not in run.child_environment(given, options)


def test_without_a_key_the_children_see_the_practice_server(tmp_path):
    given = {"DATA_DIR": str(tmp_path), "FAL_REST_URL": "http://127.0.0.1:9"}
    seen = run.child_environment(given, run.read_options(given))
    assert seen["FAL_QUEUE_URL"] == seen["FAL_MEDIA_HOSTS"] == "http://127.0.0.1:8001"
    assert seen["FAL_REST_URL"] == "http://127.0.0.1:9", "what is given wins"


def test_one_data_dir_has_one_owner(tmp_path):
    with run.only_one(tmp_path / "var"):
        assert mode(tmp_path / "var") in {0o700, 0o711}
        with (
            pytest.raises(SystemExit, match=f"process {os.getpid()}"),
            run.only_one(tmp_path / "var"),
        ):
            pass
    with run.only_one(tmp_path / "var"):
        pass


def test_a_secret_is_made_once(tmp_path):
    run.make_secret_key(tmp_path)
    made = (tmp_path / "secret_key").read_text()
    assert len(made.strip()) == 64
    run.make_secret_key(tmp_path)
    assert (tmp_path / "secret_key").read_text() == made


@pytest.mark.parametrize("content", [b"", b"demo@example.com\n", b"\xff\xff", b"a b c"])
def test_a_demo_file_that_does_not_hold_counts_as_none(tmp_path, content):
    (tmp_path / "demo").write_bytes(content)
    assert run.kept_password(tmp_path / "demo") is None


def test_what_ignores_a_request_to_stop_is_killed_with_its_children():
    program = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()"
    )
    with (
        run.Signals() as signals,
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
        ) as stubborn,
    ):
        grandchild = int(stubborn.stdout.readline())
        run.end(stubborn, patience=0.1, hurry=lambda: False, signals=signals)
        assert stubborn.returncode == -signal.SIGKILL
    wait_for_end(grandchild)


def test_a_signal_ends_a_pause():
    with run.Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(run.Stop):
            signals.pause(HANG_GUARD)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
