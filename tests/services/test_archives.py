"""Archives of pictures: opened by programs that are not ours, with the length that was promised."""

import csv
import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import factories
import pytest

from i2i.errors import Refused, StorageError
from i2i.queries import images, jobs
from i2i.services import archives
from i2i.services.archives import Archive, Entry


@pytest.fixture
def make_picture(conn, storage, owner):
    """A finished job of a photo with this name; its result has these bytes."""

    def make(source, *, name=None, content=b"picture", batch=None):
        image = factories.make_image(conn, user=owner, name=source)
        job = factories.make_job(conn, user=owner, status="completed", image=image)
        result = images.find(conn, image_id=job.result_image_id, user_id=owner.id)
        path = storage.root / result.blob_url
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        conn.execute(
            "UPDATE images SET original_filename = %s, file_size = %s WHERE id = %s",
            [name or f"{source}_basic-v1_1.png", len(content), result.id],
        )
        return job

    return make


@pytest.fixture
def pack(conn, storage, owner):
    """The whole ZIP of these jobs."""

    def pack_(made):
        archive = archives.plan(conn, storage, job_ids=[job.id for job in made], user_id=owner.id)
        data = b"".join(archives.stream(archive, storage))
        assert len(data) == archive.length
        return data

    return pack_


def manifest_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        text = packed.read("manifest.csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


EXTRACT = (
    ["unzip", "-q", "pictures.zip", "-d", "out"]
    if shutil.which("unzip")
    else [sys.executable, "-m", "zipfile", "-e", "pictures.zip", "out"]
)

SOURCES = [
    *("coat.jpg", "coat.jpg", "COAT.JPG", "a:b.jpg", "a/b.jpg", "👗 dress.jpg"),
    *("x" * 200, "x" * 200, "衣" * 200, "CON", "ends.", "=1+1.jpg"),
]


def test_unzip_opens_every_picture_whatever_its_name(make_picture, pack, tmp_path):
    made = [
        make_picture(source, content=f"picture {number}".encode())
        for number, source in enumerate(SOURCES)
    ]
    data = pack(made)
    (tmp_path / "pictures.zip").write_bytes(data)
    environ = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    subprocess.run(EXTRACT, cwd=tmp_path, check=True, env=environ)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    del found["manifest.csv"]
    assert sorted(found.values()) == sorted(f"picture {n}".encode() for n in range(len(SOURCES)))
    assert len({name.casefold() for name in found}) == len(SOURCES)
    rows = manifest_of(data)
    assert {row["result"].removeprefix("'") for row in rows} == found.keys()
    assert sorted(row["source"].lstrip("'") for row in rows) == sorted(SOURCES)


def test_the_manifest_says_how_each_was_made_and_runs_nothing(conn, owner, make_picture, pack):
    job = make_picture("=cmd|' /C calc'!A0.jpg", name="=cmd.png")
    conn.execute(
        'UPDATE processing_jobs SET parameters = \'{"setting": "outdoor", "seed": 7}\''
        " WHERE id = %s",
        [job.id],
    )
    jobs.judge(
        conn,
        job_id=job.id,
        user_id=owner.id,
        verdict="rejected",
        reason="colour",
        note="@SUM(1)\nsecond line",
    )
    conn.execute("UPDATE submissions SET cost = 0.035 WHERE job_id = %s", [job.id])
    (row,) = manifest_of(pack([job]))
    assert row == {
        "source": "'=cmd|' /C calc'!A0.jpg",
        "result": "'=cmd.png",
        "workflow": "basic-v1",
        "version": "1",
        "parameters": '{"seed": 7, "setting": "outdoor"}',
        "seed": "7",
        "cost": "0.0350",
        "charged": "yes",
        "verdict": "rejected",
        "reason": "colour",
        "note": "'@SUM(1)\nsecond line",
    }


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_manifest_runs_nothing_where_cells_end_elsewhere(make_picture, pack, delimiter):
    """Much of Europe's spreadsheets part cells at semicolons, and then quotes do not hold."""
    starts = ("=", "＝", "+", "-", "@")
    names = [f"a{between}{start}1.jpg" for start in starts for between in (";", ';"', "\t")]
    jobs_made = [make_picture(name) for name in (*names, *(f"{each}1.jpg" for each in starts))]
    with zipfile.ZipFile(io.BytesIO(pack(jobs_made))) as packed:
        lines = packed.read("manifest.csv").decode("utf-8-sig").splitlines()
    cells = [cell for line in lines for each in line.split(",") for cell in each.split(delimiter)]
    assert len(cells) > len(names)
    assert [cell for cell in cells if cell.lstrip(' "').startswith(starts)] == []


def test_files_and_manifest_stand_in_the_photos_order(make_picture, pack):
    names = ["look 2.jpg", "look 2 back.jpg", "LOOK 9.jpg", "look 10.jpg"]
    data = pack([make_picture(name) for name in sorted(names)])
    assert [row["source"] for row in manifest_of(data)] == names
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert packed.namelist() == [*(f"{name}_basic-v1_1.png" for name in names), "manifest.csv"]


def test_a_picture_that_came_late_is_in_it_too(conn, owner, storage, make_picture, pack):
    job = make_picture("coat.jpg")
    late = factories.make_result(conn, user=owner, name="coat_basic-v1_1_late.png")
    path = storage.root / late.blob_url
    path.parent.mkdir(parents=True)
    path.write_bytes(b"." * late.file_size)
    submission = conn.execute("SELECT id FROM submissions WHERE job_id = %s", [job.id]).fetchone()
    images.add_further_output(conn, image_id=late.id, job_id=job.id, submission_id=submission[0])
    with zipfile.ZipFile(io.BytesIO(pack([job]))) as packed:
        assert packed.namelist() == [
            "coat.jpg_basic-v1_1.png",
            "coat_basic-v1_1_late.png",
            "manifest.csv",
        ]


def test_what_is_missing_stands_in_the_manifest_without_a_file(storage, conn, make_picture, pack):
    made = [make_picture("a.jpg"), make_picture("b.jpg")]
    gone = storage.root / f"{_key(conn, made[0])}"
    gone.unlink()
    rows = {row["source"]: row["result"] for row in manifest_of(pack(made))}
    assert rows == {"a.jpg": "", "b.jpg": "b.jpg_basic-v1_1.png"}


def _key(conn, job):
    return conn.execute(
        "SELECT blob_url FROM images WHERE id = %s", [job.result_image_id]
    ).fetchone()[0]


def test_the_same_pictures_make_the_same_bytes(conn, owner, storage, make_picture, pack):
    made = [make_picture("a.jpg"), make_picture("b.jpg")]
    plan = partial(archives.plan, conn, storage, user_id=owner.id)
    ids = [job.id for job in made]
    assert pack(made) == pack(made[::-1])
    assert plan(job_ids=ids).etag == plan(job_ids=ids[::-1]).etag
    jobs.judge(conn, job_id=ids[0], user_id=owner.id, verdict="approved", reason=None, note="")
    assert plan(job_ids=ids).etag != plan(job_ids=ids[:1]).etag


def test_what_is_not_the_users_or_in_the_trash_is_not_packed(conn, other, storage, make_picture):
    job = make_picture("a.jpg")
    with pytest.raises(Refused):
        archives.plan(conn, storage, job_ids=[job.id], user_id=other.id)
    conn.execute("UPDATE processing_jobs SET deleted_at = now() WHERE id = %s", [job.id])
    with pytest.raises(Refused):
        archives.plan(conn, storage, job_ids=[job.id], user_id=job.user_id)


def test_bytes_that_change_while_they_are_sent_break_the_download_off(
    conn, storage, owner, make_picture
):
    job = make_picture("a.jpg", content=b"as it was")
    archive = archives.plan(conn, storage, job_ids=[job.id], user_id=owner.id)
    (storage.root / _key(conn, job)).write_bytes(b"shorter")
    with pytest.raises(StorageError):
        list(archives.stream(archive, storage))


class Nothing:
    """A store of endless zeros, for archives too large for a test's disk."""

    def open(self, _key):
        return self

    def __enter__(self):
        self.left = self.size
        return self

    def __exit__(self, *_error):
        pass

    def read(self, most):
        most = min(most, self.left)
        self.left -= most
        return bytes(most)


def test_above_two_gigabytes_the_length_holds_too():
    """The directory's ZIP64 fields: the sums are compared with what zipfile really writes."""
    store = Nothing()
    store.size = 230_000_000
    entry = Entry("a.png", store.size, datetime(2026, 1, 1, tzinfo=UTC), key="users/a")
    archive = Archive([replace(entry, name=f"{n}.png") for n in range(10)], "x")
    assert archive.length > zipfile.ZIP64_LIMIT
    assert sum(map(len, archives.stream(archive, store))) == archive.length


def test_one_zip_has_a_limit(conn, storage, owner, monkeypatch, make_picture):
    monkeypatch.setattr(archives, "MOST_PICTURES", 1)
    made = [make_picture("a.jpg"), make_picture("b.jpg")]
    with pytest.raises(Refused, match="1 pictures at most"):
        archives.plan(conn, storage, job_ids=[job.id for job in made], user_id=owner.id)
