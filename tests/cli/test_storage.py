"""flask storage: the check, on files that were deleted, added and truncated while a worker runs;
the copy to another store, killed half-way."""

import hashlib
import json
import os
import time
from pathlib import Path

import factories
import pictures
import pytest
import s3_servers
from house import wait_until

from i2i.cli import storage as command
from i2i.gateways.storage import image_key, make_storage
from i2i.queries import images, jobs
from i2i.services import images as image_service

LONG_AGO = time.time() - 7200


@pytest.fixture
def store(environ):
    folder = Path(environ["DATA_DIR"])
    return make_storage(f"file://{folder}/blobs", data_dir=folder)


@pytest.fixture
def check(flask, environ):
    """Exit status and findings by key of `flask storage check`."""

    def run(*options):
        done = flask("storage", "check", "--json", *options, DATA_DIR=environ["DATA_DIR"])
        assert done.exit_code in {0, 1}, done.output
        report = json.loads(done.stdout)
        return done.exit_code, {each["key"]: each for each in report["findings"]}, report

    return run


@pytest.fixture
def add(db_conn, store):
    """An upload as the web process leaves it: for a worker that runs to prepare."""
    user = factories.make_user(db_conn)
    shades = iter(range(200))

    def make(name):
        data = pictures.jpeg(pictures.photo(size=(96, 64 + next(shades))))
        image = factories.make_image(
            db_conn, user=user, status="preparing", name=name, data=data, storage=store
        )
        db_conn.execute("NOTIFY i2i_work")
        return image

    return make


def is_ready(conn, *made):
    rows = conn.execute(
        "SELECT bool_and(status = 'ready') FROM images WHERE id = ANY(%s)",
        [[image.id for image in made]],
    )
    return rows.fetchone()[0]


def keep_result(conn, store, job):
    """Bytes for the result of a finished job, with its copies."""
    result = images.find(conn, image_id=job.result_image_id, user_id=job.user_id)
    data = pictures.png(pictures.photo(size=(120, 90)))
    path = store.root / result.blob_url
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    conn.execute(
        "UPDATE images SET sha256 = %s, file_size = %s WHERE id = %s",
        [hashlib.sha256(data).hexdigest(), len(data), result.id],
    )
    for name in ("thumb.webp", "preview.webp"):
        path.with_name(name).write_bytes(webp())
    return result


def webp():
    return b"RIFF" + (12).to_bytes(4, "little") + b"WEBP" + b"\0" * 8


def put_stray(store, key, *, when=LONG_AGO):
    path = store.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody's")
    os.utime(path, (when, when))
    return path


