"""The form of a new batch: choosing, filling in, sums, and what does not hold."""

import re

import factories
import pages
import pytest
from orders import KEY, make, new_url, order

from i2i.queries import images as image_queries
from i2i.services import workflows as workflow_service

EVIL = '"><img src=x onerror=alert(1)>.jpg'


# --- The form ---------------------------------------------------------------------------------


def test_the_form_as_it_stands_makes_a_batch(as_owner, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    assert page.one("h2", id="photos-title").text == "3 photos"
    sent = page.form("/batches")
    assert [value for name, value in sent if name == "image"] == [
        str(photo.id) for photo in sorted(photos, key=lambda photo: photo.original_filename)
    ]
    names = [name for name, _ in sent]
    answer = as_owner.post(
        "/batches", data={name: [v for n, v in sent if n == name] for name in names}
    )
    assert answer.status_code == 303
    shown = pages.check(as_owner.get(answer.headers["Location"]))
    assert shown.one("h1").text == "3 photos, Basic"
    assert len(shown.all("article")) == 3


def test_every_shipped_workflow_has_a_form(as_owner, conn, owner):
    workflow_service.seed(conn)
    photo = factories.make_image(conn, user=owner)
    first = pages.check(as_owner.get(**new_url([photo])))
    offered = [each["value"] for each in first.all("button", name="switch")]
    assert len(offered) == 2, "the third is not switched on"
    for workflow in offered:
        page = pages.check(as_owner.get(**new_url([photo], switch=workflow)))
        (chosen,) = page.all("button", name="switch", aria_pressed="true")
        assert chosen["value"] == workflow
        sent = page.form("/batches")
        answer = as_owner.json("/batches", method="POST", data=dict(sent))
        assert answer.status_code == 201, answer.json


def test_without_photos_there_is_nothing_to_choose(as_owner, photos):
    assert as_owner.get("/batches/new").headers["Location"] == "/upload"


def test_no_workflow_at_all(as_owner, conn, owner):
    photo = factories.make_image(conn, user=owner)
    assert as_owner.get(**new_url([photo])).status_code == 409


@pytest.mark.parametrize(
    "query",
    ["image=1", "image=%00", "image=../x", "reference=1", "workflow=%00", "workflow=nowhere"],
)
def test_odd_links(as_owner, photos, query):
    answer = as_owner.get(f"/batches/new?image={photos[0].id}&{query}")
    assert answer.status_code in {200, 400, 404}
    pages.check(answer)


def test_the_estimate_counts_what_is_typed(as_owner, photos):
    page = pages.check(as_owner.get(**new_url(photos, variations=4, setting="outdoor")))
    assert page.one("dd", data_pictures=True).text == "12"
    assert page.one("dd", data_total=True).text == "$0.42"
    assert page.one("button", class_="wide").text == "Make 12 pictures"
    chosen = [each for each in page.all("input", name="setting") if "checked" in each.attributes]
    assert [each["value"] for each in chosen] == ["outdoor"]


def test_a_price_that_nobody_knows(as_owner, conn, photos):
    factories.make_workflow(conn, unit_price=None)
    assert "price unknown" in pages.check(as_owner.get(**new_url(photos))).text


def test_the_pilot_is_offered_for_more_than_two(as_owner, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    offer = page.one("div", data_pilot=True)
    assert re.sub(r"\s+", " ", offer.text) == "Make the first photos, then ask me about the other 1"
    assert page.one("input", name="pilot_photos")["value"] == "2"
    assert pages.check(as_owner.get(**new_url(photos[:2]))).all("input", name="pilot") == []


def test_references_are_offered_from_ones_uploads(as_owner, as_other, conn, other, photos):
    foreign = factories.make_image(conn, user=other)
    page = pages.check(as_owner.get(**new_url(photos[:1], reference=photos[1].id)))
    boxes = {
        box["value"]: "checked" in box.attributes for box in page.all("input", name="reference")
    }
    assert boxes[str(photos[1].id)] is True
    assert str(foreign.id) not in boxes


# --- What does not hold -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": []}, "image"),
        ({"image": ["00000000-0000-4000-8000-000000000000"]}, "image"),
        ({"reference": ["00000000-0000-4000-8000-000000000000"]}, "reference"),
        ({"workflow": ""}, "workflow"),
        ({"workflow": "nowhere"}, "workflow"),
        ({"setting": "on the moon"}, "setting"),
        ({"setting": ""}, "setting"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "1e309"}, "seed"),
        ({"seed": "NaN"}, "seed"),
        ({"seed": "9223372036854775808"}, "seed"),
        ({"seed": "٣"}, "seed"),
        ({"seed": "1\0"}, "seed"),
        ({"seed": "9" * 5000}, "seed"),
        ({"variations": "0"}, "variations"),
        ({"variations": "5"}, "variations"),
        ({"variations": "-1"}, "variations"),
        ({"variations": "two"}, "variations"),
        ({"variations": "1.5"}, "variations"),
        ({"pilot": "-1"}, "pilot"),
        ({"pilot": "x"}, "pilot"),
        ({"client_key": "short"}, "client_key"),
        ({"client_key": "x" * 101}, "client_key"),
        ({"user_id": "x"}, "user_id"),
        ({"status": "completed"}, "status"),
        ({"unit_price": "0"}, "unit_price"),
    ],
)
def test_a_field_that_does_not_hold_says_so_itself(as_owner, conn, photos, changes, field):
    answer = make(as_owner, photos, **changes)
    assert answer.status_code == 422
    assert answer.json.keys() == {"error", "fields"}
    assert answer.json["fields"].keys() == {field}
    assert answer.json["error"] == "Nothing was sent or charged."
    page = pages.check(as_owner.post("/batches", data=order(photos, **changes)), whole=True)
    summary = page.one(role="alert")
    assert "1 setting needs a look. Nothing was sent or charged." in summary.text
    assert answer.json["fields"][field] in summary.text
    if links := list(summary.all("a")):
        assert links[0]["href"] == f"#field-{field}"
        assert page.one(id=f"error-{field}").text == answer.json["fields"][field]
    assert conn.execute("SELECT count(*) FROM batches").fetchone() == (0,)


