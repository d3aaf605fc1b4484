"""Workflows as data: a definition's schema becomes form fields, their values become a fal request.

A definition is one document (TOML or JSON): a JSON Schema of what users may set, its defaults, a
template of the request, price and limits. This module alone knows jinja2 and jsonschema. Nothing
here reads a file, a socket or the clock, so what a workflow sends can be tested as plain values.

**Schema.** JSON Schema 2020-12 with scalar properties and the keywords of `_KEYWORDS`. Our own:
`x-order` (place in the form), `x-group` ("Picture", "Model", "Advanced"), `x-advanced` (folded),
`x-widget` ("shape", "slider"), `x-labels` (words for the values of a choice or stops of a slider),
`x-unit` (follows the number), `x-when` (`{"aspect_ratio": "custom"}`: shown and required only while
that choice is made, dropped otherwise), `x-price-factors` (a choice's value multiplies the price),
`x-output-scale` (the number multiplies both sides of the picture).

**Request template.** JSON whose strings may hold `{{ }}` and `{% if %}`. A string that is exactly
`{{ expression }}` keeps the value's type; any other is text, in which only texts and numbers may
stand. An expression that gives `none` is left out together with its key, so an optional parameter
is written `{{ seed | default(none) }}`. Names: the parameters, `image_urls`, `references` (lists).
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeGuard

import jsonschema
from jinja2 import StrictUndefined, TemplateError, Undefined, nodes
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from referencing import Registry

from i2i.errors import InvalidFields, InvalidWorkflow

RESERVED = frozenset(
    {
        *(
            "image",
            "reference",
            "workflow",
            "variations",
            "pilot",
            "client_key",
            "confirm",
            "scope",
            "next",
            "q",
        ),
        *("parent", "preset", "preset_name", "preset_replace", "pilot_photos"),
        *("switch", "uploads", "without"),
    }
)
"""Fields of the batch form itself: no parameter has these names, and parsing skips them."""

TEMPLATE_NAMES = frozenset({"image_urls", "references"})
"""What a template knows beside the parameters; no parameter has these names either."""

MAX_DOCUMENT_BYTES = 64_000
MAX_TEMPLATE_BYTES = 16_000
MAX_REQUEST_BYTES = 20_000
MAX_OUTPUT_PIXELS = 50_000_000
"""The largest picture the worker decodes (DESIGN 4), so the largest a workflow may ask for."""

_MAX_NODES = 1_000
_MAX_DEPTH = 20
_MAX_PROPERTIES = 40
_MAX_CHOICES = 50
_SAFE_INTEGER = 2**53 - 1

_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){50}""")
"""A key of so many parts, a.b.c…: for tomllib each costs as much as all before it."""

