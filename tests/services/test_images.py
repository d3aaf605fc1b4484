"""Receiving uploads: real files on a real disk."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import factories
import pictures
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from i2i.errors import NotFound, StorageError
from i2i.queries import images as queries
from i2i.services import images
from i2i.services.images import Received, Refusal

PHOTO = pictures.jpeg(pictures.photo(size=(120, 80)))


@dataclass
class File:
    """A received file, as the web layer hands it over."""

    path: Path
    filename: str = "coat.jpg"
    too_large: bool = False
    failure: StorageError | None = None

    @property
    def size(self):
        return self.path.stat().st_size

    @property
    def sha256(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@pytest.fixture
def file(tmp_path):
    """Makes a received file of these bytes."""

    def make(data=PHOTO, **changes):
        path = tmp_path / f"part-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(data)
        return File(path, **changes)

    return make


@pytest.fixture
def receive(conn, storage, settings):
    @contextmanager
    def lend():
        yield conn

    def take(user, *uploads, settings=settings):
        return images.receive(lend, storage, settings, user_id=user.id, uploads=uploads)

    return take


def test_a_photo_is_kept_as_it_came(conn, storage, receive, file, owner):
    data = pictures.red_corner(orientation=6)
    (received,) = receive(owner, file(data, filename="IMG 1 ü.JPG"))
    image = received.image
    assert not received.duplicate
    assert (image.original_filename, image.filename) == ("IMG 1 ü.JPG", "original.jpg")
    assert (image.width, image.height) == (60, 40), "as displayed"
    assert (image.mime_type, image.file_size) == ("image/jpeg", len(data))
    assert (image.status, image.is_processed, image.has_preview) == ("preparing", False, False)
    with storage.open(image.blob_url) as stored:
        assert stored.read() == data
    assert images.get(conn, image_id=image.id, user_id=owner.id) == image


@pytest.mark.parametrize(("make", "suffix"), [(pictures.png, ".png"), (pictures.webp, ".webp")])
def test_its_content_names_its_type(receive, file, owner, make, suffix):
    (received,) = receive(owner, file(make(pictures.photo(size=(60, 40))), filename="x.jpg"))
    assert received.image.blob_url.endswith(f"/original{suffix}")


def test_the_same_bytes_again_are_the_same_image(conn, storage, receive, file, owner, other):
    (first,) = receive(owner, file())
    again, third = receive(owner, file(filename="copy.jpg"), file())
    assert again == third == Received(first.image, duplicate=True)
    assert len(list(storage.keys())) == 1, "no second copy is left behind"
    (foreign,) = receive(other, file())
    assert not foreign.duplicate
    assert foreign.image.id != first.image.id


def test_a_photo_from_the_trash_comes_back(conn, receive, file, owner):
    (first,) = receive(owner, file())
    queries.set_deleted(conn, image_id=first.image.id, user_id=owner.id, deleted=True)
    assert queries.page_uploads(conn, user_id=owner.id, page_size=5) == []
    (again,) = receive(owner, file())
    assert (again.image.id, again.duplicate) == (first.image.id, True)
    assert len(queries.page_uploads(conn, user_id=owner.id, page_size=5)) == 1


def test_a_photo_that_was_rejected_is_refused_again(conn, receive, file, owner):
    (first,) = receive(owner, file())
    queries.reject(conn, image_id=first.image.id, fence=0, rejection="Not readable. Damaged.")
    assert receive(owner, file()) == [Refusal("coat.jpg", "unreadable", "Not readable. Damaged.")]


def test_a_bad_file_never_fails_the_others(storage, receive, file, owner):
    bad = file(pictures.FOREIGN["page.jpg"], filename="page.jpg")
    large = file(filename="large.jpg", too_large=True)
    failed = file(filename="late.jpg", failure=StorageError("The disk is full."))
    answers = receive(owner, bad, file(), large, failed)
    assert [getattr(answer, "code", None) for answer in answers] == [
        "not_a_photo",
        None,
        "too_large",
        "storage",
    ]
    assert "25 MB" in answers[2].message
    assert answers[3].message == "The disk is full."
    assert len(list(storage.keys())) == 1


def test_the_quota_counts_what_is_stored(receive, file, make_settings, owner, other):
    small = make_settings(STORAGE_QUOTA_MB="1")
    large = pictures.png(pictures.photo(size=(500, 400)))
    assert 300_000 < len(large) < 1_000_000
    uploads = [file(large + bytes([number]), filename=f"{number}.png") for number in range(3)]
    answers = receive(owner, *uploads, settings=small)
    taken = [answer for answer in answers if isinstance(answer, Received)]
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert sum(answer.image.file_size for answer in taken) <= 1_000_000
    assert {answer.code for answer in refused} == {"quota"}
    assert "0.001 GB" in refused[0].message
    assert isinstance(receive(other, file(), settings=small)[0], Received)


@pytest.fixture
def at_once(database, storage):
    """Receives each file in a thread of its own, all together; and who they are of."""

    def receive_all(files, *, settings):
        with (
            ConnectionPool(
                database, min_size=1, max_size=10, kwargs={"autocommit": True}
            ) as connections,
            psycopg.connect(database, autocommit=True) as conn,
        ):
            user = factories.make_user(conn)
            start = Barrier(len(files))

            def take(upload):
                start.wait()
                lend = connections.connection
                return images.receive(lend, storage, settings, user_id=user.id, uploads=[upload])

            with ThreadPoolExecutor(len(files)) as threads:
                answers = [answer for (answer,) in threads.map(take, files)]
            rows = conn.execute("SELECT blob_url FROM images ORDER BY blob_url").fetchall()
        assert [key for (key,) in rows] == list(storage.keys()), (
            "a row for all bytes, and no others"
        )
        return answers

    return receive_all


@pytest.mark.parametrize("number", [5, 50])
def test_parallel_uploads_share_the_room_that_is_left(at_once, file, make_settings, number):
    fifth = PHOTO.ljust(200_000, b"\0")
    uploads = [file(fifth[:-1] + bytes([each])) for each in range(number)]
    answers = at_once(uploads, settings=make_settings(STORAGE_QUOTA_MB="1"))
    assert sum(isinstance(answer, Received) for answer in answers) == 5
    refused = [answer.code for answer in answers if isinstance(answer, Refusal)]
    assert refused == ["quota"] * (number - 5)


def test_the_same_file_ten_times_at_once_is_one_row(at_once, file, settings):
    answers = at_once([file() for _ in range(10)], settings=settings)
    assert len({answer.image.id for answer in answers}) == 1
    assert sum(answer.duplicate for answer in answers) == 9


def test_an_account_that_ended_meanwhile_keeps_no_bytes(storage, receive, file, conn, owner):
    conn.execute("DELETE FROM users WHERE id = %s", [owner.id])
    with pytest.raises(NotFound):
        receive(owner, file())
    assert list(storage.keys()) == []


def test_a_duplicate_fits_into_a_full_quota(receive, file, make_settings, owner):
    small = make_settings(STORAGE_QUOTA_MB="1")
    large = pictures.png(pictures.photo(size=(600, 500)))
    assert 500_000 < len(large) <= 1_000_000
    (first,) = receive(owner, file(large), settings=small)
    (again,) = receive(owner, file(large), settings=small)
    assert again == Received(first.image, duplicate=True)


def test_no_row_is_written_without_its_bytes(conn, storage, receive, file, owner):
    storage.partial.write_text("a file in place of the folder")
    (answer,) = receive(owner, file())
    assert (answer.code, answer.filename) == ("storage", "coat.jpg")
    assert queries.stored_bytes(conn, user_id=owner.id).count == 0


def test_what_is_not_yours_looks_like_what_is_not_there(conn, owner, other):
    image = factories.make_image(conn, user=owner)
    with pytest.raises(NotFound, match="This picture does not exist"):
        images.get(conn, image_id=image.id, user_id=other.id)


def test_a_workspace_is_gone_afterwards(settings):
    with images.workspace(settings) as folder:
        (folder / "result").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
