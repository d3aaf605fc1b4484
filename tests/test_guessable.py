"""Guessable passwords: what is refused and, as important, what is not."""

import random

import pytest

from i2i import guessable, passwords

GUESSABLE = [
    "passwordpassword",
    "password1234567",
    "P@ssw0rd-P@ssw0rd",
    "p.a.s.s.w.o.r.d.1",
    "drowssapdrowssap",
    "qwertyuiop123456",
    "asdfghjklzxcvbnm",
    "poiuytrewq098765",
    "1qaz2wsx3edc4rfv",
    "zaq12wsxcde34rfv",
    "1q2w3e4r5t6y7u8i",
    "qwertzuiopasdfgh",
    "azertyuiopqsdfg",
    "!@#$%^&*()_+!@#",
    "qweasdzxcqweasd",
    "aaaaaaaaaaaaaaa",
    "111111111111111",
    "123456789012345",
    "987654321987654",
    "abcdefghijklmno",
    "a1b2c3d4e5f6g7h8",
    "abcabcabcabcabc",
    "!!!!!!!!!!!!!!!",
    "111222333444555",
    "kx7kx7kx7kx7kx7",
    "iloveyouiloveyou",
    "letmeinletmein1",
    "Summer2025Winter2026",
    "administrator123",
    "monkeydragon1234",
    "correct-horse-battery-staple",
    "Pássword.Pássword",
    "unbelievable1234567890",
]

FINE = [
    "fifteen letters",
    "only lower case and spaces",
    "a long enough password",
    "another long password",
    "a kettle sings before dawn",
    "mia isst gern kuchen",
    "я люблю печенье",
    "パスワードではない長い言葉です",
    "\N{GRINNING FACE}" * 64,
    "}{|~)(*&^%$#@!?<",
    "834150927461035",
    "sdkfjhwerqpznvb",
]

NAMES = ["margarethe.k@fashionhouse.example", "studio.brandname.test"]


@pytest.mark.parametrize("password", GUESSABLE)
def test_what_others_try_first(password):
    assert "among the first that others try" in guessable.problem(password)


@pytest.mark.parametrize("password", FINE)
def test_what_may_be_chosen(password):
    assert guessable.problem(password, names=NAMES) is None


@pytest.mark.parametrize("password", sorted(word for word in guessable.common() if len(word) >= 15))
def test_the_long_ones_of_the_list(password):
    assert guessable.problem(password)
    assert guessable.problem(password.upper() + "1")


@pytest.mark.parametrize(
    "password",
    [
        *("margarethe12345", "Margarethe8402917", "fashionhouse!2026!", "2026 studio brandname"),
        *("margarethe.k@fashionhouse.example", "studio.brandname.test1", "i2i.i2i.i2i.2026"),
    ],
)
def test_names_of_the_place_are_no_secret(password):
    assert guessable.problem(password, names=NAMES)


def test_only_where_they_are_the_names():
    assert guessable.problem("Margarethe8402917") is None
    assert "your e-mail address" in guessable.problem("Margarethe8402917", names=NAMES)
    assert guessable.problem("margarethe likes odd teapots", names=NAMES) is None


def test_generated_passwords_always_pass():
    assert not any(guessable.problem(passwords.make_password()) for _ in range(50))


def test_random_letters_and_digits_always_pass():
    source = random.Random(7)
    for alphabet in ("abcdefghijklmnopqrstuvwxyz", "0123456789"):
        made = ("".join(source.choices(alphabet, k=15)) for _ in range(100))
        assert [each for each in made if guessable.problem(each, names=NAMES)] == []


def test_the_longest_password_is_judged_too():
    assert guessable.problem("qwert" * 204 + "qwer")
    assert guessable.problem("".join(map(chr, range(0x4E00, 0x4E00 + 1024)))) is None
