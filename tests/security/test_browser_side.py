"""Rows 49 to 55: what a browser is told with every answer, and what it makes of hostile text.

Row 48, of TLS alone, stands with the proxy.
"""

import html
import re
from urllib.parse import urlencode, urlsplit

import factories
import pytest
from chromium import CHROMIUM, QUIET
from psycopg.types.json import Jsonb
from routes import ROUTES, fields_of, path_of

from i2i.app import create_app
from i2i.config import Settings
from i2i.web.cross_site import SIGNED
from i2i.web.sessions import own_path

PAGE = {"Accept": "text/html"}

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"


def walk(town, *, who=("owner", "admin", "anonymous")):
    """An answer of every route to everybody, and of the ways in which a request goes wrong."""
    for name in who:
        client = town.client(name)
        for method, route in ROUTES:
            if route != "/logout" and not (name == "anonymous" and method == "POST"):
                fields = fields_of(method, route, town.things) if method == "POST" else None
                path = path_of(method, route, town.things)
                yield (
                    f"{name} {method} {route}",
                    client.request(method, path, fields=fields, headers=PAGE),
                )
    for method, path, headers in (
        ("GET", "/nowhere", {}),
        ("GET", "/jobs/nothing", {}),
        ("PUT", "/upload", {}),
        ("POST", "/logout", {"Sec-Fetch-Site": "cross-site"}),
        ("POST", "/batches", {"Content-Type": "multipart/form-data"}),
        ("GET", "/jobs?after=forged", {}),
        ("GET", "/jobs", {"Accept": "application/json"}),
        ("GET", "/static/nothing.css", {}),
        ("GET", "/static/app.css", {}),
        ("OPTIONS", "/jobs", {}),
        ("HEAD", "/jobs", {}),
    ):
        yield f"{method} {path}", town.client("owner").request(method, path, headers=PAGE | headers)


def test_row_49_50_every_answer_is_strict(town):
    """Content, frames, referrer, permissions, other origins: said by every answer, once."""
    for label, answer in walk(town):
        headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, label
        if "sandbox" not in policy:
            directives = {
                name: rest for name, *rest in (each.split() for each in policy.split(";"))
            }
            assert directives == {
                "default-src": ["'none'"],
                "script-src": ["'self'"],
                "style-src": ["'self'"],
                "img-src": ["'self'", "blob:"],
                "connect-src": ["'self'"],
                "form-action": ["'self'"],
                "base-uri": ["'none'"],
                "frame-ancestors": ["'none'"],
            }, label
        for name, value in {
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        }.items():
            assert headers.getlist(name) == [value], (label, name)
        assert len(headers.getlist("Content-Security-Policy")) == 1, label
        assert len(headers.getlist("Strict-Transport-Security")) == 1, label


def test_row_50_no_page_speaks_of_another_origin(town):
    """Whatever a page names, it is here: nobody else ever gets a referrer."""
    for label, answer in walk(town, who=("owner", "admin")):
        if "text/html" in answer.headers.get("Content-Type", ""):
            for url in re.findall(r'(?:src|action|srcset)="([^"]*)"', answer.data.decode()):
                assert re.match(r"/(?!/)", html.unescape(url)), (label, url)


def test_row_51_no_other_origin_may_read(town):
    """Neither a simple request nor a preflight gets leave."""
    client = town.client("owner")
    for method, route in ROUTES:
        path = path_of(method, route, town.things)
        asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": method}
        answers = [client.request("OPTIONS", path, headers=asks)]
        if method == "GET":
            answers.append(client.request("GET", path, headers=asks))
        for answer in answers:
            assert not [name for name in answer.headers if name.startswith("Access-Control")], route


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": None, "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": None, "Origin": "null"},
        {"Sec-Fetch-Site": None},
    ],
    ids=lambda value: " ".join(f"{name}={text}" for name, text in value.items()),
)
def test_row_52_no_other_site_sends_a_form(town, headers):
    """Each route that changes something refuses with 403 before it looks at anything."""
    clients = {who: town.client(who) for who in ("owner", "admin")}
    signed = {rule.rule for rule in rules() if rule.endpoint in SIGNED}
    before, tried = town.snapshot(), 0
    for method, route in ROUTES:
        if method != "GET" and route not in signed:
            client = clients["admin" if route.startswith("/admin") else "owner"]
            fields = fields_of(method, route, town.things)
            path = path_of(method, route, town.things)
            answer = client.request(method, path, fields=fields, headers=headers)
            assert answer.status == 403, route
            tried += 1
    assert tried > 30
    assert town.snapshot() == before


