"""flask backup: what is copied, what is found wrong, and what comes back."""

import json
import shutil
from pathlib import Path
from threading import Lock

import factories
import pictures
import psycopg
import pytest

from i2i import db
from i2i.gateways import dumps
from i2i.gateways.dumps import Shelf
from i2i.gateways.storage import image_key, make_storage
from i2i.models import JobStatus
from i2i.queries import jobs, submissions, trash
from i2i.services import backup as service
from i2i.services import jobs as job_service
from i2i.services.storage import COPIES


@pytest.fixture
def store(environ):
    folder = Path(environ["DATA_DIR"])
    return make_storage(f"file://{folder}/blobs", data_dir=folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "backups"


@pytest.fixture
def backup(flask, environ, folder):
    """Run `flask backup …` on the folder; the variables may name another database or DATA_DIR."""

    def run(*words, **more):
        usual = {"DATA_DIR": environ["DATA_DIR"]}
        return flask("backup", *words, str(folder), **usual | more)

    return run


@pytest.fixture
def empty(server, admin_conn):
    """URL of a database without anything in it."""
    admin_conn.execute("CREATE DATABASE elsewhere")
    yield server.url_of("elsewhere")
    admin_conn.execute("DROP DATABASE elsewhere WITH (FORCE)")


@pytest.fixture
def owner(db_conn):
    return factories.make_user(db_conn, email="owner@example.com")


@pytest.fixture
def add(db_conn, store, owner):
    """An upload with its three files, of a size of its own."""
    widths = iter(range(40, 200))

    def make():
        data = pictures.jpeg(pictures.photo(size=(next(widths), 30)))
        image = factories.make_image(db_conn, user=owner, data=data, storage=store)
        for key in files_of(image)[1:]:
            (store.root / key).write_bytes(pictures.webp())
        return image

    return make


def files_of(image):
    return [image_key(image.user_id, image.id, name) for name in ("original.jpg", *COPIES)]


def everything(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted(root.rglob("*.*"))
        if path.is_file() and ".partial" not in path.parts
    }


def test_everything_comes_back_elsewhere(
    backup, flask, db_conn, add, store, folder, empty, tmp_path, owner
):
    photo = add()
    made = {
        status: factories.make_job(db_conn, user=owner, image=photo, status=status)
        for status in ("pending", "held", "submitting", "processing", "unknown", "failed")
    }
    before = everything(store.root)
    done = backup("create")
    assert done.exit_code == 0, done.output
    assert "1 image, 3 files, 3 of them new." in done.output
    late = factories.make_job(db_conn, user=owner)
    shutil.rmtree(store.root)

    there = {"POSTGRES_URL": empty, "DATA_DIR": str(tmp_path / "elsewhere")}
    done = backup("restore", **there)
    assert done.exit_code == 0, done.output
    assert "3 pictures had not been sent then and are held" in done.output
    done = backup("restore-files", **there)
    assert "3 files copied." in done.output, done.output
    assert everything(tmp_path / "elsewhere" / "blobs") == before
    assert flask("storage", "check", **there).exit_code == 0

    with psycopg.connect(empty, autocommit=True) as conn:
        now = {name: jobs.find(conn, job_id=job.id) for name, job in made.items()}
        assert {name: job.status for name, job in now.items()} == dict.fromkeys(made, "held") | {
            "processing": "processing",
            "unknown": "unknown",
            "failed": "failed",
        }
        assert {
            name for name, job in now.items() if "made and charged since" in (job.attention or "")
        } == {
            "pending",
            "held",
            "submitting",
        }
        (tried,) = submissions.list_of_job(conn, job_id=made["submitting"].id)
        assert tried.state == "abandoned"
        assert jobs.find(conn, job_id=late.id) is None
        jobs.release(conn, batch_id=made["pending"].batch_id, user_id=owner.id)
        again = jobs.find(conn, job_id=made["pending"].id)
        assert (again.status, again.attention) == (JobStatus.PENDING, None)

    assert "has 2" in backup("restore", **there).output, "an empty one only"


def test_no_program_starts_on_half_a_restore(database, add, store, folder, empty):
    """Killed before everything was held: then nobody works on it."""
    with psycopg.connect(database, autocommit=True) as conn:
        made = service.create(conn, store, url=database, shelf=Shelf(folder))
        version = conn.info.server_version
    dump = {"server_version": version, "source": folder / made.name / dumps.DUMP}
    dumps.restore(empty, **dump, without=service.MIGRATIONS)
    with psycopg.connect(empty, autocommit=True) as conn:
        assert db.pending_migrations(conn) == db.shipped_migrations()
        dumps.restore_rows(empty, **dump, table=service.MIGRATIONS)
        assert db.pending_migrations(conn) == []


def test_what_had_left_is_looked_for_and_never_sent_again(db_conn, owner):
    """A worker's crash and a restore are the same to what had left."""
    job = factories.make_job(db_conn, user=owner, status="submitting")
    (tried,) = submissions.list_of_job(db_conn, job_id=job.id)
    factories.send(db_conn, tried.token)
    db_conn.execute("UPDATE processing_jobs SET lease_until = now() - interval '1 day'")
    assert service.hold_unsent(db_conn, taken_at=job.created_at) == 0
    assert job_service.recover_expired(db_conn) == 1
    assert jobs.find(db_conn, job_id=job.id).status == "unknown"
    (tried,) = submissions.list_of_job(db_conn, job_id=job.id)
    assert tried.state == "unknown"


def test_verify_restores_it_and_remembers_that_it_is_whole(backup, flask, add):
    add()
    assert "There is no backup" in backup("verify").output
    stats = json.loads(flask("jobs", "stats", "--json").stdout)
    assert stats["backup"] is None
    assert backup("create").exit_code == 0
    done = backup("verify")
    assert done.exit_code == 0, done.output
    assert "is whole: restored, 1 image, every file there, 1 original read." in done.output
    assert "Newest verified backup: of 20" in flask("jobs", "stats").stdout


class Meanwhile:
    """A store in which something happens before the first file is read."""

    def __init__(self, store, deed):
        self.store, self.deed, self.lock = store, deed, Lock()

    def open(self, key):
        with self.lock:
            deed, self.deed = self.deed, lambda: None
            deed()
        return self.store.open(key)


def test_what_changes_while_the_files_are_copied(
    database, db_conn, settings, add, store, folder, owner
):
    kept, deleted, lost = add(), add(), add()

    def meanwhile():
        trash.purge_images(db_conn, image_ids=[deleted.id])
        shutil.rmtree((store.root / deleted.blob_url).parent)
        (store.root / lost.blob_url).write_bytes(b"not what it was")
        add()

    with psycopg.connect(database, autocommit=True) as conn:
        made = service.create(conn, Meanwhile(store, meanwhile), url=database, shelf=Shelf(folder))
    assert (made.images, made.files) == (3, 9), "what came after the snapshot is not in it"
    assert (made.deleted, made.missing) == (files_of(deleted), [lost.blob_url])
    copied = folder / "blobs" / kept.blob_url
    assert copied.read_bytes() == (store.root / kept.blob_url).read_bytes()
    assert copied.stat().st_ino != (store.root / kept.blob_url).stat().st_ino, "a copy, no link"
    copied.write_bytes(copied.read_bytes()[:-1] + b"!")
    found = service.verify(settings, shelf=Shelf(folder), name=made.name, sample=None)
    assert dict(found.findings) == {"missing": lost.blob_url, "checksum": kept.blob_url}


def test_a_backup_that_was_broken_off_counts_as_none(backup, add, folder, store):
    add()

    def begin():
        with Shelf(folder).locked(), Shelf(folder).filling("20261123T113000Z") as unfinished:
            (unfinished / "manifest.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert Shelf(folder).names() == []
    assert "There is no backup" in backup("verify").output


def test_the_second_backup_copies_only_what_is_new(database, add, store, folder):
    shelf = Shelf(folder)
    add()
    counts = []
    with psycopg.connect(database, autocommit=True) as conn:
        for name in ("20261123T113000Z", "20261124T113000Z"):
            made = service.create(conn, store, url=database, shelf=shelf)
            (folder / made.name).rename(folder / name)
            counts.append((made.files, made.copied))
            add()
    assert counts == [(3, 3), (6, 3)]
    assert shelf.names() == ["20261123T113000Z", "20261124T113000Z"]


def test_older_backups_go_with_what_only_they_have(database, db_conn, backup, add, store, folder):
    shelf = Shelf(folder)
    old, kept = add(), add()
    with psycopg.connect(database, autocommit=True) as conn:
        made = service.create(conn, store, url=database, shelf=shelf)
        (folder / made.name).rename(folder / "20261123T113000Z")
        trash.purge_images(db_conn, image_ids=[old.id])
        newer = service.create(conn, store, url=database, shelf=shelf).name
    assert "0 backups and 0 files removed." in backup("prune", "--keep", "2").output
    assert "1 backup and 3 files removed." in backup("prune", "--keep", "1").output
    assert shelf.names() == [newer]
    assert sorted(shelf.blobs.keys()) == sorted(files_of(kept))
    with shelf.locked():
        assert "Another backup is being made" in backup("create").output
