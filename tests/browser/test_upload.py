"""The upload page in a real browser: every way in, what goes wrong, and the choice for a batch."""

import itertools
import json
import re

import pictures
import pytest
from house import Visitor, wait_until
from PIL import Image
from playwright.sync_api import expect

SHADES = itertools.count(1)
"""No two photos of this module have the same bytes."""

PASTE = """async (name) => {
  const canvas = new OffscreenCanvas(60, 80);
  canvas.getContext("2d").fillRect(0, 0, 30, 30);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([blob], name, { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


@pytest.fixture
def enter(open_page, somebody, house):
    """Opens the upload page for somebody new, who comes with the page as a client, too."""

    def enter_(**options):
        page = open_page(**options)
        visitor = Visitor(house, somebody().email)
        name, _, value = visitor.headers["Cookie"].partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": house.url}])
        page.goto("/upload")
        return page, visitor

    return enter_


@pytest.fixture
def make(tmp_path):
    """Writes photos of these names into a folder; their paths."""

    def make_(*names, folder="."):
        paths = []
        for name in names:
            number = next(SHADES)
            paths.append(tmp_path / folder / name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            paths[-1].write_bytes(pictures.jpeg(Image.new("RGB", (60 + number, 80), "grey")))
        return paths

    return make_


def drag(page, kind, paths):
    """What the system sends while files hang on the pointer, folders as well."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})
    session.detach()


def dragged(page, paths):
    drag(page, "dragEnter", paths)
    drag(page, "dragOver", paths)
    expect(page.get_by_text("Drop to add these photos")).to_be_visible()
    drag(page, "drop", paths)
    expect(page.get_by_text("Drop to add these photos")).to_be_hidden()


def names(page):
    return page.locator(".frame").evaluate_all("(all) => all.map((each) => each.dataset.name)")


def status(page):
    return page.locator("#status")


def frame(page, name):
    return page.locator(f'.frame[data-name="{name}"]')


def test_dropped_pasted_and_chosen(enter, make, tmp_path):
    page, visitor = enter()
    make("look2.jpg", "look10.jpg", folder="shoot/day 1")
    make("look1.jpg", "again.jpg", folder="shoot")
    (tmp_path / "shoot" / "prices.txt").write_text("shirt 40")
    (tmp_path / "shoot" / ".hidden.jpg").write_text("nothing")
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear photographer, this is only a letter.\n")

    dragged(page, [tmp_path / "shoot", letter])
    said = "5 photos: 4 ready, 1 not accepted. 1 other file in the folder left out."
    expect(status(page)).to_have_text(said)
    assert names(page) == ["again.jpg", "letter.jpg", "look1.jpg", "look2.jpg", "look10.jpg"]
    refused = frame(page, "letter.jpg")
    expect(refused.locator(".words")).to_contain_text("Choose the photo itself.")
    refused.get_by_role("button", name="Remove letter.jpg").click()
    expect(status(page)).to_contain_text("4 photos: 4 ready.")

    page.evaluate(PASTE, "pasted.png")
    expect(status(page)).to_have_text("5 photos: 5 ready.")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a folder").click()
    chooser.value.set_files(tmp_path / "shoot")
    expect(status(page)).to_have_text(said.replace("4 ready, 1 not accepted", "5 ready"))
    already = frame(page, "look10.jpg")
    expect(already.locator(".state")).to_contain_text(re.compile("Already here, *since today"))
    expect(page.locator(".frame")).to_have_count(5)
    drawn = "(all) => all.every((each) => each.width === 320)"
    wait_until(lambda: page.locator("canvas").evaluate_all(drawn), what="five previews")

    page.reload()
    expect(page.locator(".frame")).to_have_count(5)
    page.locator("#files").set_input_files(tmp_path / "shoot" / "again.jpg")
    expect(status(page)).to_have_text("1 photo: 1 ready.")
    expect(frame(page, "again.jpg").locator(".word")).to_have_text("Already here,")
    expect(page.locator(".frame")).to_have_count(5)
    frame(page, "look1.jpg").get_by_role("button", name="Remove look1.jpg").click()
    expect(page.locator(".frame")).to_have_count(4)
    assert all(each["status"] == "ready" for each in uploads_of(page, visitor))


def uploads_of(page, visitor):
    ids = page.locator(".pick").evaluate_all("(all) => all.map((each) => each.value)")
    return visitor.get("/images?" + "&".join(f"image={each}" for each in ids)).json()["images"]


