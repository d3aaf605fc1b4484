"""flask tokens: shown once, kept as a hash, ended for good."""

import json

from factories import make_user

from i2i import passwords


def make(flask, *options):
    return flask(
        "tokens", "create", "anna@example.com", "--name", "studio", *options
    ).stdout.strip()


def test_a_token_is_shown_once_and_kept_as_its_hash(flask, db_conn):
    make_user(db_conn, email="anna@example.com")
    token = make(flask)
    assert token.startswith("i2i_")
    assert len(token) >= 43
    ((stored,),) = db_conn.execute("SELECT token_hash FROM tokens").fetchall()
    assert stored == passwords.hash_token(token)
    (row,) = json.loads(flask("tokens", "list", "--json").stdout)
    assert row["email"] == "anna@example.com"
    assert row["name"] == "studio"
    assert row["last_used_at"] is None
    assert token not in flask("tokens", "list").stdout
    assert not {"token", "token_hash"} & row.keys()


def test_a_token_is_revoked_once(flask, db_conn):
    make_user(db_conn, email="anna@example.com")
    make(flask, "--days", "30")
    (row,) = json.loads(flask("tokens", "list", "--user", "anna@example.com", "--json").stdout)
    assert row["expires_at"] is not None
    assert flask("tokens", "revoke", row["id"]).stdout == "The token is revoked.\n"
    assert "revoked" in flask("tokens", "list").stdout
    again = flask("tokens", "revoke", row["id"])
    assert again.exit_code == 1
    assert again.stderr == "i2i: There is no such token, or it is revoked already.\n"


def test_what_cannot_be_made(flask, db_conn):
    nobody = flask("tokens", "create", "nobody@example.com", "--name", "x")
    assert (nobody.exit_code, nobody.stderr) == (1, "i2i: There is no user nobody@example.com.\n")
    make_user(db_conn, email="anna@example.com")
    unnamed = flask("tokens", "create", "anna@example.com", "--name", "  ")
    assert unnamed.exit_code == 1
    assert db_conn.execute("SELECT count(*) FROM tokens").fetchone() == (0,)
