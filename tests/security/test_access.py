"""Rows 24 to 29: what belongs to somebody else, what nobody may set, and two clicks at once.

`tests/web/test_access.py` tries every route as everybody in this process; here it is the running
whole. That parallel uploads share one quota is row 29 of test_uploads.py.
"""

import re
from concurrent.futures import ThreadPoolExecutor

import factories
import pytest
from pictures import jpeg, photo
from routes import EXPECTED, ROUTES, WITH_IDS, fields_of, path_of

from i2i.sql import SQL_DIR, load

NOBODY = "00000000-0000-4000-8000-000000000000"

PICTURES = [(method, route) for method, route in WITH_IDS if not route.startswith("/admin")]

ADMIN = [(method, route) for method, route in ROUTES if route.startswith("/admin")]


def ask(client, method, route, things, *, accept="text/html", more=(), **headers):
    fields = {**fields_of(method, route, things), **dict(more)} if method == "POST" else None
    return client.request(
        method, path_of(method, route, things), fields=fields, headers={"Accept": accept} | headers
    )


WITHOUT_OWNER = {
    "a worker's step, which holds the row by its fence": (
        "images.claim_preparing images.finish_preparing images.reject images.postpone_preparing"
        " images.lease_ready images.renew_lease images.end_lease"
        " jobs.claim_send jobs.claim_fal jobs.claim_expired jobs.renew_lease jobs.lock_sendable"
        " jobs.return_to_pending jobs.accept jobs.lose_answer jobs.keep_waiting jobs.postpone"
        " jobs.begin_storing jobs.complete jobs.fail jobs.cancel_sending jobs.cancel_at_fal"
        " jobs.ask_cancel_late jobs.reopen jobs.find_due jobs.fail_of_image"
        " jobs.explain_withheld images.add_further_output"
        " trash.list_images_of_jobs trash.purge_jobs trash.purge_images trash.purge_batches"
    ),
    "of a batch that was found, or made, with its owner a moment before": (
        "batches.add_reference images.find_references jobs.create"
        " jobs.cancel_held_of_parent submissions.spending_of_batch"
    ),
    "for operators: states, errors, counts": (
        "jobs.find jobs.count_statuses jobs.count_attention jobs.page_troubled"
        " jobs.count_in_flight jobs.count_of_workflow jobs.cancel_waiting_of_workflow"
        " workflows.list_overview images.sum_bytes breaker.find"
    ),
    "for `flask storage`: whether the bytes of all rows are there": (
        "images.page_stored images.find_stored images.show_preview images.mark_lost"
        " images.mark_found images.list_stored jobs.mark_result"
    ),
    "for `flask backup`: counts, and what a restore holds back": (
        "backups.export_snapshot backups.count_rows backups.save_verified backups.find_newest"
        " backups.return_unsent backups.hold_unsent"
    ),
    "for everybody: what an admin chose to show, what a workflow usually takes": (
        "images.find_of_sample jobs.list_usual_seconds workflows.find workflows.list_all"
    ),
    "no more than a lock or a knock": (
        "images.lock_uploads images.notify_work webhooks.make_job_due"
    ),
}
"""Why a query on what users own asks for no owner: names by reason."""

# --- Row 24 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["other", "admin", "anonymous"])
def test_row_24_ids_of_others_open_nothing(town, who):
    """Every route with an id, as page, as JSON, by HEAD and by OPTIONS; it changes nothing."""
    client, before = town.client(who), town.snapshot()
    missing = dict.fromkeys(town.things, NOBODY)
    for method, route in PICTURES:
        for accept in ("text/html", "application/json"):
            answer = ask(client, method, route, town.things, accept=accept)
            if who == "anonymous":
                assert answer.status == (401 if accept == "application/json" else 303), route
            else:
                assert answer.status == 404, (method, route)
                nothing = ask(client, method, route, missing, accept=accept)
                assert nothing.data == answer.data, "the same words as for what is nowhere"
        if method == "GET":
            path = path_of(method, route, town.things)
            head = client.request("HEAD", path, headers={"Accept": "text/html"})
            assert head.status == (303 if who == "anonymous" else 404)
            options = client.request("OPTIONS", path)
            assert options.status in {200, 401, 404}
            assert b"photo" not in options.data
    assert town.snapshot() == before


