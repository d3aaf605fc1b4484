"""The worker is killed with SIGKILL while pictures are being made."""

import hashlib

import house as houses
import pictures
import pytest
from house import House, Visitor, wait_until

pytestmark = pytest.mark.heavy

PHOTOS, VARIATIONS = 10, 3
PICTURES = PHOTOS * VARIATIONS


@pytest.fixture
def house(database, tmp_path):
    running = House(database=database, folder=tmp_path / "house", practice_seconds=0.5)
    yield running.open()
    running.stop()


def test_five_kills_cost_nothing_and_lose_nothing(house):
    house.make_user()
    visitor = Visitor(house)
    ids = [
        visitor.upload(f"coat-{n}.jpg", pictures.jpeg(pictures.photo(size=(640, 480 + n))))["id"]
        for n in range(PHOTOS)
    ]
    batch = visitor.post(
        "/batches",
        [("image", each) for each in ids]
        + [("workflow", "mannequin-to-human-v1"), ("variations", str(VARIATIONS))]
        + [("client_key", "thirty pictures")],
    ).json()

    def completed():
        return visitor.get(batch["url"]).json()["counts"].get("completed", 0)

    for charges in (2, 7, 13, 19, 25):
        wait_until(
            lambda charges=charges: house.ledger()["charges"] >= charges, what=f"{charges} charges"
        )
        house.kill("worker")
        house.let_time_pass()
        house.start_worker()

    wait_until(lambda: completed() == PICTURES, what="thirty pictures")
    assert house.ledger()["charges"] == PICTURES
    states = house.query(
        "SELECT state, outcome, charged, count(*) FROM submissions"
        " WHERE sent_at IS NOT NULL GROUP BY 1, 2, 3"
    )
    assert states == [("settled", "picture", "yes", PICTURES)]
    for job in visitor.get(batch["url"]).json()["jobs"]:
        answer = visitor.get(job["result_url"], Accept="image/*")
        assert hashlib.sha256(answer.data).hexdigest() == answer.headers["ETag"].strip('"')
    assert house.stop() == {"practice": 0, "worker": 0, "web": 0}
    assert houses.PASSWORD not in (house.folder / "web.log").read_text()
