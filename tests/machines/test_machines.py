"""Two webs and two workers on machines of their own: each may go, and nothing is lost or paid twice."""

import hashlib
import itertools
import os
import queue
import select
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import house as houses
import pictures
import psycopg
import pytest
import s3_servers
import urllib3
from faults.invariants import violations
from fleet import WEBS, WORKERS, Machines
from house import Visitor, wait_until
from stack import NGINX

GUARD = 10
"""A figure may be so many times what is promised before a test fails: machines differ."""


@pytest.fixture(scope="module")
def fleet(far_server, pgbouncer, network, tmp_path_factory, say):
    if NGINX is None:
        pytest.skip("no nginx is installed: apt-get install nginx-light")
    pytest.importorskip("boto3", reason="make machines installs boto3 and an S3 server")
    folder = tmp_path_factory.mktemp("fleet")
    with s3_servers.serving("rclone", folder, address=network.here) as bucket:
        running = Machines(
            server=far_server,
            pgbouncer=pgbouncer,
            network=network,
            folder=folder / "house",
            BLOB_URL=f"s3://{s3_servers.BUCKET}/i2i",
            **bucket,
        )
        try:
            yield running.open()
        finally:
            ended = running.stop()
    say(f"machines are {'network namespaces' if network.apart else 'addresses of this machine'}")
    assert [ended[name] for name in (*WEBS, *WORKERS)] == [0, 0, 0, 0]


class Client(Visitor):
    """Asks again until there is an answer, as the pages' scripts do; everything may be repeated."""

    def __init__(self, fleet, email):
        fleet.make_user(email)
        self.repeated = 0
        super().__init__(fleet, email)

    def get(self, path, **headers):
        return self.again(super().get, path, **headers)

    def post(self, path, fields=(), *, multipart=False):
        return self.again(super().post, path, fields, multipart=multipart)

    def again(self, ask, *args, **options):
        def answer():
            with suppress(urllib3.exceptions.HTTPError):
                if (found := ask(*args, **options)).status < 500:
                    return [found]
            self.repeated += 1
            return None

        return wait_until(answer, what=f"an answer to {args[0]}")[0]

    def upload(self, number):
        name, data = photo(number)
        answer = self.post("/images", {"images": (name, data, "image/jpeg")}, multipart=True)
        assert answer.status in {200, 201}, answer.data
        return answer.json()["images"][0]["id"]

    def order(self, ids):
        """The batch's URL; the same order twice is one."""
        fields = [("image", each) for each in ids]
        fields += [("workflow", "mannequin-to-human-v1"), ("client_key", "all of them")]
        answer = self.post("/batches", fields)
        assert answer.status in {200, 201}, answer.data
        return answer.json()["url"]


def photo(number):
    return f"coat-{number}.jpg", pictures.jpeg(pictures.photo(size=(640, 480 + number)))


def count(fleet, what, *args):
    return fleet.query(f"SELECT count(*) FROM {what}", *args)[0][0]


def completed(fleet):
    return count(fleet, "processing_jobs WHERE status = 'completed'")


def work_in_hand(fleet):
    """How many steps both workers are at, 0 when they are too few for each to have one."""
    leases = count(fleet, "processing_jobs WHERE lease_until IS NOT NULL")
    return leases if leases > 3 else 0


def hurry(move):
    """Until it went through: it may meet a claim in a deadlock, or a database that restarts."""

    def moved():
        with suppress(psycopg.OperationalError):
            move()
            return True
        return False

    wait_until(moved, what="a move of the clocks")


def wait_for_all(fleet):
    def done():
        hurry(fleet.end_pauses)
        return not count(fleet, "processing_jobs WHERE status <> 'completed'")

    wait_until(done, what="all pictures")


def check(fleet, visitor, url, *, charges):
    """Everything is there, byte for byte, and was paid once."""
    ledger = fleet.ledger()
    assert ledger["charges"] == charges
    assert violations(fleet.database, blobs=None, requests=ledger["requests"]) == []
    for job in visitor.get(url).json()["jobs"]:
        answer = visitor.get(job["result_url"], Accept="image/*")
        assert hashlib.sha256(answer.data).hexdigest() == answer.headers["ETag"].strip('"')
    assert "missing" not in fleet.flask("storage", "check")