def test_row_24_no_side_door(town):
    """Lists, counts, search, live updates, ZIP, samples, presets, and ids within forms."""
    client, things, before = town.client("other"), town.things, town.snapshot()
    ids = {str(each) for each in things.values()}
    for path in (
        "/upload",
        f"/upload?image={things['image']}",
        "/upload?select=all",
        f"/images?image={things['image']}",
        "/jobs",
        "/jobs?view=batches",
        "/jobs?q=photo",
        "/jobs?verdict=none&status=failed",
        "/trash",
        "/presets",
        "/account",
        f"/batches/new?image={things['image']}",
        f"/batches/new?parent={things['made']}&scope=all",
        f"/batches/new?preset={things['preset']}",
        f"/jobs/again?job={things['done']}",
        f"/jobs.zip?job={things['done']}",
        f"/jobs.zip?job={things['done']}&everything=1",
        "/workflows/basic-v1/sample/result",
    ):
        for accept in ("text/html", "application/json"):
            answer = client.request("GET", path, headers={"Accept": accept})
            asked = set(re.findall(r"[0-9a-f-]{36}", path))
            said = answer.data.decode("utf-8", "replace")
            assert answer.status in {200, 303, 404, 409}, (path, answer.status)
            assert not any(each in said for each in ids - asked), path
            assert answer.headers.get("Content-Type") != "application/zip"
    mine = factories.make_image(town.conn, user=town.users["other"])
    order = {"workflow": "basic-v1", "setting": "outdoor", "client_key": "0123456789abcdef"}
    for fields, status in [
        ({"image": [str(mine.id), str(things["image"])]}, {422}),
        ({"image": str(mine.id), "reference": str(things["image"])}, {422}),
        ({"image": str(mine.id), "parent": str(things["batch"])}, {404}),
        ({"image": str(mine.id), "preset": str(things["preset"])}, {201, 404}),
    ]:
        answer = client.request("POST", "/batches", fields=order | fields)
        assert answer.status in status, (fields, answer.data)
    for path, fields in [
        ("/jobs/delete", {"job": str(things["done"])}),
        ("/jobs/delete", {"everything": "1"}),
        ("/trash/restore", {"image": str(things["image"]), "job": str(things["trashed"])}),
        ("/trash/empty", {"confirm": "1"}),
    ]:
        assert client.request("POST", path, fields=fields).status < 500
    assert town.snapshot() == before


def test_row_24_ownership_stands_in_the_sql():
    """A query that reads or changes what users own takes a `user_id`, or says here why not."""
    owned = r"\b(images|batches|batch_references|processing_jobs|presets|further_outputs)\b"
    open_to_all = set()
    for path in sorted(SQL_DIR.glob("*.sql")):
        for name, query in load(path.stem).items():
            text = query.text.decode()
            if re.search(owned, text) and "user_id" not in query.params:
                open_to_all.add(f"{path.stem}.{name}")
    assert open_to_all == set(" ".join(WITHOUT_OWNER.values()).split())


# --- Row 25 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["owner", "anonymous"])
def test_row_25_pages_of_operators(town, who):
    """For users they are not there, whatever is sent; anonymous ones are asked to sign in."""
    client, before = town.client(who), town.snapshot()
    for method, route in ADMIN:
        for accept in ("text/html", "application/json"):
            answer = ask(client, method, route, town.things, accept=accept, more={"role": "admin"})
            anonymous = 401 if accept == "application/json" else 303
            assert answer.status == (anonymous if who == "anonymous" else 404), (method, route)
    metrics = client.request("GET", "/metrics")
    assert metrics.status in {404, 401}
    assert town.snapshot() == before


