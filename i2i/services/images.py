"""Images: receive uploads one by one, and make thumbnails and previews of them later.

Bytes first, row after: what a page acknowledges is on the disk, and what was cut off leaves only
bytes without a row, which a sweep removes.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from psycopg import Connection

from i2i import imaging
from i2i.config import Settings
from i2i.errors import ImagingFailed, InvalidImage, NotFound, StorageError
from i2i.gateways.storage import Storage, image_key, incoming
from i2i.imaging import Header
from i2i.models import Image, ImageStatus, PrepareTask
from i2i.queries import images, jobs, trash, users
from i2i.services import Connect, audit

MOST_CRASHES = 3
"""Crashes of a worker in a row on one photo after which the photo is to blame."""

TROUBLE_SECONDS = 30.0
"""How long a photo waits when this machine could not decode or store it."""

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}

CODES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP"}


class Upload(Protocol):
    """One received file, closed and durable at `path` (web.uploads.IncomingFile)."""

    path: Path
    filename: str
    size: int
    too_large: bool
    failure: StorageError | None

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Received:
    """An upload that is safe; `duplicate` when the user had these bytes already."""

    image: Image
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upload that was not taken: the user's name for it, a stable code and a sentence."""

    filename: str
    code: str
    message: str


def receive(
    connect: Connect,
    storage: Storage,
    settings: Settings,
    *,
    user_id: UUID,
    uploads: Iterable[Upload],
) -> list[Received | Refusal]:
    """Take each file that is a photo, in the order given; a bad one never fails the others."""
    outcomes = [
        _receive_one(connect, storage, settings, user_id=user_id, upload=upload)
        for upload in uploads
    ]
    for each in outcomes:
        if isinstance(each, Refusal):
            audit.lend_refusal(
                connect,
                "upload.refused",
                target=each.filename,
                detail=f"{each.code}: {each.message}",
            )
    return outcomes


def _receive_one(
    connect: Connect, storage: Storage, settings: Settings, *, user_id: UUID, upload: Upload
) -> Received | Refusal:
    try:
        received = _keep(
            connect,
            storage,
            settings,
            user_id=user_id,
            upload=upload,
            header=_check(upload, settings),
        )
    except InvalidImage as error:
        return Refusal(upload.filename, error.code, str(error))
    except StorageError as error:
        return Refusal(upload.filename, "storage", str(error))
    if received.image.status == ImageStatus.REJECTED:
        return Refusal(upload.filename, "unreadable", received.image.rejection or "")
    return received


def _check(upload: Upload, settings: Settings) -> Header:
    if upload.failure is not None:
        raise upload.failure
    if upload.too_large:
        raise InvalidImage("too_large", too_large(settings))
    return imaging.read_header(
        upload.path, max_pixels=settings.max_image_pixels, filename=upload.filename
    )


def too_large(settings: Settings) -> str:
    """The sentence about a file of too many bytes, which a page can say before it sends them."""
    most = settings.max_upload_bytes / 1_000_000
    return (
        f"Too large. It is more than the {most:g} MB that one photo may have. "
        "Export it smaller and add it again."
    )


def _keep(
    connect: Connect,
    storage: Storage,
    settings: Settings,
    *,
    user_id: UUID,
    upload: Upload,
    header: Header,
) -> Received:
    """Store the bytes, then the row; what is refused in between leaves no bytes behind.

    After trouble with the database the bytes stay: a COMMIT whose answer is lost may have happened.
    """
    image_id = uuid4()
    key = image_key(user_id, image_id, f"original{SUFFIXES[header.mime_type]}")
    try:
        storage.put(key, upload.path)
        with connect() as conn, conn.transaction():
            received = _record(
                conn,
                settings,
                upload=upload,
                header=header,
                user_id=user_id,
                image_id=image_id,
                key=key,
            )
    except (InvalidImage, NotFound, StorageError):
        _forget(storage, key)
        raise
    if received.duplicate:
        _forget(storage, key)
    if received.image.status == ImageStatus.REJECTED:
        return _bring_back(connect, storage, received=received, upload=upload)
    return received


def _bring_back(
    connect: Connect, storage: Storage, *, received: Received, upload: Upload
) -> Received:
    """A photo whose file was lost is whole again with these bytes, which are the same."""
    image = received.image
    storage.put(image.blob_url, upload.path)
    with connect() as conn, conn.transaction():
        if images.mark_found(conn, image_id=image.id):
            images.notify_work(conn)
        return Received(get(conn, image_id=image.id, user_id=image.user_id), duplicate=True)


def _forget(storage: Storage, key: str) -> None:
    """Remove bytes that got no row; where that fails, the sweep finds them."""
    with suppress(StorageError):
        storage.delete(key)