Schema = Mapping[str, Any]
Parameters = dict[str, Any]
Kind = Literal["choice", "choices_select", "integer", "number", "text", "boolean", "shape"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One workflow as an operator writes it; sizes in pixels, times in seconds.

    `unit_price` is per picture or per started megapixel of the result; None is "price unknown".
    `max_side` is what inputs are scaled down to, `formats` what they may be sent as.
    """

    id: str
    name: str
    description: str
    fal_endpoint: str
    parameter_schema: Schema
    default_parameters: Mapping[str, Any]
    request_template: Mapping[str, Any]
    unit_price: Decimal | None = None
    price_unit: Literal["image", "megapixel"] = "image"
    currency: str = "USD"
    max_side: int = 2048
    formats: tuple[str, ...] = ("jpeg",)
    max_references: int = 0
    deadline_seconds: int = 1800
    usual_seconds: int | None = None
    is_active: bool = True


@dataclass(frozen=True, kw_only=True)
class Field:
    """One form field. `choices` are (value, label) pairs; a slider's are its named stops."""

    name: str
    label: str
    help: str
    kind: Kind
    choices: tuple[tuple[str, str], ...]
    minimum: float | None
    maximum: float | None
    max_length: int | None
    default: str | float | bool | None
    required: bool
    advanced: bool
    group: str
    widget: str | None
    unit: str
    when: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


# --- Documents ----------------------------------------------------------------------------------


def load_document(text: str, *, format: Literal["toml", "json"]) -> dict[str, Any]:  # noqa: A002
    """Read TOML or JSON; InvalidWorkflow names line and column of what cannot be read."""
    if len(text.encode("utf-8", "replace")) > MAX_DOCUMENT_BYTES:
        raise InvalidWorkflow(f"This is longer than {MAX_DOCUMENT_BYTES // 1000} kB.")
    try:
        if format == "toml":
            if _LONG_KEY.search(text):
                raise InvalidWorkflow("A key of this, as in a.b.c, has too many parts.")
            return tomllib.loads(text)
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidWorkflow("An escape in this (\\ud800 to \\udfff) names no letter.") from None
    except json.JSONDecodeError as error:
        raise InvalidWorkflow(f"Line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidWorkflow(_toml_fault(str(error), text)) from None
    except RecursionError:
        raise InvalidWorkflow("This is nested too deeply.") from None
    except ValueError as error:
        raise InvalidWorkflow(str(error)) from None
    if not isinstance(document, dict):
        raise InvalidWorkflow("Line 1, column 1: a workflow is an object, as in {…}.")
    return document


def parse_definition(document: Mapping[str, Any]) -> Definition:
    """Turn a document (or a database row of the same names) into a Definition.

    Checks names and types; whether the parts hold together is `check_definition`'s work.

    Raises:
        InvalidWorkflow: with the JSON Pointer of the first place that is wrong.
    """
    for key in document:
        if key not in _READERS:
            raise InvalidWorkflow(f"“{key}” is not a key of a workflow.", _pointer("", key))
    values: dict[str, Any] = {}
    for key, read in _READERS.items():
        if document.get(key) is not None:
            values[key] = read(document[key], f"/{key}")
        elif key in _REQUIRED_KEYS:
            raise InvalidWorkflow(f"“{key}” is missing.", f"/{key}")
    return Definition(**values)


def dump_document(definition: Definition) -> dict[str, Any]:
    """Give the document `parse_definition` reads back; JSON types only, unset keys left out."""
    document: dict[str, Any] = {}
    for key in _READERS:
        value = getattr(definition, key)
        if value is not None:
            document[key] = _plain(value)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _pointer(base: str, key: object) -> str:
    """Extend a JSON Pointer (RFC 6901)."""
    return f"{base}/{str(key).replace('~', '~0').replace('/', '~1')}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"“{twice}” stands twice in one object.")
    return keys


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number.")


def _toml_fault(message: str, text: str) -> str:
    """Put tomllib's "(at line 3, column 5)" first, as JSON's faults have it."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if found is None:
        return f"{message.rstrip('.')}."
    line = found[2] or str(text.count("\n") + 1)
    column = found[3] or str(len(text) - (text.rfind("\n") + 1) + 1)
    return f"Line {line}, column {column}: {found[1]}."


def _read_text(pattern: str, words: str) -> Callable[[object, str], str]:
    def read(value: object, pointer: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise InvalidWorkflow(f"This must be {words}.", pointer)
        return value

    return read


def _read_whole(least: int, most: int) -> Callable[[object, str], int]:
    def read(value: object, pointer: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidWorkflow(f"This must be a whole number from {least} to {most}.", pointer)
        return value

    return read


def _read_price(value: object, pointer: str) -> Decimal:
    if not _is_number(value) or not 0 <= value <= 1000:
        raise InvalidWorkflow("This must be a number from 0 to 1000, without quotes.", pointer)
    return Decimal(str(value))


def _read_bool(value: object, pointer: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidWorkflow("This must be true or false, without quotes.", pointer)
    return value


def _read_formats(value: object, pointer: str) -> tuple[str, ...]:
    if (
        not isinstance(value, list | tuple)
        or not value
        or any(item not in ("jpeg", "png", "webp") for item in value)
    ):
        raise InvalidWorkflow("This must list formats out of jpeg, png and webp.", pointer)
    return tuple(value)


def _read_object(value: object, pointer: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidWorkflow("This must be an object.", pointer)
    copy = _json_copy(value, pointer, 0)
    assert isinstance(copy, dict)  # noqa: S101  # a mapping is copied as a dict
    return copy


def _json_copy(value: object, pointer: str, depth: int) -> object:
    """Copy deeply, refusing what JSON cannot say: dates, NaN, nesting without end."""
    if depth > _MAX_DEPTH:
        raise InvalidWorkflow("This is nested too deeply.", pointer)
    if isinstance(value, Mapping):
        return {
            str(key): _json_copy(item, _pointer(pointer, key), depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_json_copy(item, _pointer(pointer, at), depth + 1) for at, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidWorkflow("This is not a number that JSON knows.", pointer)
    if isinstance(value, str) and not _storable(value):
        raise InvalidWorkflow("This text holds a character that cannot be stored.", pointer)
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidWorkflow("Only texts, numbers, true and false can stand here.", pointer)


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "id": _read_text(r"[a-z0-9][a-z0-9-]{0,63}", "small letters, digits and hyphens, 64 at most"),
    "name": _read_text(r"\S.{0,79}", "a text of 1 to 80 characters"),
    "description": _read_text(r".{0,500}", "a text of at most 500 characters"),
    "fal_endpoint": _read_text(
        r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){1,5}",
        "fal's name of the endpoint, as in fal-ai/qwen-image-edit-2511",
    ),
    "parameter_schema": _read_object,
    "default_parameters": _read_object,
    "request_template": _read_object,
    "unit_price": _read_price,
    "price_unit": _read_text("image|megapixel", "“image” or “megapixel”"),
    "currency": _read_text("[A-Z]{3}", "three capital letters, as in USD"),
    "max_side": _read_whole(64, 16_384),
    "formats": _read_formats,
    "max_references": _read_whole(0, 3),
    "deadline_seconds": _read_whole(10, 86_400),
    "usual_seconds": _read_whole(1, 86_400),
    "is_active": _read_bool,
}

_REQUIRED_KEYS = frozenset(
    {
        "id",
        "name",
        "description",
        "fal_endpoint",
        "parameter_schema",
        "default_parameters",
        "request_template",
    }
)


# --- Checking a definition ----------------------------------------------------------------------


def check_definition(definition: Definition) -> None:
    """Refuse, before it is saved, a definition that could fail when a user's picture is made.

    The request is rendered with the defaults, with every choice, with both ends of every number,
    without each optional parameter and with the longest texts, each without and with references.

    Raises:
        InvalidWorkflow: with the JSON Pointer of the first place that does not hold.
    """
    schema = definition.parameter_schema
    _check_schema(schema)
    _check_defaults(schema, definition.default_parameters)
    _check_scale(definition)
    _check_template(definition)
    for parameters in _samples(schema, definition.default_parameters):
        for count in {0, definition.max_references}:
            render_request(
                definition.request_template,
                parameters=parameters,
                image_urls=["https://v3.fal.media/files/photo.jpg"],
                references=["https://v3.fal.media/files/reference.jpg"] * count,
            )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 500


def _is_number(value: object) -> TypeGuard[float | Decimal]:
    return (
        isinstance(value, int | float | Decimal)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and -_SAFE_INTEGER <= value <= _SAFE_INTEGER
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SAFE_INTEGER


def _is_words(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and _is_text(word) for key, word in value.items()
    )


def _is_choices(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= _MAX_CHOICES
        and all(isinstance(item, str) and item and len(item) <= 64 for item in value)
        and len(set(value)) == len(value)
    )


def _is_factors(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_number(factor) and 0 < factor <= 100 for factor in value.values()
    )


_KEYWORDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (
        lambda value: value in ("string", "integer", "number", "boolean"),
        "“string”, “integer”, “number” or “boolean”",
    ),
    "title": (_is_text, "a text"),
    "description": (_is_text, "a text"),
    "enum": (_is_choices, f"a list of 1 to {_MAX_CHOICES} different texts"),
    "minimum": (_is_number, "a number, without quotes"),
    "maximum": (_is_number, "a number, without quotes"),
    "multipleOf": (lambda value: _is_whole(value) and value > 0, "a whole number above 0"),
    "minLength": (_is_whole, "a whole number, without quotes"),
    "maxLength": (_is_whole, "a whole number, without quotes"),
    "x-order": (_is_whole, "a whole number, without quotes"),
    "x-advanced": (lambda value: isinstance(value, bool), "true or false, without quotes"),
    "x-widget": (lambda value: value in ("shape", "slider"), "“shape” or “slider”"),
    "x-labels": (_is_words, "an object of texts"),
    "x-group": (
        lambda value: value in ("Picture", "Model", "Advanced"),
        "“Picture”, “Model” or “Advanced”",
    ),
    "x-unit": (_is_text, "a text"),
    "x-when": (
        lambda value: _is_words(value) and len(value) == 1,
        "an object with one entry, as in {“aspect_ratio”: “custom”}",
    ),
    "x-price-factors": (_is_factors, "an object of numbers above 0"),
    "x-output-scale": (lambda value: value is True, "true, without quotes"),
}

_TOP_KEYWORDS = frozenset(
    {"$schema", "type", "title", "description", "properties", "required", "additionalProperties"}
)

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _check_schema(schema: Schema) -> None:
    base = "/parameter_schema"
    for keyword in schema:
        if keyword not in _TOP_KEYWORDS:
            raise _unknown_keyword(keyword, base)
    if schema.get("$schema", _DRAFT) != _DRAFT:
        raise InvalidWorkflow(f"This must be “{_DRAFT}”.", f"{base}/$schema")
    if schema.get("type") != "object":
        raise InvalidWorkflow("This must be “object”.", f"{base}/type")
    if schema.get("additionalProperties") is not False:
        raise InvalidWorkflow("This must be false.", f"{base}/additionalProperties")
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(properties) > _MAX_PROPERTIES:
        raise InvalidWorkflow(
            f"This must be an object with at most {_MAX_PROPERTIES} parameters.",
            f"{base}/properties",
        )
    required = schema.get("required", [])
    if not isinstance(required, list | tuple) or any(
        name not in [*properties] for name in required
    ):
        raise InvalidWorkflow("This must list names of parameters.", f"{base}/required")
    for name, prop in properties.items():
        _check_property(name, prop, _pointer(f"{base}/properties", name))
    for name, prop in properties.items():
        _check_condition(name, schema, prop, _pointer(f"{base}/properties", name))
    # The rules above are narrower than the standard's; this is the net below them.
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "".join(_pointer("", key) for key in error.absolute_path)
        raise InvalidWorkflow("This is not valid JSON Schema 2020-12.", base + place) from None


def _unknown_keyword(keyword: str, base: str) -> InvalidWorkflow:
    return InvalidWorkflow(
        f"“{keyword}” is not among the keywords a workflow may use.", _pointer(base, keyword)
    )


def _check_property(name: str, prop: object, pointer: str) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
        raise InvalidWorkflow(
            "A parameter's name has small letters, digits and underscores only.", pointer
        )
    if name in RESERVED | TEMPLATE_NAMES:
        raise InvalidWorkflow("This name is taken by the form itself; choose another.", pointer)
    if not isinstance(prop, Mapping):
        raise InvalidWorkflow("This must be an object.", pointer)
    for keyword, value in prop.items():
        if keyword not in _KEYWORDS:
            raise _unknown_keyword(keyword, pointer)
        holds, words = _KEYWORDS[keyword]
        if not holds(value):
            raise InvalidWorkflow(f"“{keyword}” must be {words}.", _pointer(pointer, keyword))
    if "type" not in prop:
        raise InvalidWorkflow("“type” is missing.", f"{pointer}/type")
    if name == "seed" and prop["type"] != "integer":
        raise InvalidWorkflow("A seed is an integer: variations count it up.", f"{pointer}/type")
    _check_bounds(prop, pointer)
    values = prop.get("enum", ())
    for keyword in ("x-labels", "x-price-factors"):
        for value in prop.get(keyword, {}):
            stop = keyword == "x-labels" and prop["type"] in ("integer", "number")
            if (stop and not re.fullmatch(r"-?\d{1,9}", value, re.ASCII)) or (
                not stop and value not in values
            ):
                raise InvalidWorkflow(
                    "This is not one of the parameter's values.",
                    _pointer(_pointer(pointer, keyword), value),
                )


_NUMBER_KEYWORDS = frozenset({"minimum", "maximum", "x-output-scale", "x-labels", "x-unit"})

_KEYWORDS_OF_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset({"enum", "minLength", "maxLength", "x-labels", "x-price-factors"}),
    "integer": _NUMBER_KEYWORDS | {"multipleOf"},
    "number": _NUMBER_KEYWORDS,
    "boolean": frozenset(),
}

_TYPED_KEYWORDS = frozenset().union(*_KEYWORDS_OF_TYPE.values())


def _check_bounds(prop: Mapping[str, Any], pointer: str) -> None:
    """Every value is bounded, so that a request has a largest size; keywords fit the type."""
    kind = prop["type"]
    for keyword in prop:
        if keyword in _TYPED_KEYWORDS - _KEYWORDS_OF_TYPE[kind]:
            raise InvalidWorkflow(
                f"“{keyword}” says nothing about {kind} parameters.", _pointer(pointer, keyword)
            )
    widgets = {"shape": "enum" in prop, "slider": kind in ("integer", "number")}
    if not widgets.get(prop.get("x-widget", ""), True):
        raise InvalidWorkflow("This widget does not fit the parameter.", f"{pointer}/x-widget")
    if kind == "string" and "enum" not in prop and not 1 <= prop.get("maxLength", 0) <= 2000:
        raise InvalidWorkflow(
            "A text needs “enum”, or “maxLength” from 1 to 2000.", f"{pointer}/maxLength"
        )
    if kind in ("integer", "number"):
        for keyword in ("minimum", "maximum"):
            if keyword not in prop:
                raise InvalidWorkflow(f"A number needs “{keyword}”.", f"{pointer}/{keyword}")
        if prop["minimum"] > prop["maximum"]:
            raise InvalidWorkflow("“maximum” is below “minimum”.", f"{pointer}/maximum")
        if kind == "integer" and not all(
            isinstance(prop[keyword], int) for keyword in ("minimum", "maximum")
        ):
            raise InvalidWorkflow("Bounds of an integer are whole numbers.", f"{pointer}/minimum")


def _check_condition(name: str, schema: Schema, prop: Mapping[str, Any], pointer: str) -> None:
    for other, value in prop.get("x-when", {}).items():
        place = _pointer(f"{pointer}/x-when", other)
        controller = schema["properties"].get(other, {})
        if value not in controller.get("enum", ()) or "x-when" in controller:
            raise InvalidWorkflow("This must name a value of another choice.", place)
        if name in schema.get("required", ()):
            raise InvalidWorkflow(
                "A parameter with “x-when” is required then by itself; take it off “required”.",
                place,
            )


def _check_defaults(schema: Schema, defaults: Mapping[str, Any]) -> None:
    base = "/default_parameters"
    properties = schema["properties"]
    for name, value in defaults.items():
        if name not in properties:
            raise InvalidWorkflow("The schema has no such parameter.", _pointer(base, name))
        required = _is_required(schema, name)
        if sentence := _problem(properties[name], value, required=required):
            raise InvalidWorkflow(sentence, _pointer(base, name))
    for name in properties:
        if _is_required(schema, name) and name not in defaults:
            raise InvalidWorkflow("A required parameter needs a default.", _pointer(base, name))


def _check_scale(definition: Definition) -> None:
    """The largest input, enlarged as far as users may, is still a picture we can open."""
    properties = definition.parameter_schema["properties"]
    scales = [name for name, prop in properties.items() if prop.get("x-output-scale")]
    if len(scales) > 1:
        raise InvalidWorkflow(
            "Only one parameter can be the picture's scale.",
            f"/parameter_schema/properties/{scales[1]}/x-output-scale",
        )
    largest = max((properties[name]["maximum"] for name in scales), default=1)
    if (definition.max_side * largest) ** 2 > MAX_OUTPUT_PIXELS:
        side = int(math.isqrt(MAX_OUTPUT_PIXELS) / largest)
        raise InvalidWorkflow(
            f"A square photo enlarged {largest:g} times would pass 50 megapixels. "
            f"Write {side} or less.",
            "/max_side",
        )


def _check_template(definition: Definition) -> None:
    base = "/request_template"
    size = len(_encode(definition.request_template, base))
    if size > MAX_TEMPLATE_BYTES:
        raise InvalidWorkflow(f"This is {size:,} bytes; {MAX_TEMPLATE_BYTES:,} is the most.", base)
    properties = definition.parameter_schema["properties"]
    used: set[str] = set()
    count = 0
    for source, pointer in _strings(definition.request_template, base):
        template = _compiled(source, pointer)
        count += template.size
        for name in sorted(template.names - set(properties) - TEMPLATE_NAMES):
            raise InvalidWorkflow(f"“{name}” is not a parameter of the schema.", pointer)
        used |= template.names
    if count > _MAX_NODES:
        raise InvalidWorkflow("The expressions are too many for one request.", base)
    for name in properties:
        if name not in used:
            raise InvalidWorkflow(
                "The request never uses this parameter.", f"/parameter_schema/properties/{name}"
            )
    if "image_urls" not in used:
        raise InvalidWorkflow("The request never sends the photo: use image_urls.", base)
    if definition.max_references and "references" not in used:
        raise InvalidWorkflow("The request never sends the references.", "/max_references")


def _strings(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield value, pointer
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, _pointer(pointer, key))
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _strings(item, _pointer(pointer, at))


def _samples(schema: Schema, defaults: Mapping[str, Any]) -> Iterator[Parameters]:
    """Parameter sets that together reach every branch a single parameter can open."""
    properties = schema["properties"]
    yield active(schema, defaults)
    longest = {
        name: "x" * prop["maxLength"]
        for name, prop in properties.items()
        if prop["type"] == "string" and "enum" not in prop
    }
    yield active(schema, {**defaults, **longest})
    for name, prop in properties.items():
        if name not in schema.get("required", ()):
            yield active(schema, {key: defaults[key] for key in defaults if key != name})
        # A conditional parameter is tried in the situation in which it counts.
        given = {**defaults, **prop.get("x-when", {})}
        for value in _extremes(prop):
            yield active(schema, {**given, name: value})


def _extremes(prop: Mapping[str, Any]) -> Sequence[object]:
    if "enum" in prop:
        return tuple(prop["enum"])
    if prop["type"] == "boolean":
        return (True, False)
    if prop["type"] == "string":
        return ("x" * prop.get("minLength", 0),)
    return (prop["minimum"], prop["maximum"])


# --- Rendering a request ------------------------------------------------------------------------


class _Sandbox(ImmutableSandboxedEnvironment):
    """Subscripts reach into lists and objects only, never to an attribute of a Python value."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=str(argument))

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.unsafe_undefined(obj, attribute)


def _in_text(value: object) -> object:
    """What may stand inside a text; `None` or a list printed as Python would reach the model."""
    if isinstance(value, Undefined | str) or _is_number(value):
        return value
    raise TypeError("only texts and numbers can stand in a text")


def _join(values: Sequence[object], separator: str = "") -> str:
    """Join texts; refused before it is made when it would be too large."""
    if isinstance(values, str) or not isinstance(values, list | tuple):
        raise TypeError("only a list can be joined")
    texts = [str(_in_text(value)) for value in values]
    _bound(sum(map(len, texts)) + len(str(separator)) * len(texts))
    return str(separator).join(texts)


def _replace(text: str, old: str, new: str) -> str:
    """Replace a part of a text; refused before it is made when it would be too large."""
    if not all(isinstance(part, str) for part in (text, old, new)) or not old:
        raise TypeError("only a part of a text can be replaced")
    _bound(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _round(value: float, digits: int = 0) -> float:
    """Round to at most six digits: Jinja's own computes 10 to any power it is given."""
    if not 0 <= digits <= 6:
        raise ValueError("0 to 6 digits can be kept")
    return round(float(value), digits)


def _bound(length: int) -> None:
    if length > MAX_REQUEST_BYTES:
        raise ValueError(f"the text passes {MAX_REQUEST_BYTES:,} characters")


def _sandbox() -> _Sandbox:
    sandbox = _Sandbox(
        undefined=StrictUndefined,
        autoescape=False,  # the result is JSON, never HTML
        keep_trailing_newline=True,
        finalize=_in_text,
        optimized=False,  # folding 1e308 + 1e308 would write the name "inf" into the code
        cache_size=0,
    )
    plain = ("default", "lower", "upper", "int", "float", "length", "trim", "first", "last")
    sandbox.filters = {name: FILTERS[name] for name in plain}
    sandbox.filters |= {"join": _join, "replace": _replace, "round": _round}
    sandbox.tests = {name: TESTS[name] for name in ("defined", "undefined", "none")}
    sandbox.globals = {}
    return sandbox


_SANDBOX = _sandbox()

# No loops, calls, assignments or attributes; no `*`, `**` and `%`, which make values of any size.
_ALLOWED_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Dict,
    nodes.Pair,
    nodes.List,
    nodes.Getitem,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Add,
    nodes.Sub,
    nodes.Div,
    nodes.Concat,
    nodes.Filter,
    nodes.Test,
)

_NODE_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.For: "Loops",
    nodes.Call: "Calls",
    nodes.Macro: "Macros",
    nodes.Getattr: "Attributes (write a[“b”])",
    nodes.Mul: "Products (*)",
    nodes.Pow: "Powers (**)",
    nodes.Mod: "Remainders (%)",
}


@dataclass(frozen=True)
class _Template:
    """A string of a template, read once: the names it uses, its nodes, and how to fill it in."""

    names: frozenset[str]
    size: int
    whole: bool
    fill: Callable[[Mapping[str, Any]], object]


def render_request(
    template: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any],
    image_urls: Sequence[str],
    references: Sequence[str],
) -> dict[str, Any]:
    """Fill a request template in; the result is plain JSON of at most 20 kB.

    Parameters are values, never templates: whatever a user typed arrives letter for letter.

    Args:
        template: the definition's `request_template`.
        parameters: validated values; a name left out counts as undefined.
        image_urls: the photo's URL (a list, since most endpoints take one).
        references: URLs of the reference pictures, in the user's order; may be empty.

    Raises:
        InvalidWorkflow: the template does not hold for these values; with the JSON Pointer.
    """
    base = "/request_template"
    context = {**parameters, "image_urls": list(image_urls), "references": list(references)}
    if len(_encode(context, base)) > MAX_REQUEST_BYTES:
        raise InvalidWorkflow(f"The parameters pass {MAX_REQUEST_BYTES:,} bytes.", base)
    rendered = _filled(template, base, context)
    size = len(_encode(rendered, base))
    if size > MAX_REQUEST_BYTES:
        raise InvalidWorkflow(
            f"The request is {size:,} bytes; {MAX_REQUEST_BYTES:,} is the most.", base
        )
    if not isinstance(rendered, dict):
        raise InvalidWorkflow("The request must be an object.", base)
    return rendered


