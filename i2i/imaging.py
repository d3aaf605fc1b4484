"""Pictures: what a file is, told from its bytes, and small safe copies of it.

Two halves in one file. `read_header` walks the containers of JPEG, PNG and WebP itself, with no
decoder in reach, so a web process may call it on anything. `prepare` and `render` decode, and
for that start this file again as a child (`python -I imaging.py`) that gives up memory, time and
file size before it loads Pillow. The child sees no environment, no sockets and not the package.
"""

import ctypes
import io
import json
import math
import mmap
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

MAX_SIDE = 16_384
"""Pixels; the most that every format, encoder and browser concerned can take."""

MAX_SCANS = 100
MAX_SCANNED_PIXELS = 2_000_000_000
"""Scans of a JPEG, alone and times its pixels. Cameras write 1, optimisers about 10; a thousand of
16 megapixels keep a core busy for 20 s."""

MAX_FRAMES = 1_000
"""Frames of a moving WebP or PNG. Only the first is decoded: it is the photo."""

MAX_SEGMENTS = 10_000
"""Segments or chunks of a file, beside the ones that its size explains."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""What the notes of a PNG may be or unpack to; some editors keep long ones in a photo."""

MEMORY_BYTES = 512 * 1024 * 1024
CPU_SECONDS = 5
WALL_SECONDS = 60
FILE_BYTES = 200_000_000
"""What the child may use. 50 megapixels need 220 to 470 MB and 0.5 to 1.7 s of a core."""

KEEP_ALIVE_SECONDS = 5.0
"""How often the parent says that it still waits for the child."""

THUMBNAIL_SIDE = 320
PREVIEW_SIDE = 1280


def _confine(*, parent: int, memory: int, cpu: int) -> None:
    """Limit this process for good, and let it die with the thread that started it."""
    if sys.platform == "linux":
        set_pdeathsig = 1
        ctypes.CDLL(None).prctl(set_pdeathsig, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)
    wanted = [
        (resource.RLIMIT_CPU, cpu, cpu + 5),
        (resource.RLIMIT_FSIZE, FILE_BYTES, FILE_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
    ]
    if sys.platform == "linux":  # elsewhere the kernel does not keep this one
        wanted.append((resource.RLIMIT_AS, memory, memory))
    for kind, soft, hard in wanted:
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)  # noqa: PLW2901
        resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    _confine(**json.loads(sys.argv[1]))
else:
    import logging

    from i2i.errors import ImagingFailed, InvalidImage

    log = logging.getLogger("i2i.imaging")

# Pillow comes after the limits; naming its WebP driver keeps it from loading all forty others.
from PIL import Image, ImageCms, PngImagePlugin, WebPImagePlugin  # noqa: E402

FORMATS = ("JPEG", "PNG", "WEBP")
"""Pillow finds the MPO of many cameras behind JPEG; it is a JPEG with a second picture after it."""

assert WebPImagePlugin  # noqa: S101  (an import with a purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself. Sizes are pixels as displayed, with the orientation applied."""

    mime_type: str
    width: int
    height: int
    orientation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The size of the original as displayed, and its two WebP copies."""

    width: int
    height: int
    thumbnail: Path
    preview: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A copy that may leave the house: upright, sRGB, without metadata."""

    path: Path
    width: int
    height: int
    mime_type: str


def read_header(path: Path, *, max_pixels: int, filename: str = "") -> Header:
    """Tell type and size of a picture without decoding any of it.

    Args:
        path: the file, of any content whatever.
        max_pixels: the most to accept; half of it for WebP, whose decoder needs twice the memory.
        filename: what the user calls it, for the wording of a refusal.

    Raises:
        InvalidImage: with code `empty`, `not_a_photo`, `unsupported_type`, `too_many_pixels`,
            `cut_short`, `unreadable`, `too_complex` or `too_much_text`.
        OSError: the file cannot be read.
    """
    with _content(path) as data:
        header = _walk(data, filename=filename)
    _check_size(header, max_pixels=max_pixels)
    return header


def _nothing() -> None:
    """For callers that keep nothing alive."""


