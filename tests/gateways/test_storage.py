"""The store of bytes: what is put is whole, durable and found again; what fails leaves nothing.

The tests of `any_store` are the contract. `make s3` holds real S3 servers to it as well.
"""

import hashlib
import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3_servers

from i2i.errors import NotFound, StorageError
from i2i.gateways import storage

KEY = "users/1b4e28ba-2fa1-11d2-883f-0016d3cca427/6fa459ea-ee8a-3ca4-894e-db77e160355e/original.jpg"


@pytest.fixture
def store(tmp_path):
    return storage.make_storage(f"file://{tmp_path}/blobs", data_dir=tmp_path)


@pytest.fixture(
    params=["folder", *(pytest.param(name, marks=pytest.mark.s3) for name in s3_servers.SERVERS)]
)
def any_store(request, tmp_path, bucket):
    """A store of each kind, empty."""
    if request.param == "folder":
        return storage.make_storage(f"file://{tmp_path}/blobs", data_dir=tmp_path)
    return storage.make_storage(bucket(request.param), data_dir=tmp_path)


@pytest.fixture
def source(tmp_path):
    path = storage.incoming(tmp_path) / "upload"
    path.write_bytes(b"picture" * 1000)
    return path


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_put_and_every_way_to_read(any_store, source):
    any_store.put(KEY, source)
    source.unlink()
    assert any_store.exists(KEY)
    assert any_store.size(KEY) == 7000
    assert any_store.sha256(KEY) == hashlib.sha256(b"picture" * 1000).hexdigest()
    with any_store.open(KEY) as file:
        file.seek(7)
        assert file.read(7) == b"picture"
    with any_store.local_path(KEY) as path:
        assert path.read_bytes() == b"picture" * 1000


def test_put_again_is_harmless(any_store, source):
    any_store.put(KEY, source)
    any_store.put(KEY, source)
    other = source.with_name("other")
    other.write_bytes(b"picture" * 1000)
    any_store.put(KEY, other)
    assert list(any_store.keys()) == [KEY]
    assert source.exists()


def test_a_file_is_read_from_anywhere(any_store, source):
    data = os.urandom(3_000_000)
    source.write_bytes(data)
    any_store.put(KEY, source)
    with any_store.open(KEY) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == 2_999_995
        assert file.read() == data[-5:]
        file.seek(1_234_567)
        assert file.read(1_000_000) == data[1_234_567:2_234_567]
        file.seek(5_000_000)
        assert file.read(1) == b""


def test_delete_forgets_one_key(any_store, source):
    for name in ("original.jpg", "thumb.webp"):
        any_store.put(f"users/u/i/{name}", source)
    any_store.delete("users/u/i/original.jpg")
    any_store.delete("users/u/i/original.jpg")
    assert list(any_store.keys()) == ["users/u/i/thumb.webp"]


def test_more_keys_than_one_answer_holds(any_store, source):
    source.write_bytes(b"x")
    keys = [f"users/u/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: any_store.put(key, source), keys))
    assert list(any_store.keys("users/")) == keys


def test_put_from_another_disk_copies(store, tmp_path):
    away = Path("/dev/shm")
    if not away.is_dir() or away.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    source = away / uuid.uuid4().hex
    source.write_bytes(b"far")
    try:
        store.put(KEY, source)
    finally:
        source.unlink()
    assert store.size(KEY) == 3


def test_what_is_missing(any_store):
    for read in (any_store.open, any_store.size, any_store.sha256):
        with pytest.raises(NotFound):
            read(KEY)
    with pytest.raises(NotFound), any_store.local_path(KEY):
        pass
    assert not any_store.exists(KEY)
    any_store.delete(KEY)


def test_delete_takes_the_empty_folder_along(store, source):
    for name in ("original.jpg", "thumb.webp"):
        store.put(f"users/u/i/{name}", source)
    store.delete("users/u/i/original.jpg")
    assert list(store.keys()) == ["users/u/i/thumb.webp"]
    store.delete("users/u/i/thumb.webp")
    assert not (store.root / "users/u/i").exists()
    assert list(store.keys()) == []
    store.put("users/u/i/thumb.webp", source)


def test_keys_come_in_order_by_prefix(any_store, source):
    keys = ["a", "users/a/i/x.jpg", "users/a-b/i/x.jpg", "users/a.b/i/x.jpg", "users/ab/i/x.jpg"]
    for key in keys:
        any_store.put(key, source)
    assert list(any_store.keys()) == sorted(keys)
    assert list(any_store.keys("users/a/")) == ["users/a/i/x.jpg"]
    assert list(any_store.keys("users/a")) == sorted(keys[1:])
    assert list(any_store.keys("nobody/")) == []


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "A", "a b", "a/.hidden", ".partial/x",
     "a\0b", "a\n", "é", "a" * 501],
)  # fmt: skip
def test_other_keys_are_a_mistake(any_store, source, key):
    with pytest.raises(ValueError, match="not a storage key"):
        any_store.put(key, source)
    with pytest.raises(ValueError, match="not a storage key"):
        any_store.open(key)


