"""i2i as it runs on a server: the whole house, and nginx with docs/deploy/nginx.conf before it."""

import datetime as dt
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.parse
from pathlib import Path

import house as houses
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from house import EMAIL, House, free_port, wait_until

from i2i.config import ROOT

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

SITE = ROOT / "docs" / "deploy" / "nginx.conf"

ONE_WEB = "    server 127.0.0.1:8000 max_fails=0;\n"
"""Its line in the site; with two machines the commented lines come instead."""

HOST = "localhost"

NOGROUP = 65534

# What Debian's nginx.conf has around a site, without the names of its folders.
AROUND = """\
{user}
daemon off;
worker_processes auto;
pid nginx.pid;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    ssl_prefer_server_ciphers on;
    access_log access.log;
    gzip on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}}
"""


class Nginx:
    """A process that serves the documented site on ports and folders of its own."""

    def __init__(self, folder, *, upstreams, blobs):
        """
        Args:
            folder: for everything that it writes.
            upstreams: where gunicorn listens, as 127.0.0.1:8000; one, or those of two machines.
            blobs: folder of BLOB_URL.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.port, self.plain_port = free_port(), free_port()
        self.certificate = self.folder / "fullchain.pem"
        make_certificate(self.certificate, key=self.folder / "privkey.pem")
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(AROUND.format(user=user))
        (self.folder / "site.conf").write_text(self.site(upstreams, blobs))
        self.process = None

    def site(self, upstreams, blobs):
        """docs/deploy/nginx.conf with other names, ports and folders, and nothing else."""
        text = SITE.read_text(encoding="utf-8")
        places = ["127.0.0.1:8000"]
        if len(upstreams) > 1:
            assert ONE_WEB in text
            text = text.replace(ONE_WEB, "").replace("    #zone", "    zone")
            text = text.replace("    #server", "    server")
            places = ["10.0.0.11:8000", "10.0.0.12:8000"]
        for old, new in {
            "    listen [::]:80 default_server;\n": "",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2 default_server;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80": f"listen 127.0.0.1:{self.plain_port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            **dict(zip(places, upstreams, strict=True)),
            "/etc/letsencrypt/live/i2i.example.com": str(self.folder),
            "/srv/i2i/data/blobs": str(blobs),
            "/var/lib/nginx/i2i": "static",
            "/var/log/nginx": str(self.folder),
            "https://i2i.example.com": f"https://{HOST}:{self.port}",
            "server_name i2i.example.com": f"server_name {HOST}",
            "Host $host;": f"Host $host:{self.port};",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def start(self):
        """Returns when it answers; it dies with this process's group, for it is no daemon."""
        with (self.folder / "nginx.log").open("ab") as log:
            self.process = subprocess.Popen(
                [NGINX, "-p", self.folder, "-c", "nginx.conf", "-e", "nginx.log"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_listening, what="nginx")
        return self

    def _is_listening(self):
        assert self.process.poll() is None, (self.folder / "nginx.log").read_text()
        try:
            with socket_to(self.port):
                return True
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(houses.PATIENCE)


def socket_to(port, *, source="127.0.0.1", timeout=houses.PATIENCE):
    """A bare TCP connection; all of 127.0.0.0/8 is this machine, so `source` can be anyone."""
    return socket.create_connection(("127.0.0.1", port), timeout, (source, 0))


def make_certificate(path, *, key):
    """A self-signed certificate for HOST, valid for a day."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


AS_SYSTEMD = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "wsgi:app"])
"""
"""The third descriptor is the socket, for the process that it names."""


class SocketHouse(House):
    """A house whose pages are started as i2i-web.service is: the socket outlives them."""

    def start_web(self):
        if not hasattr(self, "socket"):
            self.socket = socket.create_server(("127.0.0.1", self.port), backlog=2048)
        given = self.socket.fileno()
        with (self.folder / "web.log").open("ab") as log:
            self.processes["web"] = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, str(given)],
                cwd=ROOT,
                env=self.environ,
                pass_fds=[given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self):
        ended = super().stop()
        self.socket.close()
        return ended


