"""What was sent and charged, from the ledger."""

from datetime import UTC, datetime, timedelta

import factories
import pages
import pytest

from i2i.queries import submissions
from i2i.web.admin.usage import draw


def request_of(conn, user, *, day, status="completed", cost="0.04"):
    """A request that left on this day (UTC, at its last second), and what it cost."""
    job = factories.make_job(conn, user=user, status=status)
    conn.execute(
        "UPDATE submissions SET sent_at = %s, estimate = %s WHERE job_id = %s",
        [f"{day}T23:59:59Z", cost, job.id],
    )
    return job


@pytest.fixture
def spent(conn, owner, other):
    request_of(conn, owner, day="2026-03-01")
    request_of(conn, owner, day="2026-03-01", status="failed")
    request_of(conn, owner, day="2026-03-03", status="unknown")
    request_of(conn, other, day="2026-03-03", cost="0.10")
    request_of(conn, other, day="2026-03-04")


def read(browser, first="2026-03-01", last="2026-03-03"):
    answer = browser.json(f"/admin/usage?from={first}&to={last}")
    assert answer.status_code == 200
    return answer.json


def test_the_ledger_by_user_workflow_and_day(as_admin, spent, owner, other):
    found = read(as_admin)
    assert found["total"] == {
        "requests": 4,
        "pictures": 2,
        "failed": 2,
        "charged": "0.1400",
        "unclear": 1,
        "perhaps": "0.0400",
    }
    users = {row["name"]: (row["requests"], row["charged"]) for row in found["users"]}
    assert users == {owner.email: (3, "0.0400"), other.email: (1, "0.1000")}
    assert [(row["name"], row["requests"]) for row in found["workflows"]] == [("basic-v1", 4)]
    days = {row["name"]: (row["requests"], row["failed"]) for row in found["days"]}
    assert days == {"2026-03-01": (2, 1), "2026-03-03": (2, 1)}


def test_the_sums_of_each_table_are_the_total(as_admin, spent):
    found = read(as_admin, last="2026-03-31")
    assert found["total"]["requests"] == 5
    for table in ("users", "workflows", "days"):
        for column in ("requests", "pictures", "failed", "unclear"):
            assert sum(row[column] for row in found[table]) == found["total"][column]


def test_the_page_says_what_json_says(as_admin, spent, other):
    page = pages.check(as_admin.get("/admin/usage?from=2026-03-01&to=2026-03-03"))
    assert (
        "4 requests, 2 pictures, 2 failed. $0.14 charged, perhaps $0.04 more (1 request)."
        in page.text
    )
    rows = {row.text for row in page.all("tr")}
    assert f"{other.email} 1 1 0 $0.10 –" in rows
    assert "2026-03-03 2 1 1 $0.10 $0.04" in rows
    assert sum(row.startswith("In all 4 2 2 $0.14") for row in rows) == 1
    assert len(page.all("rect", class_="bar-made")) == 2
    assert page.one("input", name="from")["value"] == "2026-03-01"


def test_a_user_who_is_gone_is_still_in_the_books(as_admin, conn, spent, owner):
    conn.execute("DELETE FROM users WHERE id = %s", [owner.id])
    assert {row["name"] for row in read(as_admin)["users"]} >= {owner.email}


def test_thirty_days_by_default_and_nothing_is_an_answer(as_admin, spent):
    found = as_admin.json("/admin/usage").json
    today = datetime.now(UTC).date()
    assert found["to"] in {str(today), str(today - timedelta(days=1))}
    span = datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"])
    assert span == timedelta(days=29)
    page = pages.check(as_admin.get("/admin/usage?from=2001-01-01&to=2001-01-02"))
    assert "0 requests, 0 pictures, 0 failed. $0.00 charged." in page.text
    assert page.text.count("Nothing was sent in these days.") == 3
    assert page.all("svg", class_="bars") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("to=0001-01-01", "from"),
        ("to=9999-12-31&from=9999-12-01", "to"),
        ("from=2026-03-02&to=2026-03-01", "to"),
        ("from=2024-01-01&to=2026-01-01", "from"),
    ],
)
def test_days_that_cannot_be_are_explained_and_kept(as_admin, query, field):
    answer = as_admin.get(f"/admin/usage?{query}")
    assert answer.status_code == 422
    page = pages.check(answer)
    typed = dict(part.split("=") for part in query.split("&"))
    for name, value in typed.items():
        assert page.one("input", name=name)["value"] == value
    assert page.one("input", name=field).get("aria-invalid") == "true"
    assert as_admin.json(f"/admin/usage?{query}").status_code == 422


def test_the_bars_stand_on_their_days_and_fill_the_height(as_admin, conn, spent):
    start = datetime(2026, 3, 1, tzinfo=UTC)
    rows = submissions.sum_usage(conn, since=start, until=start + timedelta(days=4))
    days = {row.name: row for row in rows if row.kind == "day"}
    bars = draw(days, first=start.date(), last=start.date() + timedelta(days=3))
    assert [(bar.x, bar.made, bar.failed) for bar in bars] == [
        (0, 50, 50),
        (50, 50, 50),
        (75, 50, 0),
    ]
