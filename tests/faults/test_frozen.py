"""A worker is frozen around its POST, loses its job to another one, and wakes up again.

The freeze is real: SIGSTOP of a real worker process, at the border. A `sitecustomize` that only this
worker's interpreter finds stops the process where its submit has connected, or has been written.
"""

import os
import signal
import textwrap
from pathlib import Path

import factories
import pictures
import psycopg
import pytest
import urllib3
from house import House, wait_until
from invariants import violations

from i2i.gateways.fal import FROZEN_SECONDS, boottime
from i2i.gateways.storage import make_storage
from i2i.queries import jobs

pytestmark = pytest.mark.heavy

STOP = """
import os, signal, threading
from urllib3.connection import HTTPConnection

connect, request = HTTPConnection.connect, HTTPConnection.request
seen = []

def stop(moment):
    if moment == {moment!r} and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        # To this thread, which else may run on until another one has taken the signal.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

def connect_(self):
    connect(self)
    if "PUT" in seen:  # the input is up, so this one is for the submit
        stop("connected")

def request_(self, method, url, *args, **kwargs):
    request(self, method, url, *args, **kwargs)
    seen.append(method)
    if method == "POST" and "PUT" in seen:
        stop("written")

HTTPConnection.connect, HTTPConnection.request = connect_, request_
"""


@pytest.fixture
def house(database, tmp_path):
    running = House(database=database, folder=tmp_path / "house", practice_seconds=0.1)
    running.start_practice()
    wait_until(lambda: answers(running), what="the practice server")
    yield running
    if "frozen" in running.processes:
        running.kill("frozen")
    running.stop()


def answers(house):
    try:
        return house.ledger()
    except urllib3.exceptions.HTTPError:
        return None


@pytest.fixture
def conn(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def make_job(conn, house, *, user=None, height=48):
    """The same bytes again would be the same photo, hence the height."""
    user = user or factories.make_user(conn, email="owner@example.com")
    storage = make_storage(f"file://{house.folder}/blobs", data_dir=house.folder)
    data = pictures.jpeg(pictures.photo(size=(64, height)))
    image = factories.make_image(conn, user=user, data=data, storage=storage, size=(64, height))
    return user, factories.make_job(conn, user=user, image=image)


def is_stopped(process):
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"


def rows_of(conn, job):
    """All that the database knows of a job."""
    return [
        conn.execute(f"SELECT * FROM {table} WHERE {column} = %s ORDER BY id", [job.id]).fetchall()
        for table, column in [
            ("processing_jobs", "id"),
            ("submissions", "job_id"),
            ("job_events", "job_id"),
        ]
    ]


@pytest.mark.parametrize("moment", ["connected", "written"])
def test_a_frozen_worker_wakes_up_and_changes_nothing(conn, house, tmp_path, moment):
    user, job = make_job(conn, house)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(
        textwrap.dedent(STOP).format(moment=moment, mark=str(tmp_path / "stopped"))
    )
    house.environ["PYTHONPATH"] = str(hooks)
    house.start("frozen", "flask", "worker")
    del house.environ["PYTHONPATH"]
    frozen = house.processes["frozen"]
    wait_until(lambda: is_stopped(frozen), what="SIGSTOP")
    since = boottime()
    assert jobs.find(conn, job_id=job.id).status == "submitting"
    assert house.query("SELECT state FROM submissions") == [("sent",)]

    house.let_time_pass()
    house.start_worker()
    # fal's list proves an absence only after a while, by something that was sent later.
    wait_until(lambda: jobs.find(conn, job_id=job.id).status != "submitting", what="takeover")
    if moment == "connected":
        conn.execute("UPDATE submissions SET sent_at = sent_at - interval '1 hour'")
        make_job(conn, house, user=user, height=50)
        conn.execute("NOTIFY i2i_work")

    def finished():
        house.end_pauses()
        return house.query("SELECT FROM processing_jobs HAVING bool_and(status = 'completed')")

    wait_until(finished, what="all pictures")
    wait_until(lambda: boottime() - since > FROZEN_SECONDS, what="a long enough freeze")
    before, charges = rows_of(conn, job), house.ledger()
    tokens = [each["input_file"] for each in charges["requests"]]
    assert len(set(tokens)) == len(tokens) == (2 if moment == "connected" else 1)

    os.kill(frozen.pid, signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)  # it drains: the step in hand is finished first
    assert frozen.wait(60) == 0
    del house.processes["frozen"]
    assert house.ledger() == charges, "no second request"
    assert rows_of(conn, job) == before, "no changed row"
    assert house.stop() == {"practice": 0, "worker": 0}
    found = violations(house.database, blobs=house.folder / "blobs", requests=charges["requests"])
    assert found == []