@pytest.mark.parametrize("changes", [{"client_key": "with a \0 inside"}, {"workflow": "\0"}])
def test_text_that_no_database_holds(as_owner, conn, photos, changes):
    answer = make(as_owner, photos, **changes)
    assert answer.status_code in {400, 422}
    assert conn.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_a_photo_that_is_not_readable(as_owner, conn, owner, photos):
    bad = factories.make_image(conn, user=owner, status="rejected", name="bad.jpg")
    answer = make(as_owner, [*photos, bad])
    assert answer.json["fields"] == {"image": "bad.jpg is not readable. Leave it out."}


def test_a_photo_that_is_still_being_prepared_will_do(as_owner, conn, owner, photos):
    fresh = factories.make_image(conn, user=owner, status="preparing")
    assert make(as_owner, [fresh]).status_code == 201


def test_a_photo_in_the_trash(as_owner, conn, owner, photos):
    image_queries.set_deleted(conn, image_id=photos[0].id, user_id=owner.id, deleted=True)
    assert "deleted in the meantime" in make(as_owner, photos).json["fields"]["image"]


def test_a_workflow_that_was_switched_off_meanwhile(as_owner, conn, photos):
    workflow_service.set_active(conn, workflow_id="basic-v1", is_active=False, cancel_waiting=False)
    factories.make_workflow(conn, id="other-v1", name="Other")
    answer = make(as_owner, photos)
    assert answer.json["fields"] == {"workflow": "This workflow is switched off. Choose another."}
    page = pages.check(as_owner.post("/batches", data=order(photos, seed="77")))
    assert page.one("input", name="seed")["value"] == "77"
    assert [each["value"] for each in page.all("input", name="workflow")] == ["basic-v1"]


def test_too_many_pictures_for_one_batch(as_owner, conn, owner, photos):
    many = [factories.make_image(conn, user=owner) for _ in range(500)]
    answer = make(as_owner, many, variations="4")
    assert (answer.status_code, answer.json["fields"]) == (
        422,
        {
            "variations": "2,000 pictures are more than the 200 that one batch may have. "
            "200 more pictures may be made today. Nothing was sent or charged."
        },
    )
    page = pages.check(as_owner.post("/batches", data=order(many, variations="4")))
    assert len(page.all("input", name="image")) == 500, "the form keeps all of them"


def test_the_refused_form_keeps_everything(as_owner, photos):
    typed = order(photos[:2], seed="not a number", variations="3", reference=[str(photos[2].id)])
    page = pages.check(as_owner.post("/batches", data=typed))
    kept = page.form("/batches")
    assert {value for name, value in kept if name == "image"} == set(typed["image"])
    kept = dict(kept)
    assert kept["seed"] == "not a number"
    assert kept["setting"] == "outdoor"
    assert kept["variations"] == "3"
    assert kept["reference"] == str(photos[2].id)
    assert kept["client_key"] == KEY
    assert page.one("input", name="seed")["aria-invalid"] == "true"
    assert "not a number" not in page.one(role="alert").text


