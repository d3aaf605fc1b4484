"""Keeping settings under a name: from the form, into the form, renamed, deleted."""

import factories
import pages
import pytest
from orders import KEY, make, new_url, order


def save(browser, photos=(), **changes):
    sent = {"setting": "outdoor", "seed": "7", "preset_name": "Lookbook"} | changes
    return browser.json("/presets", method="POST", data=order(photos, **sent))


def listed(browser):
    return [each["name"] for each in browser.json("/presets").json["presets"]]


def applied(page):
    return [each.text for each in page.all("button", name="preset", aria_pressed="true")]


def test_saving_goes_back_to_the_form_with_everything_that_was_chosen(as_owner, photos):
    typed = order(
        photos[:2], seed="7", preset_name="Lookbook", variations="3", reference=[str(photos[2].id)]
    )
    answer = as_owner.post("/presets", data=typed)
    assert answer.status_code == 303
    page = pages.check(as_owner.get(answer.headers["Location"]))
    assert applied(page) == ["Lookbook"]
    sent = page.form("/batches")
    assert {value for name, value in sent if name == "image"} == set(typed["image"])
    kept = dict(sent)
    assert (kept["setting"], kept["seed"], kept["variations"]) == ("outdoor", "7", "3")
    assert (kept["reference"], kept["client_key"]) == (str(photos[2].id), KEY)
    assert make(as_owner, photos).status_code == 201


def test_saving_from_a_form_too_large_for_an_address(as_owner, conn, owner, photos):
    many = [factories.make_image(conn, user=owner) for _ in range(151)]
    page = pages.check(as_owner.post("/batches/new", data=order(many)))
    assert {each["formmethod"] for each in page.all("button", name="preset")} == {"post"}
    answer = as_owner.post("/presets", data=order(many, preset_name="Lookbook"))
    page = pages.check(answer)
    assert applied(page) == ["Lookbook"]
    assert page.one("h2", id="photos-title").text == "151 photos"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preset_name": ""}, "preset_name"),
        ({"preset_name": "x" * 61}, "preset_name"),
        ({"setting": "on the moon"}, "setting"),
        ({"seed": "x"}, "seed"),
        ({"workflow": "nowhere"}, "workflow"),
    ],
)
def test_what_does_not_hold_gives_the_form_back(as_owner, photos, changes, field):
    answer = save(as_owner, photos, **changes)
    assert (answer.status_code, answer.json["fields"].keys()) == (422, {field})
    typed = order(photos, seed="7", preset_name="Lookbook") | changes
    page = pages.check(as_owner.post("/presets", data=typed))
    assert page.one(role="alert").text.startswith(
        "1 setting needs a look. The preset was not saved."
    )
    assert page.one("input", name="preset_name")["value"] == typed["preset_name"]
    assert listed(as_owner) == []


def test_a_taken_name_is_replaced_when_asked(as_owner, photos):
    save(as_owner)
    answer = save(as_owner, seed="8")
    assert "Replace the one of this name" in answer.json["fields"]["preset_name"]
    assert save(as_owner, seed="8", preset_replace="1").status_code == 201
    (preset,) = as_owner.json("/presets").json["presets"]
    assert preset["parameters"] == {"setting": "outdoor", "seed": 8}


def test_choosing_fills_the_settings_and_leaves_the_rest(as_owner, photos):
    preset = save(as_owner).json["id"]
    typed = {"setting": "studio white", "seed": "1", "variations": 2, "client_key": KEY}
    page = pages.check(as_owner.get(**new_url(photos, preset=preset, **typed)))
    assert applied(page) == ["Lookbook"]
    kept = dict(page.form("/batches"))
    assert (kept["setting"], kept["seed"], kept["variations"]) == ("outdoor", "7", "2")
    page = pages.check(as_owner.get(**new_url(photos, preset="shipped", **typed)))
    assert applied(page) == ["Shipped settings"]
    kept = dict(page.form("/batches"))
    assert (kept["setting"], kept["seed"], kept["variations"]) == ("studio white", "", "2")


def test_the_last_used_settings_are_one_of_the_starts(as_owner, photos):
    page = pages.check(as_owner.get(**new_url(photos)))
    assert applied(page) == ["Shipped settings"]
    make(as_owner, photos, seed="9")
    page = pages.check(as_owner.get(**new_url(photos)))
    assert [each.text for each in page.all("button", name="preset")] == [
        "Shipped settings",
        "Last used",
    ]
    assert applied(page) == ["Last used"]
    page = pages.check(as_owner.get(**new_url(photos, preset="last")))
    assert dict(page.form("/batches"))["seed"] == "9"


def test_a_preset_of_another_day_keeps_what_fits_and_says_what_does_not(as_owner, conn, photos):
    preset = save(as_owner).json["id"]
    schema = factories.document()["parameter_schema"]
    schema["properties"]["setting"]["enum"] = ["studio white", "studio grey"]
    factories.make_workflow(conn, parameter_schema=schema)
    page = pages.check(as_owner.get(**new_url(photos, preset=preset)))
    kept = dict(page.form("/batches"))
    assert (kept["setting"], kept["seed"]) == ("studio white", "7")
    lost = page.one("div", class_="lost").text
    assert "Not everything of Lookbook fits any more" in lost
    assert "Setting: “outdoor” is no longer possible." in lost


@pytest.mark.parametrize("preset", ["00000000-0000-4000-8000-000000000000", "x", "theirs"])
def test_a_preset_that_is_not_yours(as_owner, as_other, photos, preset):
    if preset == "theirs":
        preset = save(as_other).json["id"]
    assert as_owner.get(**new_url(photos, preset=preset)).status_code == 404


def test_renaming_and_deleting_on_the_page(as_owner, photos):
    first, second = save(as_owner).json["id"], save(as_owner, preset_name="Street").json["id"]
    page = pages.check(as_owner.get("/presets"))
    assert [each.text for each in page.all("h2")] == ["Lookbook", "Street"]
    assert "outdoor, seed 7" in page.text
    answer = as_owner.post(f"/presets/{first}/rename", data={"name": "street"})
    assert answer.status_code == 422
    page = pages.check(answer)
    assert page.one("input", id=f"field-name-{first}")["value"] == "street"
    assert "You have a preset of this name." in page.one(role="alert").text
    answer = as_owner.post(f"/presets/{first}/rename", data={"name": "Alley"})
    assert pages.check(as_owner.get(answer.headers["Location"])).one(role="status").text == (
        "Preset renamed."
    )
    as_owner.post(f"/presets/{second}/delete")
    assert listed(as_owner) == ["Alley"]
    as_owner.post(f"/presets/{first}/delete")
    assert "No presets yet" in pages.check(as_owner.get("/presets")).text


def test_a_name_is_shown_never_run(as_owner, photos):
    evil = "<img src=x onerror=alert(1)>"
    save(as_owner, preset_name=evil)
    for answer in (as_owner.get("/presets"), as_owner.get(**new_url(photos))):
        page = pages.check(answer)
        assert evil in page.text
        assert not page.all("img", src="x")
