"""Receiving files: each part of a multipart body goes straight to the disk, measured on the way.

Werkzeug would spool every part into a temporary file that a view then copies. Here a view asks
for the files of its request (`incoming_files`), each of which is already durable, counted and
hashed; what it does not link elsewhere disappears with the request. A request that no view asked
so for keeps none of the files in its body.
"""

import hashlib
import io
import os
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from flask import Request
from werkzeug.datastructures import CombinedMultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
)
from werkzeug.formparser import FormDataParser

from i2i.errors import StorageError
from i2i.gateways.storage import storage_error

OTHER_PARTS = 20
"""Form fields beside the files."""

OVERHEAD_BYTES = 100_000
"""What headers, boundaries and those fields may add to the files of one body."""

AHEAD_BYTES = 262_144
"""How much of a body is read at once: below the half megabyte that Werkzeug's parser may hold."""

NAME_BYTES = 255

UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories without a glyph: controls, bidi and zero-width marks, surrogates, breaks."""

BROKEN_OFF = "The upload broke off before its end. Nothing was stored; send it again."


class IncomingFile:
    """One uploaded file, in a file of its own that lives as long as the request.

    Attributes:
        path: where its bytes are; nothing is there when `too_large`.
        filename: its name for people to read, no path.
        size: bytes that arrived, counted on when `too_large`.
        too_large: more bytes arrived than one file may have; none were kept.
        failure: why the disk did not take them, if so.
    """

    def __init__(self, folder: Path, *, filename: str, max_bytes: int) -> None:
        self.path = folder / f"upload-{uuid.uuid4().hex}"
        self.filename = clean_filename(filename)
        self.size = 0
        self.too_large = False
        self.failure: StorageError | None = None
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        with self._keep_failure():
            self._file = self.path.open("xb")

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes at `path`."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Take the next bytes. Past the limit, and after a failure, they only pass by.

        To stop reading would cut the connection before the browser has heard the reason, and
        would take the other files of the body along.
        """
        self.size += len(data)
        if self.size > self._max_bytes and not self.too_large:
            self.too_large = True
            self.discard()
        if self._file is not None:
            self._hash.update(data)
            with self._keep_failure():
                self._file.write(data)
        return len(data)

    def seek(self, *_: int) -> int:
        """Finish the file: Werkzeug rewinds a part when, and only when, its end has arrived.

        Here rather than after the whole body: the disk works while the next part is on its way,
        and no more than one file is open.
        """
        if self._file is not None:
            with self._keep_failure():
                self._file.flush()
                os.fsync(self._file.fileno())
            self.close()
        return 0

    def close(self) -> None:
        """Close what is open, keep the bytes."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError):  # a full disk fails the last flush once more
                file.close()

    def discard(self) -> None:
        """Remove the bytes; fine when they are gone. Links that were made to them stay."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _keep_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = storage_error(error, "The upload cannot be stored.")
            self.discard()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intake:
    """What the view of this request lets in."""

    folder: Path
    max_bytes: int
    max_files: int


class _Sink:
    """Takes the place of a file that nobody asked for."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, *_: int) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class _Body:
    """A request's body that knows how much of it was read.

    Read in large pieces, whatever is asked for: gunicorn receives as much as there is, and copies
    what it holds back at every read. So the less often it is asked, the less is copied.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.size = 0

    def read(self, _size: int = -1) -> bytes:
        """The next piece, of AHEAD_BYTES unless the body ends; nothing at its end."""
        try:
            data = self.stream.read(AHEAD_BYTES)
        except HTTPException:
            raise
        except Exception as error:
            # Servers have errors of their own for a body that breaks off between two chunks.
            raise ClientDisconnected(BROKEN_OFF) from error
        self.size += len(data)
        return data


