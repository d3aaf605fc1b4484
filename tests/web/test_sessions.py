"""Signing in and out, the cookie, who is let in for how long, and the account page."""

import re
from urllib.parse import urlsplit

import factories
import pages
import pytest

from i2i import passwords
from i2i.services import users
from i2i.web import sessions

START = "/upload"
NEW = "a much better battery staple"


def sign_in(browser, email="owner@example.com", password=factories.PASSWORD, **more):
    return browser.post("/login", data={"email": email, "password": password, **more})


def is_in(browser):
    return browser.get("/account").status_code == 200


# --- Signing in -------------------------------------------------------------------------------


def test_signing_in_opens_the_pages(anonymous, owner):
    answer = sign_in(anonymous)
    assert (answer.status_code, answer.headers["Location"]) == (303, START)
    assert anonymous.get("/").status_code == 200


def test_scripts_sign_in_too(anonymous, owner):
    data = {"email": "owner@example.com", "password": factories.PASSWORD}
    answer = anonymous.json("/login", method="POST", data=data)
    assert (answer.status_code, answer.json) == (200, {"url": START})
    assert is_in(anonymous)


@pytest.mark.parametrize("email", ["OWNER@Example.com", "  owner@example.com "])
def test_an_address_may_be_typed_in_any_way(anonymous, owner, email):
    assert sign_in(anonymous, email).status_code == 303


WRONG = [
    ("owner@example.com", "wrong horse battery staple"),
    ("owner@example.com", factories.PASSWORD.upper()),
    ("owner@example.com", factories.PASSWORD + " "),
    ("owner@example.com", ""),
    ("owner@example.com", "x" * 5000),
    ("nobody@example.com", factories.PASSWORD),
    ("stranger@example.com", factories.PASSWORD),
    ("", ""),
    ("owner@example.com\0", factories.PASSWORD),
    ("\ud800", factories.PASSWORD),
    ("' OR true --", factories.PASSWORD),
    ("x" * 10_000, factories.PASSWORD),
]


def test_the_wrong_the_unknown_and_the_unlisted_get_one_page(open_browser, owner, stranger):
    """Nobody learns who has an account: only the address typed differs."""
    seen = set()
    for number, (email, password) in enumerate(WRONG):
        answer = open_browser().post(
            "/login",
            data={"email": email.encode("utf-8", "surrogatepass"), "password": password},
            environ_overrides={"REMOTE_ADDR": f"192.0.2.{number}"},
        )
        page = pages.check(answer)
        typed = page.one("input", name="email")["value"]
        body = page.source.replace(f'value="{typed}"', "", 1) if typed else page.source
        body = re.sub(r'(name="email" type="email") (value="[^"]*")?', r"\1 ", body)
        own = {"Content-Length", "X-Request-Id"}
        headers = {k: v for k, v in answer.headers.items() if k not in own}
        seen.add((answer.status_code, body, tuple(sorted(headers.items()))))
        assert factories.PASSWORD not in page.source
    assert len(seen) == 1
    ((status, body, headers),) = seen
    assert status == 401
    assert "E-mail and password do not match an account that may sign in." in body
    assert "Set-Cookie" not in dict(headers)


def test_the_page_keeps_the_address_and_the_place_to_go(anonymous, owner):
    answer = sign_in(anonymous, password="wrong", next="/jobs?q=a")
    page = pages.check(answer)
    assert page.one("input", name="email")["value"] == "owner@example.com"
    assert page.one("input", name="next")["value"] == "/jobs?q=a"
    assert page.one("input", name="password")["value"] == ""
    assert page.one(role="alert").text.startswith("E-mail and password do not match")


def test_the_form_helps_password_managers(anonymous):
    page = pages.check(anonymous.get("/login"))
    password = page.one("input", name="password")
    assert (password["type"], password["autocomplete"]) == ("password", "current-password")
    assert page.one("input", name="email")["autocomplete"] == "username"


def test_those_who_are_in_are_sent_on(as_owner):
    assert as_owner.get("/login?next=/jobs").headers["Location"] == "/jobs"


# --- Where to go afterwards -------------------------------------------------------------------

