"""Choosing settings, making pictures of several photos, and watching them."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import factories
import pages
import pytest
from orders import KEY, make, new_url, order

from i2i.queries import breaker
from i2i.queries import images as image_queries
from i2i.queries import jobs as job_queries
from i2i.services import backup
from i2i.services import jobs as job_service

EVIL = '"><img src=x onerror=alert(1)>.jpg'

JOB_KEYS = {
    *("id", "url", "status", "attention", "original_filename", "workflow", "parameters", "error"),
    *("next_step", "charged", "queue_position", "eta_seconds", "original_url", "result_url"),
    *(
        "created_at",
        "completed_at",
        "processing_time_ms",
        "verdict",
        "verdict_reason",
        "verdict_note",
    ),
}
BATCH_KEYS = {"id", "url", "status", "counts", "jobs"}


# --- Making -----------------------------------------------------------------------------------


def test_what_a_script_gets_to_know(as_owner, photos):
    answer = make(as_owner, photos, seed="7")
    batch = answer.json
    assert answer.status_code == 201
    assert batch.keys() == BATCH_KEYS
    assert (batch["status"], batch["counts"]) == ("working", {"pending": 3})
    assert batch["url"] == f"/batches/{batch['id']}"
    assert [job["original_filename"] for job in batch["jobs"]] == ["a.jpg", "b.jpg", "c.jpg"]
    for job in batch["jobs"]:
        assert job.keys() == JOB_KEYS
        assert job["parameters"] == {"setting": "outdoor", "seed": 7}
        assert (job["charged"], job["result_url"], job["error"]) == ("no", None, None)
        assert job["next_step"] == "Cancel"
    assert as_owner.json(batch["url"]).json == batch
    assert as_owner.json(batch["jobs"][0]["url"]).json == batch["jobs"][0]


def test_variations_run_with_seeds_of_their_own(as_owner, photos):
    jobs = make(as_owner, photos[:2], variations="3", seed="40").json["jobs"]
    assert [job["parameters"]["seed"] for job in jobs] == [40, 41, 42] * 2


def test_the_same_click_twice_is_one_batch(as_owner, conn, photos):
    first = make(as_owner, photos)
    again = make(as_owner, list(reversed(photos)))
    assert (again.status_code, again.json["id"]) == (201, first.json["id"])
    page = as_owner.post("/batches", data=order(photos))
    assert page.headers["Location"] == first.json["url"]
    assert conn.execute("SELECT count(*) FROM processing_jobs").fetchone() == (3,)


@pytest.mark.parametrize(
    "changes", [{"setting": "studio white"}, {"variations": "2"}, {"pilot": "1"}, {"seed": "1"}]
)
def test_the_same_key_for_something_else(as_owner, conn, photos, changes):
    make(as_owner, photos)
    answer = as_owner.post("/batches", data=order(photos, **changes))
    assert answer.status_code == 422
    page = pages.check(answer)
    assert "This form was sent before with other settings" in page.one(role="alert").text
    sent = page.form("/batches")
    (key,) = [value for name, value in sent if name == "client_key"]
    assert key != KEY
    names = {name for name, _ in sent}
    again = as_owner.json(
        "/batches", method="POST", data={name: [v for n, v in sent if n == name] for name in names}
    )
    assert again.status_code == 201
    assert conn.execute("SELECT count(*) FROM batches").fetchone() == (2,)


def test_keys_of_two_people_do_not_meet(as_owner, as_other, conn, other, photos):
    first = make(as_owner, photos).json
    second = make(as_other, [factories.make_image(conn, user=other)])
    assert second.status_code == 201
    assert second.json["id"] != first["id"]


# --- Pilot ------------------------------------------------------------------------------------


@pytest.fixture
def pilot(as_owner, photos, conn):
    batch = make(as_owner, photos, pilot="1", variations="2").json
    assert [job["status"] for job in batch["jobs"]] == ["pending"] * 2 + ["held"] * 4
    return batch


def finish(conn, batch):
    """The worker's part, short: what was pending has ended."""
    conn.execute(
        "UPDATE processing_jobs SET status = 'cancelled', completed_at = now()"
        " WHERE batch_id = %s AND status = 'pending'",
        [batch["id"]],
    )


