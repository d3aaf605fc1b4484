"""Rows 14 to 22: what a session is worth, and when it ends."""

import re
from itertools import count

import factories
import pictures
import psycopg
import pytest
from house import wait_until
from members import OTHER, change, is_in, make_member, sign_in

from i2i.services import sessions as service

numbers = count(1)


@pytest.fixture
def email(stack):
    """Somebody of the test's own: what ends there ends nobody else's session."""
    return make_member(stack, f"sessions{next(numbers)}@example.com")


@pytest.fixture
def member(stack, email):
    client = stack.client()
    assert sign_in(client, email).status == 200
    return client


def token_of(client):
    return client.cookies["__Host-i2i"]


def with_token(stack, token):
    client = stack.client()
    client.cookies["__Host-i2i"] = token
    return client


def test_row_14_tokens_are_random_and_only_their_hashes_are_kept(database, settings):
    with psycopg.connect(database, autocommit=True) as conn:
        owner = factories.make_user(conn)
        made = {
            service.sign_in(
                conn,
                settings,
                email=owner.email,
                password=factories.PASSWORD,
                ip_address="192.0.2.1",
                user_agent="",
            )
            for _ in range(1000)
        }
        kept = conn.execute("SELECT sessions::text FROM sessions").fetchall()
    assert len(made) == len(kept) == 1000
    assert {len(token) for token in made} == {43}, "256 bits in base64"
    assert {len({token[place] for token in made}) > 50 for place in range(42)} == {True}
    assert not any(token in row for row in map(str, kept) for token in made)


def test_row_14_a_dump_of_the_database_holds_no_token(stack, member):
    tables = stack.house.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    rows = repr([stack.house.query(f"SELECT each::text FROM {name} AS each") for (name,) in tables])
    assert "127.0.0.1" in rows
    assert token_of(member) not in rows
    assert token_of(member).encode().hex() not in rows


def test_row_15_signing_in_brings_a_new_token(stack, email):
    planted = "planted-" + "x" * 35
    client = with_token(stack, planted)
    assert not is_in(client)
    sign_in(client, email)
    first = token_of(client)
    assert first != planted
    assert not is_in(with_token(stack, planted))
    sign_in(client, email)
    assert token_of(client) != first
    assert not is_in(with_token(stack, first)), "the former session of this browser is over"
    assert is_in(client)


def test_row_16_a_copied_cookie_dies_when_its_owner_signs_out(stack, member):
    copied = with_token(stack, token_of(member))
    assert is_in(copied)
    assert member.request("POST", "/logout").status == 303
    assert not is_in(copied)
    page = copied.request("GET", "/jobs", headers={"Accept": "text/html"})
    assert (page.status, page.headers["Location"]) == (303, "/login?next=/jobs")


def test_row_17_who_is_taken_off_the_whitelist_is_out_at_once(stack, member, email):
    assert is_in(member)
    stack.house.flask("users", "unwhitelist", email)
    assert not is_in(member)
    assert sign_in(stack.client(), email).status == 401
    stack.house.flask("users", "whitelist", email)
    assert not is_in(member), "the old session does not come back"


def test_row_18_another_password_ends_the_other_sessions(stack, member, email):
    elsewhere, copied = stack.client(), with_token(stack, token_of(member))
    sign_in(elsewhere, email)
    assert change(member, OTHER).status == 303
    assert (is_in(member), is_in(elsewhere), is_in(copied)) == (True, False, False)


@pytest.mark.parametrize(
    ("column", "age", "lives"),
    [
        ("last_seen_at", "23 hours 50 minutes", True),
        ("last_seen_at", "24 hours", False),
        ("created_at", "13 days 23 hours", True),
        ("created_at", "14 days", False),
    ],
)
def test_row_19_sessions_end_by_themselves(stack, member, email, column, age, lives):
    stack.house.query(
        f"UPDATE sessions SET {column} = now() - %s::interval FROM users"
        " WHERE users.id = user_id AND email = %s RETURNING 1",
        age,
        email,
    )
    assert is_in(member) is lives


def test_row_20_sessions_are_listed_and_ended(stack, member, email):
    elsewhere = stack.client()
    sign_in(elsewhere, email, **{"User-Agent": "Firefox/140.0 elsewhere"})
    page = member.request("GET", "/account", headers={"Accept": "text/html"}).data.decode()
    (path,) = re.findall(r"/account/sessions/[0-9a-f-]+/revoke", page)
    assert "Firefox" in page
    stranger = stack.client()
    sign_in(stranger, make_member(stack, f"sessions{next(numbers)}@example.com"))
    assert stranger.request("POST", path).status == 404
    assert member.request("POST", path).status == 303
    assert (is_in(member), is_in(elsewhere)) == (True, False)
    assert email in stack.house.flask("sessions", "list")
    stack.house.flask("sessions", "revoke", email)
    assert not is_in(member)
    assert is_in(stranger)


def test_row_21_the_cookie_is_bound_to_this_host_and_no_script_reads_it(stack, email):
    client = stack.client()
    for line in (
        sign_in(client, email).headers["Set-Cookie"],
        change(client, OTHER).headers["Set-Cookie"],
    ):
        pair, *flags = line.split("; ")
        assert pair.startswith("__Host-i2i=")
        flags = {flag.lower() for flag in flags}
        assert {"secure", "httponly", "path=/", "samesite=lax", "max-age=1209600"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)


def test_row_21_a_cookie_without_the_prefix_is_nobodys(stack, member):
    client = stack.client()
    client.cookies["i2i"] = token_of(member)
    assert not is_in(client)


def test_row_22_nothing_private_stays_in_a_cache(stack, member):
    image = member.upload("coat.jpg", pictures.jpeg(pictures.photo(size=(64, 48))))
    detail = f"/images/{image['id']}"
    wait_until(
        lambda: member.request("GET", f"{detail}?size=thumb").status == 200, what="a thumbnail"
    )
    for path in ("/", "/upload", "/jobs", "/trash", "/presets", "/account", "/nowhere", "/login"):
        for accept in ("text/html", "application/json"):
            answer = member.request("GET", path, headers={"Accept": accept})
            assert answer.headers["Cache-Control"] == "no-store", path
            assert "Cookie" in answer.headers["Vary"], path
    for path in (detail, f"{detail}?size=thumb", f"{detail}?size=preview"):
        answer = member.request("GET", path, headers={"Accept": "image/*"})
        assert answer.status == 200
        assert answer.headers["Cache-Control"].split(", ")[0] == "private", path
        assert "Cookie" in answer.headers["Vary"]
        again = member.request(
            "GET", path, headers={"Accept": "image/*", "If-None-Match": answer.headers["ETag"]}
        )
        assert again.status == 304
        stranger = stack.client().request(
            "GET", path, headers={"Accept": "image/*", "If-None-Match": answer.headers["ETag"]}
        )
        assert stranger.status in {303, 401}, "an ETag is no key"


def test_row_22_signing_out_clears_what_the_browser_kept(member):
    answer = member.request("POST", "/logout")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert member.cookies["__Host-i2i"] == ""
