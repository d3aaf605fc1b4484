"""What was sent and charged, from the ledger: by user, by workflow and by day."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from flask import jsonify, render_template, request
from flask.typing import ResponseReturnValue

from i2i.errors import InvalidFields
from i2i.models import Usage
from i2i.queries import submissions
from i2i.web.admin import bp
from i2i.web.database import connection
from i2i.web.errors import wants_json

USUAL_DAYS = 30
MOST_DAYS = 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One day of the chart, in per cent of its width and height; `failed` stands on `made`."""

    x: float
    width: float
    made: float
    failed: float


@bp.get("/usage")
def usage() -> ResponseReturnValue:
    """Thirty days by default; `from` and `to` are days (UTC), both included."""
    today = datetime.now(UTC).date()
    try:
        first, last = chosen_days(today=today)
    except InvalidFields as error:
        if wants_json():
            raise
        return _page(today - timedelta(days=USUAL_DAYS - 1), today, errors=error.fields), 422
    if wants_json():
        return jsonify(**{"from": str(first), "to": str(last)}, **_as_json(_read(first, last)))
    return _page(first, last)


def chosen_days(*, today: date) -> tuple[date, date]:
    """First and last day as the address names them; InvalidFields when it cannot be so."""
    faults = {}
    last = first = today
    try:
        last = date.fromisoformat(request.args.get("to") or str(today))
    except ValueError:
        faults["to"] = "The last day must be a date, as in 2026-11-23."
    try:
        usual = last - timedelta(days=USUAL_DAYS - 1)
        first = date.fromisoformat(request.args.get("from") or str(usual))
    except (ValueError, OverflowError):
        faults["from"] = "The first day must be a date, as in 2026-11-23."
    if not faults and first > last:
        faults["to"] = "The last day must not be before the first."
    elif not faults and (last - first).days >= MOST_DAYS:
        faults["from"] = f"At most {MOST_DAYS} days at once."
    elif not faults and last == date.max:
        faults["to"] = "The last day is too far away."
    if faults:
        raise InvalidFields(faults)
    return first, last


def _read(first: date, last: date) -> list[Usage]:
    return submissions.sum_usage(
        connection(),
        since=datetime.combine(first, time.min, UTC),
        until=datetime.combine(last + timedelta(days=1), time.min, UTC),
    )


def _as_json(rows: list[Usage]) -> dict[str, Any]:
    def of(kind: str) -> list[dict[str, Any]]:
        found = [asdict(row) for row in rows if row.kind == kind]
        return [{key: each[key] for key in each if key != "kind"} for each in found]

    (total,) = of("total")
    del total["name"]
    return {"total": total, "users": of("user"), "workflows": of("workflow"), "days": of("day")}


def _page(first: date, last: date, *, errors: dict[str, str] | None = None) -> str:
    rows = _read(first, last)
    by_day = {row.name: row for row in rows if row.kind == "day"}
    (total,) = [row for row in rows if row.kind == "total"]
    return render_template(
        "admin/usage.html",
        errors=list((errors or {}).items()),
        first=request.args.get("from") or first.isoformat(),
        last=request.args.get("to") or last.isoformat(),
        ends=(first.isoformat(), last.isoformat()),
        total=total,
        bars=draw(by_day, first=first, last=last),
        groups=[
            ("days", "By day", "Day", sorted(by_day.values(), key=lambda row: row.name)[::-1]),
            ("users", "By user", "User", [row for row in rows if row.kind == "user"]),
            (
                "workflows",
                "By workflow",
                "Workflow",
                [row for row in rows if row.kind == "workflow"],
            ),
        ],
    )


def draw(by_day: dict[str, Usage], *, first: date, last: date) -> list[Bar]:
    """A bar for each day with requests, in the place of its day; the tallest is the highest."""
    count = (last - first).days + 1
    most = max((row.requests for row in by_day.values()), default=1)
    step = 100 / count
    bars = []
    for number in range(count):
        row = by_day.get((first + timedelta(days=number)).isoformat())
        if row is None:
            continue
        bars.append(
            Bar(
                x=round(number * step, 3),
                width=round(step * 0.7, 3),
                made=round((row.requests - row.failed) / most * 100, 3),
                failed=round(row.failed / most * 100, 3),
            )
        )
    return bars
