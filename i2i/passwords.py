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
from functools import cache

import bcrypt

from i2i.errors import InvalidFields

MINIMUM = 15
"""Characters; NIST SP 800-63B-4 asks this of a password that is the only factor."""

MAXIMUM = 1024
"""Characters; a bound on work, not on memory of people."""

_AT_ONCE = threading.BoundedSemaphore(2)
"""A check costs 0.28 s of a core: more at once would starve every other request."""


def _prehash(password: str) -> bytes:
    digest = hmac.digest(
        b"i2i password v1",
        unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass"),
        "sha256",
    )
    return base64.b64encode(digest)


def hash_password(password: str, *, rounds: int) -> str:
    """The bcrypt hash to store; InvalidFields("password") when it is too short or too long."""
    if not MINIMUM <= len(password) <= MAXIMUM:
        raise InvalidFields({"password": f"Choose a password of {MINIMUM} characters or more."})
    with _AT_ONCE:
        return bcrypt.hashpw(_prehash(password), bcrypt.gensalt(rounds)).decode("ascii")


def verify_password(password: str, password_hash: str | None, *, rounds: int) -> bool:
    """Whether the password fits; None as hash (no such user) costs the same time and is False."""
    stored = password_hash or _dummy_hash(rounds)
    with _AT_ONCE:
        matches = bcrypt.checkpw(_prehash(password[:MAXIMUM]), stored.encode("ascii"))
    return matches and password_hash is not None and len(password) <= MAXIMUM


@cache
def _dummy_hash(rounds: int) -> str:
    return bcrypt.hashpw(_prehash(secrets.token_hex()), bcrypt.gensalt(rounds)).decode("ascii")


def make_password() -> str:
    """A random password of 20 letters and digits, without look-alikes (over 110 bits)."""
    letters = "abcdefghijkmnpqrstuvwxyzACDEFGHJKLMNPQRTUVWXYZ234679"
    return "".join(secrets.choice(letters) for _ in range(20))


def hash_token(token: str) -> bytes:
    """SHA-256 of a session token: the token has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