def test_row_25_admins_see_no_pictures_and_no_prompts(town):
    """Of others they see states, errors and costs."""
    client = town.client("admin")
    secrets = {"studio white", "photo1", str(town.things["image"])}
    for method, route in ADMIN:
        if method == "GET" and not route.startswith("/admin/workflows"):
            answer = client.request(
                "GET", path_of(method, route, town.things), headers={"Accept": "text/html"}
            )
            assert not [each for each in secrets if each.encode() in answer.data], route


# --- Row 26 -----------------------------------------------------------------------------------

JOB = {
    *("id", "status", "attention", "original_filename", "workflow", "parameters", "error"),
    *("next_step", "charged", "queue_position", "eta_seconds", "original_url", "result_url"),
    *("created_at", "completed_at", "processing_time_ms", "url"),
    *("verdict", "verdict_reason", "verdict_note"),
}

IMAGE = {
    *("id", "url", "thumbnail_url", "preview_url", "original_filename", "file_size", "sha256"),
    *("mime_type", "width", "height", "status", "rejection", "created_at"),
}


JSON_KEYS = {
    "/images/<uuid:id>": IMAGE,
    "/jobs/<uuid:id>": JOB,
    "/jobs": JOB | {"jobs", "next"},
    "/batches/<uuid:id>": JOB | {"counts", "jobs"},
    "/batches/<uuid:id>/verdicts": {"approved", "rejected", "open"},
    "/trash": {"trash", "next", "kind", "id", "original_filename", "deleted_at", "gone_at"},
    "/presets": {"presets", "id", "name", "workflow", "parameters", "updated_at"},
    "/healthz": {"status"},
    "/readyz": {"status", "reason"},
}


def keys_of(value):
    """All keys of a JSON document, however deep."""
    if isinstance(value, dict):
        found = set(value)
        for name, each in value.items():
            found |= set() if name in {"parameters", "counts", "fields"} else keys_of(each)
        return found
    if isinstance(value, list):
        return set().union(*(keys_of(each) for each in value))
    return set()


def test_row_26_json_says_what_is_listed_and_no_more(town):
    """No path of the storage, no key, no token, no id of a user, nothing of somebody else."""
    client, seen = town.client("owner"), set()
    for method, route in ROUTES:
        if method == "GET" and EXPECTED[method, route, "owner"] == "200":
            path = path_of(method, route, town.things)
            answer = client.request("GET", path)
            if answer.headers.get("Content-Type") == "application/json":
                seen.add(route)
                allowed = JSON_KEYS.get(route)
                assert allowed is not None, f"{route} answers JSON: list its keys here"
                assert keys_of(answer.json()) <= allowed, route
                for secret in ("blobs", "password", "token", str(town.users["owner"].id)):
                    assert secret.encode() not in answer.data, (route, secret)
    assert seen == set(JSON_KEYS)


# --- Row 27 -----------------------------------------------------------------------------------


