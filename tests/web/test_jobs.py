"""One picture in every state: its page, what can be done about it, its verdict."""

import re

import factories
import pages
import pytest
from psycopg.types.json import Jsonb

from i2i.queries import breaker

STATUSES = [
    *("held", "pending", "submitting", "processing", "storing", "unknown"),
    *("completed", "failed", "cancelled"),
]
EVIL = '"><img src=x onerror=alert(1)>.jpg'

VARIANTS = {
    "plain": "",
    "attention": "attention = 'The disk is full.'",
    "cancel asked": "cancel_requested_at = now()",
    "begun": "started_at = now() - interval '31 seconds'",
    "queued": "queue_position = 3",
}

WORDS = {
    "held": ("Held", "waits for you"),
    "pending": ("Waiting", ""),
    "submitting": ("Sending", ""),
    "processing": ("Sent", ""),
    "storing": ("Saving", ""),
    "unknown": ("Needs you", "perhaps charged"),
    "completed": ("Done", "4 s"),
    "failed": ("Failed", "not charged"),
    "cancelled": ("Cancelled", "not charged"),
}


@pytest.fixture
def job_in(conn, owner):
    def make(status, variant="plain", **more):
        job = factories.make_job(conn, user=owner, status=status, **more)
        if change := VARIANTS[variant]:
            conn.execute(f"UPDATE processing_jobs SET {change} WHERE id = %s", [job.id])
        return job

    return make


# --- Every state on every page ----------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_state_has_its_words_on_every_page(as_owner, job_in, status, variant):
    """Templates know no undefined names: whatever a page misses would be an error here."""
    job = job_in(status, variant)
    for path in (f"/jobs/{job.id}", f"/batches/{job.batch_id}", "/jobs", "/upload"):
        page = pages.check(as_owner.get(path))
        if variant == "plain" and "jobs" in path and path != "/upload":
            word, fact = WORDS[status]
            assert word in page.text or (status, path) == ("completed", f"/jobs/{job.id}")
            assert fact in page.text or path == f"/jobs/{job.id}"
    pages.check(as_owner.get(f"/batches/{job.batch_id}/live"), whole=False)
    facts = as_owner.json(f"/jobs/{job.id}").json
    assert facts["status"] == status
    assert facts["charged"] in {"yes", "no", "unknown"}
    assert (facts["error"] is None) is (status not in {"failed", "unknown"})
    assert as_owner.json(f"/batches/{job.batch_id}").json["jobs"][0] == facts


@pytest.mark.parametrize("status", STATUSES)
def test_what_can_be_done(as_owner, job_in, status):
    job = job_in(status)
    page = pages.check(as_owner.get(f"/jobs/{job.id}"))
    actions = {form["action"].rpartition("/")[2] for form in page.one("aside").all("form")}
    expected = {
        **dict.fromkeys(["held", "pending", "submitting", "processing"], "cancel"),
        **dict.fromkeys(["failed", "cancelled"], "retry"),
        "unknown": "recover",
        "completed": "verdict",
    }
    if status == "completed":
        actions.remove("retry")  # once more, in a batch of its own
    if status not in {"submitting", "processing", "storing", "unknown"}:
        assert "delete" in actions
        actions.remove("delete")
    assert actions == {expected[status]} if status in expected else not actions
    for action in ("cancel", "retry"):
        job = job_in(status)
        answer = as_owner.post(f"/jobs/{job.id}/{action}")
        if action == expected.get(status):
            assert (answer.status_code, answer.headers["Location"]) == (
                303,
                f"/batches/{job.batch_id}",
            )
        else:
            assert answer.status_code == 409
            assert pages.check(answer).one("h1").text == "Not possible now"


