"""Backups: the database and the files of its pictures, together; and the way back.

The snapshot comes first, the files after it. A row is written after its bytes, and bytes go after
their row, so that every row of the snapshot has its bytes unless they were deleted for good
afterwards. Those are named in the manifest; nothing else may be missing.

Money: a database that was restored does not know what was sent after its snapshot. What had left
before is looked for at fal by its id or its token, as after any crash. What had not left is held,
until a person who takes the risk lets it go.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection, IsolationLevel

from i2i import __version__, db, embedded
from i2i.config import Settings
from i2i.errors import DamagedFile, NotFound, Refused
from i2i.gateways import dumps
from i2i.gateways.dumps import Shelf
from i2i.gateways.storage import Storage, image_key
from i2i.models import Snapshot, StoredImage
from i2i.queries import backups, images
from i2i.services.images import workspace
from i2i.services.storage import COPIES, GROUP, THREADS, rows

File = tuple[str | None, int | None, str]
"""Checksum and bytes, where they are known, and the key."""

MIGRATIONS = "_yoyo_migration"

CHUNK = 1024 * 1024

HELD = "Back from the backup of {taken_at}; may have been made and charged since."


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A finished backup: `copied` of its `files` were not in the folder before.

    `deleted` are keys that users removed for good while it was made, `missing` those that were not
    in the store, or not as their rows say, though their rows are still there.
    """

    name: str
    images: int
    files: int
    copied: int
    deleted: Sequence[str]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a restore of a backup showed; whole when there are no `findings`, each (what, key).

    `checked` originals of `images` were read byte for byte.
    """

    id: UUID
    name: str
    taken_at: datetime
    images: int
    checked: int
    findings: Sequence[tuple[str, str]]


# --- create


def create(conn: Connection[Any], storage: Storage, *, url: str, shelf: Shelf) -> Created:
    """Back everything up while programs go on.

    Args:
        conn: a direct connection of its own; its isolation is changed.
        storage: where the files are.
        url: the same database for pg_dump.
        shelf: where to.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with shelf.locked(), shelf.filling(name) as folder:
        snapshot = _dump(conn, url=url, folder=folder)
        files, copied = 0, 0
        deleted: list[str] = []
        missing: list[str] = []
        named = dumps.read_files(folder / dumps.FILES)
        for key, outcome in _bring(named, source=storage, target=shelf.blobs, workspace=folder):
            files += 1
            copied += outcome == "copied"
            if outcome == "missing":
                (missing if _is_wanted(conn, key) else deleted).append(key)
        manifest = {
            "id": str(uuid4()),
            "taken_at": snapshot.taken_at.isoformat(),
            "release": __version__,
            "server_version": conn.info.server_version,
            "images": snapshot.images,
            "jobs": snapshot.jobs,
            "submissions": snapshot.submissions,
            "dump_sha256": dumps.sha256_of(folder / dumps.DUMP),
            "deleted": deleted,
            "missing": missing,
        }
        dumps.write_manifest(folder, manifest)
    return Created(
        name=name,
        images=snapshot.images,
        files=files,
        copied=copied,
        deleted=deleted,
        missing=missing,
    )


def _dump(conn: Connection[Any], *, url: str, folder: Path) -> Snapshot:
    """The dump and the list of its files, both of one snapshot.

    The transaction is open while pg_dump runs, which needs it only to begin. It locks nothing.
    """
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.read_only = True
    with conn.transaction():
        snapshot = backups.export_snapshot(conn)
        dumps.write_files(folder / dumps.FILES, _files(conn))
        dumps.dump(
            url,
            server_version=conn.info.server_version,
            snapshot=snapshot.snapshot,
            target=folder / dumps.DUMP,
        )
    conn.isolation_level = conn.read_only = None
    return snapshot


def _files(conn: Connection[Any]) -> Iterator[File]:
    for image in rows(conn):
        yield from _files_of(image)


