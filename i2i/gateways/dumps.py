"""Folders of backups, and PostgreSQL's own programs that fill and read them. Alone runs those.

blobs/                      the files of pictures, shared by all backups of the folder
20261123T113000Z/           one backup, named for its time in UTC
    database.dump           pg_dump's custom format
    files.txt               a line for each file of its rows: checksum or "-", bytes or "-", key
    manifest.json           what it holds; a folder without one is no backup
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from i2i import db, embedded
from i2i.errors import DatabaseUnavailable, Refused, StorageError
from i2i.gateways.storage import DirectoryStorage, sync, writing

NAME = re.compile(r"\d{8}T\d{6}Z")

FORMAT = 1
"""Of manifests; another one is another form of backup."""

DUMP, FILES, MANIFEST, LOCK = "database.dump", "files.txt", "manifest.json", ".lock"


class Shelf:
    """A folder of backups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = DirectoryStorage(folder / "blobs")

    def names(self) -> list[str]:
        """The finished backups, oldest first."""
        return sorted(
            path.parent.name
            for path in self.folder.glob(f"*/{MANIFEST}")
            if NAME.fullmatch(path.parent.name)
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refused while somebody else fills or clears this folder."""
        with _writing():
            self.blobs.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Refused(f"Another backup is being made in {self.folder}.") from None
        finally:
            os.close(lock)

    @contextmanager
    def filling(self, name: str) -> Iterator[Path]:
        """A folder to fill, which counts as a backup of this name only when nothing was raised.

        The caller has it `locked`, so that what others left unfinished can go.
        """
        unfinished = self.folder / f".{name}"
        try:
            with _writing():
                for left in self.folder.glob(".*Z"):
                    shutil.rmtree(left)
                unfinished.mkdir(mode=0o750)
                yield unfinished
                for path in unfinished.iterdir():
                    sync(path)
                sync(unfinished)
                unfinished.rename(self.folder / name)
                sync(self.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def path(self, name: str, file: str) -> Path:
        """Where one file of a backup lies."""
        return self.folder / name / file

    def manifest(self, name: str) -> dict[str, Any]:
        """What was written of a backup; Refused when it cannot be read."""
        try:
            found = json.loads(self.path(name, MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise Refused(f"{self.folder / name} is no backup of i2i.") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise Refused(f"{self.folder / name} is no backup that this release can read.")
        return found

    def files(self, name: str) -> Iterator[tuple[str | None, int | None, str]]:
        """Checksum, bytes and key of each file, the first two where they are known."""
        return read_files(self.path(name, FILES))

    def forget(self, name: str) -> None:
        """Remove a backup; the files of pictures stay."""
        with _writing():
            # From here on it is none any more, however far this gets.
            (self.folder / name).rename(self.folder / f".{name}")
            shutil.rmtree(self.folder / f".{name}")


def _writing() -> AbstractContextManager[None]:
    return writing("The folder of backups cannot be written.")


def write_files(path: Path, lines: Iterator[tuple[str | None, int | None, str]]) -> None:
    """What `read_files` reads."""
    with path.open("x", encoding="ascii") as file:
        for checksum, size, key in lines:
            file.write(f"{checksum or '-'} {'-' if size is None else size} {key}\n")


def read_files(path: Path) -> Iterator[tuple[str | None, int | None, str]]:
    """The lines of a list of files, as Shelf.files gives them."""
    with path.open(encoding="ascii") as file:
        for line in file:
            checksum, size, key = line.rstrip("\n").split(" ", 2)
            yield None if checksum == "-" else checksum, None if size == "-" else int(size), key


def write_manifest(folder: Path, manifest: Mapping[str, object]) -> None:
    """The last file of a backup."""
    text = json.dumps({"format": FORMAT, **manifest}, indent=2)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Of a file; StorageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path.name} cannot be read.") from error


# --- PostgreSQL's programs


def dump(url: str, *, server_version: int, snapshot: str, target: Path) -> None:
    """Write a database into a file, as a snapshot that another connection holds open shows it.

    Args:
        url: libpq's; its password goes by environment.
        server_version: as libpq tells it, 180006 is 18.6.
        snapshot: what pg_export_snapshot() returned.
        target: must not be there yet.

    Raises:
        Refused: there is no program of the server's version, or it fails; one line.
    """
    _run(
        "pg_dump",
        *("--format=custom", f"--snapshot={snapshot}", f"--file={target}"),
        url=url,
        version=server_version,
    )


RESTORE = ("--no-owner", "--no-acl", "--exit-on-error", "--single-transaction")


def restore(url: str, *, server_version: int, source: Path, without: str | None = None) -> None:
    """Fill an empty database from a file, wholly or not at all; the role of `url` will own it.

    Args:
        url: libpq's; its password goes by environment.
        server_version: as for `dump`.
        source: what `dump` wrote.
        without: a table that stays empty until `restore_rows`.

    Raises:
        Refused: there is no program of the server's version, or it fails; one line.
    """
    options = [*RESTORE, f"--dbname={_database(url)}"]
    with tempfile.NamedTemporaryFile("w") as chosen:
        if without:
            contents = _run("pg_restore", "--list", str(source), url=url, version=server_version)
            left_out = re.compile(rf" TABLE DATA \S+ {re.escape(without)} ")
            chosen.writelines(line for line in contents if not left_out.search(line))
            chosen.flush()
            options.append(f"--use-list={chosen.name}")
        _run("pg_restore", *options, str(source), url=url, version=server_version)


def restore_rows(url: str, *, server_version: int, source: Path, table: str) -> None:
    """Fill one table that `restore` left empty."""
    options = [*RESTORE, f"--dbname={_database(url)}", "--data-only", f"--table={table}"]
    _run("pg_restore", *options, str(source), url=url, version=server_version)


def _database(url: str) -> str:
    return db.environ(url).get("PGDATABASE", "")


def _run(name: str, *options: str, url: str, version: int) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run(
        [_program(name, major=version // 10_000), "--no-password", *options],
        env=os.environ | db.environ(url) | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        # Further lines may show rows.
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        why = lines[0].partition("error:")[2].strip() if lines else "no reason given"
        raise Refused(f"{name} failed: {why}")
    return done.stdout.splitlines(keepends=True)


def _program(name: str, *, major: int) -> Path:
    """That of the server's version: an older one refuses it, a newer writes what it cannot read."""
    folders = [Path(f"/usr/lib/postgresql/{major}/bin")]
    with suppress(DatabaseUnavailable):
        folders.append(embedded.binaries())
    places = [folder / name for folder in folders]
    if found := shutil.which(name):
        places.append(Path(found))
    for place in places:
        if place.exists() and _major_of(place) == major:
            return place
    raise Refused(
        f"{name} of PostgreSQL {major}, the server's version, is not installed. "
        f"Install it: apt-get install postgresql-client-{major}"
    )


def _major_of(program: Path) -> int | None:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found[1]) if found else None
