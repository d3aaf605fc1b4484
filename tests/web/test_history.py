"""The history: filters, search, pages, batches, and what is done with several pictures at once."""

import re
from datetime import UTC, datetime, timedelta

import factories
import pages
import pytest

from i2i.models import JobStatus

STATUSES = list(JobStatus)
EVIL = '"><img src=x onerror=alert(1)>.jpg'


@pytest.fixture
def job_in(conn, owner):
    def make(status, **more):
        return factories.make_job(conn, user=owner, status=status, **more)

    return make


def shown(response):
    """Ids of the pictures on a page, in order."""
    return [each["id"].removeprefix("job-") for each in pages.check(response).all("article")]


def test_before_the_first_picture(as_owner):
    page = pages.check(as_owner.get("/jobs"))
    assert "Nothing made yet" in page.text
    assert "Upload the first photos" in page.text


@pytest.mark.parametrize(
    ("tab", "expected"),
    [
        ("", set(STATUSES)),
        ("completed", {"completed"}),
        ("working", {"held", "pending", "submitting", "processing", "storing"}),
        ("failed", {"failed", "cancelled"}),
        ("unknown", {"unknown"}),
        ("held", {"held"}),
        ("storing", {"storing"}),
        ("cancelled", {"cancelled"}),
    ],
)
def test_tabs(as_owner, job_in, tab, expected):
    made = {str(job_in(status).id): status for status in STATUSES}
    answer = as_owner.get(f"/jobs?status={tab}")
    assert {made[each] for each in shown(answer)} == expected
    page = pages.check(answer)
    assert "9 pictures" in page.text
    for link in page.one("nav", class_="tabs").all("a"):
        assert as_owner.get(link["href"]).status_code == 200
    facts = as_owner.json(f"/jobs?status={tab}").json
    assert facts.keys() == {"jobs", "next"}
    assert {job["status"] for job in facts["jobs"]} == expected


@pytest.mark.parametrize("status", ["done", "COMPLETED", "x", "%00", "' OR 1=1"])
def test_an_unknown_tab(as_owner, status):
    assert as_owner.get(f"/jobs?status={status}").status_code == 404


NAMES = [
    "100%.jpg",
    "100x.jpg",
    "a_b.jpg",
    "aXb.jpg",
    "Été à Nîmes.jpg",
    "back\\slash.jpg",
    "it's.jpg",
]


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("100%", {"100%.jpg"}),
        ("%", {"100%.jpg"}),
        ("_", {"a_b.jpg"}),
        ("a_b", {"a_b.jpg"}),
        ("AXB", {"aXb.jpg"}),
        ("ÉTÉ", {"Été à Nîmes.jpg"}),
        ("\\", {"back\\slash.jpg"}),
        ("'", {"it's.jpg"}),
        ("  100x  ", {"100x.jpg"}),
        ("100\0x", {"100x.jpg"}),
        ("\0", set(NAMES)),
        ("", set(NAMES)),
        ("' OR true --", set()),
        ("x" * 5000, set()),
    ],
)
def test_search(as_owner, conn, owner, job_in, q, expected):
    for name in NAMES:
        job_in("pending", image=factories.make_image(conn, user=owner, name=name))
    answer = as_owner.json("/jobs", query_string={"q": q})
    assert answer.status_code == 200
    assert {job["original_filename"] for job in answer.json["jobs"]} == expected
    page = pages.check(as_owner.get("/jobs", query_string={"q": q}))
    assert len(page.all("article")) == len(expected)
    if not expected:
        assert "No picture matches" in page.text
        assert "7 pictures are hidden by this filter." in page.text
        assert as_owner.get(page.one("div", class_="empty").one("a")["href"]).status_code == 200


def test_the_search_is_shown_never_run(as_owner, job_in):
    job_in("pending")
    page = pages.check(as_owner.get("/jobs", query_string={"q": EVIL}))
    assert not page.all("img", src="x")
    assert page.one("input", name="q")["value"] == EVIL


def test_filters_go_together(as_owner, conn, owner, job_in):
    other = factories.make_workflow(conn, id="other-v1", name="Other")
    photo = factories.make_image(conn, user=owner, name="tee.jpg")
    wanted = job_in("failed", image=photo, workflow=other)
    job_in("failed", image=photo)
    job_in("pending", image=photo, workflow=other)
    job_in("failed", workflow=other)
    query = {"q": "TEE", "status": "failed", "workflow": "other-v1"}
    page = as_owner.get("/jobs", query_string=query)
    assert shown(page) == [str(wanted.id)]
    search = pages.check(page).one("form", role="search")
    assert ("status", "failed") in pages.Page(page).form(search["action"])


@pytest.mark.parametrize("workflow", ["nowhere", "%00", "' --"])
def test_a_workflow_that_is_none(as_owner, job_in, workflow):
    job_in("pending")
    answer = as_owner.get(f"/jobs?workflow={workflow}")
    assert answer.status_code in {200, 400}
    assert pages.check(answer).all("article") == []


