"""Cursors: what signs them may change while pages that hold them are open."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from i2i.app import create_app
from i2i.errors import NotFound
from i2i.web.paging import _serializer, read_cursor, write_cursor

PLACE = (datetime(2026, 11, 23, 8, 30, tzinfo=UTC), UUID("0b0b7d7e-30a1-4f0e-9b0c-3f3c5a1d2e4f"))

FORMER = "3f7c2e918d4b06a5e1c97d20"
NEW = "b41e6a0d95c8273fd16e02a9"


@pytest.fixture
def context_of(make_settings):
    return lambda **keys: create_app(make_settings(**keys)).app_context()


def test_a_former_key_is_understood_and_signs_nothing(context_of):
    with context_of(SECRET_KEY=FORMER):
        before = write_cursor(*PLACE)
    with context_of(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=FORMER):
        assert read_cursor(before) == PLACE
        after = write_cursor(*PLACE)
    with context_of(SECRET_KEY=NEW):
        assert read_cursor(after) == PLACE
        with pytest.raises(NotFound):
            read_cursor(before)


@pytest.mark.parametrize(
    "said", [None, 0, "2026-01-01", [], ["2026-01-01"], ["2026-01-01", 0], [0, PLACE[1].hex], {"a": "b"}]
)  # fmt: skip
def test_what_is_well_signed_may_be_no_place(app, said):
    with app.test_request_context(), pytest.raises(NotFound):
        read_cursor(_serializer().dumps(said))
