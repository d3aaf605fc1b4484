"""Where the bytes of pictures live: one Protocol, and the folder that keeps it.

Keys are relative paths such as `users/<user>/<image>/original.jpg`. A key is written once with
the bytes that belong to it; writing it again is harmless, which is what makes steps repeatable.
"""

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from i2i.errors import NotFound, StorageError

KEY = re.compile(r"(?=.{1,500}\Z)[a-z0-9_-][a-z0-9_.-]*(?:/[a-z0-9_-][a-z0-9_.-]*)*")
"""No segment begins with a dot, so neither `..` nor the folder of half-written files has a key."""

PARTIAL = ".partial"

SENTENCES = {
    errno.ENOSPC: "The disk of this site is full. Nothing was stored; try again when it has room.",
    errno.EDQUOT: "This site has used up its disk space. Nothing was stored; try again later.",
    errno.EFBIG: "The file is larger than this site can keep. Nothing was stored.",
    errno.EROFS: "The disk of this site can only be read just now. Nothing was stored.",
    errno.EIO: "The disk of this site reports an error. Nothing was stored; try again later.",
}


class File(NamedTuple):
    """A file of a store, and its bytes."""

    key: str
    size: int


class Storage(Protocol):
    """A store of bytes by key. Every method raises StorageError when the store fails.

    A key of another shape than `image_key` makes is a mistake of the caller: ValueError.
    """

    def put(self, key: str, source: Path) -> None:
        """Keep a copy of `source` under `key`, durable on return, wholly or not at all.

        `source` is left alone, but must not be written to afterwards.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """The bytes, seekable, to be closed by the caller; NotFound without them."""
        ...

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """A file with the bytes, only to be read and only inside `with`; NotFound without them."""
        ...

    def link(self, key: str, *, disposition: str, mime_type: str, seconds: int) -> str | None:
        """An address under which anybody may fetch the bytes for so long, as the headers say.

        None where the store has no addresses. Whether there are bytes shows when it is used.
        """
        ...

    def size(self, key: str) -> int:
        """Bytes; NotFound without them."""
        ...

    def sha256(self, key: str) -> str:
        """Hexadecimal digest, computed from the bytes as they are now; NotFound without them."""
        ...

    def age(self, key: str) -> float:
        """Seconds since the bytes were written; NotFound without them."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there are bytes under `key`."""
        ...

    def delete(self, key: str) -> None:
        """Forget `key`; fine when nothing is there."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """All keys that begin with `prefix`, in order."""
        ...

    def files(self, prefix: str = "") -> Iterator[File]:
        """The same with their sizes. What has a name that is no key is not ours."""
        ...


def image_key(user_id: uuid.UUID, image_id: uuid.UUID, name: str) -> str:
    """The key of one file of an image: `original.jpg`, `thumb.webp` or `preview.webp`."""
    return check_key(f"users/{user_id}/{image_id}/{name}")


def check_key(key: str) -> str:
    """The key itself; ValueError when it is none."""
    if not KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key!r}")
    return key


def make_storage(blob_url: str, *, data_dir: Path) -> Storage:
    """The store that `BLOB_URL` names; StorageError when there is none to be had.

    Args:
        blob_url: `file:///path`, which is taken as it stands, without percent-decoding, or
            `s3://bucket/prefix`.
        data_dir: for stores that need room for downloads on this machine.
    """
    if blob_url.startswith("s3://"):
        return _s3_storage(blob_url, data_dir=data_dir)
    root = Path(blob_url.removeprefix("file://"))
    with _failures("The folder of BLOB_URL cannot be made."):
        root.mkdir(parents=True, exist_ok=True)
    return DirectoryStorage(root)


def _s3_storage(blob_url: str, *, data_dir: Path) -> Storage:
    try:
        from i2i.gateways.s3 import S3Storage  # noqa: PLC0415 - a second, for those who need it
    except ModuleNotFoundError:
        raise StorageError(
            "BLOB_URL names S3, which needs boto3: pip install -r requirements-s3.txt"
        ) from None
    return S3Storage(blob_url, data_dir=data_dir)


def incoming(data_dir: Path) -> Path:
    """The folder for what is on its way: uploads, downloads, copies in the making."""
    return _private(data_dir / "incoming")


def outgoing(data_dir: Path) -> Path:
    """The folder for copies that wait to be sent to fal."""
    return _private(data_dir / "copies")


def _private(folder: Path) -> Path:
    with _failures("The folder of DATA_DIR cannot be made."):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class Space(NamedTuple):
    """Bytes of a disk: what programs may still write, and all there are; which disk it is."""

    free: int
    total: int
    device: int


def space(folder: Path) -> Space:
    """How much room the disk of a folder has; StorageError when it cannot be told."""
    with _failures("The disk cannot be measured."):
        try:
            usage, device = shutil.disk_usage(folder), folder.stat().st_dev
        except FileNotFoundError:
            raise StorageError("The folder is not there.") from None
    return Space(usage.free, usage.total, device)


def sweep(folder: Path, *, older_than: float) -> int:
    """Remove what killed processes left behind in `incoming`; how many entries that was.

    Args:
        folder: whose entries to judge by their last change.
        older_than: seconds; longer than anything in progress can take.
    """
    removed = 0
    with _failures("Left-over files cannot be removed."):
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):  # its owner was only slow
                if entry.lstat().st_mtime > time.time() - older_than:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
                removed += 1
    return removed


def trim(folder: Path, *, most_bytes: int) -> None:
    """Remove the oldest files of a folder, not of those in it, until the others fit."""
    with _failures("The oldest files cannot be removed."):
        found = []
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # somebody else removed it
                if path.is_file():
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= most_bytes:
                return
            path.unlink(missing_ok=True)
            left -= size


def storage_error(error: OSError, otherwise: str) -> StorageError:
    """What to raise when a write failed: says why, where the operating system did."""
    return StorageError(SENTENCES.get(error.errno or 0, otherwise))


@contextmanager
def writing(otherwise: str) -> Iterator[None]:
    """Turn what the operating system says of a write into `storage_error`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, otherwise) from error