def test_dates_include_both_ends(as_owner, job_in):
    days = [datetime(2025, 3, day, 23, 59, tzinfo=UTC) for day in (1, 2, 3)]
    first, second, third = (str(job_in("pending", created_at=day).id) for day in days)
    assert shown(as_owner.get("/jobs?from=2025-03-02")) == [third, second]
    assert shown(as_owner.get("/jobs?to=2025-03-02")) == [second, first]
    assert shown(as_owner.get("/jobs?from=2025-03-02&to=2025-03-02")) == [second]
    assert shown(as_owner.get("/jobs?from=2025-03-04")) == []


@pytest.mark.parametrize(
    "text", ["x", "2025-13-01", "2025-02-30", "9999-12-31", "0001-01-01", "%00"]
)
@pytest.mark.parametrize("name", ["from", "to"])
def test_odd_dates(as_owner, job_in, name, text):
    job_in("pending")
    assert as_owner.get(f"/jobs?{name}={text}").status_code in {200, 404}


# --- Page by page -----------------------------------------------------------------------------


@pytest.fixture
def sixty(conn, owner):
    """Sixty pictures: two batches of twenty at one moment, and twenty moments apart."""
    moment = datetime(2025, 3, 1, 12, tzinfo=UTC)
    photo = factories.make_image(conn, user=owner)
    for _ in range(2):
        factories.make_batch(conn, user=owner, photos=[photo] * 20, created_at=moment)
    for second in range(20):
        later = moment + timedelta(seconds=second - 10)
        factories.make_batch(conn, user=owner, photos=[photo], created_at=later)
    rows = conn.execute("SELECT id FROM processing_jobs ORDER BY created_at DESC, id DESC")
    return [str(row[0]) for row in rows.fetchall()]


def test_no_picture_is_skipped_or_shown_twice(as_owner, sixty):
    seen, url, lengths = [], "/jobs", []
    while url:
        answer = as_owner.get(url)
        page = pages.check(answer)
        seen += shown(answer)
        lengths.append(len(shown(answer)))
        assert bool(page.all("a", rel="prev")) is (len(lengths) > 1)
        url = next((link["href"] for link in page.all("a", rel="next")), None)
    assert seen == sixty
    assert lengths == [24, 24, 12]


def test_scripts_turn_pages_too(as_owner, sixty):
    seen, url = [], "/jobs?status=working"
    while url:
        answer = as_owner.json(url).json
        seen += [job["id"] for job in answer["jobs"]]
        url = answer["next"]
        assert url is None or "status=working" in url
    assert seen == sixty


