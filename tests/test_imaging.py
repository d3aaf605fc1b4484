"""What is taken for a photo, what is refused and in which words, and what the copies look like."""

import random
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import pictures
import pytest
from PIL import Image

from i2i import imaging
from i2i.errors import ImagingFailed, InvalidImage

MAX_PIXELS = 50_000_000


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "original"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder


def header(path: Path, *, filename: str = "", max_pixels: int = MAX_PIXELS) -> imaging.Header:
    return imaging.read_header(path, max_pixels=max_pixels, filename=filename)


def refusal(path: Path, *, filename: str = "", max_pixels: int = MAX_PIXELS) -> InvalidImage:
    with pytest.raises(InvalidImage) as raised:
        header(path, filename=filename, max_pixels=max_pixels)
    return raised.value


def near(pixel, colour, *, tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def prepared(path: Path, folder: Path) -> Image.Image:
    """The preview of a picture, after the checks that hold for every picture."""
    copies = imaging.prepare(path, directory=folder, max_pixels=MAX_PIXELS)
    assert sorted(path.name for path in folder.iterdir()) == ["preview.webp", "thumb.webp"]
    with Image.open(copies.thumbnail) as thumbnail, Image.open(copies.preview) as preview:
        for image, side in ((thumbnail, 320), (preview, 1280)):
            assert image.format == "WEBP"
            assert image.mode == "RGB"
            assert image.size == imaging._fit(copies.width, copies.height, side)
            assert not {"exif", "icc_profile", "xmp"} & set(image.info)
        preview.load()
        return preview.copy()


# --- Headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pictures.PHOTOS)
def test_header_of_real_photographs_agrees_with_pillow(name):
    path = pictures.PHOTOS[name]
    found = header(path, filename=name)
    with Image.open(path) as image:
        assert (found.width, found.height) == image.size
        assert found.mime_type == Image.MIME[image.format]
    assert found.orientation == 1


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (pictures.jpeg(progressive=True), "image/jpeg"),
        (pictures.mpo(), "image/jpeg"),
        (pictures.cmyk(), "image/jpeg"),
        (pictures.jpeg_with_zip(), "image/jpeg"),
        (pictures.jpeg_with_html(), "image/jpeg"),
        (pictures.webp(), "image/webp"),
        (pictures.webp(lossless=True, quality=0, method=0), "image/webp"),
        (pictures.webp(exif=pictures.exif()), "image/webp"),
        (pictures.animated("WEBP"), "image/webp"),
        (pictures.animated("PNG"), "image/png"),
        (pictures.grey16(), "image/png"),
        (pictures.png() + bytes(1_000_000), "image/png"),
    ],
    ids=[
        "progressive", "mpo", "cmyk", "zip-tail", "html-comment", "webp-lossy", "webp-lossless",
        "webp-extended", "webp-animated", "apng", "grey16", "png-tail",
    ],
)  # fmt: skip
def test_header_of_odd_pictures_agrees_with_pillow(file, data, mime_type):
    path = file(data)
    found = header(path)
    assert found.mime_type == mime_type
    with Image.open(path) as image:
        assert (found.width, found.height) == image.size


@pytest.mark.parametrize("encoder", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 99])
def test_size_is_the_one_displayed(file, orientation, encoder):
    found = header(file(pictures.red_corner(orientation=orientation, encoder=encoder)))
    assert (found.width, found.height) == (60, 40)
    assert found.orientation == (orientation if 1 <= orientation <= 8 else 1)


def test_broken_exif_is_no_obstacle(file):
    data = pictures.jpeg(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(300))
    assert header(file(data)).orientation == 1


def test_empty_file(file):
    error = refusal(file(b""))
    assert error.code == "empty"
    assert str(error) == "Empty file. 0 bytes arrived; copy it from the camera again."


