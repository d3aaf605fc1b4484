"""What people did, and were refused, in the browser: one record each."""

import io

import factories
import pytest

from i2i.queries import audit

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def events(conn):
    """Actions with outcome, actor, address, target and detail, the oldest first."""

    def read(action=None):
        rows = audit.list_newest(conn, page_size=500, action=action)
        return [
            (each.action, each.outcome, each.actor, each.target, each.detail)
            for each in reversed(rows)
            if each.action != "command.db_migrate"  # the template's own
        ]

    return read


def sign_in(browser, email, password=factories.PASSWORD):
    return browser.post("/login", data={"email": email, "password": password})


def test_signing_in_and_out(open_browser, owner, events, conn):
    browser = open_browser()
    answer = sign_in(browser, "OWNER@example.com")
    browser.post("/logout")
    assert events() == [
        ("session.created", "done", owner.email, "", ""),
        ("session.ended", "done", owner.email, "", ""),
    ]
    (newest,) = audit.list_newest(conn, page_size=9, action="session.created")
    assert newest.request_id == answer.headers["X-Request-Id"]
    assert newest.ip_address == "127.0.0.1"


def test_failures_tell_the_account_and_never_what_was_typed_for_it(
    open_browser, owner, stranger, events, conn
):
    typed = "my secret sentence typed into the wrong field"
    sign_in(open_browser(), owner.email, "wrong")
    sign_in(open_browser(), stranger.email)
    sign_in(open_browser(), typed)
    sign_in(open_browser(), typed.upper())
    known, unlisted, unknown, again = events()
    assert known == ("session.refused", "refused", "", owner.email, "no match")
    assert unlisted[3:] == (stranger.email, "not allowed")
    assert unknown[3].startswith("no account (")
    assert unknown == again
    for table in ("audit_events", "rate_limits"):
        rows = conn.execute(f"SELECT {table}::text FROM {table}").fetchall()
        assert rows
        assert "secret" not in str(rows).lower()


def test_a_limit_is_on_record(open_browser, owner, events):
    for _ in range(12):
        sign_in(open_browser(), owner.email, "wrong")
    assert len(events("session.refused")) == 10
    assert events("session.limited") == [("session.limited", "refused", "", owner.email, "")] * 2


def test_what_is_somebody_elses_is_on_record_and_what_is_nowhere_is_not(
    as_other, as_admin, conn, owner, other, events
):
    photo = factories.make_image(conn, user=owner)
    for path in (f"/images/{photo.id}", f"/images/{NOWHERE}", "/nowhere", "/admin/users"):
        assert as_other.get(path).status_code == 404
    assert as_admin.get(f"/admin/users/{NOWHERE}").status_code == 404
    assert events() == [
        ("access.refused", "refused", other.email, f"photo {photo.id} of {owner.email}", ""),
        ("access.refused", "refused", other.email, "GET /admin/users", "only for admins"),
    ]


def test_a_form_of_another_site_is_on_record(anonymous, events):
    anonymous.post("/login?q=words", headers={"Sec-Fetch-Site": "cross-site"})
    assert events() == [("access.refused", "refused", "", "POST /login", "from another site")]


def test_a_token_that_is_none_is_on_record_without_it(app, events):
    bearer = {"Authorization": "Bearer i2i_canary-of-a-token"}
    assert app.test_client().get("/jobs", headers=bearer).status_code == 401
    assert events() == [("access.refused", "refused", "", "GET /jobs", "no good token")]


def test_refused_uploads_are_on_record_with_the_reason(as_owner, owner, events):
    files = {"images": [(io.BytesIO(b"GIF89a nothing"), "a.gif")]}
    as_owner.json("/images", method="POST", data=files, content_type="multipart/form-data")
    as_owner.json("/images", method="POST", data={}, content_type="multipart/form-data")
    one, whole = events()
    assert one[:4] == ("upload.refused", "refused", owner.email, "a.gif")
    assert one[4]
    assert whole[3:] == ("all files", "status 400")


def test_what_admins_do_is_on_record(as_admin, admin, owner, events):
    path = f"/admin/users/{owner.id}"
    as_admin.post("/admin/users", data={"email": "new@example.com", "may_sign_in": "yes"})
    as_admin.post(f"{path}/role", data={"role": "admin"})
    as_admin.post(f"{path}/password")
    as_admin.post(f"{path}/sign-out")
    as_admin.post(f"{path}/whitelist", data={"may_sign_in": "no"})
    as_admin.post(f"{path}/delete")
    assert {each[2] for each in events()} == {admin.email}
    assert [(each[0], each[3], each[4]) for each in events()] == [
        ("user.created", "new@example.com", "user"),
        ("user.role_changed", owner.email, "user to admin"),
        ("password.reset", owner.email, ""),
        ("session.revoked", owner.email, "0 sessions"),
        ("user.unwhitelisted", owner.email, ""),
        ("user.deleted", owner.email, ""),
    ]


def test_what_costs_money_is_on_record(as_owner, conn, owner, events):
    made = factories.make_job(conn, user=owner, status="failed")
    lost = factories.make_job(conn, user=owner, status="unknown")
    as_owner.post(f"/jobs/{made.id}/retry")
    for _ in range(2):  # the second click finds nothing to cancel
        as_owner.post(f"/batches/{made.batch_id}/cancel")
    as_owner.post(f"/jobs/{lost.id}/recover", data={"action": "look"})
    assert [(each[0], each[3], each[4]) for each in events("job") + events("batch")] == [
        ("job.retried", f"job {made.id}", ""),
        ("job.searched", f"job {lost.id}", ""),
        ("batch.cancelled", f"batch {made.batch_id}", "1 picture"),
    ]


def test_ones_own_password_and_sessions(open_browser, owner, events):
    browser = open_browser(owner)
    form = {"current_password": "wrong", "new_password": "a sentence nobody guesses"}
    browser.post("/account", data=form)
    browser.post("/account", data=form | {"current_password": factories.PASSWORD})
    assert [(each[0], each[2], each[3]) for each in events()] == [
        ("password.refused", owner.email, owner.email),
        ("password.changed", owner.email, owner.email),
    ]


def test_a_deed_that_cannot_be_recorded_does_not_happen(as_admin, conn, owner):
    conn.execute("ALTER TABLE audit_events RENAME TO elsewhere")
    answer = as_admin.post(f"/admin/users/{owner.id}/role", data={"role": "admin"})
    assert answer.status_code == 500
    assert conn.execute("SELECT role FROM users WHERE id = %s", [owner.id]).fetchone() == ("user",)
    assert as_admin.get(f"/images/{NOWHERE}").status_code == 404
