"""Every route, tried by everybody. A route without a line here fails the first test."""

import factories
import pages
import pytest

from i2i import passwords
from i2i.gateways.storage import image_key
from i2i.queries import presets, trash

TABLE = """
method  route                                anonymous  stranger  other  admin  owner
GET     /                                    login      login     200    200    200
GET     /upload                              login      login     200    200    200
GET     /images                              login      login     303    303    303
POST    /images                              login      login     400    400    400
GET     /images/<uuid:id>                    login      login     404    404    200
POST    /images/<uuid:id>/delete             login      login     404    404    303
POST    /images/<uuid:id>/restore            login      login     404    404    303
GET     /batches/new                         login      login     303    303    200
POST    /batches/new                         login      login     303    303    200
POST    /batches/estimate                    login      login     200    200    200
POST    /batches                             login      login     422    422    303
GET     /batches/<uuid:id>                   login      login     404    404    200
GET     /batches/<uuid:id>/live              login      login     404    404    200
GET     /batches/<uuid:id>.zip               login      login     404    404    200
GET     /batches/<uuid:id>/review            login      login     404    404    303
GET     /batches/<uuid:id>/verdicts          login      login     404    404    200
POST    /batches/<uuid:id>/release           login      login     404    404    303
POST    /batches/<uuid:id>/cancel            login      login     404    404    303
POST    /batches/<uuid:id>/retry             login      login     404    404    303
GET     /trash                               login      login     200    200    200
POST    /trash/restore                       login      login     303    303    303
POST    /trash/empty                         login      login     200    200    200
GET     /jobs/again                          login      login     409    409    409
POST    /jobs/delete                         login      login     409    409    409
POST    /jobs/<uuid:id>/delete               login      login     404    404    200
POST    /batches/<uuid:id>/restore           login      login     404    404    303
POST    /jobs/<uuid:id>/restore              login      login     404    404    303
GET     /jobs.zip                            login      login     409    409    409
GET     /jobs                                login      login     200    200    200
GET     /jobs/<uuid:id>                      login      login     404    404    200
POST    /jobs/<uuid:id>/cancel               login      login     404    404    303
POST    /jobs/<uuid:id>/retry                login      login     404    404    303
POST    /jobs/<uuid:id>/recover              login      login     404    404    303
POST    /jobs/<uuid:id>/verdict              login      login     404    404    303
GET     /workflows/<workflow_id>/sample/original  login  login    404    404    404
GET     /workflows/<workflow_id>/sample/result  login    login    404    404    404
GET     /presets                             login      login     200    200    200
POST    /presets                             login      login     303    303    303
POST    /presets/<uuid:id>/rename            login      login     404    404    303
POST    /presets/<uuid:id>/delete            login      login     404    404    303
GET     /account                             login      login     200    200    200
POST    /account                             login      login     422    422    422
GET     /account/password                    login      login     303    303    303
POST    /account/password                    login      login     303    303    303
POST    /account/review-keys                 login      login     303    303    303
POST    /account/time-zone                   login      login     303    303    303
POST    /account/sessions/<uuid:id>/revoke   login      login     404    404    303
GET     /admin/                              login      login     404    303    404
GET     /admin/health                        login      login     404    200    404
GET     /admin/workflows                     login      login     404    200    404
POST    /admin/workflows                     login      login     404    422    404
GET     /admin/workflows/new                 login      login     404    200    404
GET     /admin/workflows/<workflow_id>       login      login     404    200    404
POST    /admin/workflows/<workflow_id>       login      login     404    422    404
POST    /admin/workflows/<workflow_id>/active  login    login     404    303    404
POST    /admin/workflows/<workflow_id>/sample  login    login     404    303    404
GET     /admin/jobs                          login      login     404    200    404
GET     /admin/usage                         login      login     404    200    404
GET     /admin/users                         login      login     404    200    404
POST    /admin/users                         login      login     404    200    404
GET     /admin/users/<uuid:id>               login      login     404    200    404
POST    /admin/users/<uuid:id>/whitelist     login      login     404    303    404
POST    /admin/users/<uuid:id>/role          login      login     404    303    404
POST    /admin/users/<uuid:id>/password      login      login     404    200    404
POST    /admin/users/<uuid:id>/sign-out      login      login     404    303    404
GET     /admin/users/<uuid:id>/delete        login      login     404    200    404
POST    /admin/users/<uuid:id>/delete        login      login     404    303    404
GET     /login                               200        200       303    303    303
POST    /login                               401        401       401    401    401
POST    /logout                              303        303       303    303    303
POST    /webhooks/fal/<token>                404        404       404    404    404
GET     /healthz                             200        200       200    200    200
GET     /readyz                              200        200       200    200    200
GET     /static/<path:filename>              200        200       200    200    200
"""

