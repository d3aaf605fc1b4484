"""Numbers, times and money in words."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from flask import g

from i2i.web import words

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "price unknown"),
        ("0", "$0.00"),
        ("0.04", "$0.04"),
        ("0.035", "$0.035"),
        ("0.0350", "$0.035"),
        ("0.0013", "$0.0013"),
        ("0.96", "$0.96"),
        ("0.5", "$0.50"),
        ("1.005", "$1.01"),
        ("12", "$12.00"),
        ("1284.5", "$1,284.50"),
    ],
)
def test_money(amount, shown):
    assert words.money(amount and Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (NOW, "today 00:30"),
        (NOW - timedelta(minutes=30), "today 00:00"),
        (NOW - timedelta(minutes=31), "yesterday 23:59"),
        (NOW - timedelta(days=2), "27 Feb"),
        (NOW - timedelta(days=365), "1 Mar 2025"),
        (NOW.astimezone(timezone(timedelta(hours=-5))), "today 00:30"),
    ],
)
def test_day(moment, shown):
    assert words.day(moment, now=NOW) == shown


@pytest.mark.parametrize(
    ("name", "clock", "day"),
    [
        (None, "00:30", "yesterday 23:30"),
        ("Asia/Tokyo", "09:30", "today 08:30"),
        ("America/New_York", "19:30", "today 18:30"),
        ("Atlantis/Nowhere", "00:30", "yesterday 23:30"),
    ],
)
def test_times_are_shown_on_the_readers_clock(app, name, clock, day):
    with app.app_context():
        g.user = SimpleNamespace(time_zone=name)
        assert words.clock(NOW) == clock
        assert words.day(NOW - timedelta(hours=1), now=NOW) == day


def test_each_place_can_be_chosen_once():
    names = [name for places in words.time_zones().values() for name, _ in places]
    assert {"Europe/Berlin", "America/Argentina/Buenos_Aires"} <= set(names)
    assert len(names) == len(set(names))


def test_clock():
    assert words.clock(NOW.astimezone(timezone(timedelta(hours=9)))) == "00:30"


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        *((0, "1 s"), (0.4, "1 s"), (38.4, "38 s"), (89.4, "89 s"), (90, "2 min")),
        *((240, "4 min"), (5399, "90 min"), (5400, "2 h"), (86400, "24 h")),
    ],
)
def test_seconds(duration, shown):
    assert words.seconds(duration) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *((1, "1 kB"), (120_000, "120 kB"), (999_400, "999 kB"), (1_000_000, "1.0 MB")),
        *((3_800_000, "3.8 MB"), (25_000_000, "25.0 MB")),
    ],
)
def test_megabytes(size, shown):
    assert words.megabytes(size) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *((0, "0 kB"), (99_000_000, "99.0 MB"), (100_000_000, "0.1 GB")),
        *((6_200_000_000, "6.2 GB"), (20_000_000_000, "20 GB"), (1_284_000_000_000, "1,284 GB")),
    ],
)
def test_gigabytes(size, shown):
    assert words.gigabytes(size) == shown


def test_ordinals():
    assert [words.ordinal(number) for number in (1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 103, 111)] == [
        *("1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "22nd"),
        *("103rd", "111th"),
    ]


def test_plurals():
    assert [words.plural(number, "photo") for number in (0, 1, 2, 1284)] == [
        *("0 photos", "1 photo", "2 photos", "1,284 photos"),
    ]
    assert words.thousands(1_284_000) == "1,284,000"


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        ("", "A browser"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36",
            "Chrome on Linux",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/131.0 Safari/537.36 Edg/131.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14) Version/17 Safari/605", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17 like Mac OS X) Safari/604", "Safari on iPhone"),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:130.0) Gecko/130.0 Firefox/130.0",
            "Firefox on Android",
        ),
        ("curl/8.5.0", "curl"),
        ("<script>", "A browser"),
    ],
)
def test_browsers(user_agent, shown):
    assert words.browser(user_agent) == shown


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tee.jpg", ("tee.jpg", "")),
        ("IMG_20260301_0042.jpg", ("IMG_20260301_", "0042.jpg")),
        ("NF26-016_denim-jacket.jpg", ("NF26-016_denim-jacket", ".jpg")),
        ("a name without an end", ("a name without an", " end")),
        ("ends in a dot, here.", ("ends in a dot, here", ".")),
    ],
)
def test_a_name_is_shortened_in_its_middle(name, parts):
    assert words.halves(name) == parts
    assert "".join(parts) == name
