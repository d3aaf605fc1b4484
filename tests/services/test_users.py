"""Accounts: made by operators; whoever loses the whitelist is out at once."""

from contextlib import nullcontext

import factories
import pytest

from i2i import passwords
from i2i.errors import EmailTaken, InvalidFields, NotFound, Refused
from i2i.models import Role
from i2i.queries import jobs, sessions, submissions
from i2i.services import users


def make_session(conn, user):
    token = f"token of {user.email}"
    return sessions.create(
        conn,
        token_hash=passwords.hash_token(token),
        user_id=user.id,
        user_agent="test",
        ip_address="127.0.0.1",
    )


def test_a_new_user(conn, settings):
    made = users.create(
        conn,
        settings,
        email=" Ada@Example.com ",
        password="a long enough password",
        role=Role.ADMIN,
    )
    assert (made.email, made.role, made.is_whitelisted) == ("Ada@Example.com", "admin", True)
    assert made.password_hash.startswith("$2b$04$")
    assert users.get(conn, email="ada@example.COM") == made


def test_an_address_belongs_to_one_user_in_whatever_case(conn, settings, owner):
    with pytest.raises(EmailTaken, match="OWNER@example"):
        users.create(conn, settings, email="OWNER@example.com", password="a long enough password")


@pytest.mark.parametrize(
    "email", ["", "ada", "a b@example.com", "@example.com", "a@b@c", "x" * 250 + "@a.de"]
)
def test_what_is_no_address(conn, settings, email):
    with pytest.raises(InvalidFields) as refused:
        users.create(conn, settings, email=email, password="a long enough password")
    assert refused.value.fields.keys() == {"email"}


def test_a_short_password_is_refused(conn, settings):
    with pytest.raises(InvalidFields) as refused:
        users.create(conn, settings, email="ada@example.com", password="too short")
    assert refused.value.fields.keys() == {"password"}


def test_nobody(conn):
    with pytest.raises(NotFound, match=r"There is no user nobody@example\.com"):
        users.get(conn, email="nobody@example.com")


def test_losing_the_whitelist(conn, owner, other):
    statuses = ["held", "pending", "submitting", "processing", "storing", "completed"]
    made = [factories.make_job(conn, user=owner, status=status) for status in statuses]
    foreign = factories.make_job(conn, user=other)
    make_session(conn, owner)
    make_session(conn, other)

    users.set_whitelisted(conn, email=owner.email, is_whitelisted=False)

    after = [jobs.find(conn, job_id=job.id).status for job in made]
    assert after == ["cancelled", "cancelled", *statuses[2:]], "what fal has runs on"
    assert jobs.find(conn, job_id=foreign.id).status == "pending"
    assert sessions.list_of_user(conn, user_id=owner.id) == []
    assert len(sessions.list_of_user(conn)) == 1
    assert not users.get(conn, email=owner.email).is_whitelisted

    users.set_whitelisted(conn, email=owner.email, is_whitelisted=True)
    assert users.get(conn, email=owner.email).is_whitelisted


def test_a_deleted_user_leaves_the_ledger(conn, storage, owner):
    job = factories.make_job(conn, user=owner, status="completed")
    users.delete(lambda: nullcontext(conn), storage, email=owner.email)
    assert jobs.find(conn, job_id=job.id) is None
    assert submissions.list_of_job(conn, job_id=job.id) == []
    rows = conn.execute("SELECT job_id, user_id, user_email, charged FROM submissions").fetchall()
    assert rows == [(None, None, owner.email, "yes")]
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (0,)


@pytest.mark.parametrize("status", ["submitting", "processing", "storing", "unknown"])
def test_a_user_whose_pictures_are_being_made_is_not_deleted(conn, storage, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    with pytest.raises(Refused, match=r"owner@\S+ still has 1 picture in the making"):
        users.delete(lambda: nullcontext(conn), storage, email=owner.email)
    assert jobs.find(conn, job_id=job.id) == job


def test_losing_the_whitelist_stops_what_is_just_being_sent(conn, owner, other):
    mine, foreign = (
        factories.make_job(conn, user=user, status="submitting") for user in (owner, other)
    )
    users.set_whitelisted(conn, email=owner.email, is_whitelisted=False)
    assert jobs.find(conn, job_id=mine.id).cancel_requested_at is not None
    assert jobs.find(conn, job_id=foreign.id).cancel_requested_at is None
