"""Workflows: shipped, edited, switched; every state is numbered and kept."""

import factories
import pytest

from i2i.errors import InvalidWorkflow, NotFound, Refused
from i2i.forms import parse_definition
from i2i.queries import jobs
from i2i.queries import workflows as queries
from i2i.services import workflows
from i2i.services.workflows import Saved

SHIPPED = ["apparel-enhancement", "mannequin-to-human-v1", "mannequin-to-human-v2"]


def changes(saved):
    return [each.change for each in saved]


def versions(conn, workflow_id):
    return [
        row[0]
        for row in conn.execute(
            "SELECT version FROM workflow_versions WHERE workflow_name = %s ORDER BY version",
            [workflow_id],
        )
    ]


def save(conn, **values):
    return workflows.save(conn, parse_definition(factories.document(**values)))


def test_seeding_again_changes_nothing(conn):
    first = workflows.seed(conn)
    assert [each.id for each in first] == SHIPPED
    assert changes(first) == ["added"] * 3
    assert changes(workflows.seed(conn)) == ["unchanged"] * 3
    assert [versions(conn, name) for name in SHIPPED] == [[1]] * 3
    active = {
        workflow.id: workflow.is_active for workflow in queries.list_all(conn, only_active=False)
    }
    assert active == {name: name != "apparel-enhancement" for name in SHIPPED}
    assert len(queries.list_all(conn, only_active=True)) == 2


def test_what_is_stored_is_what_was_shipped(conn):
    workflows.seed(conn)
    for definition in workflows.shipped():
        stored = workflows.get(conn, workflow_id=definition.id)
        assert workflows.changed_keys(stored, definition) == []


def test_an_operators_edit_is_kept_until_a_reset(conn):
    workflows.seed(conn)
    stored = workflows.get(conn, workflow_id=SHIPPED[1])
    workflows.save(conn, parse_definition(stored.definition | {"name": "Ours"}))
    assert changes(workflows.seed(conn)) == ["unchanged", "kept", "unchanged"]
    assert workflows.get(conn, workflow_id=SHIPPED[1]).definition["name"] == "Ours"
    assert changes(workflows.seed(conn, reset=True)) == ["unchanged", "changed", "unchanged"]
    assert changes(workflows.seed(conn)) == ["unchanged"] * 3


def test_an_edit_in_psql_is_kept_too(conn):
    workflows.seed(conn)
    conn.execute("UPDATE workflow_configs SET unit_price = 0.07 WHERE id = %s", [SHIPPED[1]])
    assert changes(workflows.seed(conn)) == ["unchanged", "kept", "unchanged"]
    stored = workflows.get(conn, workflow_id=SHIPPED[1])
    assert (stored.version, stored.definition["unit_price"]) == (2, 0.07)


def test_a_new_release_reaches_what_nobody_edited(conn):
    workflows.seed(conn)
    old = workflows.get(conn, workflow_id=SHIPPED[1])
    definition = parse_definition(old.definition | {"description": "The release before."})
    workflows.save(conn, definition, seed_digest=workflows._digest(definition))
    workflows.set_active(conn, workflow_id=SHIPPED[1], is_active=False)
    assert changes(workflows.seed(conn)) == ["unchanged", "changed", "unchanged"]
    new = workflows.get(conn, workflow_id=SHIPPED[1])
    assert (new.is_active, new.definition) == (False, old.definition)


def test_switching_is_no_edit(conn):
    workflows.seed(conn)
    workflows.set_active(conn, workflow_id=SHIPPED[0], is_active=True)
    workflows.set_active(conn, workflow_id=SHIPPED[1], is_active=False)
    assert changes(workflows.seed(conn)) == ["unchanged"] * 3
    assert [versions(conn, name) for name in SHIPPED] == [[1]] * 3
    assert [each.id for each in queries.list_all(conn, only_active=True)] == [
        SHIPPED[0],
        SHIPPED[2],
    ]


def test_each_change_is_a_version(conn):
    assert save(conn) == Saved("basic-v1", "added", 1)
    assert save(conn) == Saved("basic-v1", "unchanged", 1)
    assert save(conn, name="Finer") == Saved("basic-v1", "changed", 2)
    assert save(conn) == Saved("basic-v1", "changed", 3)
    assert versions(conn, "basic-v1") == [1, 2, 3]
    assert save(conn, is_active=False) == Saved("basic-v1", "changed", 3)


def test_what_would_change_is_named(conn):
    before = factories.make_workflow(conn)
    changed = parse_definition(factories.document(name="Finer", unit_price=0.04, is_active=False))
    assert workflows.changed_keys(before, changed) == ["is_active", "name", "unit_price"]


def test_a_price_may_be_unknown(conn):
    document = factories.document()
    del document["unit_price"], document["usual_seconds"]
    workflows.save(conn, parse_definition(document))
    stored = workflows.definition_of(workflows.get(conn, workflow_id="basic-v1").definition)
    assert (stored.unit_price, stored.usual_seconds) == (None, None)


@pytest.mark.parametrize("name", ["a", "a-", "a--b", "0" * 64])
def test_every_name_that_a_definition_may_have_can_be_stored(conn, name):
    assert save(conn, id=name).id == name


def test_what_does_not_hold_is_not_saved(conn):
    factories.make_workflow(conn)
    with pytest.raises(InvalidWorkflow):
        save(conn, request_template={"prompt": "{{ nothing }}", "image_urls": "{{ image_urls }}"})
    assert versions(conn, "basic-v1") == [1]


def test_nothing(conn):
    with pytest.raises(NotFound, match="There is no workflow missing"):
        workflows.get(conn, workflow_id="missing")
    with pytest.raises(NotFound):
        workflows.set_active(conn, workflow_id="missing", is_active=True)


def test_switching_off_may_cancel_what_waits(conn, owner):
    waiting = factories.make_job(conn, user=owner)
    running = factories.make_job(conn, user=owner, status="processing")
    assert workflows.set_active(conn, workflow_id="basic-v1", is_active=False) == 0
    assert jobs.find(conn, job_id=waiting.id).status == "pending"
    cancelled = workflows.set_active(
        conn, workflow_id="basic-v1", is_active=False, cancel_waiting=True
    )
    assert cancelled == 1
    assert jobs.find(conn, job_id=waiting.id).status == "cancelled"
    assert jobs.find(conn, job_id=running.id).status == "processing"


def test_deleting(conn, owner):
    factories.make_workflow(conn, id="unused")
    workflows.delete(conn, workflow_id="unused")
    assert queries.find(conn, workflow_id="unused") is None
    assert versions(conn, "unused") == []

    factories.make_job(conn, user=owner)
    with pytest.raises(Refused, match=r"used for 1 picture,.*flask workflows disable basic-v1"):
        workflows.delete(conn, workflow_id="basic-v1")
    assert queries.find(conn, workflow_id="basic-v1") is not None
