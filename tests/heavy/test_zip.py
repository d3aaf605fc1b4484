"""One ZIP of 300 pictures of 4 MB (40 with --short), sent by gunicorn without being held; the figures are printed."""

import io
import os
import re
import time
import zipfile
from pathlib import Path

import factories
import house as houses
import psycopg
import pytest
from house import Visitor

from i2i.config import Settings
from i2i.gateways.storage import make_storage
from i2i.queries import users

pytestmark = pytest.mark.heavy

PICTURE_BYTES = 4_000_000
ALLOWED_GROWTH_MB = 30
TAIL_BYTES = 256 * 1024
"""The end of a ZIP that is kept, its directory in it; the rest is thrown away as it comes."""


@pytest.fixture
def batch_of(house, tmp_path):
    """Writes down a batch of that many finished pictures; its path.

    Each has a name in the store; the bytes are on the disk once, linked from all of them.
    """
    content = tmp_path / "picture"
    content.write_bytes(os.urandom(PICTURE_BYTES))
    settings = Settings.from_env(house.environ)
    storage = make_storage(settings.blob_url, data_dir=settings.data_dir)

    def make(count):
        with psycopg.connect(house.database) as conn:
            user = users.find_by_email(conn, email=houses.EMAIL)
            photos = [factories.make_image(conn, user=user, name="look.jpg") for _ in range(count)]
            batch = factories.make_batch(conn, user=user, photos=photos)
            for job in factories.jobs_of(conn, batch):
                factories.move(conn, job, user=user, status="completed")
            keys = conn.execute(
                "UPDATE images SET file_size = %s FROM processing_jobs AS job"
                " WHERE job.result_image_id = images.id AND job.batch_id = %s RETURNING blob_url",
                [PICTURE_BYTES, batch.id],
            ).fetchall()
        for (key,) in keys:
            target = storage.root / key
            target.parent.mkdir(parents=True)
            target.hardlink_to(content)
        return f"/batches/{batch.id}.zip"

    return make


def download(visitor, path):
    """The promised length, the length that came, and the last bytes."""
    answer = visitor.house.http.request(
        "GET", visitor.house.url + path, headers=visitor.headers, preload_content=False
    )
    assert answer.status == 200, answer.data
    came, tail = 0, b""
    for chunk in answer.stream(TAIL_BYTES):
        came += len(chunk)
        tail = (tail + chunk)[-TAIL_BYTES:]
    answer.release_conn()
    return int(answer.headers["Content-Length"]), came, tail


def peaks_mb(house):
    """The most that each process of the web server ever had in memory."""
    main = house.processes["web"].pid
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    texts = {pid: Path(f"/proc/{pid}/status").read_text() for pid in [str(main), *children]}
    return {
        pid: int(re.search(r"VmHWM:\s+(\d+)", text).group(1)) * 1024 / 1e6
        for pid, text in texts.items()
    }


def test_many_pictures_in_one_zip(house, batch_of, size, capsys):
    pictures = size.pictures
    few, many = batch_of(2), batch_of(pictures)
    visitor = Visitor(house)
    for _ in range(10):  # so that each process has sent one
        download(visitor, few)
        house.http.clear()
    before = peaks_mb(house)
    began = time.monotonic()
    promised, came, tail = download(visitor, many)
    seconds = time.monotonic() - began
    after = peaks_mb(house)
    assert after.keys() == before.keys()
    growth = sum(after.values()) - sum(before.values())
    with capsys.disabled():
        print(
            f"\nZIP of {pictures} pictures: {came / 1e6:.0f} MB in {seconds:.1f} s; the"
            f" {len(after)} web processes grew by {growth:.1f} MB from {sum(before.values()):.0f} MB"
        )
    assert came == promised > pictures * PICTURE_BYTES
    names = zipfile.ZipFile(io.BytesIO(tail)).namelist()
    assert len(names) == len(set(names)) == pictures + 1
    assert names[-1] == "manifest.csv"
    assert growth < ALLOWED_GROWTH_MB