def test_row_27_fields_that_nobody_may_set(town):
    """Fields named as columns change nothing that their form does not change without them."""
    other = town.users["other"].id
    odd = {
        "user_id": other, "id": NOBODY, "status": "completed", "price": "0", "cost": "0",
        "is_admin": "1", "role": "admin", "is_whitelisted": "1", "charged": "no",
        "unit_price": "0", "fal_job_id": "x", "result_image_id": NOBODY, "blob_url": "/etc/passwd",
        "created_at": "2000-01-01", "deleted_at": "", "password_hash": "x", "estimate": "0",
        "email": "boss@example.com", "is_processed": "1", "fal_endpoint": "x", "estimate_usd": "0",
    }  # fmt: skip
    client = town.client("owner")
    users = town.snapshot()["users"]
    for method, route in ROUTES:
        if method == "POST" and not route.startswith(("/admin", "/login", "/logout", "/webhooks")):
            taken = set(fields_of(method, route, town.things)) | {"role"}
            more = {name: str(value) for name, value in odd.items() if name not in taken}
            if route != "/account/time-zone":
                answer = ask(client, method, route, town.things, more=more | {"role": "admin"})
                assert answer.status < 500, route
    now = town.snapshot()
    assert [row for row in now["users"] if "admin" in row[0]] == [
        row for row in users if "admin" in row[0]
    ]
    for table, column in (("images", "blob_url"), ("processing_jobs", "fal_job_id")):
        assert not any("/etc/passwd" in row[0] for row in now[table]), column
    assert town.conn.execute("SELECT count(*) FROM users WHERE email LIKE 'boss%'").fetchone() == (
        0,
    )
    for table in ("images", "batches", "presets"):
        count = town.conn.execute(
            f"SELECT count(*) FROM {table} WHERE user_id = %s", [other]
        ).fetchone()
        assert count == (0,), table
    made = town.conn.execute(
        "SELECT count(*) FROM batches WHERE client_key = '0123456789abcdef' AND user_id = %s",
        [town.users["owner"].id],
    ).fetchone()
    assert made == (0,), "a setting that the workflow does not know is refused"
    assert client.request("GET", "/admin/users").status == 404


# --- Row 28 -----------------------------------------------------------------------------------


def test_row_28_steps_out_of_their_order(town):
    """Nothing is made of a photo that is not there, and what has ended is not ended again."""
    client, owner, conn = town.client("owner"), town.users["owner"], town.conn
    order = {"workflow": "basic-v1", "setting": "outdoor"}
    thrown = factories.make_image(conn, user=owner)
    client.request("POST", f"/images/{thrown.id}/delete")
    unreadable = factories.make_image(conn, user=owner, status="rejected")
    for number, image in enumerate([thrown.id, unreadable.id, NOBODY]):
        fields = order | {"image": str(image), "client_key": f"out of order {number}"}
        answer = client.request("POST", "/batches", fields=fields)
        assert answer.status == 422, answer.data
    done, failed, waiting = (town.things[name] for name in ("done", "failed", "waiting"))
    batch = town.things["made"]
    before = town.snapshot()
    for path, fields, status in [
        (f"/jobs/{done}/cancel", {}, 409),
        (f"/jobs/{failed}/cancel", {}, 409),
        (f"/jobs/{done}/recover", {"action": "give_up"}, 409),
        (f"/jobs/{waiting}/retry", {}, 409),
        (f"/jobs/{waiting}/recover", {"action": "send", "confirm": "1"}, 409),
        (f"/jobs/{waiting}/verdict", {"verdict": "approved"}, 409),
        (f"/jobs/{failed}/verdict", {"verdict": "approved"}, 409),
        (f"/jobs/{done}/restore", {}, 404),
        (f"/batches/{batch}/retry", {"scope": "failed"}, 409),
    ]:
        answer = client.request("POST", path, fields=fields)
        assert answer.status == status, (path, fields, answer.status, answer.data)
    assert town.snapshot() == before


# --- Row 29 -----------------------------------------------------------------------------------


def test_row_29_twenty_submits_with_one_key_are_one_batch(stack):
    visitor = stack.visitor("hasty@example.com")
    image = visitor.upload("coat.jpg", jpeg(photo(size=(300, 200)), quality=71))
    order = {
        "image": image["id"],
        "workflow": "mannequin-to-human-v1",
        "client_key": "one key only",
    }
    with ThreadPoolExecutor(20) as threads:
        sent = [
            threads.submit(visitor.request, "POST", "/batches", fields=order) for _ in range(20)
        ]
        answers = [each.result() for each in sent]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    ((batches, jobs),) = stack.house.query(
        "SELECT count(DISTINCT batch.id), count(job.id) FROM batches AS batch"
        " JOIN processing_jobs AS job ON job.batch_id = batch.id"
        " JOIN users ON users.id = batch.user_id WHERE users.email = 'hasty@example.com'"
    )
    assert (batches, jobs) == (1, 1)
