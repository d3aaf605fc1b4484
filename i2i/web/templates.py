"""What Jinja makes of the templates: a page writes out hundreds of values, most of them text."""

from functools import cache
from typing import Any

import markupsafe
from flask.sansio.app import App
from flask.templating import Environment
from jinja2.compiler import CodeGenerator
from markupsafe import Markup, _escape_inner  # type: ignore[attr-defined]


def escape(value: Any) -> str:
    """The value for HTML.

    What markupsafe's `escape` makes of a text is a Markup, at ten times the price of escaping it.
    Here it only goes between other pieces of a page, at once.
    """
    kind = type(value)
    if kind is str:
        return _escape_inner(value)
    return value if kind is Markup else markupsafe.escape(value)


class Code(CodeGenerator):
    """Jinja's code, with this `escape` around everything that is written out."""

    def _output_child_pre(self, *_: Any) -> None:
        self.write("environment.escape(")

    def _output_child_post(self, *_: Any) -> None:
        self.write(")")


class Templates(Environment):
    """Flask's environment, for templates that are all HTML.

    The filter `kept` is for a macro that draws the same for the same words: it draws it once.
    """

    code_generator_class = Code
    escape = staticmethod(escape)

    def __init__(self, app: App, **options: Any) -> None:
        super().__init__(app, **options)
        self.filters["kept"] = cache
