"""`make bench`, its half on uploads and the worker: real processes, a database that syncs, a real disk.

Prints the rows of docs/performance.md, and never fails. CPU and memory are the operating system's
own accounting; times are the database's clock (job_events) and the practice server's (its requests).
JOBS=100 makes the run with a thousand pictures a shorter one; PARTS="ingest claim" measures only those.
"""

import io
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import factories
import pictures
import psycopg
from house import House, Visitor, wait_until
from PIL import Image
from processes import cpu_of, family, resident_mb

from i2i import embedded
from i2i.config import Settings
from i2i.gateways.storage import DirectoryStorage
from i2i.queries import images, workflows
from i2i.services import jobs as job_service

AT_ONCE, PHOTOS, PHOTO_BYTES = 4, 50, 8_000_000
ONE_BY_ONE = 48
JOBS = int(os.environ.get("JOBS") or 1000)
LOOKING_SECONDS = 10
BACKLOG = 10_000
MARK = b"\xff\xd8\xff\xfe\x00\x22"
"""The beginning of a JPEG whose first segment is a note of 32 bytes: another note is another photo."""

SHAPE = {"aspect_ratio": "custom", "custom_width": 1440, "custom_height": 2080}
"""A result of 3.0 megapixels."""

SMALL = {"aspect_ratio": "custom", "custom_width": 512, "custom_height": 512}


def main():
    parts = {"ingest": ingest, "steps": steps, "crowd": crowd, "claim": claim}
    print("| what | wanted | measured |\n|---|---|---|", flush=True)
    for name in (os.environ.get("PARTS") or " ".join(parts)).split():
        with tempfile.TemporaryDirectory(prefix="i2i-bench-") as folder:
            database = Path(folder) / "database"
            database.mkdir()
            try:
                server = embedded.start(database)  # not a throwaway one, which never syncs
                parts[name](server.url, Path(folder))
            finally:
                embedded.stop(database)


def row(what, wanted, measured):
    print(f"| {what} | {wanted} | {measured} |", flush=True)


# --- uploads


def ingest(url, folder):
    """Photos of 8 MB, four connections at once, against what `dd` writes to the same disk."""
    house = House(database=url, folder=folder / "data")
    house.flask("db", "migrate")
    house.make_user()
    house.start_web()
    try:
        wait_until(house.is_ready, what="GET /readyz with 200")
        visitor = Visitor(house)
        head, tail = _large_photo()
        _upload(house, visitor, head, tail, count=AT_ONCE * 4)  # every thread has had its first
        disk, rates, spent = [], [], []
        with Watch(house.processes["web"].pid) as watch:
            for _ in range(5):
                disk.append(_dd(folder))
                before = cpu_seconds(*family(house.processes["web"].pid))
                rates.append(_upload(house, visitor, head, tail, count=PHOTOS))
                spent.append(cpu_seconds(*family(house.processes["web"].pid)) - before)
        shares = [rate / floor for rate, floor in zip(rates, disk, strict=True)]
        row("`dd bs=8M count=50 oflag=dsync`", "", f"{statistics.median(disk):.0f} MB/s")
        row(
            f"ingest of 8 MB photos, {AT_ONCE} at once",
            "≥ 60 % of `dd`",
            f"{statistics.median(rates):.0f} MB/s, {statistics.median(shares):.0%}",
        )
        row("CPU of the web a photo", "", f"{statistics.median(spent) / PHOTOS * 1000:.0f} ms")
        row("web memory meanwhile", "≤ 120 MB", f"{watch.most:.0f} MB")
    finally:
        house.stop()


