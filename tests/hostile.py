"""Hostile uploads: every class of file and file name that is known to have hurt such a program.

`everything()` yields them; what is left to chance depends on the seed alone. Each knows what
may become of it: `ready` (taken, and its copies were made), `rejected CODE` (taken, and found out by
the decoder), `CODE` (refused at once, 422), or a status of the answer such as `400`.
"""

import random
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

import pictures
from PIL import Image

READY = frozenset({"ready"})
DAMAGED = frozenset(
    {"cut_short", "unreadable", "not_a_photo", "too_many_pixels", "too_complex", "rejected cut_short",
     "rejected unreadable", "rejected too_complex", "rejected too_much_text"}
)  # fmt: skip
"""What may be said of a file in which bytes are wrong; where they do no harm it is ready."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One file as it is sent.

    Attributes:
        kind: its class, for tables.
        name: the file name; bytes stand in the header as they are.
        data: the content.
        expected: what may become of it.
        shown: the name that must be kept, where the name is what is hostile.
    """

    kind: str
    name: str | bytes
    data: bytes
    expected: frozenset[str]
    shown: str | None = None

    @property
    def disposition(self) -> bytes:
        """Value of the part's Content-Disposition."""
        if isinstance(self.name, bytes):
            return b'form-data; name="images"; ' + self.name
        quoted = self.name.replace('"', "%22").encode()
        return b'form-data; name="images"; filename="' + quoted + b'"'


def everything(seed: int = 5) -> Iterator[Hostile]:
    """All of them, each made when it is asked for; no two have the same bytes."""
    return chain(
        pixel_bombs(),
        packed_bombs(),
        moving(),
        jpeg_structure(),
        webp_structure(),
        png_structure(),
        polyglots(),
        foreign(),
        lies(),
        cut(),
        flipped(random.Random(seed)),
        odd(),
        metadata(),
        names(),
    )


def _all(kind: str, expected: str | Iterable[str], **files: bytes) -> Iterator[Hostile]:
    """Keywords are file names; a double underscore stands for the dot."""
    allowed = {expected} if isinstance(expected, str) else expected
    for name, data in files.items():
        yield Hostile(kind, name.replace("__", "."), data, frozenset(allowed))


@cache
def _base(encoder: str) -> bytes:
    """A photograph of 30 to 150 kB."""
    make = {"jpeg": pictures.jpeg, "png": pictures.png, "webp": pictures.webp}[encoder]
    return make(pictures.photo("coffee.png", size=(300, 200)))


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _with_segments(*segments: bytes) -> bytes:
    """The JPEG with these right after its beginning."""
    return _base("jpeg")[:2] + b"".join(segments) + _base("jpeg")[2:]


def _with_chunks(*chunks: bytes) -> bytes:
    """The PNG with these right after its header."""
    return _base("png")[:33] + b"".join(chunks) + _base("png")[33:]


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp(*chunks: bytes) -> bytes:
    return _riff(b"RIFF", b"WEBP" + b"".join(chunks))


def _canvas(width: int, height: int, *, flags: int = 0) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _riff(b"VP8X", bytes([flags, 0, 0, 0]) + size)


def _packed(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 1_000_000), 6)


# --- Bombs --------------------------------------------------------------------------------------


