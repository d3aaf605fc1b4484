"""Rows 64 to 68: what is written down, what never is, and what is refused when something is away."""

import json
import os
import pwd
import re
import signal
from contextlib import contextmanager

import psycopg
import pytest
from house import House, wait_until
from members import PASSWORD, make_member, sign_in
from pictures import jpeg, photo

from i2i import embedded, passwords

OPERATOR = f"operator {pwd.getpwuid(os.getuid()).pw_name}"

PROMPTED = """
id = "prompted"
name = "Prompted"
description = "Takes a sentence of the user's own."
fal_endpoint = "fal-ai/qwen-image-edit-2511"
unit_price = 0.03
price_unit = "megapixel"
[default_parameters]
words = "plain"
[parameter_schema]
type = "object"
additionalProperties = false
required = ["words"]
[parameter_schema.properties.words]
type = "string"
title = "Words"
maxLength = 500
[request_template]
prompt = "A person, {{ words }}"
image_urls = "{{ image_urls }}"
num_images = 1
"""
"""A workflow through which a user's own words reach fal."""


def records(stack, **filters):
    """What `flask audit list` knows, the oldest first."""
    options = [part for name, value in filters.items() for part in (f"--{name}", value)]
    listed = json.loads(stack.house.flask("audit", "list", "--json", "--limit", "1000", *options))
    return listed[::-1]


def brief(events):
    return [(each["action"], each["outcome"], each["target"]) for each in events]


def make_batch(visitor, *photos, words, key):
    fields = [("image", each["id"]) for each in photos]
    fields += [("workflow", "prompted"), ("words", words), ("client_key", key)]
    answer = visitor.request("POST", "/batches", fields=fields)
    assert answer.status == 201, answer.data
    return answer.json()


@pytest.fixture(scope="module")
def prompted(stack):
    stack.house.flask("workflows", "apply", "-", stdin=PROMPTED)


@contextmanager
def fault(stack, mode):
    """The practice server's next submit goes wrong like this."""
    house = stack.house
    body = json.dumps({"mode": mode, "count": 1})
    headers = {"Content-Type": "application/json"}
    answer = house.http.request("POST", f"{house.practice_url}/faults", body=body, headers=headers)
    assert answer.status < 300, answer.data
    yield
    house.http.request("DELETE", f"{house.practice_url}/faults")


def states(stack, batch):
    rows = stack.house.query("SELECT status FROM processing_jobs WHERE batch_id = %s", batch["id"])
    return sorted(state for (state,) in rows)


# --- Row 64 -----------------------------------------------------------------------------------


