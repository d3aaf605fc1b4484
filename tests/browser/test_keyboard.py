"""The whole job without a mouse, from the sign-in to the sign-out; at every stop one sees where one is."""

import re

import house as houses
import pictures
from playwright.sync_api import expect

FURTHEST = 120
"""Stops that a page may have; who has not arrived by then is in a trap."""

STOP = """() => {
  const one = document.activeElement;
  if (one === document.body) return { name: "", ring: true, inside: true, covered: false };
  const isDrawn = (element, part) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(element, part);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && getComputedStyle(element).opacity > 0;
  };
  let ring = one;
  while (ring && !isDrawn(ring) && !isDrawn(ring, "::after")) ring = ring.parentElement;
  const box = one.getBoundingClientRect();
  const [left, right] = [Math.max(0, box.left), Math.min(innerWidth, box.right)];
  const [top, bottom] = [Math.max(0, box.top), Math.min(innerHeight, box.bottom)];
  const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return {
    name: one.getAttribute("aria-label") ?? one.labels?.[0]?.innerText ?? one.innerText ?? one.tagName,
    ring: Boolean(ring),
    inside: right - left >= 1 && bottom - top >= 1,
    covered: !over || !((ring ?? one).contains(over) || over.contains(one)),
  };
}"""
"""What has the focus: whether a line is drawn around it (or around what it fills), whether any of it
is in the window, and whether something else lies over its middle."""


def check_stop(page):
    stop = page.evaluate(STOP)
    assert stop["ring"], f"no line shows the focus at {stop['name']!r} of {page.url}"
    assert stop["inside"], f"{stop['name']!r} of {page.url} has the focus out of sight"
    assert not stop["covered"], f"{stop['name']!r} of {page.url} has the focus under something else"


def go_to(page, target, *, key="Tab"):
    """Tab by tab until the target has the focus."""
    for _ in range(FURTHEST):
        page.keyboard.press(key)
        check_stop(page)
        if target.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{target} cannot be reached by {key} on {page.url}")


def press(page, target, *, key="Tab"):
    """Go to a button or a link and press it."""
    go_to(page, target, key=key)
    page.keyboard.press("Enter")


def choose_radio(page, target, *, arrow):
    """Go to the group, which is one stop, and by arrows to one of its choices."""
    name = target.get_attribute("name")
    go_to(page, page.locator(f'input[name="{name}"]:checked'))
    for _ in range(12):
        if target.is_checked():
            return
        page.keyboard.press(arrow)
        check_stop(page)
    raise AssertionError(f"{target} cannot be reached by {arrow}")


def test_the_whole_job_by_keyboard_alone(somebody, open_page, tmp_path):
    email = somebody().email
    files = [tmp_path / f"{name}.jpg" for name in ("chelsea", "coffee", "rocket")]
    for path in files:
        suffix = ".jpg" if f"{path.stem}.jpg" in pictures.PHOTOS else ".png"
        path.write_bytes(pictures.jpeg(pictures.photo(path.stem + suffix)))
    page = open_page(viewport={"width": 1280, "height": 720})
    page.on("filechooser", lambda _: None)  # from now on, so that no key is quicker than this

    page.goto("/")
    go_to(page, page.get_by_label("E-mail"))
    page.keyboard.type(email)
    go_to(page, page.get_by_label("Password"))
    page.keyboard.type(houses.PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Upload", exact=True)).to_be_visible()
    page.wait_for_load_state()

    go_to(page, page.get_by_role("button", name="Choose photos"))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(files)
    expect(page.locator("#status")).to_have_text("3 photos: 3 ready.")
    press(page, page.get_by_role("link", name="None"))
    for name in ("rocket.jpg", "chelsea.jpg"):
        go_to(page, page.get_by_role("checkbox", name=name), key="Shift+Tab")
        page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("2 selected")
    press(page, page.get_by_role("button", name="New batch with 2 photos"))

    expect(page.get_by_role("heading", name="New batch")).to_be_visible()
    page.wait_for_load_state()
    choose_radio(page, page.get_by_role("radio", name="3:4", exact=True), arrow="ArrowRight")
    go_to(page, page.get_by_role("slider", name="Style strength"))
    page.keyboard.press("End")
    expect(page.get_by_role("textbox", name="Style strength")).to_have_value("100")
    choose_radio(page, page.get_by_role("radio", name="1", exact=True), arrow="ArrowLeft")
    press(page, page.get_by_role("button", name="Make 2 pictures"))

    expect(page.locator("#status")).to_contain_text("All 2 done in")
    press(page, page.get_by_role("link", name="Review 2 pictures"))
    expect(page.get_by_text("1 of 2")).to_be_visible()
    page.wait_for_load_state()
    go_to(page, page.get_by_role("slider"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("slider")).to_have_value("51")
    page.keyboard.press("a")
    expect(page.get_by_text("2 of 2")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("r")
    expect(page.get_by_role("radio", name="Colour")).to_be_focused()
    check_stop(page)
    page.keyboard.press("3")
    check_stop(page)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("1 approved, 1 rejected")
    with page.expect_download() as download:
        press(page, page.get_by_role("link", name="Download 1 approved (ZIP)"))
    assert download.value.suggested_filename.endswith("-approved.zip")
    press(page, page.get_by_role("link", name=re.compile(email)), key="Shift+Tab")
    expect(page.get_by_role("heading", name="Account")).to_be_visible()
    press(page, page.get_by_role("button", name="Sign out"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/upload")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
