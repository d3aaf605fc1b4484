"""`make chaos`: the whole house while everything around it falls over.

Workers are killed with SIGKILL, PostgreSQL is restarted with `immediate`, the practice server is
killed and misbehaves in one answer of ten. When the faults stop, everything must come to rest: all
pictures finished or with a sentence for a person, none charged twice, none lost, no lease stuck.
The same seed gives the same faults in the same order.
"""

import argparse
import os
import random
import select
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import factories
import pictures
import psycopg
from house import House, wait_until
from invariants import violations

from i2i import embedded
from i2i.gateways.storage import make_storage

REST_MINUTES = 5
"""How long all may take to come to rest after the last fault; the promise."""

FAULTS = [
    *("lost_answer", "hang", "refuse_429", "server_error", "bad_gateway_nginx", "locked"),
    *("slow", "upload_error", "result_504"),
]

RESTING = "('completed', 'failed', 'cancelled')"


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults happen")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=20_260_101)
    parser.add_argument(
        "--hurry", action="store_true", help="move leases and pauses on by SQL after the last fault"
    )
    return parser.parse_args()


class Chaos:
    """One run: a server, a house on it, and the faults to come."""

    def __init__(self, options, *, server, folder):
        self.options, self.server = options, server
        self.chance = random.Random(options.seed)
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE chaos")
            # The throw-away server may forget the last commits in a crash; this database must not.
            conn.execute("ALTER DATABASE chaos SET synchronous_commit = on")
        self.house = House(
            database=server.url_of("chaos"),
            folder=folder,
            practice_seconds=1.0,
            WORKER_POLL_SECONDS="1",
            WORKER_THREADS="4",
            DECODERS="1",
        )
        self.done = Counter()
        self.posts = 0

    def ask(self, sql, *args):
        """A query that outlives a restart of the database."""

        def answer():
            try:
                return [self.house.query(sql, *args)]
            except psycopg.OperationalError:
                return None

        return wait_until(answer, what="an answer of the database")[0]

    # --- the beginning

    def begin(self):
        self.house.flask("db", "migrate")
        self.house.start_practice()
        storage = make_storage(f"file://{self.house.folder}/blobs", data_dir=self.house.folder)
        photo = pictures.photo(size=(320, 240))
        with psycopg.connect(self.house.database, autocommit=True) as conn:
            factories.make_workflow(conn)
            for each in range(self.options.jobs):
                if each % 20 == 0:
                    user = factories.make_user(conn)
                # The same bytes again would be the same photo of a user.
                data = pictures.jpeg(photo.crop((0, 0, 320, 200 + each % 20)))
                image = factories.make_image(
                    conn, user=user, status="preparing", data=data, storage=storage
                )
                factories.make_job(conn, user=user, image=image)
        wait_until(self.practice_answers, what="the practice server")
        for number in range(self.options.workers):
            self.house.start(f"worker {number}", "flask", "worker")

    def practice_answers(self):
        try:
            return self.house.http.request("GET", f"{self.house.practice_url}/ledger", timeout=5)
        except Exception:  # noqa: BLE001  it is just being killed
            return None

    # --- the faults

    def plan(self):
        """(second, what) for every fault, in order of time."""
        seconds = self.options.minutes * 60
        what = ["worker"] * self.options.kills + ["database"] * self.options.restarts
        what += ["practice"] * max(1, self.options.restarts // 2)
        what += ["answer"] * max(1, self.options.jobs // 10)
        return sorted((self.chance.uniform(1, seconds), each) for each in what)

    def go(self):
        begin = time.monotonic()
        for second, what in self.plan():
            select.select([], [], [], max(0.0, begin + second - time.monotonic()))
            getattr(self, f"hit_{what}")()
            self.done[what] += 1

    def hit_worker(self):
        name = f"worker {self.chance.randrange(self.options.workers)}"
        self.house.kill(name)
        self.house.start(name, "flask", "worker")

    def hit_database(self):
        data = self.server.directory / "data"
        bin_dir = embedded._reachable_binaries(embedded.binaries())
        log = str(self.server.directory / "postgres.log")
        command = ["pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", log, "-m", "immediate"]
        done = embedded._run([*command, "restart"], bin_dir=bin_dir)
        assert done.ok, done.output

    def hit_practice(self):
        self.house.kill("practice")
        self.house.start_practice()

    def hit_answer(self):
        """The next of its operations goes wrong; a server that is just starting gets none."""
        fault = {"mode": self.chance.choice(FAULTS), "count": 1, "seconds": 5}
        try:
            self.house.http.request(
                "POST", f"{self.house.practice_url}/faults", json=fault, timeout=5
            )
        except Exception:  # noqa: BLE001
            self.done["answer, server down"] += 1

    # --- the end

    def rest(self):
        """Seconds until all was at rest, None when it was not within REST_MINUTES."""
        wait_until(self.practice_answers, what="the practice server")
        self.house.http.request("DELETE", f"{self.house.practice_url}/faults")
        begin = hurried = time.monotonic()
        while time.monotonic() - begin < REST_MINUTES * 60:
            if self.options.hurry and time.monotonic() - hurried > 2:
                with suppress(psycopg.OperationalError):  # a deadlock with a claim; next time
                    self.house.let_time_pass()
                hurried = time.monotonic()
            if self.is_at_rest():
                return time.monotonic() - begin
            select.select([], [], [], 0.25)
        return None

    def is_at_rest(self):
        """Finished, or told to a person; and whoever looks for a lost answer has just looked."""
        return not self.ask(
            f"SELECT FROM processing_jobs WHERE status NOT IN {RESTING}"
            " AND (attention IS NULL OR status <> 'unknown') LIMIT 1"
        )

    def verdict(self):
        """Sentences about what does not hold."""
        names = [name for name in self.house.processes if name.startswith("worker")]
        ledger = self.house.ledger()
        ended = self.house.stop()
        found = [f"{name} ended with {ended[name]}" for name in names if ended[name] != 0]
        found += violations(
            self.house.database,
            blobs=self.house.folder / "blobs",
            requests=ledger["requests"],
        )
        with psycopg.connect(self.house.database, autocommit=True) as conn:
            paid = conn.execute(
                "SELECT token, state, outcome FROM submissions WHERE state = 'settled'"
                " AND outcome <> 'picture' AND look_until IS NULL AND charged <> 'no'"
            ).fetchall()
        found += [f"the picture of {token} was given up ({outcome})" for token, _, outcome in paid]
        return found, ledger

    def table(self, *, rested, found, ledger):
        say = sys.stdout.write
        say(f"\nchaos, seed {self.options.seed}: {self.options.workers} workers\n")
        rows = [
            ("pictures asked for", self.options.jobs),
            *sorted(
                (f"jobs {status}", n)
                for status, n in self.ask("SELECT status, count(*) FROM processing_jobs GROUP BY 1")
            ),
            *sorted(
                (f"submissions {state}", n)
                for state, n in self.ask(
                    "SELECT concat_ws(' ', state, outcome), count(*) FROM submissions GROUP BY 1"
                )
            ),
            ("requests at fal", len(ledger["requests"])),
            ("charges at fal", ledger["charges"]),
            (
                "passed through unknown",
                self.ask("SELECT count(*) FROM job_events WHERE to_status = 'unknown'")[0][0],
            ),
            ("workers killed", self.done["worker"]),
            ("PostgreSQL restarted (immediate)", self.done["database"]),
            ("practice server killed", self.done["practice"]),
            ("answers spoilt", self.done["answer"] - self.done["answer, server down"]),
            ("seconds until all was at rest", "too many" if rested is None else f"{rested:.0f}"),
            ("promises broken", len(found)),
        ]
        for name, value in rows:
            say(f"  {name:<36} {value:>8}\n")
        for sentence in found:
            say(f"  ! {sentence}\n")


def main():
    options = parse()
    base = os.environ.get("I2I_TEST_PG_BIN")
    server = embedded.start_throwaway(bin_dir=Path(base) if base else None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            chaos = Chaos(options, server=server, folder=Path(folder) / "house")
            try:
                chaos.begin()
                chaos.go()
                rested = chaos.rest()
                found, ledger = chaos.verdict()
            finally:
                for process in chaos.house.processes.values():
                    process.kill()
                    process.wait()
            if rested is None:
                found.append(f"not all was at rest within {REST_MINUTES} minutes")
            chaos.table(rested=rested, found=found, ledger=ledger)
    finally:
        server.remove()
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
