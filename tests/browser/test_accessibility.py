"""WCAG 2.2 A and AA by axe-core on every page and state, no sideways scroll on a phone, light pages."""

import re
from pathlib import Path

import house as houses
import psycopg
import pytest
import scene as scenes
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from scene import ADMIN, EMPTY, NEW, set_scene

from i2i.gateways.storage import make_storage

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
OPTIONS = {"runOnly": RULES, "resultTypes": ["violations"]}
LOOKS = [
    ({"width": 360, "height": 780}, "light"),
    ({"width": 1024, "height": 768}, "dark"),
]


@pytest.fixture(scope="module")
def studio(still_house):
    """A database where everything has happened; no worker moves it."""
    house = still_house
    for email in (houses.EMAIL, EMPTY, NEW):
        house.make_user(email)
    house.make_user(ADMIN, role="admin")
    with psycopg.connect(house.database, autocommit=True) as conn:
        folder = Path(house.folder)
        storage = make_storage(f"file://{folder}/blobs", data_dir=folder)
        house.scene = set_scene(conn, storage, email=houses.EMAIL)
    return house


@pytest.fixture(scope="module")
def open_as(studio, browser):
    """A page of a signed-in browser, one for each user."""
    opened = {}

    def open_(email):
        if email not in opened:
            context = browser.new_context(base_url=studio.url)
            context.add_init_script(Axe().axe_script)
            page = opened[email] = context.new_page()
            if email:
                page.goto("/login")
                page.get_by_label("E-mail").fill(email)
                page.get_by_label("Password").fill(houses.PASSWORD)
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(re.compile("/(upload)?$|/account/password"))
        return opened[email]

    yield open_
    for page in opened.values():
        page.context.close()


def check(page):
    """Nothing that axe finds, and nothing wider than the window, in each look."""
    for viewport, scheme in LOOKS:
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        found = AxeResults(page.evaluate("options => axe.run(options)", OPTIONS))
        assert found.violations_count == 0, found.generate_report()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{page.url} scrolls sideways by {wide} px at {viewport}"


@pytest.mark.parametrize("name", scenes.PAGES)
def test_a_page_in_use(studio, open_as, name):
    page = open_as(houses.EMAIL)
    page.goto(studio.scene.paths[name])
    check(page)


@pytest.mark.parametrize("width", [1024, 1920])
def test_a_frame_has_one_size_in_every_state(studio, open_as, width):
    """A picture that goes its way moves nothing on the page."""
    page = open_as(houses.EMAIL)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(studio.scene.paths["batch-every-state"])
    sizes = page.eval_on_selector_all(
        ".frame", "all => all.map(each => `${each.clientWidth} × ${each.clientHeight}`)"
    )
    assert len(sizes) >= 16
    assert len(set(sizes)) == 1


def test_a_page_while_nothing_is_sent(studio, open_as):
    opened = "UPDATE breaker SET reason = 'balance', opened_at = now(), checked_at = now(),"
    studio.query(f"{opened} next_check_at = now() RETURNING 1")
    try:
        page = open_as(houses.EMAIL)
        page.goto(studio.scene.paths["batch-working"])
        page.get_by_text("Making pictures is paused.").wait_for()
        check(page)
    finally:
        closed = "UPDATE breaker SET reason = NULL, opened_at = NULL,"
        studio.query(f"{closed} next_check_at = NULL RETURNING 1")


@pytest.mark.parametrize("path", scenes.EMPTY_PAGES)
def test_a_page_with_nothing_yet(open_as, path):
    page = open_as(EMPTY)
    page.goto(path)
    check(page)


def test_uploading(open_as, tmp_path):
    page = open_as(EMPTY).context.new_page()  # one that may be left while it sends
    scenes.put_to_work(page, tmp_path)
    check(page)
    page.close()


@pytest.mark.parametrize("path", scenes.ADMIN_PAGES)
def test_a_page_of_the_admin(open_as, path):
    page = open_as(ADMIN)
    page.goto(path)
    check(page)


def test_signing_in(open_as):
    page = open_as(None)
    page.goto("/login")
    check(page)
    page.get_by_label("E-mail").fill("nobody@example.com")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    check(page)


def test_choosing_a_password(open_as):
    page = open_as(NEW)
    page.goto("/account/password")
    check(page)
    page.get_by_label("New password").fill("passwordpassword")
    page.get_by_role("button", name="Save the password").click()
    page.get_by_text("among the first that others try").wait_for()
    check(page)


def test_a_form_with_faults(studio, open_as):
    page = open_as(houses.EMAIL)
    page.goto(studio.scene.paths["new-batch"])
    page.get_by_role("textbox", name="Style strength").fill("750")
    page.get_by_role("button", name=re.compile("^Make ")).click()
    page.get_by_role("alert").wait_for()
    check(page)


def test_a_verdict_and_the_help_of_its_keys(studio, open_as):
    page = open_as(houses.EMAIL)
    page.goto(studio.scene.paths["review"])
    page.keyboard.press("r")
    page.get_by_role("radio", name="Colour").wait_for()
    check(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    check(page)
    page.keyboard.press("Escape")
    page.keyboard.press("z")
    page.keyboard.press("c")
    check(page)


@pytest.mark.parametrize("path", ["/login", "/upload", "batch-every-state"])
def test_a_first_view_is_light(studio, open_as, browser, path):
    """60 kB on the wire beside the pictures, with an empty cache and no proxy that compresses."""
    state = open_as(houses.EMAIL).context.storage_state() if path != "/login" else None
    context = browser.new_context(base_url=studio.url, storage_state=state)
    page = context.new_page()
    session = context.new_cdp_session(page)
    kinds, sizes = {}, {}
    session.on("Network.responseReceived", lambda it: kinds.update({it["requestId"]: it["type"]}))
    session.on(
        "Network.loadingFinished",
        lambda it: sizes.update({it["requestId"]: it["encodedDataLength"]}),
    )
    session.send("Network.enable")
    page.goto(studio.scene.paths.get(path, path), wait_until="networkidle")
    weighed = {each: size for each, size in sizes.items() if kinds.get(each) != "Image"}
    print(f"{path}: {sum(weighed.values()):,.0f} bytes in {len(weighed)} answers")
    context.close()
    assert {"Document", "Stylesheet", "Script"} <= {kinds.get(each) for each in weighed}
    assert sum(weighed.values()) <= 60_000