OWN = [
    "/",
    "/jobs",
    "/jobs?q=a%20b&status=failed",
    "/batches/new?image=1&image=2",
    "/a//b",
    "/%2f/x",
]
FOREIGN = [
    "",
    "jobs",
    "//evil.example",
    "///evil.example",
    "//[evil",
    "/\\evil.example",
    "\\\\evil.example",
    "/jobs\\..\\evil",
    "https://evil.example",
    "https:evil.example",
    "http:///evil.example",
    "javascript:alert(1)",
    " //evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\r\n//evil.example",
    "/jobs\r\nSet-Cookie: a=b",
    "/\0",
    "http://localhost@evil.example/",
    "%2f%2fevil.example",
    "data:text/html,x",
]


@pytest.mark.parametrize("wanted", OWN)
def test_the_way_leads_back_to_a_path_of_ours(anonymous, owner, wanted):
    assert sign_in(anonymous, next=wanted).headers["Location"] == wanted


@pytest.mark.parametrize("wanted", FOREIGN)
def test_the_way_never_leads_elsewhere(anonymous, owner, wanted):
    answer = sign_in(anonymous, next=wanted)
    assert (answer.status_code, answer.headers["Location"]) == (303, START)
    assert len(answer.headers.getlist("Set-Cookie")) == 1
    again = anonymous.get("/login", query_string={"next": wanted})
    assert (again.status_code, again.headers["Location"]) == (303, START)


def test_a_page_asked_for_in_vain_comes_after_signing_in(anonymous, owner):
    asked = anonymous.get("/jobs?q=a%26b&status=failed")
    assert asked.status_code == 303
    page = pages.check(anonymous.get(asked.headers["Location"]))
    wanted = page.one("input", name="next")["value"]
    assert sign_in(anonymous, next=wanted).headers["Location"] == "/jobs?q=a%26b&status=failed"


# --- The cookie -------------------------------------------------------------------------------


def cookie_of(answer):
    (header,) = answer.headers.getlist("Set-Cookie")
    name, _, rest = header.partition("=")
    value, *flags = rest.split("; ")
    return name, value, set(flags)


def test_the_cookie_of_plain_http(anonymous, owner):
    name, value, flags = cookie_of(sign_in(anonymous))
    assert name == "i2i"
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"} <= flags
    assert not any(flag == "Secure" or flag.startswith("Domain") for flag in flags)
    assert len(value) >= 43


def test_the_cookie_of_https(anonymous, owner):
    data = {"email": "owner@example.com", "password": factories.PASSWORD}
    name, _, flags = cookie_of(anonymous.post("/login", data=data, base_url="https://localhost"))
    assert name == "__Host-i2i"
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} <= flags
    assert not any(flag.startswith("Domain") for flag in flags)
    assert anonymous.get("/account", base_url="https://localhost").status_code == 200


def test_a_cookie_of_plain_http_does_not_count_on_https(as_owner):
    assert as_owner.get("/account").status_code == 200
    assert as_owner.get("/account", base_url="https://localhost").status_code == 303


def test_every_sign_in_has_a_token_of_its_own(open_browser, conn, owner):
    browser = open_browser()
    browser.set_cookie("i2i", "planted before")
    first = cookie_of(sign_in(browser))[1]
    second = cookie_of(sign_in(open_browser()))[1]
    assert len({"planted before", first, second}) == 3
    kept = [bytes(row[0]) for row in conn.execute("SELECT token_hash FROM sessions").fetchall()]
    assert set(kept) == {passwords.hash_token(first), passwords.hash_token(second)}
    assert not any(first.encode() in each for each in kept)


@pytest.mark.parametrize("token", ["", "x", "planted", "a" * 4000, "'; --", "\u00e9"])
def test_a_made_up_token_is_nobody(anonymous, owner, token):
    anonymous.set_cookie("i2i", token)
    assert anonymous.get("/account").status_code == 303


# --- How long it lasts ------------------------------------------------------------------------


