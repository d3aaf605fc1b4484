"""Looking at pictures: the slider, real pixels, and a review of a batch by keys, by hand and without JavaScript."""

import secrets
from pathlib import Path

import factories
import psycopg
import pytest
from house import wait_until
from playwright.sync_api import expect
from scene import Studio

from i2i import passwords
from i2i.gateways.storage import make_storage
from i2i.queries import sessions

WIDTH, HEIGHT = 768, 1024
"""Of every picture of the studio."""


@pytest.fixture(scope="session")
def house(still_house):
    return still_house


@pytest.fixture(scope="module")
def studio(house, somebody):
    """Makes finished pictures."""
    with psycopg.connect(house.database, autocommit=True) as conn:
        storage = make_storage(f"file://{house.folder}/blobs", data_dir=Path(house.folder))
        yield Studio(conn, storage, somebody())


@pytest.fixture
def enter(open_page, studio, house):
    """Opens pages as the owner of the studio."""

    def enter_one(**options):
        page = open_page(**options)
        token = secrets.token_hex(16)
        sessions.create(
            studio.conn,
            token_hash=passwords.hash_token(token),
            user_id=studio.user.id,
            user_agent="Chrome",
            ip_address="127.0.0.1",
        )
        page.context.add_cookies([{"name": "i2i", "value": token, "url": house.url}])
        return page

    return enter_one


@pytest.fixture
def keys_on(studio):
    """As everybody begins; a test may switch them off."""
    yield
    studio.conn.execute("UPDATE users SET review_keys = true WHERE id = %s", [studio.user.id])


@pytest.fixture
def make(studio):
    """Makes a batch with a job in each of these states; batch and jobs."""

    def make_one(states):
        batch, _ = studio.batch(states)
        return batch, factories.jobs_of(studio.conn, batch)

    return make_one


def verdicts(studio, batch):
    found = studio.conn.execute(
        "SELECT verdict, verdict_reason, verdict_note FROM processing_jobs"
        " WHERE batch_id = %s ORDER BY position",
        [batch.id],
    )
    return found.fetchall()


def scrolled(page):
    """How far each of the two windows is moved: left and top."""
    return page.locator("#pair .view").evaluate_all(
        "views => views.map(view => [view.scrollLeft, view.scrollTop])"
    )


def wait_for_top(page, top):
    """Until both windows stand there; a smooth scroll has ended then."""
    page.wait_for_function(
        "top => [...document.querySelectorAll('.view')].every(view => view.scrollTop === top)",
        arg=top,
    )


def arrive(page, words):
    """The page with these words, and its scripts listening: a key before them would be lost."""
    expect(page.get_by_text(words)).to_be_visible()
    page.wait_for_load_state()


def test_the_line_is_moved_by_keys_and_by_hand(enter, studio, make):
    _, (job,) = make(["completed"])
    page = enter(viewport={"width": 1280, "height": 800})
    page.goto(f"/jobs/{job.id}")
    slider = page.get_by_role("slider")
    expect(slider).to_have_value("50")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "Original 52 %, Result 48 %")
    page.keyboard.press("End")
    expect(page.locator(".pair-original")).to_have_css("clip-path", "inset(0px 0% 0px 0px)")
    box = page.locator("#pair").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(WIDTH / HEIGHT, abs=0.01)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"], box["y"] + 100)
    expect(slider).to_have_value("25")

    # Which view and which grey is remembered.
    page.get_by_role("button", name="Side by side").click()
    page.get_by_role("radio", name="Mid grey").check()
    page.reload()
    expect(page.get_by_role("button", name="Side by side")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("radio", name="Mid grey")).to_be_checked()
    expect(page.locator(".stage")).to_have_css("background-color", "rgb(119, 119, 119)")