def test_the_question_comes_when_the_pilot_is_done(as_owner, conn, owner, pilot):
    assert "Good so far?" not in pages.check(as_owner.get(pilot["url"])).text
    for job in job_queries.list_cards(conn, batch_id=pilot["id"], user_id=owner.id)[:2]:
        made = job_queries.find(conn, job_id=job.id)
        factories.move(conn, made, user=owner, status="completed")
    page = pages.check(as_owner.get(pilot["url"]))
    section = page.one("section", id="pilot")
    assert "Look at the 2 pictures at full size." in section.text
    assert "The other 4 will be made with exactly these settings, about $0.14." in section.text
    assert [each.text for each in section.all("button")] == [
        "Make the other 4",
        "Cancel the other 4",
    ]
    assert as_owner.json(pilot["url"]).json["status"] == "waiting"
    look, change = section.all("a")
    assert look["href"] == f"{pilot['jobs'][0]['url']}?review=1"
    assert change.text == "Change settings"
    new = pages.check(as_owner.get(change["href"]))
    assert "What waits there of 2 photos is cancelled" in new.text
    sent = new.form("/batches")
    assert len([name for name, _ in sent if name == "image"]) == 2
    fields = {name: [value for n, value in sent if n == name] for name, _ in sent}
    child = as_owner.json("/batches", method="POST", data=fields)
    assert child.json["counts"] == {"pending": 4}
    assert as_owner.json(pilot["url"]).json["counts"] == {"completed": 2, "cancelled": 4}


def test_releasing_the_rest(as_owner, conn, pilot):
    finish(conn, pilot)
    assert as_owner.post(f"{pilot['url']}/release").headers["Location"] == pilot["url"]
    assert as_owner.json(pilot["url"]).json["counts"] == {"cancelled": 2, "pending": 4}
    answer = as_owner.json(f"{pilot['url']}/release", method="POST")
    assert (answer.status_code, answer.json.keys()) == (200, BATCH_KEYS)


def test_after_a_restore_a_person_decides_what_may_be_paid_twice(as_owner, conn, photos):
    batch = make(as_owner, photos).json
    backup.hold_unsent(conn, taken_at=datetime(2026, 11, 23, 2, 30, tzinfo=UTC))
    page = pages.check(as_owner.get(batch["url"]))
    warning = "Back from the backup of 23 November 2026, 02:30 UTC; may have been made and charged"
    question = page.one("section", id="pilot")
    assert question.text.startswith(f"Make them again? {warning} since. Made now, they are charged")
    assert [each.text for each in question.all("button")] == ["Make the 3", "Cancel the 3"]
    assert page.text.count(warning) == 1 + len(photos), "and on each card"
    first = as_owner.get(batch["jobs"][0]["url"])
    assert "Held, because everything came back from a backup." in pages.check(first).text
    as_owner.post(f"{batch['url']}/release")
    assert warning not in pages.check(as_owner.get(batch["url"])).text


def test_cancelling_what_has_not_started(as_owner, pilot):
    assert as_owner.post(f"{pilot['url']}/cancel").headers["Location"] == pilot["url"]
    batch = as_owner.json(pilot["url"]).json
    assert (batch["status"], batch["counts"]) == ("done", {"cancelled": 6})
    assert {job["charged"] for job in batch["jobs"]} == {"no"}
    assert as_owner.json(f"{pilot['url']}/cancel", method="POST").status_code == 200


