"""Definitions, their templates and their forms, with small workflows made for one point each."""

import copy
import json
import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2i import forms
from i2i.errors import InvalidFields, InvalidWorkflow

# No deadline: the machine may be busy. No database: nothing is left in the checkout.
examples = settings(deadline=None, database=None)

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["shape", "strength", "mood"],
    "properties": {
        "note": {"type": "string", "maxLength": 200, "x-order": 5},
        "shape": {"type": "string", "enum": ["1:1", "custom"], "x-widget": "shape", "x-order": 1},
        "width": {
            "type": "integer",
            "minimum": 64,
            "maximum": 2048,
            "multipleOf": 16,
            "x-when": {"shape": "custom"},
            "x-order": 2,
        },
        "strength": {"type": "integer", "minimum": 0, "maximum": 100, "x-order": 3},
        "mood": {"type": "string", "enum": ["calm", "wild_west"], "x-order": 4},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2147483647, "x-advanced": True},
        "guidance": {"type": "number", "minimum": 1, "maximum": 20},
        "sharp": {"type": "boolean"},
    },
}
DEFAULTS = {"shape": "1:1", "width": 512, "strength": 75, "mood": "calm"}
TEMPLATE = {
    "image_urls": "{{ image_urls + references }}",
    "prompt": "{{ shape }} {{ mood }} {{ strength }}{% if note is defined %} {{ note }}{% endif %}",
    "width": "{{ width | default(none) }}",
    "seed": "{{ seed | default(none) }}",
    "guidance": "{{ guidance | default(none) }}",
    "sharp": "{{ sharp | default(false) }}",
}
DOCUMENT = {
    "id": "small",
    "name": "Small",
    "description": "",
    "fal_endpoint": "fal-ai/small",
    "parameter_schema": SCHEMA,
    "default_parameters": DEFAULTS,
    "request_template": TEMPLATE,
    "max_references": 1,
}


def put(document, pointer, value):
    """A deep copy of the document with another value at a JSON Pointer."""
    changed = copy.deepcopy(document)
    *path, last = pointer.strip("/").split("/")
    place = changed
    for key in path:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return changed


