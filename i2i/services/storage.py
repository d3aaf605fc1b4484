"""The store and the rows held against each other: what is gone, what changed, what nobody owns.

Programs go on meanwhile. Bytes come before their row and go after it, so what is found is looked at
once more before it counts: a file without a row may be on its way in, a row without a file on its
way out.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import imaging
from i2i.config import Settings
from i2i.errors import DamagedFile, InvalidImage, NotFound, Refused, StorageError
from i2i.gateways.storage import File, Storage, image_key
from i2i.models import StoredImage
from i2i.queries import images, jobs, submissions
from i2i.services.images import keep_copies, result_id, workspace

AT_ONCE = 500
"""Rows of one question."""

ORPHAN_SECONDS = 3600.0
"""Files younger than this may still get their row."""

COPIES = ("thumb.webp", "preview.webp")

THREADS, GROUP = 8, 100
"""Files copied at once, and between two looks at the rows."""

MOST_FAILURES = 20
"""So many files in a row that cannot be copied are the store's fault, not theirs."""

LOST_PHOTO = "Lost on our side. The stored file is damaged or gone. Add the photo again."
LOST_RESULT = (
    "The stored file of this picture is damaged or gone. Ask your admin whether a backup has it; "
    "making it again is charged again."
)


class Kind(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    SIZE = "size"
    CHECKSUM = "checksum"
    COPIES = "copies"
    ORPHAN = "orphan"
    RETURNED = "returned"
    FAILED = "failed"


class Done(Enum):
    """What became of a file that is well."""

    THERE = auto()
    COPIED = auto()
    GONE = auto()


LOST = {Kind.MISSING, Kind.SIZE, Kind.CHECKSUM}
"""What only a backup, or the same upload again, can mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that is not as it should be; `image` is None where no row knows it.

    `done` is what repair did about it, or why a copy failed; `mended` whether it is well now.
    """

    kind: Kind
    key: str
    image: StoredImage | None = None
    done: str = ""
    mended: bool = False


Outcome = Done | Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, what is wrong, and what was known to be lost before."""

    images: int
    files: int
    findings: Sequence[Finding]
    known: Sequence[StoredImage]


def check(conn: Connection[Any], storage: Storage) -> Report:
    """Read every original and look at every file; changes nothing. StorageError when it cannot."""
    findings: list[Finding] = []
    known: list[StoredImage] = []
    number = 0
    for image in rows(conn):
        number += 1
        kind = _examine(storage, image)
        if kind in LOST and image.lost_at:
            known.append(image)
        elif kind and _examine_again(conn, storage, image.id) == kind:
            findings.append(Finding(kind=kind, key=image.blob_url, image=image))
    files, orphans = _orphans(conn, storage)
    return Report(images=number, files=files, findings=[*findings, *orphans], known=known)


def rows(conn: Connection[Any]) -> Iterator[StoredImage]:
    """Every image, page by page."""
    last = None
    while page := images.page_stored(conn, page_size=AT_ONCE, after_id=last):
        yield from page
        last = page[-1].id


def _examine(storage: Storage, image: StoredImage) -> Kind | None:
    """The first thing that is wrong with the files of an image."""
    try:
        if storage.size(image.blob_url) != image.file_size:
            return Kind.SIZE
        if storage.sha256(image.blob_url) != image.sha256:
            return Kind.CHECKSUM
    except NotFound:
        return Kind.MISSING
    if image.lost_at:
        return Kind.RETURNED
    whole = not image.has_preview or all(_is_whole(storage, key) for key in _copies(image))
    return None if whole else Kind.COPIES


def _examine_again(conn: Connection[Any], storage: Storage, image_id: UUID) -> Kind | None:
    """The same for the row as it stands now; None when it is gone, for then its files may be."""
    image = images.find_stored(conn, image_id=image_id)
    kind = _examine(storage, image) if image else None
    return kind if images.find_stored(conn, image_id=image_id) else None


def _copies(image: StoredImage) -> list[str]:
    return [image_key(image.user_id, image.id, name) for name in COPIES]


def _is_whole(storage: Storage, key: str) -> bool:
    """Whether a WebP file is as long as it says."""
    try:
        with storage.open(key) as file:
            head = file.read(12)
        length = int.from_bytes(head[4:8], "little") + 8
        return head[:4] == b"RIFF" and head[8:] == b"WEBP" and storage.size(key) == length
    except (NotFound, DamagedFile):
        return False


def _orphans(conn: Connection[Any], storage: Storage) -> tuple[int, list[Finding]]:
    """How many files there are, and those for which there is neither a row nor one to come."""
    number, found = 0, []
    for key in storage.keys("users/"):
        number += 1
        if not _is_expected(conn, key) and _is_old(storage, key):
            found.append(Finding(kind=Kind.ORPHAN, key=key))
    return number, found


def _is_expected(conn: Connection[Any], key: str) -> bool:
    """Whether a row has this file."""
    image_id = _image_of(key)
    image = images.find_stored(conn, image_id=image_id) if image_id else None
    return image is not None and key in {image.blob_url, *_copies(image)}


def _image_of(key: str) -> UUID | None:
    try:
        return UUID(key.split("/")[2])
    except (IndexError, ValueError):
        return None


def _is_old(storage: Storage, key: str) -> bool:
    try:
        return storage.age(key) > ORPHAN_SECONDS
    except NotFound:
        return False


# --- repair


def repair(
    conn: Connection[Any], storage: Storage, settings: Settings, *, report: Report
) -> list[Finding]:
    """Mend what can be mended, mark what is lost; the findings with what was done.

    Refused, with nothing changed, when most originals are gone: then the store is, not its files.
    """
    missing = sum(each.kind == Kind.MISSING for each in report.findings)
    if missing > max(10, report.images // 2):
        raise Refused(
            f"{missing:,} of {report.images:,} originals are missing. Is the store of BLOB_URL the "
            "right one, and mounted? Nothing was changed."
        )
    return [_repair(conn, storage, settings, finding=each) for each in report.findings]


def _repair(
    conn: Connection[Any], storage: Storage, settings: Settings, *, finding: Finding
) -> Finding:
    if finding.image is None:
        return _remove(conn, storage, finding=finding)
    kind = _examine_again(conn, storage, finding.image.id)
    if kind is None:
        return replace(finding, done="well by now", mended=True)
    if kind in LOST:
        _mark_lost(conn, finding.image)
        return replace(finding, kind=kind, done="marked as lost")
    if kind == Kind.RETURNED:
        with conn.transaction():
            images.mark_found(conn, image_id=finding.image.id)
            jobs.mark_result(conn, image_id=finding.image.id, attention=None)
            images.notify_work(conn)
        if not finding.image.is_processed:
            return replace(finding, done="is prepared anew", mended=True)
    return _make_copies(conn, storage, settings, finding=finding)


def _remove(conn: Connection[Any], storage: Storage, *, finding: Finding) -> Finding:
    """Delete a file without a row, unless the picture that it belongs to may still come."""
    awaited = {result_id(each.token) for each in submissions.list_open_tokens(conn)}
    if _image_of(finding.key) in awaited:
        return replace(finding, done="left: its picture may still come", mended=True)
    if _is_old(storage, finding.key) and not _is_expected(conn, finding.key):
        storage.delete(finding.key)
        return replace(finding, done="deleted", mended=True)
    return replace(finding, done="well by now", mended=True)


def _mark_lost(conn: Connection[Any], image: StoredImage) -> None:
    """Pages say it, waiting pictures of it fail free of charge, and nothing is sent any more."""
    with conn.transaction():
        if not images.mark_lost(
            conn, image_id=image.id, rejection=LOST_RESULT if image.is_processed else LOST_PHOTO
        ):
            return
        if image.is_processed:
            jobs.mark_result(conn, image_id=image.id, attention=LOST_RESULT)
        jobs.fail_of_image(
            conn,
            image_id=image.id,
            error_code="unreadable",
            error_message=f"The file of {image.original_filename} was lost on our side. "
            "Upload it again.",
        )


def _make_copies(
    conn: Connection[Any], storage: Storage, settings: Settings, *, finding: Finding
) -> Finding:
    """Thumbnail and preview from the original, which was found to be whole."""
    image = finding.image
    if image is None:
        raise ValueError("only an image has copies")
    try:
        with workspace(settings) as folder, storage.local_path(image.blob_url) as source:
            made = imaging.prepare(source, directory=folder, max_pixels=settings.max_image_pixels)
            keep_copies(storage, user_id=image.user_id, image_id=image.id, made=made)
    except InvalidImage as error:
        kept = finding.kind == Kind.RETURNED  # a result may be kept without a preview
        return replace(finding, done=f"no copies: {error}", mended=kept)
    images.show_preview(conn, image_id=image.id)
    return replace(finding, done="copies made anew", mended=True)


# --- copy


@dataclass(slots=True, kw_only=True)
class Copying:
    """How far a copy is, and in the end what came of it.

    `images`: originals looked at, of `all_images`; `files`, `size`: what this run copied, in bytes;
    `known`: lost before, and not here either; `findings`: what the target does not have.
    """

    all_images: int
    images: int = 0
    files: int = 0
    size: int = 0
    known: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, file: File, outcome: Outcome) -> None:
        """Count what came of one file."""
        if outcome is Done.COPIED:
            self.files += 1
            self.size += file.size
        elif isinstance(outcome, Finding):
            if outcome.image and outcome.image.lost_at and outcome.kind in LOST:
                self.known += 1
            else:
                self.findings.append(outcome)


def copy(
    conn: Connection[Any], source: Storage, target: Storage, *, show: Callable[[Copying], None]
) -> Copying:
    """Bring every file of `source` to `target`, while everything runs; nothing is deleted.

    What the target has with the right number of bytes is left alone: stores keep files wholly or
    not at all, so a run that was killed is gone on with by the next. An original is held against
    its row before it goes over.

    Args:
        conn: for the rows.
        source: where the files are.
        target: where they shall be.
        show: is told how far it is, often.

    Raises:
        StorageError: one of the two stores does nothing any more.
        Refused: the source has no file at all.
    """
    copying = Copying(all_images=sum(each.count for each in images.sum_bytes(conn)))
    met: set[UUID] = set()
    failures = 0
    pairs = _compare(source, target)
    with ThreadPoolExecutor(THREADS) as threads:
        while group := list(islice(pairs, GROUP)):
            originals = _originals(conn, [file for file, _ in group])
            bring = partial(_bring, source, target, originals)
            for (file, _), outcome in zip(group, threads.map(bring, group), strict=True):
                if outcome is Done.GONE:
                    continue
                failures = _failures_in_a_row(failures, outcome)
                copying.add(file, outcome)
                if file.key in originals:
                    met.add(originals[file.key].id)
            copying.images = len(met)
            show(copying)
    if copying.all_images and not met:
        raise Refused("The store to copy from has none of the originals. Is it the right one?")
    for image in rows(conn):
        if image.id not in met:
            copying.images += 1
            copying.add(*_bring_late(conn, source, target, image))
            show(copying)
    return copying


def _compare(source: Storage, target: Storage) -> Iterator[tuple[File, int | None]]:
    """Every file of the source, and how many bytes the target has of it; both list in order."""
    theirs = target.files("users/")
    other = next(theirs, None)
    for file in source.files("users/"):
        while other and other.key < file.key:
            other = next(theirs, None)
        yield file, other.size if other and other.key == file.key else None


def _originals(conn: Connection[Any], files: Sequence[File]) -> dict[str, StoredImage]:
    """The rows of those files that are originals, by key."""
    ids = {image_id for file in files if (image_id := _image_of(file.key))}
    return {image.blob_url: image for image in images.list_stored(conn, image_ids=list(ids))}


def _bring(
    source: Storage,
    target: Storage,
    originals: Mapping[str, StoredImage],
    pair: tuple[File, int | None],
) -> Outcome:
    """Copy a file unless the target has it; only an original has a row to be held against."""
    file, there = pair
    image = originals.get(file.key)
    if there == (image.file_size if image else file.size):
        return Done.THERE
    try:
        with source.local_path(file.key) as path:
            if image and _sha256(path) != image.sha256:
                return Finding(kind=Kind.CHECKSUM, key=file.key, image=image)
            target.put(file.key, path)
    except (NotFound, FileNotFoundError):
        return Done.GONE
    except DamagedFile:
        return Finding(kind=Kind.CHECKSUM, key=file.key, image=image)
    except (StorageError, OSError) as error:
        return Finding(kind=Kind.FAILED, key=file.key, image=image, done=str(error))
    return Done.COPIED


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failures_in_a_row(before: int, outcome: Outcome) -> int:
    """How many there are now; StorageError when a store does nothing any more."""
    if not isinstance(outcome, Finding) or outcome.kind != Kind.FAILED:
        return 0
    if before + 1 == MOST_FAILURES:
        raise StorageError(outcome.done)
    return before + 1


def _bring_late(
    conn: Connection[Any], source: Storage, target: Storage, image: StoredImage
) -> tuple[File, Outcome]:
    """What became of an original that was not on the list of the source.

    It came or went meanwhile, is only in the target, as after a move, or nowhere.
    """
    file = File(image.blob_url, image.file_size)
    try:
        there = target.size(file.key)
    except NotFound:
        there = None
    outcome = _bring(source, target, {file.key: image}, (file, there))
    if outcome is Done.GONE and images.find_stored(conn, image_id=image.id):
        outcome = Finding(kind=Kind.MISSING, key=file.key, image=image)
    return file, outcome