def test_retrying_what_failed(as_owner, conn, owner):
    job = factories.make_job(conn, user=owner, status="failed")
    url = f"/batches/{job.batch_id}"
    page = pages.check(as_owner.get(url))
    assert "Retry 1 failed" in [each.text for each in page.all("button")]
    assert as_owner.post(f"{url}/retry").status_code == 303
    assert as_owner.json(url).json["counts"] == {"pending": 1}
    answer = as_owner.post(f"{url}/retry")
    assert answer.status_code == 409
    assert "Nothing to run again" in pages.check(answer).text
    assert as_owner.json(f"{url}/retry", method="POST").json.keys() == {"error"}


def perhaps_charged(conn, owner, photos):
    """A batch with two failed pictures, of which one was perhaps charged."""
    batch = factories.make_batch(conn, user=owner, photos=photos[:2])
    first, second = factories.jobs_of(conn, batch)
    factories.move(conn, first, user=owner, status="failed")
    factories.move(conn, second, user=owner, status="unknown")
    job_service.give_up(conn, job_id=second.id, user_id=owner.id)
    return batch


@pytest.mark.parametrize(
    ("label", "counts"),
    [
        ("Send all again, may be charged twice", {"pending": 2}),
        ("Only the 1 not charged", {"pending": 1, "failed": 1}),
    ],
)
def test_what_was_perhaps_charged_is_asked_once_more(as_owner, conn, owner, photos, label, counts):
    url = f"/batches/{perhaps_charged(conn, owner, photos).id}"
    page = pages.check(as_owner.get(url))
    assert "Retry 2 failed…" in [each.text for each in page.all("button")]
    answer = as_owner.json(f"{url}/retry", method="POST")
    assert (answer.status_code, answer.json.keys()) == (409, {"error"})
    question = pages.check(as_owner.post(f"{url}/retry"))
    assert question.one("h1").text == "Run 2 pictures again?"
    assert "1 picture was sent, and nobody knows yet" in question.text
    assert as_owner.json(url).json["counts"] == {"failed": 2}
    button = next(each for each in question.all("button") if each.text == label)
    fields = {each["name"]: each["value"] for each in button.parent.all("input")}
    assert as_owner.post(button.parent["action"], data=fields).status_code == 303
    assert as_owner.json(url).json["counts"] == counts


def test_everything_again_starts_the_cancelled_too(as_owner, conn, owner, photos):
    batch = factories.make_batch(conn, user=owner, photos=photos[:2])
    first, second = factories.jobs_of(conn, batch)
    factories.move(conn, first, user=owner, status="failed")
    job_queries.cancel_waiting(conn, user_id=owner.id, job_id=second.id)
    url = f"/batches/{batch.id}"
    assert (
        as_owner.json(f"{url}/retry", method="POST", data={"scope": "nothing"}).status_code == 422
    )
    page = pages.check(as_owner.get(url))
    assert "Run 1 cancelled again" in [each.text for each in page.all("button")]
    assert as_owner.post(f"{url}/retry", data={"scope": "cancelled"}).status_code == 303
    assert as_owner.json(url).json["counts"] == {"pending": 1, "failed": 1}
    as_owner.post(f"{url}/cancel")
    assert as_owner.post(f"{url}/retry", data={"scope": "all"}).status_code == 303
    assert as_owner.json(url).json["counts"] == {"pending": 2}


def test_a_finished_batch_is_to_be_reviewed(as_owner, conn, owner, photos):
    batch = factories.make_batch(conn, user=owner, photos=photos[:2])
    first, second = factories.jobs_of(conn, batch)
    factories.move(conn, second, user=owner, status="completed")
    url = f"/batches/{batch.id}"
    assert not pages.check(as_owner.get(url)).all("a", class_="filled")
    factories.move(conn, first, user=owner, status="failed")
    link = pages.check(as_owner.get(url)).one("a", class_="filled")
    assert (link.text, link["href"]) == ("Review 1 picture", f"{url}/review")
    assert as_owner.get(link["href"]).headers["Location"] == f"/jobs/{second.id}?review=1"
    assert links_of(as_owner, url)["Download 1 (ZIP)"] == f"{url}.zip"
    for verdict, last in [
        ("rejected", {"1 rejected": f"{url}/verdicts", "Download 1 (ZIP)": f"{url}.zip"}),
        (
            "approved",
            {
                "1 approved": f"{url}/verdicts",
                "Download 1 approved (ZIP)": f"{url}.zip?verdict=approved",
            },
        ),
    ]:
        as_owner.post(f"/jobs/{second.id}/verdict", data={"verdict": verdict})
        assert list(links_of(as_owner, url).items())[-2:] == list(last.items())


