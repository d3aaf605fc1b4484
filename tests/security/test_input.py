"""Rows 61 to 63: whatever stands in a field, an address or a header, the answer is none of 5xx."""

import ast
import json
import urllib.parse

import factories
import pytest
from routes import FIELDS, ROUTES, path_of

from i2i.config import ROOT

MORE = {
    "GET /": {"after": "", "select": "all", "image": "{image}"},
    "GET /upload": {"after": "", "select": "all", "image": "{image}"},
    "GET /images": {"image": "{image}"},
    "GET /images/<uuid:id>": {"size": "thumb", "download": ""},
    "GET /login": {"next": "/jobs"},
    "POST /login": {"next": "/jobs", "time_zone": "Europe/Berlin"},
    "GET /account": {"saved": "password"},
    "GET /account/password": {"next": "/jobs"},
    "POST /account/password": {"new_password": "fifteen letters", "next": "/jobs"},
    "POST /account/review-keys": {"review_keys": "on"},
    "GET /presets": {"saved": "renamed"},
    "GET /trash": {"after": "", "saved": ""},
    "POST /trash/restore": {"image": "{image}", "job": "{trashed}"},
    "POST /trash/empty": {"until": "2026-11-23T00:00:00+00:00"},
    "GET /batches/<uuid:id>": {"size": "s"},
    "GET /batches/<uuid:id>/live": {"since": "1-going.0-1700000000000000"},
    "GET /batches/<uuid:id>.zip": {"verdict": "approved"},
    "POST /batches/<uuid:id>/retry": {
        "scope": "all", "confirm": "free", "client_key": "0123456789abcdef", "setting": "outdoor",
        "seed": "7",
    },
    "GET /jobs/<uuid:id>": {"review": "1", "against": "original", "zoom": "1"},
    "POST /jobs/<uuid:id>/retry": {"setting": "outdoor", "seed": "7", "confirm": "1"},
    "POST /jobs/<uuid:id>/recover": {"confirm": "1"},
    "POST /jobs/<uuid:id>/verdict": {"reason": "other", "note": "a note", "then": "again"},
    "POST /jobs/<uuid:id>/delete": {},
    "GET /admin/workflows/new": {"copy": "basic-v1"},
    "POST /admin/workflows": {"document": "{{}}", "action": "check"},
    "POST /admin/workflows/<workflow_id>": {"document": "{{}}", "action": "save"},
    "POST /admin/workflows/<workflow_id>/active": {"cancel_waiting": ""},
    "POST /admin/workflows/<workflow_id>/sample": {"job": "{done}"},
    "GET /admin/jobs": {"show": "failed", "after": ""},
    "GET /admin/usage": {"from": "2026-11-01", "to": "2026-11-23"},
    "POST /admin/users": {"role": "user", "may_sign_in": "on"},
    "POST /admin/users/<uuid:id>/whitelist": {"may_sign_in": "yes"},
    "POST /admin/users/<uuid:id>/role": {"role": "user"},
}  # fmt: skip
"""Every other field that a route looks at, with a value that it takes."""

ORDER = {
    "image": "{image}", "reference": "{image}", "without": "", "workflow": "basic-v1",
    "setting": "outdoor", "seed": "7", "variations": "1", "pilot": "0", "pilot_photos": "2",
    "client_key": "0123456789abcdef", "parent": "{batch}", "scope": "all", "preset": "{preset}",
    "switch": "basic-v1", "preset_name": "Mine", "preset_replace": "", "uploads": "",
}  # fmt: skip

FILTER = {
    "job": "{done}", "status": "failed", "workflow": "basic-v1", "verdict": "none", "q": "photo",
    "from": "2026-11-01", "to": "2026-11-23", "view": "batches", "size": "s", "after": "",
    "everything": "1", "until": "2026-11-23T00:00:00+00:00", "confirm": "1",
}  # fmt: skip

LONG = {
    "GET /batches/new": ORDER,
    "POST /batches/new": ORDER,
    "POST /batches/estimate": ORDER,
    "POST /batches": ORDER,
    "POST /presets": ORDER,
    "GET /jobs": FILTER,
    "GET /jobs.zip": FILTER,
    "GET /jobs/again": FILTER,
    "POST /jobs/delete": FILTER,
}

TEXTS = {
    "punctuation": "a\r\nX-Odd: 1\r\n\r\n'\"`%s%(x)s%27%%\\'\\{{ 7*7 }}${7}'); DROP TABLE users; --",
    "nul": "a\0b",
}