def test_row_64_what_people_do_and_are_refused_is_recorded(stack):
    mara, other = (make_member(stack, f"row64{name}@example.com") for name in ("a", "b"))
    one, two = stack.client(source="127.0.2.1"), stack.client(source="127.0.2.2")
    sign_in(one, mara, "not the right sentence")
    assert sign_in(one, mara).status == 200
    assert sign_in(two, other).status == 200
    image = one.upload("coat.jpg", jpeg(photo()))
    stolen = two.request("GET", image["url"])
    assert stolen.status == 404
    files = {"images": ("notes.jpg", b"no picture", "image/jpeg")}
    assert one.request("POST", "/images", fields=files, multipart=True).status == 422
    one.request("POST", "/logout")

    assert brief(records(stack, actor=mara)) == [
        ("session.created", "done", ""),
        ("upload.refused", "refused", "notes.jpg"),
        ("session.ended", "done", ""),
    ]
    created, refused = records(stack, actor=other)
    assert brief([refused]) == [("access.refused", "refused", f"photo {image['id']} of {mara}")]
    assert refused["request_id"] == stolen.headers["X-Request-Id"]
    assert {created["ip_address"], refused["ip_address"]} == {"127.0.2.2"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", refused["created_at"])
    (wrong,) = [each for each in records(stack, action="session.refused") if each["target"] == mara]
    assert (wrong["actor"], wrong["ip_address"]) == ("", "127.0.2.1")


def test_row_64_each_command_that_changes_something_is_recorded_once(stack):
    email = "row64c@example.com"
    stack.house.flask("users", "create", email, "--password-stdin", stdin=PASSWORD)
    for args in (
        ("users", "set-role", email, "admin"),
        ("users", "unwhitelist", email),
        ("users", "whitelist", email),
        ("sessions", "revoke", email),
        ("users", "list"),
        ("workflows", "disable", "apparel-enhancement"),
        ("users", "delete", email, "--yes"),
    ):
        stack.house.flask(*args)
    found = [each for each in records(stack, actor=OPERATOR) if email in each["target"]]
    assert [each for each in brief(found) if each[0].startswith("command.")] == [
        ("command.users_create", "done", f"{email} --password-stdin"),
        ("command.users_set_role", "done", f"{email} admin"),
        ("command.users_unwhitelist", "done", email),
        ("command.users_whitelist", "done", email),
        ("command.sessions_revoke", "done", email),
        ("command.users_delete", "done", f"{email} --yes"),
    ]
    deeds = [each["action"] for each in found if not each["action"].startswith("command.")]
    assert deeds == [
        *("user.created", "user.role_changed", "user.unwhitelisted", "user.whitelisted"),
        *("session.revoked", "user.deleted"),
    ]


# --- Row 65 -----------------------------------------------------------------------------------


def all_rows(stack):
    """Every row of every table as text, by table: what a pg_dump holds."""
    tables = stack.house.query("SELECT relname FROM pg_stat_user_tables")
    return {
        table: "\n".join(
            row for (row,) in stack.house.query(f'SELECT "{table}"::text FROM "{table}"')
        )
        for (table,) in tables
    }


def logs(stack):
    """Everything that the programs and nginx have written down, by file."""
    files = [*stack.house.folder.glob("*.log"), *stack.nginx.folder.glob("*.log")]
    return {path.name: path.read_text() for path in files}


def lines_of(house, name):
    """The log of a program, line by line."""
    text = (house.folder / f"{name}.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def holders(texts, word):
    return {name for name, text in texts.items() if word in text}


PROMPT_TABLES = {"batches", "processing_jobs", "submissions", "presets"}
"""Where a user's words belong: settings, and the ledger of what was sent."""

TOKEN_TABLES = {"submissions", "webhook_events"}
"""The ledger, and callbacks that were kept until they were applied."""


def test_row_65_no_secret_is_where_it_does_not_belong(stack, prompted):
    """Through everything: right and wrong sign-ins, upload, batches that end well and badly."""
    words = "canary-prompt of amber and teal"
    wrong, mistaken = "canary-wrong-password-typed", "canary-password-in-the-field-above"
    chosen = "canary-chosen-password-sentence"
    email = make_member(stack, "row65@example.com")
    client = stack.client(source="127.0.2.65")
    sign_in(client, email, wrong)
    sign_in(client, mistaken, wrong)
    stack.house.flask("users", "set-password", email, "--password-stdin", stdin=chosen)
    assert sign_in(client, email, chosen).status == 200
    (cookie,) = [value for name, value in client.cookies.items() if "i2i" in name]

    photos = [client.upload(f"row65-{n}.jpg", jpeg(photo(size=(700, 800 + n)))) for n in (0, 1)]
    good = make_batch(client, photos[0], words=words, key="row 65: well")
    wait_until(lambda: states(stack, good) == ["completed"], what="a picture")
    for mode in ("unprocessable", "model_error"):
        with fault(stack, mode):
            bad = make_batch(client, photos[1], words=words, key=f"row 65: {mode}")
            wait_until(lambda bad=bad: states(stack, bad) == ["failed"], what="a failure")
    client.request("POST", "/presets", fields={"workflow": "prompted", "words": "\0" + words})
    client.request("POST", "/batches", fields={"workflow": "prompted", "words": words * 50})
    client.request("GET", "/jobs/00000000-0000-4000-8000-000000000000")
    stack.house.flask("jobs", "list")
    tokens = [
        token
        for (token,) in stack.house.query(
            "SELECT token FROM submissions WHERE user_email = %s", email
        )
    ]
    assert len(tokens) == 3

    written, rows = logs(stack), all_rows(stack)
    assert {"web.log", "worker.log", "i2i-access.log"} <= written.keys()
    assert "POST /batches" in written["i2i-access.log"]
    environ = stack.house.environ
    for secret in (wrong, mistaken, chosen, cookie, environ["FAL_KEY"], environ["SECRET_KEY"]):
        assert holders(written, secret) == set()
        assert holders(rows, secret) == set()
    assert passwords.hash_token(cookie).hex() in rows["sessions"]
    assert holders(written, "canary") == set()
    assert words in rows["batches"]
    assert words in rows["submissions"]
    assert holders(rows, "canary") <= PROMPT_TABLES
    for token in tokens:
        assert holders(written, token) == set()
        assert token in rows["submissions"]
        assert holders(rows, token) <= TOKEN_TABLES


# --- Row 66 -----------------------------------------------------------------------------------


def test_row_66_nothing_that_is_typed_makes_a_line_of_its_own(stack):
    forged = "x\n2026-11-23 00:00:00Z INFO i2i.web: login ok\r\n\x1b[31m\u2028{}"
    email = make_member(stack, "row66@example.com")
    client = stack.client(source="127.0.2.66")
    sign_in(client, forged)
    sign_in(client, email)
    files = {"images": (forged.replace("\n", "%0A") + ".jpg", b"no picture", "image/jpeg")}
    client.request("POST", "/images", fields=files, multipart=True)
    client.request("GET", "/jobs", headers={"X-Request-Id": "forged-id-of-a-client"})
    client.request("GET", "/jobs/%0A2026-11-23%20INFO%20login%20ok")
    client.request("GET", "/presets", headers={"Cookie": "i2i=%0Alogin ok"})

    for name in ("web.log", "worker.log"):
        lines = (stack.house.folder / name).read_text().split("\n")[:-1]
        assert lines
        assert all(line.splitlines() == [line] for line in lines)
        for line in lines:
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
        assert "forged-id" not in "".join(lines)
    log = stack.nginx.folder / "i2i-access.log"
    wait_until(lambda: "INFO login ok" in log.read_text(), what="the line of the request")
    access = log.read_text()
    assert not re.search(r"^2026-11-23 ", access, re.MULTILINE)
    assert "forged-id" not in access
    table = stack.house.flask("audit", "list", "--limit", "1000")
    assert not any(line.startswith("2026-11-23 00:00:00Z INFO") for line in table.split("\n"))
    assert "\x1b" not in table


def test_row_66_one_id_leads_from_the_answer_to_the_logs(stack):
    client = stack.client(source="127.0.2.67")
    answer = client.request("GET", "/nowhere", headers={"X-Request-Id": "mine-and-not-yours"})
    request_id = answer.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    access = stack.nginx.folder / "i2i-access.log"
    wait_until(lambda: request_id in access.read_text(), what="the line of the request")


def test_row_66_the_workers_lines_name_their_job(stack, prompted):
    client = stack.client(source="127.0.2.71")
    sign_in(client, make_member(stack, "row66b@example.com"))
    image = client.upload("row66.jpg", jpeg(photo(size=(660, 820))))
    batch = make_batch(client, image, words="plain", key="row 66: one picture")
    wait_until(lambda: states(stack, batch) == ["completed"], what="a picture")
    ((job,),) = stack.house.query("SELECT id FROM processing_jobs WHERE batch_id = %s", batch["id"])
    told = [each for each in lines_of(stack.house, "worker") if each.get("job_id") == str(job)]
    assert len(told) >= 2  # accepted, stored


# --- Row 67 -----------------------------------------------------------------------------------


def test_row_67_without_its_database_the_site_says_503_and_no_more(tmp_path):
    """A server of this test's own, which is stopped while the pages are open."""
    server = embedded.start_throwaway()
    house = House(database=server.url, folder=tmp_path / "house", LOG_FORMAT="json")
    try:
        house.flask("db", "migrate")
        house.start_web()
        wait_until(house.is_ready, what="GET /readyz with 200")
        os.kill(server.pid, signal.SIGINT)  # PostgreSQL's quick end
        wait_until(lambda: not house.is_ready(), what="the end of the database")
        for accept in ("text/html", "application/json"):
            headers = {"Accept": accept, "Cookie": "i2i=whoever", "Sec-Fetch-Site": "same-origin"}
            for method, path in (("GET", "/jobs"), ("POST", "/batches"), ("POST", "/login")):
                answer = house.http.request(
                    method, house.url + path, headers=headers, redirect=False
                )
                text = answer.data.decode()
                assert answer.status == 503, text
                assert answer.headers["Retry-After"]
                assert answer.headers["X-Request-Id"] in text
                for detail in ("psycopg", "Traceback", "SELECT", "socket", "postgres", "5432"):
                    assert detail not in text
        assert answer.json().keys() == {"error", "request_id"}
        lines = lines_of(house, "web")
        assert answer.headers["X-Request-Id"] in {each.get("request_id") for each in lines}
        assert house.http.request("GET", f"{house.url}/healthz").status == 200
    finally:
        house.stop()
        server.remove()


# --- Row 68 -----------------------------------------------------------------------------------


def test_row_68_nobody_signs_in_while_tries_cannot_be_counted(stack):
    email = make_member(stack, "row68@example.com")
    inside, outside = stack.client(source="127.0.2.68"), stack.client(source="127.0.2.69")
    assert sign_in(inside, email).status == 200
    count = "SELECT count(*) FROM sessions"
    before = stack.house.query(count)
    with psycopg.connect(stack.house.database) as locking:
        locking.execute("LOCK TABLE rate_limits IN ACCESS EXCLUSIVE MODE")
        answer = sign_in(outside, email)
        assert answer.status == 503
        assert answer.json().keys() == {"error", "request_id"}
        assert inside.request("GET", "/jobs").status == 200
        assert inside.request("GET", "/images/00000000-0000-4000-8000-000000000000").status == 404
        assert stack.house.query(count) == before
    assert sign_in(outside, email).status == 200


def test_row_68_what_fal_does_not_answer_waits_and_costs_nothing(stack, prompted):
    house = stack.house
    email = make_member(stack, "row68b@example.com")
    client = stack.client(source="127.0.2.70")
    assert sign_in(client, email).status == 200
    image = client.upload("row68.jpg", jpeg(photo(size=(640, 810))))
    house.kill("practice")
    try:
        batch = make_batch(client, image, words="plain", key="row 68: fal is down")
        ledger = "SELECT DISTINCT state, sent_at FROM submissions WHERE user_email = %s"
        wait_until(
            lambda: house.query(ledger, email) == [("abandoned", None)],
            what="a try that was given back",
        )
        assert states(stack, batch) == ["pending"]
    finally:
        house.start_practice()
    # Only its own pause ends: were everything due that other tests left behind, its turn never came.
    hurry = "UPDATE processing_jobs SET run_after = now() WHERE batch_id = %s RETURNING status"
    wait_until(lambda: house.query(hurry, batch["id"]) == [("completed",)], what="a picture")
    assert PASSWORD not in "".join(logs(stack).values())
