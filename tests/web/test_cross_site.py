"""What other sites make a signed-in browser send is refused, on every route that changes something."""

import pages
import pytest

from i2i.web.cross_site import SIGNED

UNSAFE = [
    *("/login", "/logout", "/upload", "/images", "/batches", "/account"),
    *("/presets", "/trash/empty", "/admin/users"),
    "/images/00000000-0000-4000-8000-000000000000/delete",
    "/jobs/00000000-0000-4000-8000-000000000000/cancel",
]


@pytest.fixture
def bare(as_owner):
    """The owner's browser, too old to say where requests come from."""
    del as_owner.environ_base["HTTP_SEC_FETCH_SITE"]
    return as_owner


def post(browser, path="/jobs/00000000-0000-4000-8000-000000000000/cancel", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    return browser.post(path, headers=named)


@pytest.mark.parametrize(
    ("site", "origin", "is_own"),
    [
        ("same-origin", None, True),
        ("none", None, True),
        ("same-origin", "http://localhost", True),
        ("cross-site", None, False),
        ("same-site", None, False),
        ("cross-site", "http://localhost", False),
        ("same-site", "http://localhost", False),
        ("", "http://localhost", False),
        ("Same-Origin", None, False),
        ("same-origin, cross-site", None, False),
        (None, "http://localhost", True),
        (None, None, False),
        (None, "null", False),
        (None, "", False),
        (None, "http://localhost:8000", False),
        (None, "http://evil.example", False),
        (None, "http://localhost.evil.example", False),
        (None, "http://evil.example/localhost", False),
        (None, "http://localhost@evil.example", False),
        (None, "http://evil.example#localhost", False),
        (None, "localhost", False),
        (None, "http://[", False),
        (None, "http://localhost http://evil.example", False),
    ],
)
def test_where_a_form_may_come_from(bare, site, origin, is_own):
    answer = post(bare, Sec_Fetch_Site=site, Origin=origin)
    assert answer.status_code == (404 if is_own else 403)


def test_the_port_counts(anonymous):
    del anonymous.environ_base["HTTP_SEC_FETCH_SITE"]
    for host, origin, status in [
        ("localhost:8000", "http://localhost:8000", 303),
        ("localhost:8000", "http://localhost", 403),
        ("localhost:8000", "http://localhost:8001", 403),
    ]:
        headers = {"Origin": origin}
        answer = anonymous.post("/logout", base_url=f"http://{host}", headers=headers)
        assert answer.status_code == status


@pytest.mark.parametrize("path", UNSAFE)
def test_every_unsafe_route_refuses(app, as_owner, path, conn):
    before = conn.execute("SELECT count(*) FROM sessions").fetchone()
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        answer = post(as_owner, path, **headers)
        assert answer.status_code == 403
        page = pages.check(answer)
        assert "This form was sent from another site. Nothing was changed." in page.text
    assert conn.execute("SELECT count(*) FROM sessions").fetchone() == before


def test_the_list_is_complete(app):
    """Every rule with an unsafe method begins like one that was tried above, or is signed."""
    starts = {path.split("/")[1] for path in UNSAFE}
    for rule in app.url_map.iter_rules():
        if rule.methods & {"POST", "PUT", "PATCH", "DELETE"} and rule.endpoint not in SIGNED:
            assert rule.rule.split("/")[1] in starts


def test_anonymous_requests_are_refused_as_well(anonymous):
    """Else another site could sign a visitor in as somebody else."""
    data = {"email": "a@example.com", "password": "x"}
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert anonymous.post("/login", data=data, headers=headers).status_code == 403


def test_scripts_are_told_as_json(as_owner):
    answer = as_owner.post(
        "/jobs/00000000-0000-4000-8000-000000000000/cancel",
        headers={"Sec-Fetch-Site": "cross-site", "Accept": "application/json"},
    )
    assert (answer.status_code, answer.json.keys()) == (403, {"error"})


def test_looking_is_free_from_anywhere(as_owner):
    for site in ("cross-site", "same-site", "none"):
        assert as_owner.get("/jobs", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_no_other_site_may_read(as_owner):
    answer = as_owner.get("/jobs", headers={"Origin": "https://evil.example"})
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
