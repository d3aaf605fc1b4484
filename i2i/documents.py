"""Workflow definitions as text: TOML or JSON in, TOML out."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from i2i import forms
from i2i.errors import InvalidWorkflow, Refused


def read(text: str, *, is_json: bool = False) -> dict[str, Any]:
    """The document; a text that begins with { is JSON whatever its name.

    InvalidWorkflow with line and column for what cannot be read.
    """
    text = text.removeprefix("\ufeff")
    is_json = is_json or text.lstrip().startswith("{")
    return forms.load_document(text, format="json" if is_json else "toml")


def line_of(text: str, error: InvalidWorkflow) -> int | None:
    """The line, from 1, that a fault is about; None where the text does not tell.

    Syntax faults name theirs. For the rest each key of the JSON Pointer is looked for after the one
    before it, as it stands in TOML and in JSON.
    """
    if syntax := re.match(r"Line (\d+)", error.message):
        return int(syntax[1])
    lines, found = text.splitlines(), None
    begin = 0
    for key in error.pointer.split("/")[1:]:
        word = re.compile(rf"(?<![\w-])[\"']?{re.escape(key)}[\"']?\s*[=:.\]]")
        for number in range(begin, len(lines)):
            if word.search(lines[number]):
                begin = found = number
                break
    return None if found is None else found + 1


def write_toml(document: Mapping[str, Any]) -> str:
    """The document as TOML 1.0; Refused for null, which TOML lacks."""
    return "\n".join(_lines(document)).lstrip("\n")


def _lines(table: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """A table's values, then its sub-tables, as TOML 1.0; Refused for null, which TOML lacks."""
    inner = {key: value for key, value in table.items() if _is_table(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        brackets = ("[", "]") if isinstance(value, Mapping) else ("[[", "]]")
        for each in [value] if isinstance(value, Mapping) else value:
            if isinstance(value, list) or not each or not all(map(_is_table, each.values())):
                yield f"\n{brackets[0]}{name}{brackets[1]}"
            yield from _lines(each, name)


def _is_table(value: object) -> bool:
    """Whether a value gets headings of its own: an object, or a list of nothing but objects."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)


def _value(value: object) -> str:
    if value is None:
        raise Refused("This workflow holds null, which TOML cannot write. JSON can: --json.")
    if isinstance(value, str):
        if "\n" not in value:
            return f'"{_text(value)}"'
        lines = "\n".join(_text(line) for line in value.split("\n"))
        # Quotes may stand as they are, but for three in a row and one at the end.
        lines = re.sub(r'"(?="")|"\Z', r'\\"', lines.replace('\\"', '"'))
        return f'"""\n{lines}"""'
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    return json.dumps(value)


def _text(text: str) -> str:
    """The inside of a basic string: JSON's escapes are TOML's, but for the DEL character."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{_text(key)}"'
