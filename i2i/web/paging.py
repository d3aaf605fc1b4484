"""Opaque cursors: the place of the last row shown, signed so that nobody edits them by hand."""

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
    try:
        created_at, row_id = _serializer().loads(text)
        return datetime.fromisoformat(created_at), UUID(row_id)
    except (BadSignature, ValueError, TypeError):
        raise NotFound("This page does not exist.") from None
