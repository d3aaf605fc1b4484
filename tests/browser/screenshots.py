"""`make screenshots`: the README's picture, taken from the running application.

With a folder, `make screenshots ARGS=../look`, every page in every state instead: on a phone, a
laptop in the dark and a wide screen, for people to look at.
"""

import re
import sys
import tempfile
from pathlib import Path

import house as houses
import pictures
import psycopg
from chromium import CHROMIUM, QUIET
from house import House, Visitor, wait_until
from playwright.sync_api import sync_playwright
from scene import ADMIN, EMPTY, NEW, set_scene

from i2i import embedded
from i2i.config import ROOT
from i2i.gateways.storage import make_storage

NAMES = ("astronaut", "coffee", "rocket", "chelsea", "flower", "china")


LOOKS = {
    "360-light": ({"width": 360, "height": 780}, "light"),
    "1024-dark": ({"width": 1024, "height": 768}, "dark"),
    "1920-light": ({"width": 1920, "height": 1080}, "light"),
}


def main():
    server = embedded.start_throwaway()
    with tempfile.TemporaryDirectory() as folder:
        house = House(database=server.url, folder=Path(folder) / "house", practice_seconds=2)
        try:
            house.flask("db", "setup")
            house.make_user()
            if len(sys.argv) > 1:
                look_at_everything(house, Path(sys.argv[1]))
            else:
                house.open()
                take(house)
        finally:
            house.stop()
            server.remove()


def look_at_everything(house, target):
    """Each page of a studio where everything has happened, in each look; no worker moves it."""
    target.mkdir(parents=True, exist_ok=True)
    for email in (EMPTY, NEW):
        house.make_user(email)
    house.make_user(ADMIN, role="admin")
    with psycopg.connect(house.database, autocommit=True) as conn:
        storage = make_storage(f"file://{house.folder}/blobs", data_dir=house.folder)
        scene = set_scene(conn, storage, email=houses.EMAIL)
    house.start_web()
    wait_until(house.is_ready, what="GET /readyz with 200")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for look, (viewport, scheme) in LOOKS.items():
            for email, paths in scene.pages().items():
                context = browser.new_context(
                    base_url=house.url, viewport=viewport, color_scheme=scheme
                )
                page = context.new_page()
                if email:
                    sign_in(page, email)
                for name, path in paths.items():
                    page.goto(path, wait_until="load")
                    page.screenshot(path=target / f"{name}-{look}.png", full_page=True)
                context.close()
        browser.close()


def sign_in(page, email):
    page.goto("/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(houses.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("/upload|/account/password"))


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
        sign_in(page, houses.EMAIL)
        page.goto(batch["url"])
        page.wait_for_load_state("networkidle")
        page.screenshot(path=ROOT / "docs" / "screenshot.png")
        browser.close()


def photo(name):
    suffix = "jpg" if f"{name}.jpg" in pictures.PHOTOS else "png"
    return pictures.photo(f"{name}.{suffix}")


if __name__ == "__main__":
    main()
