"""What failed or needs a person, of all users."""

import factories
import pages
import pytest

PATH = "/admin/jobs"


@pytest.fixture
def troubled(conn, owner, other):
    """{state: job}: one each, and some that nobody needs to look at."""
    for status in ("completed", "pending", "cancelled"):
        factories.make_job(conn, user=owner, status=status)
    made = {
        "failed": factories.make_job(conn, user=owner, status="failed"),
        "unknown": factories.make_job(conn, user=other, status="unknown"),
        "storing": factories.make_job(conn, user=other, status="storing"),
    }
    conn.execute(
        "UPDATE processing_jobs SET attention = 'The disk is full.' WHERE status = 'storing'"
    )
    return made


@pytest.mark.parametrize(
    ("show", "states"),
    [
        ("", {"failed", "unknown", "storing"}),
        ("failed", {"failed"}),
        ("open", {"unknown", "storing"}),
    ],
)
def test_what_is_listed(as_admin, troubled, show, states):
    found = as_admin.json(f"{PATH}?show={show}").json["jobs"]
    assert {each["id"] for each in found} == {str(troubled[state].id) for state in states}
    page = pages.check(as_admin.get(f"{PATH}?show={show}"))
    for job in troubled.values():
        assert (str(job.id) in page.text) is (str(job.id) in {each["id"] for each in found})


def test_a_line_says_whose_what_why_and_what_it_cost(as_admin, conn, troubled, owner):
    conn.execute(
        "UPDATE submissions SET detail = 'HTTP 500: the model broke', estimate = 0.04,"
        " state = 'settled', outcome = 'error', charged = 'yes' WHERE job_id = %s",
        [troubled["failed"].id],
    )
    (found,) = as_admin.json(f"{PATH}?show=failed").json["jobs"]
    assert (found["status"], found["user"], found["workflow"]) == (
        "failed",
        owner.email,
        "basic-v1",
    )
    assert (found["charged"], found["cost"]) == ("yes", "0.0400")
    text = pages.check(as_admin.get(f"{PATH}?show=failed")).text
    assert "Not made · Refused. value_error · HTTP 500: the model broke" in text
    assert "$0.04 charged" in text


def test_money_that_is_not_known_is_called_so(as_admin, troubled):
    found = as_admin.json(f"{PATH}?show=open").json["jobs"]
    assert {each["status"]: each["money"] for each in found}["unknown"] == "perhaps charged"


def test_older_ones_are_a_page_away(as_admin, conn, owner):
    photo = factories.make_image(conn, user=owner)
    batch = factories.make_batch(conn, user=owner, photos=[photo] * 60)
    conn.execute(
        "UPDATE processing_jobs SET attention = 'x', created_at = now() - position * interval '1 s'"
        " WHERE batch_id = %s",
        [batch.id],
    )
    first = as_admin.json(PATH).json
    second = as_admin.json(first["next"]).json
    found = [each["id"] for each in first["jobs"] + second["jobs"]]
    assert (len(first["jobs"]), len(set(found)), second["next"]) == (50, 60, None)
    page = pages.check(as_admin.get(PATH))
    page.one("a", href=first["next"])


def test_nothing_and_no_such_filter(as_admin):
    assert "No job failed or needs a look." in pages.check(as_admin.get(PATH)).text
    assert as_admin.get(f"{PATH}?show=everything").status_code == 404
    assert as_admin.get(f"{PATH}?after=forged").status_code == 404