def links_of(browser, url):
    page = pages.check(browser.get(url))
    return {each.text: each["href"] for each in page.one(id="batch-actions").all("a")}


def test_rejected_pictures_run_again_in_a_child(as_owner, conn, owner, photos):
    job = factories.make_job(conn, user=owner, image=photos[0], status="completed")
    url = f"/batches/{job.batch_id}"
    as_owner.post(f"/jobs/{job.id}/verdict", data={"verdict": "rejected", "reason": "fit"})
    page = pages.check(as_owner.get(url))
    link = next(each for each in page.all("a") if each.text == "Rejected again, but…")
    assert as_owner.get(link["href"]).status_code == 200
    button = next(each for each in page.all("button") if each.text == "Run 1 rejected again")
    fields = {each["name"]: each["value"] for each in button.parent.all("input")}
    child = as_owner.post(button.parent["action"], data=fields).headers["Location"]
    assert child not in {url, "/upload"}
    assert as_owner.post(button.parent["action"], data=fields).headers["Location"] == child
    made = as_owner.json(child).json
    assert [each["original_filename"] for each in made["jobs"]] == [photos[0].original_filename]
    answer = as_owner.json(
        f"{url}/retry", method="POST", data={"setting": "outdoor", "scope": "all"}
    )
    assert answer.status_code == 200
    assert answer.json["jobs"][0]["parameters"] == {"setting": "outdoor"}
    odd = as_owner.json(f"{url}/retry", method="POST", data={"setting": "moon", "scope": "all"})
    assert odd.status_code == 422


# --- Made again -------------------------------------------------------------------------------


@pytest.fixture
def family(conn, owner, photos):
    """A batch with two results, and one that makes both again with another setting."""
    parent = factories.make_batch(conn, user=owner, photos=photos[:2])
    for job in factories.jobs_of(conn, parent):
        factories.move(conn, job, user=owner, status="completed")
    child = factories.make_batch(
        conn, user=owner, photos=photos[:2], parameters={"setting": "outdoor", "seed": 5}
    )
    conn.execute("UPDATE batches SET parent_id = %s WHERE id = %s", [parent.id, child.id])
    pairs = zip(factories.jobs_of(conn, parent), factories.jobs_of(conn, child), strict=True)
    for old, new in pairs:
        conn.execute("UPDATE processing_jobs SET parent_id = %s WHERE id = %s", [old.id, new.id])
    return parent, child


def test_a_child_says_what_is_different(as_owner, family):
    parent, child = (f"/batches/{batch.id}" for batch in family)
    page = pages.check(as_owner.get(child))
    crumb = page.one("nav", class_="crumbs")
    assert re.fullmatch(r"History / From the batch of today \d\d:\d\d", crumb.text)
    assert [each["href"] for each in crumb.all("a")] == ["/jobs", parent]
    (line,) = page.all("p", class_="lineage")
    assert line.text == "Setting Outdoor, was Studio white · Seed 5, was left open"
    assert [each.text for each in line.all("b")] == ["Outdoor", "5"]
    (link,) = pages.check(as_owner.get(parent)).one("p", class_="lineage").all("a")
    assert link["href"] == child