def test_what_was_deleted_added_and_truncated_is_found_and_mended(
    start, check, add, database, db_conn, store
):
    worker = start("worker", POSTGRES_URL=database)
    whole, gone, cut, changed, bare = made = [
        add(f"{name}.jpg") for name in ("whole", "gone", "cut", "changed", "bare")
    ]
    wait_until(lambda: is_ready(db_conn, *made), what="the photos are prepared")
    user = whole.user_id
    make_job = factories.make_job
    person = factories.users.find(db_conn, user_id=user)
    waiting = make_job(db_conn, user=person, image=gone, status="held")
    done, safe = (make_job(db_conn, user=person, image=whole, status="completed") for _ in "ab")
    lost, kept = (keep_result(db_conn, store, job) for job in (done, safe))
    assert check()[:2] == (0, {})

    path = {image.id: store.root / image.blob_url for image in [*made, lost, kept]}
    path[gone.id].unlink()
    path[lost.id].unlink()
    os.truncate(path[cut.id], 100)
    path[changed.id].write_bytes(bytes(path[changed.id].stat().st_size))
    path[bare.id].with_name("thumb.webp").unlink()
    os.truncate(path[bare.id].with_name("preview.webp"), 30)
    path[kept.id].with_name("thumb.webp").unlink()
    stray = put_stray(store, image_key(user, factories.uuid4(), "original.jpg"))
    extra = put_stray(store, whole.blob_url.replace("original", "other"))
    fresh = put_stray(store, image_key(user, factories.uuid4(), "thumb.webp"), when=time.time())
    (token,) = db_conn.execute(
        "SELECT token FROM submissions WHERE job_id = %s",
        [make_job(db_conn, user=person, image=whole, status="submitting").id],
    ).fetchone()
    awaited = put_stray(store, image_key(user, image_service.result_id(token), "original.png"))
    expected = {
        gone.blob_url: "missing",
        lost.blob_url: "missing",
        cut.blob_url: "size",
        changed.blob_url: "checksum",
        bare.blob_url: "copies",
        kept.blob_url: "copies",
        **{each.relative_to(store.root).as_posix(): "orphan" for each in (stray, extra, awaited)},
    }
    busy = [add(f"busy {number}.jpg") for number in range(5)]  # on their way meanwhile
    before = db_conn.execute("SELECT id, lost_at, has_preview FROM images ORDER BY id").fetchall()

    status, found, _ = check()
    assert (status, {key: each["kind"] for key, each in found.items()}) == (1, expected)
    assert {each["done"] for each in found.values()} == {None}
    assert stray.exists()
    assert [row[1] for row in before] == [None] * len(before)

    status, found, _ = check("--repair")
    assert status == 1, "what is lost stays lost"
    assert {key for key, each in found.items() if not each["mended"]} == {
        image.blob_url for image in (gone, lost, cut, changed)
    }
    assert [each.exists() for each in (stray, extra, fresh, awaited)] == [False, False, True, True]
    for name in ("thumb.webp", "preview.webp"):
        assert path[bare.id].with_name(name).read_bytes()[:4] == b"RIFF"
    assert path[kept.id].with_name("thumb.webp").stat().st_size > 100
    assert jobs.find(db_conn, job_id=waiting.id).status == "failed"
    finished = jobs.find(db_conn, job_id=done.id)
    assert (finished.status, finished.result_image_id) == ("completed", lost.id)
    assert finished.attention.startswith("The stored file of this picture is damaged or gone.")
    assert jobs.find(db_conn, job_id=safe.id).attention is None
    for image in (gone, cut, changed):
        row = images.find(db_conn, image_id=image.id, user_id=user)
        assert (row.status, row.rejection[:17]) == ("rejected", "Lost on our side.")

    awaited.unlink()
    status, found, report = check()
    assert (status, found) == (0, {}), "what is known to be lost is no news"
    assert {each["image_id"] for each in report["known_lost"]} == {
        str(image.id) for image in (gone, lost, cut, changed)
    }
    wait_until(lambda: is_ready(db_conn, whole, bare, *busy), what="the worker goes on")
    assert worker.poll() is None


def test_what_comes_back_from_a_backup_is_whole_again(start, check, add, database, db_conn, store):
    start("worker", POSTGRES_URL=database)
    photo = add("coat.jpg")
    wait_until(lambda: is_ready(db_conn, photo), what="the photo is prepared")
    person = factories.users.find(db_conn, user_id=photo.user_id)
    job = factories.make_job(db_conn, user=person, image=photo, status="completed")
    result = keep_result(db_conn, store, job)
    files = [store.root / each.blob_url for each in (photo, result)]
    backup = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert check("--repair")[0] == 1
    for file, data in zip(files, backup, strict=True):
        file.write_bytes(data)
    status, found, _ = check()
    assert (status, {each["kind"] for each in found.values()}) == (1, {"returned"})
    status, found, _ = check("--repair")
    assert (status, {each["mended"] for each in found.values()}) == (0, {True})
    wait_until(lambda: is_ready(db_conn, photo), what="the photo is prepared anew")
    assert jobs.find(db_conn, job_id=job.id).attention is None
    assert images.find(db_conn, image_id=result.id, user_id=photo.user_id).has_preview
    assert check()[:2] == (0, {})


def test_a_store_that_is_not_there_is_no_reason_to_give_everything_up(
    flask, environ, add, db_conn, store
):
    made = [add(f"{number}.jpg") for number in range(12)]
    (store.root / "users").rename(store.root / "elsewhere")
    done = flask("storage", "check", "--repair", DATA_DIR=environ["DATA_DIR"])
    assert done.exit_code == 1
    assert "12 of 12 originals are missing. Is the store of BLOB_URL the right one" in done.stderr
    lost = "SELECT count(*) FROM images WHERE lost_at IS NOT NULL"
    assert db_conn.execute(lost).fetchone() == (0,)
    (store.root / "elsewhere").rename(store.root / "users")
    done = flask("storage", "check", DATA_DIR=environ["DATA_DIR"])
    assert (done.exit_code, done.stdout) == (0, f"{len(made)} images and 12 files checked.\n")


