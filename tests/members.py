"""Accounts of the running stack, made as rows with a quick hash: a sign-in of theirs costs no time."""

import psycopg

from i2i import passwords
from i2i.queries import users

PASSWORD = "a lantern on the east pier"
OTHER = "seven herons cross a meadow"


def make_member(stack, email, *, password=PASSWORD):
    """Their address."""
    with psycopg.connect(stack.house.database, autocommit=True) as conn:
        users.create(
            conn,
            email=email,
            password_hash=passwords.hash_password(password, rounds=4),
            is_whitelisted=True,
            role="user",
        )
    return email


def sign_in(client, email, password=PASSWORD, **headers):
    return client.request(
        "POST", "/login", fields={"email": email, "password": password}, headers=headers
    )


def change(client, password, *, current=PASSWORD):
    fields = {"current_password": current, "new_password": password}
    return client.request("POST", "/account", fields=fields)


def is_in(client):
    status = client.request("GET", "/jobs").status
    assert status in {200, 401}
    return status == 200