def test_key_of_an_image():
    user, image = (uuid.UUID(part) for part in KEY.split("/")[1:3])
    assert storage.image_key(user, image, "original.jpg") == KEY
    with pytest.raises(ValueError, match="not a storage key"):
        storage.image_key(user, image, "../../other.jpg")


def test_a_full_disk_leaves_nothing(store, tmp_path):
    """A limit on the size of files stands in for the full disk; only copies are written."""
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    program = """
import resource, sys
from pathlib import Path
from i2i.errors import StorageError
from i2i.gateways.storage import make_storage
store = make_storage(sys.argv[1], data_dir=Path())
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put("users/u/i/original.jpg", Path(sys.argv[2]))
except StorageError as error:
    print(error)
"""
    source = Path("/dev/shm") / uuid.uuid4().hex
    source.write_bytes(b"x" * 5000)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, f"file://{store.root}", str(source)],
            capture_output=True, text=True, check=False, cwd=Path(storage.__file__).parents[2],
        )  # fmt: skip
    finally:
        source.unlink()
    assert done.stdout == "The file is larger than this site can keep. Nothing was stored.\n"
    assert files(store.root) == []


def test_a_file_in_place_of_a_folder(store, source):
    store.put("users/u", source)
    with pytest.raises(StorageError, match="cannot be stored"):
        store.put("users/u/i/original.jpg", source)
    assert files(store.root) == ["users/u"]


def test_a_root_that_is_gone_is_not_made_again(store, source):
    store.root.rmdir()
    with pytest.raises(StorageError):
        store.put(KEY, source)
    assert not store.root.exists()


def test_a_folder_has_no_links(store, source):
    store.put(KEY, source)
    assert store.link(KEY, disposition="attachment", mime_type="image/jpeg", seconds=60) is None


def test_many_puts_and_deletes_at_once(store, source):
    failures = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                key = f"users/u/{number % 2}/{turn % 3}.jpg"
                store.put(f"users/u/{number}-{turn}/original.jpg", source)
                store.put(key, source)
                list(store.keys())
                store.delete(f"users/u/{number}-{turn}/original.jpg")
        except (OSError, StorageError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(list(store.keys())) == 6
    assert not any((store.root / storage.PARTIAL).iterdir())


def test_sweep_removes_only_what_is_old(tmp_path):
    folder = storage.incoming(tmp_path)
    for name in ("old", "new"):
        (folder / name).write_bytes(b"x")
    (folder / "old-folder").mkdir()
    (folder / "old-folder" / "copy").write_bytes(b"x")
    for name in ("old", "old-folder"):
        os.utime(folder / name, (0, 0))
    assert storage.sweep(folder, older_than=3600) == 2
    assert files(folder) == ["new"]


def test_trim_removes_the_oldest_until_the_rest_fits(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"xxxx")
    for age, name in enumerate(["new", "older", "oldest"]):
        (tmp_path / name).write_bytes(b"xx")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    storage.trim(tmp_path, most_bytes=6)
    assert files(tmp_path) == ["folder/file", "new", "older", "oldest"]
    storage.trim(tmp_path, most_bytes=5)
    assert files(tmp_path) == ["folder/file", "new", "older"]
    storage.trim(tmp_path, most_bytes=1)
    assert files(tmp_path) == ["folder/file"]


def test_incoming_is_private(tmp_path):
    assert storage.incoming(tmp_path / "fresh").stat().st_mode & 0o777 == 0o700
