"""`make screenshot`: docs/screenshot.png, taken from the running application."""

import tempfile
from pathlib import Path

import house as houses
import pictures
from conftest import CHROMIUM, QUIET
from house import House, Visitor, wait_until
from playwright.sync_api import sync_playwright

from i2i import embedded
from i2i.config import ROOT

NAMES = ("astronaut", "coffee", "rocket", "chelsea", "flower", "china")


def main():
    server = embedded.start_throwaway()
    with tempfile.TemporaryDirectory() as folder:
        house = House(database=server.url, folder=Path(folder) / "house", practice_seconds=2)
        try:
            house.flask("db", "setup")
            house.open()
            house.make_user()
            take(house)
        finally:
            house.stop()
            server.remove()


def take(house):
    """A batch of six finished pictures: the page that people look at most."""
    visitor = Visitor(house)
    ids = [
        visitor.upload(f"NF26-01{number}_{name}.jpg", pictures.jpeg(photo(name)))["id"]
        for number, name in enumerate(NAMES)
    ]
    fields = [("image", each) for each in ids]
    fields += [("workflow", "mannequin-to-human-v1"), ("aspect_ratio", "3:4")]
    fields += [("client_key", "for the readme")]
    batch = visitor.post("/batches", fields).json()
    wait_until(
        lambda: visitor.get(batch["url"]).json()["counts"] == {"completed": len(NAMES)},
        what="six pictures",
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(base_url=house.url, viewport={"width": 1280, "height": 640})
        page.goto("/login")
        page.get_by_label("E-mail").fill(houses.EMAIL)
        page.get_by_label("Password").fill(houses.PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.goto(batch["url"])
        page.wait_for_load_state("networkidle")
        page.screenshot(path=ROOT / "docs" / "screenshot.png")
        browser.close()


def photo(name):
    suffix = "jpg" if f"{name}.jpg" in pictures.PHOTOS else "png"
    return pictures.photo(f"{name}.{suffix}")


if __name__ == "__main__":
    main()
