"""flask users: accounts, passwords of 15 characters, and a ledger that outlives its user."""

import json

import pytest
from factories import make_image, make_job, make_user

from i2i.passwords import verify_password
from i2i.queries import users

LONG = "fifteen letters"


def password_of(connection, email):
    return users.find_by_email(connection, email=email).password_hash


def test_create_prints_a_password_that_works(flask, db_conn):
    result = flask("users", "create", "anna@example.com")
    assert (result.exit_code, result.stderr) == (0, "")
    password = result.stdout.splitlines()[-1].removeprefix("Password, shown only now: ")
    assert len(password) == 20
    assert verify_password(password, password_of(db_conn, "anna@example.com"), rounds=4)
    user = users.find_by_email(db_conn, email="anna@example.com")
    assert (user.role, user.is_whitelisted) == ("user", True)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_from_standard_input_is_not_printed(flask, db_conn, ending):
    result = flask(
        "users", "create", "a@example.com", "--admin", "--password-stdin", stdin=LONG + ending
    )
    assert result.exit_code == 0, result.output
    assert LONG not in result.output
    assert verify_password(LONG, password_of(db_conn, "a@example.com"), rounds=4)
    assert users.find_by_email(db_conn, email="a@example.com").role == "admin"


@pytest.mark.parametrize("command", ["create", "set-password"])
def test_fourteen_characters_are_too_few_at_every_door(flask, db_conn, command):
    make_user(db_conn, email="old@example.com")
    email = "new@example.com" if command == "create" else "old@example.com"
    result = flask("users", command, email, "--password-stdin", stdin="fourteen chars\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "i2i: Choose a password of 15 characters or more.\n"


def test_one_account_an_address_in_any_case(flask):
    assert flask("users", "create", "anna@example.com").exit_code == 0
    result = flask("users", "create", "Anna@Example.com")
    assert result.exit_code == 1
    assert result.stderr == "i2i: There is a user Anna@Example.com already.\n"


def test_what_is_no_address_is_refused(flask):
    result = flask("users", "create", "anna")
    assert (result.exit_code, result.stderr) == (1, "i2i: 'anna' is not an e-mail address.\n")


def test_list_shows_columns_and_json(flask, db_conn):
    anna = make_user(db_conn, email="anna@example.com", role="admin")
    make_image(db_conn, user=anna)
    make_job(db_conn, user=anna, status="completed")
    flask("users", "create", "bob@example.com", "--no-whitelist")

    lines = flask("users", "list").stdout.splitlines()
    assert lines[0].split()[:3] == ["EMAIL", "ROLE", "WHITELISTED"]
    assert lines[1].split()[:3] == ["anna@example.com", "admin", "yes"]
    assert lines[2].split()[:3] == ["bob@example.com", "user", "no"]

    found = json.loads(flask("users", "list", "--json").stdout)
    assert [each["email"] for each in found] == ["anna@example.com", "bob@example.com"]
    assert found[0]["id"] == str(anna.id)
    assert found[0]["is_active"] is found[0]["is_whitelisted"] is True
    assert found[1]["is_active"] is False
    assert (found[0]["uploads"], found[0]["pictures"], found[0]["jobs"]) == (2, 1, 1)
    assert isinstance(found[0]["charged"], float)
    assert "password_hash" not in found[0]


def test_list_tells_whose_password_it_is(flask, db_conn):
    flask("users", "create", "anna@example.com", "--password-stdin", stdin=LONG)
    flask("users", "create", "bob@example.com")
    flask("users", "create", "eve@example.com")
    db_conn.execute("UPDATE users SET password_expires_at = now() WHERE email LIKE 'eve%'")

    lines = flask("users", "list").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["PASSWORD", "own", "given", "expired"]

    found = json.loads(flask("users", "list", "--json").stdout)
    assert [each["password_expired"] for each in found] == [False, False, True]
    assert found[0]["password_expires_at"] is None

    flask("users", "set-password", "eve@example.com", "--password-stdin", stdin=LONG)
    assert flask("users", "list").stdout.splitlines()[-1].split()[-1] == "own"


@pytest.mark.parametrize("command", ["create", "set-password"])
def test_guessable_passwords_are_refused_at_every_door(flask, db_conn, command):
    make_user(db_conn, email="old@example.com")
    email = "new@example.com" if command == "create" else "old@example.com"
    result = flask("users", command, email, "--password-stdin", stdin="qwertyuiop123456\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "among the first that others try" in result.stderr


def test_out_of_the_whitelist_ends_sessions_and_waiting_pictures(flask, db_conn):
    user = make_user(db_conn, email="anna@example.com")
    job = make_job(db_conn, user=user)
    add_session(db_conn, user)

    assert flask("users", "unwhitelist", "anna@example.com").exit_code == 0

    assert not users.find(db_conn, user_id=user.id).is_whitelisted
    assert db_conn.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    status = db_conn.execute("SELECT status FROM processing_jobs WHERE id = %s", [job.id])
    assert status.fetchone() == ("cancelled",)
    assert flask("users", "whitelist", "Anna@example.com").exit_code == 0
    assert users.find(db_conn, user_id=user.id).is_whitelisted


def add_session(connection, user):
    connection.execute(
        "INSERT INTO sessions (token_hash, user_id, user_agent, ip_address)"
        " VALUES (sha256(gen_random_uuid()::text::bytea), %s, 'Firefox', '127.0.0.1')",
        [user.id],
    )


def test_set_password_signs_out_everywhere(flask, db_conn):
    user = make_user(db_conn, email="anna@example.com")
    add_session(db_conn, user)
    result = flask("users", "set-password", "anna@example.com", "--password-stdin", stdin=LONG)
    assert result.exit_code == 0
    assert verify_password(LONG, password_of(db_conn, "anna@example.com"), rounds=4)
    assert db_conn.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    printed = flask("users", "set-password", "anna@example.com").stdout.splitlines()[-1]
    password = printed.removeprefix("Password, shown only now: ")
    assert verify_password(password, password_of(db_conn, "anna@example.com"), rounds=4)


def test_roles(flask, db_conn):
    user = make_user(db_conn, email="anna@example.com")
    assert flask("users", "set-role", "anna@example.com", "admin").exit_code == 0
    assert users.find(db_conn, user_id=user.id).role == "admin"
    assert flask("users", "set-role", "anna@example.com", "king").exit_code == 2


@pytest.mark.parametrize(
    "command",
    [["whitelist"], ["unwhitelist"], ["set-password"], ["delete", "--yes"]],
    ids=lambda command: command[0],
)
def test_nobody_is_one_line(flask, command):
    result = flask("users", command[0], "nobody@example.com", *command[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "i2i: There is no user nobody@example.com.\n"


def test_delete_takes_rows_and_bytes_and_leaves_the_ledger(flask, db_conn, storage):
    anna = make_user(db_conn, email="anna@example.com")
    other = make_user(db_conn, email="other@example.com")
    make_image(db_conn, user=anna, storage=storage, data=b"hers")
    kept = make_image(db_conn, user=other, storage=storage, data=b"his")
    job = make_job(db_conn, user=anna, status="completed")

    refused = flask("users", "delete", "anna@example.com")
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert users.find(db_conn, user_id=anna.id)

    result = flask("users", "delete", "anna@example.com", "--yes")

    assert result.exit_code == 0, result.output
    assert users.find(db_conn, user_id=anna.id) is None
    assert list(storage.keys()) == [kept.blob_url]
    found = db_conn.execute("SELECT user_email, user_id, job_id, state FROM submissions").fetchall()
    assert found == [("anna@example.com", None, None, "settled")]
    jobs = db_conn.execute("SELECT count(*) FROM processing_jobs WHERE id = %s", [job.id])
    assert jobs.fetchone() == (0,)
