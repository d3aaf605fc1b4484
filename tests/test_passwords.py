"""Passwords: what is stored, what is refused, and that nobody costs as much as somebody."""

import unicodedata

import pytest

from i2i import passwords
from i2i.errors import TooBusy

LONG = "a password of many words, " * 6


def test_only_the_same_password_fits():
    stored = passwords.hash_password("correct horse battery", rounds=4)
    assert stored.startswith("$2b$04$")
    assert passwords.verify_password("correct horse battery", stored, rounds=4)
    assert not passwords.verify_password("correct horse batterz", stored, rounds=4)
    assert stored != passwords.hash_password("correct horse battery", rounds=4)


def test_every_character_of_a_long_password_counts():
    stored = passwords.hash_password(LONG + "x", rounds=4)
    assert passwords.verify_password(LONG + "x", stored, rounds=4)
    assert not passwords.verify_password(LONG + "y", stored, rounds=4)


def test_a_null_character_does_not_end_a_password():
    stored = passwords.hash_password("fifteen letters\0 and more", rounds=4)
    assert not passwords.verify_password("fifteen letters\0 or less", stored, rounds=4)


def test_two_ways_of_typing_an_accent_are_the_same():
    stored = passwords.hash_password("café au lait, deux", rounds=4)
    typed = unicodedata.normalize("NFD", "café au lait, deux")
    assert passwords.verify_password(typed, stored, rounds=4)


@pytest.mark.parametrize(
    ("password", "bound"),
    [("", "15 characters or more"), ("x" * 14, "15 characters or more"), ("x" * 1025, "1,024")],
)
def test_too_short_and_too_long_are_refused(password, bound):
    assert bound in passwords.problem(password)


@pytest.mark.parametrize("password", ["x" * 15, "x" * 1024, " " * 15, "\N{GRINNING FACE}" * 64])
def test_length_is_counted_in_characters(password):
    assert passwords.problem(password) is None


def test_a_full_line_is_turned_away_at_once_and_moves_on():
    stored = passwords.hash_password("correct horse battery", rounds=4)
    with passwords._turn():
        for _ in range(2):  # who waits
            passwords._IN_LINE.acquire()
        with pytest.raises(TooBusy):
            passwords.verify_password("correct horse battery", stored, rounds=4)
        passwords._IN_LINE.release(2)
    assert passwords.verify_password("correct horse battery", stored, rounds=4)


def test_a_lone_surrogate_is_a_character_like_others():
    stored = passwords.hash_password("\ud800 is no character", rounds=4)
    assert passwords.verify_password("\ud800 is no character", stored, rounds=4)


def test_nobody_has_no_password():
    for password in ("correct horse battery", "", "x" * 2000):
        assert not passwords.verify_password(password, None, rounds=4)


def test_the_dummy_costs_what_a_real_one_costs():
    assert passwords._dummy_hash(4).split("$")[2] == "04"
    assert passwords._dummy_hash(5).split("$")[2] == "05"


def test_made_passwords_are_long_and_readable():
    made = {passwords.make_password() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert len(password) == 20
        assert not set(password) & set("lI1O0B8S5")
    passwords.hash_password(made.pop(), rounds=4)


def test_only_a_digest_of_a_token_is_kept():
    assert len(passwords.hash_token("token")) == 32
    assert passwords.hash_token("token") != passwords.hash_token("Token")
