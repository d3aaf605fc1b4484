"""Workflows in the browser: nothing is saved that does not hold, and nothing typed is lost."""

import html
import json
import re

import factories
import pages
import pytest

from i2i.documents import line_of, read, write_toml
from i2i.errors import InvalidWorkflow
from i2i.gateways.storage import image_key
from i2i.queries import trash, workflows

PATH = "/admin/workflows/basic-v1"


@pytest.fixture(autouse=True)
def workflow(conn):
    return factories.make_workflow(conn)


def text_in(answer):
    """What the text field holds, line breaks and all."""
    pages.check(answer)
    inside = re.search(r"<textarea[^>]*>\n(.*)</textarea>", answer.text, re.DOTALL)
    return html.unescape(inside[1])


def document_on(browser, path=PATH):
    return read(text_in(browser.get(path)))


def test_the_page_holds_the_document_that_export_writes(as_admin):
    document = document_on(as_admin)
    assert document["id"] == "basic-v1"
    assert document["default_parameters"] == {"setting": "studio white"}


def test_a_look_shows_form_and_request_and_saves_nothing(as_admin, conn):
    document = factories.document(name="Better")
    answer = as_admin.post(PATH, data={"document": json.dumps(document), "action": "check"})
    page = pages.check(answer)
    assert answer.status_code == 200
    assert page.one("input", name="setting", value="studio white").attributes.keys() >= {"checked"}
    assert "A person wearing it, studio white background" in page.text
    assert workflows.find(conn, workflow_id="basic-v1").version == 1


def test_saving_makes_the_next_version_and_shows_what_changed(as_admin, conn):
    text = write_toml(factories.document(name="Better"))
    answer = as_admin.post(PATH, data={"document": text, "action": "save"})
    assert (answer.status_code, answer.headers["Location"]) == (303, PATH)
    found = workflows.find(conn, workflow_id="basic-v1")
    assert (found.version, found.definition["name"]) == (2, "Better")
    page = pages.check(as_admin.get(PATH))
    assert 'Added: + name = "Better"' in page.one("ins").text
    assert 'name = "Basic"' in page.one("del").text


@pytest.mark.parametrize(
    ("change", "sentence", "line"),
    [
        (lambda text: text.replace('"Basic"', '"Basic'), "Line 2", 'name = "Basic'),
        (lambda text: text.replace("max_references = 2", "max_references = 7"), "3", "= 7"),
        (lambda text: "colour = 1\n" + text, "is not a key of a workflow", "colour = 1"),
        (lambda text: text.replace('"basic-v1"', '"other"'), "never changes", 'id = "other"'),
    ],
)
def test_a_fault_names_its_line_and_keeps_what_was_typed(as_admin, conn, change, sentence, line):
    text = change(write_toml(factories.document()))
    answer = as_admin.post(PATH, data={"document": text, "action": "save"})
    assert answer.status_code == 422
    page = pages.check(answer)
    assert "version 1 stays in use" in page.text
    assert sentence in page.one("div", class_="summary").text
    assert line in page.one("p", class_="bad").text
    assert text_in(answer) == text
    assert workflows.find(conn, workflow_id="basic-v1").version == 1


def test_a_new_one_begins_as_a_copy(as_admin, conn):
    document = document_on(as_admin, "/admin/workflows/new?copy=basic-v1")
    assert document["id"] == "new-id"
    taken = json.dumps(document | {"id": "basic-v1"})
    answer = as_admin.post("/admin/workflows", data={"document": taken, "action": "save"})
    assert answer.status_code == 422
    assert "There is a workflow with this id already." in answer.text
    mine = json.dumps(document | {"id": "mine"})
    answer = as_admin.post("/admin/workflows", data={"document": mine, "action": "save"})
    assert answer.headers["Location"] == "/admin/workflows/mine"
    assert workflows.find(conn, workflow_id="mine").version == 1


def test_switched_off_and_on(as_admin, conn, owner):
    job = factories.make_job(conn, user=owner)
    as_admin.post(f"{PATH}/active", data={"is_active": "no"})
    assert not workflows.find(conn, workflow_id="basic-v1").is_active
    assert factories.jobs.find(conn, job_id=job.id).status == "pending"
    as_admin.post(f"{PATH}/active", data={"is_active": "no", "cancel_waiting": "yes"})
    assert factories.jobs.find(conn, job_id=job.id).status == "cancelled"
    as_admin.post(f"{PATH}/active", data={"is_active": "yes"})
    assert workflows.find(conn, workflow_id="basic-v1").is_active


def test_the_list_says_how_often_each_was_used(as_admin, conn, owner):
    factories.make_job(conn, user=owner, status="completed")
    factories.make_job(conn, user=owner, status="held")
    page = pages.check(as_admin.get("/admin/workflows"))
    row = next(each for each in page.all("tr") if "Basic" in each.text)
    assert [cell.text.strip() for cell in row.all("td")][-2:] == ["2", "1"]


@pytest.mark.parametrize(
    ("text", "pointer", "line"),
    [
        ("a = 1\n[b.c]\nd = 2\n", "/b/c/d", 3),
        ('{\n "b": {\n  "b": 1\n }\n}', "/b", 2),
        ("a = 1", "/missing", None),
        ("", "", None),
    ],
)
def test_the_line_of_a_pointer(text, pointer, line):
    assert line_of(text, InvalidWorkflow("It is wrong.", pointer)) == line


@pytest.fixture
def done(app, conn, admin):
    """A finished picture of the admin's, with the bytes of both small copies."""
    job = factories.make_job(conn, user=admin, status="completed")
    root = app.extensions["i2i"].storage.root
    for image_id in (job.original_image_id, job.result_image_id):
        path = root / image_key(admin.id, image_id, "thumb.webp")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_id.bytes)
    return job


SAMPLE = "/workflows/basic-v1/sample"


def test_a_sample_is_chosen_seen_by_everybody_and_removed(as_admin, as_other, conn, done):
    page = pages.check(as_admin.get(PATH))
    assert page.one("input", name="job")["value"] == str(done.id)
    answer = as_admin.post(f"{PATH}/sample", data={"job": str(done.id)})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{PATH}#sample")
    assert workflows.find(conn, workflow_id="basic-v1").version == 1
    seen = as_other.get(f"{SAMPLE}/original?download")
    assert seen.data == done.original_image_id.bytes
    assert "Content-Disposition" not in seen.headers, "the name of the file is the admin's"
    assert seen.headers["Cache-Control"] == "private, no-cache"
    assert as_other.get(f"{SAMPLE}/result").data == done.result_image_id.bytes
    known = {"If-None-Match": seen.headers["ETag"]}
    assert as_other.get(f"{SAMPLE}/original", headers=known).status_code == 304
    assert pages.check(as_admin.get(PATH)).one("button", name="job", value="")
    as_admin.post(f"{PATH}/sample", data={"job": ""})
    assert as_other.get(f"{SAMPLE}/original").status_code == 404


def test_no_sample_of_others_or_from_the_trash(as_admin, as_other, conn, owner, admin, done):
    theirs = factories.make_job(conn, user=owner, status="completed")
    for job in (theirs.id, factories.make_job(conn, user=admin).id, "x"):
        assert as_admin.post(f"{PATH}/sample", data={"job": str(job)}).status_code == 404
    as_admin.post(f"{PATH}/sample", data={"job": str(done.id)})
    trash.throw_away(conn, job_ids=[done.id], user_id=admin.id)
    for side in ("original", "result"):
        assert as_other.get(f"{SAMPLE}/{side}").status_code == 404
    assert workflows.find(conn, workflow_id="basic-v1").sample_job_id is None