def test_signing_out_ends_the_session_not_only_the_cookie(open_browser, owner):
    browser = open_browser()
    token = cookie_of(sign_in(browser))[1]
    answer = browser.post("/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert cookie_of(answer)[1] == ""
    thief = open_browser()
    thief.set_cookie("i2i", token)
    assert not is_in(thief)


def test_signing_out_twice_is_fine(as_owner):
    assert as_owner.post("/logout").status_code == 303
    assert as_owner.post("/logout").status_code == 303


@pytest.mark.parametrize(
    ("column", "age", "lives"),
    [
        ("last_seen_at", "23 hours", True),
        ("last_seen_at", "25 hours", False),
        ("created_at", "13 days", True),
        ("created_at", "15 days", False),
    ],
)
def test_sessions_end_by_themselves(as_owner, conn, column, age, lives):
    conn.execute(f"UPDATE sessions SET {column} = now() - %s::interval", [age])
    assert is_in(as_owner) is lives


def test_being_used_keeps_a_session_awake(as_owner, conn):
    conn.execute("UPDATE sessions SET last_seen_at = now() - interval '23 hours'")
    assert is_in(as_owner)
    assert conn.execute("SELECT last_seen_at = now() FROM sessions").fetchone() == (True,)


def test_leaving_the_whitelist_ends_it_at_once(as_owner, conn):
    assert is_in(as_owner)
    users.set_whitelisted(conn, email="owner@example.com", is_whitelisted=False)
    assert not is_in(as_owner)
    assert as_owner.json("/jobs").status_code == 401


# --- The time zone ----------------------------------------------------------------------------


def zone_of(conn):
    return conn.execute(
        "SELECT time_zone FROM users WHERE lower(email) = %s", ["owner@example.com"]
    ).fetchone()[0]


def test_the_browsers_zone_counts_until_one_is_chosen(anonymous, owner, conn):
    sign_in(anonymous, time_zone="Atlantis/Nowhere")
    assert zone_of(conn) is None
    sign_in(anonymous, time_zone="Europe/Berlin")
    assert zone_of(conn) == "Europe/Berlin"
    sign_in(anonymous, time_zone="Asia/Tokyo")
    assert zone_of(conn) == "Europe/Berlin"
    answer = anonymous.post("/account/time-zone", data={"time_zone": "Asia/Tokyo"})
    assert answer.status_code == 303
    assert zone_of(conn) == "Asia/Tokyo"
    page = pages.check(anonymous.get(answer.headers["Location"]))
    assert "Time zone changed." in page.text
    assert page.form("/account/time-zone") == [("time_zone", "Asia/Tokyo")]


def test_a_zone_that_does_not_exist_is_refused(as_owner, conn):
    answer = as_owner.post("/account/time-zone", data={"time_zone": "Atlantis/Nowhere"})
    assert answer.status_code == 422
    assert "Choose a place from the list." in answer.text
    assert zone_of(conn) is None


# --- Too many tries ---------------------------------------------------------------------------


def from_address(browser, address, email="owner@example.com", password="wrong"):
    return browser.post(
        "/login",
        data={"email": email, "password": password},
        environ_overrides={"REMOTE_ADDR": address},
    )


def test_an_account_is_not_guessed_from_many_addresses(anonymous, owner, other):
    answers = [from_address(anonymous, f"192.0.2.{number}") for number in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    page = pages.check(answers[-1])
    words = page.one(role="alert").text
    assert re.fullmatch(r"Too many tries\. Wait \d+ (s|min), then try again\.", words)
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 300
    right = from_address(anonymous, "192.0.2.99", password=factories.PASSWORD)
    assert right.status_code == 429, "the right password must not tell itself apart"
    assert from_address(
        anonymous, "192.0.2.99", email="other@example.com", password=factories.PASSWORD
    ).status_code == 303  # fmt: skip


def test_one_address_does_not_try_many_accounts(anonymous):
    answers = [
        from_address(anonymous, "192.0.2.1", email=f"user{number}@example.com")
        for number in range(11)
    ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]


def test_a_made_up_forwarded_address_does_not_help(anonymous):
    for number in range(10):
        anonymous.post(
            "/login",
            data={"email": f"user{number}@example.com", "password": "wrong"},
            headers={"X-Forwarded-For": f"203.0.113.{number}"},
        )
    answer = anonymous.post("/login", data={"email": "z@example.com", "password": "wrong"})
    assert answer.status_code == 429


def test_success_uses_no_try_up(anonymous, owner):
    assert {sign_in(anonymous).status_code for _ in range(25)} == {303}


def test_scripts_are_told_when_to_come_back(anonymous):
    data = {"email": "a@example.com", "password": "wrong"}
    answers = [anonymous.json("/login", method="POST", data=data) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert answers[0].json.keys() == answers[-1].json.keys() == {"error"}
    assert "Retry-After" in answers[-1].headers


# --- The account page -------------------------------------------------------------------------


def change(browser, current=factories.PASSWORD, new=NEW):
    return browser.post("/account", data={"current_password": current, "new_password": new})


def test_a_new_password_ends_all_other_sessions(open_browser, owner, other):
    here, there, elsewhere = open_browser(), open_browser(), open_browser(other)
    sign_in(here)
    sign_in(there)
    answer = change(here)
    assert (answer.status_code, urlsplit(answer.headers["Location"]).path) == (303, "/account")
    page = pages.check(here.get(answer.headers["Location"]))
    assert page.one(role="status").text == "Password changed. Other places were signed out."
    assert (is_in(here), is_in(there), is_in(elsewhere)) == (True, False, True)
    assert sign_in(open_browser()).status_code == 401
    assert sign_in(open_browser(), password=NEW).status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "field", "sentence"),
    [
        ("wrong", NEW, "current_password", "This is not your current password."),
        ("", NEW, "current_password", "This is not your current password."),
        (factories.PASSWORD, "fourteen chars", "new_password", "15 characters or more"),
        (factories.PASSWORD, "", "new_password", "15 characters or more"),
    ],
)
def test_a_change_that_does_not_hold_says_where(as_owner, conn, current, new, field, sentence):
    before = conn.execute("SELECT password_hash FROM users").fetchall()
    answer = change(as_owner, current, new)
    assert answer.status_code == 422
    page = pages.check(answer)
    assert sentence in page.one(id=f"error-{field}").text
    assert page.one("input", name=field)["aria-invalid"] == "true"
    assert page.one(role="alert").one("a", href=f"#field-{field}")
    assert not any(word in page.source for word in (factories.PASSWORD, NEW))
    assert conn.execute("SELECT password_hash FROM users").fetchall() == before


@pytest.mark.parametrize("password", ["fifteen letters", "😀" * 64, "only lower case and spaces"])
def test_what_a_password_may_be(as_owner, anonymous, password):
    assert change(as_owner, new=password).status_code == 303
    assert sign_in(anonymous, password=password).status_code == 303


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("passwordpassword", "among the first that others try"),
        ("owner@example.com", "your e-mail address"),
        ("owner-example-2026-i2i", "the name of this site"),
    ],
)
def test_a_password_that_is_easy_to_guess_says_why(as_owner, new, sentence):
    answer = change(as_owner, new=new)
    assert answer.status_code == 422
    words = pages.check(answer).one(id="error-new_password").text
    assert sentence in words
    assert words.endswith("Choose a few words that do not belong together.")


