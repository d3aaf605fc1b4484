"""Filling in a new batch: with JavaScript and by keyboard, and without either."""

import re

import pictures
import pytest
from house import Visitor, wait_until
from PIL import Image
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def visitor(house, somebody):
    return Visitor(house, somebody().email)


@pytest.fixture(scope="module")
def photos(visitor):
    """The ids of fourteen small photos that are ready."""
    sizes = [(60 + number, 80) for number in range(14)]
    ids = [
        visitor.upload(f"look{number:02}.jpg", pictures.jpeg(Image.new("RGB", size, "grey")))["id"]
        for number, size in enumerate(sizes)
    ]
    wait_until(
        lambda: all(visitor.get(f"/images/{each}").json()["status"] == "ready" for each in ids),
        what="fourteen ready photos",
    )
    return ids


@pytest.fixture
def enter(open_page, visitor, photos):
    """Opens the form for three photos."""

    def enter_one(**options):
        page = open_page(**options)
        name, _, value = visitor.headers["Cookie"].partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": visitor.house.url}])
        query = "&".join(f"image={each}" for each in photos[:3])
        page.goto(f"/batches/new?{query}&preset=shipped")
        return page

    return enter_one


def make_button(page):
    return page.get_by_role("button", name=re.compile("^Make "))


def total(page):
    return page.locator("[data-total]")