def prepare(
    source: Path,
    *,
    directory: Path,
    max_pixels: int,
    filename: str = "",
    keep_alive: Callable[[], None] = _nothing,
) -> Prepared:
    """Decode a picture and write `thumb.webp` (320 px) and `preview.webp` (1280 px).

    Args:
        source: the original; it is only read.
        directory: a private folder for the two files. The caller removes it, also after errors.
        max_pixels: as for `read_header`.
        filename: as for `read_header`.
        keep_alive: called every few seconds until the child is done; what it raises ends the child.

    Raises:
        InvalidImage: the picture is at fault, and always will be; codes as in `read_header`.
        ImagingFailed: the machine is at fault (killed, no memory, disk full); try again later.
    """
    header = read_header(source, max_pixels=max_pixels, filename=filename)
    thumbnail, preview = directory / "thumb.webp", directory / "preview.webp"
    copies = [
        {"path": str(preview), "side": PREVIEW_SIDE, "format": "WEBP", "quality": 90},
        {"path": str(thumbnail), "side": THUMBNAIL_SIDE, "format": "WEBP", "quality": 82},
    ]
    _make(source, header=header, copies=copies, keep_alive=keep_alive)
    return Prepared(width=header.width, height=header.height, thumbnail=thumbnail, preview=preview)


def render(
    source: Path,
    *,
    directory: Path,
    max_side: int,
    format: Literal["jpeg", "png"] = "jpeg",  # noqa: A002  (what everybody calls it)
    keep_alive: Callable[[], None] = _nothing,
) -> Rendered:
    """Decode a picture and write the copy that fal gets, `render.jpg` or `render.png`.

    Args:
        source: an original that was accepted before, so only the child's limits hold here.
        directory: a private folder for the file. The caller removes it, also after errors.
        max_side: pixels of the longer side at most; smaller pictures stay as they are.
        format: JPEG of quality 92 with full colour resolution, or PNG.
        keep_alive: as for `prepare`.

    Raises:
        InvalidImage, ImagingFailed: as `prepare`.
    """
    with _content(source) as data:
        header = _walk(data, filename="")
    path = directory / ("render.png" if format == "png" else "render.jpg")
    options = {"compress_level": 3} if format == "png" else {"quality": 92, "subsampling": 0}
    copy = {"path": str(path), "side": max_side, "format": format.upper(), **options}
    _make(source, header=header, copies=[copy], keep_alive=keep_alive)
    width, height = _fit(header.width, header.height, max_side)
    return Rendered(path=path, width=width, height=height, mime_type=f"image/{format}")


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """The size within a square, never larger than before and never nothing."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


# --- Refusals -------------------------------------------------------------------------------

SENTENCES = {
    "empty": "Empty file. 0 bytes arrived; copy it from the camera again.",
    "cut_short": "Cut short. The file ends in the middle; copy it again.",
    "unreadable": (
        "Not readable. The picture inside is damaged; export it again and add the new file."
    ),
    "too_complex": (
        "Too complex. Opening it takes more time or memory than one photo may have; "
        "export it as a plain JPEG and add it again."
    ),
    "too_much_text": (
        "Too much beside the picture. The notes or the colour profile inside are longer than "
        "16 MB; export it as a plain JPEG and add it again."
    ),
}

FOREIGN = (
    (re.compile(rb"GIF8[79]a"), "picture", "a GIF"),
    (re.compile(rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"), "picture", "a TIFF or raw camera file"),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL), "picture", "a HEIC"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "picture", "an AVIF"),
    (re.compile(rb"....ftypcrx |FUJIFILMCCD-RAW", re.DOTALL), "picture", "a raw camera file"),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "picture", "a JPEG XL"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "picture", "a JPEG 2000"),
    (re.compile(rb"BM.{4}\x00\x00\x00\x00", re.DOTALL), "picture", "a BMP"),
    (re.compile(rb"8BPS"), "picture", "a Photoshop file"),
    (re.compile(rb"....ftyp", re.DOTALL), "other", "a video"),
    (re.compile(rb"%PDF-"), "other", "a PDF"),
    (re.compile(rb"PK\x03\x04"), "other", "a ZIP archive"),
    (
        re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<svg", re.DOTALL),
        "picture",
        "an SVG drawing",
    ),
    (
        re.compile(rb"\s*<(?:!doctype html|html|head|body|script)", re.IGNORECASE),
        "other",
        "a web page",
    ),
    (re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]+\Z"), "other", "text"),
)
"""Beginnings of what people take for photos, the more particular first, and what we call them."""

PHOTO_SUFFIX = re.compile(r"\.(?:jpe?g|jpe|jfif|png|webp)\Z", re.IGNORECASE)


def _refuse(code: str, sentence: str = "") -> NoReturn:
    raise InvalidImage(code, sentence or SENTENCES[code])


def _refuse_foreign(head: bytes, *, filename: str) -> NoReturn:
    """Say what the file is instead of a photo that we take."""
    kind, noun = next(
        ((kind, noun) for pattern, kind, noun in FOREIGN if pattern.match(head)),
        ("other", "something else"),
    )
    if kind == "picture":
        _refuse(
            "unsupported_type",
            f"Not JPEG, PNG or WebP. It is {noun}; export it as JPEG and add that.",
        )
    suffix = PHOTO_SUFFIX.search(filename)
    inside = (
        f"It is named {suffix[0].lower()}, but inside is {noun}."
        if suffix
        else f"Inside is {noun}."
    )
    _refuse("not_a_photo", f"Not a photo. {inside} Choose the photo itself.")


def _check_size(header: Header, *, max_pixels: int) -> None:
    width, height, webp = header.width, header.height, header.mime_type == "image/webp"
    if width == 0 or height == 0:
        _refuse("unreadable")
    most = max_pixels // 2 if webp else max_pixels
    if width * height > most:
        size, limit = width * height / 1e6, most / 1e6
        # Rounded to the limit itself, the sentence would contradict itself.
        shown = round(size) if round(size) > limit else math.ceil(size * 100) / 100
        kind = " for WebP" if webp else ""
        _refuse(
            "too_many_pixels",
            f"Too many pixels. {width:,} × {height:,} is {shown:,} megapixels; "
            f"{limit:,g} is the most{kind}. Export it smaller and add it again.",
        )
    if max(width, height) > MAX_SIDE:
        _refuse(
            "too_many_pixels",
            f"Too long. {width:,} × {height:,} has a side over {MAX_SIDE:,} pixels. "
            "Export it smaller and add it again.",
        )


# --- Headers: a walk over the container, no decoder in reach ----------------------------------

JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Neither a stuffed FF of the picture's data, nor a restart inside it, nor filling."""