def test_too_many_wrong_passwords_are_told_on_the_account_page(as_owner):
    assert {change(as_owner, current="wrong").status_code for _ in range(10)} == {422}
    answer = change(as_owner)
    assert answer.status_code == 429
    assert "Retry-After" in answer.headers
    words = pages.check(answer).one(id="error-current_password").text
    assert re.fullmatch(r"Too many wrong passwords\. Wait \d+ (s|min), then try again\.", words)


def test_a_new_password_brings_a_new_cookie(as_owner):
    before = as_owner.get_cookie("i2i").value
    after = cookie_of(change(as_owner))[1]
    assert as_owner.get_cookie("i2i").value == after != before
    assert is_in(as_owner)
    as_owner.set_cookie("i2i", before)
    assert not is_in(as_owner)


# --- A generated password ---------------------------------------------------------------------


@pytest.fixture
def given(conn, settings, owner):
    password = passwords.make_password()
    users.set_password(conn, settings, user_id=owner.id, password=password, is_generated=True)
    return password


def test_a_generated_password_leads_to_choosing_ones_own(anonymous, given):
    answer = sign_in(anonymous, password=given, next="/jobs?q=a")
    assert answer.headers["Location"] == "/jobs?q=a"
    answer = anonymous.get("/jobs?q=a")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/account/password?next=/jobs?q%3Da",
    )
    page = pages.check(anonymous.get(answer.headers["Location"]))
    assert page.one("h1").text == "Choose your own password"
    assert page.one("input", name="new_password")["autocomplete"] == "new-password"
    assert not any("/upload" in link["href"] for link in page.all("a"))
    form = dict(page.form("/account/password"))
    assert form["next"] == "/jobs?q=a"

    answer = anonymous.post("/account/password", data=form | {"new_password": NEW})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs?q=a")
    assert anonymous.get("/jobs?q=a").status_code == 200


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("fourteen chars", "15 characters or more"),
        ("", "15 characters or more"),
        ("passwordpassword", "among the first that others try"),
        (None, "This is the one you were given."),
    ],
)
def test_choosing_what_does_not_do_says_why(anonymous, given, password, sentence):
    sign_in(anonymous, password=given)
    data = {"new_password": given if password is None else password, "next": "/jobs"}
    answer = anonymous.post("/account/password", data=data)
    assert answer.status_code == 422
    page = pages.check(answer)
    assert sentence in page.one(id="error-new_password").text
    assert page.one("input", name="next")["value"] == "/jobs"
    assert page.one("input", name="new_password")["value"] == ""
    answer = anonymous.json("/account/password", method="POST", data=data)
    assert (answer.status_code, answer.json.keys()) == (422, {"error"})


