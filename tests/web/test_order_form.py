"""The form of a new batch: choosing, filling in, sums, and what does not hold."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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


def test_more_references_are_paged_and_the_ticked_ones_stay(as_owner, conn, owner, photos):
    began = datetime(2026, 1, 1, tzinfo=UTC)
    many = [
        factories.make_image(conn, user=owner, created_at=began + timedelta(hours=n))
        for n in range(20)
    ]
    first = pages.check(as_owner.get(**new_url(photos[:1], reference=many[0].id)))
    boxes = [box["value"] for box in first.all("input", name="reference")]
    assert boxes[0] == str(many[0].id), "the ticked one comes first"
    assert set(boxes[4:]) == {str(each.id) for each in many[11:]}, "newest first, after the photos"
    (older,) = first.all("button", name="uploads")
    second = pages.check(
        as_owner.get(**new_url(photos[:1], reference=many[0].id, uploads=older["value"]))
    )
    boxes = [box["value"] for box in second.all("input", name="reference")]
    assert set(boxes) == {str(each.id) for each in many[:11]}
    assert second.one("input", name="uploads")["value"] == older["value"]
    (newest,) = second.all("button", name="uploads")
    assert newest["value"] == ""
    assert as_owner.get(**new_url(photos[:1], uploads="forged")).status_code == 404


def test_another_workflow_takes_along_what_was_changed_and_fits(as_owner, conn, photos):
    schema = factories.document()["parameter_schema"]
    schema["properties"]["setting"]["enum"] = ["outdoor", "at sea"]
    defaults = {"setting": "at sea"}
    factories.make_workflow(
        conn, id="sea-v1", name="Sea", parameter_schema=schema, default_parameters=defaults
    )

    def switched(**typed):
        query = {"workflow": "basic-v1", "switch": "sea-v1", "client_key": KEY, "variations": 3}
        page = pages.check(as_owner.get(**new_url(photos, **query, **typed)))
        assert page.one("button", name="switch", aria_pressed="true")["value"] == "sea-v1"
        kept = dict(page.form("/batches"))
        assert (kept["workflow"], kept["variations"]) == ("sea-v1", "3")
        return kept["setting"], kept["seed"]

    assert switched(setting="studio white", seed="") == ("at sea", ""), "nothing was changed"
    assert switched(setting="outdoor", seed="7") == ("outdoor", "7")
    assert switched(setting="outdoor", seed="x") == ("outdoor", "")
    make(as_owner, photos, workflow="sea-v1", setting="at sea", seed="5")
    assert switched(setting="studio white", seed="") == ("at sea", "5"), "last used"


def test_the_workflow_says_how_long_its_pictures_took(as_owner, conn, owner, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    assert "time: no data yet" in page.one("button", name="switch").text
    assert "How long it takes: no data yet." in page.text
    factories.make_job(conn, user=owner, status="completed", image=photos[0])
    page = pages.check(as_owner.get(**new_url(photos, variations=4)))
    assert "usually 4 s" in page.one("button", name="switch").text
    assert "Usually 4 s each, about 8 s in all." in page.text, "ten at once"


def test_a_workflow_shows_its_sample_once_it_has_one(as_owner, conn, admin, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    assert page.one("button", name="switch").one("svg", class_="figure")
    job = factories.make_job(conn, user=admin, status="completed")
    conn.execute("UPDATE workflow_configs SET sample_job_id = %s", [job.id])
    page = pages.check(as_owner.get(**new_url(photos)))
    assert [each["src"] for each in page.one("button", name="switch").all("img")] == [
        "/workflows/basic-v1/sample/original",
        "/workflows/basic-v1/sample/result",
    ]


def test_the_docket_of_a_pilot(as_owner, photos):
    sent = order(photos, variations="2", pilot="2", pilot_photos="1")
    page = pages.check(as_owner.post("/batches/estimate", data=sent), whole=False)
    assert page.one("button").text == "Make the first 2 pictures"
    sums = [each.text for each in page.all("dd")]
    assert sums == ["3", "× 2", "6", "× $0.035", "$0.21", "$0.07"]
    assert [each.text for each in page.all("dt")][-1] == "First 2, about"
    assert "4 pictures wait for your answer after the first 2." in page.text
    assert page.one(role="status").text == "3 photos × 2 = 6 pictures, about $0.21."
    made = make(as_owner, photos, variations="2", pilot="2", pilot_photos="1").json
    assert made["counts"] == {"pending": 2, "held": 4}
    assert make(as_owner, photos, client_key=KEY[::-1], pilot_photos="1").json["counts"] == {
        "pending": 3
    }, "the box is not ticked"


def test_the_docket_for_scripts(as_owner, conn, photos):
    def ask(**changes):
        data = order(photos, **changes)
        return as_owner.json("/batches/estimate", method="POST", data=data).json

    assert ask(variations="3") == {
        "pictures": 9,
        "total": "0.315",
        "summary": "3 photos × 3 = 9 pictures, about $0.315. How long it takes: no data yet.",
        "warning": None,
    }
    assert ask(seed="x", variations="x")["pictures"] == 3, "as far as it can be counted"
    factories.make_workflow(conn, unit_price=None)
    assert ask()["total"] is None
    assert conn.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_photos_of_different_prices(as_owner, conn, owner, photos):
    factories.make_workflow(conn, price_unit="megapixel", max_side=2048)
    large = factories.make_image(conn, user=owner, size=(2000, 1500))
    page = pages.check(as_owner.get(**new_url([photos[0], large])))
    assert "$0.035 to $0.105" in page.text
    assert page.one("dd", data_total=True).text == "$0.14"
    assert "data-each" not in page.one("div", data_docket=True).attributes


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ({"DAILY_PICTURES_PER_USER": "5"}, "Only 5 more pictures may be made today. Choose fewer,"),
        ({"DAILY_PICTURES": "1"}, "Only 1 more picture may be made today. Choose fewer,"),
        ({"DAILY_PICTURES": "0"}, "No more pictures may be made today. Go on tomorrow (UTC)."),
        ({"MAX_JOBS_PER_BATCH": "5"}, "6 pictures are more than the 5 that one batch may have."),
    ],
)
def test_a_wish_over_the_limit_is_told_before_the_click(
    app, as_owner, make_settings, photos, limit, sentence
):
    app.extensions["i2i"] = replace(app.extensions["i2i"], settings=make_settings(**limit))
    page = pages.check(as_owner.get(**new_url(photos, variations=2)))
    assert page.one("p", data_warning=True).text.startswith(sentence)
    assert make(as_owner, photos, variations="2").status_code == 422


def test_nothing_is_said_of_limits_that_are_far(as_owner, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    assert page.one("p", data_warning=True).text == ""


def test_advanced_is_folded_until_something_in_it_matters(as_owner, conn, photos):
    schema = factories.document()["parameter_schema"]
    schema["properties"]["seed"]["x-advanced"] = True
    factories.make_workflow(conn, parameter_schema=schema)

    def fold(answer):
        return pages.check(answer).one("details", class_="advanced")

    assert "open" not in fold(as_owner.get(**new_url(photos))).attributes
    assert fold(as_owner.get(**new_url(photos))).one("summary").text == "Advanced seed"
    assert "open" in fold(as_owner.get(**new_url(photos, seed="7"))).attributes
    assert "open" in fold(as_owner.post("/batches", data=order(photos, seed="x"))).attributes
    assert (
        "open"
        not in fold(
            as_owner.post("/batches", data=order(photos, seed="", variations="x"))
        ).attributes
    )


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
    assert answer.json["fields"][field].casefold() in summary.text.casefold()
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


def test_a_link_to_a_workflow_that_was_switched_off(as_owner, conn, photos):
    factories.make_workflow(conn, id="other-v1", name="Other")
    first = make(as_owner, photos).json
    workflow_service.set_active(conn, workflow_id="basic-v1", is_active=False, cancel_waiting=False)
    page = pages.check(as_owner.get(f"/batches/new?parent={first['id']}"))
    assert page.one(id="error-workflow").text == "This workflow is switched off. Choose another."
    assert [each["value"] for each in page.all("button", name="switch")] == ["other-v1"]
    assert not page.all("button", name="switch", aria_pressed="true")


def test_a_photo_deleted_meanwhile_is_gone_and_the_rest_is_kept(as_owner, conn, owner, photos):
    image_queries.set_deleted(conn, image_id=photos[0].id, user_id=owner.id, deleted=True)
    answer = as_owner.post("/batches", data=order(photos, seed="7"))
    assert answer.status_code == 422
    page = pages.check(answer)
    assert "deleted in the meantime" in page.one(role="alert").text
    sent = page.form("/batches")
    kept = {value for name, value in sent if name == "image"}
    assert kept == {str(each.id) for each in photos[1:]}
    assert ("seed", "7") in sent
    assert as_owner.json("/batches", method="POST", data=order(photos[1:])).status_code == 201


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


KINDS = {
    "shape": {"type": "string", "enum": ["1:1", "3:4", "custom"], "x-widget": "shape"},
    "light": {"type": "string", "enum": ["studio", "soft"]},
    "tone": {"type": "string", "enum": ["any", "warm"]},
    "strength": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "x-widget": "slider",
        "x-labels": {"0": "as shot", "100": "restyled"},
    },
    "steps": {"type": "integer", "minimum": 1, "maximum": 50, "x-advanced": True},
    "guidance": {"type": "number", "minimum": 1, "maximum": 20},
    "words": {"type": "string", "maxLength": 10},
    "border": {"type": "boolean"},
    "width": {
        "type": "integer",
        "minimum": 512,
        "maximum": 2048,
        "x-when": {"shape": "custom"},
    },
}
FINE = {
    "shape": "custom",
    "light": "soft",
    "tone": "warm",
    "strength": "40",
    "steps": "9",
    "guidance": "2.5",
    "words": "linen",
    "border": "true",
    "width": "600",
}
WRONG = {
    "shape": "7:1",
    "light": "neon",
    "tone": "blue",
    "strength": "750",
    "steps": "1.5",
    "guidance": "much",
    "words": "far too many",
    "border": "perhaps",
    "width": "12",
}


@pytest.fixture
def every_kind(conn, owner):
    """A workflow with a field of each kind, and two photos."""
    factories.make_workflow(
        conn,
        parameter_schema={
            "type": "object",
            "additionalProperties": False,
            "required": [*(KINDS.keys() - {"width", "words"})],
            "properties": {
                name: prop | {"title": name.capitalize(), "x-order": order}
                for order, (name, prop) in enumerate(KINDS.items())
            },
        },
        default_parameters={
            "shape": "1:1",
            "light": "studio",
            "tone": "any",
            "strength": 75,
            "steps": 28,
            "guidance": 4.5,
            "border": False,
            "width": 864,
        },
        request_template={
            "prompt": "made",
            **{name: f"{{{{ {name} | default(none) }}}}" for name in KINDS},
            "image_urls": "{{ image_urls + references }}",
        },
    )
    return [factories.make_image(conn, user=owner) for _ in range(3)]


@pytest.mark.parametrize("wrong", [*([name] for name in KINDS), [*KINDS]], ids="-".join)
def test_each_kind_of_field_keeps_what_was_typed(as_owner, every_kind, wrong):
    typed = FINE | {name: WRONG[name] for name in wrong}
    if wrong == [*KINDS]:
        del typed["width"], wrong[-1]  # counts only while the shape is custom, which it is not
    elsewhere = {"variations": "3", "pilot": "2", "pilot_photos": "1", "setting": None}
    sent = order(every_kind, reference=[str(every_kind[0].id)]) | typed | elsewhere
    del sent["setting"]
    answer = as_owner.post("/batches", data=sent)
    assert answer.status_code == 422
    page = pages.check(answer)
    links = {each["href"] for each in page.one(role="alert").all("a")}
    assert links == {f"#field-{name}" for name in wrong}
    for name in wrong:
        assert page.one(id=f"error-{name}").text
    kept = page.form("/batches")
    for name, value in typed.items():
        # A radio or a list cannot show a value that it does not have, nor can a box.
        offered = name not in wrong or "enum" not in KINDS[name]
        if offered and not (name == "border" and name in wrong):
            assert (name, value) in kept
    for name in ("variations", "pilot", "pilot_photos", "client_key", "workflow"):
        assert (name, sent[name]) in kept
    assert [value for name, value in kept if name == "reference"] == sent["reference"]
    assert {value for name, value in kept if name == "image"} == set(sent["image"])


def test_what_counts_only_sometimes_says_when(as_owner, every_kind):
    page = pages.check(as_owner.get(**new_url(every_kind)))
    field = page.one("div", data_when="shape")
    assert field["data-when-value"] == "custom"
    assert "Counts only while Shape is “Custom”." in field.text


def test_everything_that_is_wrong_is_named_at_once(as_owner, photos):
    answer = make(as_owner, photos, seed="x", variations="9", pilot="x", reference=[KEY * 2])
    assert answer.json["fields"].keys() == {"seed", "variations", "pilot", "reference"}


def test_a_photo_that_is_not_readable_can_be_left_out(as_owner, conn, owner, photos):
    bad = factories.make_image(conn, user=owner, status="rejected", name="bad.jpg")
    page = pages.check(as_owner.post("/batches", data=order([*photos, bad], seed="7")))
    (button,) = page.all("button", name="without")
    assert button["value"] == str(bad.id)
    query = {"without": bad.id, "seed": "7", "client_key": KEY}
    page = pages.check(as_owner.get(**new_url([*photos, bad], **query)))
    sent = page.form("/batches")
    assert ("seed", "7") in sent
    assert str(bad.id) not in {value for _, value in sent}
    assert page.one("h2", id="photos-title").text == "3 photos"


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


# --- Another selection --------------------------------------------------------------------------


def fields_of(sent):
    """As a client sends a form's fields, each with all its values."""
    return {name: [value for other, value in sent if other == name] for name, _ in sent}


