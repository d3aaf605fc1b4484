"""i2i on several machines: webs and workers that share PostgreSQL and a bucket, and nothing else.

Each machine is a network namespace with a cable of its own, where root may make one; else all have
addresses of 127.0.0.0/8, and no cable to cut. Everything else stands where the test runs, each a process: PostgreSQL with
TLS, PgBouncer, an S3 server, practice fal, nginx.
"""

import ipaddress
import os
import random
import shutil
import signal
import ssl
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import house as houses
import psycopg
import urllib3
from benchmarks.processes import family
from house import House, free_port, wait_until
from stack import HOST, Nginx, make_certificate

from i2i import embedded
from i2i.config import ROOT

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

INI = ROOT / "docs" / "deploy" / "pgbouncer.ini"

WEBS, WORKERS = ("web 1", "web 2"), ("worker 1", "worker 2")

ROLE, DATABASE = "i2i_app", "i2i_far"

IMPATIENCE = 10
"""Seconds until a client gives an answer up; a web that was cut off never sends it."""

DB_PASSWORD = "for-tests-only"


def run(*command):
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=houses.PATIENCE
    ).stdout


class Network:
    """Addresses that exist on this machine alone, and a cable to each machine.

    Attributes:
        apart: whether the machines are namespaces, whose cables can be cut.
        here: the address at which they reach what all share.
    """

    def __init__(self):
        self.number = random.randrange(256), random.randrange(256)
        self.spaces, self.address = {}, {}
        self.apart = self._may_part()
        self.base = "{}.{}.{}".format(10 if self.apart else 127, *self.number)
        self.here = f"{self.base}.1"
        houses.NEAR.append(ipaddress.ip_network(f"{self.base}.0/24"))
        # The far end of this first cable is nobody's: it makes `here` exist before any machine does.
        if self.apart:
            self.add("nobody")

    def _space(self, number):
        return "i2i{}x{}m{}".format(*self.number, number)

    def _may_part(self):
        try:
            run("ip", "netns", "add", self._space(0))
            run("ip", "netns", "del", self._space(0))
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def add(self, name):
        """The address of a new machine."""
        number = len(self.spaces) + 10
        space, there = self._space(number), f"{self.base}.{number}"
        self.spaces[name], self.address[name] = space, there
        if not self.apart:
            return there
        run("ip", "netns", "add", space)
        run("ip", "link", "add", space, "type", "veth", "peer", "name", "cable", "netns", space)
        run("ip", "addr", "add", self.here, "peer", there, "dev", space)
        run("ip", "link", "set", space, "up")
        run("ip", "-n", space, "addr", "add", there, "peer", self.here, "dev", "cable")
        run("ip", "-n", space, "link", "set", "cable", "up")
        run("ip", "-n", space, "link", "set", "lo", "up")
        return there

    def within(self, name):
        if self.apart and name in self.spaces:
            return ["ip", "netns", "exec", self.spaces[name]]
        return []

    def pull(self, name):
        """From now on nothing arrives, in either direction, and nobody is told.

        Both ends send to a card that does not exist. With a link that is down the kernel would know,
        and on this machine the packets would go elsewhere.
        """
        for where, address, device in self._ends(name):
            card = ("lladdr", "02:00:00:00:00:01", "dev", device, "nud", "permanent")
            run("ip", *where, "neigh", "replace", address, *card)

    def plug(self, name):
        for where, address, device in self._ends(name):
            run("ip", *where, "neigh", "del", address, "dev", device)

    def _ends(self, name):
        space = self.spaces[name]
        return [((), self.address[name], space), (("-n", space), self.here, "cable")]

    def remove(self):
        houses.NEAR.pop()
        for space in self.spaces.values() if self.apart else ():
            with suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", space)


