"""Archives: many pictures as one ZIP that is never held, neither in memory nor on the disk.

What stands in the rows gives names and sizes, and so the length of the whole before its first byte.
The pictures are stored as they are. The checksum of each follows its bytes (a data descriptor), for
rows do not know it. The same pictures make the same bytes, so a broken download can go on.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from i2i import filenames
from i2i.errors import NotFound, Refused, StorageError
from i2i.gateways.storage import Storage
from i2i.models import JobCard, ResultFile
from i2i.queries import images, jobs

MOST_PICTURES = 5000
"""Pictures of one archive; their names and settings are kept in memory while it is sent."""

MANIFEST = "manifest.csv"

CHUNK = 256 * 1024

AT_ONCE = 8
"""Files that the store is asked after at once: a bucket takes its time for each."""

COLUMNS = (
    *("source", "result", "workflow", "version", "parameters", "seed", "cost", "charged"),
    *("verdict", "reason", "note"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: bytes of its own, or those under a key of the store."""

    name: str
    size: int
    modified: datetime
    key: str | None = None
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Archive:
    """What will be sent: entries in their order, `length` in bytes, and a name for the content."""

    entries: Sequence[Entry]
    etag: str

    @property
    def length(self) -> int:
        """Bytes of the whole ZIP."""
        return _length(self.entries)


def plan(
    conn: Connection[Any], storage: Storage, *, job_ids: Sequence[UUID], user_id: UUID
) -> Archive:
    """The archive of what these jobs have made, with its manifest; needs no connection afterwards.

    A picture whose bytes are missing is named in the manifest without a file. Refused when there is
    nothing to pack, or too much.
    """
    if len(job_ids) > MOST_PICTURES:
        raise Refused(
            f"One ZIP holds {MOST_PICTURES:,} pictures at most. Choose fewer, and download the "
            "others after them."
        )
    cards = {card.id: card for card in _cards(conn, job_ids=job_ids, user_id=user_id)}
    files = images.list_results(conn, job_ids=list(cards), user_id=user_id)
    if not files:
        raise Refused("There is no picture to download yet.")
    taken = {MANIFEST}
    rows, entries = [], []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(partial(_is_there, storage), files))
    for file, there in zip(files, found, strict=True):
        name = filenames.distinct(file.original_filename, taken=taken) if there else ""
        rows.append(_row(cards[file.job_id], file=file, name=name))
        if there:
            entries.append(Entry(name, file.file_size, file.created_at, key=file.blob_url))
    content = _manifest(rows)
    newest = max(file.created_at for file in files)
    entries.append(Entry(MANIFEST, len(content), newest, content=content))
    named = repr([(entry.name, entry.size, entry.key) for entry in entries])
    sums = "".join(file.sha256 for file in files)
    etag = hashlib.sha256(named.encode() + sums.encode() + content).hexdigest()[:32]
    return Archive(entries, etag)


def _cards(conn: Connection[Any], *, job_ids: Sequence[UUID], user_id: UUID) -> list[JobCard]:
    return jobs.list_chosen_cards(conn, job_ids=job_ids, user_id=user_id)


def _is_there(storage: Storage, file: ResultFile) -> bool:
    try:
        return storage.size(file.blob_url) == file.file_size
    except NotFound:
        return False


# --- the manifest


def _row(card: JobCard, *, file: ResultFile, name: str) -> list[str]:
    seed = file.parameters.get("seed")
    return [
        card.original_filename,
        name,
        card.workflow_name,
        str(file.workflow_version),
        json.dumps(file.parameters, ensure_ascii=False, sort_keys=True),
        "" if seed is None else str(seed),
        "" if card.cost is None else f"{card.cost:f}",
        card.charged or "no",
        card.verdict or "",
        card.verdict_reason or "",
        card.verdict_note,
    ]


def _manifest(rows: Sequence[Sequence[str]]) -> bytes:
    """CSV as spreadsheets open it: UTF-8 with its mark, and nothing in it that they would run."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")


_FORMULA = re.compile(r"""\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]""")
_FURTHER = re.compile(r"""([;\t\r\n]["\s]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])""")
"""What begins like a formula, also in the wide letters of Japan: a cell, and what a spreadsheet
takes for one that parts cells at semicolons or tabs, to which our quotes mean nothing."""


def _harmless(cell: str) -> str:
    """Text that begins like a formula gets an apostrophe before it, which spreadsheets hide."""
    cell = _FURTHER.sub(r"\1'", cell)
    return f"'{cell}" if _FORMULA.match(cell) else cell


# --- the bytes


class _Sink:
    """Takes what zipfile writes, and gives it out piece by piece. It cannot seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """For zipfile; nothing waits here."""

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def stream(archive: Archive, storage: Storage) -> Iterator[bytes]:
    """The ZIP in pieces of about 256 kB, `archive.length` bytes in all.

    StorageError when the bytes of a picture are not those of its row any more: the download breaks
    off, for its length was promised.
    """
    sink = _Sink()
    # mypy: zipfile needs of a file only write and flush.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:  # type: ignore[call-overload]
        for entry in archive.entries:
            with packed.open(_info(entry), "w") as target:
                for chunk in _content(entry, storage):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()


def _info(entry: Entry) -> zipfile.ZipInfo:
    # A ZIP knows no year before 1980 and no time zone.
    moment = max(entry.modified.astimezone(UTC), datetime(1980, 1, 1, tzinfo=UTC))
    info = zipfile.ZipInfo(entry.name, moment.timetuple()[:6])
    info.file_size = entry.size  # decides on ZIP64 for this file
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def _content(entry: Entry, storage: Storage) -> Iterator[bytes]:
    if entry.key is None:
        yield entry.content
        return
    left = entry.size
    with storage.open(entry.key) as file:
        while chunk := file.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise StorageError("The stored file has changed.")


def _length(entries: Sequence[Entry]) -> int:
    """Bytes of the ZIP that stream() makes of entries: what each costs there and in the directory.

    Above 2 GB zipfile writes ZIP64: sizes in 8 bytes, places in a field of their own.
    """
    offset = directory = 0
    for entry in entries:
        name = len(entry.name.encode())
        large = entry.size * 1.05 > zipfile.ZIP64_LIMIT
        extra = 8 * (2 * (entry.size > zipfile.ZIP64_LIMIT) + (offset > zipfile.ZIP64_LIMIT))
        directory += 46 + name + (extra and extra + 4)
        offset += 30 + name + 20 * large + entry.size + (24 if large else 16)
    end = 22
    if (
        len(entries) > zipfile.ZIP_FILECOUNT_LIMIT
        or offset > zipfile.ZIP64_LIMIT
        or directory > zipfile.ZIP64_LIMIT
    ):
        end += 56 + 20
    return offset + directory + end