def test_a_lost_answer_asks_before_it_is_sent_again(as_owner, job_in, conn):
    job = job_in("unknown")
    question = pages.check(as_owner.post(f"/jobs/{job.id}/recover", data={"action": "send"}))
    assert question.one("h1").text.endswith("again?")
    assert "a second charge" in question.text
    assert status_of(conn, job) == "unknown"
    answer = as_owner.json(f"/jobs/{job.id}/recover", method="POST", data={"action": "send"})
    assert (answer.status_code, answer.json.keys()) == (409, {"error"})
    sent = as_owner.post(f"/jobs/{job.id}/recover", data={"action": "send", "confirm": "1"})
    assert (sent.status_code, status_of(conn, job)) == (303, "pending")


@pytest.mark.parametrize(("action", "status"), [("look", "unknown"), ("give_up", "failed")])
def test_a_lost_answer_is_looked_for_or_given_up(as_owner, job_in, conn, action, status):
    job = job_in("unknown")
    assert as_owner.post(f"/jobs/{job.id}/recover", data={"action": action}).status_code == 303
    assert status_of(conn, job) == status


def test_what_was_perhaps_charged_asks_before_it_runs_again(as_owner, job_in, conn):
    job = job_in("unknown")
    as_owner.post(f"/jobs/{job.id}/recover", data={"action": "give_up"})
    question = pages.check(as_owner.post(f"/jobs/{job.id}/retry"))
    (form,) = question.one("main").all("form")
    assert form["action"] == f"/jobs/{job.id}/retry"
    assert status_of(conn, job) == "failed"
    assert as_owner.post(f"/jobs/{job.id}/retry", data={"confirm": "1"}).status_code == 303
    assert status_of(conn, job) == "pending"


def test_the_banner_says_why_nothing_is_made(as_owner, as_admin, job_in, conn):
    job_in("pending")
    assert "paused" not in as_owner.get("/jobs").text
    breaker.trip(conn, reason="balance")
    page = pages.check(as_owner.get("/jobs"))
    assert "Making pictures is paused." in page.text
    assert "1 picture waits and starts by itself" in page.text
    assert "billing" not in page.text
    assert "billing" in as_admin.get("/jobs").text


def status_of(conn, job):
    query = "SELECT status FROM processing_jobs WHERE id = %s"
    return conn.execute(query, [job.id]).fetchone()[0]


def test_scripts_cancel_and_retry(as_owner, job_in):
    job = job_in("pending")
    answer = as_owner.json(f"/jobs/{job.id}/cancel", method="POST")
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    answer = as_owner.json(f"/jobs/{job.id}/retry", method="POST")
    assert (answer.status_code, answer.json["status"]) == (200, "pending")
    answer = as_owner.json(f"/jobs/{job.id}/retry", method="POST")
    assert (answer.status_code, answer.json.keys()) == (409, {"error"})


def test_a_picture_is_made_once_more_with_another_seed(as_owner, conn, owner):
    first = version_of(conn, owner, factories.make_image(conn, user=owner), seed=7)
    page = pages.check(as_owner.get(f"/jobs/{first.id}"))
    (form,) = page.all("form", action=f"/jobs/{first.id}/retry")
    assert form.one("button").text == "Run again, new seed"
    assert form.parent.text.endswith("price unknown")
    key = form.one("input", name="client_key")["value"]
    answers = [as_owner.post(f"/jobs/{first.id}/retry", data={"client_key": key}) for _ in range(2)]
    child = answers[0].headers["Location"]
    assert [each.headers["Location"] for each in answers] == [child] * 2
    assert child != f"/batches/{first.batch_id}"
    (job,) = as_owner.json(child).json["jobs"]
    assert "seed" not in job["parameters"]
    assert job["parameters"] == {k: v for k, v in first.parameters.items() if k != "seed"}


def test_asking_to_stop_shows_at_once(as_owner, job_in):
    job = job_in("processing")
    as_owner.post(f"/jobs/{job.id}/cancel")
    page = pages.check(as_owner.get(f"/jobs/{job.id}"))
    assert "Stopping" in page.text
    assert "may still finish and be charged" in page.text
    assert list(page.one("aside").all("form")) == []
    assert "The provider is asked to stop." in page.text