class FarServer:
    """A PostgreSQL that others reach over TLS with a password, and in no other way.

    Attributes:
        url: the owner's, over TLS.
        near: the same database past all that, for the test's own questions.
    """

    def __init__(self, address, *, bin_dir):
        self.address = address
        self.server = embedded.start_throwaway(
            bin_dir=bin_dir, options={"listen_addresses": address}
        )
        data = self.server.directory / "data"
        make_certificate(data / "server.crt", key=data / "server.key")
        for name in ("server.crt", "server.key"):
            (data / name).chmod(0o600)
            shutil.chown(data / name, data.owner(), data.group())
        (data / "pg_hba.conf").write_text(
            "local all all trust\nhostssl all all all scram-sha-256\n"
        )
        with psycopg.connect(self.server.url, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET ssl = on")
            conn.execute("SELECT pg_reload_conf()")
            conn.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{DB_PASSWORD}'")
        self.make(DATABASE)
        self.near, self.url = self.urls(DATABASE)
        wait_until(self._speaks_tls, what="TLS")

    def make(self, database):
        with psycopg.connect(self.server.url, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {database} OWNER {ROLE}")

    def urls(self, database):
        """As the test sees it, and as everybody else does."""
        return self.server.url_of(database), self.url_at(embedded.PORT, database=database)

    def url_at(self, port, *, database=DATABASE, sslmode="require"):
        place = f"{self.address}:{port}"
        return f"postgresql://{ROLE}:{DB_PASSWORD}@{place}/{database}?sslmode={sslmode}"

    def _speaks_tls(self):
        try:
            with psycopg.connect(self.url) as conn:
                return conn.pgconn.ssl_in_use
        except psycopg.OperationalError:
            return False


class PgBouncer:
    """A process with docs/deploy/pgbouncer.ini on addresses and files of its own."""

    def __init__(self, server, *, pool_size=None):
        self.server, self.port = server, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="i2i-pgbouncer-"))
        make_certificate(self.folder / "fullchain.pem", key=self.folder / "privkey.pem")
        (self.folder / "userlist.txt").write_text(f'"{ROLE}" "{DB_PASSWORD}"\n')
        text = INI.read_text(encoding="utf-8")
        for old, new in {
            "i2i = host=10.0.0.5 port=5432 dbname=i2i\n": (
                f"{DATABASE} = host={server.address} port={embedded.PORT} dbname={DATABASE}\n"
            ),
            "listen_addr = 10.0.0.5": f"listen_addr = {server.address}",
            "listen_port = 6432": f"listen_port = {self.port}",
            "/etc/pgbouncer": str(self.folder),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        if pool_size:
            text = text.replace("default_pool_size = 20", f"default_pool_size = {pool_size}")
        (self.folder / "pgbouncer.ini").write_text(text)
        command = [PGBOUNCER, str(self.folder / "pgbouncer.ini")]
        if os.geteuid() == 0:  # it refuses to run as root
            command[1:1] = ["-u", "nobody"]
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "nobody")
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.url = server.url_at(self.port)
        wait_until(self._answers, what="PgBouncer")

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(houses.PATIENCE)
        shutil.rmtree(self.folder)


class Machines(House):
    """Two webs behind nginx and two workers, each on a machine of its own; `url` is nginx's."""

    def __init__(self, *, server, pgbouncer, network, folder, **environ):
        super().__init__(
            database=server.near,
            folder=folder,
            practice_seconds=1.0,
            POSTGRES_URL=pgbouncer.url,
            POSTGRES_URL_NON_POOLING=server.url,
            TRUSTED_PROXIES="1",
            TRUSTED_HOSTS=HOST,
            WORKER_POLL_SECONDS="1",
            **environ,
        )
        self.network = network
        for name in (*WEBS, *WORKERS):
            network.add(name)
        self.address = network.address
        self.folder.mkdir(parents=True)
        self.nginx = Nginx(
            self.folder / "nginx",
            upstreams=[f"{self.address[name]}:{self.port}" for name in WEBS],
            blobs=self.folder / "none",
        )
        self.url = f"https://{HOST}:{self.nginx.port}"
        self.tls = ssl.create_default_context(cafile=str(self.nginx.certificate))
        self.http = self.pool()

    def pool(self, **options):
        """A client of nginx's, as impatient as it is ready to ask again."""
        options = {"timeout": IMPATIENCE, "maxsize": 20} | options
        return urllib3.PoolManager(retries=False, ssl_context=self.tls, **options)

    def within(self, name):
        return self.network.within(name.removeprefix("relay of "))

    def own(self, name):
        """No machine has a folder of another's."""
        return {"DATA_DIR": str(self.folder / name)}

    def start(self, name, *command):
        (self.folder / name).mkdir(exist_ok=True)
        super().start(name, *command)

    def start_relay(self, name, source, target):
        self.start(name, "tests.machines.relay", source, target)
        log = self.folder / f"{name}.log"
        wait_until(lambda: "ready" in log.read_text(), what=name)

    def start_web(self, name):
        super().start_web(name, address=self.address[name])

    def open(self):
        self.flask("db", "migrate")
        self.flask("db", "seed")
        self.start_practice()
        practice = f"127.0.0.1:{self.practice_port}"
        if self.network.apart:
            self.start_relay("fal", f"{self.network.here}:{self.practice_port}", practice)
            for name in WORKERS:
                there = f"{self.network.here}:{self.practice_port}"
                self.start_relay(f"relay of {name}", practice, there)
        for name in WEBS:
            self.start_web(name)
        for name in WORKERS:
            self.start_worker(name)
        self.nginx.start()
        for name in WEBS:
            self.wait_for_web(name)
        return self

    def wait_for_web(self, name):
        """Until its own address answers, past nginx."""

        def answers():
            try:
                url = f"http://{self.address[name]}:{self.port}/readyz"
                return self.http.request("GET", url, headers={"Host": HOST}).status == 200
            except urllib3.exceptions.HTTPError:
                return False

        wait_until(answers, what=f"an answer of {name}")

    @contextmanager
    def without(self, name):
        """Meanwhile its cable is pulled; it goes on by itself, and nobody hears of it."""
        self.network.pull(name)
        try:
            yield
        finally:
            self.network.plug(name)

    def signal(self, name, number):
        """To a program and all its processes."""
        for pid in family(self.processes[name].pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, name):
        """SIGKILL to all of its processes at once, as when the machine has lost its power."""
        self.signal(name, signal.SIGSTOP)  # so that no new one is made meanwhile
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait(houses.PATIENCE)

    def stop(self):
        ended = super().stop()
        self.nginx.stop()
        return ended
