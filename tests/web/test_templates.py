"""What is written out into a page: escaped as Jinja would, once, whatever it is."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from i2i.models import JobStatus

HOSTILE = """<script>alert("it's")</script> & more"""
HARMLESS = "&lt;script&gt;alert(&#34;it&#39;s&#34;)&lt;/script&gt; &amp; more"


class Drawn:
    def __html__(self):
        return "<svg></svg>"


class Named(str):
    """A text of a type of its own."""

    __slots__ = ()


@pytest.fixture
def render(pages_app):
    return lambda source, **values: pages_app.jinja_env.from_string(source).render(values)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (HOSTILE, HARMLESS),
        (Named(HOSTILE), HARMLESS),
        (Markup("<b>bold</b>"), "<b>bold</b>"),
        (Markup("<b>{}</b>").format(HOSTILE), f"<b>{HARMLESS}</b>"),
        (Drawn(), "<svg></svg>"),
        (JobStatus.HELD, "held"),
        ([HOSTILE], str(Markup("[{}]")).format(str(Markup.escape(repr(HOSTILE))))),
        (7, "7"),
        (None, "None"),
        ("", ""),
    ],
)
def test_every_value_is_escaped_once(render, value, written):
    assert render("{{ value }}", value=value) == written
    assert render("{% set same = value %}{{ same }}", value=value) == written
    macro = "{% macro inner(it) %}{{ it }}{% endmacro %}{% macro outer(it) %}{{ inner(it) }}{% endmacro %}"
    assert render(macro + "{{ outer(value) }}", value=value) == written
    kept = "{% macro draw(it) %}{{ it }}{% endmacro %}{% set drawn = draw|kept %}"
    if not isinstance(value, list):
        assert render(kept + "{{ drawn(value) }}{{ drawn(value) }}", value=value) == written * 2


def test_a_block_of_text_is_escaped_once(render):
    source = "{% set block %}<i>{{ value }}</i>{% endset %}{{ block }}{{ value ~ block }}"
    italic = f"<i>{HARMLESS}</i>"
    assert render(source, value=HOSTILE) == f"{italic}{HARMLESS}{italic}"


def test_what_is_missing_is_still_an_error(render):
    with pytest.raises(UndefinedError):
        render("{{ nobody }}")


def test_jinja_still_asks_for_it(pages_app):
    """It would do without, at its own pace."""
    code = pages_app.jinja_env.compile("{{ value }}", raw=True)
    assert "environment.escape(" in code