def pids(fleet):
    return {name: process.pid for name, process in fleet.processes.items()}


def test_each_of_them_is_cut_off_in_the_middle(fleet, say):
    if not fleet.network.apart:
        pytest.skip("only root can make network namespaces, whose cables can be cut")
    photos, before, charged = 24, pids(fleet), fleet.ledger()["charges"]
    visitor = Client(fleet, "cut@example.com")
    images, pictures_before = count(fleet, "images"), completed(fleet)
    ids = []
    with ThreadPoolExecutor(4) as senders:
        for web, numbers in zip(
            WEBS, (range(photos // 2), range(photos // 2, photos)), strict=True
        ):
            wanted = images + len(ids) + 2
            sent = [senders.submit(visitor.upload, number) for number in numbers]
            wait_until(lambda n=wanted: count(fleet, "images") >= n, what="two photos")
            with fleet.without(web):
                ids += [each.result() for each in sent]
    assert len(set(ids)) == photos
    with fleet.without(WEBS[0]):
        url = visitor.order(ids)
    assert visitor.order(ids) == url
    for worker, charges in zip(WORKERS, (4, 14), strict=True):
        wait_until(
            lambda n=charged + charges: fleet.ledger()["charges"] >= n, what=f"{charges} requests"
        )
        held = count(fleet, "processing_jobs WHERE lease_until IS NOT NULL")
        done = completed(fleet) - pictures_before
        wanted = pictures_before + min(photos, done + 5)
        with fleet.without(worker):
            hurry(fleet.let_time_pass)
            wait_until(lambda n=wanted: completed(fleet) >= n, what="five pictures")
        say(f"{worker} cut off: {held} leases at both workers, {done} of {photos} pictures done")
    wait_for_all(fleet)
    assert completed(fleet) == pictures_before + photos
    check(fleet, visitor, url, charges=charged + photos)
    assert {name: process.poll() for name, process in fleet.processes.items()} == dict.fromkeys(
        fleet.processes
    )
    assert pids(fleet) == before, "nobody was started again"
    say(f"cut off, one at a time: 0 of {photos} pictures lost, 0 paid twice,")
    say(f"  {visitor.repeated} requests repeated by the client")


def test_a_worker_is_told_to_end(fleet, say):
    photos, charged, done = 10, fleet.ledger()["charges"], completed(fleet)
    visitor = Client(fleet, "term@example.com")
    url = visitor.order([visitor.upload(number) for number in range(photos)])
    leases = wait_until(lambda: work_in_hand(fleet), what="work in hand")
    process, begin = fleet.processes.pop(WORKERS[0]), time.monotonic()
    left = done + photos - completed(fleet)
    process.terminate()
    status, took = process.wait(houses.PATIENCE * 5), time.monotonic() - begin
    fleet.start_worker(WORKERS[0])
    wait_for_all(fleet)
    check(fleet, visitor, url, charges=charged + photos)
    say(
        f"SIGTERM of a worker, {leases} leases at both, {left} of {photos} pictures to come:"
        f" it ended after {took:.1f} s (promised: 20), 0 lost"
    )
    assert status == 0
    assert took < 20 * GUARD


def test_postgresql_restarts(fleet, far_server, say):
    photos, charged, before = 10, fleet.ledger()["charges"], pids(fleet)
    visitor = Client(fleet, "restart@example.com")
    url = visitor.order([visitor.upload(number) for number in range(photos)])
    wait_until(lambda: fleet.ledger()["charges"] >= charged + 2, what="two requests at fal")
    answers, over = queue.SimpleQueue(), threading.Event()

    def ask():
        """Somebody who reloads a page of theirs all the time."""
        while not over.is_set():
            asked, status = time.monotonic(), None
            with suppress(urllib3.exceptions.HTTPError):
                status = Visitor.get(visitor, "/images").status
            answers.put((asked, time.monotonic(), status))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        begin = time.monotonic()
        far_server.server.restart("fast")
        back = time.monotonic()
        last = fleet.query("SELECT max(id) FROM job_events")[0][0]
        seen = []

        def well():
            while not answers.empty():
                seen.append(answers.get())
            return [at for asked, at, status in seen if asked >= back and status == 200]

        page = wait_until(well, what="a page after the restart")[0]
        wait_until(lambda: count(fleet, "job_events WHERE id > %s", last), what="a worker's step")
        step = time.monotonic()
    finally:
        over.set()
        asker.join()
    hurry(fleet.let_time_pass)  # steps that met the restart keep their leases
    wait_for_all(fleet)
    check(fleet, visitor, url, charges=charged + photos)
    failed = [at for _, at, status in seen if status != 200]
    # The first page that came after PostgreSQL had gone, even if it was asked for before that.
    first = min(at for _, at, status in seen if status == 200 and at > max(failed, default=begin))
    say(
        f"PostgreSQL restarted in {back - begin:.1f} s: first page {max(0, first - back):.1f} s"
        f" after it was there (promised: 5), first step of a worker {step - back:.1f} s;"
        f" {len(failed)} requests failed meanwhile"
    )
    assert pids(fleet) == before, "nobody was started again"
    assert page - back < 5 * GUARD


RATE, SECONDS, CLIENTS = 200, 10, 24


class Load:
    """Many who ask at a given rate, whether or not they were answered; nobody asks twice."""

    def __init__(self, fleet, visitor):
        self.lock = threading.Lock()
        self.fleet, self.headers = fleet, visitor.headers
        # nginx counts an address' requests: there are several.
        self.pools = [fleet.pool(source_address=(f"127.0.0.{number}", 0)) for number in range(2, 6)]
        self.slots = itertools.count()
        self.in_flight = set()
        self.took, self.errors = [], []

    def run(self):
        self.begin = time.monotonic()
        threads = [threading.Thread(target=self.client, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        caught = wait_until(self.kill_in_the_middle, what="requests under way")
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - self.begin
        return caught

    def kill_in_the_middle(self):
        """How many requests were under way when a web was killed; 0 as long as it was not."""
        with self.lock:
            caught = len(self.in_flight)
            if len(self.took) < RATE * SECONDS * 0.4 or not caught:
                return 0
            self.fleet.signal(WEBS[0], signal.SIGKILL)
            return caught

    def client(self, number):
        pool = self.pools[number % len(self.pools)]
        while (slot := next(self.slots)) < RATE * SECONDS:
            due = self.begin + slot / RATE
            if (early := due - time.monotonic()) > 0:
                select.select([], [], [], early)
            with self.lock:
                self.in_flight.add(slot)
            begin = time.monotonic()
            wrong = self.ask(pool, slot)
            with self.lock:
                self.in_flight.discard(slot)
                self.took.append(time.monotonic() - begin)
                if wrong:
                    self.errors.append(wrong)

    def ask(self, pool, slot):
        """What was wrong with the answer, None when nothing was."""
        method, path, options = "GET", "/healthz" if slot % 2 else "/images", {}
        if slot % 20 == 0:  # which nginx never asks for twice
            name, data = photo(0)
            options = {"fields": {"images": (name, data, "image/jpeg")}}
            method, path = "POST", "/images"
        try:
            answer = pool.request(
                method, self.fleet.url + path, headers=self.headers, redirect=False, **options
            )
        except urllib3.exceptions.HTTPError as error:
            return f"{method} {path}: {type(error).__name__}"
        return None if answer.status in {200, 201} else f"{method} {path}: {answer.status}"


def test_a_web_is_killed_under_load(fleet, say):
    visitor = Client(fleet, "load@example.com")
    visitor.upload(0)
    load = Load(fleet, visitor)
    caught = load.run()
    fleet.processes.pop(WEBS[0]).wait(houses.PATIENCE)
    fleet.start_web(WEBS[0])
    fleet.wait_for_web(WEBS[0])
    rate = len(load.took) / load.seconds
    slow = statistics.quantiles(load.took, n=20)
    say(
        f"{rate:.0f} requests/s through two webs (wanted: {RATE}), half of them pages, one in twenty"
        f" an upload: p50 {slow[9] * 1000:.0f} ms, p95 {slow[18] * 1000:.0f} ms, slowest"
        f" {max(load.took) * 1000:.0f} ms, {os.cpu_count()} cores"
    )
    say(
        f"  one killed with -9: {caught} requests were under way, {len(load.errors)} failed"
        f" of {len(load.took)}"
    )
    assert len(load.errors) <= caught, load.errors
    assert rate > RATE / GUARD