_LEFT_OUT = object()


def _filled(value: object, pointer: str, context: Mapping[str, Any]) -> object:
    if isinstance(value, str):
        return _filled_text(value, pointer, context)
    if isinstance(value, Mapping):
        pairs = (
            (key, _filled(item, _pointer(pointer, key), context)) for key, item in value.items()
        )
        return {key: item for key, item in pairs if item is not _LEFT_OUT}
    if isinstance(value, list | tuple):
        items = (_filled(item, _pointer(pointer, at), context) for at, item in enumerate(value))
        return [item for item in items if item is not _LEFT_OUT]
    return value


def _filled_text(source: str, pointer: str, context: Mapping[str, Any]) -> object:
    template = _compiled(source, pointer)
    try:
        result = template.fill(context)
        if isinstance(result, Undefined):
            str(result)  # raises with the name of what is missing
    except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
        message = str(error).rstrip(".")
        raise InvalidWorkflow(f"This cannot be filled in: {message}.", pointer) from None
    if template.whole and result is None:
        return _LEFT_OUT
    # A copy: the request must not share lists with the parameters, nor hold what JSON cannot.
    return json.loads(_encode(result, pointer))


def _encode(value: object, pointer: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidWorkflow("This gives a value that JSON cannot hold.", pointer) from None


def _compiled(source: str, pointer: str) -> _Template:
    try:
        return _compile(source)
    except InvalidWorkflow as fault:
        raise InvalidWorkflow(fault.message, pointer) from None


@lru_cache(maxsize=512)
def _compile(source: str) -> _Template:
    if not re.search(r"\{[{%#]", source):
        return _Template(frozenset(), 0, whole=False, fill=lambda _: source)
    if len(source.encode()) > MAX_TEMPLATE_BYTES:
        raise InvalidWorkflow(f"This is longer than {MAX_TEMPLATE_BYTES:,} bytes.")
    try:
        tree = _SANDBOX.parse(source)
        names, size = _inspect(tree)
        if _is_expression(source, tree):
            expression = _SANDBOX.compile_expression(source[2:-2].strip(), undefined_to_none=False)
            return _Template(names, size, whole=True, fill=expression)
        text = _SANDBOX.from_string(source)
    except TemplateError as error:
        raise InvalidWorkflow(f"This template cannot be read: {error.message}.") from None
    except (RecursionError, MemoryError):
        raise InvalidWorkflow("This is nested too deeply.") from None
    except (SyntaxError, ArithmeticError, ValueError):
        raise InvalidWorkflow("This template cannot be read.") from None
    return _Template(names, size, whole=False, fill=text.render)


def _is_expression(source: str, tree: nodes.Template) -> bool:
    """Whether the string is exactly `{{ expression }}`, without whitespace control."""
    if not re.fullmatch(r"\{\{(?![-+]).*(?<![-+])\}\}", source, re.DOTALL):
        return False
    parts = [
        part for output in tree.body if isinstance(output, nodes.Output) for part in output.nodes
    ]
    return len(tree.body) == 1 and len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)