@pytest.mark.parametrize("name", pictures.FOREIGN)
def test_what_is_no_photo_is_named(file, name):
    error = refusal(file(pictures.FOREIGN[name]), filename=name)
    assert error.code == "not_a_photo"
    assert str(error).startswith(f"Not a photo. It is named {Path(name).suffix}, but inside is ")


def test_words_for_text(file):
    letter = pictures.FOREIGN["text.jpg"]
    assert str(refusal(file(letter), filename="a.JPG")) == (
        "Not a photo. It is named .jpg, but inside is text. Choose the photo itself."
    )
    assert str(refusal(file(letter), filename="notes.txt")) == (
        "Not a photo. Inside is text. Choose the photo itself."
    )


@pytest.mark.parametrize("name", pictures.OTHER_PICTURES)
def test_other_picture_types_are_named(file, name):
    error = refusal(file(pictures.OTHER_PICTURES[name]), filename=name)
    assert error.code == "unsupported_type"
    assert str(error).startswith("Not JPEG, PNG or WebP. It is a")
    assert str(error).endswith("; export it as JPEG and add that.")


def test_words_for_sixty_megapixels(file):
    error = refusal(file(pictures.jpeg_claiming(9000, 6700)))
    assert error.code == "too_many_pixels"
    assert str(error) == (
        "Too many pixels. 9,000 × 6,700 is 60 megapixels; 50 is the most. "
        "Export it smaller and add it again."
    )


def test_words_just_above_the_limit(file):
    assert "is 50.01 megapixels; 50 is the most" in str(
        refusal(file(pictures.jpeg_claiming(10_000, 5001)))
    )
    assert header(file(pictures.jpeg_claiming(10_000, 5000))).width == 10_000


@pytest.mark.parametrize(
    "data",
    [
        pictures.raw_png(30_000, 30_000, depth=1, colour=0, rows=100),
        pictures.raw_png(2**31 - 1, 2**31 - 1, row=b"", rows=1),
        pictures.raw_png(20_000, 10, rows=10),
        pictures.jpeg_claiming(65_500, 65_500),
        pictures.jpeg_claiming(1, 20_000),
        pictures.webp_bomb(16_383, 16_383),
        pictures.webp_bomb(5001, 5000),
    ],
    ids=["png-1bit", "png-2^31", "png-long", "jpeg-65500", "jpeg-tall", "webp", "webp-half"],
)
def test_bombs_are_refused_by_their_header(file, data):
    error = refusal(file(data))
    assert error.code == "too_many_pixels"
    assert str(error).endswith("Export it smaller and add it again.")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pictures.jpeg_of_scans(1000), "too_complex"),
        (pictures.jpeg()[:2] + b"\xff\xfe\x00\x02" * 20_000 + pictures.jpeg()[2:], "too_complex"),
        (pictures.jpeg_of_scans(45, size=(8000, 6000)), "too_complex"),
        (pictures.raw_png(8, 8, extra=pictures.chunk(b"teXt", b"") * 100_000), "too_complex"),
        (pictures.raw_png(8, 8, extra=pictures.chunk(b"fcTL", bytes(26)) * 1001), "too_complex"),
        (pictures.raw_png(8, 8, extra=pictures.chunk(b"tEXt", bytes(17_000_000))), "too_much_text"),
        (pictures.jpeg_claiming(0, 48), "unreadable"),
        (pictures.jpeg_claiming(64, 0), "unreadable"),
        (pictures.raw_png(0, 0), "unreadable"),
        (b"\xff\xd8\xff\xd9" + bytes(100), "unreadable"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "unreadable"),
        (b"RIFF\x40\0\0\0WEBPJUNK" + bytes(100), "unreadable"),
        (pictures.png()[:33] + pictures.chunk(b"IEND", b""), "unreadable"),
        (b"\xff", "cut_short"),
        (b"\x89PN", "cut_short"),
    ],
    ids=[
        "1000-scans", "45-large-scans", "20000-segments", "100000-chunks", "1001-frames", "long-text", "jpeg-zero-width", "jpeg-zero-height",
        "png-zero", "jpeg-nothing", "png-no-header", "webp-no-frame", "png-no-data", "1-byte", "3-bytes",
    ],
)  # fmt: skip
def test_hostile_containers(file, data, code):
    assert refusal(file(data)).code == code