@contextmanager
def _failures(otherwise: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(otherwise) from error


@contextmanager
def _reading() -> Iterator[None]:
    try:
        with _failures("The stored file cannot be read."):
            yield
    except FileNotFoundError:
        raise NotFound("The stored file is missing.") from None


class DirectoryStorage:
    """Storage in a folder of a local disk, or of a network disk that renames atomically."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.partial = root / PARTIAL

    def put(self, key: str, source: Path) -> None:
        """As Storage.put; a hard link where the disk allows one, so that no byte is copied."""
        target = self._path(key)
        partial = self.partial / uuid.uuid4().hex
        try:
            with writing("The file cannot be stored."):
                self._make_folder(self.partial)
                self._make_folder(target.parent)
                _link_or_copy(source, partial)
                sync(partial)
                partial.replace(target)
                sync(target.parent)
        finally:
            # Still there after a failure, and where both names already were the same file.
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        """As Storage.open."""
        with _reading():
            return self._path(key).open("rb")

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """As Storage.local_path: the stored file itself."""
        self.size(key)
        yield self._path(key)

    def link(self, key: str, *, disposition: str, mime_type: str, seconds: int) -> None:
        """As Storage.link: a folder has none."""

    def size(self, key: str) -> int:
        """As Storage.size."""
        with _reading():
            return self._path(key).stat().st_size

    def sha256(self, key: str) -> str:
        """As Storage.sha256."""
        with _reading(), self._path(key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def age(self, key: str) -> float:
        """As Storage.age."""
        with _reading():
            return time.time() - self._path(key).stat().st_mtime

    def exists(self, key: str) -> bool:
        """As Storage.exists."""
        with _reading():
            return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """As Storage.delete; the folder of an image goes with its last file."""
        path = self._path(key)
        with _failures("The stored file cannot be removed."), suppress(FileNotFoundError):
            path.unlink()
        if path.parent != self.root:
            with suppress(OSError):
                path.parent.rmdir()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """As Storage.keys."""
        return (file.key for file in self.files(prefix))

    def files(self, prefix: str = "") -> Iterator[File]:
        """As Storage.files; only walks the folder that the prefix names."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self.root
        return (file for file in self._walk(start) if file.key.startswith(prefix))

    def _walk(self, folder: Path) -> Iterator[File]:
        with _failures("The store cannot be listed."), suppress(FileNotFoundError):
            # A folder sorts where its files' keys do: by its name with the slash.
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name + "/" * entry.is_dir())
            for entry in entries:
                key = entry.relative_to(self.root).as_posix()
                if not KEY.fullmatch(key):
                    continue
                if entry.is_dir():
                    yield from self._walk(entry)
                    continue
                with suppress(FileNotFoundError):  # deleted just now
                    yield File(key, entry.stat().st_size)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the root, durably. A root that is gone is an unmounted disk."""
        if folder.is_dir():
            return
        if folder.parent != self.root:
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
            raise
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