HEADINGS, *LINES = (line.split() for line in TABLE.strip().splitlines())
WHO = HEADINGS[2:]
ROUTES = [(method, route) for method, route, *_ in LINES]
EXPECTED = {
    (method, route, who): answer
    for method, route, *answers in LINES
    for who, answer in zip(WHO, answers, strict=True)
}
WITH_IDS = [(method, route) for method, route in ROUTES if "<uuid:" in route]


@pytest.fixture
def things(app, conn, owner):
    """What the owner has: a path for every route, and the fields of every form."""
    storage = app.extensions["i2i"].storage
    photo = factories.make_image(conn, user=owner, data=b"\xff\xd8\xff bytes", storage=storage)
    for name in ("thumb.webp", "preview.webp"):
        (storage.root / image_key(owner.id, photo.id, name)).write_bytes(b"RIFF")
    failed = factories.make_job(conn, user=owner, status="failed", image=photo)
    waiting = factories.make_job(conn, user=owner, status="pending", image=photo)
    session = conn.execute(
        "INSERT INTO sessions (token_hash, user_id, user_agent, ip_address)"
        " VALUES (%s, %s, 'there', '::1') RETURNING id",
        [passwords.hash_token("another browser of the owner"), owner.id],
    ).fetchone()[0]
    preset = presets.create(
        conn, user_id=owner.id, workflow_name="basic-v1", name="Owner's", parameters={}
    )
    done = factories.make_job(conn, user=owner, status="completed", image=photo)
    trashed = factories.make_job(conn, user=owner, status="completed", image=photo)
    trash.throw_away(conn, job_ids=[trashed.id], user_id=owner.id)
    return {
        "image": photo.id,
        "preset": preset.id,
        "batch": failed.batch_id,
        "made": done.batch_id,
        "failed": failed.id,
        "waiting": waiting.id,
        "done": done.id,
        "trashed": trashed.id,
        "thrown": trashed.batch_id,
        "lost": factories.make_job(conn, user=owner, status="unknown", image=photo).id,
        "session": session,
        "user": factories.make_user(conn).id,
    }


def request(browser, method, route, things, *, accept="text/html"):
    kind = next(
        (word for word in ("users", "images", "batches", "sessions", "presets") if word in route),
        "jobs",
    )
    batch = "batch"
    if route.endswith(".zip"):
        batch = "made"
    elif route.endswith("/restore"):
        batch = "thrown"
    job = {"cancel": "waiting", "recover": "lost", "verdict": "done", "restore": "trashed"}.get(
        route.rpartition("/")[2], "failed"
    )
    names = {"images": "image", "batches": batch, "sessions": "session", "jobs": job}
    names |= {"presets": "preset", "users": "user"}
    path = route.replace("<uuid:id>", str(things[names[kind]]))
    path = path.replace("<path:filename>", "app.css").replace("<workflow_id>", "basic-v1")
    if route == "/batches/new":
        path += f"?image={things['image']}"
    data = {
        "/images": {},
        "/batches": {
            "image": str(things["image"]),
            "workflow": "basic-v1",
            "setting": "outdoor",
            "client_key": "0123456789abcdef",
        },
        "/presets": {"workflow": "basic-v1", "setting": "outdoor", "preset_name": "Mine"},
        "/presets/<uuid:id>/rename": {"name": "Another"},
        "/jobs/<uuid:id>/recover": {"action": "look"},
        "/jobs/<uuid:id>/verdict": {"verdict": "approved"},
        "/account": {"current_password": "wrong", "new_password": "fifteen letters"},
        "/admin/workflows/<workflow_id>/active": {"is_active": "yes"},
        "/admin/users": {"email": "new@example.com"},
        "/account/time-zone": {"time_zone": "Europe/Berlin"},
        "/login": {"email": "owner@example.com", "password": "wrong"},
    }.get(route, {})
    more = {"data": data} if method == "POST" else {}
    if route == "/images":
        more["content_type"] = "multipart/form-data"
    return browser.open(path, method=method, headers={"Accept": accept}, **more)


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


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("method", "route"), ROUTES, ids=[" ".join(each) for each in ROUTES])
def test_who_may_what(browser_of, things, who, method, route):
    answer = request(browser_of(who), method, route, things)
    expected = EXPECTED[method, route, who]
    if expected == "login":
        assert answer.status_code == 303
        path, _, query = answer.headers["Location"].partition("?")
        assert path == "/login"
        assert query.startswith("next=/") is (method == "GET")
        answer = request(browser_of(who), method, route, things, accept="application/json")
        assert (answer.status_code, answer.json) == (401, {"error": "Sign in first."})
    else:
        assert answer.status_code == int(expected)
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