def places(value, pointer=""):
    """The JSON Pointers of everything inside."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        yield f"{pointer}/{key}"
        if isinstance(item, dict | list):
            yield from places(item, f"{pointer}/{key}")


def render(source, **parameters):
    """What one string of a template gives."""
    rendered = forms.render_request(
        {"it": source}, parameters=parameters, image_urls=["u"], references=[]
    )
    return rendered.get("it", "left out")


class TestDocuments:
    def test_a_definition_survives_the_round_trip(self):
        definition = forms.parse_definition({**DOCUMENT, "unit_price": 0.035, "usual_seconds": 40})
        assert definition.unit_price == Decimal("0.035")
        again = json.loads(json.dumps(forms.dump_document(definition)))
        assert forms.parse_definition(again) == definition

    def test_what_a_database_row_gives_is_read_too(self):
        row = {
            **DOCUMENT,
            "unit_price": Decimal("0.1500"),
            "usual_seconds": None,
            "formats": ["png"],
        }
        definition = forms.parse_definition(row)
        assert definition.unit_price == Decimal("0.15")
        assert definition.formats == ("png",)
        assert "usual_seconds" not in forms.dump_document(definition)

    @pytest.mark.parametrize(
        ("text", "kind", "message"),
        [
            ('{"a": 1,\n "b": }', "json", "Line 2, column 7: Expecting value."),
            ('{"a": 1, "a": 2}', "json", "“a” stands twice in one object."),
            ('{"a": NaN}', "json", "NaN is not a JSON number."),
            ("[1]", "json", "Line 1, column 1: a workflow is an object, as in {…}."),
            ("a = 1\nb = = 2\n", "toml", "Line 2, column 5: Invalid value."),
            ('a = 1\nb = "', "toml", "Line 2, column 6: Unterminated string."),
            ("a = 1\na = 2\n", "toml", "Line 2, column 6: Cannot overwrite a value."),
            ("[" * 30_000, "json", "This is nested too deeply."),
            (
                '{"name": "\\ud800"}',
                "json",
                "An escape in this (\\ud800 to \\udfff) names no letter.",
            ),
            ("a = " + "[" * 30_000, "toml", "This is nested too deeply."),
            (
                "a" + ".a" * 30_000 + " = 1",
                "toml",
                "A key of this, as in a.b.c, has too many parts.",
            ),
            (
                "['a'" + ' . "a b"' * 7_000 + "]",
                "toml",
                "A key of this, as in a.b.c, has too many parts.",
            ),
            (
                "b = {a" + ".a" * 30_000 + " = 1}",
                "toml",
                "A key of this, as in a.b.c, has too many parts.",
            ),
            ("#" * 70_000, "toml", "This is longer than 64 kB."),
        ],
    )
    def test_syntax_is_refused_with_its_place(self, text, kind, message):
        with pytest.raises(InvalidWorkflow) as fault:
            forms.load_document(text, format=kind)
        assert fault.value.message == message

    @pytest.mark.parametrize(
        ("pointer", "value"),
        [
            ("/id", "Not An Id"),
            ("/id", "a" * 65),
            ("/id", None),
            ("/name", ""),
            ("/fal_endpoint", "no-slash"),
            ("/fal_endpoint", "fal-ai/../admin"),
            ("/fal_endpoint", "https://example.org/x"),
            ("/fal_endpoint", "fal-ai/x?y=1"),
            ("/fal_endpoint", "fal-ai/x\n"),
            ("/parameter_schema", []),
            ("/unit_price", "0.03"),
            ("/unit_price", -1),
            ("/unit_price", float("nan")),
            ("/unit_price", True),
            ("/price_unit", "second"),
            ("/currency", "usd"),
            ("/max_side", 0),
            ("/max_side", 10**30),
            ("/formats", []),
            ("/formats", ["tiff"]),
            ("/max_references", 4),
            ("/deadline_seconds", True),
            ("/is_active", "yes"),
            ("/colour", "red"),
            ("/request_template/when", object()),
            ("/request_template/size", float("inf")),
            ("/request_template/prompt", "a\x00b"),
        ],
    )
    def test_wrong_keys_and_types_are_refused_with_their_place(self, pointer, value):
        with pytest.raises(InvalidWorkflow) as fault:
            forms.parse_definition(put(DOCUMENT, pointer, value))
        assert fault.value.pointer == pointer


def check(document):
    forms.check_definition(forms.parse_definition(document))


class TestChecking:
    def test_the_small_workflow_holds(self):
        check(DOCUMENT)

    @pytest.mark.parametrize(
        ("pointer", "value", "place"),
        [
            ("/parameter_schema/$ref", "https://example.org/schema", "="),
            ("/parameter_schema/$defs", {}, "="),
            ("/parameter_schema/type", "array", "="),
            ("/parameter_schema/$schema", "http://json-schema.org/draft-07/schema#", "="),
            ("/parameter_schema/properties/seed/type", "number", "="),
            ("/parameter_schema/properties/seed", {"type": "integer", "maximum": 9}, "=/minimum"),
            (
                "/parameter_schema/required",
                ["shape", "width"],
                "/parameter_schema/properties/width/x-when/shape",
            ),
            ("/parameter_schema/properties/strength/minimum", 0.5, "="),
            ("/parameter_schema/properties/sharp/x-widget", "slider", "="),
            ("/parameter_schema/additionalProperties", True, "="),
            ("/parameter_schema/properties", [], "="),
            ("/parameter_schema/required", ["ghost"], "="),
            ("/parameter_schema/required", "shape", "="),
            ("/parameter_schema/properties/note/pattern", "(a+)+$", "="),
            ("/parameter_schema/properties/note/$ref", "#", "="),
            ("/parameter_schema/properties/note/maxLength", "200", "="),
            ("/parameter_schema/properties/note/maxLength", 10**6, "="),
            ("/parameter_schema/properties/note/minimum", 1, "="),
            ("/parameter_schema/properties/note/type", "array", "="),
            ("/parameter_schema/properties/note/type", ["string", "null"], "="),
            ("/parameter_schema/properties/strength/maximum", "100", "="),
            ("/parameter_schema/properties/strength/maximum", -1, "="),
            ("/parameter_schema/properties/strength/maximum", 2**60, "="),
            ("/parameter_schema/properties/strength/x-widget", "shape", "="),
            ("/parameter_schema/properties/strength/x-colour", "red", "="),
            ("/parameter_schema/properties/mood/enum", [], "="),
            ("/parameter_schema/properties/mood/enum", ["a", "a"], "="),
            ("/parameter_schema/properties/mood/enum", ["calm", 2], "="),
            ("/parameter_schema/properties/mood/enum", ["x"], "/default_parameters/mood"),
            ("/parameter_schema/properties/mood/x-labels", {"gone": "Gone"}, "=/gone"),
            ("/parameter_schema/properties/mood/x-price-factors", {"calm": 0}, "="),
            ("/parameter_schema/properties/width/x-when", {"shape": "round"}, "=/shape"),
            ("/parameter_schema/properties/width/x-when", {"ghost": "x"}, "=/ghost"),
            ("/parameter_schema/properties/image", {"type": "boolean"}, "="),
            ("/parameter_schema/properties/references", {"type": "boolean"}, "="),
            ("/parameter_schema/properties/Loud", {"type": "boolean"}, "="),
            ("/parameter_schema/properties/__class__", {"type": "boolean"}, "="),
            ("/parameter_schema/properties/unused", {"type": "boolean"}, "="),
            ("/parameter_schema/properties/sharp", True, "="),
            ("/parameter_schema/properties/sharp", {}, "=/type"),
            ("/default_parameters/strength", 101, "="),
            ("/default_parameters/strength", "75", "="),
            ("/default_parameters/strength", True, "="),
            ("/default_parameters/ghost", 1, "="),
            ("/default_parameters", {"width": 64, "mood": "calm", "shape": "1:1"}, "=/strength"),
            ("/default_parameters", {"strength": 1, "mood": "calm", "shape": "1:1"}, "=/width"),
            ("/request_template/prompt", "{{ ghost }}", "="),
            ("/request_template/prompt", "{{ mood", "="),
            ("/request_template/prompt", "{% if mood %}", "="),
            ("/request_template/seed", "{{ seed }}", "="),
            ("/request_template/prompt", "{{ shape }}{{ note }}{{ mood }}{{ strength }}", "="),
            ("/request_template/mood", "{{ {'calm': 1}[mood] }}", "="),
            ("/request_template/ratio", "{{ 1 / strength }}", "="),
            ("/request_template/text", "{{ image_urls }} in a text", "="),
            ("/request_template/text", "a {{ none }}", "="),
            ("/request_template/items", ["fine", "{{ 1 ** 2 }}"], "=/1"),
            ("/request_template/a~b", 1, None),
            ("/request_template/image_urls", "none", "/request_template"),
            ("/request_template/image_urls", "{{ image_urls }}", "/max_references"),
            ("/request_template/pad", "x" * 16_000, "/request_template"),
            ("/request_template/pad", ["{{ 1 + 1 + 1 + 1 + 1 }}"] * 200, "/request_template"),
            ("/max_side", 7072, "="),
        ],
    )
    def test_what_does_not_hold_is_refused_with_its_place(self, pointer, value, place):
        if place is None:
            check(put(DOCUMENT, pointer, value))
            return
        with pytest.raises(InvalidWorkflow) as fault:
            check(put(DOCUMENT, pointer, value))
        assert fault.value.pointer == place.replace("=", pointer)
        assert fault.value.message.endswith(".")

    def test_documents_do_not_nest_without_end(self):
        value = []
        for _ in range(100):
            value = [value]
        with pytest.raises(InvalidWorkflow, match="nested too deeply"):
            check(put(DOCUMENT, "/request_template/prompt", value))

    def test_words_of_a_fault_say_what_to_write(self):
        pointer = "/parameter_schema/properties/strength/maximum"
        with pytest.raises(InvalidWorkflow, match="“maximum” must be a number, without quotes"):
            check(put(DOCUMENT, pointer, "100"))

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 2.5, 10**30, float("nan"), "", "x", "{{ x", [], [[]], [1], {}, {"a": {}},
         {"a": []}, b"x", Decimal("NaN")],
        ids=repr,
    )  # fmt: skip
    def test_any_value_at_any_place_is_taken_or_refused(self, value):
        for pointer in places(DOCUMENT):
            try:
                check(put(DOCUMENT, pointer, value))
            except InvalidWorkflow as fault:
                assert fault.message.endswith(".")  # noqa: PT017  # some values are fine

    def test_the_longest_texts_must_fit_the_request(self):
        document = put(DOCUMENT, "/parameter_schema/properties/note/maxLength", 2000)
        document = put(document, "/request_template/again", ["{{ note | default(none) }}"] * 10)
        with pytest.raises(InvalidWorkflow, match="20,000 is the most"):
            check(document)

    def test_enlarging_is_bounded_by_what_can_be_opened(self):
        document = put(DOCUMENT, "/parameter_schema/properties/guidance/x-output-scale", True)
        document["max_side"] = 353
        check(document)
        document["max_side"] = 354
        with pytest.raises(InvalidWorkflow, match="Write 353 or less"):
            check(document)
        pointer = "/parameter_schema/properties/strength/x-output-scale"
        with pytest.raises(InvalidWorkflow, match="Only one parameter"):
            check(put(document, pointer, True))


HOSTILE = [
    "{% for x in image_urls %}x{% endfor %}",
    "{% for x in [1] recursive %}{{ loop(x) }}{% endfor %}",
    "{{ range(10000000) }}",
    "{{ mood.upper() }}",
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ mood['upper'] }}",
    "{{ image_urls['append'] }}",
    "{{ mood|attr('__class__') }}",
    "{{ self }}",
    "{{ self.__init__ }}",
    "{{ cycler }}",
    "{{ lipsum.__globals__ }}",
    "{{ 2 ** 100 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ 'x'|indent(1000000000) }}",
    "{{ '%s'|format(mood) }}",
    "{{ 1.5|round(999999999, 'ceil') }}",
    "{{ 1.5|round(999999999) }}",
    "{{ 'aaaaaaaaaa'" + "|replace('a', 'aaaaaaaaaa')" * 15 + " }}",
    "{{ [mood, mood]|join('" + "x" * 1000 + "')|replace('x', '" + "y" * 1000 + "') }}",
    "{{ mood|replace('', 'x') }}",
    "{{ 'abc'|join(',') }}",
    "{{ mood|tojson }}",
    "{{ mood|safe }}",
    "{{ image_urls|map('upper') }}",
    "{{ mood|default(value='x') }}",
    "{{ mood|lower(*image_urls) }}",
    "{{ mood is eq('calm') }}",
    "{{ mood is callable }}",
    "{% set x = 1 %}",
    "{% set x %}x{% endset %}",
    "{% macro m() %}{% endmacro %}",
    "{% call m() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% block x %}{% endblock %}",
    "{% with a = 1 %}{{ a }}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do 1 %}",
    "{{ 7 // 2 }}",
    "{{ mood[1:] }}",
    "{{ (1, 2) }}",
    "{{ 1e999 }}",
    "{{ 1e308 + 1e308 }}",
    "a {{ 1e308 + 1e308 }}",
    "{{ true }} in a text",
    "{{ 1 / 0 }}",
    "{{ 'x' + 1 }}",
    "{{ ghost }}",
    "{{ [ghost] }}",
    "{{ image_urls[5] }}",
    "{{ '\\ud800' }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{{ " + "[" * 500 + "1" + "]" * 500 + " }}",
    "{{ " + "not " * 3_000 + "1 }}",
    "{{ " + "-" * 3_000 + "1 }}",
    "{{ 1" + " + 1" * 2_000 + " }}",
    "{{ 1 if 1 else " * 300 + "{{ 1 }}" + " }}" * 300,
    "{% if mood %}" * 200 + "x" + "{% endif %}" * 200,
    "{{ mood" + " ~ mood" * 1_500 + " }}",
    "{{ '" + "x" * 16_000 + "' }}",
    "{{",
    "{{ }}",
    "{% %}",
    "{# never closed",
]

TOKENS = [
    "note", "n", "image_urls", "ghost", "none", "true", "'a'", "''", "1", "0", "2.5", "1e308", "[", "]",
    "(", ")", "{", "}", ":", ",", ".", "|", "~", "+", "-", "/", "*", "%", "==", "<", "in", "not",
    "and", "or", "if", "else", "is", "defined", "is none", "|default(none)", "|int", "|float",
    "|round", "|length", "|first", "|last", "|join", "|join(note)", "|replace('a', 'b')", "|upper",
    "|trim", "[0]", "['a']", "{'a': 1}", "{{", "}}", "{% if n %}", "{% else %}", "{% endif %}",
]  # fmt: skip


class TestTemplates:
    @pytest.mark.parametrize("source", HOSTILE)
    def test_hostile_templates_are_refused(self, source):
        with pytest.raises(InvalidWorkflow) as fault:
            render(source, mood="calm")
        assert fault.value.pointer == "/request_template/it"

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("{% for x in [] %}{% endfor %}", "Loops cannot be used in a request template."),
            ("{{ f() }}", "Calls cannot be used in a request template."),
            ("{{ 2 * 2 }}", "Products (*) cannot be used in a request template."),
            ("{{ 2 ** 2 }}", "Powers (**) cannot be used in a request template."),
            ("{{ 1 | upper | sum }}", "The filter “sum” cannot be used here."),
            ("{{ ghost }}", "This cannot be filled in: 'ghost' is undefined."),
        ],
    )
    def test_a_refusal_says_what_it_met(self, source, words):
        with pytest.raises(InvalidWorkflow) as fault:
            render(source)
        assert fault.value.message == words

    @pytest.mark.parametrize(
        ("source", "result"),
        [
            ("plain", "plain"),
            ("}} %} #}", "}} %} #}"),
            ("two\n", "two\n"),
            ("{{ n }}", 7),
            ("{{n}}", 7),
            ("{{ -n }}", -7),
            ("{{- n -}}", "7"),
            (" {{ n }}", " 7"),
            ("{{ n }}{{ n }}", "77"),
            ("{{ n / 2 }}", 3.5),
            ("{{ n + 1 - 2 }}", 6),
            ("{{ n > 5 and not (n == 8) }}", True),
            ("{{ 'a' ~ n }}", "a7"),
            ("{{ 'a' if n > 5 else 'b' }}", "a"),
            ("{% if n > 5 %}a{% elif n %}b{% else %}c{% endif %}", "a"),
            ("{{ {'x': {'y': [n, 2]}}['x'] }}", {"y": [7, 2]}),
            ("{{ [1, n][1] }}", 7),
            ("{{ image_urls[0] }}", "u"),
            ("{{ image_urls + references }}", ["u"]),
            ("{{ references | first | default('none yet') }}", "none yet"),
            ("{{ word | upper | lower | trim | replace('a', 'b') }}", "b"),
            ("{{ ['x', 'y'] | join(', ') }}", "x, y"),
            ("{{ (n / 3) | round(2) }}", 2.33),
            ("{{ n | float }}", 7.0),
            ("{{ '12' | int + (word | length) }}", 15),
            ("{{ none }}", "left out"),
            ("{{ ghost | default(none) }}", "left out"),
            ("{{ ghost | default(3) }}", 3),
            ("{{ ghost is defined }}", False),
            ("{% raw %}{{ n }}{% endraw %}", "{{ n }}"),
            ("a{# quiet #}b", "ab"),
            (["{{ n }}", "{{ none }}", 1], [7, 1]),
            ({"deep": {"n": "{{ n }}", "no": "{{ none }}"}, "null": None},
             {"deep": {"n": 7}, "null": None}),
        ],
    )  # fmt: skip
    def test_values_keep_their_type_and_texts_are_texts(self, source, result):
        given = render(source, n=7, word=" a ")
        assert given == result
        assert type(given) is type(result)

    def test_the_request_shares_nothing_with_what_went_in(self):
        urls = ["u"]
        request = forms.render_request(
            {"image_urls": "{{ image_urls }}"}, parameters={}, image_urls=urls, references=[]
        )
        request["image_urls"].append("another")
        assert urls == ["u"]

    @pytest.mark.parametrize("where", ["parameters", "result"])
    def test_sizes_are_bounded(self, where):
        text = "é" * (11_000 if where == "parameters" else 4_000)
        with pytest.raises(InvalidWorkflow, match="20,000"):
            render("{{ note }}{{ note }}{{ note }}", note=text)

    @examples
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
    def test_any_text_arrives_letter_for_letter(self, text):
        assert render("{{ note }}", note=text) == text
        assert render("a {{ note }}.", note=text) == f"a {text}."

    @pytest.mark.parametrize(
        "text",
        ["[1,2]", "1e5", "None", "true", "{{ x }}", "{% raw %}", "{# a", "'", '"', "\\", "<b>&",
         "\r\n", " x ", "0x10", "()", "{'a': 1}", "1_000", "٣", "%s", "{0}", "${x}"],
    )  # fmt: skip
    def test_texts_that_look_like_code_stay_texts(self, text):
        assert render("{{ note }}", note=text) == text
        assert render("<{{ note }}>", note=text) == f"<{text}>"

    @pytest.mark.parametrize(
        "source",
        [
            "{{ note" + " ~ note" * 900 + " }}",
            "{{ note }}" * 400,
            "{{ [" + "note," * 900 + "]|join }}",
            "{{ note" + "|replace('x', 'xx')" * 9 + " }}",
            "{{ [note, note]|join(note) }}",
        ],
    )
    def test_the_most_expensive_templates_end_soon(self, source):
        # The largest operand as often as the node limit allows: megabytes, never gigabytes.
        with pytest.raises(InvalidWorkflow):
            render(source, note="x" * 15_000)

    @examples
    @given(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join))
    def test_any_expression_is_refused_or_gives_json(self, source):
        for text in (f"{{{{ {source} }}}}", f"a {{{{ {source} }}}}", source):
            try:
                result = render(text, note="x", n=3)
            except InvalidWorkflow:
                continue
            json.dumps(result, allow_nan=False)


def parsed(values):
    return forms.parse_form(SCHEMA, DEFAULTS, values)


def parsed_json(values):
    return forms.parse_json(SCHEMA, DEFAULTS, values)


BASE = {"shape": "1:1", "strength": 75, "mood": "calm", "sharp": False}
STRENGTH = "Choose a number from 0 to 100."
WHOLE = "Choose a whole number from 0 to 100."
SEED = "Whole numbers only, or leave it empty."
SEED_RANGE = "Choose a number from 0 to 2147483647, or leave it empty."
GUIDANCE = "Choose a number from 1 to 20, or leave it empty."
UNKEPT = "This text holds a character that cannot be kept. Type it again."
UNKNOWN = "This workflow has no such setting. Take it out and try again."


class TestForm:
    @pytest.mark.parametrize(
        ("values", "result"),
        [
            ({}, {}),
            ({"strength": "0"}, {"strength": 0}),
            ({"strength": " 100 "}, {"strength": 100}),
            ({"seed": ""}, {}),
            ({"seed": "  "}, {}),
            ({"seed": "007"}, {"seed": 7}),
            ({"guidance": "4.5"}, {"guidance": 4.5}),
            ({"guidance": "4"}, {"guidance": 4}),
            ({"guidance": ""}, {}),
            ({"note": ""}, {}),
            ({"note": "[1,2]"}, {"note": "[1,2]"}),
            ({"note": " 1e5 "}, {"note": " 1e5 "}),
            ({"note": "None"}, {"note": "None"}),
            ({"sharp": "on"}, {"sharp": True}),
            ({"sharp": "false"}, {"sharp": False}),
            ({"shape": "custom"}, {"shape": "custom", "width": 512}),
            ({"shape": "custom", "width": "64"}, {"shape": "custom", "width": 64}),
            # Hidden, so it counts for nothing, whatever it holds.
            ({"shape": "1:1", "width": "junk"}, {}),
            # The batch form's own fields stand beside the workflow's.
            ({"image": "x", "workflow": "y", "client_key": "z", "q": "", "pilot": "2"}, {}),
        ],
    )
    def test_strings_become_parameters(self, values, result):
        assert parsed(values) == {**BASE, **result}

    @pytest.mark.parametrize(
        ("name", "text", "sentence"),
        [
            ("strength", "101", STRENGTH),
            ("strength", "-1", STRENGTH),
            ("strength", "", WHOLE),
            ("strength", "7.5", WHOLE),
            ("strength", "1e2", WHOLE),
            ("strength", "٣", WHOLE),
            ("strength", "1_0", WHOLE),
            ("strength", "+5", WHOLE),
            ("strength", "0x10", WHOLE),
            ("strength", "５", WHOLE),
            ("strength", "5\n", WHOLE),
            ("strength", "true", WHOLE),
            ("seed", "abc", SEED),
            ("seed", "1.0", SEED),
            ("seed", "NaN", SEED),
            ("seed", "9" * 20, SEED),
            ("seed", "9" * 10_000, SEED),
            ("seed", str(2**63), SEED_RANGE),
            ("seed", "-1", SEED_RANGE),
            ("guidance", "NaN", GUIDANCE),
            ("guidance", "inf", GUIDANCE),
            ("guidance", "1e309", GUIDANCE),
            ("guidance", "1e1", GUIDANCE),
            ("guidance", "0.99", GUIDANCE),
            ("guidance", "4,5", GUIDANCE),
            ("guidance", ".5", GUIDANCE),
            ("mood", "", "Choose Calm or Wild west."),
            ("mood", "Calm", "Choose Calm or Wild west."),
            ("mood", "calm\x00", UNKEPT),
            ("shape", "4:3", "Choose 1:1 or Custom."),
            ("sharp", "maybe", "Choose yes or no."),
            ("note", "a\x00b", UNKEPT),
            ("note", "\ud800", UNKEPT),
            ("note", "x" * 201, "Write 200 characters at most."),
            ("user_id", "1", UNKNOWN),
            ("__class__", "1", UNKNOWN),
            ("image_urls", "http://169.254.169.254/", UNKNOWN),
        ],
    )
    def test_bad_input_is_told_at_its_field(self, name, text, sentence):
        with pytest.raises(InvalidFields) as fault:
            parsed({name: text})
        assert fault.value.fields == {name: sentence}

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "Choose a whole number from 64 to 2048."),
            ("63", "Choose a number from 64 to 2048."),
            ("100", "Choose a multiple of 16."),
        ],
    )
    def test_a_custom_shape_needs_its_size(self, text, sentence):
        with pytest.raises(InvalidFields) as fault:
            parsed({"shape": "custom", "width": text})
        assert fault.value.fields == {"width": sentence}

    def test_all_faults_are_told_at_once_and_nothing_of_the_inside(self):
        with pytest.raises(InvalidFields) as fault:
            parsed({"strength": "x", "seed": "y", "k" * 500: "z"})
        assert fault.value.fields == {"strength": WHOLE, "seed": SEED, "k" * 64: UNKNOWN}

    @examples
    @given(st.text(max_size=30) | st.integers().map(str))
    def test_any_text_is_a_whole_number_in_range_or_refused(self, text):
        trimmed = text.strip(" ")
        if re.fullmatch("-?[0-9]{1,19}", trimmed) and 0 <= int(trimmed) <= 100:
            assert parsed({"strength": text})["strength"] == int(trimmed)
        else:
            with pytest.raises(InvalidFields) as fault:
                parsed({"strength": text})
            assert set(fault.value.fields) == {"strength"}

    @examples
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
    def test_any_text_is_kept_as_typed(self, text):
        if "\x00" not in text:
            assert parsed({"note": text})["note"] == text


class TestJson:
    @pytest.mark.parametrize(
        ("values", "result"),
        [
            ({}, {}),
            ({"strength": 5}, {"strength": 5}),
            ({"strength": 5.0}, {"strength": 5}),
            ({"seed": None}, {}),
            ({"sharp": True}, {"sharp": True}),
            ({"guidance": 4.5, "note": "[1,2]"}, {"guidance": 4.5, "note": "[1,2]"}),
        ],
    )
    def test_typed_values_become_parameters(self, values, result):
        expected = {name: value for name, value in BASE.items() if name != "sharp"} | result
        given = parsed_json(values)
        assert given == expected
        assert type(given["strength"]) is int

    @pytest.mark.parametrize(
        ("name", "value", "sentence"),
        [
            ("strength", "75", WHOLE),
            ("strength", True, WHOLE),
            ("strength", None, WHOLE),
            ("strength", 7.5, WHOLE),
            ("strength", 10**400, STRENGTH),
            ("strength", [75], WHOLE),
            ("strength", {}, WHOLE),
            ("guidance", float("nan"), GUIDANCE),
            ("guidance", float("inf"), GUIDANCE),
            ("guidance", 1e308, GUIDANCE),
            ("seed", 2**63, SEED_RANGE),
            ("sharp", 1, "Choose yes or no."),
            ("mood", ["calm"], "Choose Calm or Wild west."),
            ("note", 5, "Write a text, or leave it empty."),
            ("note", "\ud800", UNKEPT),
            ("user_id", "1", UNKNOWN),
        ],
    )
    def test_bad_values_are_told_at_their_name(self, name, value, sentence):
        with pytest.raises(InvalidFields) as fault:
            parsed_json({name: value})
        assert fault.value.fields == {name: sentence}


class TestFields:
    def test_fields_follow_the_order_and_carry_what_a_page_needs(self):
        drawn = forms.fields(SCHEMA, DEFAULTS)
        assert [item.name for item in drawn] == [
            "shape", "width", "strength", "mood", "note", "guidance", "seed", "sharp",
        ]  # fmt: skip
        assert [item.kind for item in drawn] == [
            "shape", "integer", "integer", "choice", "text", "number", "integer", "boolean",
        ]  # fmt: skip
        by_name = {item.name: item for item in drawn}
        assert by_name["mood"].choices == (("calm", "Calm"), ("wild_west", "Wild west"))
        assert by_name["seed"].group == "Advanced"
        assert by_name["note"].max_length == 200
        assert [item.name for item in drawn if item.required] == [
            "shape", "width", "strength", "mood",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("choices", "kind"),
        [
            (["a", "b", "c", "d", "e"], "choice"),
            (["a", "b", "c", "d", "e", "f"], "choices_select"),
            (["any", "a"], "choices_select"),
        ],
    )
    def test_up_to_five_choices_are_chips(self, choices, kind):
        schema = {"properties": {"mood": {"type": "string", "enum": choices}}}
        assert forms.fields(schema, {})[0].kind == kind

    def test_the_order_survives_a_column_that_keeps_none(self):
        prop = {"type": "integer", "x-labels": {"100": "all", "25": "some", "0": "none"}}
        schema = {"properties": {"b": prop, "a": {"type": "boolean"}}}
        drawn = forms.fields(schema, {})
        assert [item.name for item in drawn] == ["a", "b"]
        assert [value for value, _ in drawn[1].choices] == ["0", "25", "100"]

    def test_texts_are_shown_as_typed(self):
        assert forms.describe(SCHEMA, {"note": "<b> 1"}) == [("Note", "<b> 1")]

    def test_a_text_can_have_a_least_length(self):
        schema = {"properties": {"note": {"type": "string", "minLength": 3, "maxLength": 9}}}
        with pytest.raises(InvalidFields) as fault:
            forms.parse_form(schema, {}, {"note": "ab"})
        assert fault.value.fields == {"note": "Write 3 characters or more."}

    def test_words_leave_out_what_does_not_count(self):
        words = forms.describe(SCHEMA, {**DEFAULTS, "sharp": True, "mood": "wild_west"})
        assert words == [
            ("Shape", "1:1"),
            ("Strength", "75"),
            ("Mood", "Wild west"),
            ("Sharp", "Yes"),
        ]


class TestVariations:
    @pytest.mark.parametrize(
        ("seed", "variation", "result"),
        [(5, 0, 5), (5, 3, 8), (2147483647, 0, 2147483647), (2147483647, 1, 0), (2147483646, 3, 1)],
    )
    def test_a_seed_grows_and_wraps(self, seed, variation, result):
        given = {"seed": seed, "mood": "calm"}
        varied = forms.vary_seed(given, variation, schema=SCHEMA)
        assert varied == {"seed": result, "mood": "calm"}
        assert given["seed"] == seed

    def test_without_a_seed_nothing_changes(self):
        assert forms.vary_seed({"mood": "calm"}, 2, schema=SCHEMA) == {"mood": "calm"}


class TestPrice:
    def test_an_unknown_price_stays_unknown(self):
        definition = forms.parse_definition(DOCUMENT)
        assert forms.estimate(definition, parameters=DEFAULTS, width=10, height=10) is None

    def test_a_free_workflow_costs_nothing(self):
        definition = forms.parse_definition({**DOCUMENT, "unit_price": 0})
        assert forms.estimate(definition, parameters=DEFAULTS) == Decimal(0)

    @pytest.mark.parametrize(
        ("width", "height", "units"),
        [
            (1, 1, 1),
            (1000, 1000, 1),
            (1001, 1000, 2),
            (1024, 1024, 2),
            (5000, 1, 1),
            (4096, 4096, 5),
        ],
    )
    def test_started_megapixels_count_whole(self, width, height, units):
        definition = forms.parse_definition(
            {**DOCUMENT, "unit_price": 0.5, "price_unit": "megapixel"}
        )
        price = forms.estimate(definition, parameters=DEFAULTS, width=width, height=height)
        assert price == units * Decimal("0.5")

    @pytest.mark.parametrize(
        ("size", "price"),
        [
            ({"width": "{{ width }}", "height": 2000}, Decimal(3)),
            ("{{ {'width': width, 'height': 2000} }}", Decimal(3)),
            ({"width": 1000, "height": 1000}, Decimal(1)),
            ("{{ none }}", Decimal(4)),
            ("square_hd", None),
            ({"width": "wide", "height": 1}, None),
        ],
    )
    def test_the_size_a_request_asks_for_counts_before_the_photo(self, size, price):
        document = put(DOCUMENT, "/request_template/image_size", size)
        definition = forms.parse_definition(
            {**document, "unit_price": 1, "price_unit": "megapixel"}
        )
        parameters = {"shape": "custom", "width": 1488}
        assert forms.estimate(definition, parameters=parameters, width=2000, height=2000) == price

    def test_a_choice_can_multiply_the_price(self):
        pointer = "/parameter_schema/properties/mood/x-price-factors"
        document = put({**DOCUMENT, "unit_price": 0.15}, pointer, {"wild_west": 1.5})
        definition = forms.parse_definition(document)
        forms.check_definition(definition)
        prices = [
            forms.estimate(definition, parameters={"mood": mood}) for mood in ("calm", "wild_west")
        ]
        assert prices == [Decimal("0.15"), Decimal("0.225")]


# --- Settings of another day ------------------------------------------------------------------


def test_what_still_fits_is_kept_and_the_rest_is_named():
    schema = {
        "required": ["light", "strength", "border"],
        "properties": {
            "light": {"type": "string", "enum": ["studio", "soft"], "title": "Light"},
            "strength": {"type": "integer", "minimum": 0, "maximum": 100},
            "border": {"type": "boolean"},
            "seed": {"type": "integer", "minimum": 0, "maximum": 9},
        },
    }
    defaults = {"light": "studio", "strength": 50, "border": True, "seed": 1}
    kept, lost = forms.fit(schema, defaults, {"light": "golden_hour", "strength": 75, "mood": "x"})
    assert kept == {"light": "studio", "strength": 75, "border": True}, "an empty seed stays empty"
    assert lost == {
        "Light": "“golden hour” is no longer possible.",
        "Mood": "This workflow no longer has it.",
    }
    kept, lost = forms.fit(schema, defaults, {"strength": "75", "seed": 10})
    assert kept == {"light": "studio", "strength": 50, "border": True}
    assert [*lost] == ["Seed", "Strength"]


@pytest.mark.parametrize("value", [0, 75, 4.5, True, False, "soft", "ü"])
def test_a_value_comes_back_from_its_text(value):
    kind = {int: "integer", float: "number", bool: "boolean", str: "string"}[type(value)]
    bounds = {"minimum": 0, "maximum": 100} if kind in {"integer", "number"} else {}
    more = {"maxLength": 10} if kind == "string" else {}
    schema = {"properties": {"it": {"type": kind} | bounds | more}}
    assert forms.parse_form(schema, {}, {"it": forms.as_text(value)}) == {"it": value}
