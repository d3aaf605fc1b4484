"""Copies of photos for fal: upright, sRGB, without metadata, no larger than the workflow takes.

They are kept on this machine for a while, because variations, references and second tries want the
same one, and because a copy that is there before its picture is claimed leaves little between the
claim and the request. Nothing depends on them: what is not there is made again.
"""

from collections.abc import Callable, Iterable
from typing import Literal
from uuid import UUID

from i2i import imaging
from i2i.config import Settings
from i2i.forms import Definition
from i2i.gateways.storage import DirectoryStorage, Storage, outgoing, sweep, trim
from i2i.models import Image
from i2i.services.images import workspace

MOST_BYTES = 500_000_000
"""All copies together; some four hundred of 2048 pixels. The oldest give way, a tenth at a time."""

MOST_SECONDS = 3600.0
"""How old a copy may get, so that nothing of a deleted photo stays for long."""

SUFFIXES: dict[Literal["jpeg", "png"], str] = {"jpeg": "jpg", "png": "png"}


class Copies:
    """The copies on this machine, in `DATA_DIR/copies`; several workers may share the folder."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._originals = storage
        self._untrimmed = 0

    @property
    def _kept(self) -> DirectoryStorage:
        """The folder is made anew where somebody has cleared it away."""
        return DirectoryStorage(outgoing(self._settings.data_dir))

    def missing(self, photos: Iterable[Image], definition: Definition) -> list[Image]:
        """Those of the photos of which this machine has no copy for the workflow."""
        kept = self._kept
        return [each for each in photos if not kept.exists(_key(each.id, definition))]

    def make(self, photo: Image, definition: Definition, *, keep_alive: Callable[[], None]) -> None:
        """Decode a photo in the limited child and keep its copy; `keep_alive` as in `imaging`.

        Raises:
            InvalidImage: the photo is at fault, and always will be.
            ImagingFailed, StorageError, NotFound: the machine or the store is.
        """
        with (
            workspace(self._settings) as folder,
            self._originals.local_path(photo.blob_url) as source,
        ):
            rendered = imaging.render(
                source,
                directory=folder,
                max_side=definition.max_side,
                format=_format(definition),
                keep_alive=keep_alive,
            )
            self._kept.put(_key(photo.id, definition), rendered.path)
            self._untrimmed += rendered.path.stat().st_size
        if self._untrimmed > MOST_BYTES / 10:
            self._untrimmed = 0
            trim(self._kept.root, most_bytes=MOST_BYTES)

    def read(self, photo: Image, definition: Definition) -> bytes:
        """The copy's bytes; NotFound where it has been removed meanwhile."""
        with self._kept.open(_key(photo.id, definition)) as file:
            return file.read()

    def tidy(self) -> None:
        """Remove the old ones, and what a killed worker left half-written."""
        for folder in (self._kept.partial, self._kept.root):
            if folder.is_dir():
                sweep(folder, older_than=MOST_SECONDS)


def suffix(definition: Definition) -> str:
    """How the name of a copy for this workflow ends."""
    return SUFFIXES[_format(definition)]


def mime_type(definition: Definition) -> str:
    """The type of a copy for this workflow."""
    return f"image/{_format(definition)}"


def _format(definition: Definition) -> Literal["jpeg", "png"]:
    return "png" if definition.formats[0] == "png" else "jpeg"


def _key(image_id: UUID, definition: Definition) -> str:
    return f"{image_id}-{definition.max_side}.{suffix(definition)}"
