"""The page that an operator opens when something is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import factories
import pages
import pytest

from i2i import __version__, db
from i2i.queries import backups, breaker, submissions
from i2i.web.admin.health import tone_of_disk

SECRET = "A person wearing the autumn coat that nobody may know of"


def facts_of(browser, **headers):
    """{word: (tone, fact)} as JSON tells it."""
    answer = browser.get("/admin/health", headers={"Accept": "application/json"} | headers)
    assert answer.status_code == 200
    return {each["word"]: (each["tone"], each["fact"]) for each in answer.json["facts"]}


def make_worker(conn, *, host="studio", seconds=4, trouble=None, release=__version__):
    conn.execute(
        "INSERT INTO workers (id, host, process_id, release, trouble, seen_at) VALUES"
        " (gen_random_uuid(), %s, 4711, %s, %s, now() - make_interval(secs => %s))",
        [host, release, trouble, seconds],
    )


def refuse(conn, user, *, detail, prompt=SECRET):
    """A job whose request fal refused with these words."""
    job = factories.make_job(conn, user=user)
    fence = factories.claim(conn, job)
    token = factories.make_submission(conn, job=job, user=user)
    submissions.mark_sent(conn, token=token, arguments={"prompt": prompt}, estimate=None)
    submissions.reject(
        conn, token=token, http_status=422, error_type="content_policy_violation", detail=detail
    )
    factories.jobs.fail(
        conn, job_id=job.id, fence=fence, error_code="refused", error_message="Refused."
    )
    return job


def test_the_page_and_its_json_say_the_same(as_admin, conn):
    make_worker(conn)
    page = pages.check(as_admin.get("/admin/health"))
    facts = facts_of(as_admin)
    assert facts["Database"][1].startswith("PostgreSQL ")
    assert facts["Schema"] == ("fine", "up to date")
    assert facts["Worker on studio"] == ("fine", "seen 4 s ago · process 4711")
    for word, (_, fact) in facts.items():
        if not word.startswith(("Database", "Disk")):  # measured anew each time
            assert f"{word} {fact}" in page.text


def test_no_worker_is_trouble_and_stands_first(as_admin, conn):
    make_worker(conn, seconds=31)
    found = as_admin.json("/admin/health").json
    assert found["status"] == "trouble"
    assert found["facts"][0]["tone"] == "trouble"
    facts = facts_of(as_admin)
    assert facts["Worker"] == ("trouble", "No worker is running: pictures wait")
    assert facts["Worker on studio"][0] == "warning"
    assert facts["fal"] == ("warning", "not known: no worker asks")
    tones = [each["tone"] for each in found["facts"]]
    assert tones == sorted(tones, key=("trouble", "warning", "fine").index)
    first = pages.check(as_admin.get("/admin/health")).all("li", class_="check-line")[0]
    assert first.text.startswith("Trouble: ")


@pytest.mark.parametrize("trouble", ["No fal key is set", "fal cannot be reached"])
def test_fal_is_as_the_workers_see_it(as_admin, conn, trouble):
    make_worker(conn, trouble=trouble)
    assert facts_of(as_admin)["fal"] == ("trouble", trouble)
    make_worker(conn, host="another")
    assert facts_of(as_admin)["fal"] == ("trouble", f"for some workers {trouble}")


def test_a_worker_of_another_release_is_named(as_admin, conn):
    make_worker(conn, release="0.0.9")
    tone, fact = facts_of(as_admin)["Worker on studio"]
    assert (tone, f"runs release 0.0.9, these pages {__version__}" in fact) == ("warning", True)


def test_the_newest_backup_that_was_found_whole(as_admin, conn):
    assert facts_of(as_admin)["Backup"] == ("warning", "none was ever verified")
    for hours in (50, 5):
        backups.save_verified(
            conn,
            backup_id=uuid4(),
            taken_at=datetime.now(UTC) - timedelta(hours=hours),
            images=3000,
            checked=200,
        )
        tone, fact = facts_of(as_admin)["Backup"]
        assert tone == ("warning" if hours == 50 else "fine")
        assert fact.startswith(f"{hours} h old, found whole ")
        assert fact.endswith(" · 3,000 images, 200 of them read")


def test_a_missing_migration_is_trouble(as_admin, conn):
    newest = db.shipped_migrations()[-1]
    conn.execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", [newest])
    assert facts_of(as_admin)["Schema"] == ("trouble", f"{newest} missing: run flask db migrate")


def test_a_pause_says_since_when_why_and_when_it_is_checked(as_admin, conn, owner):
    assert facts_of(as_admin)["Sending"] == ("fine", "not paused")
    factories.make_job(conn, user=owner)
    breaker.trip(conn, reason="balance")
    tone, fact = facts_of(as_admin)["Sending"]
    assert tone == "trouble"
    for words in ("paused since today ", "no balance", "1 picture waiting", "again at "):
        assert words in fact


def test_the_queue_by_state_with_the_oldest(as_admin, conn, owner):
    for status in ("held", "pending", "pending", "processing"):
        factories.make_job(conn, user=owner, status=status)
    conn.execute(
        "UPDATE processing_jobs SET created_at = now() - interval '3 hours'"
        " WHERE id = (SELECT id FROM processing_jobs WHERE status = 'pending' LIMIT 1)"
    )
    queue = as_admin.json("/admin/health").json["queue"]
    assert queue["pending"] == {"jobs": 2, "oldest_seconds": 10800.0}
    assert (
        facts_of(as_admin)["Queue"][1]
        == "2 pictures waiting, the oldest for 3 h · 1 of 10 in flight"
    )
    rows = pages.check(as_admin.get("/admin/health")).all("tr")
    assert {"Waiting 2 3 h", "Saving 0 –"} <= {row.text for row in rows}


def test_what_needs_a_person_is_counted_by_its_reason(as_admin, conn, owner):
    for status in ("unknown", "unknown", "storing"):
        factories.make_job(conn, user=owner, status=status)
    conn.execute(
        "UPDATE processing_jobs SET attention = 'The disk is full.' WHERE status = 'storing'"
    )
    facts = as_admin.json("/admin/health").json["facts"]
    found = [(each["tone"], each["fact"]) for each in facts if each["word"] == "Needs a look"]
    assert found == [("warning", "2 jobs · Lost."), ("warning", "1 job · The disk is full.")]
    page = pages.check(as_admin.get("/admin/health"))
    assert len(page.all("a", href="/admin/jobs?show=open")) == 2


def test_the_last_errors_are_the_providers_words_without_what_was_sent(as_admin, conn, owner):
    refuse(conn, owner, detail=f"HTTP 422: body.prompt: flagged: '{SECRET.upper()}' is not allowed")
    (row,) = as_admin.json("/admin/health").json["failures"]
    assert row["user"] == owner.email
    assert row["error_type"] == "content_policy_violation"
    assert row["words"] == "HTTP 422: body.prompt: flagged: '…' is not allowed"
    page = pages.check(as_admin.get("/admin/health"))
    assert row["words"] in page.text
    assert "autumn coat" not in page.source.lower()


def test_only_the_ten_newest_errors_are_shown(as_admin, conn, owner):
    for number in range(12):
        refuse(conn, owner, detail=f"HTTP 422: number {number}")
        conn.execute(
            "UPDATE submissions SET sent_at = now() - make_interval(mins => 20 - %s)"
            " WHERE detail = %s",
            [number, f"HTTP 422: number {number}"],
        )
    found = [row["words"] for row in as_admin.json("/admin/health").json["failures"]]
    assert found == [f"HTTP 422: number {number}" for number in range(11, 1, -1)]


def test_pictures_prompts_and_names_of_files_are_nowhere(as_admin, conn, owner):
    photo = factories.make_image(conn, user=owner, name="very-secret-coat.jpg")
    for status in ("failed", "unknown", "completed", "storing"):
        factories.make_job(conn, user=owner, status=status, image=photo)
    for path in ("/admin/health", "/admin/jobs", "/admin/usage"):
        for answer in (as_admin.get(path), as_admin.json(path)):
            assert answer.status_code == 200
            for word in ("secret", "studio white", "/images/", "<img", "https://v3.fal.media"):
                assert word not in answer.text


def test_a_proxy_that_is_not_believed_is_named(as_admin):
    assert "Proxy" not in facts_of(as_admin)
    tone, fact = facts_of(as_admin, **{"X-Forwarded-For": "203.0.113.7"})["Proxy"]
    assert (tone, "TRUSTED_PROXIES is 0" in fact) == ("warning", True)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("203.0.113.7", "1 hop in"),
        ("203.0.113.7, 198.51.100.7", None),
        ("10.0.0.1, 203.0.113.7, 198.51.100.7", "3 hops in"),
    ],
)
def test_more_and_fewer_proxies_than_are_believed_are_named(
    app, as_admin, make_settings, header, found
):
    app.extensions["i2i"] = replace(
        app.extensions["i2i"], settings=make_settings(TRUSTED_PROXIES="2")
    )
    fact = facts_of(as_admin, **{"X-Forwarded-For": header}).get("Proxy")
    if found is None:
        assert fact is None
    else:
        assert fact[0] == "warning"
        assert f"{found} X-Forwarded-For, and TRUSTED_PROXIES is 2: " in fact[1]


def test_a_store_that_is_gone_is_trouble(as_admin, settings):
    (settings.data_dir / "blobs").rmdir()
    assert facts_of(as_admin)["Disk of the pictures"] == ("trouble", "The folder is not there.")


def test_folders_on_one_disk_are_one_line(as_admin):
    disks = [word for word in facts_of(as_admin) if word.startswith("Disk")]
    assert disks == ["Disk of DATA_DIR"]


@pytest.mark.parametrize(
    ("free", "tone"),
    [(0, "trouble"), (9, "trouble"), (10, "warning"), (99, "warning"), (100, "fine")],
)
def test_how_full_a_disk_may_be(free, tone):
    assert tone_of_disk(free, 1000) == tone


def test_a_full_day_is_a_warning(as_admin, conn, owner):
    assert facts_of(as_admin)["Today"] == ("fine", "0 of 500 pictures sent or asked for (UTC)")
    factories.make_job(conn, user=owner)
    assert facts_of(as_admin)["Today"][1].startswith("1 of 500 ")
