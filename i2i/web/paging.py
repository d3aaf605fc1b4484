"""Opaque cursors: the place of the last row shown, signed so that nobody edits them by hand."""

import json
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer
from itsdangerous.encoding import base64_encode

from i2i.errors import NotFound
from i2i.web.state import settings


def _serializer() -> URLSafeSerializer:
    """Signs with the key; reads also what a fallback signed, so that a page left open goes on."""
    return _signing_with((*reversed(settings().secret_key_fallbacks), settings().secret_key))


@cache
def _signing_with(keys: tuple[str, ...]) -> URLSafeSerializer:
    return _Short(keys, salt="cursor")


class _Short(URLSafeSerializer):
    """For what is too short to be compressed; trying takes longer than all the rest."""

    def dump_payload(self, obj: Any) -> bytes:
        return base64_encode(json.dumps(obj, separators=(",", ":")))


def write_cursor(created_at: datetime, row_id: UUID) -> str:
    """The cursor after this row, for a URL."""
    cursor = _serializer().dumps([created_at.isoformat(), str(row_id)])
    return cursor if isinstance(cursor, str) else cursor.decode("ascii")


def read_cursor(text: str | None) -> tuple[datetime, UUID] | None:
    """The place that a cursor names; None without one, NotFound for one that is not ours."""
    if not text:
        return None
    with suppress(BadSignature, ValueError):
        match _serializer().loads(text):
            case [str(created_at), str(row_id)]:
                return datetime.fromisoformat(created_at), UUID(row_id)
    raise NotFound("This page does not exist.")
