"""The whole job as a photographer does it, with real photographs, with JavaScript and without."""

import csv
import io
import re
import zipfile

import house as houses
import pictures
import pytest
from house import Visitor
from PIL import Image
from playwright.sync_api import expect

RATIOS = {"3:4": 3 / 4, "16:9": 16 / 9}


@pytest.fixture
def photos(tmp_path):
    """Three real photographs as files; the last was taken with the camera on its side."""
    files = []
    for name in ("coffee", "astronaut"):
        files.append(tmp_path / f"{name}.jpg")
        files[-1].write_bytes(pictures.jpeg(pictures.photo(f"{name}.png")))
    lying = pictures.photo("rocket.jpg").transpose(Image.Transpose.ROTATE_90)
    files.append(tmp_path / "rocket.jpg")
    files[-1].write_bytes(pictures.jpeg(lying, exif=pictures.exif(orientation=6)))
    return files


def sign_in(page, email=houses.EMAIL):
    page.goto("/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(houses.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Upload", exact=True)).to_be_visible()


def check_results(page, *, shape, names):
    """Each picture of the batch on screen opens, has the shape and downloads under its name."""
    links = [each.get_attribute("href") for each in page.locator(".frame-name a").all()]
    assert len(links) == len(names)
    found = []
    for link in links:
        page.goto(link)
        original = page.get_by_role("heading", level=1).inner_text()
        stem = original.removesuffix(".jpg")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download original quality").click()
        name = rf"{re.escape(stem)}_mannequin-to-human-v1_\d+\."
        assert re.match(name, download.value.suggested_filename)
        with Image.open(download.value.path()) as picture:
            assert picture.width / picture.height == pytest.approx(RATIOS[shape], abs=0.01)
            assert not picture.getexif()
            check_stamped(picture.convert("RGB"))
        found.append(original)
    assert sorted(found) == sorted(names)
    return links


def check_archives(page, batch, *, names):
    """The ZIP of the batch, and that of two of its pictures chosen in the history."""
    page.goto(batch)
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {len(names)} (ZIP)").click()
    check_archive(download.value.path(), names=names)
    page.goto("/jobs")
    for name in names[:2]:
        page.get_by_role("checkbox", name=f"Choose {name}").first.check()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(r"^Download .*\(ZIP\)")).click()
    check_archive(download.value.path(), names=names[:2])


def check_archive(path, *, names):
    """It holds a picture of each of these, whole, and a manifest that says which is whose."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        *files, manifest = archive.namelist()
        rows = list(csv.DictReader(io.StringIO(archive.read(manifest).decode("utf-8-sig"))))
    assert manifest == "manifest.csv"
    assert sorted(row["source"] for row in rows) == sorted(names)
    assert sorted(row["result"] for row in rows) == sorted(files)


def check_stamped(picture):
    """The lower right corner holds the dark plate with the word PRACTICE in white."""
    width, height = picture.size
    corner = picture.crop((round(width * 0.75), round(height * 0.93), width, height))
    shades = corner.convert("L").getcolors(100_000)
    assert sum(count for count, shade in shades if shade < 60) > corner.width * corner.height * 0.3
    assert any(shade > 200 for _, shade in shades)


def test_the_job_with_javascript(house, open_page, photos):
    page = open_page()
    sign_in(page)
    page.goto("/jobs")
    earlier = page.locator(".frame").count()
    page.goto("/")
    page.locator("input[type=file]").set_input_files(photos)
    expect(page.locator(".frame:visible")).to_have_count(3)
    expect(page.locator(".frame:visible[data-ready]")).to_have_count(3)
    page.get_by_role("button", name="New batch with 3 photos").click()

    expect(page.get_by_role("heading", name="New batch")).to_be_visible()
    page.get_by_role("radio", name="3:4", exact=True).check()
    page.get_by_role("radio", name="2", exact=True).check()
    expect(page.get_by_role("button", name="Make 6 pictures")).to_be_visible()
    page.get_by_role("radio", name="1", exact=True).check()
    page.get_by_role("button", name="Make 3 pictures").click()

    expect(page.locator("#status")).to_contain_text("All 3 done")
    batch, names = page.url, ["coffee.jpg", "astronaut.jpg", "rocket.jpg"]
    links = check_results(page, shape="3:4", names=names)
    check_archives(page, batch, names=names)

    page.goto("/jobs")
    expect(page.locator(".frame")).to_have_count(earlier + 3)
    nobody_else_sees(house, links)


def test_the_job_without_javascript(house, open_page, photos):
    page = open_page(java_script_enabled=False)
    sign_in(page)
    page.locator("input[type=file]").set_input_files(photos[:2])
    page.get_by_role("button", name="Upload").click()
    names = ["astronaut.jpg", "coffee.jpg"]
    for name in names:
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="New batch").click()
    page.get_by_role("radio", name="16:9", exact=True).check()
    page.get_by_label("Style strength").fill("750")
    page.get_by_role("button", name="Make 2 pictures").click()

    expect(page.get_by_role("alert")).to_contain_text("Nothing was sent or charged.")
    assert page.get_by_label("Style strength").input_value() == "750"
    page.get_by_label("Style strength").fill("50")
    page.get_by_role("button", name="Make 2 pictures").click()

    batch = page.url
    for _ in range(200):
        if page.get_by_text("All 2 done").is_visible():
            break
        page.goto(batch)
    check_results(page, shape="16:9", names=names)
    check_archives(page, batch, names=names)


def nobody_else_sees(house, links):
    """Every address of the pictures answers 404 to another user who may sign in."""
    owner, other = Visitor(house), Visitor(house, houses.OTHER)
    assert other.get("/jobs").json()["jobs"] == []
    for link in links:
        job = owner.get(link).json()
        addresses = [link, job["original_url"], job["result_url"]]
        addresses += [f"{job['result_url']}?size={size}" for size in ("thumb", "preview")]
        for address in addresses:
            assert owner.get(address).status == 200
            assert other.get(address).status == 404
        for action in ("cancel", "retry"):
            assert other.post(f"{link}/{action}").status == 404
