"""`make chaos`: the whole house while everything around it falls over.

Pictures become due bit by bit. Meanwhile workers are killed with SIGKILL and a few told to end with
SIGTERM, PostgreSQL is restarted with `immediate`, the practice server is killed, and a tenth of its
answers of each kind go wrong. When the faults stop, everything must come to rest: all pictures
finished or with a sentence for a person, none charged twice, none lost, no lease stuck. The same seed
gives the same kills in the same order.

Three times are measured and printed beside what the design wants. Money decides the exit status, and
whether `/metrics`, scraped all the while, has shown each failure: of each kind one lasts until it did.
"""

import argparse
import json
import os
import random
import select
import statistics
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
from scrapes import TOKEN, Scrapes

from i2i import embedded
from i2i.gateways.storage import make_storage
from i2i.queries.workers import SILENT_SECONDS

REST_MINUTES = 5
"""How long all may take to come to rest after the last fault; the promise."""

SUBMITS = ["lost_answer", "hang", "refuse_429", "server_error", "bad_gateway_nginx", "slow"]
"""What happens to spoilt submits. `locked` comes once on top: it stops all sending for a minute."""

SHARE = 0.1
"""The part of the practice server's answers that go wrong, of each kind of operation."""

SHORT = {"minutes": 0.5, "jobs": 40, "kills": 10, "restarts": 2, "hurry": True}

RESTING = "('completed', 'failed', 'cancelled')"


WATCHED = {"outage": 0.2, "silence": 0.4, "account": 0.6}
"""The faults that last until /metrics has shown them, once each, and when of all the time."""


def total(found, name, *labels):
    """The sum of the numbers of this name, with these labels."""
    return sum(
        value
        for key, value in found.items()
        if key.partition("{")[0] == name and all(label in key for label in labels)
    )


def more(*what):
    """More than before it happened."""
    return lambda found, before: total(found, *what) > total(before, *what)


def gone(name):
    """Some of it before."""
    return lambda found, before: found.get(name) == 0 < total(before, name)


def silent(process):
    """For longer than a worker that lives would be."""

    def shows(found, _before):
        return total(found, "i2i_worker_silent_seconds", f"process={process}}}") > SILENT_SECONDS

    return shows