def test_each_frame_of_a_child_is_a_pair(as_owner, conn, owner, family):
    before = [job.result_image_id for job in factories.jobs_of(conn, family[0])]
    jobs = factories.jobs_of(conn, family[1])
    factories.move(conn, jobs[0], user=owner, status="completed")
    now = factories.jobs_of(conn, family[1])[0].result_image_id
    for path in (f"/batches/{family[1].id}", f"/batches/{family[1].id}/live"):
        page = pages.check(as_owner.get(path), whole="live" not in path)
        shown = [[img["src"] for img in each.all("img")] for each in page.all("article")]
        assert shown == [
            [f"/images/{image}?size=thumb" for image in pair]
            for pair in [(now, before[0]), (jobs[1].original_image_id, before[1])]
        ]


def test_a_parent_that_is_gone(as_owner, conn, family):
    conn.execute(
        "UPDATE processing_jobs SET deleted_at = now() WHERE batch_id = %s", [family[0].id]
    )
    page = pages.check(as_owner.get(f"/batches/{family[1].id}"))
    assert list(page.all("img", class_="inset")) == []
    conn.execute("DELETE FROM batches WHERE id = %s", [family[0].id])
    assert (
        list(pages.check(as_owner.get(f"/batches/{family[1].id}")).all("p", class_="lineage")) == []
    )


# --- Watching ---------------------------------------------------------------------------------


def settle(conn):
    """As if all had been a minute ago: the fragment looks five seconds back."""
    conn.execute("ALTER TABLE processing_jobs DISABLE TRIGGER USER")
    conn.execute("UPDATE processing_jobs SET updated_at = updated_at - interval '1 minute'")
    conn.execute("ALTER TABLE processing_jobs ENABLE TRIGGER USER")


def ask(browser, page):
    """What the script of this page asks next."""
    sheet = page.one(id="cards")
    url = f"{sheet['data-live']}?since={sheet['data-since']}"
    return live(browser, url, If_None_Match=f'"{sheet["data-version"]}"')