def test_before_and_after(as_owner, job_in):
    job = job_in("completed")
    page = pages.check(as_owner.get(f"/jobs/{job.id}"))
    original, result = page.one(id="pair").all("img")
    assert original["alt"].startswith("Original ")
    assert original["src"] == f"/images/{job.original_image_id}?size=preview"
    assert result["src"] == f"/images/{job.result_image_id}?size=preview"
    (download,) = page.one(class_="download").all("a")
    assert download["href"] == f"/images/{job.result_image_id}?download=1"
    assert re.search(r"Made today \d\d:\d\d in 4 s · charged", page.text)
    story = [item.text.partition(" ")[2] for item in page.one("ol", class_="story").all("li")]
    assert story[0] == "Asked for."
    assert story[1:] == [
        "Its photo goes to the provider.",
        "The provider has taken it.",
        "The picture is made; we fetch it.",
        "The picture is stored.",
    ]
    assert '"prompt": "x"' in page.one("pre").text


def test_a_result_without_preview_is_there_all_the_same(as_owner, conn, job_in):
    job = job_in("completed")
    conn.execute(
        "UPDATE images SET has_preview = false, width = NULL, height = NULL WHERE id = %s",
        [job.result_image_id],
    )
    for path in (f"/jobs/{job.id}", f"/batches/{job.batch_id}", "/jobs"):
        page = pages.check(as_owner.get(path))
        assert "No preview" in page.text
        assert "The file is kept; download it to look." in page.text
    assert as_owner.json(f"/jobs/{job.id}").json["error"] is None


def test_a_result_that_is_gone(as_owner, conn, job_in):
    job = job_in("completed")
    conn.execute("DELETE FROM images WHERE id = %s", [job.result_image_id])
    for path in (f"/jobs/{job.id}", f"/batches/{job.batch_id}", "/jobs"):
        pages.check(as_owner.get(path))
    assert as_owner.json(f"/jobs/{job.id}").json["result_url"] is None


def test_neighbours_in_the_batch(as_owner, conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(3)]
    first, second, third = factories.jobs_of(
        conn, factories.make_batch(conn, user=owner, photos=photos)
    )
    page = pages.check(as_owner.get(f"/jobs/{second.id}"))
    assert "2 of 3" in page.text
    assert page.one("a", rel="prev")["href"] == f"/jobs/{first.id}"
    assert page.one("a", rel="next")["href"] == f"/jobs/{third.id}"
    assert pages.check(as_owner.get(f"/jobs/{first.id}")).all("a", rel="prev") == []


def test_what_the_provider_said_stays_with_operators(as_owner, conn, job_in):
    job = job_in("failed")
    conn.execute("UPDATE submissions SET detail = 'secret words of the provider'")
    for path in (f"/jobs/{job.id}", f"/batches/{job.batch_id}"):
        assert "secret words" not in as_owner.get(path).text
        assert "secret words" not in as_owner.json(path).text


def test_statements_do_not_grow_with_the_batch(as_owner, conn, owner, count_statements):
    counts = []
    for number in (3, 50):
        photos = [factories.make_image(conn, user=owner) for _ in range(number)]
        jobs = factories.jobs_of(conn, factories.make_batch(conn, user=owner, photos=photos))
        with count_statements() as statements:
            assert as_owner.get(f"/jobs/{jobs[1].id}").status_code == 200
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 15


# --- Verdicts ---------------------------------------------------------------------------------


def judge(browser, job, **fields):
    return browser.json(f"/jobs/{job.id}/verdict", method="POST", data=fields)


def verdict_of(answer):
    return tuple(answer.json[name] for name in ("verdict", "verdict_reason", "verdict_note"))