SHOWN = {
    "PostgreSQL is down": gone("i2i_database_up"),
    "a page failed": more("i2i_http_requests_total", "status=503"),
    "fal is out of reach": more("i2i_worker_trouble"),
    "an answer was lost": more("i2i_jobs", "status=unknown"),
    "a person is asked": more("i2i_jobs_attention"),
    "a picture was perhaps charged": more("i2i_submissions", "charged=unknown", "outcome=unknown"),
    "sending is paused": more("i2i_breaker_open"),
    "a request was refused, uncharged": more("i2i_submissions", "charged=no", "outcome=rejected"),
    "a killed worker is silent": silent("?"),  # known when it is killed
    "no worker is there": gone("i2i_workers"),
}
"""How each failure must look to Prometheus: a scrape after it, compared with the last one before."""


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults happen")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=20_260_101)
    parser.add_argument(
        "--hurry",
        action="store_true",
        help="move leases once, and pauses, on by SQL after the last fault",
    )
    parser.add_argument(
        "--short", action="store_true", help="a minute in all: " + json.dumps(SHORT)
    )
    if parser.parse_args().short:
        parser.set_defaults(**SHORT)
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
            METRICS_TOKEN=TOKEN,
        )
        self.photo = pictures.photo(size=(320, 240))
        self.storage = make_storage(f"file://{folder}/blobs", data_dir=folder)
        self.asked = 0
        self.scrapes = None
        self.shown = dict(SHOWN)
        self.since, self.before = {}, {}
        self.done = Counter()
        self.took = {"takeover": [], "drain": [], "restart": [], "outage": []}
        self.killed, self.leaving = [], []
        self.restarted = None
        self.logged, self.gone = {}, []

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
        self.house.start_web()
        wait_until(self.house.is_ready, what="GET /readyz with 200")
        self.scrapes = Scrapes(self.house.url)
        with psycopg.connect(self.house.database, autocommit=True) as conn:
            factories.make_workflow(conn)
            spread = 0.9 * 60 * self.options.minutes / self.options.jobs
            for each in range(self.options.jobs):
                if each % 20 == 0:
                    user = factories.make_user(conn)
                self.ask_for_picture(conn, user=user, number=each % 20, seconds=each * spread)
        self.misbehave()
        for number in range(self.options.workers):
            self.start_worker(f"worker {number}")

    def ask_for_picture(self, conn, *, user, number, seconds):
        """One that comes due then; the same bytes again would be the same photo of a user."""
        data = pictures.jpeg(self.photo.crop((0, 0, 320, 200 + number)))
        image = factories.make_image(
            conn, user=user, status="preparing", data=data, storage=self.storage
        )
        job = factories.make_job(conn, user=user, image=image)
        conn.execute(
            "UPDATE processing_jobs SET run_after = now() + make_interval(secs => %s) WHERE id = %s",
            [seconds, job.id],
        )
        self.asked += 1

    def ask_for_more(self):
        """Whatever was due before: something is sent now."""
        with psycopg.connect(self.house.database, autocommit=True) as conn:
            user = factories.make_user(conn)
            for number in range(3):
                self.ask_for_picture(conn, user=user, number=number, seconds=0)

    def start_worker(self, name):
        log = self.house.folder / f"{name}.log"
        self.logged[name] = log.stat().st_size if log.exists() else 0
        self.house.start(name, "flask", "worker")

    def supervise(self):
        """As systemd does: a worker that finds no database at its start is started again."""
        for name, process in list(self.house.processes.items()):
            if name in self.logged and process.poll() is not None:
                with (self.house.folder / f"{name}.log").open("rb") as log:
                    log.seek(self.logged[name])
                    said = log.read().decode()
                if "the worker runs" in said:
                    self.gone.append(f"{name} ended by itself: {said.strip()[-200:]}")
                self.done["started again"] += 1
                self.start_worker(name)

    def practice_answers(self):
        try:
            return self.house.http.request("GET", f"{self.house.practice_url}/ledger", timeout=5)
        except Exception:  # noqa: BLE001  it is just being killed
            return None

    # --- the faults

    def plan(self):
        """(second, what) for every fault, in order of time."""
        options = self.options
        what = ["worker"] * options.kills + ["database"] * options.restarts
        what += ["practice", "drain"] * max(1, options.restarts // 2)
        end = options.minutes * 60
        watched = [(end * part, each) for each, part in WATCHED.items()]
        return sorted([*watched, *((self.chance.uniform(1, end), each) for each in what)])

    def go(self):
        begin = time.monotonic()
        for second, what in self.plan():
            while (left := begin + second - time.monotonic()) > 0:
                self.watch()
                select.select([], [], [], min(0.2, left))
            hit = time.monotonic()
            getattr(self, f"hit_{what}")()
            self.done[what] += 1
            if what in WATCHED:
                begin += time.monotonic() - hit  # or all the others would come at once after it

    def any_worker(self):
        return f"worker {self.chance.randrange(self.options.workers)}"

    def hit_worker(self):
        """SIGKILL. Which leases are its own nobody knows, so all that are held now are watched."""
        name = self.any_worker()
        if not self.done["worker"]:
            process = wait_until(lambda: self.heard_of(name), what="a beat of the worker")
            self.shown["a killed worker is silent"] = silent(process)
            self.happens("a killed worker is silent")
        self.house.kill(name)
        held = self.ask("SELECT id, fence FROM processing_jobs WHERE lease_until IS NOT NULL")
        self.killed.append((time.monotonic(), set(held)))
        self.start_worker(name)

    def hit_drain(self):
        """SIGTERM. Another one takes its place at once, as in a deployment."""
        name = self.any_worker()
        process = self.house.processes.pop(name)
        process.terminate()
        self.leaving.append((time.monotonic(), process))
        self.start_worker(name)

    def heard_of(self, name):
        """Its process id once it has written down that it lives."""
        self.supervise()
        process = self.house.processes[name].pid
        return self.ask("SELECT FROM workers WHERE process_id = %s", process) and process

    def hit_database(self, clock="restart"):
        self.server.restart("immediate")
        last = self.ask("SELECT coalesce(max(id), 0) FROM job_events")
        self.restarted = time.monotonic(), last, clock

    def hit_outage(self):
        """PostgreSQL stays away until /metrics has said so, and so that a page has failed."""
        self.happens("PostgreSQL is down", "a page failed")
        self.server.stop("immediate")
        self.house.is_ready()
        self.until_shown("PostgreSQL is down", "a page failed")
        self.hit_database(clock="outage")

    def hit_practice(self):
        self.house.kill("practice")
        self.house.start_practice()
        self.misbehave()

    def hit_silence(self):
        """The practice server goes with answers on its lips, and stays away until that is seen.

        Several, for an answer that was lost before may just be found.
        """
        seen = [
            "fal is out of reach",
            "an answer was lost",
            "a person is asked",
            "a picture was perhaps charged",
        ]
        wait_until(self.fal_is_reached, what="a scrape without trouble")
        until = self.hanging() + 3
        self.spoil("hang", count=3)
        self.ask_for_more()
        wait_until(lambda: self.hanging() >= until, what="requests without an answer")
        self.happens(*seen)
        self.house.kill("practice")
        self.until_shown(*seen)
        self.house.start_practice()
        self.misbehave()

    def fal_is_reached(self):
        """As the last scrape has it."""
        return total(self.scrapes.newest(), "i2i_worker_trouble") == 0

    def hanging(self):
        """How many requests got no answer so far."""
        return sum(each["fault"] == "hang" for each in self.house.ledger()["requests"])

    def hit_account(self):
        """One answer says so, and sending pauses for a minute."""
        seen = ["sending is paused", "a request was refused, uncharged"]
        self.happens(*seen)
        self.spoil("locked", count=1)
        self.ask_for_more()
        self.until_shown(*seen)

    def misbehave(self):
        """From now on, until it is killed, a share of its answers goes wrong."""
        wait_until(self.practice_answers, what="the practice server")
        for mode in ("upload_error", "status_503", "result_504", "file_500"):
            self.spoil(mode, share=SHARE)
        for mode in SUBMITS:
            self.spoil(mode, share=SHARE / len(SUBMITS), seconds=5)

    def spoil(self, mode, **more):
        answer = self.house.http.request(
            "POST", f"{self.house.practice_url}/faults", json={"mode": mode, **more}, timeout=5
        )
        assert answer.status == 200, answer.data

    # --- what Prometheus sees

    def happens(self, *failures):
        """They will now; what is looked for afterwards is compared with a scrape of just now."""
        begin = time.monotonic()
        before = wait_until(lambda: self.scrapes.newest(since=begin), what="a scrape before")
        for each in failures:
            self.since[each], self.before[each] = time.monotonic(), before

    def until_shown(self, *failures):
        """Wait; what is never shown is told at the end."""

        def all_shown():
            self.supervise()
            return all(self.seconds_until(each) is not None for each in failures)

        with suppress(AssertionError):
            wait_until(all_shown, what="a scrape that shows it")

    def seconds_until(self, failure):
        """How long after it had happened a scrape showed it; None: not yet, or it never happened."""
        if failure not in self.since:
            return None
        shows, before = self.shown[failure], self.before[failure]
        return self.scrapes.first(lambda found: shows(found, before), since=self.since[failure])

    # --- the clocks

    def watch(self):
        """Stop the clock of what has ended by now."""
        self.supervise()
        now = time.monotonic()
        for since, process in list(self.leaving):
            if process.poll() is not None:
                self.leaving.remove((since, process))
                self.took["drain"].append(now - since)
        try:
            held = self.house.query(
                "SELECT id, fence FROM processing_jobs WHERE lease_until IS NOT NULL"
            )
            moved = self.restarted and self.house.query(
                "SELECT FROM job_events WHERE id > %s LIMIT 1", self.restarted[1][0][0]
            )
        except psycopg.OperationalError:
            return
        if moved:
            self.took[self.restarted[2]].append(now - self.restarted[0])
            self.restarted = None
        for since, leases in list(self.killed):
            if leases.isdisjoint(held):
                self.killed.remove((since, leases))
                self.took["takeover"].append(now - since)

    # --- the end

    def rest(self):
        """Seconds until all was at rest, None when it was not within REST_MINUTES."""
        wait_until(self.practice_answers, what="the practice server")
        self.house.http.request("DELETE", f"{self.house.practice_url}/faults")
        begin = hurried = time.monotonic()
        if self.options.hurry:
            self.killed.clear()  # a lease that was moved on tells nothing
            self.hurry(self.house.let_time_pass)
        while time.monotonic() - begin < REST_MINUTES * 60:
            self.watch()
            if self.options.hurry and time.monotonic() - hurried > 2:
                self.hurry(self.house.end_pauses)
                hurried = time.monotonic()
            if self.is_at_rest():
                return time.monotonic() - begin
            select.select([], [], [], 0.25)
        return None

    def hurry(self, move):
        with suppress(psycopg.OperationalError):  # a deadlock with a claim; next time
            move()

    def is_at_rest(self):
        """Finished, or told to a person; and whoever looks for a lost answer has just looked."""
        return not self.ask(
            f"SELECT FROM processing_jobs WHERE status NOT IN {RESTING}"
            " AND (attention IS NULL OR status <> 'unknown') LIMIT 1"
        )

    def close(self):
        """End all but the practice server, once all was seen; the exit statuses by name."""
        self.until_shown("a killed worker is silent")
        names = [name for name in self.house.processes if name.startswith("worker")]
        begin = time.monotonic()
        self.happens("no worker is there")
        ended = self.house.stop(*names)
        self.took["drain"].append(time.monotonic() - begin)
        self.until_shown("no worker is there")
        self.scrapes.end()
        return ended | self.house.stop("web")

    def verdict(self):
        """Sentences about what does not hold."""
        ended = self.close()
        ledger = self.house.ledger()
        found = [*self.gone]
        found += [f"{name} ended with {status}" for name, status in ended.items() if status != 0]
        found += [
            f"/metrics did not show that {failure}"
            for failure in self.shown
            if self.seconds_until(failure) is None
        ]
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

    def slowest(self, name):
        """Median and slowest of what was measured."""
        took = self.took[name]
        return f"{statistics.median(took):.0f}, {max(took):.0f}" if took else "none"

    def table(self, *, rested, found, ledger):
        say = sys.stdout.write
        say(f"\nchaos, seed {self.options.seed}: {self.options.workers} workers\n")
        rows = [
            ("pictures asked for", self.asked),
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
            ("PostgreSQL restarted (immediate)", self.done["database"] + self.done["outage"]),
            ("practice server killed", self.done["practice"] + self.done["silence"]),
            ("workers told to end", self.done["drain"]),
            ("found no database at their start", self.done["started again"]),
            ("answers that went wrong, of each kind", f"{SHARE:.0%}"),
            ("s to take over after SIGKILL (60)", self.slowest("takeover")),
            ("s to end after SIGTERM (20)", self.slowest("drain")),
            ("s to go on after a restart", self.slowest("restart")),
            ("s to go on after an outage", self.slowest("outage")),
            ("seconds until all was at rest", "too many" if rested is None else f"{rested:.0f}"),
            ("scrapes of /metrics", len(self.scrapes.taken)),
            ("without an answer", self.scrapes.unanswered),
            *(
                (f"s until seen: {failure}", "never" if seconds is None else f"{seconds:.1f}")
                for failure in self.shown
                for seconds in [self.seconds_until(failure)]
            ),
            ("promises broken", len(found)),
        ]
        for name, value in rows:
            say(f"  {name:<46} {value:>9}\n")
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
                left = [process for _, process in chaos.leaving]
                for process in [*chaos.house.processes.values(), *left]:
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
