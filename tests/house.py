"""The whole of i2i as real processes: practice server, worker, gunicorn, each of them killable."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import urllib3

from i2i import passwords
from i2i.config import ROOT
from i2i.queries import users

PATIENCE = 60
"""Seconds until a test gives up on something that takes one; a guard, never a measurement."""

EMAIL = "mara@example.com"
OTHER = "other@example.com"
PASSWORD = "a long enough sentence"
PASSWORD_HASH = passwords.hash_password(PASSWORD, rounds=4)

NEAR = []
"""Networks beside loopback that exist only on this machine: tests may reach them."""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class House:
    """Starts `flask` programs on a database and a folder of their own; `stop` ends what runs."""

    def __init__(self, *, database, folder, practice_seconds=1.0, **environ):
        self.database = database
        self.folder = Path(folder)
        self.practice_seconds = practice_seconds
        self.port, self.practice_port = free_port(), free_port()
        practice = f"http://127.0.0.1:{self.practice_port}"
        self.url, self.practice_url = f"http://127.0.0.1:{self.port}", practice
        self.environ = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "SECRET_KEY": "only-for-tests-0123456789",
            "DATA_DIR": str(self.folder),
            "POSTGRES_URL": database,
            "FAL_QUEUE_URL": practice,
            "FAL_REST_URL": practice,
            "FAL_PLATFORM_URL": practice,
            "FAL_MEDIA_HOSTS": practice,
            **environ,
        }
        self.processes = {}
        self.http = urllib3.PoolManager(retries=False, timeout=PATIENCE)

    def flask(self, *args, stdin=None):
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *args],
            cwd=ROOT,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout

    def start(self, name, *command):
        """Start a program that stays; its output goes to a file in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self.within(name), sys.executable, "-m", *command],
                cwd=ROOT,
                env=self.environ | self.own(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def within(self, name):
        """The command inside which a program starts: on this machine, none."""
        return []

    def own(self, name):
        """What one program's environment has besides everybody's."""
        return {}

    def start_practice(self):
        port, seconds = str(self.practice_port), str(self.practice_seconds)
        self.start("practice", "flask", "practice-fal", "--port", port, "--seconds", seconds)

    def start_worker(self, name="worker"):
        self.start(name, "flask", "worker")

    def start_web(self, name="web", *, address="127.0.0.1"):
        self.start(name, "gunicorn", "--bind", f"{address}:{self.port}", "wsgi:app")

    def open(self):
        """Migrate nothing, seed, start all three, and wait until the pages answer."""
        self.flask("db", "seed")
        self.start_practice()
        self.start_worker()
        self.start_web()
        wait_until(self.is_ready, what="GET /readyz with 200")
        return self

    def is_ready(self):
        try:
            return self.http.request("GET", f"{self.url}/readyz").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def let_time_pass(self):
        """What is due in the next hour is due now: leases have run out, pauses are over."""
        with psycopg.connect(self.database, autocommit=True) as conn:
            for table in ("processing_jobs", "images"):
                conn.execute(
                    f"UPDATE {table} SET run_after = run_after - interval '1 hour',"
                    " lease_until = lease_until - interval '1 hour'"
                )

    def end_pauses(self):
        """What waits for its next try is due now; leases stay, for whoever has one lives.

        It may be called again and again: a slow machine still finishes what it has in hand.
        """
        with psycopg.connect(self.database, autocommit=True) as conn:
            conn.execute("UPDATE processing_jobs SET run_after = now() WHERE run_after > now()")
            conn.execute("UPDATE images SET run_after = now() WHERE run_after > now()")
            conn.execute("UPDATE breaker SET next_check_at = now() WHERE next_check_at > now()")

    def kill(self, name):
        """SIGKILL, and wait for the end."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(PATIENCE)

    def stop(self, *names):
        """SIGTERM to these, or to all; the exit statuses by name."""
        names = names or tuple(self.processes)
        for name in names:
            with suppress(ProcessLookupError):
                self.processes[name].send_signal(signal.SIGTERM)
        ended = {name: self.processes[name].wait(PATIENCE) for name in names}
        for name in names:
            del self.processes[name]
        self.http.clear()
        return ended

    def end(self, name):
        """SIGTERM, and wait until it has finished what it had in hand."""
        process = self.processes.pop(name)
        process.terminate()
        process.wait(PATIENCE)

    def make_user(self, email=EMAIL, *, role="user"):
        """Somebody with this PASSWORD; written down, for a command takes seconds."""
        with psycopg.connect(self.database, autocommit=True) as conn:
            return users.create(
                conn, email=email, password_hash=PASSWORD_HASH, is_whitelisted=True, role=role
            )

    def ledger(self):
        """What the practice server would have charged for."""
        return self.http.request("GET", f"{self.practice_url}/ledger").json()

    def query(self, sql, *args):
        with psycopg.connect(self.database, autocommit=True) as conn:
            return conn.execute(sql, args).fetchall()


class Visitor:
    """A signed-in client that speaks JSON to the running pages."""

    def __init__(self, house, email=EMAIL):
        self.house = house
        self.headers = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
        answer = self.post("/login", fields={"email": email, "password": PASSWORD})
        assert answer.status == 200, answer.data
        self.headers["Cookie"] = re.match(r"[^;]+", answer.headers["Set-Cookie"]).group()

    def get(self, path, **headers):
        return self.house.http.request(
            "GET", self.house.url + path, headers=self.headers | headers, redirect=False
        )

    def post(self, path, fields=(), *, multipart=False):
        return self.house.http.request(
            "POST",
            self.house.url + path,
            fields=fields,
            encode_multipart=multipart,
            headers=self.headers,
            redirect=False,
        )

    def upload(self, name, data):
        """The image's facts."""
        answer = self.post("/images", {"images": (name, data, "image/jpeg")}, multipart=True)
        assert answer.status == 201, answer.data
        return answer.json()["images"][0]


def wait_until(condition, *, what):
    """Ask again until it holds; a guard ends it. Returns what the condition returned."""
    deadline = time.monotonic() + PATIENCE * 5
    while time.monotonic() < deadline:
        if found := condition():
            return found
        select.select([], [], [], 0.05)
    raise AssertionError(f"{what} did not happen")
