"""The pages of the trash: one picture, everything, and for good."""

import factories
import pages
import pytest

from i2i.gateways.storage import image_key
from i2i.queries import images


@pytest.fixture
def job(conn, owner):
    image = factories.make_image(conn, user=owner, name="coat.jpg")
    return factories.make_job(conn, user=owner, status="completed", image=image)


def test_one_picture_after_a_question(as_owner, app, job):
    thumb = image_key(job.user_id, job.result_image_id, "thumb.webp")
    file = app.extensions["i2i"].storage.root / thumb
    file.parent.mkdir(parents=True)
    file.write_bytes(b"RIFF")
    path = f"/jobs/{job.id}/delete"
    question = pages.check(as_owner.post(path))
    assert "Delete coat.jpg?" in question.text
    assert "It stays in the trash for 7 days, then its file is removed." in question.text
    assert as_owner.get(f"/jobs/{job.id}").status_code == 200
    answer = as_owner.post(path, data={"confirm": "1"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs")
    for gone in (f"/jobs/{job.id}", f"/images/{job.result_image_id}"):
        assert as_owner.get(gone).status_code == 404
    assert as_owner.get(f"/images/{job.result_image_id}?size=thumb").status_code == 200


def test_of_a_batch_the_rest_is_shown(as_owner, conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(2)]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    first, second = factories.jobs_of(conn, batch)
    answer = as_owner.post(f"/jobs/{first.id}/delete", data={"confirm": "1"})
    assert answer.headers["Location"] == f"/batches/{batch.id}"
    page = pages.check(as_owner.get(f"/batches/{batch.id}"))
    assert [each["id"] for each in page.all("article")] == [f"job-{second.id}"]


def test_a_batch_in_the_trash_says_so_and_comes_back(as_owner, as_other, conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(2)]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    path, made = f"/batches/{batch.id}", factories.jobs_of(conn, batch)
    for job in made:
        as_owner.json(f"/jobs/{job.id}/delete", method="POST")
    for shown in (path, f"{path}/live", f"{path}/verdicts"):
        answer = as_owner.get(shown)
        assert answer.status_code == 404
        page = pages.check(answer)
        assert page.one("h1").text == "In the trash"
        assert "All 2 pictures were deleted and can come back until" in page.text
    assert "can come back" in as_owner.json(path).json["error"]
    assert "trash" not in as_other.get(path).text
    assert [link["href"] for link in page.all("a") if link["href"] == "/trash"]
    form = next(form for form in page.all("form") if form["action"] == f"{path}/restore")
    assert as_other.post(form["action"]).status_code == 404
    assert form.text == "Restore 2 pictures"
    answer = as_owner.post(form["action"])
    assert (answer.status_code, answer.headers["Location"]) == (303, path)
    back = pages.check(as_owner.get(path))
    assert [each["id"] for each in back.all("article")] == [f"job-{job.id}" for job in made]
    assert as_owner.post(form["action"]).status_code == 404


def test_a_picture_in_the_trash_says_so(as_owner, as_other, job):
    as_owner.json(f"/jobs/{job.id}/delete", method="POST")
    page = pages.check(as_owner.get(f"/jobs/{job.id}"))
    assert "This picture was deleted and can come back until" in page.text
    assert "can come back" not in as_other.get(f"/jobs/{job.id}").text
    assert as_owner.post(f"/jobs/{job.id}/restore").status_code == 303
    assert as_owner.get(f"/jobs/{job.id}").status_code == 200


def test_what_was_purged_is_simply_gone(as_owner, conn, job):
    as_owner.json(f"/jobs/{job.id}/delete", method="POST")
    as_owner.post("/trash/empty", data={"confirm": "1"})
    for path in (f"/jobs/{job.id}", f"/batches/{job.batch_id}"):
        answer = as_owner.get(path)
        assert (answer.status_code, "Nothing here" in answer.text) == (404, True)


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_what_is_being_made_is_not_deleted(as_owner, conn, owner, accept):
    job = factories.make_job(conn, user=owner, status="processing")
    answer = as_owner.post(f"/jobs/{job.id}/delete", headers={"Accept": accept})
    assert answer.status_code == 409
    assert "Stop it or wait until it is done, then delete it." in answer.text


def test_the_trash_says_when_things_go_and_gives_them_back(as_owner, conn, owner, job):
    photo = factories.make_image(conn, user=owner, name="tee.jpg")
    assert as_owner.json(f"/jobs/{job.id}/delete", method="POST").json == {"deleted": 1}
    as_owner.post(f"/images/{photo.id}/delete")
    page = pages.check(as_owner.get("/trash"))
    frames = {each.one("h2").text: each for each in page.all("article")}
    assert frames.keys() == {"coat.jpg", "tee.jpg"}
    assert "Deleted gone on" in frames["coat.jpg"].text
    assert "1 picture and 1 photo" in page.text
    found = as_owner.json("/trash").json["trash"]
    assert {each["kind"] for each in found} == {"picture", "photo"}
    for frame in frames.values():
        answer = as_owner.post(frame.one("form")["action"])
        assert (answer.status_code, answer.headers["Location"]) == (303, "/trash")
    assert "The trash is empty" in pages.check(as_owner.get("/trash")).text
    assert as_owner.get(f"/jobs/{job.id}").status_code == 200
    assert as_owner.get(f"/images/{photo.id}", headers={"Accept": "application/json"}).json["id"]


def test_everything_comes_back_or_goes_for_good(as_owner, conn, job):
    as_owner.json(f"/jobs/{job.id}/delete", method="POST")
    assert as_owner.json("/trash/restore", method="POST").json == {"pictures": 0, "photos": 0}
    as_owner.json(f"/jobs/{job.id}/delete", method="POST")
    question = pages.check(as_owner.post("/trash/empty"))
    assert "Empty the trash?" in question.text
    assert conn.execute("SELECT count(*) FROM processing_jobs").fetchone() == (1,)
    assert as_owner.post("/trash/empty", data={"confirm": "1"}).status_code == 303
    assert conn.execute("SELECT count(*) FROM processing_jobs").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM submissions").fetchone() == (1,)
    assert images.find(conn, image_id=job.result_image_id, user_id=job.user_id) is None