WINDOW_BYTES = 1 << 20
"""How much of a file is looked at before its pages are let go."""

ORIENTATION, SHORT = 0x0112, 3
"""A tag of EXIF, and the type that its value must have."""

JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})

MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")


@contextmanager
def _content(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a file, mapped: walking 25 MB touches a few pages and copies nothing."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            _refuse("empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _walk(data: mmap.mmap, *, filename: str) -> Header:
    head = data[:1024]
    if head.startswith(MAGICS[0]):
        return _walk_jpeg(data)
    if head.startswith(MAGICS[1]):
        return _walk_png(data)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _walk_webp(data)
    if len(head) < 12 and any(magic.startswith(head[: len(magic)]) for magic in MAGICS):
        _refuse("cut_short")
    _refuse_foreign(head, filename=filename)


def _walk_jpeg(data: mmap.mmap) -> Header:
    """Segments up to the end of the first picture; what follows (MPO, tails) is of no interest.

    Pillow decodes no JPEG without its end marker, so to miss it here is a sure sign of a cut.
    """
    position, scans, exif = 2, 0, b""
    size: tuple[int, int] | None = None
    for _ in range(MAX_SEGMENTS):
        found = _find_marker(data, position)
        if found is None:
            _refuse("cut_short")
        marker, position = found[0][1], found.end()
        if marker == 0xD9:  # end of image
            break
        if marker in {0x01, 0xD8}:  # the two others without a body
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if position + max(length, 2) > len(data):
            _refuse("cut_short")
        if marker in JPEG_FRAMES and size is None:
            height, width = (
                int.from_bytes(data[position + at : position + at + 2], "big") for at in (3, 5)
            )
            size = width, height
        elif marker == 0xE1 and not exif and data[position + 2 : position + 8] == b"Exif\0\0":
            exif = data[position + 2 : position + length]
        elif marker == 0xDA:  # start of scan
            scans += 1
            pixels = size[0] * size[1] if size else 0
            if scans > MAX_SCANS or (scans > 1 and scans * pixels > MAX_SCANNED_PIXELS):
                _refuse("too_complex")
        position += length
    else:
        _refuse("too_complex")
    if size is None or scans == 0:
        _refuse("unreadable")
    return _header("image/jpeg", size, exif)


def _find_marker(data: mmap.mmap, position: int) -> re.Match[bytes] | None:
    """The next marker from `position` on.

    What lies behind is let go by the way, or each photo that is received would weigh as much as its
    file for as long as it is read.
    """
    while position < len(data):
        end = position + WINDOW_BYTES
        # One byte more, for a marker that lies on both sides.
        if (found := JPEG_MARKER.search(data, position, end + 1)) is not None:
            return found
        if sys.platform == "linux":
            start = position - position % mmap.PAGESIZE
            data.madvise(mmap.MADV_DONTNEED, start, min(end, len(data)) - start)
        position = end
    return None


def _walk_png(data: mmap.mmap) -> Header:
    """All chunks, since a cut shows at the last one; a missing IEND alone does no harm.

    How much packed text unpacks to, only the child finds out.
    """
    if len(data) < 33:
        _refuse("cut_short")
    if data[12:16] != b"IHDR":
        _refuse("unreadable")
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    position, exif, pixels, frames, text = 8, b"", False, 0, 0
    for _ in range(MAX_SEGMENTS + len(data) // 1024):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if kind == b"IEND" or position == len(data):
            break
        if end > len(data):
            _refuse("cut_short")
        if kind == b"eXIf" and not exif:
            exif = data[position + 8 : end - 4]
        pixels = pixels or kind == b"IDAT"
        frames += kind == b"fcTL"
        text += length if kind in TEXTS else 0
        position = end
    else:
        _refuse("too_complex")
    if frames > MAX_FRAMES:
        _refuse("too_complex")
    if text > MAX_TEXT_BYTES:
        _refuse("too_much_text")
    if not pixels:
        _refuse("unreadable")
    return _header("image/png", size, exif)


def _walk_webp(data: mmap.mmap) -> Header:
    """The canvas of the extended form, else the frame itself; Exif comes after the picture."""
    if 8 + int.from_bytes(data[4:8], "little") > len(data) or len(data) < 30:
        _refuse("cut_short")
    kind = data[12:16]
    if kind == b"VP8X":
        size = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        size = (
            int.from_bytes(data[26:28], "little") & 0x3FFF,
            int.from_bytes(data[28:30], "little") & 0x3FFF,
        )
    else:
        _refuse("unreadable")
    position, exif, frames = 12, b"", 0
    for _ in range(MAX_SEGMENTS):
        if exif or position >= len(data):
            break
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    else:
        _refuse("too_complex")
    if frames > MAX_FRAMES:
        _refuse("too_complex")
    return _header("image/webp", size, exif)


def _header(mime_type: str, size: tuple[int, int], exif: bytes) -> Header:
    orientation = _orientation(exif)
    width, height = size if orientation < 5 else size[::-1]
    return Header(mime_type=mime_type, width=width, height=height, orientation=orientation)


def _orientation(exif: bytes) -> int:
    """1 to 8 as EXIF 2.3 defines them; 1 where nothing sensible is said.

    Read from the first directory alone, entry by entry: there is no pointer to follow in circles.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    try:
        if order is not None:
            (start,) = struct.unpack_from(f"{order}I", tiff, 4)
            (entries,) = struct.unpack_from(f"{order}H", tiff, start)
            for entry in range(start + 2, start + 2 + 12 * entries, 12):
                tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
                if tag == ORIENTATION:
                    return value if (kind, count) == (SHORT, 1) and 1 <= value <= 8 else 1
    except struct.error:  # it ends in the middle
        pass
    return 1


# --- The parent's side of decoding ------------------------------------------------------------

CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL}

KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""What an unusual Python may need to start; our keys and URLs are not among them."""


def _make(
    source: Path,
    *,
    header: Header,
    copies: list[dict[str, Any]],
    keep_alive: Callable[[], None],
) -> None:
    """Let a child decode `source` once and write `copies`, the largest first."""
    width, height = header.width, header.height
    request = {
        "source": str(source),
        "stored_size": [width, height] if header.orientation < 5 else [height, width],
        "orientation": header.orientation,
        "copies": copies,
    }
    limits = {"parent": os.getpid(), "memory": MEMORY_BYTES, "cpu": CPU_SECONDS}
    begin = time.monotonic()
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", __file__, json.dumps(limits), json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
            start_new_session=True,
        )
    except OSError as error:
        raise ImagingFailed(f"the decoder did not start: {error.strerror}") from error
    stdout, stderr = _wait_for(child, keep_alive=keep_alive)
    if child.returncode == -signal.SIGXCPU:
        _refuse("too_complex")
    if child.returncode in CRASHES:
        _refuse("unreadable")
    try:
        answer = json.loads(stdout)
    except ValueError:
        last_line = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ImagingFailed(
            f"the decoder ended with {child.returncode}: {last_line[:200]}"
        ) from None
    # The kernel counts what the parent held at the fork as well, and keeps only the largest.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    log.info(
        "decoded %s in %.2f s, %.2f s of a core; %.0f MB was the most so far",
        source,
        time.monotonic() - begin,
        answer["processor"],
        largest,
    )
    if "failed" in answer:
        raise ImagingFailed(answer["failed"])
    if "refused" in answer:
        _refuse(answer["refused"])


