"""The history in a real browser: find, choose, delete, get back; with script, without, by keyboard."""

import re

import factories
import house as houses
import psycopg
import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="session")
def house(still_house):
    return still_house


@pytest.fixture(scope="module")
def user(somebody):
    return somebody()


@pytest.fixture
def pictures_of(house, user):
    """Writes down finished pictures with these names, as one batch."""

    def make(*names):
        with psycopg.connect(house.database, autocommit=True) as conn:
            photos = [factories.make_image(conn, user=user, name=name) for name in names]
            batch = factories.make_batch(conn, user=user, photos=photos)
            for job in factories.jobs_of(conn, batch):
                factories.move(conn, job, user=user, status="completed")

    return make


def sign_in(page, user):
    page.goto("/login?next=/jobs")
    page.get_by_label("E-mail").fill(user.email)
    page.get_by_label("Password").fill(houses.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="History")).to_be_visible()


def search(page, words):
    page.get_by_role("searchbox").fill(words)
    page.get_by_role("searchbox").press("Enter")
    expect(page).to_have_url(re.compile("q=" + words))


def test_choose_delete_and_get_back(pictures_of, open_page, user):
    names = [f"scripted-{number:02}.jpg" for number in range(30)]
    pictures_of(*names, "kept.jpg")
    page = open_page()
    sign_in(page, user)
    search(page, "scripted")
    dock, frames = page.locator("#chosen"), page.locator(".frame")
    expect(frames).to_have_count(24)
    expect(dock.get_by_role("button", name="Delete…")).to_be_hidden()

    boxes = page.locator(".pick")
    boxes.nth(1).check()
    boxes.nth(4).click(modifiers=["Shift"])
    expect(dock).to_contain_text("4 selected")
    expect(dock.get_by_role("button", name="Download 4 (ZIP)")).to_be_visible()
    dock.get_by_role("button", name="All 30").click()
    expect(dock).to_contain_text("30 selected")
    boxes.nth(0).uncheck()
    expect(dock).to_contain_text("23 selected")
    dock.get_by_role("button", name="All 30").click()

    dock.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete 30 pictures?")).to_be_visible()
    page.get_by_role("button", name="Delete 30 pictures").click()
    expect(page.get_by_text("No file name contains “scripted”")).to_be_visible()

    page.get_by_role("link", name="Trash").click()
    page.get_by_role("button", name=re.compile("^Restore scripted")).first.click()
    page.get_by_role("button", name="Restore all").click()
    expect(page.get_by_role("heading", name="The trash is empty")).to_be_visible()
    page.goto("/jobs?q=scripted")
    expect(frames).to_have_count(24)
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("link", name="31 photos, ")).to_be_visible()
    page.get_by_role("link", name="Pictures").click()
    for number in range(2):
        boxes.nth(number).check()
    dock.get_by_role("button", name="Run again…").click()
    expect(page.get_by_role("heading", name="2 photos")).to_be_visible()


def test_without_javascript(pictures_of, open_page, user):
    pictures_of("plain-1.jpg", "plain-2.jpg", "plain-3.jpg", "kept.jpg")
    page = open_page(java_script_enabled=False)
    sign_in(page, user)
    search(page, "plain")
    page.get_by_role("checkbox", name="Choose plain-2.jpg").check()
    page.get_by_role("button", name="Run again…").click()
    expect(page.get_by_role("heading", name="1 photo")).to_be_visible()
    page.goto("/jobs?q=plain")
    page.get_by_role("checkbox", name="Choose plain-2.jpg").check()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete 1 picture?")).to_be_visible()
    page.get_by_role("link", name="Keep").click()
    page.get_by_role("checkbox", name="All 3 that this filter finds").check()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 3 pictures").click()
    expect(page.get_by_text("No file name contains “plain”")).to_be_visible()
    page.goto("/trash")
    for _ in range(3):
        page.get_by_role("button", name=re.compile("^Restore plain")).first.click()
    page.goto("/jobs?q=plain")
    expect(page.locator(".frame")).to_have_count(3)
    page.get_by_role("link", name="Failed").click()
    expect(page.get_by_role("heading", name="No picture matches")).to_be_visible()
    page.goto("/jobs?view=batches&q=plain")
    expect(page.get_by_role("link", name="4 photos, ")).to_be_visible()


def test_by_keyboard(pictures_of, open_page, user):
    pictures_of("keys-1.jpg", "keys-2.jpg")
    page = open_page()
    sign_in(page, user)
    search(page, "keys")
    page.get_by_role("checkbox", name="Choose keys-1.jpg").focus()
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_contain_text("1 selected")
    page.get_by_role("button", name="Delete…").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Delete 1 picture?")).to_be_visible()
    page.get_by_role("button", name="Delete 1 picture").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".frame")).to_have_count(1)
    page.goto("/trash")
    page.get_by_role("button", name="Restore keys-1.jpg").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Restore keys-1.jpg")).to_have_count(0)
