"""Cursors, versions, filters, settings and JSON that nobody wrote: answered, and never with a 5xx.

`make security ARGS="--fuzz-minutes 10 -k fuzz"` tries each for ten minutes. Multipart bodies are in
test_multipart.py, callbacks in test_webhooks.py.
"""

import json
import urllib.parse

from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

TEXT = st.text(max_size=60) | st.sampled_from(
    ["", "0", "-1", "1e309", "NaN", "٣", "\0", "%00", "'", '"', "{{1}}", "9" * 400, "2026-02-30",
     "0001-01-01", "9999-12-31", "0001-01-01T00:00:00+23:59", "T00", "null", "[]", "\ud800", "ﬀ", "İ"]
)  # fmt: skip

KEY = "only-for-tests-0123456789"


def encode(fields):
    return urllib.parse.urlencode(fields, doseq=True, errors="surrogatepass").encode()


def test_fuzz_cursors(town, fuzz):
    """Bent, foreign, and well signed ones with nonsense in them: the page, or 404."""
    ask = town.crowd("owner")
    sign = URLSafeSerializer(KEY, salt="cursor")
    words = TEXT.filter(lambda text: "\ud800" not in text)
    inside = st.recursive(
        st.none() | st.integers() | words, lambda inner: st.lists(inner, max_size=3)
    )
    moments = st.datetimes().map(lambda each: [each.isoformat(), str(town.things["image"])])
    cursors = (inside | moments).map(sign.dumps)
    bent = st.tuples(cursors, st.integers(0, 80), st.characters(max_codepoint=0x2FF)).map(
        lambda each: each[0][: each[1]] + each[2] + each[0][each[1] + 1 :]
    )

    def check(path, cursor):
        query = encode({"after": cursor, "uploads": cursor, "image": town.things["image"]}).decode()
        answer = ask("GET", f"{path}?{query}")
        assert answer.status in {200, 303, 400, 404}, answer.data

    fuzz(
        check,
        path=st.sampled_from(["/upload", "/jobs", "/jobs?view=batches&", "/trash", "/batches/new"]),
        cursor=cursors | bent | TEXT,
    )


def test_fuzz_versions_of_a_live_page(town, fuzz):
    ask, batch = town.crowd("owner"), town.things["batch"]
    number = st.integers(-10, 10**20).map(str) | TEXT
    since = st.tuples(number, TEXT, number).map("-".join) | TEXT
    odd = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))

    def check(since, etag):
        query = encode({"since": since}).decode()
        headers = {"If-None-Match": etag.encode("latin-1"), "Accept": "text/html"}
        answer = ask("GET", f"/batches/{batch}/live?{query}", headers=headers)
        assert answer.status in {200, 304, 400}, answer.data

    fuzz(check, since=since, etag=odd)


def test_fuzz_filters_of_the_history(town, fuzz):
    ask = town.crowd("owner")
    names = [
        "q",
        "from",
        "to",
        "status",
        "verdict",
        "workflow",
        "view",
        "size",
        "until",
        "everything",
        "job",
    ]
    fields = st.dictionaries(st.sampled_from(names), TEXT | st.lists(TEXT, max_size=3), max_size=4)

    def check(path, fields):
        answer = ask("GET", f"{path}?{encode(fields).decode()}")
        assert answer.status in {200, 303, 400, 404, 409}, answer.data

    fuzz(check, path=st.sampled_from(["/jobs", "/jobs.zip", "/jobs/again"]), fields=fields)


def test_fuzz_settings_of_an_order(town, fuzz):
    """Any text in any field, any name, any type of content; nothing is ordered by accident."""
    ask = town.crowd("owner")
    before = town.snapshot()["batches"]
    sane = {
        "image": town.things["image"], "workflow": "mannequin-to-human-v2",
        "client_key": "short", "variations": "1",
    }  # fmt: skip
    known = [
        *("setting", "seed", "variations", "pilot", "pilot_photos", "reference", "parent", "scope"),
        *(
            "preset",
            "switch",
            "without",
            "preset_name",
            "uploads",
            "person",
            "background",
            "prompt",
        ),
    ]
    fields = st.dictionaries(st.sampled_from(known) | TEXT, TEXT | st.lists(TEXT, max_size=3))

    def check(path, fields, kind):
        answer = ask("POST", path, body=encode(sane | fields), headers={"Content-Type": kind})
        assert answer.status in {200, 303, 400, 404, 413, 422}, answer.data

    fuzz(
        check,
        path=st.sampled_from(["/batches", "/batches/new", "/batches/estimate"]),
        fields=fields,
        kind=st.sampled_from(
            ["application/x-www-form-urlencoded"] * 5
            + ["application/json", "multipart/form-data", "application/x-www-form-urlencoded;x"]
        ),
    )
    assert town.snapshot()["batches"] == before


def test_fuzz_documents_of_workflows(town, fuzz):
    """What an admin may paste: TOML, JSON and neither."""
    ask = town.crowd("admin")
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
    keys = TEXT | st.sampled_from(
        ["id", "name", "parameter_schema", "properties", "type", "request_template", "unit_price",
         "default_parameters", "fal_endpoint", "required", "enum", "minimum", "x-order", "$ref"]
    )  # fmt: skip
    trees = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5)
    )
    written = st.dictionaries(keys, trees).map(json.dumps) | TEXT
    toml = st.dictionaries(keys, trees.map(json.dumps)).map(
        lambda each: "\n".join(f"{json.dumps(name)} = {value}" for name, value in each.items())
    )

    def check(document, path):
        fields = {"document": document, "action": "check"}
        answer = ask("POST", path, body=encode(fields), headers={
            "Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"
        })  # fmt: skip
        assert answer.status in {200, 400, 404, 422}, answer.data

    fuzz(
        check,
        document=written | toml,
        path=st.sampled_from(["/admin/workflows", "/admin/workflows/basic-v1"]),
    )
