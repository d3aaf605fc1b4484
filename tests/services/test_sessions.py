"""Signing in: who may, how often, and for how long."""

from concurrent.futures import ThreadPoolExecutor

import factories
import psycopg
import pytest
from house import wait_until

from i2i import passwords
from i2i.errors import InvalidFields, NotFound, TooManyTries, WrongCredentials
from i2i.queries import sessions as queries
from i2i.services import sessions, users


@pytest.fixture
def sign_in(conn, settings):
    def attempt(email, password=factories.PASSWORD, ip_address="192.0.2.1"):
        return sessions.sign_in(
            conn,
            settings,
            email=email,
            password=password,
            ip_address=ip_address,
            user_agent="Firefox " * 100,
        )

    return attempt


def current(conn, token):
    return queries.current(conn, token_hash=passwords.hash_token(token))


def test_a_session(conn, sign_in, owner):
    token = sign_in(" OWNER@example.com ")
    user = current(conn, token)
    assert (user.id, user.email, user.role) == (owner.id, owner.email, "user")
    (listed,) = queries.list_of_user(conn, user_id=owner.id)
    assert (listed.id, listed.ip_address) == (user.session_id, "192.0.2.1")
    assert len(listed.user_agent) == 300
    assert sign_in(owner.email) != token
    assert current(conn, token + "x") is None


def test_every_wrong_pair_gets_the_same_answer(sign_in, owner, stranger):
    answers = set()
    for email, password in [
        (owner.email, "not the password at all"),
        ("nobody@example.com", factories.PASSWORD),
        (stranger.email, factories.PASSWORD),
        ("", ""),
        (owner.email, "x" * 5000),
    ]:
        with pytest.raises(WrongCredentials) as refused:
            sign_in(email, password)
        answers.add(str(refused.value))
    assert len(answers) == 1


@pytest.mark.parametrize("email", ["owner\0@example.com", "\ud800@example.com", "x" * 100_000])
def test_what_cannot_be_an_address_is_a_wrong_pair(sign_in, email):
    with pytest.raises(WrongCredentials):
        sign_in(email)


def test_an_account_allows_ten_wrong_tries(sign_in, owner):
    for number in range(10):
        with pytest.raises(WrongCredentials):
            sign_in("Owner@example.com", "not the password at all", f"192.0.2.{number}")
    with pytest.raises(TooManyTries) as refused:
        sign_in(owner.email, ip_address="192.0.2.99")
    assert 25 <= refused.value.retry_after <= 30


def test_an_address_allows_ten_wrong_tries(sign_in, owner):
    for number in range(10):
        with pytest.raises(WrongCredentials):
            sign_in(f"nobody{number}@example.com")
    with pytest.raises(TooManyTries):
        sign_in(owner.email)
    assert sign_in(owner.email, ip_address="192.0.2.2")


def test_what_succeeds_does_not_count(conn, sign_in, owner):
    for _ in range(30):
        sign_in(owner.email)
    assert len(queries.list_of_user(conn, user_id=owner.id)) == 30


def test_waiting_gives_tries_back(conn, sign_in, owner):
    for _ in range(10):
        with pytest.raises(WrongCredentials):
            sign_in(owner.email, "not the password at all")
    conn.execute("UPDATE rate_limits SET full_at = full_at - interval '31 seconds'")
    assert sign_in(owner.email)


@pytest.mark.parametrize(
    ("column", "age", "good"),
    [
        ("last_seen_at", "23 hours 59 minutes", True),
        ("last_seen_at", "24 hours", False),
        ("created_at", "13 days 23 hours", True),
        ("created_at", "14 days", False),
    ],
)
def test_sessions_end(conn, sign_in, owner, column, age, good):
    token = sign_in(owner.email)
    conn.execute(f"UPDATE sessions SET {column} = now() - %s::interval", [age])
    assert (current(conn, token) is not None) == good
    assert len(queries.list_of_user(conn)) == good
    sign_in(owner.email)
    assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (1 + good,), "swept"


def test_looking_keeps_a_session_awake_once_a_minute(conn, sign_in, owner):
    session_id = current(conn, sign_in(owner.email)).session_id
    assert queries.touch(conn, session_id=session_id) == 0
    conn.execute("UPDATE sessions SET last_seen_at = now() - interval '2 minutes'")
    assert queries.touch(conn, session_id=session_id) == 1
    assert queries.touch(conn, session_id=session_id) == 0


def test_who_is_no_longer_whitelisted_is_signed_out(conn, sign_in, owner):
    token = sign_in(owner.email)
    users.set_whitelisted(conn, email=owner.email, is_whitelisted=False)
    assert current(conn, token) is None


def test_a_session_is_ended_by_its_own_user_only(conn, sign_in, owner, other):
    token = sign_in(owner.email)
    session_id = current(conn, token).session_id
    assert queries.delete(conn, session_id=session_id, user_id=other.id) == 0
    assert queries.delete(conn, session_id=session_id, user_id=owner.id) == 1
    assert current(conn, token) is None


# --- Another password -------------------------------------------------------------------------

NEW = "a much better battery staple"


def change(conn, settings, user, current=factories.PASSWORD, password=NEW):
    return sessions.change_password(
        conn, settings, user=user, current=current, password=password, ip_address="192.0.2.1"
    )


