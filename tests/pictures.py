"""Files to feed to i2i: real photographs, odd but honest pictures, and hostile ones.

Everything is bytes. Makers are cheap: the large ones are small files that only claim or unfold.
"""

import importlib.util
import io
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image, ImageCms, ImageDraw


def _package(name: str) -> Path:
    """Where a package lies, without the seconds that importing it takes."""
    return Path(importlib.util.find_spec(name).origin).parent


_SKLEARN = _package("sklearn") / "datasets" / "images"
_SKIMAGE = _package("skimage") / "data"

PHOTOS = {
    "china.jpg": _SKLEARN / "china.jpg",
    "flower.jpg": _SKLEARN / "flower.jpg",
    "rocket.jpg": _SKIMAGE / "rocket.jpg",
    "retina.jpg": _SKIMAGE / "retina.jpg",
    "astronaut.png": _SKIMAGE / "astronaut.png",
    "chelsea.png": _SKIMAGE / "chelsea.png",
    "coffee.png": _SKIMAGE / "coffee.png",
    "camera.png": _SKIMAGE / "camera.png",
}
"""Real photographs that come with scikit-image and scikit-learn: name to path."""

ORIENTATION, MAKE, SERIAL, GPS = 0x0112, 0x010F, 0xA431, 0x8825

UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera lays down a picture that is displayed upright with this orientation."""


def photo(name: str = "china.jpg", *, size: tuple[int, int] | None = None) -> Image.Image:
    """A photograph in RGB, resized to `size`."""
    with Image.open(PHOTOS[name]) as image:
        picture = image.convert("RGB")
    return picture.resize(size) if size else picture


def jpeg(image: Image.Image | None = None, **options) -> bytes:
    return _encoded(image or photo(), "JPEG", **options)


def png(image: Image.Image | None = None, **options) -> bytes:
    return _encoded(image or photo(), "PNG", **options)


def webp(image: Image.Image | None = None, **options) -> bytes:
    return _encoded(image or photo(), "WEBP", **options)


def _encoded(image: Image.Image, encoder: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, encoder, **options)
    return file.getvalue()


# --- Odd but honest ---------------------------------------------------------------------------


def red_corner(*, orientation: int, encoder: str = "JPEG") -> bytes:
    """Displayed 60 × 40, blue with a red square at the top left; camera data and GPS inside."""
    image = Image.new("RGB", (60, 40), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, 19, 19), fill="red")
    if (undo := UNDO.get(orientation)) is not None:
        image = image.transpose(undo)
    return _encoded(image, encoder, exif=exif(orientation=orientation))


def exif(*, orientation: int = 1) -> bytes:
    """Tags as a telephone writes them: maker, serial number, place."""
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    tags[MAKE] = "SECRETMAKER"
    tags.get_ifd(0x8769)[SERIAL] = "SECRETSERIAL"
    place = tags.get_ifd(GPS)
    place[1], place[2] = "N", (52.0, 31.0, 12.0)
    place[3], place[4] = "E", (13.0, 24.0, 36.0)
    return tags.tobytes()


def cmyk() -> bytes:
    """Pure red in CMYK, as print shops send."""
    return jpeg(Image.new("CMYK", (64, 48), (0, 255, 255, 0)))


def grey16() -> bytes:
    """A 16-bit grey PNG, 256 × 16: a ramp from black to white, left to right."""
    row = b"".join(struct.pack(">H", level * 257) for level in range(256))
    return raw_png(256, 16, depth=16, colour=0, row=row)


def rgb16() -> bytes:
    """A 16-bit RGB PNG, 64 × 64, orange (255, 128, 0)."""
    return raw_png(64, 64, depth=16, colour=2, row=struct.pack(">HHH", 65535, 128 * 257, 0) * 64)


def palette_with_alpha() -> bytes:
    """A palette PNG: green at the left, transparent (over red) at the right."""
    image = Image.new("P", (64, 48), 0)
    image.putpalette([0, 255, 0, 255, 0, 0])
    ImageDraw.Draw(image).rectangle((32, 0, 63, 47), fill=1)
    return png(image, transparency=b"\xff\x00")


def half_transparent() -> bytes:
    """RGBA: opaque blue at the left, transparent black at the right."""
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 31, 47), fill=(0, 0, 255, 255))
    return png(image)


def mpo() -> bytes:
    """A camera's JPEG with a second picture behind it."""
    return _encoded(photo(), "MPO", save_all=True, append_images=[photo("flower.jpg")])


def animated(encoder: str) -> bytes:
    """WEBP or PNG with thirty frames, the first one red."""
    frames = [Image.new("RGB", (200, 100), (255 - 8 * i, 8 * i, 0)) for i in range(30)]
    return _encoded(frames[0], encoder, save_all=True, append_images=frames[1:], duration=40)


def srgb_profile() -> bytes:
    """The ICC profile of sRGB, without the time at which it was made."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]


def swapped_profile() -> bytes:
    """An ICC profile whose red and blue primaries are exchanged: its red is our blue."""
    profile = bytearray(srgb_profile())
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        signature = bytes(profile[at : at + 4])
        profile[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(signature, signature)
    return bytes(profile)


# --- Hostile ----------------------------------------------------------------------------------


def raw_png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    row: bytes | None = None,
    rows: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A PNG from chunks: zero bytes by default, so that gigabytes pack into a few kilobytes.

    Args:
        colour: 0 grey, 2 RGB, 6 RGBA.
        row: the bytes of one row.
        rows: how many rows the data really holds; all by default.
        extra: chunks to put before the data.
    """
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    line = b"\0" + (row if row is not None else bytes((width * channels * depth + 7) // 8))
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(line) for _ in range(height if rows is None else rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + extra
        + chunk(b"IDAT", packed + packer.flush())
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def webp_bomb(width: int, height: int) -> bytes:
    """About 40 bytes that unfold to any size up to 16,384: one colour, lossless."""
    data = bytearray(webp(Image.new("RGB", (16, 16), "teal"), lossless=True))
    assert data[12:16] == b"VP8L"
    bits = int.from_bytes(data[21:25], "little") >> 28 << 28
    data[21:25] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def jpeg_claiming(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    data = bytearray(jpeg(photo(size=(64, 48))))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_scans(count: int, *, size: tuple[int, int] = (400, 300)) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    data = jpeg(photo(size=size), progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:-2] + scan * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def jpeg_with_zip() -> bytes:
    """Picture and archive at once."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("evil.html"), "<script>alert(1)</script>")
    return jpeg() + file.getvalue()


def jpeg_with_html() -> bytes:
    """A comment that a sniffing browser might take for a page."""
    return jpeg(comment=b"<html><script>alert(1)</script></html>") + b"<?php echo 1; ?>"


FOREIGN = {
    "text.jpg": b"Dear photographer,\nthis is only a letter.\n",
    "page.jpg": b"<!DOCTYPE html><script>alert(1)</script>",
    "paper.png": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "archive.webp": b"PK\x03\x04" + bytes(60),
    "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(60),
    "film.jpg": b"\x00\x00\x00\x18ftypisom" + bytes(60),
}
"""No photos at all, by a name that claims otherwise."""

OTHER_PICTURES = {
    "moving.gif": b"GIF89a\x01\x00\x01\x00" + bytes(60),
    "scan.tif": b"II*\x00\x08\x00\x00\x00" + bytes(60),
    "phone.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(60),
    "small.avif": b"\x00\x00\x00\x1cftypavif" + bytes(60),
    "layers.jpg": b"8BPS\x00\x01" + bytes(60),
    "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
}
"""Pictures of types that we do not take."""
