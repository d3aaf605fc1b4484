"""A disaster: a backup in the middle of a batch, then nothing is left but the backup and fal."""

import shutil

import house as houses
import pictures
import psycopg
import pytest
from house import House, Visitor, wait_until

pytestmark = pytest.mark.heavy

PHOTOS, VARIATIONS = 4, 4
PICTURES = PHOTOS * VARIATIONS
AT_ONCE = 2


@pytest.fixture
def house(database, tmp_path):
    running = House(
        database=database,
        folder=tmp_path / "house",
        practice_seconds=0.2,
        MAX_IN_FLIGHT=str(AT_ONCE),
    )
    yield running.open()
    running.stop()


@pytest.fixture
def elsewhere(house, server, admin_conn, tmp_path):
    """Another machine with an empty database; its fal is the same."""
    admin_conn.execute("CREATE DATABASE after_the_disaster")
    fal = {name: value for name, value in house.environ.items() if name.startswith("FAL_")}
    other = House(
        database=server.url_of("after_the_disaster"), folder=tmp_path / "elsewhere", **fal
    )
    yield other
    other.stop()
    admin_conn.execute("DROP DATABASE after_the_disaster WITH (FORCE)")


def order(visitor):
    """A batch of pictures, by its address."""
    ids = [
        visitor.upload(f"coat-{n}.jpg", pictures.jpeg(pictures.photo(size=(320, 240 + n))))["id"]
        for n in range(PHOTOS)
    ]
    asked = [("workflow", "mannequin-to-human-v1"), ("variations", str(VARIATIONS))]
    asked += [("image", each) for each in ids]
    return visitor.post("/batches", [*asked, ("client_key", "before the disaster")]).json()


def states(house):
    """{job id: status}"""
    return dict(house.query("SELECT id::text, status FROM processing_jobs"))


def results(house):
    """{job id: bytes} of what is completed."""
    blobs = house.folder / "blobs"
    rows = house.query(
        "SELECT job.id::text, image.blob_url FROM processing_jobs AS job"
        " JOIN images AS image ON image.id = job.result_image_id"
    )
    return {job: (blobs / key).read_bytes() for job, key in rows}


def faults(house, method, **order):
    answer = house.http.request(method, f"{house.practice_url}/faults", json=order or None)
    assert answer.status < 300, answer.data


def test_everything_is_destroyed_in_the_middle_of_a_batch(house, elsewhere, tmp_path, say):
    house.make_user()
    visitor = Visitor(house)
    batch = order(visitor)
    wait_until(lambda: len(results(house)) >= 3, what="three pictures")
    faults(house, "POST", mode="slow", count=PICTURES, seconds=6)
    shelf = str(tmp_path / "backups")
    house.flask("backup", "create", shelf)
    then = len(results(house))
    faults(house, "DELETE")

    # What the backup knows nothing of: more is sent, made and charged.
    wait_until(lambda: len(results(house)) > then + AT_ONCE, what="pictures after the backup")
    for name in ("worker", "web"):
        house.kill(name)
    kept, charges = results(house), house.ledger()["charges"]
    with psycopg.connect(house.database, autocommit=True) as conn:
        conn.execute("DROP SCHEMA public CASCADE")
    shutil.rmtree(house.folder / "blobs")

    assert "is whole" in elsewhere.flask("backup", "verify", "--all", shelf)
    elsewhere.flask("backup", "restore", shelf)
    elsewhere.flask("backup", "restore-files", shelf)
    restored = states(elsewhere)
    completed = {job for job, status in restored.items() if status == "completed"}
    held = {job for job, status in restored.items() if status == "held"}
    flying = set(restored) - completed - held
    assert len(restored) == PICTURES
    assert len(completed) >= 3
    assert held
    assert results(elsewhere) == {job: kept[job] for job in completed}, "byte for byte"

    # What was in flight ends by itself, and nothing else is sent.
    elsewhere.let_time_pass()
    elsewhere.start_worker()
    elsewhere.start_web()
    wait_until(elsewhere.is_ready, what="pages elsewhere")
    wait_until(
        lambda: all(states(elsewhere)[job] == "completed" for job in flying),
        what="the pictures that were in flight",
    )
    found = results(elsewhere)
    assert {job: data for job, data in found.items() if job in kept and job in flying} == {
        job: kept[job] for job in flying & set(kept)
    }, "fetched again, not made again"
    assert house.ledger()["charges"] == charges
    assert {job for job, status in states(elsewhere).items() if status == "held"} == held

    # The rest is a person's to decide, who may pay twice for what was made since.
    visitor = Visitor(elsewhere)
    card = next(each for each in visitor.get(batch["url"]).json()["jobs"] if each["id"] in held)
    assert "may have been made and charged since" in card["attention"]
    assert visitor.post(f"{batch['url']}/release").status < 400
    wait_until(lambda: len(results(elsewhere)) == PICTURES, what="all pictures")
    assert house.ledger()["charges"] == charges + len(held)
    twice = len(held & set(kept))
    say(
        f"Restored in the middle of a batch: {len(completed)} completed pictures byte for byte, "
        f"{len(flying)} in flight ended, {len(held)} held, {twice} of them made before and "
        "paid for again only after a person let them go."
    )
    assert houses.PASSWORD not in (elsewhere.folder / "web.log").read_text()