def _check_quota(
    conn: Connection[Any], settings: Settings, *, user_id: UUID, upload: Upload
) -> None:
    """InvalidImage when the user has no room for it; meant under users.lock."""
    stored = images.stored_bytes(conn, user_id=user_id).count
    if stored + upload.size > settings.storage_quota_bytes:
        trashed = trash.totals(conn, user_id=user_id).stored_bytes
        way_out = (
            f"{trashed / 1e6:,.0f} MB of them lie in the trash: empty it, then add it again."
            if trashed >= upload.size
            else "Delete what you no longer need, or ask your admin for room, then add it again."
        )
        raise InvalidImage(
            "quota", f"Your {settings.storage_quota_bytes / 1e9:g} GB are used up. {way_out}"
        )


def _record(
    conn: Connection[Any],
    settings: Settings,
    *,
    upload: Upload,
    header: Header,
    user_id: UUID,
    image_id: UUID,
    key: str,
) -> Received:
    """Write the row, or find the one that has these bytes; a trashed one comes back.

    One upload of a user at a time, so that parallel ones cannot share the room that is left.
    """
    if not users.lock(conn, user_id=user_id):
        raise NotFound("This account does not exist any more.")
    image = images.find_upload_by_sha256(conn, user_id=user_id, sha256=upload.sha256)
    if image is not None and (
        image.deleted_at is None
        or images.set_deleted(conn, image_id=image.id, user_id=user_id, deleted=False)
    ):
        return Received(image, duplicate=True)
    _check_quota(conn, settings, user_id=user_id, upload=upload)
    image = images.create_upload(
        conn,
        image_id=image_id,
        user_id=user_id,
        filename=key.rpartition("/")[2],
        original_filename=upload.filename,
        blob_url=key,
        sha256=upload.sha256,
        file_size=upload.size,
        mime_type=header.mime_type,
        width=header.width,
        height=header.height,
    )
    images.notify_work(conn)
    return Received(image, duplicate=False)


def result_id(token: str) -> UUID:
    """The image that the picture of a submission becomes, however often it is stored."""
    return uuid5(NAMESPACE_URL, f"i2i:{token}:0")


def get(conn: Connection[Any], *, image_id: UUID, user_id: UUID) -> Image:
    """The user's own image; NotFound otherwise."""
    image = images.find(conn, image_id=image_id, user_id=user_id)
    if image is None:
        raise NotFound("This picture does not exist.")
    return image


def get_visible(conn: Connection[Any], *, image_id: UUID, user_id: UUID) -> Image:
    """The same outside the trash; NotFound otherwise."""
    image = images.find_visible(conn, image_id=image_id, user_id=user_id)
    if image is None:
        raise NotFound("This picture does not exist.")
    return image


@contextmanager
def workspace(settings: Settings) -> Iterator[Path]:
    """A private folder for files in the making, on the disk of DATA_DIR; removed at the end."""
    folder = tempfile.mkdtemp(prefix="work-", dir=incoming(settings.data_dir))
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare(connect: Connect, storage: Storage, settings: Settings, *, task: PrepareTask) -> None:
    """Decode an upload in the limited child, keep its two copies, and say what came of it."""
    if task.crashes >= MOST_CRASHES:
        with connect() as conn:
            _reject(conn, task=task, reason="Not readable. It cannot be decoded safely.")
        return
    try:
        with workspace(settings) as folder, storage.local_path(task.blob_url) as source:
            made = imaging.prepare(
                source,
                directory=folder,
                max_pixels=settings.max_image_pixels,
                filename=task.original_filename,
            )
            keep_copies(storage, user_id=task.user_id, image_id=task.id, made=made)
    except InvalidImage as error:
        with connect() as conn:
            _reject(conn, task=task, reason=str(error))
    except (ImagingFailed, StorageError, NotFound):
        with connect() as conn:
            images.postpone_preparing(
                conn, image_id=task.id, fence=task.fence, delay_seconds=TROUBLE_SECONDS
            )
        raise
    else:
        with connect() as conn, conn.transaction():
            images.finish_preparing(
                conn, image_id=task.id, fence=task.fence, width=made.width, height=made.height
            )
            images.notify_work(conn)


def keep_copies(storage: Storage, *, user_id: UUID, image_id: UUID, made: imaging.Prepared) -> None:
    """Store thumbnail and preview beside the original."""
    storage.put(image_key(user_id, image_id, "thumb.webp"), made.thumbnail)
    storage.put(image_key(user_id, image_id, "preview.webp"), made.preview)


def _reject(conn: Connection[Any], *, task: PrepareTask, reason: str) -> None:
    """The photo is not readable, and neither are the waiting pictures that need it."""
    with conn.transaction():
        if images.reject(conn, image_id=task.id, fence=task.fence, rejection=reason):
            audit.record(
                conn,
                "upload.refused",
                target=task.original_filename,
                detail=f"unreadable: {reason}",
                outcome="refused",
            )
            jobs.fail_of_image(
                conn,
                image_id=task.id,
                error_code="unreadable",
                error_message=f"{task.original_filename} could not be read. Upload it again.",
            )