def _inspect(tree: nodes.Template) -> tuple[frozenset[str], int]:
    """Refuse what a template may not do, before anything is compiled; names used and node count."""
    names: set[str] = set()
    size = 0
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        size += 1
        if depth > _MAX_DEPTH:
            raise InvalidWorkflow("This is nested too deeply.")
        if size > _MAX_NODES:
            raise InvalidWorkflow("This template has too many parts.")
        _check_node(node)
        if isinstance(node, nodes.Name):
            names.add(node.name)
        waiting += [(child, depth + 1) for child in node.iter_child_nodes()]
    return frozenset(names), size


def _check_node(node: nodes.Node) -> None:
    if type(node) not in _ALLOWED_NODES:
        words = _NODE_WORDS.get(type(node), f"“{type(node).__name__}”")
        raise InvalidWorkflow(f"{words} cannot be used in a request template.")
    if isinstance(node, nodes.Const) and node.value in (math.inf, -math.inf):
        raise InvalidWorkflow("This holds a number that JSON does not know.")
    if isinstance(node, nodes.Filter):
        if node.node is None or node.name not in _SANDBOX.filters:
            raise InvalidWorkflow(f"The filter “{node.name}” cannot be used here.")
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise InvalidWorkflow("A filter takes plain arguments only.")
    if isinstance(node, nodes.Test) and node.name not in _SANDBOX.tests:
        raise InvalidWorkflow(f"The test “{node.name}” cannot be used here.")