def test_real_pixels_move_together(enter, studio, make):
    _, (job,) = make(["completed"])
    page = enter(viewport={"width": 900, "height": 600})
    page.goto(f"/jobs/{job.id}")
    for view in ("Slider", "Side by side"):
        page.get_by_role("button", name=view).click()
        page.get_by_role("button", name="1:1").click()
        result = page.get_by_role("img", name="Result of")
        box = result.bounding_box()
        assert (box["width"], box["height"]) == (WIDTH, HEIGHT)
        expect(result).to_have_attribute("src", f"/images/{job.result_image_id}")
        start = scrolled(page)
        assert start[0] == start[1] != [0, 0]
        window = page.locator(".pair-result .view")
        window.focus()
        page.keyboard.press("ArrowDown")
        wait_for_top(page, start[0][1] + 40)
        at = window.bounding_box()
        page.mouse.move(at["x"] + at["width"] - 20, at["y"] + at["height"] / 3)
        page.mouse.wheel(0, 2000)
        bottom = page.locator(".view").first.evaluate("one => one.scrollHeight - one.clientHeight")
        wait_for_top(page, bottom)
        page.mouse.down()
        page.mouse.move(at["x"] + at["width"] - 20, at["y"] + at["height"] / 3 + 60)
        page.mouse.up()
        wait_for_top(page, bottom - 60)
        page.get_by_role("button", name="Fit").click()
        assert result.bounding_box()["height"] < 600


