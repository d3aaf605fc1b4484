"""Opaque cursors: the place of the last row shown, signed so that nobody edits them by hand."""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer

from i2i.errors import NotFound
from i2i.web.state import settings


def _serializer() -> URLSafeSerializer:
    """Signs with the key; reads also what a fallback signed, so that a page left open goes on."""
    keys = [*reversed(settings().secret_key_fallbacks), settings().secret_key]
    return URLSafeSerializer(keys, salt="cursor")


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