def test_a_box_that_was_emptied_stays_empty(as_owner, conn, photos):
    schema = factories.document()["parameter_schema"]
    schema["required"] = ["setting", "outline"]
    schema["properties"]["outline"] = {"type": "boolean", "title": "Outline", "x-order": 30}
    factories.make_workflow(
        conn,
        parameter_schema=schema,
        default_parameters={"setting": "studio white", "outline": True},
        request_template={
            "prompt": "{{ setting }}",
            "image_urls": "{{ image_urls + references }}",
            "outline": "{{ outline }}",
            "seed": "{{ seed | default(none) }}",
        },
    )
    fresh = pages.check(as_owner.get(**new_url(photos)))
    assert "checked" in fresh.one("input", name="outline").attributes
    page = pages.check(as_owner.post("/batches", data=order(photos, seed="x")))
    assert "checked" not in page.one("input", name="outline").attributes
    page = pages.check(as_owner.post("/batches", data=order(photos, seed="x", outline="true")))
    assert "checked" in page.one("input", name="outline").attributes


def test_what_is_typed_is_shown_never_run(as_owner, photos):
    typed = order(photos, seed=EVIL, variations=EVIL, setting=EVIL)
    page = pages.check(as_owner.post("/batches", data=typed))
    assert not page.all("img", src="x")
    assert page.one("input", name="seed")["value"] == EVIL


def test_a_name_of_a_field_is_shown_never_run(as_owner, photos):
    answer = as_owner.post("/batches", data=order(photos, **{EVIL: "1"}))
    assert answer.status_code == 422
    assert not pages.check(answer).all("img", src="x")


# --- The same again ---------------------------------------------------------------------------


def test_the_same_again_begins_as_the_parent_was_made(as_owner, conn, photos):
    first = make(as_owner, photos[:2], seed="7", variations="2", reference=[str(photos[2].id)]).json
    page = pages.check(as_owner.get(f"/batches/new?parent={first['id']}"))
    assert page.one("h2", id="photos-title").text == "2 photos"
    assert re.fullmatch(r"From the batch of today \d\d:\d\d", page.one("p", class_="crumbs").text)
    sent = dict(page.form("/batches"))
    assert (sent["seed"], sent["setting"], sent["variations"]) == ("7", "outdoor", "2")
    assert (sent["parent"], sent["reference"]) == (first["id"], str(photos[2].id))
    child = make(as_owner, photos[:2], seed="8", parent=first["id"], client_key=KEY[::-1]).json
    rows = conn.execute(
        "SELECT parent_id::text FROM processing_jobs WHERE batch_id = %s ORDER BY position",
        [child["id"]],
    )
    assert [row[0] for row in rows] == [first["jobs"][0]["id"], first["jobs"][2]["id"]]


def test_the_same_again_with_other_settings_and_fewer_photos(as_owner, photos):
    first = make(as_owner, photos).json
    query = {"parent": first["id"], "image": photos[0].id, "setting": "studio white"}
    page = pages.check(as_owner.get("/batches/new", query_string=query))
    assert page.one("h2", id="photos-title").text == "1 photo"
    assert dict(page.form("/batches"))["setting"] == "studio white"
    answer = as_owner.get("/batches/new", query_string={"parent": first["id"], "scope": "failed"})
    assert answer.headers["Location"] == "/upload", "none has failed"


@pytest.mark.parametrize("parent", ["00000000-0000-4000-8000-000000000000", "x", "theirs"])
def test_a_parent_that_is_not_yours(as_owner, conn, other, photos, parent):
    if parent == "theirs":
        parent = str(factories.make_batch(conn, user=other).id)
    path = {"path": "/batches/new", "query_string": {"image": photos[0].id, "parent": parent}}
    assert as_owner.get(**path).status_code == 404
    assert make(as_owner, photos, parent=parent).status_code == 404


def test_settings_last_used_come_back(as_owner, photos):
    make(as_owner, photos, seed="7")
    sent = dict(pages.check(as_owner.get(**new_url(photos))).form("/batches"))
    assert (sent["seed"], sent["setting"]) == ("7", "outdoor")
