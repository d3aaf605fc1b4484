"""What happened to comparable programs, where no row of the checklist holds it by itself.

docs/security.md names the incidents, and the test of each.
"""

import re
import urllib.parse

import factories
import pytest
from routes import ROUTES, WITH_IDS, fields_of, path_of

from i2i import passwords
from i2i.queries import presets, tokens

CANARY = "unreleased zq7"

NAMES = (
    *("image", "job", "reference", "workflow", "parent", "preset", "switch", "uploads", "without"),
    *("scope", "q", "status", "verdict", "view", "size", "after", "since", "until", "download"),
    *("client_key", "name", "preset_name", "filename", "path", "file", "url", "key", "hash"),
)
"""Fields that name something here, and fields that did elsewhere."""

PLACES = ("<uuid:id>", "<workflow_id>", "<token>", "<version>", "<filename>")


def climbing(depth, target):
    """The ways up that a filter has missed somewhere: plain, encoded, doubled, other slashes, NUL."""
    for up, slash in (("..", "/"), ("..", "\\"), ("%2e%2e", "%2f"), ("....", "//"), ("..;", "/")):
        yield (up + slash) * depth + target
    yield f"/{target}"
    yield f"{'../' * depth}{target}\0.jpg"


def test_incident_10_11_16_no_name_in_a_request_leads_to_a_file(town, stack):
    """ComfyUI's, InvokeAI's and CoAI's: a name in a job, a preview, a deletion, an archive.

    Every field and every id of every route, by the plain ways and one of the others in turn; a file
    beside the store keeps its content to itself, and stays.
    """
    secret = stack.house.folder / "treasure.txt"
    secret.write_text(CANARY)
    ways = [*climbing(3, "treasure.txt"), *climbing(12, str(secret).lstrip("/"))]
    before = town.snapshot()
    asked = 0
    for number, (method, route) in enumerate(ROUTES):
        if route.startswith(("/login", "/logout", "/account")):
            continue  # tries are counted there, and nothing that is typed is a name
        client = town.client("admin" if route.startswith("/admin") else "owner")
        path, fields = path_of(method, route, town.things), fields_of(method, route, town.things)
        always = ("../" * 12 + str(secret).lstrip("/"), str(secret), ways[number % len(ways)])
        tries = [(path, dict.fromkeys(NAMES, way)) for way in always]
        tries += [
            (path, fields | {name: ways[(number + turn) % len(ways)]})
            for turn, name in enumerate(fields)
        ]
        tries += [
            (route.replace(place, urllib.parse.quote(way, safe="")), {})
            for place in PLACES
            if place in route
            for way in ways[number % 2 :: 2]
        ]
        for place, sent in tries:
            where = place
            if method == "GET" and sent:
                where = f"{place.partition('?')[0]}?{urllib.parse.urlencode(sent)}"
            answer = client.request(
                method, where, fields=sent if method == "POST" else None, headers={"Accept": "*/*"}
            )
            assert answer.status < 500, (method, where, sent)
            assert CANARY.encode() not in answer.data, (method, where, sent)
            asked += 1
    assert asked > len(WITH_IDS)
    assert secret.read_text() == CANARY
    there, left = (
        {row.partition(",")[0] for (row,) in each["images"]} for each in (before, town.snapshot())
    )
    assert there <= left, "nothing was deleted"
    secret.unlink()


@pytest.mark.parametrize("how", ["cookie", "token", "admin"])
def test_incident_14_nothing_of_anothers_shows_on_a_second_channel(town, how):
    """Immich's: what its page kept to its owner was in the stream for synchronising.

    One word is in the name of a photo, a preset and a prompt of the owner. Nobody else reads it on
    any page, list, search, count, live update or archive, with a cookie or with a script's token.
    """
    owner, conn = town.users["owner"], town.conn
    photo = factories.make_image(conn, user=owner, name=f"{CANARY}.jpg")
    made = factories.make_job(conn, user=owner, status="completed", image=photo)
    conn.execute(
        "UPDATE processing_jobs SET parameters = parameters || %s::jsonb, verdict = 'rejected', verdict_at = now(),"
        " verdict_reason = 'other', verdict_note = %s WHERE id = %s",
        [f'{{"prompt": "{CANARY}"}}', CANARY, made.id],
    )
    presets.create(conn, user_id=owner.id, workflow_name="basic-v1", name=CANARY, parameters={})
    things = town.things | {"image": photo.id, "batch": made.batch_id, "made": made.batch_id}
    things |= dict.fromkeys(("done", "failed", "waiting", "lost"), made.id)
    word = urllib.parse.quote_plus(CANARY)
    more = [
        *(f"/jobs?q={word}&view={view}&verdict=rejected" for view in ("pictures", "batches")),
        *(f"/{path}?everything=1&q={word}" for path in ("jobs.zip", "jobs/again")),
        *(f"/jobs/{made.id}?{view}" for view in ("review=1", "compare=1", "versions=1")),
        f"/batches/{made.batch_id}/live?since=0-going.0-0",
        f"/batches/{made.batch_id}.zip?verdict=rejected",
        f"/batches/new?parent={made.batch_id}&scope=rejected",
        f"/upload?image={photo.id}",
        f"/images?image={photo.id}",
        "/jobs?view=batches",
    ]
    paths = [path_of(method, route, things) for method, route in ROUTES if method == "GET"] + more
    counts = re.compile(r"Newest first · \d+ of ([\d,]+)")
    if how == "token":
        client = town.client()
        bearer = passwords.hash_token("i2i_of_somebody_else")
        tokens.create(
            conn, user_id=town.users["other"].id, name="script", token_hash=bearer, days=None
        )
        client.headers["Authorization"] = "Bearer i2i_of_somebody_else"
    else:
        client = town.client("other" if how == "cookie" else "admin")
    for path in paths:
        for accept in ("text/html", "application/json"):
            answer = client.request("GET", path, headers={"Accept": accept})
            said = urllib.parse.unquote_plus(answer.data.decode("utf-8", "replace"))
            if CANARY not in urllib.parse.unquote_plus(path):  # a search says what was looked for
                assert CANARY not in said, path
            assert answer.status < 500, path
            assert f"/images/{photo.id}?" not in said, path
            assert f"/jobs/{made.id}" not in urllib.parse.unquote(said) or str(made.id) in path
            for found in counts.findall(said):
                assert found == "0", path
    mine = town.client("owner").request("GET", f"/jobs?q={word}", headers={"Accept": "text/html"})
    assert f"{CANARY}.jpg" in mine.data.decode(), "the owner does find it"
