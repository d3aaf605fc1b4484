"""Accounts in the browser: made, let in, signed out, deleted; never one's own."""

import factories
import pages
import pytest

from i2i import passwords
from i2i.queries import users
from i2i.services import sessions as session_service


def sign_in(conn, settings, *, email, password):
    return session_service.sign_in(
        conn, settings, email=email, password=password, ip_address="192.0.2.1", user_agent="there"
    )


def password_on(page):
    return page.one("p", class_="secret").text.strip()


def test_a_new_account_may_sign_in_with_the_password_shown(as_admin, conn, settings):
    answer = as_admin.post(
        "/admin/users", data={"email": "New@example.com", "role": "admin", "may_sign_in": "yes"}
    )
    page = pages.check(answer)
    assert "Shown only now" in page.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert sign_in(conn, settings, email="new@example.com", password=password_on(page))
    made = users.find_by_email(conn, email="new@example.com")
    assert (made.role, made.is_whitelisted) == ("admin", True)
    assert password_on(page) not in as_admin.get(f"/admin/users/{made.id}").text


def test_without_the_tick_nobody_gets_in_yet(as_admin, conn):
    as_admin.post("/admin/users", data={"email": "later@example.com", "role": "user"})
    made = users.find_by_email(conn, email="later@example.com")
    assert (made.role, made.is_whitelisted) == ("user", False)


@pytest.mark.parametrize(
    ("email", "sentence"),
    [
        ("owner@example.com", "There is a user owner@example.com already."),
        ("no address", "is not an e-mail address"),
        ("", "is not an e-mail address"),
    ],
)
def test_what_makes_no_account_is_kept_in_the_form(as_admin, owner, email, sentence):
    answer = as_admin.post("/admin/users", data={"email": email, "role": "admin"})
    assert answer.status_code == 422
    page = pages.check(answer)
    assert sentence in page.text
    assert page.form("/admin/users") == [("email", email), ("role", "admin")]


def test_the_list_counts_what_they_have(as_admin, conn, owner):
    factories.make_job(conn, user=owner, status="completed")
    page = pages.check(as_admin.get("/admin/users"))
    row = next(each for each in page.all("tr") if owner.email in each.text)
    assert row.text.split()[1:3] == ["user", "yes"]
    assert [cell.text.strip() for cell in row.all("td")][3:5] == ["1", "1"]


def test_off_the_whitelist_and_on_again(as_admin, as_owner, conn, owner):
    job = factories.make_job(conn, user=owner)
    path = f"/admin/users/{owner.id}/whitelist"
    assert as_admin.post(path, data={"may_sign_in": "no"}).status_code == 303
    assert as_owner.get("/jobs").status_code == 303
    assert factories.jobs.find(conn, job_id=job.id).status == "cancelled"
    as_admin.post(path, data={"may_sign_in": "yes"})
    assert users.find(conn, user_id=owner.id).is_whitelisted


def test_a_role_is_given_and_taken(as_admin, as_owner, owner):
    path = f"/admin/users/{owner.id}/role"
    as_admin.post(path, data={"role": "admin"})
    assert as_owner.get("/admin/users").status_code == 200
    as_admin.post(path, data={"role": "user"})
    assert as_owner.get("/admin/users").status_code == 404


def test_a_new_password_ends_the_sessions(as_admin, as_owner, conn, settings, owner):
    page = pages.check(as_admin.post(f"/admin/users/{owner.id}/password"))
    assert as_owner.get("/jobs").status_code == 303
    assert sign_in(conn, settings, email=owner.email, password=password_on(page))
    kept = users.find(conn, user_id=owner.id).password_hash
    assert not passwords.verify_password(factories.PASSWORD, kept, rounds=4)


def test_signed_out_everywhere(as_admin, as_owner, owner):
    as_admin.post(f"/admin/users/{owner.id}/sign-out")
    assert as_owner.get("/jobs").status_code == 303
    assert as_admin.get("/jobs").status_code == 200


def test_deleting_says_what_goes_and_leaves_the_books(as_admin, conn, owner):
    factories.make_job(conn, user=owner, status="completed")
    page = pages.check(as_admin.get(f"/admin/users/{owner.id}/delete"))
    assert "1 photo and 1 picture" in page.text
    assert "stays in the books" in page.text
    assert as_admin.post(f"/admin/users/{owner.id}/delete").status_code == 303
    assert users.find(conn, user_id=owner.id) is None
    assert conn.execute("SELECT user_email FROM submissions").fetchall() == [(owner.email,)]


def test_nobody_is_deleted_while_something_is_at_fal(as_admin, conn, owner):
    factories.make_job(conn, user=owner, status="processing")
    assert (
        "Take them off the whitelist first" in as_admin.get(f"/admin/users/{owner.id}/delete").text
    )
    answer = as_admin.post(f"/admin/users/{owner.id}/delete")
    assert answer.status_code == 409
    assert "still has 1 picture in the making" in answer.text
    assert users.find(conn, user_id=owner.id) is not None


@pytest.mark.parametrize("action", ["whitelist", "role", "password", "delete"])
def test_no_admin_locks_himself_out(as_admin, conn, admin, action):
    before = users.find(conn, user_id=admin.id)
    answer = as_admin.post(f"/admin/users/{admin.id}/{action}")
    assert answer.status_code == 409
    assert "Nothing was changed." in answer.text
    assert users.find(conn, user_id=admin.id) == before
    assert "This is you" in as_admin.get(f"/admin/users/{admin.id}").text


def test_who_has_not_chosen_a_password_is_seen(as_admin, conn, owner):
    def words():
        row = next(
            each
            for each in pages.check(as_admin.get("/admin/users")).all("tr")
            if owner.email in each.text
        )
        facts = pages.check(as_admin.get(f"/admin/users/{owner.id}")).one("dl").text
        return list(row.all("td"))[1].text, facts

    assert words()[0] == "yes"
    assert "their own" in words()[1]
    as_admin.post(f"/admin/users/{owner.id}/password")
    assert words()[0] == "yes"
    assert "generated, works until tomorrow" in words()[1]
    conn.execute(
        "UPDATE users SET password_expires_at = now() - interval '1 hour' WHERE id = %s", [owner.id]
    )
    assert words()[0] == "password ran out"
    assert "the generated one ran out" in words()[1]
