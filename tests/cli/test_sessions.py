"""flask sessions: who is signed in."""

import json

from factories import make_user

from i2i import passwords
from i2i.queries import sessions


def sign_in(connection, user, *, browser):
    sessions.create(
        connection,
        token_hash=passwords.hash_token(browser),
        user_id=user.id,
        user_agent=browser,
        ip_address="127.0.0.1",
    )


def test_list_shows_browsers_and_never_tokens(flask, db_conn):
    sign_in(db_conn, make_user(db_conn, email="anna@example.com"), browser="Firefox\x1b[31m")
    text = flask("sessions", "list").stdout
    assert "anna@example.com" in text
    assert "Firefox?[31m" in text
    (found,) = json.loads(flask("sessions", "list", "--json").stdout)
    assert found["email"] == "anna@example.com"
    assert not {"token", "token_hash"} & found.keys()


def test_revoke_signs_one_user_out(flask, db_conn):
    anna, other = make_user(db_conn, email="anna@example.com"), make_user(db_conn)
    for number in range(2):
        sign_in(db_conn, anna, browser=f"anna's {number}")
    sign_in(db_conn, other, browser="other's")

    result = flask("sessions", "revoke", "anna@example.com")

    assert result.stdout == "anna@example.com is signed out (2 sessions).\n"
    left = sessions.list_of_user(db_conn)
    assert [session.user_id for session in left] == [other.id]


def test_revoke_of_nobody_is_one_line(flask):
    result = flask("sessions", "revoke", "nobody@example.com")
    assert (result.exit_code, result.stderr) == (1, "i2i: There is no user nobody@example.com.\n")