class Stack:
    """The running whole.

    Attributes:
        url: where users reach it, through nginx over TLS.
        http: a urllib3 pool that trusts the certificate, follows and repeats nothing.
        house: practice server, worker and gunicorn; `house.url` leads past nginx.
        nginx: the proxy's process, ports and folder (its logs too).
    """

    def __init__(self, *, database, folder, **environ):
        self.house = SocketHouse(
            database=database,
            folder=Path(folder) / "house",
            TRUSTED_PROXIES="1",
            TRUSTED_HOSTS=f"{HOST},127.0.0.1",
            X_ACCEL_REDIRECT="/blobs/",
            **environ,
        )
        self.house.environ["PUBLIC_URL"] = self.house.url
        self.house.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(self.house.folder, -1, NOGROUP)  # in place of www-data
        self.house.folder.chmod(0o2711)
        self.nginx = Nginx(
            Path(folder) / "nginx",
            upstreams=[f"127.0.0.1:{self.house.port}"],
            blobs=self.house.folder / "blobs",
        )
        self.url = f"https://{HOST}:{self.nginx.port}"
        self.tls = ssl.create_default_context(cafile=str(self.nginx.certificate))
        self.http = urllib3.PoolManager(
            ssl_context=self.tls, retries=False, timeout=houses.PATIENCE, maxsize=60
        )
        self.sessions = {}

    def open(self):
        self.nginx.start()
        self.house.open()
        return self

    def stop(self):
        self.http.clear()
        self.house.stop()
        self.nginx.stop()

    def restart_web(self):
        """As `systemctl restart i2i-web`: the old one ends, then the new one starts."""
        process = self.house.processes["web"]
        process.terminate()
        assert process.wait(houses.PATIENCE) == 0
        self.house.start_web()

    def reload_web(self):
        """As `systemctl kill --signal=HUP --kill-whom=main i2i-web`."""
        self.house.processes["web"].send_signal(signal.SIGHUP)

    def web_processes(self):
        """Numbers of gunicorn's processes that answer requests."""
        main = self.house.processes["web"].pid
        return set(Path(f"/proc/{main}/task/{main}/children").read_text().split())

    def client(self, *, source=None):
        """Somebody without a session; `source` is another address of theirs, as 127.0.0.2."""
        if source is None:
            return Client(self, self.http)
        return Client(
            self,
            urllib3.PoolManager(
                ssl_context=self.tls,
                retries=False,
                timeout=houses.PATIENCE,
                source_address=(source, 0),
            ),
        )

    def visitor(self, email=EMAIL):
        """Somebody with one. The account is made when it is first asked for.

        The session is shared by all who ask for this user, for sign-ins are counted; when one of
        them ended it there is a new one. `sign_in` always makes one.
        """
        if email not in self.sessions:
            self.house.make_user(email)
        client = self.client()
        client.cookies = dict(self.sessions.get(email, {}))
        if client.request("GET", "/images").status == 401:
            client = self.sign_in(email)
            self.sessions[email] = dict(client.cookies)
        return client

    def sign_in(self, email, password=houses.PASSWORD):
        """A client with a session of its own."""
        client = self.client()
        answer = client.request("POST", "/login", fields={"email": email, "password": password})
        assert answer.status == 200, answer.data
        return client

    def raw(self, *, source="127.0.0.1", alpn=None):
        """A TLS connection to nginx, for what no client would send."""
        context = self.tls
        if alpn:
            context = ssl.create_default_context(cafile=str(self.nginx.certificate))
            context.set_alpn_protocols(alpn)
        sock = socket_to(self.nginx.port, source=source)
        return context.wrap_socket(sock, server_hostname=HOST)


class Client:
    """Speaks JSON to the pages through nginx, as a script of theirs does; keeps its cookies."""

    def __init__(self, stack, http):
        self.stack, self.http = stack, http
        self.headers = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
        self.cookies = {}

    def request(self, method, path, *, fields=None, body=None, headers=None, multipart=False):
        """One request, redirects not followed.

        Args:
            fields: a form's; a file is `(name, bytes, mime type)`, which needs `multipart`.
            body: bytes instead of fields.
            headers: on top of the usual ones; None as a value leaves one out.
        """
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        merged = {**self.headers, **({"Cookie": cookie} if cookie else {}), **(headers or {})}
        merged = {name: value for name, value in merged.items() if value is not None}
        if fields is not None and not multipart:
            body = urllib.parse.urlencode(fields, doseq=True)
            merged.setdefault("Content-Type", "application/x-www-form-urlencoded")
        options = {"fields": fields} if multipart else {"body": body}
        answer = self.http.request(
            method, self.stack.url + path, headers=merged, redirect=False, **options
        )
        for line in answer.headers.getlist("Set-Cookie"):
            name, value = re.match(r"([^=]+)=([^;]*)", line).groups()
            self.cookies[name] = value
        return answer

    def upload(self, name, data, mime_type="image/jpeg"):
        """The image's facts."""
        answer = self.request(
            "POST", "/images", fields={"images": (name, data, mime_type)}, multipart=True
        )
        assert answer.status == 201, answer.data
        return answer.json()["images"][0]