def test_row_52_our_own_pages_send_forms(town, stack):
    for headers in ({}, {"Sec-Fetch-Site": None, "Origin": stack.url}):
        client = town.client("owner")
        fields = {"time_zone": "Europe/Berlin"}
        answer = client.request("POST", "/account/time-zone", fields=fields, headers=headers)
        assert answer.status == 303


def rules():
    settings = Settings.from_env({"SECRET_KEY": "only-for-tests-0123456789"})
    return [*create_app(settings).url_map.iter_rules()]


def test_row_53_looking_changes_nothing(town):
    """Every link of every page, followed as owner and as admin: GET, and HEAD now and then."""
    before = town.snapshot()
    for who, starts in (
        ("owner", [path_of(*each, town.things) for each in ROUTES if each[0] == "GET"]),
        ("admin", [path_of(*each, town.things) for each in ROUTES if each[1][:6] == "/admin"]),
    ):
        client, seen, waiting = town.client(who), set(), [*starts]
        while waiting and len(seen) < 250:
            path = waiting.pop(0)
            if path in seen:
                continue
            seen.add(path)
            answer = client.request("GET", path, headers=PAGE)
            assert answer.status < 500, path
            client.request("HEAD" if len(seen) % 3 else "OPTIONS", path)
            if "text/html" in answer.headers.get("Content-Type", ""):
                found = re.findall(r'(?:href|src)="(/[^"#]*)', answer.data.decode())
                fresh = (html.unescape(each) for each in found)
                waiting += [each for each in fresh if not each.startswith("/static/")]
        assert len(seen) > 20
    assert town.snapshot() == before


ELSEWHERE = [
    *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https:evil.example"),
    *("https://evil.example", "javascript:alert(1)", "data:text/html,x", "%2f%2fevil.example"),
    *("https://localhost@evil.example", "/\t/evil.example", "\t//evil.example", "/\n/evil.example"),
    *(" //evil.example", "http:///evil.example", "evil.example", "/%09/evil\r\nX: y", "/\u2028/evil"),
    *("@evil.example", "?next=//evil", "/..//evil.example", "/.//evil.example", "", "\0//evil"),
    *("/x/../..//evil.example", "/\x7f/evil.example"),
]  # fmt: skip


def is_ours(location):
    """Whether a browser at our address stays there: it normalises slashes and drops controls."""
    bare = re.sub(r"[\x00-\x20]", "", location).replace("\\", "/")
    return bare.startswith("/") and not bare.startswith("//") and not urlsplit(bare).netloc


@pytest.mark.parametrize("next_", ELSEWHERE)
def test_row_54_only_own_paths_follow_a_sign_in(app, next_):
    with app.test_request_context():
        assert is_ours(own_path(next_))


def test_row_54_no_redirect_leads_away(town):
    client = town.client("owner")
    for next_ in ELSEWHERE:
        for path in ("/login", "/account/password"):
            fields = {"next": next_}
            answer = client.request("GET", f"{path}?{urlencode(fields)}", headers=PAGE)
            assert answer.status == 303
            assert is_ours(answer.headers["Location"]), (path, next_)
    for path in ("//evil.example", "//evil.example/..", "/%2fevil.example/", "/\\evil.example"):
        answer = client.request("GET", path, headers=PAGE)
        assert is_ours(answer.headers.get("Location", "/")), path
    for label, answer in walk(town, who=("owner", "anonymous")):
        assert is_ours(answer.headers.get("Location", "/")), label


# --- Row 55 -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": QUIET}


