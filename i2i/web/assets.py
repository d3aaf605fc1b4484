"""Style and scripts: read once, compressed once, under an address that changes with their content.

All share one hash, in the path, so that modules find each other by relative names. Browsers keep
what is under the current hash for good. A page from before a new release may still ask for another
hash: it gets today's file, not to be kept.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from i2i.errors import NotFound

FOLDER = Path(__file__).parent / "static"

FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and gzipped."""

    mime_type: str
    plain: bytes
    packed: bytes


def register(app: Flask) -> None:
    """Serve the files as the endpoint `static`; `url_for` puts the hash in."""
    assets = {path.name: _load(path) for path in sorted(FOLDER.iterdir())}
    digest = hashlib.sha256()
    for name, asset in assets.items():
        digest.update(f"{name} {len(asset.plain)} ".encode() + asset.plain)
    current = digest.hexdigest()[:12]

    def add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values.setdefault("version", current)

    def send(version: str, filename: str) -> Response:
        if filename not in assets:
            raise NotFound("There is no such file.")
        return _send(assets[filename], etag=f"{current}-{filename}", keep=version == current)

    app.url_defaults(add_hash)
    app.add_url_rule("/static/<version>/<filename>", "static", send)


def _load(path: Path) -> Asset:
    plain = path.read_bytes()
    mime_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(mime_type, plain, gzip.compress(plain, mtime=0))


def _send(asset: Asset, *, etag: str, keep: bool) -> Response:
    packed = request.accept_encodings["gzip"] > 0
    response = Response(asset.packed if packed else asset.plain, mimetype=asset.mime_type)
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Cache-Control"] = FOR_GOOD if keep else "no-cache"
    response.set_etag(etag + "-gzip" * packed)
    response.vary.add("Accept-Encoding")
    response.make_conditional(request)
    return response
