"""Addresses that are built once."""

from uuid import uuid4

import pytest
from flask import url_for
from werkzeug.routing import BuildError

from i2i.web.addresses import by_id, with_query


def test_they_are_those_that_flask_builds(pages_app):
    thing = uuid4()
    for prefix in ("", "/studio", ""):
        with pages_app.test_request_context(base_url=f"http://localhost{prefix}"):
            for _ in range(2):
                assert url_for("jobs.history") == f"{prefix}/jobs"
                assert url_for("jobs.history", q="a b") == f"{prefix}/jobs?q=a+b"
                assert url_for("static", filename="app.css").startswith(f"{prefix}/static/")
                assert url_for("static", filename="favicon.svg").endswith("/favicon.svg")
                assert by_id("jobs.show")(thing) == f"{prefix}/jobs/{thing}"
                assert by_id("images.show", size="thumb")(thing) == url_for(
                    "images.show", id=thing, size="thumb"
                )
                with pytest.raises(BuildError):
                    url_for("jobs.nothing")


def test_a_query_is_put_behind():
    assert with_query("/jobs", {}) == "/jobs"
    assert with_query("/jobs", {"q": None}) == "/jobs"
    assert with_query("/jobs", {"q": "a&b é", "view": None, "from": "2026-01-01"}) == (
        "/jobs?q=a%26b+%C3%A9&from=2026-01-01"
    )
