"""`flask db studio`: pgAdmin, PostgreSQL's own browser GUI, on the configured database.

It is large, so it is installed at its first use, by its own lock, into its own environment below
DATA_DIR. It listens on loopback alone, and wants a key that changes with every start, so that
another user of this machine cannot use it.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import click
from psycopg.conninfo import conninfo_to_dict

from i2i import db
from i2i.cli.console import Command, database_settings, say
from i2i.config import ROOT
from i2i.errors import Refused

LOCK = ROOT / "requirements-studio.txt"

SETTINGS = """\
SERVER_MODE = False
DEFAULT_SERVER = "127.0.0.1"
DATA_DIR = {data!r}
LOG_FILE = {data!r} + "/pgadmin.log"
SQLITE_PATH = {data!r} + "/pgadmin.db"
SESSION_DB_PATH = {data!r} + "/sessions"
STORAGE_DIR = {data!r} + "/storage"
MASTER_PASSWORD_REQUIRED = False
USE_OS_SECRET_STORAGE = False
UPGRADE_CHECK_ENABLED = False
"""
"""pgAdmin's config_local.py: one user, one machine, nothing asked of the network."""


KEPT = ("PATH", "HOME", "LANG", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE")
"""Of our environment: the rest holds secrets, and FLASK_RUN_FROM_CLI would stop pgAdmin."""


@click.command("studio", cls=Command, audited="before")
@click.option("--port", type=click.IntRange(1, 65535), default=5050, show_default=True)
def open_studio(port: int) -> None:
    """Open pgAdmin on the database, on this machine only, until Ctrl-C."""
    settings = database_settings()
    home = settings.data_dir / "studio"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    python, package = install(home)
    configure(home, package=package)
    register(home, python=python, package=package, url=db.direct_url(settings))
    key = secrets.token_urlsafe(24)
    say(f"pgAdmin starts; open http://127.0.0.1:{port}/?key={key} and choose i2i. Ctrl-C ends it.")
    environ = kept() | {"PGADMIN_INT_PORT": str(port), "PGADMIN_INT_KEY": key}
    program = str(package / "pgAdmin4.py")
    os.execve(python, [str(python), program], environ)  # noqa: S606 - no shell is wanted


def install(home: Path) -> tuple[Path, Path]:
    """PgAdmin's Python and its folder, installed by the lock when they are not there or older."""
    python, stamp = home / "venv" / "bin" / "python", home / "installed"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        say("Installing pgAdmin, once: about 500 MB.")
        run([sys.executable, "-m", "venv", "--clear", home / "venv"])
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
        run([*pip, "--require-hashes", "-r", LOCK])
        shutil.copyfile(LOCK, stamp)
    found = sorted((home / "venv").glob("lib/python*/site-packages/pgadmin4"))
    if not found:
        raise Refused(f"pgAdmin is not where it was installed. Delete {home} and try again.")
    return python, found[-1]


def configure(home: Path, *, package: Path) -> None:
    """Keep what pgAdmin knows in a folder of its own."""
    (home / "data").mkdir(mode=0o700, exist_ok=True)
    text = SETTINGS.format(data=str(home / "data"))
    (package / "config_local.py").write_text(text, encoding="utf-8")


def register(home: Path, *, python: Path, package: Path, url: str) -> None:
    """Tell pgAdmin of this database alone; the password goes through a file of libpq's form."""
    wanted = connection_of(url, passfile=home / "pgpass")
    listed = home / "servers.json"
    listed.write_text(json.dumps({"Servers": {"1": wanted}}), encoding="utf-8")
    setup = [python, package / "setup.py"]
    if not (home / "data" / "pgadmin.db").exists():
        run([*setup, "setup-db"])
    run([*setup, "load-servers", listed, "--replace"])


def connection_of(url: str, *, passfile: Path) -> dict[str, object]:
    """The database as servers.json names it; the password is written into `passfile`, 0600."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    host, port = parts.get("host", "127.0.0.1"), parts.get("port", "5432")
    user, name = parts.get("user", os.environ.get("USER", "postgres")), parts.get("dbname", "")
    passfile.unlink(missing_ok=True)
    passfile.touch(mode=0o600)
    fields = [host, port, "*", user, parts.get("password", "")]
    line = ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)
    passfile.write_text(f"{line}\n", encoding="utf-8")
    parameters = {
        key: value for key, value in parts.items() if key.startswith("ssl") or key == "gssencmode"
    }
    return {
        "Name": "i2i",
        "Group": "Servers",
        "Host": host,
        "Port": int(port),
        "MaintenanceDB": name or user,
        "Username": user,
        "ConnectionParameters": parameters | {"passfile": str(passfile)},
    }


def kept() -> dict[str, str]:
    """What pgAdmin and its installation may know of our environment."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def run(command: list[object]) -> None:
    """Run one step of the installation; Refused with its last line when it fails."""
    done = subprocess.run(
        [str(each) for each in command], env=kept(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Refused(f"pgAdmin cannot be set up: {lines[-1] if lines else 'no reason given'}")