def live(browser, url, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return browser.get(url, headers=named)


def test_nothing_new_is_304(as_owner, pilot):
    page = pages.check(as_owner.get(pilot["url"]))
    sheet = page.one(id="cards")
    version = sheet["data-version"]
    url = f"{sheet['data-live']}?since={version}"
    for tag in (f'"{version}"', f'W/"{version}"', f'"old", "{version}"'):
        answer = live(as_owner, url, If_None_Match=tag)
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == f'"{version}"'
    assert live(as_owner, url, If_None_Match='"old"').status_code == 200
    assert live(as_owner, url).headers["Cache-Control"] == "private, no-cache"


def test_only_what_changed_comes(as_owner, conn, owner):
    photos = [factories.make_image(conn, user=owner) for _ in range(5)]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    jobs = factories.jobs_of(conn, batch)
    conn.execute(
        "UPDATE processing_jobs SET status = 'cancelled', completed_at = now() WHERE batch_id = %s",
        [batch.id],
    )
    page = pages.check(as_owner.get(f"/batches/{batch.id}"))
    settle(conn)
    as_owner.post(f"/jobs/{jobs[2].id}/retry")
    answer = ask(as_owner, page)
    assert answer.status_code == 200
    fragment = pages.check(answer, whole=False)
    assert [each["id"] for each in fragment.all("article")] == [f"job-{jobs[2].id}"]
    outer = fragment.one("div", data_version=answer.headers["ETag"].strip('"'))
    assert outer["data-title"] == "(0/5) Batch – i2i"
    assert "data-busy" in outer.attributes
    assert fragment.one(id="status").text.startswith("0 of 5 done, 4 cancelled.")
    for name in ("batch-actions", "strip", "charged", "pilot"):
        assert page.one(id=name)
        assert fragment.one(id=name)


def test_one_more_of_two_hundred_is_a_small_answer(as_owner, conn, owner):
    photos = [
        factories.make_image(conn, user=owner, name=f"NF26-{number}_wrap-dress-green.jpg")
        for number in range(100, 300)
    ]
    batch = factories.make_batch(conn, user=owner, photos=photos)
    jobs = factories.jobs_of(conn, batch)
    for job in jobs[:10]:
        factories.move(conn, job, user=owner, status="processing")
    settle(conn)
    page = pages.check(as_owner.get(f"/batches/{batch.id}"))
    assert ask(as_owner, page).status_code == 304
    factories.move(conn, jobs[10], user=owner, status="processing")
    answer = ask(as_owner, page)
    assert len(answer.data) <= 30_000
    fragment = pages.check(answer, whole=False)
    assert [each["id"] for each in fragment.all("article")] == [f"job-{jobs[10].id}"]
    moved = list(fragment.one("ol", id="line").all("li"))
    assert [int(each["value"]) for each in moved] == list(range(12, 201))
    assert moved[0].text.startswith("1st in line")
    assert len(list(fragment.one("svg", id="strip").all("rect"))) <= 6


def test_the_line_moves_without_a_change_of_ones_own(as_owner, conn, owner, other):
    theirs = factories.make_job(conn, user=other, created_at=datetime.now(UTC) - timedelta(days=1))
    job = factories.make_job(conn, user=owner)
    settle(conn)
    page = pages.check(as_owner.get(f"/batches/{job.batch_id}"))
    assert "2nd in line · no data yet" in page.one("article").text
    job_queries.cancel_waiting(conn, user_id=other.id, job_id=theirs.id)
    fragment = pages.check(ask(as_owner, page), whole=False)
    assert list(fragment.all("article")) == []
    assert fragment.one("li", value="1").text == "1st in line · no data yet"


def test_a_pause_reaches_the_page(as_owner, conn, owner):
    job = factories.make_job(conn, user=owner)
    settle(conn)
    page = pages.check(as_owner.get(f"/batches/{job.batch_id}"))
    assert "hidden" in page.one("section", id="banner").attributes
    breaker.trip(conn, reason="balance")
    fragment = pages.check(ask(as_owner, page), whole=False)
    assert "Paused 1st in line" in fragment.one("article").text
    assert "Making pictures is paused." in fragment.one("section", id="banner").text
    assert fragment.one(id="status").text == "0 of 1 done. 1 is paused and starts by itself."


def test_a_prepared_photo_reaches_the_page(as_owner, conn, owner):
    photo = factories.make_image(conn, user=owner, status="preparing")
    job = factories.make_job(conn, user=owner, image=photo)
    settle(conn)
    page = pages.check(as_owner.get(f"/batches/{job.batch_id}"))
    assert "photo is being prepared" in page.one("article").text
    image_queries.finish_preparing(conn, image_id=photo.id, fence=0, width=64, height=48)
    fragment = pages.check(ask(as_owner, page), whole=False)
    assert fragment.one("li", value="1").text == "1st in line · no data yet"


@pytest.mark.parametrize("since", ["", "x", "1", "1-", "1-x", "-5", "1-" + "9" * 40, "%00", "1-٣"])
def test_an_odd_since_shows_everything(as_owner, pilot, since):
    answer = as_owner.get(f"{pilot['url']}/live?since={since}")
    assert answer.status_code == 200
    assert len(pages.check(answer, whole=False).all("article")) == 6


def test_the_fragment_is_like_the_page(as_owner, pilot):
    page = pages.check(as_owner.get(pilot["url"]))
    fragment = pages.check(as_owner.get(f"{pilot['url']}/live"), whole=False)
    ids = {each["id"] for each in fragment.all() if each.get("id")}
    assert ids <= {each["id"] for each in page.all() if each.get("id")}


def test_statements_do_not_grow_with_the_pictures(as_owner, conn, owner, count_statements):
    counts = {}
    for number in (3, 50):
        photos = [factories.make_image(conn, user=owner) for _ in range(number)]
        batch = factories.make_batch(conn, user=owner, photos=photos)
        for path in (f"/batches/{batch.id}", f"/batches/{batch.id}/live", "/jobs", "/upload"):
            with count_statements() as statements:
                assert as_owner.get(path).status_code == 200
            counts.setdefault(path.replace(str(batch.id), ""), []).append(len(statements))
        for path in (f"/batches/{batch.id}", "/jobs"):
            with count_statements() as statements:
                assert as_owner.json(path).status_code == 200
            counts.setdefault(f"json {path[:8]}", []).append(len(statements))
        with count_statements() as statements:
            assert as_owner.get(**new_url(photos)).status_code == 200
        counts.setdefault("new", []).append(len(statements))
        with count_statements() as statements:
            assert make(as_owner, photos, client_key=f"{number} of them").status_code == 201
        counts.setdefault("make", []).append(len(statements))
        with count_statements() as statements:
            assert as_owner.post(f"/batches/{batch.id}/cancel").status_code == 303
        counts.setdefault("cancel", []).append(len(statements))
    assert {path: few for path, (few, many) in counts.items() if few != many} == {}
    assert max(few for few, _ in counts.values()) <= 22


@pytest.mark.parametrize("size", ["s", "m", "l", "", "xl"])
def test_the_size_of_the_frames_is_kept(as_owner, pilot, size):
    for url in (f"{pilot['url']}?size={size}", pilot["url"]):
        page = pages.check(as_owner.get(url))
        assert f"sheet-{size if size in set('sml') else 'm'}" in page.one(id="cards")["class"]


def test_many_pictures_have_small_frames(as_owner, conn, owner):
    photos = [factories.make_image(conn, user=owner)] * 31
    batch = factories.make_batch(conn, user=owner, photos=photos)
    page = pages.check(as_owner.get(f"/batches/{batch.id}"))
    assert "sheet-s" in page.one(id="cards")["class"]


def test_names_are_shown_never_run(as_owner, conn, owner):
    photo = factories.make_image(conn, user=owner, name=EVIL)
    job = factories.make_job(conn, user=owner, image=photo, status="failed")
    conn.execute("UPDATE processing_jobs SET error_message = %s", [EVIL])
    for path in (f"/batches/{job.batch_id}", f"/jobs/{job.id}", "/jobs"):
        page = pages.check(as_owner.get(path))
        assert not page.all("img", src="x")
        assert EVIL in page.text
    answer = as_owner.get(f"/batches/{job.batch_id}/live")
    assert not pages.check(answer, whole=False).all("img", src="x")
    new = pages.check(as_owner.get(**new_url([photo])))
    assert not new.all("img", src="x")


def test_the_bar_counts_the_newest_batch_at_work(as_owner, pilot):
    page = pages.check(as_owner.get("/upload"))
    link = page.one("a", class_="running")
    assert urlsplit(link["href"]).path == pilot["url"]
    assert re.match(r"0 of 6", link.text)
    for path in (pilot["url"], f"{pilot['url']}/live"):  # live.js keeps it up to date there
        assert as_owner.get(path).get_data(as_text=True).count('class="running"') == 1


def test_settings_are_checked_by_the_workflow_that_runs_them(as_owner, conn, photos):
    """Neither the address nor a second field names another one for the check than for the work."""
    free = {"setting": {"type": "string", "title": "Setting", "maxLength": 40, "x-order": 10}}
    schema = factories.document()["parameter_schema"] | {"properties": free}
    request = {"prompt": "{{ setting }}", "image_urls": "{{ image_urls }}"}
    factories.make_workflow(
        conn, id="free-v1", parameter_schema=schema, request_template=request, max_references=0
    )
    wish = order(photos, setting="anything at all")
    answers = [
        as_owner.json("/batches", method="POST", data=wish, query_string={"workflow": "free-v1"}),
        as_owner.json("/batches", method="POST", data=wish | {"switch": "free-v1"}),
        as_owner.json("/batches", method="POST", data=wish | {"workflow": ["basic-v1", "free-v1"]}),
    ]
    ran = conn.execute("SELECT workflow_name FROM processing_jobs").fetchall()
    assert [each.status_code for each in answers] == [422, 201, 422]
    assert set(ran) == {("free-v1",)}