def _files_of(image: StoredImage) -> Iterator[File]:
    """Checksum, bytes and key; of the copies only the key is known. What is lost has none."""
    if image.lost_at:
        return
    yield image.sha256, image.file_size, image.blob_url
    if image.has_preview:
        for name in COPIES:
            yield None, None, image_key(image.user_id, image.id, name)


def _bring(
    files: Iterator[File], *, source: Storage, target: Storage, workspace: Path
) -> Iterator[tuple[str, str]]:
    """Copy what the target has not; each key, in order, and "there", "copied" or "missing"."""

    def bring(file: File) -> tuple[str, str]:
        checksum, size, key = file
        if _is_there(target, key, size=size):
            return key, "there"
        try:
            _copy(key, source=source, target=target, sha256=checksum, workspace=workspace)
        except (NotFound, DamagedFile):
            return key, "missing"
        return key, "copied"

    with ThreadPoolExecutor(THREADS) as threads:
        while group := list(islice(files, GROUP)):
            yield from threads.map(bring, group)


def _is_there(storage: Storage, key: str, *, size: int | None) -> bool:
    """Whether it was copied before: a key is written once, with the bytes that belong to it."""
    try:
        found = storage.size(key)
    except NotFound:
        return False
    return size in {None, found}


def _copy(
    key: str, *, source: Storage, target: Storage, sha256: str | None, workspace: Path
) -> None:
    """A real copy, never a link, compared with its checksum on the way."""
    digest = hashlib.sha256()
    copy = workspace / uuid4().hex
    try:
        with source.open(key) as stream, copy.open("wb") as file:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if sha256 not in {None, digest.hexdigest()}:
            raise DamagedFile("Its bytes are not those that the row names.")
        target.put(key, copy)
    finally:
        copy.unlink(missing_ok=True)


def _is_wanted(conn: Connection[Any], key: str) -> bool:
    """Whether a row still has this file: it is deleted before its bytes."""
    image = images.find_stored(conn, image_id=_image_of(key))
    return image is not None and key in {known for _, _, known in _files_of(image)}


# --- verify


def verify(
    settings: Settings,
    *,
    shelf: Shelf,
    name: str,
    sample: int | None,
    scratch: Path | None = None,
) -> Verified:
    """Restore a backup into a server of its own, and hold the files against what is in it.

    Every file that a row names must be there with its size; about `sample` originals (None: all)
    are read and compared with their checksums. The server lies in `scratch`, or /tmp, and is
    removed at the end.

    Raises:
        Refused: it cannot be restored.
    """
    manifest = shelf.manifest(name)
    dump = shelf.path(name, dumps.DUMP)
    findings = []
    if dumps.sha256_of(dump) != manifest["dump_sha256"]:
        findings.append(("checksum", dumps.DUMP))
    checked = 0
    with _restored(settings, dump, scratch=scratch) as conn:
        counted = backups.count_rows(conn)
        findings += [
            (f"{getattr(counted, noun)} instead of {manifest[noun]}", noun)
            for noun in ("images", "jobs", "submissions")
            if getattr(counted, noun) != manifest[noun]
        ]
        gone = set(manifest["deleted"])
        for image in rows(conn):
            reads = sample is None or random.random() * counted.images < sample  # noqa: S311
            checked += reads and not image.lost_at
            found = _examine(shelf.blobs, image, reads=reads)
            findings += [(what, key) for key, what in found if key not in gone]
    return Verified(
        id=UUID(manifest["id"]),
        name=name,
        taken_at=datetime.fromisoformat(manifest["taken_at"]),
        images=counted.images,
        checked=checked,
        findings=findings,
    )


@contextmanager
def _restored(settings: Settings, dump: Path, *, scratch: Path | None) -> Iterator[Connection[Any]]:
    """A connection to a dump's database, on a server that is removed afterwards."""
    server = embedded.start_throwaway(scratch)
    try:
        there = replace(settings, postgres_url=server.url, postgres_url_direct=server.url)
        with closing(db.connect(there, application="i2i verify")) as conn:
            dumps.restore(server.url, server_version=conn.info.server_version, source=dump)
            if pending := db.pending_migrations(conn):
                raise Refused(f"It is older than {pending[0]}: verify it with its own release.")
            yield conn
    finally:
        server.remove()