def write_evil(town):
    """Put hostile text wherever text is stored; returns the pages to look at, by who may."""
    conn, owner = town.conn, town.users["owner"]
    schema = factories.document()["parameter_schema"]
    prompt = {"type": "string", "title": EVIL, "description": EVIL, "maxLength": 500, "x-order": 5}
    evil = factories.make_workflow(
        conn,
        id="evil-v1",
        name=EVIL,
        description=EVIL,
        parameter_schema=schema
        | {"required": ["setting", "prompt"]}
        | {"properties": schema["properties"] | {"prompt": prompt}},
        default_parameters={"setting": "outdoor", "prompt": EVIL},
        request_template=factories.document()["request_template"]
        | {"prompt": "{{ prompt }}{{ setting }}"},
    )
    photo = factories.make_image(conn, user=owner, name=EVIL)
    rejected = factories.make_image(conn, user=owner, name=EVIL, status="rejected")
    conn.execute("UPDATE images SET rejection = %s WHERE id = %s", [EVIL, rejected.id])
    with conn.transaction():
        jobs = {
            status: factories.make_job(conn, user=owner, status=status, image=photo, workflow=evil)
            for status in ("failed", "unknown", "completed")
        }
        conn.execute(
            "UPDATE processing_jobs SET run_after = now() + interval '1 day'"
            " WHERE original_image_id = %s",
            [photo.id],
        )
    typed = {"prompt": EVIL, "setting": "outdoor"}
    ids = [job.batch_id for job in jobs.values()]
    conn.execute("UPDATE batches SET parameters = %s WHERE id = ANY (%s)", [Jsonb(typed), ids])
    conn.execute(
        "UPDATE processing_jobs SET parameters = %s WHERE batch_id = ANY (%s)", [Jsonb(typed), ids]
    )
    conn.execute(
        "UPDATE processing_jobs SET error_message = %s WHERE id = %s", [EVIL, jobs["failed"].id]
    )
    conn.execute(
        "UPDATE processing_jobs SET attention = %s WHERE id = %s", [EVIL, jobs["unknown"].id]
    )
    conn.execute(
        "UPDATE processing_jobs SET verdict = 'rejected', verdict_reason = 'other',"
        " verdict_at = now(), verdict_note = %s WHERE id = %s",
        [EVIL, jobs["completed"].id],
    )
    conn.execute("UPDATE submissions SET detail = %s WHERE user_id = %s", [EVIL, owner.id])
    conn.execute(
        "INSERT INTO presets (user_id, workflow_name, name, parameters) VALUES (%s, 'evil-v1', %s, %s)",
        [owner.id, EVIL[:60], Jsonb(typed)],
    )
    conn.execute(
        "INSERT INTO sessions (token_hash, user_id, user_agent, ip_address) VALUES"
        " (sha256(%s::bytea), %s, %s, %s)",
        [str(owner.id), owner.id, EVIL, EVIL[:40]],
    )
    bad = factories.make_user(conn, email=f'"<img/src=x/onerror=alert(3)>{owner.id}"@example.com')
    job = jobs["completed"]
    own = [
        "/upload", f"/batches/new?image={photo.id}&workflow=evil-v1", "/jobs", "/jobs?view=batches",
        f"/jobs?q={EVIL[:5]}", *(f"/jobs/{each.id}" for each in jobs.values()),
        f"/jobs/{job.id}?review=1", *(f"/batches/{each}" for each in ids),
        f"/batches/{job.batch_id}/verdicts", f"/batches/new?parent={job.batch_id}&scope=all",
        "/presets", "/account", "/trash", "/jobs?q=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ]  # fmt: skip
    admin = [
        "/admin/users", f"/admin/users/{bad.id}", f"/admin/users/{bad.id}/delete", "/admin/health",
        "/admin/workflows", "/admin/workflows/evil-v1", "/admin/workflows/new?copy=evil-v1",
        "/admin/jobs", "/admin/jobs?show=failed", "/admin/usage",
    ]  # fmt: skip
    conn.execute("UPDATE workflow_configs SET sample_job_id = NULL WHERE id = 'evil-v1'")
    return {"owner": own, "admin": admin}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_row_55_text_is_shown_and_never_run(town, stack, browser):
    """No dialog, no report of the policy, no element that nobody wrote; the text itself is there."""
    pages, shown, trouble = write_evil(town), [], []
    try:
        for who, paths in pages.items():
            client = town.client(who)
            context = browser.new_context(base_url=stack.url, ignore_https_errors=True)
            (name, value), *_ = client.cookies.items()
            context.add_cookies([{"name": name, "value": value, "url": stack.url, "secure": True}])
            page = context.new_page()
            page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
            page.on(
                "console",
                lambda message: (
                    trouble.append(message.text) if "ontent Security" in message.text else None
                ),
            )
            page.on("pageerror", lambda error: trouble.append(str(error)))
            for path in paths:
                answer = page.goto(path, wait_until="domcontentloaded")
                assert answer.status < 500, path
                strange = page.evaluate(
                    "document.querySelectorAll('[src=x],[onerror],script:not([src])').length"
                )
                assert strange == 0, path
                if "onerror=alert" in page.evaluate("document.body.innerText + document.title"):
                    shown.append(path)
            context.close()
    finally:
        town.conn.execute("UPDATE workflow_configs SET is_active = false WHERE id = 'evil-v1'")
    assert trouble == []
    assert len(shown) > len([*pages["owner"], *pages["admin"]]) / 2, shown
