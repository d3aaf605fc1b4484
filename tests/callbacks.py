"""Callbacks as fal sends them, signed with a key of the test's own."""

import hashlib
import json
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HEADERS = ("Request-Id", "User-Id", "Timestamp", "Signature")


class Signer:
    """Somebody with an Ed25519 key; `jwk` is its public half, padded as fal's.

    `key`: 32 bytes, where it is not to be a new one.
    """

    def __init__(self, *, padded=True, key=None):
        self._key = (
            Ed25519PrivateKey.from_private_bytes(key) if key else Ed25519PrivateKey.generate()
        )
        x = urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode()
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x if padded else x.rstrip("=")}

    def headers(self, body, *, request_id, timestamp, user_id="user-1"):
        """The four headers, by fal's rule."""
        digest = hashlib.sha256(body).hexdigest()
        message = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode()
        values = (request_id, user_id, str(timestamp), self._key.sign(message).hex())
        return {f"X-Fal-Webhook-{name}": value for name, value in zip(HEADERS, values, strict=True)}


def body_of(request_id, **changes):
    """fal's body for a picture."""
    content = {
        "request_id": request_id,
        "gateway_request_id": request_id,
        "status": "OK",
        "payload": {"images": [{"url": "https://v3.fal.media/files/x/1.jpeg"}]},
    }
    return json.dumps(content | changes).encode()
