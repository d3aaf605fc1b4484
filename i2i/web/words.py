"""Numbers, times and money in the words of the pages: Jinja's filters and globals."""

import zoneinfo
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Flask, g, has_app_context

from i2i import errors
from i2i.web.state import State

CONTINENTS = {
    *("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian"),
    "Pacific",
}
"""The tz database has other names too, which only repeat these."""

plural = errors.plural


def money(amount: Decimal | None) -> str:
    """As in "$0.04"; four decimals only where two would say nothing; None is "price unknown"."""
    if amount is None:
        return "price unknown"
    cents = amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
    shown = amount.quantize(Decimal("0.0001")).normalize() if cents != amount else cents
    if amount >= 1 or cents == amount:
        return f"${cents:,.2f}"
    return f"${shown:f}"


def zone() -> tzinfo:
    """Where the reader's clock hangs; UTC for who has not said, and where nobody reads."""
    user = g.get("user") if has_app_context() else None
    try:
        return ZoneInfo(user.time_zone) if user and user.time_zone else UTC
    except ZoneInfoNotFoundError:  # chosen on a machine that knows more places
        return UTC


def local(moment: datetime) -> datetime:
    """The same instant on the reader's clock."""
    return moment.astimezone(zone())


def time_zones() -> dict[str, list[tuple[str, str]]]:
    """What can be chosen, by continent: (name of the tz database, words as in "Buenos Aires")."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(zoneinfo.available_timezones()):
        continent, _, place = name.partition("/")
        if place and continent in CONTINENTS:
            words = place.replace("_", " ").replace("/", ", ")
            found.setdefault(continent, []).append((name, words))
    return found


def clock(moment: datetime) -> str:
    """As in "14:05", on the reader's clock."""
    return f"{local(moment):%H:%M}"


def day(moment: datetime, *, now: datetime | None = None) -> str:
    """As in "today 14:05", "yesterday 14:05", "14 Nov" or, in other years, "14 Nov 2025".

    What is to come within a day is "tomorrow 14:05".
    """
    moment = local(moment)
    today = local(now or datetime.now(UTC))
    days = (today.date() - moment.date()).days
    if days == 0:
        return f"today {moment:%H:%M}"
    if days == -1:
        return f"tomorrow {moment:%H:%M}"
    if days == 1:
        return f"yesterday {moment:%H:%M}"
    return f"{moment.day} {moment:%b}" + ("" if moment.year == today.year else f" {moment.year}")


def seconds(duration: float) -> str:
    """As in "38 s", "4 min", "2 h"."""
    if duration < 90:
        return f"{max(1, round(duration))} s"
    if duration < 5400:
        return f"{round(duration / 60)} min"
    return f"{round(duration / 3600)} h"


def megabytes(size: int) -> str:
    """As in "3.8 MB", "120 kB", "0 kB" for nothing at all."""
    return (
        f"{size / 1e6:.1f} MB"
        if size >= 1_000_000
        else f"{max(min(size, 1), round(size / 1000))} kB"
    )


def gigabytes(size: int) -> str:
    """As in "6.2 GB", "20 GB"; less than a tenth of one is given in megabytes."""
    return (
        f"{size / 1e9:,.1f} GB".replace(".0 GB", " GB") if size >= 100_000_000 else megabytes(size)
    )


def thousands(number: int) -> str:
    """As in "1,284"."""
    return f"{number:,}"


def ordinal(number: int) -> str:
    """As in "1st", "2nd", "3rd", "4th", "11th"."""
    ending = (
        "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"


def halves(name: str) -> tuple[str, str]:
    """A file name in two parts, of which the first may be shortened; short names have no second.

    "IMG_" and "0042.jpg", but "NF26-016_denim-jacket" and ".jpg": what tells it from others stays.
    """
    if len(name) <= 12:
        return name, ""
    stem, dot, kind = name.rpartition(".")
    if not dot or len(kind) > 4:
        return name[:-4], name[-4:]
    number = stem[-4:] if any(letter.isdigit() for letter in stem[-4:]) else ""
    return name[: len(name) - len(number + dot + kind)], number + dot + kind


def browser(user_agent: str) -> str:
    """As in "Chromium on Linux": enough to recognise one's own places."""
    names = [
        ("Edg", "Edge"),
        ("Firefox", "Firefox"),
        ("Chrom", "Chrome"),
        ("Safari", "Safari"),
        ("curl", "curl"),
    ]
    systems = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]
    name = next((name for mark, name in names if mark in user_agent), "A browser")
    system = next((name for mark, name in systems if mark in user_agent), "")
    return f"{name} on {system}" if system else name


def register(app: Flask) -> None:
    """Make them known to the templates."""
    state: State = app.extensions["i2i"]
    settings = state.settings
    for function in (money, clock, day, seconds, megabytes, gigabytes, thousands, ordinal, halves):
        app.add_template_filter(function)
    shared: dict[str, Any] = {
        "plural": plural,
        "practice": settings.practice,
        "max_upload_mb": settings.max_upload_bytes // 1_000_000,
        "max_megapixels": settings.max_image_pixels // 1_000_000,
        "max_files": settings.max_files_per_upload,
    }
    app.jinja_env.globals.update(shared)
