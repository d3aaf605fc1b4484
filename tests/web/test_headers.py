"""What every answer says to browsers and caches, whatever became of the request."""

import factories
import pytest

NOWHERE = "00000000-0000-4000-8000-000000000000"

ANSWERS = {
    "page": ("GET", "/upload", {}, 200),
    "redirect": ("POST", "/logout", {}, 303),
    "json": ("GET", "/jobs", {"Accept": "application/json"}, 200),
    "bad": ("POST", "/images", {"Content-Type": "multipart/form-data"}, 400),
    "refused": ("POST", "/logout", {"Sec-Fetch-Site": "cross-site"}, 403),
    "missing": ("GET", f"/jobs/{NOWHERE}", {}, 404),
    "nowhere": ("GET", "/nowhere", {}, 404),
    "method": ("PUT", "/upload", {}, 405),
    "large": ("POST", "/batches", {"Content-Length": "99999999"}, 413),
    "form": ("POST", "/account", {}, 422),
    "health": ("GET", "/healthz", {}, 200),
    "static": ("GET", "/static/old/app.css", {}, 200),
    "no static": ("GET", "/static/old/nowhere.css", {}, 404),
}


@pytest.fixture(params=sorted(ANSWERS))
def answer(request, as_owner):
    method, path, headers, status = ANSWERS[request.param]
    overrides = {}
    if length := headers.get("Content-Length"):
        overrides = {"CONTENT_LENGTH": length, "CONTENT_TYPE": "multipart/form-data; boundary=x"}
    found = as_owner.open(path, method=method, headers=headers, environ_overrides=overrides)
    assert found.status_code == status
    return found


def test_every_answer_is_strict(answer):
    policy = {
        name: set(values)
        for name, *values in (
            each.split() for each in answer.headers["Content-Security-Policy"].split(";")
        )
    }
    assert policy == {
        "default-src": {"'none'"},
        "script-src": {"'self'"},
        "style-src": {"'self'"},
        "img-src": {"'self'", "blob:"},
        "connect-src": {"'self'"},
        "form-action": {"'self'"},
        "base-uri": {"'none'"},
        "frame-ancestors": {"'none'"},
    }
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in answer.headers
    for name, _ in answer.headers:
        assert len(answer.headers.getlist(name)) == 1, name


def test_nothing_private_is_kept_by_caches(answer):
    if answer.request.path.startswith("/static/") and answer.status_code == 200:
        assert "no-store" not in answer.headers["Cache-Control"]
    else:
        assert answer.headers["Cache-Control"] == "no-store"
    if not answer.request.path.startswith("/static/"):
        assert "Cookie" in answer.headers["Vary"]


def test_https_is_remembered(anonymous):
    answer = anonymous.get("/login", base_url="https://localhost")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_pictures_may_be_kept_by_their_owner_only(app, as_owner, conn, owner):
    storage = app.extensions["i2i"].storage
    image = factories.make_image(conn, user=owner, data=b"bytes", storage=storage)
    answer = as_owner.get(f"/images/{image.id}")
    assert "private" in answer.headers["Cache-Control"].split(", ")
    assert "Cookie" in answer.headers["Vary"]
    assert "public" not in answer.headers["Cache-Control"]


def test_only_signing_in_and_out_sets_a_cookie(as_owner):
    for method, path, headers, _ in ANSWERS.values():
        if path != "/logout" and "Content-Length" not in headers:
            found = as_owner.open(path, method=method, headers=headers)
            assert "Set-Cookie" not in found.headers


# --- Host names and proxies -------------------------------------------------------------------


def test_only_trusted_hosts(app_with):
    browser = app_with(TRUSTED_HOSTS="photos.example").test_client()
    assert browser.get("/login", base_url="http://photos.example").status_code == 200
    for host in ("evil.example", "photos.example.evil.example", "photos.example@evil"):
        answer = browser.get("/login", headers={"Host": host})
        assert answer.status_code == 400
        assert "evil" not in answer.text


def test_proxies_are_believed_as_many_as_there_are(app_with, conn, owner):
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
        "X-Forwarded-Host": "photos.example",
        "Sec-Fetch-Site": "same-origin",
    }
    data = {"email": "owner@example.com", "password": factories.PASSWORD}
    for proxies, name, address in [
        ("0", "i2i", "127.0.0.1"),
        ("1", "__Host-i2i", "198.51.100.7"),
    ]:
        browser = app_with(TRUSTED_PROXIES=proxies).test_client()
        answer = browser.post("/login", data=data, headers=headers)
        assert answer.headers["Set-Cookie"].startswith(f"{name}=")
        kept = conn.execute("DELETE FROM sessions RETURNING ip_address").fetchall()
        assert kept == [(address,)]