def test_scripts_choose_too(anonymous, given):
    sign_in(anonymous, password=given)
    answer = anonymous.json("/jobs")
    assert answer.status_code == 403
    assert answer.json == {"error": "Choose your own password first, at /account/password."}
    data = {"new_password": NEW}
    answer = anonymous.json("/account/password", method="POST", data=data)
    assert (answer.status_code, answer.json) == (200, {"url": START})
    assert anonymous.json("/jobs").status_code == 200


def test_nothing_else_opens_before(app, anonymous, given):
    sign_in(anonymous, password=given)
    assert {
        *("sessions.login", "sessions.sign_in", "sessions.logout"),
        *("sessions.choose_password", "sessions.save_password"),
    } == sessions.CHOOSING - sessions.FOR_PROGRAMS
    for rule in app.url_map.iter_rules():
        if rule.endpoint in sessions.CHOOSING:
            continue
        path = re.sub("<[^>]*>", "00000000-0000-4000-8000-000000000000", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            answer = anonymous.open(path, method=method)
            assert answer.status_code == 303, path
            assert answer.headers["Location"].startswith("/account/password"), path
            assert anonymous.json(path, method=method).status_code == 403, path
    assert anonymous.post("/logout").status_code == 303
    assert anonymous.get("/account/password").headers["Location"].startswith("/login")


def test_after_a_day_it_is_a_wrong_password(open_browser, conn, given):
    inside = open_browser()
    sign_in(inside, password=given)
    conn.execute("UPDATE users SET password_expires_at = now()")
    assert inside.get("/account/password").headers["Location"].startswith("/login")
    answer = sign_in(open_browser(), password=given)
    assert answer.status_code == 401
    assert "do not match an account that may sign in" in answer.text


# --- Own sessions -----------------------------------------------------------------------------


def test_own_sessions_are_listed_and_can_be_ended(open_browser, owner, other):
    here, there, foreign = open_browser(owner), open_browser(), open_browser(other)
    sign_in(there)
    page = pages.check(here.get("/account"))
    rows = [row.text for row in page.one("tbody").all("tr")]
    assert len(rows) == 2
    assert len([row for row in rows if "this one" in row]) == 1
    (form,) = page.one("tbody").all("form")
    assert foreign.post(form["action"]).status_code == 404
    assert is_in(there)
    assert here.post(form["action"]).headers["Location"] == "/account"
    assert (is_in(here), is_in(there)) == (True, False)
    assert here.post(form["action"]).status_code == 404


def test_the_page_never_shows_tokens(as_owner):
    assert "token of" not in as_owner.get("/account").text