# --- Fields and values --------------------------------------------------------------------------


def fields(schema: Schema, defaults: Mapping[str, Any]) -> list[Field]:
    """The form of a schema, in the order of `x-order`."""
    found = [_field(schema, defaults, name) for name in _ordered(schema)]
    return [item for item in found if item is not None]


def _field(schema: Schema, defaults: Mapping[str, Any], name: str) -> Field:
    prop = schema["properties"][name]
    advanced = bool(prop.get("x-advanced"))
    group = prop.get("x-group", "Advanced" if advanced else "Picture")
    stops = sorted(prop.get("x-labels", {}), key=int) if "enum" not in prop else []
    return Field(
        name=name,
        label=_label(name, prop),
        help=prop.get("description", ""),
        kind=_kind(prop),
        choices=tuple((value, _word(prop, value)) for value in prop.get("enum", stops)),
        minimum=prop.get("minimum"),
        maximum=prop.get("maximum"),
        max_length=prop.get("maxLength"),
        default=defaults.get(name),
        required=_is_required(schema, name),
        advanced=advanced or group == "Advanced",
        group=group,
        widget=prop.get("x-widget"),
        unit=prop.get("x-unit", ""),
        when=MappingProxyType(dict(prop.get("x-when", {}))),
    )


def _kind(prop: Mapping[str, Any]) -> Kind:
    if prop.get("x-widget") == "shape":
        return "shape"
    if choices := prop.get("enum"):
        return "choices_select" if len(choices) > 5 or choices[0] == "any" else "choice"
    kind: Kind = {"string": "text"}.get(prop["type"], prop["type"])
    return kind


