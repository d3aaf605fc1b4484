"""Copies for fal on a real disk."""

import io
import os

import factories
import pictures
import pytest
from PIL import Image

from i2i.errors import NotFound
from i2i.services import copies
from i2i.services.copies import Copies
from i2i.services.workflows import definition_of

PHOTO = pictures.jpeg(pictures.photo(size=(320, 240)))


@pytest.fixture
def kept(settings, storage):
    return Copies(settings, storage)


@pytest.fixture
def photos(conn, storage):
    """Two photos of one user."""
    user = factories.make_user(conn)
    return [
        factories.make_image(conn, user=user, data=PHOTO + bytes([number]), storage=storage)
        for number in range(2)
    ]


@pytest.fixture
def define(conn):
    made = []

    def define(**values):
        made.append(factories.make_workflow(conn, id=f"w{len(made)}-v1", **values))
        return definition_of(made[-1].definition)

    return define


@pytest.mark.parametrize(("formats", "kind"), [(["jpeg", "png"], "JPEG"), (["png"], "PNG")])
def test_a_copy_is_what_the_workflow_takes(kept, photos, define, formats, kind):
    definition = define(max_side=64, formats=formats)
    assert kept.missing(photos, definition) == photos
    kept.make(photos[0], definition, keep_alive=int)
    assert kept.missing(photos, definition) == [photos[1]]
    with Image.open(io.BytesIO(kept.read(photos[0], definition))) as copy:
        assert (copy.format, copy.size) == (kind, (64, 48))
    assert copies.mime_type(definition) == f"image/{kind.lower()}"
    other = define(max_side=128, formats=formats)
    assert kept.missing(photos, other) == photos, "another size is another copy"
    with pytest.raises(NotFound):
        kept.read(photos[0], other)


def test_old_copies_and_too_many_give_way(kept, photos, define, settings, monkeypatch):
    definition = define()
    kept.make(photos[0], definition, keep_alive=int)
    (path,) = (each for each in (settings.data_dir / "copies").iterdir() if each.is_file())
    kept.tidy()
    monkeypatch.setattr(copies, "MOST_BYTES", path.stat().st_size * 3 // 2)
    os.utime(path, (0, 0))
    kept.tidy()
    assert kept.missing(photos, definition) == photos
    for each in photos:
        kept.make(each, definition, keep_alive=int)
    assert kept.missing(photos, definition) == photos[:1], "the newest stays"