def pixel_bombs() -> Iterator[Hostile]:
    """Small files, large pictures; what is just within the limits must work."""
    yield from _all(
        "pixels",
        "too_many_pixels",
        webp_9000__webp=pictures.webp_bomb(9000, 9000),
        webp_16383__webp=pictures.webp_bomb(16_383, 16_383),
        webp_25_01__webp=pictures.webp_bomb(5001, 5001),
        webp_canvas__webp=_webp(_canvas(2**24, 2**24), _riff(b"VP8L", bytes(20))),
        rgba_9400__png=pictures.raw_png(9400, 9400, colour=6, rows=2000),
        rgba16_9400__png=pictures.raw_png(9400, 9400, colour=6, depth=16, rows=100),
        rgb_13000__png=pictures.raw_png(13_000, 13_000, rows=1000),
        bits_30000__png=pictures.raw_png(30_000, 30_000, depth=1, colour=0, rows=1000),
        grey_29000__png=pictures.raw_png(29_000, 29_000, depth=8, colour=0, rows=500),
        header__png=pictures.raw_png(2**31 - 1, 2**31 - 1, row=b"", rows=1),
        tall__png=pictures.raw_png(1, 2**31 - 1, row=b"", rows=1),
        side_16385__png=pictures.raw_png(16_385, 1),
        grey_20000__jpg=pictures.jpeg_claiming(20_000, 20_000),
        sof_65500__jpg=pictures.jpeg_claiming(65_500, 65_500),
        rgb_13000__jpg=pictures.jpeg_claiming(13_000, 13_000),
        large__jpg=pictures.jpeg_claiming(28_900, 25_900),
        side_16385__jpg=pictures.jpeg_claiming(1, 16_385),
    )
    yield from _all(
        "pixels within the limit",
        READY,
        rgba16__png=pictures.raw_png(9400, 5300, depth=16, colour=6),
        keyed__png=pictures.raw_png(9400, 5310, extra=pictures.chunk(b"tRNS", bytes(6))),
        flat__webp=pictures.webp_bomb(5000, 5000),
        cmyk__jpg=pictures.jpeg(Image.new("CMYK", (7050, 7050)), quality=50),
        scans__jpg=_flat_scans(40, side=7000),
    )
    yield from _all(
        "no pixels",
        "unreadable",
        zero__png=pictures.raw_png(0, 0),
        wide__png=pictures.raw_png(8, 0),
        zero__jpg=pictures.jpeg_claiming(0, 0),
        high__jpg=pictures.jpeg_claiming(0, 48),
    )
    yield from _all(
        "pixels that are not there",
        ["rejected cut_short", "rejected unreadable", "ready"],
        rows__png=pictures.raw_png(7000, 7000, rows=1),
        claim__jpg=pictures.jpeg_claiming(7000, 7000),
    )


def packed_bombs() -> Iterator[Hostile]:
    """Megabytes in kilobytes beside the picture, or too much of everything."""
    chunk = pictures.chunk
    text = b"Comment\0\0" + _packed(64)
    international = b"Comment\0\1\0en\0Comment\0" + _packed(64)
    yield from _all(
        "text",
        "rejected too_much_text",
        ztxt__png=_with_chunks(chunk(b"zTXt", text)),
        itxt__png=_with_chunks(chunk(b"iTXt", international)),
        iccp__png=_with_chunks(chunk(b"iCCP", b"icc\0\0" + _packed(64))),
        many__png=_with_chunks(*(chunk(b"zTXt", b"a%d\0\0" % n + _packed(1)) for n in range(40))),
        ztxt_300__png=_with_chunks(chunk(b"zTXt", b"Comment\0\0" + _packed(300))),
    )
    yield from _all(
        "text",
        "too_much_text",
        long__png=_with_chunks(chunk(b"tEXt", b"Comment\0" + b"x" * 17_000_000)),
    )
    yield from _all(
        "text within the limit",
        READY,
        notes__png=_with_chunks(chunk(b"tEXt", b"Comment\0" + b"x" * 1_200_000)),
        ztxt__png=_with_chunks(chunk(b"zTXt", b"Comment\0\0" + _packed(9))),
    )
    yield from _all(
        "too many",
        "too_complex",
        chunks__png=_with_chunks(chunk(b"teXt", b"") * 100_000),
        segments__jpg=_with_segments(_segment(0xFE, b"") * 20_000),
        chunks__webp=_webp(_canvas(64, 48), _riff(b"JUNK", b"") * 20_000, _base("webp")[12:]),
        scans_1000__jpg=_flat_scans(1000, side=4000),
        scans_101__jpg=pictures.jpeg_of_scans(101),
        pixels_of_scans__jpg=_flat_scans(60, side=6500),
    )
    yield from _all("too many", READY, scans_100__jpg=pictures.jpeg_of_scans(100))
    yield from _all(
        "more data than rows",
        [*READY, *DAMAGED],
        idat__png=pictures.raw_png(8, 8, row=bytes(1_000_000), rows=100),
    )