@pytest.mark.parametrize("make", [pictures.jpeg, pictures.mpo, pictures.png, pictures.webp])
@pytest.mark.parametrize("place", ["2", "20", "600", "half", "-600", "-20", "-2"])
def test_truncation_is_seen_at_upload(file, make, place):
    data = make()
    if make is pictures.mpo:  # what follows the first picture is of no interest
        data = data[: data.index(b"\xff\xd9\xff\xd8") + 2]
    if make is pictures.png and place == "-2":
        place = "-20"  # (without its last chunk a PNG is whole enough)
    cut = len(data) // 2 if place == "half" else int(place)
    error = refusal(file(data[:cut]))
    assert error.code == "cut_short"
    assert str(error) == "Cut short. The file ends in the middle; copy it again."


@pytest.mark.parametrize("window", [1, 2, 7, 4096])
def test_a_file_is_read_window_by_window(file, monkeypatch, window):
    """Wherever a marker lies: also on both sides of a border."""
    monkeypatch.setattr(imaging, "WINDOW_BYTES", window)
    for width in range(40, 48):
        data = pictures.jpeg(pictures.photo(size=(width, 40)))
        assert header(file(data)).width == width
        assert refusal(file(data[:-2])).code == "cut_short"
        assert refusal(file(data[:-1])).code == "cut_short"


def test_header_survives_random_damage(file):
    chance = random.Random(20)
    for make in (pictures.jpeg, pictures.png, pictures.webp):
        whole = make()
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 40)):
                data[chance.randrange(min(len(data), 2000))] = chance.randrange(256)
            with suppress(InvalidImage):
                header(file(bytes(data)))


# --- Copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pictures.PHOTOS)
def test_preview_shows_the_photograph(name, folder):
    preview = prepared(pictures.PHOTOS[name], folder)
    expected = pictures.photo(name).resize(preview.size, Image.Resampling.LANCZOS).resize((16, 16))
    for place in ((1, 1), (8, 8), (14, 3)):
        # The rocket has a profile, which the preview has applied.
        assert near(
            preview.resize((16, 16)).getpixel(place), expected.getpixel(place), tolerance=20
        )