def _examine(storage: Storage, image: StoredImage, *, reads: bool) -> Iterator[tuple[str, str]]:
    """Key and what is wrong, for each file of a row."""
    for checksum, size, key in _files_of(image):
        try:
            if size not in {None, storage.size(key)}:
                yield key, "size"
            elif reads and checksum not in {None, storage.sha256(key)}:
                yield key, "checksum"
        except NotFound:
            yield key, "missing"


def record(conn: Connection[Any], *, found: Verified) -> None:
    """Remember that a backup was found whole: pages and alerts tell its age."""
    backups.save_verified(
        conn,
        backup_id=found.id,
        taken_at=found.taken_at,
        images=found.images,
        checked=found.checked,
    )


# --- prune


def prune(shelf: Shelf, *, keep: int) -> tuple[int, int]:
    """Remove older backups, and files of images that only they have; how many of each."""
    with shelf.locked():
        names = shelf.names()
        if not names:
            raise Refused(f"There is no backup in {shelf.folder}.")
        for name in names[:-keep]:
            shelf.forget(name)
        kept = {_image_of(key) for name in names[-keep:] for _, _, key in shelf.files(name)}
        removed = 0
        for key in shelf.blobs.keys("users/"):
            if _image_of(key) not in kept:
                shelf.blobs.delete(key)
                removed += 1
    return len(names[:-keep]), removed


def _image_of(key: str) -> UUID:
    return UUID(key.split("/")[2])


# --- restore


def restore(
    conn: Connection[Any],
    *,
    url: str,
    shelf: Shelf,
    name: str,
    migrate: Callable[[], object],
    hold: bool,
) -> int:
    """Fill an empty database, hold what had not left (how many), bring it up to this release.

    The record of migrations comes back last: no worker starts without it, should this be killed.

    Args:
        conn: a direct connection of its own, to be closed afterwards: until then no worker sends.
        url: the same database for pg_restore.
        shelf: where from.
        name: which backup.
        migrate: applies what this release has and the backup has not.
        hold: False when nothing can have been sent since, as when all was stopped before.
    """
    manifest = shelf.manifest(name)
    dump = shelf.path(name, dumps.DUMP)
    if dumps.sha256_of(dump) != manifest["dump_sha256"]:
        raise Refused(f"{dump} is not as it was written. Choose another backup.")
    if number := backups.count_tables(conn).count:
        raise Refused(
            f"The database has {number} tables. Restore into an empty one; nothing was changed."
        )
    backups.lock_queue(conn)
    version, held = conn.info.server_version, 0
    dumps.restore(url, server_version=version, source=dump, without=MIGRATIONS)
    if hold:
        held = hold_unsent(conn, taken_at=datetime.fromisoformat(manifest["taken_at"]))
    dumps.restore_rows(url, server_version=version, source=dump, table=MIGRATIONS)
    migrate()
    return held


def hold_unsent(conn: Connection[Any], *, taken_at: datetime) -> int:
    """Hold what had not left when a backup was taken, for nobody knows what has left since."""
    attention = HELD.format(taken_at=f"{taken_at.astimezone(UTC):%d %B %Y, %H:%M} UTC")
    with conn.transaction():
        backups.return_unsent(conn)
        backups.abandon_unsent(conn, detail="not sent when the backup was taken")
        return backups.hold_unsent(conn, attention=attention)


def restore_files(
    conn: Connection[Any], storage: Storage, settings: Settings, *, shelf: Shelf
) -> tuple[int, list[str]]:
    """Copy the files that rows name into the store; how many, and the keys that no backup here has.

    May be repeated: what is there already is left alone.
    """
    copied, missing = 0, []
    with workspace(settings) as folder:
        found = _bring(_files(conn), source=shelf.blobs, target=storage, workspace=folder)
        for key, outcome in found:
            copied += outcome == "copied"
            if outcome == "missing":
                missing.append(key)
    return copied, missing