def test_people_read_a_table_and_one_line(flask, environ, add, store):
    photo = add("coat.jpg")
    (store.root / photo.blob_url).unlink()
    done = flask("storage", "check", DATA_DIR=environ["DATA_DIR"])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].split() == ["missing", photo.blob_url, "coat.jpg", "-"]
    assert done.stderr.startswith("i2i: 1 file is not as it should be.")


# --- copy


@pytest.fixture
def there(tmp_path):
    """Where the files shall be."""
    return make_storage(f"file://{tmp_path}/there", data_dir=tmp_path)


@pytest.fixture
def copy(flask, environ, store):
    """`flask storage copy` from the test's store to a URL."""

    def run(url, source=None):
        given = source or f"file://{store.root}"
        return flask("storage", "copy", given, str(url), DATA_DIR=environ["DATA_DIR"])

    return run


@pytest.fixture
def keep(db_conn, store):
    """So many images with their bytes, by their places."""
    user = factories.make_user(db_conn)

    def make(number):
        made = [
            factories.make_image(
                db_conn, user=user, data=f"photo {each:04}".encode(), storage=store
            )
            for each in range(number)
        ]
        return sorted(made, key=lambda image: image.blob_url)

    return make


def contents(store):
    return {file.key: (store.root / file.key).read_bytes() for file in store.files()}


@pytest.mark.parametrize(
    "kind",
    ["folder", *(pytest.param(name, marks=pytest.mark.s3) for name in s3_servers.SERVERS)],
)
def test_a_copy_that_is_killed_is_gone_on_with(
    request, kind, start, copy, keep, database, store, tmp_path
):
    url, variables = f"file://{tmp_path}/there", {}
    if kind != "folder":
        url = request.getfixturevalue("bucket")(kind)
        variables = request.getfixturevalue("s3_server")(kind)
    there = make_storage(url, data_dir=tmp_path)
    made = keep(120)
    before = contents(store)
    held = store.root / made[50].blob_url
    held.unlink()
    os.mkfifo(held)  # whoever opens it waits
    process = start(
        *("storage", "copy", f"file://{store.root}", url), POSTGRES_URL=database, **variables
    )
    wait_until(lambda: len(list(there.files())) == 99, what="the rest of a group of files is there")
    process.kill()
    process.wait()
    held.unlink()
    held.write_bytes(before[made[50].blob_url])
    assert len(list(there.files())) == 99

    done = copy(url)
    line = f"Complete: 120 images in {url}, 21 files (0.0 MB) copied by this run.\n"
    assert (done.exit_code, done.stdout) == (0, line)
    for key, data in before.items():
        with there.open(key) as file:
            assert file.read() == data
    assert contents(store) == before
    assert ", 0 files (0.0 MB) copied by this run." in copy(url).stdout


def test_what_cannot_be_copied_is_counted_and_listed(
    copy, keep, db_conn, store, there, monkeypatch
):
    monkeypatch.setattr(command, "PROGRESS_SECONDS", 0)
    gone, changed, lost, cut, only_there, *_ = made = keep(8)
    whole = contents(store)
    put_stray(store, made[7].blob_url.replace("original.jpg", "thumb.webp"))
    there.put(only_there.blob_url, store.root / only_there.blob_url)
    for image in (gone, lost, only_there):
        (store.root / image.blob_url).unlink()
    images.mark_lost(db_conn, image_id=lost.id, rejection="Lost on our side.")
    (store.root / changed.blob_url).write_bytes(b"photo XXXX")
    there_cut = there.root / cut.blob_url
    there_cut.parent.mkdir(parents=True)
    there_cut.write_bytes(b"phot")
    before = contents(store)

    done = copy(f"file://{there.root}")
    assert done.exit_code == 1
    assert "8 of 8 images looked at, 5 files (0.0 MB) copied.\n" in done.stdout
    found = [line.split()[:2] for line in done.stdout.splitlines() if "original.jpg" in line]
    assert found == [["checksum", changed.blob_url], ["missing", gone.blob_url]]
    assert done.stderr == (
        f"i2i: 2 files are not in file://{there.root}, as listed; all others are, 5 files (0.0 MB) "
        "copied by this run. Nothing was deleted. The same command tries these again.\n"
    )
    assert contents(store) == before
    copied = set(before) - {changed.blob_url} | {only_there.blob_url}
    assert set(contents(there)) == copied
    assert there_cut.read_bytes() == before[cut.blob_url]

    for image in (gone, changed):
        path = store.root / image.blob_url
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole[image.blob_url])
    done = copy(f"file://{there.root}")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == (
        f"Complete: 8 images in file://{there.root}, 2 files (0.0 MB) copied by this run; "
        "1 file known to be lost."
    )


