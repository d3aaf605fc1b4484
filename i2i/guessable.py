"""Passwords that others guess first: well-known words, rows of keys, counting, repeats, our names.

There are no rules about which characters a password has. Instead it is cut in the cheapest way into
pieces that a guesser tries in turn (a word, a walk over the keyboard, "1234", a single letter), and
their costs are added up. Costs are decimal digits of guesses: 2.5 for a word out of some hundreds.
What comes out below `ENOUGH` is refused. Latin letters, digits and signs are judged; of other
writing nothing is known here, so it counts as it stands.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

ENOUGH = 9.0
"""A billion guesses: with ten tries in five minutes that is a thousand years."""

WORDS_FILE = Path(__file__).with_name("common-passwords.txt")

_NAME, _SEQUENCE, _DIGIT, _LETTER, _OTHER, _WALK, _YEAR, _WORD = 0.5, 1.5, 1, 1.2, 1.5, 2, 1.5, 2.5

_YEARS = re.compile("(19|20)[0-9]{2}")

# As people write letters with other keys; l and i share one.
_SPELLINGS = [
    str.maketrans(dict(zip("0134578@$!|+", "o" + one + "eastbas" + one + one + "t", strict=True)))
    for one in "il"
]

_ROWS = [
    ("1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"),
    ("!@#$%^&*()_+", "qwertyuiop{}", 'asdfghjkl:"', "zxcvbnm<>?"),
    ("1234567890", "qwertzuiop", "asdfghjkl", "yxcvbnm,.-"),
    ("1234567890", "azertyuiop", "qsdfghjklm", "wxcvbn,;:!"),
]

_ADVICE = "Choose a few words that do not belong together."


def problem(password: str, *, names: Iterable[str] = ()) -> str | None:
    """What makes this password easy to guess and what to do instead, or None.

    `names` are addresses and hosts: their parts are known to everybody, and so is "i2i".
    """
    if cost(password) < ENOUGH:
        return (
            "This password is among the first that others try: it is made of well-known words, "
            f"rows of keys, counting or repeats. {_ADVICE}"
        )
    if cost(password, names=_parts(names)) < ENOUGH:
        return (
            "This password is little more than the name of this site, its address or your e-mail "
            f"address. {_ADVICE}"
        )
    return None


def cost(password: str, *, names: frozenset[str] = frozenset()) -> float:
    """About how many guesses it takes, as a power of ten. `names` are folded and known."""
    text = fold(password)
    bare = _bare(text)
    costs = [_cost(text, names)]
    if 2 * len(bare) >= len(text):  # spaces and dots between the pieces: one guess how
        costs.append(_OTHER + _cost(bare, names))
        costs.append(_OTHER + _cost(bare[::2], names) + _cost(bare[1::2], names))  # a1b2c3
    return min(costs)


def fold(text: str) -> str:
    """Without case and accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(each for each in plain if not unicodedata.combining(each))


@cache
def common() -> frozenset[str]:
    """The words and phrases of the list, folded, without what stands between their letters."""
    lines = WORDS_FILE.read_text(encoding="utf-8").splitlines()
    words = " ".join(line for line in lines if not line.startswith("#")).split()
    return frozenset(_bare(fold(word)) for word in words)


def _bare(text: str) -> str:
    return "".join(each for each in text if each.isalnum())


def _parts(names: Iterable[str]) -> frozenset[str]:
    """Every label and word of the names, and each name in one piece."""
    found = {"i2i"}
    for name in map(fold, names):
        halves = [half for half in name.split("@") if half]
        pieces = [_bare(each) for each in (name, *halves, *re.split(r"[^\w]|_", name))]
        found.update(piece for piece in pieces if len(piece) > 2)
    return frozenset(found)


def _cost(text: str, names: frozenset[str]) -> float:
    """The cheapest way to put the text together, as in the shortest path over its positions."""
    unit = _repeated(text)
    if unit:
        return _OTHER + _cost(unit, names)
    best = [0.0] + [float("inf")] * len(text)
    for start in range(len(text)):
        for end, price in _pieces(text, start, names):
            best[end] = min(best[end], best[start] + price)
    return best[-1]


def _repeated(text: str) -> str | None:
    """The shortest part that the whole text repeats, the last time perhaps cut short."""
    if text.isascii():
        for size in range(1, len(text) // 2 + 1):
            if text[size:] == text[:-size]:
                return text[:size]
    return None


def _pieces(text: str, start: int, names: frozenset[str]) -> Iterator[tuple[int, float]]:
    """(end, cost) of everything that may begin at this place."""
    first = text[start]
    single = _DIGIT if first.isdigit() else _LETTER if "a" <= first <= "z" else _OTHER
    yield start + 1, single
    if _YEARS.match(text, start):
        yield start + 4, _YEAR
    known = common()
    for end in range(start + 3, min(len(text), start + _longest(names)) + 1):
        spellings = {text[start:end], *(text[start:end].translate(each) for each in _SPELLINGS)}
        if spellings & names:
            yield end, _NAME
        elif any(each in known or each[::-1] in known for each in spellings):
            yield end, _WORD
    for end in range(start + 3, _counting_end(text, start) + 1):
        yield end, _SEQUENCE
    for end in range(start + 4, _walk_end(text, start) + 1):
        yield end, _WALK


@lru_cache(maxsize=8)
def _longest(names: frozenset[str]) -> int:
    return max(map(len, common() | names))


def _counting_end(text: str, start: int) -> int:
    """Where a run ends whose characters go on by one, back by one, or stay the same; 0 after 9."""
    end, step = start + 1, None
    while end < len(text) and text[end].isascii():
        by = ord(text[end]) - ord(text[end - 1])
        by = {-9: 1, 9: -1}.get(by, by) if text[end - 1 : end + 1].isdigit() else by
        if by not in {-1, 0, 1} or step not in {None, by}:
            break
        end, step = end + 1, by
    return end


def _walk_end(text: str, start: int) -> int:
    """Where a walk from key to neighbouring key ends."""
    end = start + 1
    while end < len(text) and text[end - 1 : end + 1] in _neighbours():
        end += 1
    return end


@cache
def _neighbours() -> frozenset[str]:
    """Every two characters whose keys touch on one of the keyboards, or are the same key."""
    found = set()
    for rows in _ROWS:
        for number, row in enumerate(rows):
            found |= {a + b for a, b in pairwise(row)} | {key * 2 for key in row}
            below = rows[number + 1] if number + 1 < len(rows) else ""
            found |= {row[i] + below[j] for i in range(len(row)) for j in (i - 1, i)
                      if 0 <= j < len(below)}  # fmt: skip
    return frozenset(found | {pair[::-1] for pair in found})
