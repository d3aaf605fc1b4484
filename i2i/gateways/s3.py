"""Pictures in a bucket of S3, or of anything that speaks its protocol. Alone knows boto3.

Where the bucket is and who we are comes from the usual `AWS_*` variables and files. Every object
carries the SHA-256 of its bytes: the store checks it when it takes them, we when we read it whole.
"""

import base64
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from i2i.errors import DamagedFile, NotFound, StorageError
from i2i.gateways.storage import KEY, File, check_key, incoming, writing

CONNECT_SECONDS, READ_SECONDS, TRIES = 5, 30, 3

CHUNK = 1024 * 1024

UNREACHABLE = "The store of pictures does not answer. Nothing was lost; try again in a minute."
REFUSED = "The store of pictures refuses us. Nothing was lost; an operator must look."
FULL = "The store of pictures is full. Nothing was stored; try again when it has room."
DAMAGED = "The stored file came back other than it was stored."


class S3Storage:
    """Storage (gateways.storage) in a bucket, below a prefix."""

    def __init__(self, blob_url: str, *, data_dir: Path) -> None:
        """`blob_url` is `s3://bucket/prefix`; nothing is asked of the bucket yet."""
        parts = urlsplit(blob_url)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._data_dir = data_dir
        self._client = boto3.client(
            "s3",
            config=Config(
                signature_version="s3v4",  # of links too, which botocore signs in an older way
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": TRIES},
                max_pool_connections=16,
                # Not every store has checksums of its own for ranges; ours is in the metadata.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, key: str, source: Path) -> None:
        """As Storage.put: an object appears whole or not at all."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            file.seek(0)
            with _failures():
                self._client.put_object(
                    **self._object(key),
                    Body=file,
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode("ascii"),
                    Metadata={"sha256": digest.hexdigest()},
                )
        if self.size(key) != source.stat().st_size:
            raise StorageError(DAMAGED)

    def open(self, key: str) -> BinaryIO:
        """As Storage.open: one request, another for each leap. What is read whole is checked."""
        return cast("BinaryIO", io.BufferedReader(_Object(self, key), CHUNK))

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """As Storage.local_path: a copy in DATA_DIR, checked, removed afterwards."""
        with writing("The file cannot be fetched."):
            folder = tempfile.TemporaryDirectory(dir=incoming(self._data_dir))
        with folder as name:
            path = Path(name) / "copy"
            with (
                writing("The file cannot be fetched."),
                path.open("wb") as file,
                self.open(key) as stored,
            ):
                shutil.copyfileobj(stored, file, CHUNK)
            yield path

    def link(self, key: str, *, disposition: str, mime_type: str, seconds: int) -> str:
        """As Storage.link: signed here, without a request. Browsers keep no copy."""
        params = {
            **self._object(key),
            "ResponseContentDisposition": disposition,
            "ResponseContentType": mime_type,
            "ResponseCacheControl": "private, no-store",
        }
        with _failures():
            return cast(
                "str",
                self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds),
            )

    def size(self, key: str) -> int:
        """As Storage.size."""
        with _failures():
            return int(self._client.head_object(**self._object(key))["ContentLength"])

    def sha256(self, key: str) -> str:
        """As Storage.sha256: all of it is read."""
        digest = hashlib.sha256()
        with closing(self.get(key)["Body"]) as body, _failures():
            for chunk in body.iter_chunks(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def age(self, key: str) -> float:
        """As Storage.age."""
        with _failures():
            written: datetime = self._client.head_object(**self._object(key))["LastModified"]
        return (datetime.now(UTC) - written).total_seconds()

    def exists(self, key: str) -> bool:
        """As Storage.exists."""
        with suppress(NotFound):
            self.size(key)
            return True
        return False

    def delete(self, key: str) -> None:
        """As Storage.delete."""
        with _failures(), suppress(NotFound):
            self._client.delete_object(**self._object(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """As Storage.keys."""
        return (file.key for file in self.files(prefix))

    def files(self, prefix: str = "") -> Iterator[File]:
        """As Storage.files; S3 lists in the order of the bytes, a thousand a request."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with _failures():
            for page in pages:
                for each in page.get("Contents", ()):
                    key = each["Key"].removeprefix(self._prefix)
                    if KEY.fullmatch(key):
                        yield File(key, each["Size"])

    def get(self, key: str, *, start: int = 0) -> Any:
        """S3's answer with the bytes from `start` on; its `Body` is the caller's to close."""
        part = {"Range": f"bytes={start}-"} if start else {}
        with _failures():
            return self._client.get_object(**self._object(key), **part)

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}


class _Object(io.RawIOBase):
    """An object as a file: one request for as long as reading goes straight on.

    Read from end to end, its last bytes come only when all are those that `put` was given.
    """

    def __init__(self, store: S3Storage, key: str) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._place = 0
        self._stream: Any = None
        found = self._begin()
        self._size = int(found["ContentLength"])
        self._expected = _sha256_of(found["Metadata"])

    def _begin(self) -> Any:
        """Ask for what lies from here on."""
        self._let_go()
        found = self._store.get(self._key, start=self._place)
        self._stream, self._next = found["Body"], self._place
        self._digest = None if self._place else hashlib.sha256()
        return found

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0
        if self._stream is None or self._next != self._place:
            self._begin()
        with _failures():
            data = self._stream.read(len(buffer))
        self._place = self._next = self._place + len(data)
        if not data or not self._is_right(data):
            raise DamagedFile(DAMAGED)
        buffer[: len(data)] = data
        return len(data)

    def _is_right(self, data: bytes) -> bool:
        """Whether all is well with these bytes, which the last ones show."""
        if self._digest is None or self._expected is None:
            return True
        self._digest.update(data)
        return self._next < self._size or self._digest.hexdigest() == self._expected

    def close(self) -> None:
        self._let_go()
        super().close()

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _sha256_of(metadata: dict[str, str]) -> str | None:
    """What `put` wrote; some stores change the case of names. None for objects of others."""
    return {name.lower(): value for name, value in metadata.items()}.get("sha256")


@contextmanager
def _failures() -> Iterator[None]:
    """Turn botocore's errors into ours: missing, full, refused, or not to be reached."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        if code in {"NoSuchKey", "404", "NotFound"}:
            raise NotFound("The stored file is missing.") from None
        if code in {"QuotaExceeded", "XMinioStorageFull"} or status == 507:
            raise StorageError(FULL) from error
        raise StorageError(UNREACHABLE if status >= 500 else REFUSED) from error
    except BotoCoreError as error:
        raise StorageError(UNREACHABLE) from error
