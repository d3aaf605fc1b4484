"""The docket: what an order will make, cost and take, before anybody clicks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from i2i import forms
from i2i.config import Settings
from i2i.errors import plural
from i2i.forms import Definition
from i2i.models import Image
from i2i.services import limits
from i2i.web.words import money, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Docket:
    """The sum, its button, and what else should be known. Money in US dollars; None is unknown.

    `each` is None too where the photos differ in price. `first`: the pictures of a pilot, else 0;
    `first_total`: what these cost.
    `words`: the settings in passing. `warning` says why a click would be refused.
    """

    photos: int
    variations: int
    pictures: int
    first: int
    each: Decimal | None
    each_words: str
    total: Decimal | None
    first_total: Decimal | None
    button: str
    sentence: str
    words: str
    notes: Sequence[str]
    warning: str


def build(
    definition: Definition,
    parameters: Mapping[str, Any],
    *,
    photos: Sequence[Image],
    variations: int,
    pilot: int,
    usual: float | None,
    left: int,
    settings: Settings,
) -> Docket:
    """Add it up. `usual`: the median seconds of a picture; `left`: as many may be made today."""
    prices = [
        forms.estimate(definition, parameters=parameters, width=photo.width, height=photo.height)
        for photo in photos
    ]
    pictures = len(photos) * variations
    total = _sum(prices, variations=variations)
    first = pilot * variations if 0 < pilot < len(photos) else 0
    about = "price unknown" if total is None else f"about {money(total)}"
    notes = [_time(pictures, usual=usual, settings=settings)]
    if rest := first and pictures - first:
        waits = "waits" if rest == 1 else "wait"
        notes.append(f"{plural(rest, 'picture')} {waits} for your answer after the first {first}.")
    return Docket(
        photos=len(photos),
        variations=variations,
        pictures=pictures,
        first=first,
        each=prices[0] if len(set(prices)) == 1 else None,
        each_words=_each(prices),
        total=total,
        first_total=_sum(prices[:pilot], variations=variations) if first else None,
        button=f"Make {'the first ' if first else ''}{plural(first or pictures, 'picture')}",
        sentence=f"{plural(len(photos), 'photo')} × {variations} = "
        f"{plural(pictures, 'picture')}, {about}.",
        words=forms.in_words(definition.parameter_schema, parameters, most=4),
        notes=notes,
        warning=_warning(pictures, left=left, most=settings.max_jobs_per_batch),
    )


def _sum(prices: Sequence[Decimal | None], *, variations: int) -> Decimal | None:
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) * variations if len(known) == len(prices) else None


def _each(prices: Sequence[Decimal | None]) -> str:
    """As in "× $0.04", or "$0.03 to $0.12" where larger photos cost more."""
    known = [price for price in prices if price is not None]
    if not known or len(known) < len(prices):
        return money(None)
    if min(known) == max(known):
        return f"× {money(known[0])}"
    return f"{money(min(known))} to {money(max(known))}"


def _time(pictures: int, *, usual: float | None, settings: Settings) -> str:
    """As in "Usually 40 s each, about 3 min in all."; several are made at once."""
    if not usual:
        return "How long it takes: no data yet."
    at_once = min(settings.max_in_flight, settings.max_in_flight_per_user or pictures or 1)
    rounds = math.ceil(pictures / at_once)
    if pictures < 2:
        return f"Usually {seconds(usual)}."
    return f"Usually {seconds(usual)} each, about {seconds(rounds * usual)} in all."


def _warning(pictures: int, *, left: int, most: int) -> str:
    if pictures > most:
        return f"{pictures:,} pictures are more than the {most:,} that one batch may have."
    if pictures > left:
        way_out = "Choose fewer, or go" if left > 0 else "Go"
        return f"{limits.in_words(left)} {way_out} on tomorrow (UTC)."
    return ""