def test_pictures_that_come_meanwhile_move_nothing(as_owner, conn, owner, sixty):
    first = as_owner.json("/jobs").json
    factories.make_job(conn, user=owner, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert [job["id"] for job in as_owner.json(first["next"]).json["jobs"]] == sixty[24:48]


def test_a_cursor_is_not_written_by_hand(as_owner, as_other, sixty):
    after = re.search(r"after=([^&]+)", as_owner.json("/jobs").json["next"]).group(1)
    assert as_owner.get(f"/jobs?after={after}").status_code == 200
    flipped = after.replace(after[20], "A" if after[20] != "A" else "B", 1)
    for odd in (flipped, after[1:], after + "x", after.partition(".")[0], "x", ".", "%00", "W10.x"):
        for path in ("/jobs", "/upload"):
            answer = as_owner.get(f"{path}?after={odd}")
            assert answer.status_code == 404, odd
            pages.check(answer)
    assert as_other.json(f"/jobs?after={after}").json["jobs"] == []


def test_the_page_keeps_its_size(as_owner, sixty):
    page = pages.check(as_owner.get("/jobs?size=l&status=working"))
    assert "sheet-l" in page.one("div", class_="sheet-history")["class"]
    for path in (page.all("a", rel="next")[0]["href"], "/jobs", "/jobs?view=batches"):
        page = pages.check(as_owner.get(path))
        assert "sheet-l" in page.one("div", class_="sheet-history")["class"]


# --- By batch ---------------------------------------------------------------------------------


def test_batches_stand_with_their_pictures(as_owner, conn, owner):
    photos = [
        factories.make_image(conn, user=owner, name=f"{name}.jpg") for name in ("coat", "tee")
    ]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    factories.make_job(conn, user=owner, status="failed")
    first, _ = factories.jobs_of(conn, batch)
    factories.move(conn, first, user=owner, status="completed")
    page = pages.check(as_owner.get("/jobs?view=batches"))
    frames = {each.one("a").text: each for each in page.all("article")}
    assert frames.keys() == {"2 photos, Basic", "1 photo, Basic"}
    assert "1 of 2 done" in frames["2 photos, Basic"].text
    assert "Not made" in frames["1 photo, Basic"].text
    assert frames["2 photos, Basic"].one("a")["href"] == f"/batches/{batch.id}"
    assert len(list(frames["2 photos, Basic"].all("img"))) == 2
    page = pages.check(as_owner.get("/jobs?view=batches&q=tee"))
    assert [each.one("a").text for each in page.all("article")] == ["2 photos, Basic"]
    (found,) = as_owner.json("/jobs?view=batches&status=failed").json["batches"]
    assert (found["pictures"], found["failed"]) == (1, 1)
    assert as_owner.get("/jobs?view=odd").status_code == 404


# --- Several at once --------------------------------------------------------------------------


@pytest.fixture
def three(conn, owner):
    """Finished pictures of three photos, the newest first."""
    made = []
    for name in ("coat.jpg", "coat 2.jpg", "tee.jpg"):
        image = factories.make_image(conn, user=owner, name=name)
        made.append(factories.make_job(conn, user=owner, status="completed", image=image))
    return made


def in_trash(conn):
    rows = conn.execute("SELECT id FROM processing_jobs WHERE deleted_at IS NOT NULL")
    return {row[0] for row in rows}


def test_pictures_are_chosen_on_the_page_and_deleted_after_a_question(as_owner, conn, three):
    page = pages.check(as_owner.get("/jobs"))
    boxes = {each["value"] for each in page.all("input", class_="pick")}
    assert boxes == {str(job.id) for job in three}
    assert {each["form"] for each in page.all("input", class_="pick")} == {"chosen"}
    chosen = {"job": [str(job.id) for job in three[:2]], "q": "coat"}
    question = pages.check(as_owner.post("/jobs/delete", data=chosen))
    assert "Delete 2 pictures?" in question.text
    assert "They stay in the trash for 7 days, then the files are removed." in question.text
    assert in_trash(conn) == set()
    form = question.one("form", method="post")
    fields = {each["name"]: each["value"] for each in form.all("input")}
    answer = as_owner.post(form["action"], data=fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs?q=coat")
    assert in_trash(conn) == {job.id for job in three[:2]}


def test_everything_is_what_the_filter_finds_when_it_is_asked(as_owner, conn, owner, three):
    question = pages.check(as_owner.post("/jobs/delete", data={"everything": "1", "q": "coat"}))
    assert "Delete 2 pictures?" in question.text
    form = question.one("form", method="post")
    fields = {each["name"]: each["value"] for each in form.all("input")}
    image = factories.make_image(conn, user=owner, name="coat 3.jpg")
    later = datetime.now(UTC) + timedelta(seconds=60)
    factories.make_job(conn, user=owner, status="completed", image=image, created_at=later)
    assert as_owner.post(form["action"], data=fields).status_code == 303
    assert in_trash(conn) == {job.id for job in three[:2]}
    assert as_owner.json("/jobs/delete", method="POST", data={"everything": "1"}).json == {
        "deleted": 2
    }


def test_the_question_says_what_is_cancelled_and_what_stays(as_owner, conn, job_in):
    made = [job_in(status) for status in ("pending", "held", "processing", "completed")]
    data = {"job": " ".join(str(job.id) for job in made)}
    text = pages.check(as_owner.post("/jobs/delete", data=data)).text
    assert "Delete 3 pictures?" in text
    assert "2 pictures of these wait to be made: cancelled, and not charged." in text
    assert "1 picture is just being made, or looked for, and stays." in text
    assert as_owner.post("/jobs/delete", data=data | {"confirm": "1"}).status_code == 303
    states = dict(conn.execute("SELECT status, deleted_at IS NULL FROM processing_jobs").fetchall())
    assert states == {"cancelled": False, "completed": False, "processing": True}


@pytest.mark.parametrize("fields", [{}, {"job": "00000000-0000-4000-8000-000000000000"}])
def test_nothing_chosen_is_said(as_owner, three, fields):
    assert as_owner.post("/jobs/delete", data=fields).status_code == 409
    assert as_owner.get("/jobs/again", query_string=fields).status_code == 409
    assert as_owner.get("/jobs.zip", query_string=fields).status_code == 409


def test_photos_of_pictures_run_again(as_owner, conn, three):
    ids = [str(job.id) for job in three]
    answer = as_owner.get("/jobs/again", query_string={"job": [*ids[:2], ids[0]]})
    assert answer.status_code == 303
    path, _, query = answer.headers["Location"].partition("?")
    assert path == "/batches/new"
    expected = {f"image={job.original_image_id}" for job in three[:2]}
    assert set(query.split("&")) == expected
    everything = as_owner.get("/jobs/again?everything=1&q=tee").headers["Location"]
    assert everything == f"/batches/new?image={three[2].original_image_id}"
    conn.execute("UPDATE images SET deleted_at = now() WHERE NOT is_processed")
    assert as_owner.get("/jobs/again", query_string={"job": ids}).status_code == 409


def test_everything_filtered_is_downloaded_too(as_owner, three):
    answer = as_owner.get("/jobs.zip?everything=1&q=coat")
    assert answer.status_code == 200
    assert answer.data.count(b"coat") >= 2
