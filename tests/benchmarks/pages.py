"""`make bench`, its half on pages: CPU milliseconds a request, of i2i and of peers that show the same page.

Application and PostgreSQL are added up from the operating system's accounting; medians of rounds
that take turns. The peers read the same tables on the same machine in the same run, one process
each. Prints a table, never fails.
"""

import http.client
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import house as houses
import psycopg
import scale
import stack
from house import House, free_port, wait_until
from processes import cpu_ms, cpu_of, family, resident_mb

from i2i import embedded, passwords
from i2i.queries import history as history_queries
from i2i.services import workflows

HERE = Path(__file__).parent
ROUNDS, REQUESTS, WARM = 5, 60, 20


class Client:
    """One connection that is kept, as a proxy keeps it."""

    def __init__(self, port, cookie):
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._headers = {"Cookie": cookie, "Accept": "text/html"}

    def renew(self):
        """Begin a new connection: servers end one that was silent for the others' turns."""
        self._connection.close()

    def get(self, path, *, status=200, **headers):
        self._connection.request("GET", path, headers=self._headers | headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == status, (path, answer.status, body[:300])
        return body, answer.headers


class Side:
    """A server under measurement, and the roots of the processes that work for it."""

    def __init__(self, name, *, pid, client, postgres):
        self.name, self.client = name, client
        self._roots = (pid, postgres)

    def cost(self, ask):
        """CPU milliseconds of one request, on average of a round."""
        self.client.renew()
        ask(self.client)
        begin = cpu_ms(*self._roots)
        for _ in range(REQUESTS):
            ask(self.client)
        return (cpu_ms(*self._roots) - begin) / REQUESTS

    @property
    def resident(self):
        return resident_mb(self._roots[0])


def main():
    peers = Path(os.environ["PEERS_PYTHON"])
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.start_throwaway()
        house = House(database=server.url, folder=Path(folder) / "house", WEB_CONCURRENCY="1")
        others = []
        try:
            house.flask("db", "setup")
            cookie = sign_in(house, server)
            web = Client(house.port, cookie)
            sides = [Side("i2i", pid=house.processes["web"].pid, client=web, postgres=server.pid)]
            for name, start in (("Django", start_django), ("FastAPI", start_fastapi)):
                process, port = start(peers, server.url)
                others.append(process)
                client = Client(port, f"i2i={cookie.partition('=')[2]}")
                sides.append(Side(name, pid=process.pid, client=client, postgres=server.pid))
            compare_histories(sides, house)
            measure_poll(sides[0], house)
            for side in sides:
                print(f"{side.name + ': resident after all of it':<58} {side.resident:9.1f} MB")
            measure_two_workers(server)
            floor_of_postgresql(server)
            floor_of_nginx(sides[0], folder=Path(folder))
        finally:
            for process in others:
                process.terminate()
                process.wait(houses.PATIENCE)
            house.stop()
            server.remove()


def sign_in(house, server):
    """Fill the tables, start i2i's pages, sign in; the cookie."""
    with psycopg.connect(server.url, autocommit=True) as conn:
        version = workflows.get(conn, workflow_id="mannequin-to-human-v1").version_id
    password_hash = passwords.hash_password(houses.PASSWORD, rounds=4)
    email = scale.fill(server.url, version=version, password_hash=password_hash)
    house.start_web()
    wait_until(house.is_ready, what="GET /readyz with 200")
    answer = house.http.request(
        "POST",
        f"{house.url}/login",
        fields={"email": email, "password": houses.PASSWORD},
        encode_multipart=False,
        headers={"Sec-Fetch-Site": "same-origin"},
        redirect=False,
    )
    assert answer.status == 303, answer.data
    return re.match(r"[^;]+", answer.headers["Set-Cookie"]).group()


def start_django(python, url):
    parts = psycopg.conninfo.conninfo_to_dict(url)
    environ = {
        "DATABASE": parts["dbname"],
        "DATABASE_USER": parts.get("user", ""),
        "HOST": parts["host"],
        "PORT": str(parts.get("port", 5432)),
    }
    serve = ["gunicorn", "--threads", "4", "--log-level", "warning", "--no-control-socket"]
    return start(python, environ, lambda port: [*serve, "-b", port, "django_peer:application"])


def start_fastapi(python, url):
    scheme, _, rest = url.partition("://")
    environ = {"DATABASE_URL": f"{scheme}+psycopg://{rest}"}
    serve = ["uvicorn", "--no-access-log", "--log-level", "warning"]
    return start(
        python, environ, lambda port: [*serve, "--port", port.split(":")[1], "fastapi_peer:app"]
    )


def start(python, environ, command):
    port = free_port()
    process = subprocess.Popen(
        [python, "-m", *command(f"127.0.0.1:{port}")],
        cwd=HERE / "peers",
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
    )

    wait_until(lambda: process.poll() is not None or answers(port), what="an answer of a peer")
    assert process.poll() is None, "a peer ended"
    return process, port


def answers(port):
    """Whether somebody listens there."""
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/jobs")
    except OSError:
        return False
    return True


def compare_histories(sides, house):
    """The newest page and one from the middle, which each side names in its own way."""
    for what, found in (("newest", newest), ("from the middle", middle)):
        paths = {side.name: found(side, house) for side in sides}
        costs = take_turns(sides, {name: asking(path) for name, path in paths.items()})
        for side in sides:
            side.client.renew()
            size = len(side.client.get(paths[side.name])[0])
            ratio = costs[side.name] / costs["i2i"]
            report(
                f"history, {what}: {side.name}",
                costs[side.name],
                f"{ratio:5.1f} x   {size:,} bytes",
            )


def newest(side, house):
    return "/jobs"


def middle(side, house):
    """An address half-way down: pages are turned until then, as a person would."""
    side.client.renew()
    path = "/jobs"
    for _ in range(20):
        body = side.client.get(path)[0].decode()
        path = re.search(r'href="(/jobs\?[^"]*after=[^"]+)"', body)[1].replace("&amp;", "&")
    return path


def asking(path, **more):
    return lambda client: client.get(path, **more)


def take_turns(sides, asks):
    """The median of each side's rounds, in CPU milliseconds a request."""
    for side in sides:
        for _ in range(WARM):
            asks[side.name](side.client)
    rounds = {side.name: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            rounds[side.name].append(side.cost(asks[side.name]))
    return {name: statistics.median(each) for name, each in rounds.items()}


def measure_poll(side, house):
    """The live page of a batch: all of its cards, and nothing new."""
    ((batch,),) = house.query(
        "SELECT batches.id FROM batches JOIN users ON users.id = user_id"
        " WHERE email = 'user7@example.com' ORDER BY batches.created_at DESC LIMIT 1"
    )
    side.client.renew()
    _, headers = side.client.get(f"/batches/{batch}/live")
    asks = {
        "the page of a batch of 50": asking(f"/batches/{batch}"),
        "its live part, everything new": asking(f"/batches/{batch}/live"),
        "its live part, 304": asking(
            f"/batches/{batch}/live", status=304, **{"If-None-Match": headers["ETag"]}
        ),
        "GET /healthz": asking("/healthz"),
    }
    for what, ask in asks.items():
        report(what, take_turns([side], {side.name: ask})[side.name], "")


def measure_two_workers(server):
    """Memory of gunicorn as it is run, with two processes, after each has shown pages."""
    with tempfile.TemporaryDirectory() as folder:
        house = House(database=server.url, folder=folder)
        house.make_user("two@example.com")
        house.start_web()
        try:
            wait_until(house.is_ready, what="GET /readyz with 200")
            visitor = houses.Visitor(house, "two@example.com")
            for _ in range(200):
                assert visitor.get("/jobs", Connection="close").status == 200
            size = resident_mb(house.processes["web"].pid)
            print(f"{'two web workers after 200 pages':<58} {size:9.1f} MB")
        finally:
            house.stop()


def floor_of_postgresql(server):
    """What the large query of the page costs when nothing is made of its rows."""
    programs = [shutil.which("pgbench"), *Path("/usr/lib/postgresql").glob("*/bin/pgbench")]
    pgbench = next(filter(None, programs), None)
    if pgbench is None:
        print("pgbench is not there: no floor of PostgreSQL")
        return
    with psycopg.connect(server.url) as conn, psycopg.ClientCursor(conn) as cursor:
        (user_id,) = conn.execute(
            "SELECT id FROM users WHERE email = 'user7@example.com'"
        ).fetchone()
        query = history_queries.SQL["page_newest"]
        place = {"before": None, "before_id": None, "created_from": None, "page_size": 25}
        values = {"user_id": user_id, **place}
        script = cursor.mogrify(query.text, values) + ";"
    times = 2000
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        there, before = family(server.pid), [cpu_of(pid)[1] for pid in (server.pid, os.getpid())]
        subprocess.run(
            [pgbench, "-n", "-M", "prepared", "-t", str(times), "-f", file.name, server.url],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wait_until(lambda: set(family(server.pid)) <= set(there), what="the end of its connections")
    after = [cpu_of(pid)[1] for pid in (server.pid, os.getpid())]
    for who, begin, end in zip(("PostgreSQL", "pgbench itself"), before, after, strict=True):
        report(f"floor: the page's large query, {who}", (end - begin) * 1000 / times, "")


def floor_of_nginx(side, *, folder):
    """The bytes of the page as a file."""
    if stack.NGINX is None:
        print("nginx is not there: no floor of HTTP")
        return
    port = free_port()
    (folder / "page.html").write_bytes(side.client.get("/jobs")[0])
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
        "events {} http { access_log off; keepalive_requests 100000;"
        f" server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    process = subprocess.Popen([stack.NGINX, "-c", folder / "nginx.conf"])
    try:
        client = Client(port, "")
        wait_until(lambda: answers(port), what="nginx")
        nginx = Side("nginx", pid=process.pid, client=client, postgres=process.pid)
        ask = asking("/page.html")
        report(
            "floor: the same bytes as a file, nginx",
            take_turns([nginx], {"nginx": ask})["nginx"],
            "",
        )
    finally:
        process.terminate()
        process.wait(houses.PATIENCE)


def report(what, cpu, more):
    print(f"{what:<58} {cpu:9.2f} ms CPU   {more}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