def _ordered(schema: Schema) -> list[str]:
    """Names by `x-order`, those without last: a jsonb column keeps no order of its own."""
    properties = schema["properties"]
    return sorted(properties, key=lambda name: (properties[name].get("x-order", math.inf), name))


def _label(name: str, prop: Mapping[str, Any]) -> str:
    return str(prop.get("title") or name.replace("_", " ").capitalize())


def _word(prop: Mapping[str, Any], value: str) -> str:
    label: str | None = prop.get("x-labels", {}).get(value)
    return label or value[:1].upper() + value[1:].replace("_", " ")


def _is_required(schema: Schema, name: str) -> bool:
    """Required always, or whenever its `x-when` holds."""
    return name in schema.get("required", ()) or "x-when" in schema["properties"][name]


def _holds(prop: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    return all(parameters.get(name) == value for name, value in prop.get("x-when", {}).items())


def active(schema: Schema, parameters: Mapping[str, Any]) -> Parameters:
    """Leave out the parameters whose `x-when` does not hold."""
    properties = schema["properties"]
    return {
        name: value for name, value in parameters.items() if _holds(properties[name], parameters)
    }


def parse_form(schema: Schema, defaults: Mapping[str, Any], form: Mapping[str, str]) -> Parameters:
    """Turn the strings of an HTML form into validated parameters.

    A field that was not sent has its default (a checkbox: False); an empty one is left out when it
    is optional. The batch form's own fields (`RESERVED`) are skipped.

    Raises:
        InvalidFields: a sentence for every field that does not hold.
    """
    unchecked = {
        name: "" for name, prop in schema["properties"].items() if prop["type"] == "boolean"
    }
    return _parse(schema, defaults, {**unchecked, **dict(form.items())}, read=_from_text)


def fit(
    schema: Schema, defaults: Mapping[str, Any], stored: Mapping[str, Any]
) -> tuple[Parameters, dict[str, str]]:
    """Settings of another day under this schema: the values that hold, and what does not.

    A setting that was left empty stays empty; a required one that is missing has its default. The
    second value gives a sentence for each label that fell away or fell back.
    """
    properties = schema["properties"]
    kept: Parameters = {}
    lost: dict[str, str] = {}
    for name in _ordered(schema):
        prop, required = properties[name], _is_required(schema, name)
        if name in stored and _problem(prop, stored[name], required=required) is None:
            kept[name] = stored[name]
            continue
        if required and name in defaults:
            kept[name] = defaults[name]
        if name in stored:
            shown = str(stored[name]).replace("_", " ")
            lost[_label(name, prop)] = f"“{shown}” is no longer possible."
    for name in sorted(stored.keys() - properties.keys()):
        lost[_label(name, {})] = "This workflow no longer has it."
    return kept, lost


def parse_json(
    schema: Schema, defaults: Mapping[str, Any], values: Mapping[str, object]
) -> Parameters:
    """Validate parameters of a JSON body: a missing one has its default, null leaves it out.

    Raises:
        InvalidFields: a sentence for every field that does not hold.
    """
    return _parse(schema, defaults, values, read=_from_json)


_EMPTY = object()
"""What a reader gives for a value that was left empty on purpose."""


def _parse(
    schema: Schema,
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    read: Callable[[Mapping[str, Any], Any], object],
) -> Parameters:
    properties = schema["properties"]
    faults = {
        str(name)[:64]: "This workflow has no such setting. Take it out and try again."
        for name in given
        if name not in properties and name not in RESERVED
    }
    parameters: Parameters = {}
    # Conditional parameters come after the choices they depend on.
    for name in sorted(_ordered(schema), key=lambda name: "x-when" in properties[name]):
        prop = properties[name]
        if not _holds(prop, parameters):
            continue
        if name not in given:
            if name in defaults:
                parameters[name] = defaults[name]
            continue
        value = read(prop, given[name])
        required = _is_required(schema, name)
        if value is _EMPTY and not required:
            continue
        if sentence := _problem(prop, value, required=required):
            faults[name] = sentence
        else:
            parameters[name] = value
    if faults:
        raise InvalidFields(faults)
    return {name: parameters[name] for name in _ordered(schema) if name in parameters}


def _from_text(prop: Mapping[str, Any], text: object) -> object:
    """Read what a browser sent; what is no number stays text, and so fails the schema's type."""
    if not isinstance(text, str):
        return text
    kind = prop["type"]
    if kind == "string":
        return text or _EMPTY
    trimmed = text.strip(" ")
    if kind == "boolean":
        return {"": False, "on": True, "true": True, "false": False}.get(trimmed, text)
    if not trimmed:
        return _EMPTY
    # Python's own parsers also take other scripts' digits, underscores, NaN and 1e309.
    if re.fullmatch("-?[0-9]{1,19}", trimmed):
        return int(trimmed)
    if kind == "number" and re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,9}", trimmed):
        return float(trimmed)
    return text