@pytest.mark.parametrize("encoder", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_copies_are_upright(file, folder, orientation, encoder):
    preview = prepared(file(pictures.red_corner(orientation=orientation, encoder=encoder)), folder)
    assert preview.size == (60, 40)
    assert near(preview.getpixel((5, 5)), (255, 0, 0), tolerance=40)
    for place in ((55, 5), (5, 35), (55, 35)):
        assert near(preview.getpixel(place), (0, 0, 255), tolerance=40)


def test_large_photo_is_scaled_once_for_both(file, folder):
    preview = prepared(file(pictures.jpeg(pictures.photo(size=(4000, 3000)), quality=92)), folder)
    assert preview.size == (1280, 960)


@pytest.mark.parametrize(
    ("data", "place", "colour"),
    [
        (pictures.cmyk(), (30, 20), (255, 0, 0)),
        (pictures.rgb16(), (30, 20), (255, 128, 0)),
        (pictures.grey16(), (128, 8), (128, 128, 128)),
        (pictures.grey16(), (250, 8), (250, 250, 250)),
        (pictures.jpeg(pictures.photo().convert("L")), None, None),
        (pictures.palette_with_alpha(), (8, 20), (0, 255, 0)),
        (pictures.palette_with_alpha(), (56, 20), (255, 255, 255)),
        (pictures.half_transparent(), (8, 20), (0, 0, 255)),
        (pictures.half_transparent(), (56, 20), (255, 255, 255)),
        (pictures.png(Image.new("LA", (20, 20), (0, 0))), (9, 9), (255, 255, 255)),
        (pictures.png(Image.new("1", (20, 20), 1)), (9, 9), (255, 255, 255)),
        (pictures.png(Image.new("RGB", (20, 20), "red"), transparency=(255, 0, 0)), (9, 9), (255, 255, 255)),
        (pictures.animated("WEBP"), (9, 9), (255, 0, 0)),
        (pictures.animated("PNG"), (9, 9), (255, 0, 0)),
        (pictures.mpo(), None, None),
        (pictures.jpeg_with_zip(), None, None),
        (pictures.png(Image.new("RGB", (1, 1), "red")), (0, 0), (255, 0, 0)),
        (pictures.png(Image.new("RGB", (16_000, 1), "red")), (600, 0), (255, 0, 0)),
        (pictures.png(Image.new("RGB", (1, 16_000), "red")), (0, 600), (255, 0, 0)),
        (pictures.png()[:-12], None, None),
    ],
)  # fmt: skip
def test_colours_are_kept(file, folder, data, place, colour):
    preview = prepared(file(data), folder)
    if place:
        assert near(preview.getpixel(place), colour)


def test_embedded_profile_is_applied(file, folder):
    picture = pictures.png(
        Image.new("RGB", (20, 20), "red"), icc_profile=pictures.swapped_profile()
    )
    assert near(prepared(file(picture), folder).getpixel((9, 9)), (0, 0, 255), tolerance=30)


@pytest.mark.parametrize("profile", [b"garbage", bytes(200_000), pictures.swapped_profile()[:300]])
def test_broken_profile_is_ignored(file, folder, profile):
    picture = pictures.jpeg(Image.new("RGB", (20, 20), "red"), icc_profile=profile)
    assert near(prepared(file(picture), folder).getpixel((9, 9)), (255, 0, 0))


def test_long_notes_in_a_png_are_no_obstacle(file, folder):
    note = pictures.chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000)
    prepared(file(pictures.raw_png(40, 30, extra=note)), folder)


@pytest.mark.parametrize(("kind", "suffix"), [("jpeg", "jpg"), ("png", "png")])
def test_what_leaves_the_house_is_upright_small_and_silent(file, folder, kind, suffix):
    tags = pictures.exif(orientation=6)
    source = pictures.photo(size=(900, 600))
    path = file(
        pictures.jpeg(
            source, exif=tags, comment=b"SECRETCOMMENT", icc_profile=pictures.swapped_profile()
        )
    )
    made = imaging.render(path, directory=folder, max_side=512, format=kind)
    assert (made.width, made.height, made.mime_type) == (341, 512, f"image/{kind}")
    assert made.path == folder / f"render.{suffix}"
    sent = made.path.read_bytes()
    for secret in (b"SECRET", b"Exif", b"GPS", b"ICC_PROFILE", b"iCCP"):
        assert secret not in sent
    with Image.open(made.path) as image:
        assert image.size == (341, 512)
        assert not image.getexif()


def test_small_pictures_are_not_enlarged(file, folder):
    made = imaging.render(
        file(pictures.jpeg(pictures.photo(size=(300, 200)))), directory=folder, max_side=2048
    )
    assert (made.width, made.height) == (300, 200)


# --- Refusals by the child, and its limits ----------------------------------------------------


def prepare_refusal(path: Path, folder: Path, *, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidImage) as raised:
        imaging.prepare(path, directory=folder, max_pixels=max_pixels)
    return raised.value.code


def test_data_that_ends_early_in_a_whole_container(file, folder):
    data = pictures.png()
    at = data.index(b"IDAT")
    half = pictures.chunk(b"IDAT", data[at + 4 : at + 20_000]) + pictures.chunk(b"IEND", b"")
    assert prepare_refusal(file(data[: at - 4] + half), folder) == "cut_short"
    assert not any(folder.iterdir())


