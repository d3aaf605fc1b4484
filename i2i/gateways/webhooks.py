"""Whether a callback is fal's: Ed25519 over the raw body, with the keys that fal publishes.

Source: fal's page on webhooks. Four headers name the request, the account, the time and the
signature. Signed are four lines: request id, account, time, and the raw body's SHA-256 in hex. The
keys are a JWKS that may be kept for a day. fal changes them without notice, so a signature that no
kept key fits makes us look again, at most once a minute.
"""

import base64
import binascii
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from i2i.errors import FalError, FalTemporary

log = logging.getLogger("i2i.webhooks")

MOST_SKEW_SECONDS = 300.0
"""How far a callback's time may be from ours, in either direction."""

KEEP_SECONDS = 86_400.0
"""The longest that keys are kept, as fal asks."""

FETCH_PAUSE_SECONDS = 60.0
"""The least time between two looks at fal's keys: strangers can make us look."""

_MOST_KEYS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the headers of a callback claim. `timestamp` is in Unix seconds."""

    request_id: str
    user_id: str
    timestamp: int
    value: bytes

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self | None:
        """None when a header is missing or is not of its form."""
        request_id, user_id, timestamp, value = (
            headers.get(f"X-Fal-Webhook-{name}", "")
            for name in ("Request-Id", "User-Id", "Timestamp", "Signature")
        )
        if (
            not re.fullmatch(r"[!-~]{1,200}", request_id)
            or not re.fullmatch(r"[!-~]{1,200}", user_id)
            or not re.fullmatch(r"[0-9]{1,12}", timestamp)
            or not re.fullmatch(r"[0-9a-fA-F]{128}", value)
        ):
            return None
        return cls(
            request_id=request_id,
            user_id=user_id,
            timestamp=int(timestamp),
            value=bytes.fromhex(value),
        )

    def message(self, body: bytes) -> bytes:
        """The bytes that were signed, for a body exactly as it arrived."""
        digest = hashlib.sha256(body).hexdigest()
        return f"{self.request_id}\n{self.user_id}\n{self.timestamp}\n{digest}".encode()


class Keys:
    """fal's public keys: fetched when first needed, kept for a day, shared between threads."""

    def __init__(
        self,
        fetch: Callable[[], Mapping[str, object]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gives the JWKS document or raises `FalError`; `clock` counts seconds."""
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: list[Ed25519PublicKey] = []
        self._fetched: float | None = None
        self._tried: float | None = None

    def verify(self, signature: Signature, body: bytes) -> bool:
        """Whether one of fal's keys made this signature of this body.

        Raises:
            FalTemporary: fal's keys are not known just now.
        """
        message = signature.message(body)
        keys = self._current()
        if not keys:
            keys = self._renew(blocking=True)
            if not keys:
                raise FalTemporary("fal's signing keys cannot be had")
            return _fits(keys, signature.value, message)
        # While another thread looks, nobody waits: a refused callback comes again.
        return _fits(keys, signature.value, message) or _fits(
            self._renew(blocking=False), signature.value, message
        )

    def _current(self) -> list[Ed25519PublicKey]:
        """The kept keys; none when there are none that are less than a day old."""
        fresh = self._fetched is not None and self._clock() - self._fetched < KEEP_SECONDS
        return self._kept if fresh else []

    def _renew(self, *, blocking: bool) -> list[Ed25519PublicKey]:
        """The keys after another look at fal, if it is time for one; none that are too old."""
        if not self._lock.acquire(blocking=blocking):
            return self._current()
        try:
            now = self._clock()
            if self._tried is not None and now - self._tried < FETCH_PAUSE_SECONDS:
                return self._current()
            self._tried = now
            if found := read_jwks(self._fetch()):
                self._kept, self._fetched = found, now
            else:
                log.error("fal's list of signing keys holds none that is usable")
        except FalError as error:
            log.warning("fal's signing keys cannot be fetched: %s", error.detail)
        finally:
            self._lock.release()
        return self._current()


def read_jwks(document: Mapping[str, object]) -> list[Ed25519PublicKey]:
    """The Ed25519 keys of a JWKS; others are left out. fal pads `x` with "=", others do not."""
    entries = document.get("keys")
    found = []
    for entry in entries[:_MOST_KEYS] if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("crv") != "Ed25519":
            continue
        text = str(entry.get("x")).rstrip("=")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found.append(Ed25519PublicKey.from_public_bytes(raw))
        except (binascii.Error, ValueError):
            continue
    return found


def _fits(keys: list[Ed25519PublicKey], value: bytes, message: bytes) -> bool:
    for key in keys:
        try:
            key.verify(value, message)
        except InvalidSignature:
            continue
        return True
    return False