def test_chosen_by_keys_alone(enter, make):
    page, _ = enter()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose photos").press("Enter")
    chooser.value.set_files(make(*[f"look{number}.jpg" for number in range(1, 6)]))
    expect(status(page)).to_have_text("5 photos: 5 ready.")
    chosen = page.locator("#chosen")
    expect(chosen).to_have_text("5 selected")
    page.get_by_role("link", name="None").press("Enter")
    expect(chosen).to_have_text("Choose the photos to work on.")
    expect(page.get_by_role("button", name="New batch")).to_be_disabled()

    page.get_by_role("checkbox", name="look2.jpg").press("Space")
    page.get_by_role("checkbox", name="look4.jpg").press("Shift+Space")
    expect(chosen).to_have_text("3 selected")
    page.get_by_role("heading", name="look5.jpg").locator("label").click(modifiers=["Shift"])
    expect(chosen).to_have_text("4 selected")
    page.locator("#files").set_input_files(make("late.jpg"))
    expect(status(page)).to_have_text("6 photos: 6 ready.")
    expect(chosen).to_have_text("5 selected")
    page.get_by_role("checkbox", name="look1.jpg").press("Shift+Space")
    expect(chosen).to_have_text("6 selected")
    page.get_by_role("checkbox", name="late.jpg").press("Space")
    page.get_by_role("button", name="New batch with 5 photos").press("Enter")
    expect(page.get_by_role("heading", name="New batch")).to_be_visible()
    assert page.url.count("image=") == 5


def test_a_lost_connection_is_waited_out(enter, make):
    page, visitor = enter()
    page.context.set_offline(True)
    page.locator("#files").set_input_files(make(*[f"look{number}.jpg" for number in range(5)]))
    lost = "Connection lost. 5 photos wait and go on by themselves."
    expect(status(page)).to_have_text(lost)
    expect(page.get_by_role("status")).to_have_text(lost)
    page.context.set_offline(False)
    expect(status(page)).to_have_text("5 photos: 5 ready.")
    assert len(uploads_of(page, visitor)) == 5


def test_what_the_server_cannot_store_is_tried_again(enter, make, house):
    page, _ = enter()
    (path,) = make("look.jpg")
    full = {"filename": "look.jpg", "code": "storage", "message": "The disk is full. Try later."}
    body = json.dumps({"images": [], "errors": [full]})
    page.route("**/images", lambda route: route.fulfill(status=422, body=body))
    page.locator("#files").set_input_files(path)
    expect(frame(page, "look.jpg").locator(".words")).to_have_text("The disk is fullTry later.")
    page.unroute("**/images")
    page.get_by_role("button", name="Retry look.jpg").click()
    expect(status(page)).to_have_text("1 photo: 1 ready.")

    page.locator("#files").evaluate(
        "(field) => { const transfer = new DataTransfer();"
        " transfer.items.add(new File([new Uint8Array(25000001)], 'huge.jpg'));"
        " field.files = transfer.files; field.dispatchEvent(new Event('change')); }"
    )
    words = frame(page, "huge.jpg").locator(".words")
    expect(words).to_contain_text("Too large")
    expect(words).to_contain_text("Export it smaller and add it again.")
    answer = Visitor(house).post(
        "/images", {"images": ("huge.jpg", bytes(25_000_001), "image/jpeg")}, multipart=True
    )
    (error,) = answer.json()["errors"]
    assert error["message"] == page.locator("#drop").get_attribute("data-too-large")


def test_without_javascript(enter, make, tmp_path):
    page, visitor = enter(java_script_enabled=False)
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear photographer, this is only a letter.\n")
    page.locator("#files").set_input_files([*make("look1.jpg", "look2.jpg"), letter])
    page.get_by_role("button", name="Upload photos").click()
    summary = page.get_by_role("alert")
    expect(summary).to_contain_text("1 file not accepted, 2 photos added. Nothing was charged.")
    expect(summary).to_contain_text("letter.jpg: Not a photo.")
    wait_until(
        lambda: all(each["status"] == "ready" for each in uploads_of(page, visitor)),
        what="two ready photos",
    )
    page.goto("/upload")
    page.get_by_role("link", name="Select all ready").click()
    page.get_by_role("checkbox", name="look1.jpg").uncheck()
    page.get_by_role("button", name="New batch").click()
    expect(page.get_by_role("heading", name="New batch")).to_be_visible()
    assert page.url.count("image=") == 1