def test_a_batch_is_looked_through_by_keys(enter, studio, make, keys_on):
    batch, jobs = make(["completed", "completed", "failed", "completed", "completed"])
    page = enter(viewport={"width": 1280, "height": 800})
    page.goto(f"/batches/{batch.id}/review")
    arrive(page, "1 of 4")
    # The files of the next one are there before they are asked for.
    page.wait_for_function(
        "url => performance.getEntriesByName(url).length > 0",
        arg=f"{page.url.partition('/jobs')[0]}/images/{jobs[1].result_image_id}?size=preview",
    )
    page.keyboard.press("c")
    expect(page.get_by_role("slider")).to_have_count(0)
    page.keyboard.press("z")
    expect(page.get_by_role("button", name="1:1")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowDown")  # moves the pictures, for they have the focus
    page.keyboard.press("z")
    page.keyboard.press("c")
    expect(page.get_by_role("slider")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("a")  # means nothing while the help is open
    page.keyboard.press("Escape")

    page.keyboard.press("a")
    arrive(page, "2 of 4")
    page.keyboard.press("r")
    expect(page.get_by_role("radio", name="Colour")).to_be_focused()
    page.keyboard.press("4")
    expect(page.get_by_role("radio", name="Hands or face")).to_be_checked()
    page.get_by_label("Note").fill("")
    page.get_by_label("Note").press_sequentially("car, 6 razor?")
    page.get_by_role("radio", name="Hands or face").focus()
    page.keyboard.press("Enter")
    arrive(page, "3 of 4")
    page.keyboard.press("Control+a")
    page.keyboard.press("ArrowRight")
    arrive(page, "4 of 4")
    page.keyboard.press("ArrowLeft")
    arrive(page, "3 of 4")
    page.keyboard.press("ArrowRight")
    arrive(page, "4 of 4")
    expect(page.locator(".film-approved")).to_have_count(1)
    page.keyboard.press("a")

    expect(page.get_by_role("heading", level=1)).to_have_text(
        "2 approved, 1 rejected, 1 not looked at"
    )
    assert verdicts(studio, batch) == [
        ("approved", None, ""),
        ("rejected", "anatomy", "car, 6 razor?"),
        (None, None, ""),
        (None, None, ""),
        ("approved", None, ""),
    ]
    expect(page.get_by_role("button", name="Run 1 rejected again")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 2 approved (ZIP)").click()
    assert download.value.suggested_filename.endswith("-approved.zip")
    page.get_by_role("link", name="Look at 1 more").click()
    arrive(page, "3 of 4")


def test_the_keys_can_be_switched_off(enter, studio, make, keys_on):
    batch, (first, _) = make(["completed"] * 2)
    page = enter(viewport={"width": 1280, "height": 800})
    page.goto(f"/jobs/{first.id}?review=1")
    page.keyboard.press("?")
    with page.expect_response("**/account/review-keys"):
        page.get_by_role("checkbox", name="Look through pictures by keys").uncheck()
    page.get_by_role("button", name="Close").click()
    for _ in range(2):
        for key in ("r", "c", "?", "ArrowRight", "a"):
            page.keyboard.press(key)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("slider")).to_have_count(1)
        expect(page.get_by_role("group", name="What is wrong?")).to_have_count(0)
        page.goto(f"/jobs/{first.id}?review=1")
    expect(page.locator("kbd:visible")).to_have_count(0)
    assert verdicts(studio, batch) == [(None, None, "")] * 2
    page.goto("/account")
    page.get_by_role("checkbox", name="Look through pictures by keys").check()
    page.get_by_role("button", name="Save the keys").click()
    page.goto(f"/jobs/{first.id}?review=1")
    page.keyboard.press("a")
    arrive(page, "2 of 2")


def test_on_a_phone_the_verdict_is_at_hand(enter, studio, make):
    batch, (first, _) = make(["completed"] * 2)
    page = enter(viewport={"width": 360, "height": 780}, has_touch=True)
    page.goto(f"/jobs/{first.id}?review=1")
    stage, film, name = (
        page.locator(each).bounding_box() for each in (".stage", ".film", ".review-side h1")
    )
    assert stage["y"] + stage["height"] <= film["y"] < name["y"]
    verdict = page.locator("#verdict").bounding_box()
    assert verdict["y"] + verdict["height"] == 780
    tab = page.locator(".tab").bounding_box()
    assert tab["y"] + tab["height"] <= verdict["y"]
    page.locator("#reject summary").tap()
    page.locator(".chip", has_text="Fit").tap()
    page.get_by_role("button", name="Save", exact=True).tap()
    arrive(page, "2 of 2")
    assert verdicts(studio, batch)[0] == ("rejected", "fit", "")


def size_of(page, name):
    """Width and height of a picture as it is shown; nothing until its file has come."""
    box = page.get_by_role("img", name=name).bounding_box()
    return box["width"], box["height"]


def test_a_review_without_javascript(enter, studio, make):
    batch, (first, _) = make(["completed"] * 2)
    page = enter(java_script_enabled=False, viewport={"width": 1280, "height": 800})
    page.goto(f"/batches/{batch.id}/review")
    original, result = (
        page.get_by_role("img", name=name).bounding_box() for name in ("Original ", "Result of")
    )
    assert original["x"] + original["width"] <= result["x"]
    page.get_by_role("link", name="1:1").click()
    expect(page.get_by_role("group", name="Both pictures at real pixels")).to_be_visible()
    wait_until(lambda: size_of(page, "Result of") == (WIDTH, HEIGHT), what="its real pixels")
    page.get_by_role("button", name="Approve").click()
    arrive(page, "2 of 2")
    page.get_by_role("link", name="Fit").click()
    expect(page.get_by_role("group", name="Both pictures at real pixels")).to_have_count(0)
    wait_until(lambda: 0 < size_of(page, "Result of")[0] < WIDTH, what="the picture, smaller")
    page.locator("#reject summary").click()
    page.locator(".chip", has_text="Background").click()
    page.get_by_label("Note").fill("Too grey.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 approved, 1 rejected")
    page.get_by_role("article").nth(1).get_by_role("link").click()
    expect(page.get_by_text("Rejected today")).to_contain_text("background")
    page.locator("#reject summary").click()
    page.get_by_role("button", name="Save and run again").click()
    expect(page.get_by_role("heading", name="New batch")).to_be_visible()
    expect(page.get_by_role("heading", name="1 photo")).to_be_visible()
    assert verdicts(studio, batch)[1] == ("rejected", "background", "Too grey.")
    page.goto(f"/jobs/{first.id}")
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Approved today")).to_have_count(0)
    assert verdicts(studio, batch)[0] == (None, None, "")