def _flat_scans(count: int, *, side: int) -> bytes:
    """A progressive JPEG of one colour: its scans take few bytes and much time."""
    data = pictures.jpeg(Image.new("RGB", (side, side), "teal"), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def moving() -> Iterator[Hostile]:
    """Of what moves, the first frame is the photo; frames have a limit."""
    yield from _all(
        "moving",
        READY,
        thirty__webp=pictures.animated("WEBP"),
        thirty__png=pictures.animated("PNG"),
        three_hundred__webp=_moving_webp(300),
        three_hundred__png=_moving_png(300),
    )
    yield from _all(
        "moving too long",
        "too_complex",
        frames__webp=_moving_webp(1001),
        frames__png=_moving_png(1001),
    )
    yield from _all("moving", "unsupported_type", gif__png=_gif(), gif__gif=_gif() + b"\0")


def _moving_webp(count: int, *, side: int = 2000) -> bytes:
    frame = pictures.webp_bomb(side, side)[12:]
    size = (side - 1).to_bytes(3, "little")
    shown = _riff(b"ANMF", bytes(6) + size * 2 + (40).to_bytes(3, "little") + b"\2" + frame)
    return _webp(_canvas(side, side, flags=2), _riff(b"ANIM", bytes(6)), shown * count)


def _moving_png(count: int, *, side: int = 2000) -> bytes:
    still = pictures.raw_png(side, side)
    at = still.index(b"IDAT") - 4
    packed = zlib.compress(bytes(side * (3 * side + 1)))
    control = struct.pack(">IIIIHHBB", side, side, 0, 0, 1, 25, 0, 0)
    frames, number = [], 1
    for _ in range(count - 1):
        frames.append(pictures.chunk(b"fcTL", struct.pack(">I", number) + control))
        frames.append(pictures.chunk(b"fdAT", struct.pack(">I", number + 1) + packed))
        number += 2
    first = pictures.chunk(b"acTL", struct.pack(">II", count, 0))
    first += pictures.chunk(b"fcTL", struct.pack(">I", 0) + control)
    return still[:at] + first + still[at:-12] + b"".join(frames) + still[-12:]


def _gif() -> bytes:
    frames = [Image.new("P", (60, 40), number) for number in range(20)]
    return pictures._encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


# --- Structure ----------------------------------------------------------------------------------


def jpeg_structure() -> Iterator[Hostile]:
    data = _base("jpeg")
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    larger = frame[:5] + struct.pack(">HH", 9000, 9000) + frame[9:]

    def of_kind(marker: int) -> bytes:
        return data[: at + 1] + bytes([marker]) + data[at + 2 :]

    def components(count: int) -> bytes:
        return data[: at + 9] + bytes([count]) + data[at + 10 :]

    yield from _all(
        "structure",
        [*DAMAGED, *READY],
        two_frames__jpg=data[:at] + frame + larger + data[at + len(frame) :],
        larger_first__jpg=data[:at] + larger + data[at:],
        arithmetic__jpg=of_kind(0xC9),
        lossless__jpg=of_kind(0xC3),
        hierarchical__jpg=of_kind(0xC5),
        bits_12__jpg=data[: at + 4] + b"\x0c" + data[at + 5 :],
        components_0__jpg=components(0),
        components_255__jpg=components(255),
        no_tables__jpg=data.replace(b"\xff\xc4", b"\xff\xec"),
        no_quantisation__jpg=data.replace(b"\xff\xdb", b"\xff\xec"),
        odd_sampling__jpg=data[: at + 11] + b"\x00" + data[at + 12 :],
        sampling_4_4__jpg=data[: at + 11] + b"\x44" + data[at + 12 :],
        restart__jpg=_with_segments(_segment(0xDD, b"\0\1")),
        begins_twice__jpg=data[:2] + data,
        adobe__jpg=_with_segments(_segment(0xEE, b"Adobe\0\x64\0\0\0\0\2")),
    )
    yield from _all(
        "structure",
        "unreadable",
        nothing__jpg=b"\xff\xd8\xff\xd9" + bytes(100),
        only__jpg=frame_only(),
    )
    yield from _all(
        "structure",
        "cut_short",
        short_length__jpg=b"\xff\xd8\xff\xe0\xff\xff" + bytes(100),
        endless__jpg=data[:-2] + b"\xff" * 1_000_000,
    )


def frame_only() -> bytes:
    return b"\xff\xd8" + _segment(0xC0, b"\x08\0\x10\0\x10\x01\x01\x11\0") + b"\xff\xd9"


def webp_structure() -> Iterator[Hostile]:
    data = _base("webp")
    flat = pictures.webp_bomb(4000, 4000)[12:]
    yield from _all(
        "structure",
        [*DAMAGED, *READY],
        frame_over_canvas__webp=_webp(_canvas(64, 48), pictures.webp_bomb(9000, 9000)[12:]),
        canvas_over_frame__webp=_webp(_canvas(4900, 4900), flat),
        alpha_only__webp=_webp(_canvas(64, 48, flags=16), _riff(b"ALPH", bytes(64))),
        empty_canvas__webp=_webp(_canvas(64, 48)),
        no_frame__webp=_webp(_riff(b"VP8 ", bytes(30))),
        size_0__webp=data[:4] + bytes(4) + data[8:],
        odd_size__webp=data[:4] + struct.pack("<I", len(data) - 9) + data[8:],
        tail__webp=data + bytes(100_000),
        frame_outside__webp=_webp(
            _canvas(64, 48, flags=2),
            _riff(b"ANIM", bytes(6)),
            _riff(b"ANMF", b"\xff" * 6 + bytes(10) + _base("webp")[12:]),
        ),
    )
    yield from _all(
        "structure",
        "cut_short",
        size_4gb__webp=data[:4] + b"\xff" * 4 + data[8:],
        begin__webp=b"RIFF\xff\xff\0\0WEBPVP8 ",
    )


def png_structure() -> Iterator[Hostile]:
    data, chunk = _base("png"), pictures.chunk
    at = data.index(b"IDAT")
    interlaced = data[:28] + b"\1" + struct.pack(">I", zlib.crc32(data[12:28] + b"\1")) + data[33:]
    yield from _all(
        "structure",
        [*DAMAGED, *READY],
        header_crc__png=data[:29] + bytes(4) + data[33:],
        data_crc__png=data[:-16] + bytes(4) + data[-12:],
        interlaced__png=interlaced,
        depth_3__png=data[:24] + b"\3" + data[25:],
        colour_7__png=data[:25] + b"\7" + data[26:],
        compression_9__png=data[:26] + b"\x09" + data[27:],
        no_palette__png=pictures.raw_png(64, 48, colour=3),
        long_palette__png=_with_chunks(chunk(b"PLTE", bytes(3 * 5000))),
        two_headers__png=_with_chunks(chunk(b"IHDR", data[16:29])),
        header_again__png=_with_chunks(
            chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
        ),
        empty_data__png=data[: at - 4] + chunk(b"IDAT", b"") * 100 + data[at - 4 :],
        only_empty_data__png=data[: at - 4] + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        not_packed__png=data[: at - 4] + chunk(b"IDAT", b"x" * 1000) + chunk(b"IEND", b""),
        critical__png=_with_chunks(chunk(b"ABCD", b"unknown and critical")),
        frames_0__png=_with_chunks(chunk(b"acTL", bytes(8))),
        frames_2_31__png=_with_chunks(chunk(b"acTL", b"\x7f\xff\xff\xff" + bytes(4))),
        transparency__png=_with_chunks(chunk(b"tRNS", bytes(5000))),
        gamma__png=_with_chunks(chunk(b"gAMA", b""), chunk(b"cHRM", b"x"), chunk(b"pHYs", b"")),
    )
    yield from _all(
        "structure",
        "unreadable",
        no_header__png=data[:8] + data[33:],
        no_data__png=data[:33] + chunk(b"IEND", b""),
    )
    yield from _all(
        "structure",
        "cut_short",
        chunk_4gb__png=data[:33] + b"\xff\xff\xff\xffIDAT" + data[at + 4 :],
    )


# --- What is something else ---------------------------------------------------------------------


def polyglots() -> Iterator[Hostile]:
    """Two things at once: where one of them is a photo, its copies hold only that."""
    script = b"<html><script>alert(1)</script></html>"
    yield from _all(
        "polyglot",
        READY,
        zip__jpg=pictures.jpeg_with_zip(),
        html__jpg=pictures.jpeg_with_html(),
        php__jpg=_base("jpeg") + b"<?php system($_GET['c']); ?>",
        html__png=_with_chunks(pictures.chunk(b"tEXt", b"Comment\0" + script)),
        tail__png=_base("png") + bytes(1_000_000),
        pdf__jpg=_base("jpeg") + b"%PDF-1.7\n1 0 obj\n",
        jar__webp=_base("webp") + b"PK\x03\x04" + bytes(60),
        javascript__jpg=_with_segments(_segment(0xFE, b"*/=alert(1)/*")),
    )
    yield from _all(
        "polyglot",
        ["not_a_photo", "unsupported_type"],
        gif_script__jpg=b"GIF89a=1;/*" + bytes(20) + b"*/alert(1)//",
        pdf__png=b"%PDF-1.7\n" + _base("png"),
        elf__jpg=b"\x7fELF\x02\x01\x01" + bytes(60) + _base("jpeg"),
        mvg__png=b"push graphic-context\nviewbox 0 0 640 480\nimage over 0,0 0,0 'https://127.0.0.1/x'\n",
        eps__jpg=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(r) file\n",
        svg__png=b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        xxe__jpg=b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>',
        page__jpg=b"<!DOCTYPE html><script>alert(document.cookie)</script>",
        shell__jpg=b"#!/bin/sh\nid\n",
        php__php=b"<?php system($_GET['c']); ?>",
        photo_later__jpg=b"\n" + _base("jpeg"),
    )


def foreign() -> Iterator[Hostile]:
    for name, data in (pictures.FOREIGN | pictures.OTHER_PICTURES).items():
        yield Hostile("foreign", name, data, frozenset({"not_a_photo", "unsupported_type"}))
    rest = {"bmp": "BMP", "tif": "TIFF", "ico": "ICO", "ppm": "PPM", "tga": "TGA", "pcx": "PCX"}
    for suffix, encoder in rest.items():
        data = pictures._encoded(pictures.photo(size=(40, 30)), encoder)
        yield Hostile(
            "foreign", f"x.{suffix}.jpg", data, frozenset({"not_a_photo", "unsupported_type"})
        )


def lies() -> Iterator[Hostile]:
    """True photos under the name of another type: the content decides."""
    small = pictures.photo("rocket.jpg", size=(90, 60))
    yield from _all(
        "wrong suffix",
        READY,
        png__jpg=pictures.png(small),
        jpeg__png=pictures.jpeg(small),
        webp__jpg=pictures.webp(small),
        jpeg__html=pictures.jpeg(small, quality=50),
        png__svg=pictures.png(small, compress_level=1),
        webp__php=pictures.webp(small, quality=50),
        jpeg__exe=pictures.jpeg(small, quality=51),
    )


# --- Damage -------------------------------------------------------------------------------------


def cut() -> Iterator[Hostile]:
    for encoder in ("jpeg", "png", "webp"):
        data = _base(encoder)
        for at in (2, 20, 600, len(data) // 2, len(data) - 20, len(data) - 2):
            # A PNG whose last chunk alone is cut has all its pixels.
            allowed = {"cut_short", *(READY if encoder == "png" and at == len(data) - 2 else ())}
            yield Hostile("cut", f"cut-{at}.{encoder}", data[:at], frozenset(allowed))
    yield from _all(
        "cut",
        READY,
        no_end__png=_base("png")[:-12],
    )
    yield from _all("nothing", "empty", empty__jpg=b"")
    yield from _all("nothing", "cut_short", one__jpg=b"\xff")
    yield from _all("nothing", "not_a_photo", zero__jpg=b"\0")


def flipped(chance: random.Random) -> Iterator[Hostile]:
    for encoder in ("jpeg", "png", "webp"):
        for number in range(10):
            data = bytearray(_base(encoder))
            reach = 700 if number < 5 else len(data)  # headers are where it hurts
            for _ in range(chance.randint(1, 20)):
                data[chance.randrange(12, reach)] ^= 1 << chance.randrange(8)
            allowed = READY | DAMAGED
            yield Hostile("flipped bits", f"flip-{number}.{encoder}", bytes(data), allowed)


# --- Honest, and easily got wrong ---------------------------------------------------------------


def odd() -> Iterator[Hostile]:
    yield from _all(
        "odd",
        READY,
        cmyk__jpg=pictures.cmyk(),
        grey__jpg=pictures.jpeg(pictures.photo(size=(80, 60)).convert("L")),
        progressive__jpg=pictures.jpeg(pictures.photo(size=(80, 60)), progressive=True),
        grey16__png=pictures.grey16(),
        rgb16__png=pictures.rgb16(),
        palette__png=pictures.palette_with_alpha(),
        alpha__png=pictures.half_transparent(),
        alpha__webp=pictures.webp(Image.new("RGBA", (40, 30), (1, 2, 3, 4))),
        one__png=pictures.png(Image.new("RGB", (1, 1), "red")),
        one__jpg=pictures.jpeg(Image.new("RGB", (1, 1), "red")),
        one__webp=pictures.webp(Image.new("RGB", (1, 1), "red")),
        wide__png=pictures.png(Image.new("RGB", (16_000, 1), "red")),
        tall__jpg=pictures.jpeg(Image.new("RGB", (1, 16_000), "red")),
        mpo__jpg=pictures.mpo(),
    )


def metadata() -> Iterator[Hostile]:
    chunk = pictures.chunk
    for orientation in (*range(1, 9), 99):
        data = pictures.red_corner(orientation=orientation)
        yield Hostile("orientation", f"turned-{orientation}.jpg", data, READY)
    small = pictures.photo("flower.jpg", size=(120, 90))
    srgb = pictures.srgb_profile()
    circle = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0x8769, 4, 1, 8)
    many = b"MM\0*" + struct.pack(">IH", 8, 65535)
    long_value = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0x0112, 3, 2**31, 8)
    pictures_list = b"MPF\0MM\0*" + struct.pack(">IH", 8, 2)
    pictures_list += struct.pack(">HHII", 0xB001, 4, 1, 1_000_000)
    pictures_list += struct.pack(">HHII", 0xB002, 7, 16_000_000, 0x7FFFFFFF)
    yield from _all(
        "metadata",
        READY,
        gps__jpg=pictures.jpeg(small, exif=pictures.exif()),
        gps__png=pictures.png(small, exif=pictures.exif()),
        gps__webp=pictures.webp(small, exif=pictures.exif()),
        exif_60k__jpg=_with_segments(_segment(0xE1, b"Exif\0\0" + b"x" * 60_000)),
        exif_circle__jpg=_with_segments(_segment(0xE1, b"Exif\0\0" + circle + circle[4:8])),
        exif_circle__png=_with_chunks(chunk(b"eXIf", circle + struct.pack(">I", 8))),
        exif_entries__jpg=_with_segments(_segment(0xE1, b"Exif\0\0" + many)),
        exif_count__jpg=_with_segments(_segment(0xE1, b"Exif\0\0" + long_value)),
        exif_20mb__png=_with_chunks(chunk(b"eXIf", many + bytes(20_000_000))),
        srgb__jpg=pictures.jpeg(small, icc_profile=srgb),
        swapped__png=pictures.png(small, icc_profile=pictures.swapped_profile()),
        garbage__jpg=pictures.jpeg(small, icc_profile=b"garbage"),
        icc_2mb__jpg=pictures.jpeg(small, icc_profile=srgb + bytes(2_000_000)),
        icc_parts__jpg=_with_segments(_segment(0xE2, b"ICC_PROFILE\0\7\3" + srgb)),
        xmp__jpg=_with_segments(
            _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x>" * 20_000)
        ),
        mpf__jpg=_with_segments(_segment(0xE2, pictures_list)),
        photoshop__jpg=_with_segments(_segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 60)),
        density__jpg=_with_segments(_segment(0xE0, b"JFIF\0\1\2\1\0\0\0\0\xff\xff")),
    )


