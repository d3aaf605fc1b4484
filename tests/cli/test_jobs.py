"""flask jobs: states and costs for operators, never what users wrote."""

import io
import json
from uuid import uuid4

import pytest
from factories import make_job, make_user
from PIL import Image

from i2i.gateways.fal import HttpFal
from i2i.queries import breaker


@pytest.fixture
def anna(db_conn):
    return make_user(db_conn, email="anna@example.com")


def photo():
    data = io.BytesIO()
    Image.new("RGB", (64, 48), "navy").save(data, "JPEG")
    return data.getvalue()


def status_of(connection, job):
    row = connection.execute("SELECT status FROM processing_jobs WHERE id = %s", [job.id])
    return row.fetchone()[0]


def test_list_is_newest_first_and_narrows(flask, db_conn, anna):
    other = make_user(db_conn, email="other@example.com")
    made = [
        make_job(db_conn, user=anna, status="completed"),
        make_job(db_conn, user=anna),
        make_job(db_conn, user=other),
    ]
    found = json.loads(flask("jobs", "list", "--json").stdout)
    assert [each["id"] for each in found] == [str(job.id) for job in reversed(made)]
    assert found[0]["email"] == "other@example.com"
    assert "parameters" not in found[0]

    def ids(*options):
        return [each["id"] for each in json.loads(flask("jobs", "list", "--json", *options).stdout)]

    assert ids("--status", "completed") == [str(made[0].id)]
    assert ids("--user", "Anna@example.com") == [str(made[1].id), str(made[0].id)]
    assert ids("--limit", "1") == [str(made[2].id)]
    assert str(made[0].id) in flask("jobs", "list").stdout
    assert flask("jobs", "list", "--status", "lost").exit_code == 2
    nobody = flask("jobs", "list", "--user", "nobody@example.com")
    assert (nobody.exit_code, nobody.stderr) == (1, "i2i: There is no user nobody@example.com.\n")


def test_show_tells_the_ledger_in_words_and_no_prompt(flask, db_conn, anna):
    job = make_job(db_conn, user=anna, status="completed")
    db_conn.execute('UPDATE processing_jobs SET parameters = \'{"prompt": "secret wish"}\'')
    result = flask("jobs", "show", str(job.id))
    assert result.exit_code == 0, result.output
    assert "Status        completed" in result.stdout
    assert "a picture came" in result.stdout
    assert "charged" in result.stdout
    shown = json.loads(flask("jobs", "show", str(job.id), "--json").stdout)
    (submission,) = shown["submissions"]
    assert (submission["state"], submission["outcome"]) == ("settled", "picture")
    assert not {"parameters", "arguments"} & (shown.keys() | submission.keys())
    assert "secret wish" not in result.output + json.dumps(shown)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("failed", "refused by fal before it was accepted; no; not charged."),
        (
            "unknown",
            "the answer was lost, it may have been accepted; lost; the charge is not known",
        ),
        ("processing", "fal works on it"),
        ("submitting", "getting ready, not sent; not charged."),
    ],
)
def test_show_says_what_became_of_the_request(flask, db_conn, anna, status, words):
    job = make_job(db_conn, user=anna, status=status)
    assert words in flask("jobs", "show", str(job.id)).stdout


@pytest.mark.parametrize("command", ["show", "retry", "cancel", "recover"])
def test_an_id_that_is_none_or_nobodys_is_one_line(flask, fal_environ, command):
    result = flask("jobs", command, "12; drop", **fal_environ)
    assert result.exit_code == 1
    assert result.stderr == (
        "i2i: '12; drop' is no id of a job. They are listed by: flask jobs list\n"
    )
    lost = str(uuid4())
    result = flask("jobs", command, lost, **fal_environ)
    assert (result.exit_code, result.stderr) == (1, f"i2i: There is no job {lost}.\n")


def test_retry_takes_failed_and_cancelled_ones(flask, db_conn, anna):
    job = make_job(db_conn, user=anna, status="failed")
    assert flask("jobs", "retry", str(job.id)).exit_code == 0
    assert status_of(db_conn, job) == "pending"
    again = flask("jobs", "retry", str(job.id))
    assert again.exit_code == 1
    assert "failed or was cancelled" in again.stderr


