"""Names under which pictures are saved: told apart, and possible on every system."""

import re
import unicodedata

LONGEST = 200
"""Characters of a name; well below what any file system takes."""

LONGEST_BYTES = 240
"""The same in UTF-8: Linux counts bytes, 255 at most."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]')
_INVISIBLE = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""What turns the direction of text, so that `gpj.exe` can look like `exe.jpg`."""

_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])", re.IGNORECASE)
_NUMBERED = re.compile(r"_[^_]{1,64}_\d{1,6}(?:_late)?\Z")


def for_result(source: str, *, ending: str, suffix: str) -> str:
    """As in `IMG_0042_mannequin-to-human-v1_2.jpg`.

    Args:
        source: the photo's own name.
        ending: the workflow's id and which of the photo's pictures with it this one is, from 1.
        suffix: with its dot, by what the result is.
    """
    return safe(f"{_stem(source)}_{ending}{suffix}")


def safe(name: str) -> str:
    """The name with what some system forbids replaced, and shortened in the middle."""
    name = unicodedata.normalize("NFC", name)
    name = _FORBIDDEN.sub("_", _INVISIBLE.sub("", name)).strip(" ").rstrip(". ")
    if _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ")):
        name = f"_{name}"
    return _shortened(name or "picture")


def distinct(name: str, *, taken: set[str]) -> str:
    """The name, made safe, with a number where it is taken; it is added to `taken`.

    Names are compared as Windows and macOS compare them, without case.
    """
    name = safe(name)
    stem, suffix = _stem(name), name[len(_stem(name)) :]
    found, number = name, 1
    while _folded(found) in taken:
        number += 1
        tail = f" ({number}){suffix}"
        found = _shortened(f"{stem}{tail}", keep=_ending(stem) + len(tail))
    taken.add(_folded(found))
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(name: str) -> str:
    stem, dot, kind = name.rpartition(".")
    return stem if dot and stem and 1 <= len(kind) <= 5 else name


def _ending(stem: str) -> int:
    """Characters at the end of a result's name that say what made it, and its number."""
    found = _NUMBERED.search(stem)
    return len(found[0]) if found else 0


def _shortened(name: str, *, keep: int | None = None) -> str:
    """The beginning and the end of a name that is too long; the end tells it from others."""
    if keep is None:
        stem = _stem(name)
        keep = _ending(stem) + len(name) - len(stem)
    head, tail = (name[:-keep], name[-keep:]) if keep else (name, "")
    room = LONGEST_BYTES - len(tail.encode())
    head = head[: LONGEST - len(tail)].encode()[:room].decode(errors="ignore")
    return f"{head.rstrip(' ')}{tail}" if head.strip(" ") else name[:LONGEST]