def test_damaged_data(file, folder):
    data = bytearray(pictures.png())
    at = data.index(b"IDAT") + 1000
    data[at : at + 2000] = bytes(2000)
    assert prepare_refusal(file(bytes(data)), folder) == "unreadable"


def test_text_bomb(file, folder):
    bomb = pictures.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 64_000_000, 9))
    assert prepare_refusal(file(pictures.raw_png(8, 8, extra=bomb)), folder) == "too_much_text"


def test_largest_allowed_pictures_fit_into_the_memory(file, folder):
    colour_key = pictures.chunk(b"tRNS", bytes(6))
    for data in (
        pictures.raw_png(9400, 5300, depth=16, colour=6),
        pictures.raw_png(9400, 5300, colour=2, extra=colour_key),
        pictures.raw_png(9400, 5300, colour=4),
        pictures.webp_bomb(5000, 5000),
    ):
        imaging.prepare(file(data), directory=folder, max_pixels=MAX_PIXELS)


def test_too_much_memory_is_the_pictures_fault(file, folder):
    path = file(pictures.raw_png(15_000, 15_000, colour=6, rows=200))
    assert prepare_refusal(path, folder, max_pixels=250_000_000) == "too_complex"


def test_too_much_time_is_the_pictures_fault(file, folder, monkeypatch):
    monkeypatch.setattr(imaging, "CPU_SECONDS", 1)
    path = file(pictures.jpeg_of_scans(100, size=(4000, 4000)))
    assert prepare_refusal(path, folder) == "too_complex"


def test_a_busy_machine_is_not_the_pictures_fault(folder, monkeypatch):
    monkeypatch.setattr(imaging, "WALL_SECONDS", 0.001)
    with pytest.raises(ImagingFailed, match="did not finish"):
        imaging.prepare(pictures.PHOTOS["china.jpg"], directory=folder, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false"])
def test_a_decoder_that_does_not_start_is_not_the_pictures_fault(folder, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ImagingFailed):
        imaging.prepare(pictures.PHOTOS["china.jpg"], directory=folder, max_pixels=MAX_PIXELS)


def test_a_killed_decoder_is_not_the_pictures_fault(tmp_path, folder, monkeypatch):
    suicide = tmp_path / "python"
    suicide.write_text("#!/bin/sh\nkill -KILL $$\n")
    suicide.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(suicide))
    with pytest.raises(ImagingFailed, match="ended with -9"):
        imaging.prepare(pictures.PHOTOS["china.jpg"], directory=folder, max_pixels=MAX_PIXELS)


def test_a_disk_that_takes_nothing_is_not_the_pictures_fault(folder, monkeypatch):
    monkeypatch.setattr(imaging, "PREVIEW_SIDE", 500)
    (folder / "preview.webp").mkdir()  # as root, modes deny nothing
    with pytest.raises(ImagingFailed, match="cannot be written"):
        imaging.prepare(pictures.PHOTOS["china.jpg"], directory=folder, max_pixels=MAX_PIXELS)


def test_the_child_sees_no_secrets(tmp_path, folder, monkeypatch):
    spy = tmp_path / "python"
    spy.write_text('#!/bin/sh\nenv > "$0.env"\nexit 3\n')
    spy.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(spy))
    monkeypatch.setenv("FAL_KEY", "5ecre7")
    with pytest.raises(ImagingFailed, match="ended with 3"):
        imaging.prepare(pictures.PHOTOS["china.jpg"], directory=folder, max_pixels=MAX_PIXELS)
    assert "5ecre7" not in (tmp_path / "python.env").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_an_orphan_does_not_start():
    limits = '{"parent": 1, "memory": 805306368, "cpu": 10}'
    orphan = subprocess.run(
        [sys.executable, "-I", imaging.__file__, limits, "{}"], capture_output=True, check=False
    )
    assert (orphan.returncode, orphan.stdout) == (1, b"")