def _large_photo():
    """A JPEG of PHOTO_BYTES in two parts, between which a note makes it one that nobody has sent."""
    noise = Image.frombytes("RGB", (1000, 1000), random.Random(7).randbytes(3_000_000))
    data = pictures.jpeg(pictures.photo(size=(4000, 3000)), quality=92)
    side = 3000
    while len(data) < PHOTO_BYTES:
        side += 100
        photo = pictures.photo(size=(4 * side // 3, side))
        data = pictures.jpeg(Image.blend(photo, noise.resize(photo.size), 0.25), quality=92)
    return MARK, data[2:]


def _upload(house, visitor, head, tail, *, count):
    """Megabytes a second of `count` photos, each in a request of its own as the browser sends them."""
    turns = iter(range(count))
    lock = threading.Lock()

    def send():
        with socket.create_connection(("127.0.0.1", house.port)) as sock:
            while True:
                with lock:
                    if next(turns, None) is None:
                        return
                _send_photo(sock, visitor, [head, os.urandom(16).hex().encode(), tail])

    begin = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for sender in [pool.submit(send) for _ in range(AT_ONCE)]:
            sender.result()
    return count * (len(head) + 32 + len(tail)) / 1e6 / (time.perf_counter() - begin)


def _send_photo(sock, visitor, data):
    boundary = b"----bench" + os.urandom(8).hex().encode()
    name = os.urandom(4).hex()
    before = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="images"; '
        b'filename="' + name.encode() + b'.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    after = b"\r\n--" + boundary + b"--\r\n"
    length = len(before) + sum(map(len, data)) + len(after)
    headers = visitor.headers | {
        "Host": "127.0.0.1",
        "Content-Type": f"multipart/form-data; boundary={boundary.decode()}",
        "Content-Length": length,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sock.sendall(f"POST /images HTTP/1.1\r\n{lines}\r\n".encode() + before)
    for piece in (*data, after):
        sock.sendall(piece)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(65536)
    top, _, body = answer.partition(b"\r\n\r\n")
    assert b" 201 " in top.splitlines()[0], answer
    rest = int(re.search(rb"Content-Length: (\d+)", top)[1]) - len(body)
    while rest:
        rest -= len(sock.recv(rest))


def _dd(folder):
    """Megabytes a second."""
    target = folder / "dd"
    said = subprocess.run(
        ["dd", "if=/dev/zero", f"of={target}", "bs=8M", "count=50", "oflag=dsync"],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        check=True,
    ).stderr
    target.unlink()
    number = re.search(r"(\d+) bytes .* copied, ([\d.e-]+) s", said)
    return int(number[1]) / 1e6 / float(number[2])


# --- the steps of one picture


def steps(url, folder):
    """One picture at a time through the whole house: first with polling alone, then with callbacks."""
    folder.mkdir(exist_ok=True)
    for callbacks in (False, True):
        data = folder / f"callbacks-{callbacks}"
        house = House(database=url, folder=data, practice_seconds=1.0)
        if callbacks:
            house.environ["PUBLIC_URL"] = house.url
        house.flask("db", "migrate")
        site = Site(house, size=(4000, 3000))
        house.open()
        try:
            wait_until(partial(_answers, house), what="the practice server's answer")
            for number in range(2 + ONE_BY_ONE):
                # Evenly over two polls, so that it ends anywhere between two looks.
                fault = {"mode": "slow", "seconds": 2 + 2 * number / ONE_BY_ONE}
                house.http.request("POST", f"{house.practice_url}/faults", json=fault)
                site.ask(1, parameters=SHAPE)
                site.wait_for_all()
            _tell_steps(site, callbacks=callbacks)
        finally:
            house.stop()


def _tell_steps(site, *, callbacks):
    times = site.times()[2:]
    how = "with callbacks" if callbacks else "polling"
    if not callbacks:
        row(
            "claim → sent",
            "p50 ≤ 10 ms",
            _both([each["sent"] - each["claimed"] for each in times]),
        )
        row("asked for → sent", "", _both([each["sent"] - each["asked"] for each in times]))
        rendered = [
            float(each)
            for each in re.findall(
                r"decoded \S+original\S* in ([\d.]+) s",
                (site.house.folder / "worker.log").read_text(),
            )
        ]
        if rendered:
            row("… of it in the decode child", "", _both(rendered))
        row(
            "`sent` → accepted and saved",
            "",
            _both([each["accepted"] - each["sent"] for each in times]),
        )
    row(
        f"fal done → `storing`, {how}",
        "≤ 50 ms" if callbacks else "≤ half the poll (500 ms) + 50 ms",
        _both([each["storing"] - each["done"] for each in times]),
    )
    row(
        f"`storing` → completed, 3 Mpx, {how}",
        "≤ 1 s",
        _both([each["completed"] - each["storing"] for each in times]),
    )


def _both(seconds):
    late = statistics.quantiles(seconds, n=20)[-1]
    return f"p50 {statistics.median(seconds) * 1000:.0f} ms, p95 {late * 1000:.0f} ms"


class Site:
    """One user, and pictures that are asked for behind the pages' back, each of a photo of its own."""

    def __init__(self, house, *, size):
        self.house = house
        house.flask("db", "seed")
        self.storage = DirectoryStorage(house.folder / "blobs")
        self.size = size
        self.photo = pictures.jpeg(pictures.photo(size=size), quality=90)
        with psycopg.connect(house.database, autocommit=True) as conn:
            self.user = factories.make_user(conn)
            self.workflow = workflows.find(conn, workflow_id="mannequin-to-human-v1")
        self.conn = psycopg.connect(house.database, autocommit=True)

    def ask(self, count, *, parameters):
        """Have `count` pictures wait, and tell the worker."""
        batch = factories.make_batch(
            self.conn,
            user=self.user,
            photos=[self._another_photo() for _ in range(count)],
            workflow=self.workflow,
            parameters=self.workflow.definition["default_parameters"] | parameters,
        )
        images.notify_work(self.conn)
        return batch

    def _another_photo(self):
        """A note makes it one that nobody has sent; all are prepared already."""
        return factories.make_image(
            self.conn,
            user=self.user,
            size=self.size,
            data=MARK + os.urandom(16).hex().encode() + self.photo[2:],
            storage=self.storage,
        )

    def count(self, *statuses):
        return self.conn.execute(
            "SELECT count(*) FROM processing_jobs WHERE user_id = %s AND status = ANY(%s)",
            [self.user.id, list(statuses)],
        ).fetchone()[0]

    def wait_for_all(self):
        moving = ("pending", "submitting", "processing", "storing", "unknown")
        self.wait(lambda: not self.count(*moving))

    def wait(self, condition):
        """Ask now and then, seldom enough to cost nothing beside what is measured."""
        until = time.monotonic() + 3600
        while not condition():
            if time.monotonic() > until:
                raise SystemExit("The pictures do not come to an end.")
            time.sleep(0.2)

    def times(self):
        """For each picture, in order, when it reached what, in seconds since 1970."""
        done = {
            each["request_id"]: datetime.fromisoformat(each["ended_at"]).timestamp()
            for each in (
                json.loads(path.read_bytes())
                for path in (self.house.folder / "practice" / "requests").glob("*.json")
            )
        }
        rows = self.conn.execute(
            """
            SELECT array_agg(event.to_status ORDER BY event.id),
                   array_agg(extract(epoch FROM event.happened_at)::float8 ORDER BY event.id),
                   extract(epoch FROM submission.sent_at)::float8, submission.request_id,
                   extract(epoch FROM job.created_at)::float8
            FROM processing_jobs AS job
            JOIN submissions AS submission ON submission.job_id = job.id
            JOIN job_events AS event ON event.job_id = job.id
            WHERE job.user_id = %s AND job.status = 'completed'
            GROUP BY job.id, submission.id
            ORDER BY job.created_at
            """,
            [self.user.id],
        ).fetchall()
        found = []
        for states, moments, sent, request_id, asked in rows:
            at = dict(zip(states, moments, strict=True))
            found.append(
                {
                    "asked": asked,
                    "claimed": at["submitting"],
                    "sent": sent,
                    "accepted": at["processing"],
                    "done": done[request_id],
                    "storing": at["storing"],
                    "completed": at["completed"],
                }
            )
        return found


# --- many pictures in one worker


def crowd(url, folder):
    """JOBS pictures at fal at once, then through to the end, in one worker."""
    house = House(
        database=url,
        folder=folder / "data",
        practice_seconds=3600,  # which holds them all until `_release`
        MAX_IN_FLIGHT=str(JOBS),
    )
    house.flask("db", "migrate")
    site = Site(house, size=(512, 512))
    house.start_practice()
    wait_until(partial(_answers, house), what="the practice server's answer")
    site.ask(JOBS, parameters=SMALL)
    house.start_worker()
    pid = house.processes["worker"].pid
    try:
        with Watch(pid, alone=True) as watch:
            begin = time.monotonic()
            site.wait(lambda: site.count("processing") == JOBS)
            busy = cpu_of(pid)[0]
            time.sleep(LOOKING_SECONDS)
            looking = (cpu_of(pid)[0] - busy) / LOOKING_SECONDS
            _release(house)
            site.wait_for_all()
            took = time.monotonic() - begin
            own, children = cpu_of(pid)
        made = site.count("completed")
        assert made == JOBS, f"{made} of {JOBS} pictures"
        row(f"one worker with {JOBS:,} in flight", "≤ 100 MB", f"{watch.most:.0f} MB")
        row(
            "its CPU a job beside the decode child",
            "≤ 25 ms",
            f"{own / JOBS * 1000:.1f} ms (the child: {children / JOBS * 1000:.0f} ms)",
        )
        row(f"its CPU while {JOBS:,} are at fal", "", f"{looking:.1%} of a core")
        row(f"{JOBS:,} pictures, first claim to last one stored", "", f"{took:.0f} s")
    finally:
        house.stop()


def _release(house):
    """From now on nothing takes time at fal: the practice server begins again what it has not ended."""
    house.kill("practice")
    for path in (house.folder / "practice" / "requests").glob("*.json"):
        kept = json.loads(path.read_bytes())
        path.write_text(json.dumps(kept | {"seconds": 0.0}))
    house.practice_seconds = 0.0
    house.start_practice()


def _answers(house):
    try:
        return house.http.request("GET", f"{house.practice_url}/ledger").status == 200
    except Exception:  # noqa: BLE001 - it is not there yet
        return False


# --- the queue


def claim(url, folder):
    """What the next claim takes while 10,000 pictures of 20 users wait, some of whom are busy."""
    settings = Settings.from_env(
        {
            "SECRET_KEY": "only-for-benchmarks-0123",
            "DATA_DIR": str(folder / "data"),
            "POSTGRES_URL": url,
        }
    )
    settings = replace(settings, max_in_flight=1000)
    house = House(database=url, folder=folder / "data")
    house.flask("db", "setup")
    with psycopg.connect(url, autocommit=True) as conn:
        workflow = workflows.find(conn, workflow_id="mannequin-to-human-v1")
        for number in range(20):
            user = factories.make_user(conn)
            photo = factories.make_image(conn, user=user)
            for _ in range(BACKLOG // 20 // 50):
                factories.make_batch(conn, user=user, photos=[photo] * 50, workflow=workflow)
            for _ in range(number):
                factories.make_job(
                    conn, user=user, image=photo, workflow=workflow, status="processing"
                )
        conn.execute("ANALYZE")
        seconds = []
        for _ in range(200):
            begin = time.perf_counter()
            with conn.transaction(force_rollback=True):
                assert job_service.claim_send(conn, settings)
            seconds.append(time.perf_counter() - begin)
    row(f"the claim with {BACKLOG:,} pictures queued", "≤ 10 ms", _fine(seconds))


def _fine(seconds):
    late = statistics.quantiles(seconds, n=20)[-1]
    return f"p50 {statistics.median(seconds) * 1000:.1f} ms, p95 {late * 1000:.1f} ms"


# --- the operating system's accounting


def cpu_seconds(*pids):
    return sum(cpu_of(pid)[0] for pid in pids)


class Watch:
    """The most megabytes that a process held, with its descendants or alone, looked at often."""

    def __init__(self, pid, *, alone=False):
        self.pid, self.alone, self.most = pid, alone, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.1):
            self.most = max(self.most, _alone_mb(self.pid) if self.alone else resident_mb(self.pid))


def _alone_mb(pid):
    text = io.StringIO(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return next(int(line.split()[1]) for line in text if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