def test_another_password_ends_the_other_sessions_and_gives_this_one_a_new_token(
    conn, settings, sign_in, owner
):
    here, there = sign_in(owner.email), sign_in(owner.email)
    before = current(conn, here)
    token = change(conn, settings, before)
    assert current(conn, token).session_id == before.session_id
    assert (current(conn, here), current(conn, there)) == (None, None)
    with pytest.raises(WrongCredentials):
        sign_in(owner.email)
    assert sign_in(owner.email, NEW)


def test_a_session_that_ended_meanwhile_changes_no_password(conn, settings, sign_in, owner):
    user = current(conn, sign_in(owner.email))
    sessions.revoke_all(conn, email=owner.email)
    with pytest.raises(NotFound):
        change(conn, settings, user)
    assert sign_in(owner.email)


def test_no_session_begins_with_a_password_that_is_just_changed(database, settings):
    """The sign-in has checked the old one when the change commits."""
    with (
        psycopg.connect(database, autocommit=True) as browser,
        psycopg.connect(database, autocommit=True) as admin,
        psycopg.connect(database, autocommit=True) as watching,
        ThreadPoolExecutor() as threads,
    ):
        owner = factories.make_user(admin)
        with admin.transaction():
            users.set_password(admin, settings, user_id=owner.id, password=NEW)
            signing_in = threads.submit(
                sessions.sign_in,
                browser,
                settings,
                email=owner.email,
                password=factories.PASSWORD,
                ip_address="192.0.2.1",
                user_agent="",
            )
            waits = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"
            wait_until(
                lambda: watching.execute(waits, [browser.info.backend_pid]).rowcount,
                what="the sign-in waits for the change",
            )
        with pytest.raises(WrongCredentials):
            signing_in.result()
        assert queries.list_of_user(watching, user_id=owner.id) == []


def test_wrong_current_passwords_are_wrong_tries_at_signing_in(conn, settings, sign_in, owner):
    user = current(conn, sign_in(owner.email))
    for _ in range(10):
        with pytest.raises(InvalidFields) as refused:
            change(conn, settings, user, current="not the current one")
        assert refused.value.fields == {"current": "This is not your current password."}
    with pytest.raises(TooManyTries):
        change(conn, settings, user)
    with pytest.raises(TooManyTries):
        sign_in(owner.email, ip_address="192.0.2.2")


def test_a_new_password_that_does_not_do_uses_no_try_up(conn, settings, sign_in, owner):
    user = current(conn, sign_in(owner.email))
    for _ in range(11):
        with pytest.raises(InvalidFields) as refused:
            change(conn, settings, user, password="passwordpassword")
        assert refused.value.fields.keys() == {"password"}


def test_ipv6_addresses_count_by_their_network(sign_in, owner):
    for number in range(10):
        with pytest.raises(WrongCredentials):
            sign_in(f"nobody{number}@example.com", ip_address=f"2001:db8:1:2::{number}")
    with pytest.raises(TooManyTries):
        sign_in(owner.email, ip_address="2001:db8:1:2:ffff::1")
    assert sign_in(owner.email, ip_address="2001:db8:1:3::1")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_what_an_address_counts_as(address, network):
    assert sessions._network(address) == network


def test_a_browser_that_signs_in_again_leaves_its_former_session(conn, settings, sign_in, owner):
    former, elsewhere = sign_in(owner.email), sign_in(owner.email)
    token = sessions.sign_in(
        conn,
        settings,
        email=owner.email,
        password=factories.PASSWORD,
        ip_address="192.0.2.1",
        user_agent="",
        former_token=former,
    )
    assert current(conn, former) is None
    assert current(conn, elsewhere)
    assert current(conn, token)


# --- Generated passwords ----------------------------------------------------------------------


@pytest.fixture
def given(conn, settings, owner):
    password = passwords.make_password()
    users.set_password(conn, settings, user_id=owner.id, password=password, is_generated=True)
    return password


def test_a_generated_password_works_for_a_day(conn, sign_in, owner, given):
    token = sign_in(owner.email, given)
    user = current(conn, token)
    assert user.password_expires_at is not None
    conn.execute("UPDATE users SET password_expires_at = password_expires_at - interval '24 hours'")
    assert current(conn, token) is None
    assert queries.list_of_user(conn, user_id=owner.id) == []
    with pytest.raises(WrongCredentials):
        sign_in(owner.email, given)


def test_choosing_a_password_of_ones_own(conn, settings, sign_in, owner, given):
    before, elsewhere = sign_in(owner.email, given), sign_in(owner.email, given)
    user = current(conn, before)
    for refused, why in ((given, "you were given"), ("too short", "15 characters")):
        with pytest.raises(InvalidFields, match=why):
            sessions.choose_password(conn, settings, user=user, password=refused)
    token = sessions.choose_password(conn, settings, user=user, password=NEW)
    assert current(conn, token).password_expires_at is None
    assert (current(conn, before), current(conn, elsewhere)) == (None, None)
    assert sign_in(owner.email, NEW)
    with pytest.raises(WrongCredentials):
        sign_in(owner.email, given)


def test_a_limiter_that_cannot_count_lets_nobody_try(database, settings):
    with (
        psycopg.connect(database, autocommit=True) as conn,
        psycopg.connect(database) as maintenance,
    ):
        owner = factories.make_user(conn)
        maintenance.execute("LOCK TABLE rate_limits")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            sessions.sign_in(
                conn,
                settings,
                email=owner.email,
                password=factories.PASSWORD,
                ip_address="192.0.2.1",
                user_agent="",
            )
        assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
        assert conn.execute("SHOW lock_timeout").fetchone() == ("0",), "as before"
