"""Passwords: bcrypt over a pre-hash, and a verify that takes as long for nobody as for somebody.

bcrypt reads at most 72 bytes and would cut or refuse longer passwords. The pre-hash, base64 of
HMAC-SHA-256 keyed with a constant, makes 44 bytes of any length; the key keeps our hashes apart
from plain SHA-256 ones that leak elsewhere. NFC makes é typed on two keyboards the same.
"""

import base64
import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt

from i2i.errors import TooBusy

MINIMUM = 15
"""Characters; NIST SP 800-63B-4 asks this of a password that is the only factor."""

MAXIMUM = 1024
"""Characters; a bound on work, not on memory of people."""

_AT_ONCE = threading.BoundedSemaphore(1)
"""A check costs 0.28 s of a core. One at once in each process are two with gunicorn's two."""

_IN_LINE = threading.BoundedSemaphore(3)
"""Who checks and who waits for it: a process has a fourth thread, so that pages still come."""


@contextmanager
def _turn() -> Iterator[None]:
    """One's turn at bcrypt; TooBusy at once when the line is full."""
    if not _IN_LINE.acquire(blocking=False):
        raise TooBusy
    try:
        with _AT_ONCE:
            yield
    finally:
        _IN_LINE.release()


def _prehash(password: str) -> bytes:
    digest = hmac.digest(
        b"i2i password v1",
        unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass"),
        "sha256",
    )
    return base64.b64encode(digest)


def problem(password: str) -> str | None:
    """What is wrong with the length of a new password and what to do, or None. No other rules."""
    if len(password) < MINIMUM:
        return f"Choose a password of {MINIMUM} characters or more."
    if len(password) > MAXIMUM:
        return f"Choose a password of {MAXIMUM:,} characters or fewer."
    return None


def hash_password(password: str, *, rounds: int) -> str:
    """The bcrypt hash to store."""
    with _turn():
        return bcrypt.hashpw(_prehash(password), bcrypt.gensalt(rounds)).decode("ascii")


def verify_password(password: str, password_hash: str | None, *, rounds: int) -> bool:
    """Whether the password fits; None as hash (no such user) costs the same time and is False."""
    stored = password_hash or _dummy_hash(rounds)
    with _turn():
        matches = bcrypt.checkpw(_prehash(password[:MAXIMUM]), stored.encode("ascii"))
    return matches and password_hash is not None and len(password) <= MAXIMUM


def _dummy_hash(rounds: int) -> str:
    """A hash of nothing: as slow to check as any other, and never slower the first time."""
    return bcrypt.gensalt(rounds).decode("ascii") + "." * 31


def make_password() -> str:
    """A random password of 20 letters and digits, without look-alikes (over 110 bits)."""
    letters = "abcdefghijkmnpqrstuvwxyzACDEFGHJKLMNPQRTUVWXYZ234679"
    return "".join(secrets.choice(letters) for _ in range(20))


def hash_token(token: str) -> bytes:
    """SHA-256 of a session token: the token has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
