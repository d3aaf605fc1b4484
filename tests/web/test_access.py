"""Every route, tried by everybody. A route without a line in tests/routes.py fails the first test."""

import factories
import pages
import pytest
from routes import EXPECTED, ROUTES, WHO, WITH_IDS, belongings, fields_of, path_of


@pytest.fixture
def things(app, conn, owner):
    return belongings(conn, app.extensions["i2i"].storage, owner)


def request(browser, method, route, things, *, accept="text/html"):
    more = {"data": fields_of(method, route, things)} if method == "POST" else {}
    if route == "/images":
        more["content_type"] = "multipart/form-data"
    return browser.open(
        path_of(method, route, things), method=method, headers={"Accept": accept}, **more
    )


@pytest.fixture
def browser_of(request):
    names = {who: "anonymous" if who == "anonymous" else f"as_{who}" for who in WHO}
    return lambda who: request.getfixturevalue(names[who])


def test_every_route_has_a_line(app):
    routes = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert routes == set(ROUTES)


@pytest.mark.parametrize(("method", "route"), ROUTES, ids=[" ".join(each) for each in ROUTES])
def test_who_may_what(browser_of, things, conn, method, route):
    """All try the same; what one of them changed is undone before the next one comes."""
    browsers = {who: browser_of(who) for who in WHO}
    for who, browser in browsers.items():
        with conn.transaction(force_rollback=True):
            check_access(browser, things, who, method, route)


def check_access(browser, things, who, method, route):
    answer = request(browser, method, route, things)
    expected = EXPECTED[method, route, who]
    if expected == "login":
        assert answer.status_code == 303
        path, _, query = answer.headers["Location"].partition("?")
        assert path == "/login"
        assert query.startswith("next=/") is (method == "GET")
        answer = request(browser, method, route, things, accept="application/json")
        assert (answer.status_code, answer.json) == (401, {"error": "Sign in first."})
    else:
        assert answer.status_code == int(expected), who
    if (
        answer.mimetype == "text/html"
        and not route.endswith(("live", "estimate"))
        and answer.status_code != 303
    ):
        pages.check(answer)


def snapshot(conn):
    """Everything that is the owner's, as one value."""
    tables = ["images", "batches", "processing_jobs", "submissions"]
    rows = [conn.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in tables]
    account = conn.execute(
        "SELECT users.*, sessions.id FROM users LEFT JOIN sessions ON users.id = user_id"
        " WHERE email LIKE 'owner@%' ORDER BY sessions.id"
    )
    rows += conn.execute(
        "SELECT presets.* FROM presets JOIN users ON users.id = user_id"
        " WHERE email LIKE 'owner@%' ORDER BY presets.id"
    ).fetchall()
    return repr([*rows, account.fetchall()])


@pytest.mark.parametrize("who", ["anonymous", "stranger", "other", "admin"])
def test_nobody_changes_what_is_the_owners(browser_of, things, conn, who):
    browser = browser_of(who)
    before = snapshot(conn)
    for method, route in ROUTES:
        if route not in {"/login", "/logout"}:
            request(browser, method, route, things)
            request(browser, method, route, things, accept="application/json")
    assert snapshot(conn) == before


@pytest.mark.parametrize("who", ["other", "admin"])
def test_what_is_not_yours_and_what_is_nowhere_look_alike(browser_of, things, conn, who):
    nowhere = dict.fromkeys(things, "00000000-0000-4000-8000-000000000000")
    for method, route in WITH_IDS:
        if who == "admin" and route.startswith("/admin/"):
            continue  # theirs
        for accept in ("text/html", "application/json"):
            foreign = request(browser_of(who), method, route, things, accept=accept)
            missing = request(browser_of(who), method, route, nowhere, accept=accept)
            assert (foreign.status_code, foreign.data) == (404, missing.data)


@pytest.mark.parametrize("who", ["other", "admin"])
def test_lists_show_nothing_of_others(browser_of, things, who):
    for path in ("/upload", "/jobs", f"/batches/new?image={things['image']}", "/account"):
        answer = browser_of(who).get(path, follow_redirects=True)
        assert not any(str(each) in answer.text for each in things.values())


@pytest.mark.parametrize("field", ["image", "reference"])
def test_photos_of_others_cannot_be_worked_on(as_other, conn, other, things, field):
    mine = factories.make_image(conn, user=other)
    data = {
        "workflow": "basic-v1",
        "image": [str(mine.id)],
        "client_key": "0123456789abcdef",
        "setting": "outdoor",
    }
    data[field] = [*data.get(field, []), str(things["image"])]
    answer = as_other.json("/batches", method="POST", data=data)
    assert answer.status_code == 422
    assert answer.json["fields"].keys() == {field}


def test_a_used_up_session_is_nobody_on_every_route(as_owner, conn, things):
    conn.execute("UPDATE users SET is_whitelisted = false")
    for method, route in ROUTES:
        if EXPECTED[method, route, "anonymous"] == "login":
            assert request(as_owner, method, route, things).headers["Location"][:6] == "/login"


def test_looking_changes_nothing(as_owner, things, conn):
    before = snapshot(conn)
    for method, route in ROUTES:
        if method == "GET":
            request(as_owner, method, route, things)
            request(as_owner, "HEAD", route, things)
            request(as_owner, "OPTIONS", route, things)
    assert snapshot(conn) == before


@pytest.mark.parametrize(
    "path",
    [
        *("/.git/HEAD", "/.env", "/console", "/docs", "/admin/users", "/var/demo", "/wsgi.py"),
        *("/static/../app.py", "/static/%2e%2e/app.py", "/images/1", "/jobs/x", "/batches/"),
        *("/images/00000000-0000-4000-8000-000000000000/../x", "/uploads", "/LOGIN"),
    ],
)
def test_nothing_else_is_served(as_owner, anonymous, path):
    assert as_owner.get(path).status_code == 404
    assert anonymous.get(path).status_code in {303, 404}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_say_which_they_know(as_owner, method):
    answer = as_owner.open("/upload", method=method)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