def test_a_verdict_is_given_changed_and_taken_back(as_owner, job_in):
    job = job_in("completed")
    answer = judge(as_owner, job, verdict="rejected", reason="colour", note=" Too\r\nyellow. ")
    assert verdict_of(answer) == ("rejected", "colour", "Too\nyellow.")
    for path in (f"/batches/{job.batch_id}", "/jobs"):
        page = pages.check(as_owner.get(path))
        assert "Rejected colour" in page.text
        assert page.one("svg", class_="pencil-rejected")
    assert verdict_of(judge(as_owner, job, verdict="rejected")) == ("rejected", None, "")
    assert verdict_of(judge(as_owner, job, verdict="approved")) == ("approved", None, "")
    page = pages.check(as_owner.get("/jobs"))
    assert re.search(r"Approved today \d\d:\d\d", page.text)
    assert page.one("svg", class_="pencil-approved")
    assert verdict_of(judge(as_owner, job, verdict="none", note="x")) == (None, None, "")
    assert pages.check(as_owner.get("/jobs")).all("svg", class_="pencil") == []


@pytest.mark.parametrize("status", set(STATUSES) - {"completed"})
def test_only_a_picture_is_judged(as_owner, job_in, status):
    answer = judge(as_owner, job_in(status), verdict="approved")
    assert (answer.status_code, answer.json["error"]) == (409, "There is no picture to judge yet.")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "verdict"),
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": "rejected", "reason": "ugly"}, "reason"),
        ({"verdict": "approved", "reason": "colour"}, "reason"),
        ({"verdict": "none", "reason": "fit"}, "reason"),
        ({"verdict": "rejected", "note": "x" * 1001}, "note"),
    ],
)
def test_a_verdict_that_does_not_hold_changes_nothing(as_owner, job_in, fields, wrong):
    job = job_in("completed")
    answer = judge(as_owner, job, **fields)
    assert (answer.status_code, answer.json["fields"].keys()) == (422, {wrong})
    assert verdict_of(as_owner.json(f"/jobs/{job.id}")) == (None, None, "")


def test_a_note_that_is_too_long_stays_in_the_form(as_owner, job_in):
    job = job_in("completed")
    fields = {"verdict": "rejected", "reason": "fit", "note": "x" * 1001}
    answer = as_owner.post(f"/jobs/{job.id}/verdict?review=1", data=fields)
    assert answer.status_code == 422
    page = pages.check(answer)
    assert "open" in page.one("details", id="reject").attributes
    assert page.one("textarea", name="note").text == "x" * 1001
    (chosen,) = [each for each in page.all("input", name="reason") if "checked" in each.attributes]
    assert chosen["value"] == "fit"
    assert page.one("div", role="alert").one("a")["href"] == "#field-note"


