"""Addresses: a page has some that never change, and a hundred that differ only in an id."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import flask
from flask import request, url_for

STAND_IN = UUID(int=2**128 - 1)
"""No thing has this id, for PostgreSQL makes them of version 4."""

KEPT = 256
"""Addresses without values, and beginnings and ends of others: there are not as many."""

Address = Callable[[UUID | str], str]


class Addresses(flask.Flask):
    """Flask, which builds an address without values, or of a file of `static/`, only once.

    It takes some ten microseconds, thirty times a page. Where the site hangs is part of what is
    kept: a proxy may put a prefix before it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        build = super().url_for

        @lru_cache(KEPT)
        def fixed(_root: str, endpoint: str, **values: Any) -> str:
            return build(endpoint, **values)

        self._fixed = fixed

    def url_for(self, endpoint: str, **values: Any) -> str:
        given = {name: value for name, value in values.items() if value is not None}
        if request and endpoint[0] != "." and (not given or endpoint == "static"):
            return self._fixed(request.root_path, endpoint, **given)
        return super().url_for(endpoint, **given)


def by_id(endpoint: str, **values: Any) -> Address:
    """`url_for` of an endpoint whose `id` comes later."""
    before, after = _around_id(request.root_path, endpoint, **values)
    return lambda each: f"{before}{each}{after}"


@lru_cache(KEPT)
def _around_id(_root: str, endpoint: str, **values: Any) -> tuple[str, str]:
    before, after = url_for(endpoint, id=STAND_IN, **values).split(str(STAND_IN))
    return before, after


def with_query(address: str, query: Mapping[str, Any]) -> str:
    """The address with these fields; None leaves one out."""
    fields = _encoded(tuple((name, text) for name, text in query.items() if text is not None))
    return f"{address}?{fields}" if fields else address


_encoded = lru_cache(KEPT)(urlencode)