NAMES: dict[str | bytes, str] = {
    "../../../etc/passwd": "passwd",
    "..\\..\\win.ini": "....win.ini",  # in a header the backslash only quotes what follows
    "/etc/cron.d/evil.jpg": "evil.jpg",
    "C:\\Windows\\a.jpg": "C:Windowsa.jpg",
    "..": "photo",
    ".": "photo",
    "CON.jpg": "CON.jpg",
    ".htaccess": ".htaccess",
    "-rf.jpg": "-rf.jpg",
    "$(id)`id`.jpg": "$(id)`id`.jpg",
    "x.jpg\x00.html": "x.jpg.html",
    "\x1b[31mred.jpg": "[31mred.jpg",
    "a\u202egpj.exe": "agpj.exe",
    "e\u0301.jpg": "\u00e9.jpg",
    "\u00e9.jpg": "\u00e9.jpg",
    "фото 日本 🧥.jpg": "фото 日本 🧥.jpg",
    '"><img src=x onerror=alert(1)>.jpg': '"><img src=x onerror=alert(1)>.jpg',
    "'; DROP TABLE images; --.jpg": "'; DROP TABLE images; --.jpg",
    "x" * 5000 + ".jpg": "x" * 251 + ".jpg",
    b"filename=\"a.jpg\"; filename*=UTF-8''%2e%2e%2f%2e%2e%2fx.jpg": "x.jpg",
    b"filename*=UTF-8''%00%0d%0aX-Evil:%201.jpg": "X-Evil",  # (a bare colon ends the value)
    b'filename="a\\";b.jpg"': 'a";b.jpg',
    b'filename="a%22;%0D%0AX: y.jpg"': 'a";%0D%0AX: y.jpg',
}
"""File names as they are sent, and as they may be kept: one line of text, never a path."""


def names() -> Iterator[Hostile]:
    """A good photo each, told apart by a comment."""
    photo = pictures.photo("chelsea.png", size=(60, 40))
    for number, (name, shown) in enumerate(NAMES.items()):
        data = pictures.jpeg(photo, comment=b"%d" % number)
        yield Hostile("name", name, data, READY, shown)
    for number, raw in enumerate([b'filename="lone\xed\xa0\x80.jpg"', b'filename="\xff\xfe.jpg"']):
        data = pictures.jpeg(photo, comment=b"raw %d" % number)
        yield Hostile("name", raw, data, frozenset({"ready", "400"}))