def as_text(value: Any) -> str:
    """A value as a browser sends it, read back by `parse_form`."""
    if isinstance(value, bool):
        return "true" if value else ""
    return "" if value is None else str(value)


def _from_json(prop: Mapping[str, Any], value: object) -> object:
    if value is None:
        return _EMPTY
    if prop["type"] == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _storable(text: str) -> bool:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair."""
    return re.search("[\x00\ud800-\udfff]", text) is None


def _problem(prop: Mapping[str, Any], value: object, *, required: bool) -> str | None:
    """A sentence that says what to enter instead, or None when the value holds."""
    if isinstance(value, str) and not _storable(value):
        return "This text holds a character that cannot be kept. Type it again."
    keyword: object = "type"
    if value is not _EMPTY and not (isinstance(value, float) and not math.isfinite(value)):
        # An empty registry: a schema can never make this machine fetch another one.
        validator = jsonschema.Draft202012Validator(prop, registry=Registry())
        error = next(validator.iter_errors(value), None)
        if error is None:
            return None
        keyword = error.validator
    return _sentence(prop, keyword, required=required)


def _sentence(prop: Mapping[str, Any], keyword: object, *, required: bool) -> str:
    if "enum" in prop:
        words = [_word(prop, value) for value in prop["enum"]]
        return f"Choose {', '.join(words[:-1])} or {words[-1]}." if words[1:] else "Choose one."
    if prop["type"] == "boolean":
        return "Choose yes or no."
    if prop["type"] == "string":
        if keyword == "maxLength":
            return f"Write {prop['maxLength']} characters at most."
        if keyword == "minLength":
            return f"Write {prop['minLength']} characters or more."
        return "Write something here." if required else "Write a text, or leave it empty."
    ending = "" if required else ", or leave it empty"
    if keyword == "multipleOf":
        return f"Choose a multiple of {prop['multipleOf']}{ending}."
    bounds = f"from {prop['minimum']} to {prop['maximum']}{ending}"
    if prop["type"] == "integer" and keyword == "type":
        return f"Choose a whole number {bounds}." if required else f"Whole numbers only{ending}."
    return f"Choose a number {bounds}."


def describe(schema: Schema, parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and words for pages, as in ("Light", "Studio"); what was left out is not listed."""
    properties = schema["properties"]
    return [
        (_label(name, properties[name]), _words(properties[name], parameters[name]))
        for name in _ordered(schema)
        if name in parameters and _holds(properties[name], parameters)
    ]