def test_a_verdict_stays_on_its_page_unless_it_is_asked_to_go_on(as_owner, job_in):
    job = job_in("completed")
    fields = {"verdict": "rejected", "reason": "fit"}
    answer = as_owner.post(f"/jobs/{job.id}/verdict", data=fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/jobs/{job.id}")
    page = pages.check(as_owner.get(answer.headers["Location"]))
    assert re.search(r"Rejected today \d\d:\d\d · fit", page.text)
    again = as_owner.post(f"/jobs/{job.id}/verdict", data=fields | {"then": "again"})
    form = pages.check(as_owner.get(again.headers["Location"]))
    assert [each["value"] for each in form.all("input", name="image")] == [
        str(job.original_image_id)
    ]


@pytest.fixture
def reviewed(conn, owner):
    """A batch of four: made, failed, made, made; its jobs."""
    photos = [factories.make_image(conn, user=owner) for _ in range(4)]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    for job, status in zip(
        factories.jobs_of(conn, batch),
        ["completed", "failed", "completed", "completed"],
        strict=True,
    ):
        factories.move(conn, job, user=owner, status=status)
    return factories.jobs_of(conn, batch)


def test_a_review_leads_through_what_is_made(as_owner, reviewed):
    first, _, second, third = reviewed
    batch = f"/batches/{first.batch_id}"
    assert as_owner.get(f"{batch}/review").headers["Location"] == f"/jobs/{first.id}?review=1"
    page = pages.check(as_owner.get(f"/jobs/{first.id}?review=1"))
    assert "1 of 3" in page.text
    assert page.one("a", rel="next")["href"] == f"/jobs/{second.id}?review=1"
    assert len(list(page.one("nav", class_="film").all("a"))) == 3
    form = page.one("form", id="approve")["action"]
    answer = as_owner.post(form, data={"verdict": "approved"})
    assert answer.headers["Location"] == f"/jobs/{second.id}?review=1"
    form = f"/jobs/{third.id}/verdict?review=1"
    answer = as_owner.post(form, data={"verdict": "rejected"})
    assert answer.headers["Location"] == f"{batch}/verdicts"
    assert as_owner.json(f"{batch}/verdicts").json == {"approved": 1, "rejected": 1, "open": 1}
    assert as_owner.get(f"{batch}/review").headers["Location"] == f"/jobs/{second.id}?review=1"
    sums = pages.check(as_owner.get(f"{batch}/verdicts"))
    assert sums.one("h1").text == "1 approved, 1 rejected, 1 not looked at"
    taken = as_owner.post(form, data={"verdict": "none"})
    assert taken.headers["Location"] == f"/jobs/{third.id}?review=1"


def test_what_a_review_leads_to(as_owner, conn, reviewed):
    batch = f"/batches/{reviewed[0].batch_id}"
    conn.execute("UPDATE submissions SET estimate = 0.04")
    for job in (reviewed[0], reviewed[3]):
        judge(as_owner, job, verdict="rejected")
    judge(as_owner, reviewed[2], verdict="approved")
    page = pages.check(as_owner.get(f"{batch}/verdicts"))
    assert page.one("h1").text == "1 approved, 2 rejected"
    assert "Run 2 rejected again about $0.08" in page.text
    links = {each.text: each["href"] for each in page.one("main").all("a")}
    assert links["Download 1 approved (ZIP)"] == f"{batch}.zip?verdict=approved"
    form = pages.check(as_owner.get(links["Run again with changes"]))
    assert len(form.all("input", name="image")) == 2
    child = as_owner.post(f"{batch}/retry", data=dict(page.form(f"{batch}/retry")))
    made = as_owner.json(child.headers["Location"]).json["jobs"]
    assert [each["verdict"] for each in made] == [None, None]


def test_the_film_of_a_large_batch_shows_what_is_near(as_owner, conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(60)]
    jobs = factories.jobs_of(conn, factories.make_batch(conn, user=owner, photos=photos))
    for place, first in ((0, 0), (30, 18), (59, 36)):
        film = pages.check(as_owner.get(f"/jobs/{jobs[place].id}")).one("nav", class_="film")
        frames = film.all("a")
        assert [each["href"] for each in frames] == [
            f"/jobs/{job.id}" for job in jobs[first : first + 24]
        ]
        (current,) = film.all("a", aria_current="page")
        assert current["href"] == f"/jobs/{jobs[place].id}"


# --- Versions of one photo --------------------------------------------------------------------


def version_of(conn, owner, photo, *, parent=None, **parameters):
    """A finished picture of this photo with these settings."""
    batch = factories.make_batch(
        conn, user=owner, photos=[photo], parameters={"setting": "studio white", **parameters}
    )
    (job,) = factories.jobs_of(conn, batch)
    factories.move(conn, job, user=owner, status="completed")
    conn.execute(
        "UPDATE processing_jobs SET parent_id = %s, created_at = created_at"
        " + (SELECT count(*) FROM processing_jobs) * interval '1 s' WHERE id = %s",
        [parent and parent.id, job.id],
    )
    return factories.jobs_of(conn, batch)[0]


def test_versions_of_a_photo_with_what_was_different(as_owner, conn, owner, other):
    photo = factories.make_image(conn, user=owner)
    first = version_of(conn, owner, photo, seed=7)
    second = version_of(conn, owner, photo, parent=first, setting="outdoor", seed=7)
    third = version_of(conn, owner, photo)
    version_of(conn, owner, factories.make_image(conn, user=owner))
    judge(as_owner, first, verdict="rejected", reason="anatomy")
    page = pages.check(as_owner.get(f"/jobs/{second.id}"))
    assert "2nd version · made today" in page.text
    _, *versions = page.one("ol", class_="versions").all("a")
    assert [each["href"] for each in versions] == [
        f"/jobs/{job.id}" for job in (first, second, third)
    ]
    assert [each.text for each in versions] == [
        "Version 1 Rejected, hands or face",
        "Version 2, this one",
        "Version 3",
    ]
    assert [each.text for each in page.all("p", class_="version-changes")] == [
        "2: Setting Outdoor",
        "3: Setting Studio white, Seed left open",
    ]
    assert "Outdoor was Studio white" in page.text
    assert "7 was" not in page.text


def test_a_picture_made_again_is_held_against_the_one_before(as_owner, conn, owner):
    photo = factories.make_image(conn, user=owner)
    first = version_of(conn, owner, photo)
    second = version_of(conn, owner, photo, parent=first)
    page = pages.check(as_owner.get(f"/jobs/{second.id}"))
    before, now = page.one(id="pair").all("img")
    assert before["src"] == f"/images/{first.result_image_id}?size=preview"
    assert now["src"] == f"/images/{second.result_image_id}?size=preview"
    assert [each.text for each in page.one(id="pair").all("figcaption")] == ["Before", "Now"]
    (link,) = [
        each for each in page.all("a") if each.text == "Original" and "against" in each["href"]
    ]
    page = pages.check(as_owner.get(link["href"]))
    before, _ = page.one(id="pair").all("img")
    assert before["src"] == f"/images/{photo.id}?size=preview"
    assert [each.text for each in page.one(id="pair").all("figcaption")] == ["Original", "Result"]
    # What comes next is fetched as it will be held against.
    batch = factories.make_batch(conn, user=owner, photos=[photo, photo])
    jobs = factories.jobs_of(conn, batch)
    conn.execute("UPDATE batches SET parent_id = %s WHERE id = %s", [first.batch_id, batch.id])
    for job in jobs:
        conn.execute("UPDATE processing_jobs SET parent_id = %s WHERE id = %s", [first.id, job.id])
    for against, image in (("before", first.result_image_id), ("original", photo.id)):
        page = pages.check(as_owner.get(f"/jobs/{jobs[0].id}?against={against}"))
        assert page.one(id="review")["data-ahead"] == f"/images/{image}?size=preview"
    # What is in the trash is nothing to compare with.
    conn.execute("UPDATE processing_jobs SET deleted_at = now() WHERE id = %s", [first.id])
    page = pages.check(as_owner.get(f"/jobs/{second.id}"))
    assert [each.text for each in page.one(id="pair").all("figcaption")] == ["Original", "Result"]


def test_many_versions_show_the_newest_and_this_one(as_owner, conn, owner):
    photo = factories.make_image(conn, user=owner)
    made = [version_of(conn, owner, photo) for _ in range(30)]
    page = pages.check(as_owner.get(f"/jobs/{made[1].id}"))
    assert "2nd version" in page.text
    _, *versions = page.one("ol", class_="versions").all("a")
    assert [each["href"] for each in versions] == [
        f"/jobs/{job.id}" for job in (made[1], *made[-23:])
    ]


def test_the_exact_request_keeps_the_addresses_of_uploads(as_owner, conn, job_in):
    job = job_in("completed")
    url = "https://v3.fal.media/files/b/secret-token-0.jpg?signature=secret"
    conn.execute(
        "UPDATE submissions SET arguments = %s",
        [Jsonb({"prompt": "a https://x", "image_urls": [url], "nested": {"url": url}})],
    )
    request = pages.check(as_owner.get(f"/jobs/{job.id}")).one("pre").text
    assert "secret" not in request
    assert request.count("https://v3.fal.media/….jpg") == 2
    assert '"prompt": "a https://x"' in request