def test_a_store_that_takes_nothing_ends_the_copy(copy, keep, there):
    keep(30)
    there.partial.write_text("a file in place of the folder")
    done = copy(f"file://{there.root}")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "i2i: The file cannot be stored. Stopped half-way; the same command goes on from there.\n"
    )


def test_the_wrong_store_is_said_to_be_wrong(copy, keep, store, tmp_path):
    keep(1)
    url = f"file://{store.root}"
    assert copy(url + "/").stderr == "i2i: Both are the same store.\n"
    assert copy(url, "file:///nowhere").stderr == "i2i: There is no such folder to copy from.\n"
    assert "has none of the originals" in copy(url, f"file://{tmp_path}").stderr
    assert "must be file:///path or s3://bucket/prefix" in copy("/srv/blobs").stderr


@pytest.mark.s3
@pytest.mark.parametrize("name", s3_servers.SERVERS)
def test_to_a_bucket_and_back(copy, keep, bucket, name, store, there):
    made = keep(5)
    put_stray(store, made[3].blob_url.replace("original.jpg", "thumb.webp"))
    url = bucket(name)
    assert ", 6 files (0.0 MB) copied by this run." in copy(url).stdout
    done = copy(f"file://{there.root}", url)
    assert (done.exit_code, contents(there)) == (0, contents(store))


@pytest.mark.s3
@pytest.mark.parametrize("name", s3_servers.SERVERS)
def test_what_is_damaged_in_a_bucket_is_found(copy, flask, keep, bucket, name, store):
    import boto3  # noqa: PLC0415 - only `make s3` installs it

    copied, changed, _ = made = keep(3)
    for image in made:
        for each in ("thumb.webp", "preview.webp"):
            (store.root / image.blob_url).with_name(each).write_bytes(webp())
    url = bucket(name)
    assert ", 9 files (0.0 MB) copied by this run." in copy(url).stdout
    thumb = copied.blob_url.replace("original.jpg", "thumb.webp")
    prefix = url.rpartition("/")[2]
    for key, data in [(thumb, webp()), (changed.blob_url, b"photo 0000")]:
        wrong = {"sha256": hashlib.sha256(b"what was put").hexdigest()}
        boto3.client("s3").put_object(
            Bucket=s3_servers.BUCKET, Key=f"{prefix}/{key}", Body=data[:-1] + b"X", Metadata=wrong
        )
    done = flask("storage", "check", "--json", BLOB_URL=url)
    found = {each["key"]: each["kind"] for each in json.loads(done.stdout)["findings"]}
    assert found == {copied.blob_url: "copies", changed.blob_url: "checksum"}


@pytest.mark.s3
def test_a_move_as_operations_describes_it(
    start, copy, flask, add, bucket, s3_server, database, db_conn
):
    """Old processes take photos until the last moment; in the end nothing is missing."""
    first = add("first.jpg")
    worker = start("worker", POSTGRES_URL=database)
    wait_until(lambda: is_ready(db_conn, first), what="the first photo is prepared")
    url = bucket("rclone")
    assert "Complete: 1 image in" in copy(url).stdout
    meanwhile = add("meanwhile.jpg")
    wait_until(lambda: is_ready(db_conn, meanwhile), what="work goes on in the old store")
    worker.terminate()
    worker.communicate()
    assert ", 3 files (0.0 MB) copied by this run." in copy(url).stdout
    last = add("last.jpg")
    assert ", 1 file (0.0 MB) copied by this run." in copy(url).stdout
    start("worker", POSTGRES_URL=database, BLOB_URL=url, **s3_server("rclone"))
    wait_until(lambda: is_ready(db_conn, last), what="work goes on in the new store")
    done = flask("storage", "check", BLOB_URL=url)
    assert (done.exit_code, done.stdout) == (0, "3 images and 9 files checked.\n")
