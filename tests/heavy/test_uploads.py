"""Fifty photos of 8 MB (twelve with --short), dropped at once in Chromium; the figures are printed."""

import os
import re
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pictures
import pytest
from house import Visitor, wait_until
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.heavy

MINUTES_10 = 600_000
PHOTO_BYTES = 8_000_000
ALLOWED_GROWTH_MB = 150

WATCH = """() => {
  window.figures = { frame: 0, task: 0 };
  let last = performance.now();
  const look = (now) => {
    window.figures.frame = Math.max(window.figures.frame, now - last);
    last = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  new PerformanceObserver((list) => {
    for (const each of list.getEntries()) {
      window.figures.task = Math.max(window.figures.task, each.duration);
    }
  }).observe({ type: "longtask", buffered: true });
}"""


@pytest.fixture(scope="module")
def base():
    """Noise, which no encoder makes small."""
    size = (3000, 2000)
    noise = Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3))
    made = (pictures.jpeg(noise, quality=quality, subsampling=0) for quality in range(70, 96, 5))
    return next(data for data in made if len(data) >= PHOTO_BYTES)


@pytest.fixture
def shoot(base, tmp_path):
    """Writes that many photos; they differ in a comment."""

    def shoot_(count, *, name):
        paths = [tmp_path / f"{name}{number}.jpg" for number in range(1, count + 1)]
        for path in paths:
            words = path.name.encode()
            comment = b"\xff\xfe" + (len(words) + 2).to_bytes(2, "big") + words
            path.write_bytes(base[:2] + comment + base[2:])
        return paths

    return shoot_


@pytest.fixture
def visitor(house):
    return Visitor(house)


@pytest.fixture
def enter(house, browser, visitor):
    contexts = []

    def enter_():
        context = browser.new_context(base_url=house.url)
        contexts.append(context)
        name, _, value = visitor.headers["Cookie"].partition("=")
        context.add_cookies([{"name": name, "value": value, "url": house.url}])
        page = context.new_page()
        page.goto("/upload")
        page.get_by_role("button", name="Choose photos").wait_for()
        page.evaluate(WATCH)
        return page

    yield enter_
    for context in contexts:
        context.close()


def drop(page, paths):
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})
    session.detach()


def renderer_mb(browser):
    """Resident memory of the largest renderer: that of the page."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    found = [Path(f"/proc/{each['id']}/status").read_text() for each in processes]
    kinds = [each["type"] for each in processes]
    sizes = [int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1000 for text in found]
    return max(size for size, kind in zip(sizes, kinds, strict=True) if kind == "renderer")


def wait_for_all(page, count):
    words = f"{count} photos: {count} ready."
    expect(page.locator("#status")).to_have_text(words, timeout=MINUTES_10)


def check_stored(house, paths):
    """Each file is there, once, and nothing else is."""
    rows = house.query("SELECT original_filename, file_size, status FROM images")
    assert sorted(rows) == sorted((path.name, path.stat().st_size, "ready") for path in paths)


def test_many_photos_at_once(house, browser, enter, shoot, size, capsys):
    few, many = shoot(5, name="few"), shoot(size.photos, name="many")
    page = enter()
    drop(page, few)
    wait_for_all(page, 5)
    before = renderer_mb(browser)
    page.context.close()

    page = enter()
    drop(page, many)
    page.locator(".frame", has_text="Uploading").first.wait_for()
    page.get_by_role("link", name="None").click()  # answers while all are on their way
    wait_for_all(page, len(many))
    figures, after = page.evaluate("window.figures"), renderer_mb(browser)
    with capsys.disabled():
        print(
            f"\n{len(many)} photos of {many[0].stat().st_size / 1e6:.1f} MB: longest task {figures['task']:.0f} ms,"
            f" longest wait for a frame {figures['frame']:.0f} ms;"
            f" renderer {before:.0f} MB after 5, {after:.0f} MB after {len(many)}"
        )
    check_stored(house, few + many)
    assert after <= before + ALLOWED_GROWTH_MB


def kill_web(house):
    """SIGKILL to the server and each of its processes."""
    main = house.processes["web"].pid
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    house.kill("web")
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def test_the_server_is_killed_in_the_middle(house, enter, shoot, size, capsys):
    paths = shoot(size.photos, name="look")
    page = enter()
    drop(page, paths)
    status = page.locator("#status")
    wait_until(
        lambda: house.query("SELECT count(*) FROM images")[0][0] >= len(paths) // 5,
        what="the first photos",
    )
    kill_web(house)
    arrived = house.query("SELECT count(*) FROM images")[0][0]
    expect(status).to_contain_text("go on by themselves.")
    again = threading.Timer(5, house.start_web)
    again.start()
    wait_for_all(page, len(paths))
    again.join()
    with capsys.disabled():
        print(
            f"\nkilled after {arrived} of {len(paths)} photos, started again 5 s later: all arrived once"
        )
    assert arrived < len(paths)
    check_stored(house, paths)