def test_a_choice_on_the_upload_page_gets_an_address(as_owner, photos):
    sent = {"image": [str(photo.id) for photo in photos[:2]]}
    answer = as_owner.post("/batches/new", data=sent)
    assert answer.status_code == 303
    page = pages.check(as_owner.get(answer.headers["Location"]))
    assert page.one("h2", id="photos-title").text == "2 photos"


def test_another_selection_loses_nothing_typed(as_owner, conn, owner, photos):
    """Not even what does not hold, nor what shall be kept as a preset."""
    photos = [*photos, factories.make_image(conn, user=owner)]
    typed = {
        "setting": "outdoor",
        "seed": "not a number",
        "variations": "3",
        "pilot": "2",
        "pilot_photos": "1",
        "reference": [str(photos[2].id), str(photos[0].id)],
        "preset_name": EVIL,
    }
    page = pages.check(as_owner.get(**new_url(photos, client_key=KEY, **typed)))
    (change,) = (each for each in page.all("button") if each.text == "Change selection")
    assert (change["formaction"], change["formmethod"]) == ("/upload", "get")
    query = fields_of(page.form("/batches"))
    page = pages.check(as_owner.get("/upload", query_string=query))
    sent = fields_of(page.form("/batches/new"))
    assert sorted(sent["image"]) == sorted(str(photo.id) for photo in photos)
    sent["image"].remove(str(photos[1].id))
    answer = as_owner.post("/batches/new", data=sent)
    page = pages.check(as_owner.get(answer.headers["Location"]))
    again = fields_of(page.form("/batches"))
    assert again == query | {"image": again["image"]}
    assert sorted(again["image"]) == sorted(sent["image"])
    assert again["seed"] == ["not a number"]