ABSURD = {
    "minus": "-1",
    "zero": "0",
    "big": str(2**63),
    "float": "1e309",
    "nan": "NaN",
    "arabic": "٣",
    "surrogate": "\ud800",
    "list": "[1, 2]",
    "object": '{"a": {"$ne": null}}',
    "year one": "0001-01-01T00:00:00+23:59",
    "last year": "9999-12-31T23:59:59-23:59",
    "nobody": "00000000-0000-0000-0000-000000000000",
    "path": "../../../../etc/passwd",
    "bidi": "\u202egnp.exe",
    "empty": "",
}

PLACES = ("<uuid:id>", "<workflow_id>", "<token>", "<path:filename>")


def fields_of(method, route, things):
    name = f"{method} {route}"
    fields = {**FIELDS.get(name, {}), **MORE.get(name, {}), **LONG.get(name, {})}
    return {key: text.format_map(things) for key, text in fields.items()}


def encode(fields):
    return urllib.parse.urlencode(fields, doseq=True, errors="surrogatepass")


def ask(client, method, path, fields, *, accept="text/html", **headers):
    """One request, with the fields where the method has them; asserts that it is answered."""
    body = None
    if method == "GET":
        path = path.partition("?")[0] + "?" + encode(fields)
    else:
        body = encode(fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | headers
    answer = client.request(method, path, body=body, headers={"Accept": accept} | headers)
    assert answer.status < 500, (method, path[:300], str(fields)[:500], answer.data[:300])
    return answer


def test_the_fields_are_all_there_are():
    """Every name that a view asks a request for is tried below."""
    asked = set()
    for path in sorted((ROOT / "i2i" / "web").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Attribute(attr="args" | "form" | "values"),
                        attr="get" | "getlist",
                    ),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    asked.add(name)
                case ast.Compare(
                    left=ast.Constant(value=str(name)),
                    comparators=[ast.Attribute(attr="args" | "form" | "values")],
                ):
                    asked.add(name)
    known = set(ORDER) | set(FILTER)
    for fields in (*FIELDS.values(), *MORE.values()):
        known |= set(fields)
    assert asked > {"workflow", "review", "confirm"}
    assert asked <= known, asked - known


def walk(town):
    """Every route that has a field or a word in its path: client, method, path, sane fields."""
    clients = {who: town.client(who) for who in ("owner", "admin")}
    for method, route in ROUTES:
        if route not in {"/logout", "/static/<path:filename>"}:
            client = clients["admin" if route.startswith("/admin") else "owner"]
            path = path_of(method, route, town.things)
            yield client, method, route, path, fields_of(method, route, town.things)


def try_one_by_one(town, texts):
    """Each field once with each of the texts, the others as they should be."""
    for number, (client, method, route, path, fields) in enumerate(walk(town)):
        accept = ("text/html", "application/json")[number % 2]
        for place, name in enumerate(fields):
            for odd in texts(place + number):
                if (method, route, name) != ("POST", "/login", "email"):  # its tries are counted
                    ask(client, method, path, fields | {name: odd}, accept=accept)
        for odd in texts(number):
            for place in PLACES:
                if place in route:
                    text = urllib.parse.quote(odd, safe="", errors="surrogatepass")
                    ask(client, method, route.replace(place, text), {}, accept=accept)
    assert town.client("owner").request("GET", "/jobs").status == 200


@pytest.mark.parametrize("kind", TEXTS)
def test_row_61_text_is_never_code(town, kind):
    """Refused, or taken as the text that it is; the database has all its tables afterwards."""
    try_one_by_one(town, lambda _: [TEXTS[kind]])


def test_row_62_absurd_values_in_every_field(town, pytestconfig):
    """Each field gets one of them, in turn; with --fuzz-minutes all."""
    absurd = [*ABSURD.values()]
    thorough = pytestconfig.getoption("--fuzz-minutes", default=0)
    try_one_by_one(town, lambda place: absurd if thorough else [absurd[place % len(absurd)]])


def test_row_62_fields_of_any_length(town):
    """100,000 letters at once in all fields of each form: refused with 4xx, or not looked at."""
    for client, method, route, path, fields in walk(town):
        if method == "POST" and fields and route != "/login":
            answer = ask(client, method, path, dict.fromkeys(fields, "x" * 100_000))
            assert answer.status in {200, 303, 400, 404, 409, 413, 422, 429}, (route, answer.status)
    stored = town.conn.execute(
        "SELECT coalesce(max(length(name)), 0) FROM presets UNION ALL"
        " SELECT coalesce(max(length(verdict_note)), 0) FROM processing_jobs UNION ALL"
        " SELECT coalesce(max(length(email)), 0) FROM users"
    ).fetchall()
    assert max(each for (each,) in stored) <= 1000


def test_row_62_values_of_the_wrong_kind_in_an_order(town):
    """Numbers are numbers of the schema, choices are its choices: else 422, and nothing is made."""
    client, before = town.client("owner"), town.snapshot()
    sane = fields_of("POST", "/batches", town.things)
    sane = {name: sane[name] for name in ("image", "workflow", "setting", "client_key")}
    for name, values in {
        "seed": ["-1", str(2**63), "1e309", "NaN", "٣", "1.5", "0x10", "[1]", "1 2", "1_0", "1" * 9999],
        "variations": ["-1", "0", "5", str(2**63), "1e0", "NaN", "٣", "[1]"],
        "pilot": ["-1", str(2**63), "1e309", "٣"],
        "setting": ["", '["outdoor"]', "OUTDOOR", "studio white ", "x" * 100_000, "a\0"],
        "client_key": ["x", "x" * 101],
        "workflow": ["", "nothing", "basic-v1'--", "a\0"],
    }.items():  # fmt: skip
        for value in values:
            answer = ask(
                client, "POST", "/batches", sane | {name: value}, accept="application/json"
            )
            assert answer.status in {400, 404, 422}, (name, value[:50], answer.data)
    assert town.snapshot() == before


def test_row_62_bodies_that_are_no_form(town):
    """JSON, XML or nothing instead of the fields: they count as missing."""
    bodies = [
        ("application/json", json.dumps({"image": [1], "email": None, "a": 1e308}).encode()),
        ("text/xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ("application/x-www-form-urlencoded; charset=utf-7", b"%ff%fe=%&&&===+&\xff"),
        ("", b"\0" * 100),
    ]
    for number, (client, method, route, path, _) in enumerate(walk(town)):
        kind, body = bodies[number % len(bodies)]
        if method == "POST":
            answer = client.request(method, path, body=body, headers={"Content-Type": kind})
            assert answer.status < 500, (route, kind, answer.data)


@pytest.mark.parametrize(
    "name",
    [
        *("Accept", "Accept-Language", "User-Agent", "If-None-Match", "If-Modified-Since", "Range"),
        *("If-Range", "Referer", "Cookie", "Content-Type", "X-Forwarded-For", "Authorization"),
        *("Origin", "Sec-Fetch-Site", "Forwarded", "X-HTTP-Method-Override", "Content-Encoding"),
    ],
)
def test_row_62_odd_headers(town, name):
    values = ["", "\xff\xfe", "'\"%s", "a" * 3000, "bytes=-1,5-,0-0,9-1", "=;=,;q=x", 'W/"', "utf-7''%00",
              "bytes=" + "0-0," * 500, str(2**64), "q=1e309;q=NaN"]  # fmt: skip
    client = town.client("owner")
    session = client.cookies["__Host-i2i"]
    image, batch = town.things["image"], town.things["batch"]
    for path in (
        "/jobs",
        f"/images/{image}?size=thumb",
        f"/batches/{batch}/live",
        "/static/app.css",
    ):
        for value in values:
            odd = f"__Host-i2i={session}; size={value}; {value}" if name == "Cookie" else value
            answer = client.request("GET", path, headers={name: odd.encode("latin-1")})
            assert answer.status < 500, (path, name, value, answer.data)


def test_row_63_what_is_checked_is_what_is_used(town):
    """A field that comes twice, or in the address as well, never slips past its check."""
    client, other = town.client("other"), town.things
    mine = factories.make_image(town.conn, user=town.users["other"])
    before = town.snapshot()
    fields = {"workflow": "basic-v1", "setting": "outdoor", "client_key": "0123456789abcdef"}
    for order, address in [
        ({"image": [mine.id, other["image"]]}, ""),
        ({"image": [other["image"], mine.id]}, ""),
        ({"image": mine.id, "reference": [mine.id, other["image"]]}, ""),
        ({"image": mine.id, "reference": other["image"]}, ""),
        ({"image": mine.id, "variations": ["-1", "1"]}, ""),
        ({"image": mine.id, "setting": ["anywhere", "outdoor"]}, ""),
    ]:
        answer = ask(
            client, "POST", "/batches" + address, fields | order, accept="application/json"
        )
        assert answer.status == 422, (order, answer.data)
    made = ask(
        client,
        "POST",
        f"/batches?image={other['image']}&workflow=nothing&setting=anywhere&variations=4",
        fields | {"image": mine.id},
        accept="application/json",
    )
    assert made.status == 201, made.data
    (job,) = made.json()["jobs"]
    assert (job["original_filename"], job["parameters"]["setting"]) == (
        mine.original_filename,
        "outdoor",
    )
    for path in ("/jobs.zip", "/jobs/again"):
        assert ask(client, "GET", path, {"job": other["done"]}).status in {404, 409}
        assert ask(client, "GET", path, {"job": [other["done"], job["id"]]}).status in {
            200,
            303,
            404,
            409,
        }
    ids = f"{job['id']} {other['done']}"
    done = ask(client, "POST", "/jobs/delete", {"job": ids}, accept="application/json")
    assert done.status == 200
    assert town.snapshot() == before