def test_sliders_sums_and_conditions(enter):
    page = enter()
    strength = page.get_by_role("slider", name="Style strength")
    number = page.get_by_role("textbox", name="Style strength")
    expect(strength).to_have_attribute("aria-valuetext", "75, strong")
    strength.focus()
    page.keyboard.press("End")
    expect(number).to_have_value("100")
    expect(page.locator(".slider-word")).to_have_text("restyled")
    number.fill("20")
    expect(strength).to_have_value("20")
    expect(page.locator(".slider-word")).to_have_text("light")

    page.get_by_role("radio", name="1", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(make_button(page)).to_have_text("Make 6 pictures")
    expect(total(page)).to_have_text("$0.18")

    width = page.get_by_role("textbox", name="Width")
    expect(width).to_be_hidden()
    page.get_by_role("radio", name="Custom").check()
    for label in ("Width", "Height"):
        page.get_by_role("textbox", name=label).fill("2048")
    expect(total(page)).to_have_text("$0.90")  # five megapixels each, as only the server knows
    expect(page.locator("[data-sentence]")).to_have_text("3 photos × 2 = 6 pictures, about $0.90.")

    page.get_by_role("textbox", name="Photos to make first").fill("1")
    expect(page.get_by_role("checkbox", name="Make the first")).to_be_checked()
    expect(page.locator("[data-rest]")).to_have_text("2")
    expect(make_button(page)).to_have_text("Make the first 2 pictures")
    expect(page.locator(".sum-grand")).to_have_text(re.compile(r"First 2, about\s*\$0.30"))

    # Without an answer the old price does not stand there as if it were the new one.
    page.route("**/batches/estimate", lambda route: route.abort("internetdisconnected"))
    page.get_by_role("radio", name="1:1").check()
    expect(total(page)).to_have_text("…")
    page.unroute("**/batches/estimate")
    page.get_by_role("button", name="Update estimate").click()
    expect(total(page)).to_have_text("$0.18")
    expect(page.get_by_role("radio", name="1:1")).to_be_checked()


def test_the_form_by_keyboard(house, enter, visitor):
    page = enter()
    start = page.url
    page.locator("summary", has_text="Advanced").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("7")
    with page.expect_response("**/batches/estimate"):
        page.keyboard.press("Enter")  # which never spends
    assert page.url == start

    page.locator("summary", has_text="Save these settings").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("Keyboard look")
    page.keyboard.press("Enter")
    preset = page.get_by_role("button", name="Keyboard look", exact=True)
    expect(preset).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("textbox", name="Seed")).to_have_value("7")
    page.get_by_role("radio", name="Studio", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(preset).to_have_attribute("aria-pressed", "false")

    older = page.get_by_role("button", name="More of your uploads")
    expect(page.locator("[name=reference]")).to_have_count(12)
    older.focus()
    page.keyboard.press("Enter")
    expect(page.locator("[name=reference]")).to_have_count(14)
    expect(page.locator("[name=reference]:focus")).to_have_count(1)
    for name in ("look00.jpg", "look05.jpg", "look13.jpg"):
        page.get_by_role("checkbox", name=name).focus()
        page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="look04.jpg")).to_be_disabled()

    page.get_by_role("textbox", name="Style strength").fill("750")
    make_button(page).focus()
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text("Style strength: choose a number from 0 to 100.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    number = page.get_by_role("textbox", name="Style strength")
    expect(number).to_be_focused()
    expect(page.get_by_role("radio", name="Natural")).to_be_checked()
    for name in ("look00.jpg", "look05.jpg", "look13.jpg"):
        expect(page.get_by_role("checkbox", name=name)).to_be_checked()
    number.fill("50")
    make_button(page).focus()
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_count(3)
    batch = visitor.get(page.url.removeprefix(house.url)).json()
    asked = batch["jobs"][0]["parameters"]
    assert (asked["seed"], asked["style_strength"], asked["lighting_style"]) == (7, 50, "natural")
    page.goto(start.partition("&preset")[0])  # what was used last is where the next one begins
    expect(page.get_by_role("radio", name="Natural")).to_be_checked()


def test_the_form_without_javascript(house, enter, visitor):
    page = enter(java_script_enabled=False)
    page.get_by_role("radio", name="9:16").check()
    page.get_by_role("radio", name="2", exact=True).check()
    page.get_by_role("checkbox", name="Make the first").check()
    page.get_by_role("textbox", name="Photos to make first").fill("1")
    page.locator("aside").get_by_role("button", name="Update estimate").click()
    expect(make_button(page)).to_have_text("Make the first 2 pictures")
    expect(total(page)).to_have_text("$0.18")

    page.get_by_role("button", name="More of your uploads").click()
    page.get_by_role("checkbox", name="look13.jpg").check()
    page.get_by_role("button", name="Newest uploads").click()
    expect(page.get_by_role("heading", name="References")).to_be_in_viewport()
    expect(page.get_by_role("checkbox", name="look13.jpg")).to_be_checked()
    expect(page.get_by_role("checkbox", name="look00.jpg")).to_be_visible()

    page.get_by_text("Save these settings as a preset…").click()
    page.get_by_role("button", name="Save preset").click()
    expect(page.get_by_role("alert")).to_contain_text("Write a name.")
    page.get_by_role("textbox", name="Name of the preset").fill("Plain look")
    page.get_by_role("button", name="Save preset").click()
    saved = page.get_by_role("button", name="Plain look")
    expect(saved).to_have_attribute("aria-pressed", "true")
    expect(saved).to_be_in_viewport()

    page.get_by_role("button", name=re.compile("^Mannequin to human 2")).click()
    expect(page.get_by_role("heading", name="Workflow")).to_be_in_viewport()
    expect(page.get_by_role("radio", name="9:16")).to_be_checked()  # goes along, for it fits
    expect(saved).to_have_count(0)
    page.get_by_role("button", name=re.compile("^Mannequin to human 1")).click()
    page.get_by_role("button", name="Shipped settings").click()
    expect(page.get_by_role("radio", name="4:3")).to_be_checked()
    saved.click()
    expect(page.get_by_role("radio", name="9:16")).to_be_checked()
    expect(page.get_by_role("checkbox", name="look13.jpg")).to_be_checked()

    make_button(page).click()
    expect(page.locator("article")).to_have_count(6)
    batch = visitor.get(page.url.removeprefix(house.url)).json()
    assert sum(job["status"] == "held" for job in batch["jobs"]) == 4
    assert {job["parameters"]["aspect_ratio"] for job in batch["jobs"]} == {"9:16"}

    page.goto("/presets")
    entry = page.locator("li", has=page.get_by_role("heading", name="Plain look"))
    entry.get_by_text("Rename or delete").click()
    entry.get_by_role("textbox", name="New name").fill("Renamed look")
    entry.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Renamed look")).to_be_visible()
    entry = page.locator("li", has=page.get_by_role("heading", name="Renamed look"))
    entry.get_by_text("Rename or delete").click()
    entry.get_by_role("button", name="Delete Renamed look").click()
    expect(page.get_by_role("status")).to_have_text("Preset deleted.")
    expect(entry).to_have_count(0)