def test_what_is_typed_survives_pages_links_and_an_empty_choice(as_owner, conn, owner, photos):
    """All photos unticked, another page of uploads, all ticked by the link."""
    for _ in range(60):
        factories.make_image(conn, user=owner)
    query = order(photos[:1], seed="77")
    page = pages.check(as_owner.get("/upload", query_string=query))
    links = [link["href"] for link in page.all("a", rel="next")]
    links += [page.one("a", id=each)["href"] for each in ("all", "none")]
    nothing = fields_of(page.form("/batches/new")) | {"image": []}
    links.append(as_owner.post("/batches/new", data=nothing).headers["Location"])
    for link in links:
        sent = fields_of(pages.check(as_owner.get(link)).form("/batches/new"))
        assert (sent["seed"], sent["client_key"], sent["setting"]) == (["77"], [KEY], ["outdoor"])


def test_a_thousand_photos_can_be_chosen_and_chosen_anew(as_owner, conn, owner, other, photos):
    ids = [str(factories.make_image(conn, user=owner).id) for _ in range(1000)]
    page = pages.check(as_owner.post("/batches/new", data={"image": ids}))
    assert page.one("h2", id="photos-title").text == "1,000 photos"
    (change,) = (each for each in page.all("button") if each.text == "Change selection")
    assert change["formmethod"] == "post"
    sent = fields_of(page.form("/batches")) | {"setting": ["studio white"], "seed": ["5"]}
    answer = as_owner.post("/batches", data=sent)
    assert answer.status_code == 422
    assert "more than the 200 that one batch may have" in answer.text
    theirs = str(factories.make_image(conn, user=other).id)
    page = pages.check(as_owner.post("/upload", data=sent | {"image": [*ids, theirs]}))
    assert "955 photos on other pages are chosen as well" in page.text
    sent = fields_of(page.form("/batches/new"))
    assert sorted(sent["image"]) == sorted(ids)
    assert sent["seed"] == ["5"]
    page = pages.check(as_owner.post("/batches/new", data=sent | {"image": ids[:200]}))
    assert page.one("h2", id="photos-title").text == "200 photos"
    assert dict(page.form("/batches"))["seed"] == "5"