def test_cancel_is_free_while_it_waits_and_a_request_later(flask, db_conn, anna):
    waiting = make_job(db_conn, user=anna)
    assert "nothing was charged" in flask("jobs", "cancel", str(waiting.id)).stdout
    assert status_of(db_conn, waiting) == "cancelled"
    sent = make_job(db_conn, user=anna, status="processing")
    assert "asked to stop" in flask("jobs", "cancel", str(sent.id)).stdout
    done = make_job(db_conn, user=anna, status="completed")
    assert flask("jobs", "cancel", str(done.id)).exit_code == 1


def test_stats_counts_states_and_todays_money(flask, db_conn, anna):
    for status in ("pending", "pending", "processing", "completed"):
        make_job(db_conn, user=anna, status=status)
    found = json.loads(flask("jobs", "stats", "--json").stdout)
    assert found["states"]["pending"] == 2
    assert found["states"]["held"] == 0
    assert (found["in_flight"], found["max_in_flight"]) == (1, 10)
    assert found["today"]["pictures"] == 2
    assert found["daily_pictures"] == 500
    assert "In flight: 1 of 10" in flask("jobs", "stats").stdout


def test_stats_say_what_needs_a_look_and_who_works(flask, db_conn, anna):
    make_job(db_conn, user=anna, status="unknown")
    lines = flask("jobs", "stats").stdout.splitlines()
    assert "Needs a look: 1 job (unknown): Lost." in lines
    assert "No worker is running: pictures wait" in lines
    db_conn.execute(
        "INSERT INTO workers (id, host, process_id, release, trouble)"
        " VALUES (gen_random_uuid(), 'studio', 4711, '1', 'No fal key is set')"
    )
    lines = flask("jobs", "stats").stdout.splitlines()
    assert "Worker on studio (4711): seen 0 s ago: No fal key is set" in lines
    assert "No worker is running: pictures wait" not in lines
    db_conn.execute("UPDATE workers SET seen_at = now() - interval '31 seconds'")
    assert "No worker is running: pictures wait" in flask("jobs", "stats").stdout
    found = json.loads(flask("jobs", "stats", "--json").stdout)
    assert [each["host"] for each in found["workers"]] == ["studio"]
    assert found["attention"] == [{"status": "unknown", "reason": "Lost.", "count": 1}]


def test_stats_say_why_nothing_is_sent(flask, db_conn, anna):
    make_job(db_conn, user=anna)
    assert "paused" not in flask("jobs", "stats").stdout
    breaker.trip(db_conn, reason="balance")
    line = flask("jobs", "stats").stdout.splitlines()[-1]
    assert line.startswith("Sending is paused since 2")
    assert line.endswith("Z (the account's balance); waiting: 1 picture")


# --- recover --------------------------------------------------------------------------------------


def test_recover_is_for_unknown_jobs_and_needs_fal(flask, db_conn, anna, fal_environ):
    job = make_job(db_conn, user=anna)
    result = flask("jobs", "recover", str(job.id))
    assert (result.exit_code, "No fal key is set" in result.stderr) == (1, True)
    result = flask("jobs", "recover", str(job.id), **fal_environ)
    assert result.stderr == "i2i: This job is pending; only an unknown one is searched for.\n"


def test_recover_finds_a_request_whose_answer_was_lost(
    flask, db_conn, anna, make_settings, fal_environ
):
    older = make_job(db_conn, user=anna, status="unknown")
    job = make_job(db_conn, user=anna, status="unknown")
    token, endpoint = db_conn.execute(
        "SELECT token, endpoint FROM submissions WHERE job_id = %s", [job.id]
    ).fetchone()
    fal = HttpFal(make_settings(**fal_environ))
    url = fal.upload(
        name=f"{token}-0.jpg",
        data=photo(),
        content_type="image/jpeg",
        keep_alive=lambda: None,
    )
    request_id = fal.submit(endpoint, {"image_urls": [url], "prompt": "A coat."}).request_id

    result = flask("jobs", "recover", str(job.id), **fal_environ)

    assert result.exit_code == 0, result.output
    assert f"Found: fal has it as {request_id}" in result.stdout
    assert status_of(db_conn, job) == "processing"
    assert status_of(db_conn, older) == "unknown"
    missing = flask("jobs", "recover", str(older.id), **fal_environ)
    assert (missing.exit_code, "Not found so far" in missing.stdout) == (0, True)
    assert status_of(db_conn, older) == "unknown"
