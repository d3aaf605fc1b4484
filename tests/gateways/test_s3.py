"""What only a bucket can do, on real S3 servers (`make s3`): damage is noticed, requests are few."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import factories
import house
import psycopg
import pytest
import s3_servers
import urllib3

from i2i.errors import DamagedFile
from i2i.gateways import storage
from i2i.gateways.dumps import Shelf
from i2i.services import backup

pytestmark = pytest.mark.s3

KEY = "users/u/i/original.jpg"

DATA = os.urandom(3_000_000)


@pytest.fixture(params=s3_servers.SERVERS)
def url(request, bucket):
    return bucket(request.param)


@pytest.fixture
def requests(url):
    """The methods of all requests that stores made from here on have sent."""
    boto3 = pytest.importorskip("boto3")
    boto3.setup_default_session()
    sent = []
    boto3.DEFAULT_SESSION.events.register(
        "before-send.s3", lambda request, **_: sent.append(request.method)
    )
    yield sent
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def store(url, requests, tmp_path):
    """A bucket with one file; what that took is not counted."""
    made = storage.make_storage(url, data_dir=tmp_path)
    source = tmp_path / "source"
    source.write_bytes(DATA)
    made.put(KEY, source)
    requests.clear()
    return made


@pytest.fixture
def overwrite(url, store):
    """Put other bytes in place, past our own hands; `metadata` as `put` leaves it, or none."""
    import boto3  # noqa: PLC0415 - only `make s3` installs it

    def replace(data, *, metadata):
        prefix = url.rpartition("/")[2]
        boto3.client("s3").put_object(
            Bucket=s3_servers.BUCKET, Key=f"{prefix}/{KEY}", Body=data, Metadata=metadata
        )

    return replace


def ours(data):
    return {"sha256": hashlib.sha256(data).hexdigest()}


def test_one_request_reads_all(store, requests):
    with store.open(KEY) as file:
        assert file.seek(0, os.SEEK_END) == len(DATA)
        file.seek(0)
        assert file.read() == DATA
    assert requests == ["GET"]


def test_a_leap_is_one_more_request(store, requests):
    with store.open(KEY) as file:
        file.seek(2_500_000)
        file.seek(2_000_000)
        assert file.read() == DATA[2_000_000:]
    assert requests == ["GET", "GET"]


def test_other_bytes_never_arrive_whole(store, overwrite, tmp_path):
    """What was read before shows nothing; the end does, and it does not come."""
    overwrite(DATA[:-1] + bytes([DATA[-1] ^ 1]), metadata=ours(DATA))
    with store.open(KEY) as file:
        assert file.read(100) == DATA[:100]
        with pytest.raises(DamagedFile):
            file.read()
    with pytest.raises(DamagedFile), store.local_path(KEY):
        pass
    assert store.sha256(KEY) != ours(DATA)["sha256"], "the check of the store wants the truth"
    assert not any(storage.incoming(tmp_path).iterdir())


def test_what_others_put_there_is_read_without_a_checksum(store, overwrite):
    overwrite(b"by another program", metadata={})
    with store.local_path(KEY) as path:
        assert path.read_bytes() == b"by another program"


def test_a_full_disk_is_a_sentence_and_leaves_nothing(store, url, tmp_path):
    """A limit on the size of files stands in for the full disk."""
    program = """
import resource, sys
from pathlib import Path
from i2i.errors import StorageError
from i2i.gateways.storage import make_storage
store = make_storage(sys.argv[1], data_dir=Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with store.local_path(sys.argv[3]):
        pass
except StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program, url, str(tmp_path), KEY],
        capture_output=True, text=True, check=False, cwd=Path(storage.__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "The file is larger than this site can keep. Nothing was stored.\n"
    assert done.stderr == ""
    assert not any(storage.incoming(tmp_path).iterdir())


# --- Links ------------------------------------------------------------------------------------

DISPOSITION = "attachment; filename=\"____.jpg\"; filename*=UTF-8''%D1%84%D0%BE%D1%82%D0%BE.jpg"


def link(store, *, seconds=60):
    return store.link(KEY, disposition=DISPOSITION, mime_type="image/jpeg", seconds=seconds)


def fetch(url):
    return urllib3.request("GET", url, timeout=house.PATIENCE)


def test_a_link_opens_one_file_under_its_name(store, requests):
    url = link(store)
    assert requests == []
    answer = fetch(url)
    assert (answer.status, answer.data) == (200, DATA)
    assert answer.headers["Content-Disposition"] == DISPOSITION
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("original.jpg", "thumb.webp"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("attachment", "inline"),
        ("image%2Fjpeg", "text%2Fhtml"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
    ],
)
def test_a_link_says_nothing_else(store, tmp_path, what, instead):
    store.put(KEY.replace("original.jpg", "thumb.webp"), tmp_path / "source")
    url = link(store)
    assert what in url
    assert fetch(url.replace(what, instead, 1)).status == 403


def test_a_link_ends(store):
    url = link(store, seconds=1)
    answer = house.wait_until(
        lambda: next((each for each in [fetch(url)] if each.status != 200), None),
        what="the end of the link",
    )
    assert answer.status in {400, 403}
    assert DATA[:100] not in answer.data


def test_no_link_is_ever_logged(url, tmp_path):
    program = """
import os
from i2i.config import Settings
from i2i.gateways.storage import make_storage
from i2i.logs import configure_logging
settings = Settings.from_env(os.environ)
configure_logging(settings)
store = make_storage(settings.blob_url, data_dir=settings.data_dir)
print(store.exists("a"), store.link("a", disposition="", mime_type="image/jpeg", seconds=60))
"""
    environ = {
        "SECRET_KEY": "only-for-tests-0123456789",
        "DATA_DIR": str(tmp_path),
        "BLOB_URL": url,
        "LOG_LEVEL": "debug",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environ,
        capture_output=True, text=True, check=True, cwd=Path(storage.__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.startswith("False http://")
    assert "Signature" not in done.stderr
    assert "botocore" not in done.stderr


def test_a_bucket_is_backed_up_and_filled_again(url, database, settings, tmp_path):
    bucket, shelf = storage.make_storage(url, data_dir=tmp_path), Shelf(tmp_path / "backups")
    source = tmp_path / "source"
    source.write_bytes(DATA)
    with psycopg.connect(database, autocommit=True) as conn:
        user = factories.make_user(conn)
        key = factories.make_image(conn, user=user, status="preparing", data=DATA).blob_url
        bucket.put(key, source)
        assert backup.create(conn, bucket, url=database, shelf=shelf).copied == 1
        bucket.delete(key)
        assert backup.restore_files(conn, bucket, settings, shelf=shelf) == (1, [])
    assert bucket.sha256(key) == hashlib.sha256(DATA).hexdigest()