def _wait_for(
    child: subprocess.Popen[bytes], *, keep_alive: Callable[[], None]
) -> tuple[bytes, bytes]:
    """What the child has said until its end; it does not outlive WALL_SECONDS, nor this call."""
    until = time.monotonic() + WALL_SECONDS
    with child:
        try:
            while (left := until - time.monotonic()) > 0:
                with suppress(subprocess.TimeoutExpired):
                    return child.communicate(timeout=min(left, KEEP_ALIVE_SECONDS))
                keep_alive()
        finally:
            child.kill()
    # Its processor time has a limit of its own, so the machine was busy, not the picture hard.
    raise ImagingFailed(f"decoding did not finish within {WALL_SECONDS} s")


# --- The child --------------------------------------------------------------------------------

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def main() -> None:
    """Do what the second argument asks for; one JSON object on stdout says how it went."""
    request = json.loads(sys.argv[2])
    answer: dict[str, Any]
    try:
        answer = _answer(**request)
    except MemoryError:
        answer = {"refused": "too_complex"}
    print(json.dumps(answer | {"processor": time.process_time()}))  # noqa: T201


def _answer(
    *, source: str, stored_size: list[int], orientation: int, copies: list[dict[str, Any]]
) -> dict[str, str]:
    try:
        image = _decode(
            source, stored_size=stored_size, orientation=orientation, side=copies[0]["side"]
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (Pillow's ways to say no are many)
        if isinstance(error, OSError) and error.errno is not None:
            return {"failed": f"the original cannot be read: {error.strerror}"}
        words = str(error).lower()
        if "truncated" in words:
            return {"refused": "cut_short"}
        if "max_text_" in words:
            return {"refused": "too_much_text"}
        return {
            "refused": "too_complex" if "too large" in words or "memory" in words else "unreadable"
        }
    try:
        for copy in copies:
            image = _write(image, **copy)
    except OSError as error:
        return {"failed": f"a copy cannot be written: {error.strerror or error}"}
    return {}


def _decode(source: str, *, stored_size: list[int], orientation: int, side: int) -> Image.Image:
    """The picture upright in sRGB, within `side`, without metadata."""
    Image.MAX_IMAGE_PIXELS = None  # the header was measured; what remains is ours to limit
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES
    with Image.open(source, formats=FORMATS) as image:
        if list(image.size) != stored_size:
            raise ValueError("the header says otherwise")
        size = _fit(*image.size, side)
        # libjpeg can decode at 1/2, 1/4, 1/8 for a fraction of the work. It takes the smaller
        # of both ratios, hence the fitted size and not a square.
        image.draft(None, size)
        image.load()
        profile = image.info.get("icc_profile")
        plain = _plain(image)
        if plain is not image:
            image.close()  # one copy less in memory
        # Rotated after it was made small: a twelfth of the work.
        small = plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = _flat(small, profile)
    if orientation in UPRIGHT:
        small = small.transpose(UPRIGHT[orientation])
    small.info.clear()  # encoders would copy comments and profiles from here
    return small


def _plain(image: Image.Image) -> Image.Image:
    """Eight bits a channel, in one of the modes L, LA, RGB, RGBA, CMYK."""
    if image.mode.startswith(("I", "F")):
        # convert() would clip 16 bits at 255 and leave a white picture.
        return image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    # A conversion to the same mode would be a copy: 200 MB where the picture is large.
    if image.has_transparency_data:
        return image if image.mode in {"LA", "RGBA"} else image.convert("RGBA")
    return image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")


def _flat(image: Image.Image, profile: bytes | None) -> Image.Image:
    """SRGB, what was transparent laid on white."""
    if image.mode not in {"LA", "RGBA"}:
        return _to_srgb(image, profile)
    white = Image.new("RGB", image.size, "white")
    white.paste(_to_srgb(image.convert("RGB"), profile), mask=image.getchannel("A"))
    return white


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded profile; one that is broken or of another kind is ignored."""
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _write(image: Image.Image, *, path: str, side: int, format: str, **options: Any) -> Image.Image:  # noqa: A002
    """Write a copy within `side` and return it, for the next smaller one to be made from."""
    size = _fit(*image.size, side)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    encoded = io.BytesIO()  # encoding to a file would lose the reason when the disk is full
    image.save(encoded, format, **options)
    Path(path).write_bytes(encoded.getbuffer())
    return image


if __name__ == "__main__":
    main()