class UploadRequest(Request):
    """The request class of the web application; see `incoming_files`.

    A multipart body that does not hold together is a 400 here, on every route. Werkzeug would
    hand out an empty form, as if nothing had been sent.
    """

    _intake: _Intake | None = None
    _incoming: tuple[IncomingFile, ...] = ()

    @property
    def values(self) -> CombinedMultiDict[str, str]:
        """The fields of a form that was posted, or else those of the address: never both mixed.

        Werkzeug would let the address of a POST override fields of its form, so that one look at
        a field could find another value than the next.
        """
        return CombinedMultiDict([self.form if self.method == "POST" else self.args])

    def close(self) -> None:
        """Called by Flask when the request ends, however it ends."""
        super().close()
        for file in self._incoming:
            file.discard()

    def make_form_data_parser(self) -> FormDataParser:
        """As Werkzeug's, but it speaks up."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def receive(self, *, folder: Path, max_bytes: int, max_files: int) -> None:
        """Read the body, its files into `folder`; `incoming_files` says more."""
        if "form" in self.__dict__:
            raise RuntimeError("The body was read before its files were asked for.")
        self._intake = _Intake(folder=folder, max_bytes=max_bytes, max_files=max_files)
        self.max_content_length = max_bytes * max_files + OVERHEAD_BYTES
        self.max_form_parts = max_files + OTHER_PARTS
        self._load_form_data()

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002  (Werkzeug's signature)
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        intake = self._intake
        # A browser sends a nameless empty part for a file field in which nothing was chosen.
        if intake is None or not filename:
            return cast("IO[bytes]", _Sink())
        if len(self._incoming) == intake.max_files:
            raise RequestEntityTooLarge(
                f"More than {intake.max_files} files at a time. Nothing was stored; send fewer."
            )
        file = IncomingFile(intake.folder, filename=filename, max_bytes=intake.max_bytes)
        self._incoming = (*self._incoming, file)
        return cast("IO[bytes]", file)

    def _load_form_data(self) -> None:
        if "form" in self.__dict__:
            return
        try:
            super()._load_form_data()
            self._check_complete()
        except (HTTPException, ValueError) as error:
            # An error page may look at the form; it must not start to read once more.
            nothing = self.parameter_storage_class
            self.__dict__.update(stream=io.BytesIO(), form=nothing(), files=nothing())
            for file in self._incoming:
                file.discard()
            if isinstance(error, HTTPException):
                raise
            raise BadRequest(BROKEN_OFF) from error

    def _get_stream_for_parsing(self) -> IO[bytes]:
        stream = super()._get_stream_for_parsing()
        return cast("IO[bytes]", _Body(stream)) if self._is_multipart else stream

    def _check_complete(self) -> None:
        """All parts may be there although the connection broke off behind them: still no."""
        body: object = self.__dict__["stream"]
        if isinstance(body, _Body) and body.size < (self.content_length or 0):
            raise ClientDisconnected(BROKEN_OFF)

    @property
    def _is_multipart(self) -> bool:
        return self.mimetype == "multipart/form-data"


def incoming_files(
    request: Request, *, folder: Path, max_bytes: int, max_files: int, field: str = "images"
) -> list[IncomingFile]:
    """Receive the body and return the files of `field` in the order sent.

    They are durable on return and gone when the request ends: link or copy what shall stay
    (`Storage.put`). The list is empty when the body holds no such file. The other fields are in
    `request.form` as ever.

    Args:
        request: an UploadRequest whose body nobody has touched.
        folder: where to put them; on the disk of the store, so that a link suffices.
        max_bytes: of one file. A larger one is dropped and marked `too_large`; the rest go on.
        max_files: in one body.
        field: name of the parts.

    Raises:
        RequestEntityTooLarge: too many files, or too long a body altogether (that one unread).
        BadRequest: the body breaks off or does not hold together; no file of it is left.
        StorageError: the disk did not take a file; no file of it is left.
    """
    if not isinstance(request, UploadRequest):
        raise TypeError("app.request_class must be UploadRequest.")
    request.receive(folder=folder, max_bytes=max_bytes, max_files=max_files)
    streams: list[object] = [part.stream for part in request.files.getlist(field)]
    files = [stream for stream in streams if isinstance(stream, IncomingFile)]
    for file in files:
        if file.failure is not None:
            raise file.failure
    return files


def clean_filename(name: str) -> str:
    """A file's name as it may be shown and downloaded: one line, no path, at most 255 bytes.

    Composed (NFC), so that é of two systems is one letter. Never empty, never an identity.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(
        letter for letter in base if letter == "\t" or unicodedata.category(letter) not in UNSEEN
    )
    plain = " ".join(unicodedata.normalize("NFC", seen).split())
    if not plain.strip(". "):
        return "photo"
    stem, dot, suffix = plain.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        stem, dot, suffix = plain, "", ""
    room = NAME_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + dot + suffix