def in_words(schema: Schema, parameters: Mapping[str, Any], *, most: int | None = None) -> str:
    """The same in one breath, as in "4:3, style strength 75, studio"; without what is left open."""
    chosen = {name: value for name, value in parameters.items() if value != "any"}
    return ", ".join(_in_short(*row) for row in describe(schema, chosen)[:most])


def _in_short(label: str, words: str) -> str:
    """A setting in passing: "studio white", but "style strength 75"."""
    if words[:1].isdigit() and ":" not in words:
        return f"{label.lower()} {words.partition(',')[0]}"
    return words.lower()


def _words(prop: Mapping[str, Any], value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if "enum" in prop:
        return _word(prop, value)
    if prop["type"] == "string":
        return str(value)
    number = f"{value}{prop.get('x-unit', '')}"
    if stops := prop.get("x-labels"):
        nearest = min(stops, key=lambda stop: abs(int(stop) - value))
        return f"{number}, {stops[nearest]}"
    return number


# --- Price and variations -----------------------------------------------------------------------


def estimate(
    definition: Definition,
    *,
    parameters: Mapping[str, Any],
    width: int | None = None,
    height: int | None = None,
) -> Decimal | None:
    """The expected price of one picture in the definition's currency; None when it is unknown.

    Per megapixel, fal counts the result and rounds a started megapixel (1,000,000 pixels) up. The
    result has the size the request asks for (`image_size`, fal's usual name), else the size of the
    photo (`width` by `height` as displayed, scaled down to `max_side`) times the output scale.
    """
    if definition.unit_price is None:
        return None
    price = definition.unit_price
    properties = definition.parameter_schema["properties"]
    for name, value in parameters.items():
        factors = properties[name].get("x-price-factors", {})
        price *= Decimal(str(factors.get(value, 1)))
    if definition.price_unit == "image":
        return price
    pixels = _output_pixels(definition, parameters, width, height)
    return None if pixels is None else price * max(1, -(-pixels // 1_000_000))


def _output_pixels(
    definition: Definition, parameters: Mapping[str, Any], width: int | None, height: int | None
) -> int | None:
    template = definition.request_template
    if "image_size" in template:
        context = {**parameters, **dict.fromkeys(TEMPLATE_NAMES, ())}
        size = _filled(template["image_size"], "/request_template/image_size", context)
        if isinstance(size, Mapping):
            across, down = size.get("width"), size.get("height")
            return across * down if isinstance(across, int) and isinstance(down, int) else None
        if size is not _LEFT_OUT:
            return None
    if width is None or height is None:
        return None
    fit = min(1.0, definition.max_side / max(width, height))
    properties = definition.parameter_schema["properties"]
    for name, value in parameters.items():
        if properties[name].get("x-output-scale"):
            fit *= value
    return round(width * fit) * round(height * fit)


def vary_seed(parameters: Mapping[str, Any], variation: int, *, schema: Schema) -> Parameters:
    """The parameters of one variation, counted from 0: a given seed grows by one each time.

    Past the schema's maximum it starts again at the minimum. Without a seed nothing changes: the
    provider then takes a new one for every picture.
    """
    seed = parameters.get("seed")
    if seed is None:
        return dict(parameters)
    prop = schema["properties"]["seed"]
    span = prop["maximum"] - prop["minimum"] + 1
    return {**parameters, "seed": prop["minimum"] + (seed - prop["minimum"] + variation) % span}
