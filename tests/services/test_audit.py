"""The audit trail: what a record holds, and that a refusal stays one without it."""

from contextlib import contextmanager

import psycopg
import pytest

from i2i import origin
from i2i.errors import DatabaseUnavailable
from i2i.queries import audit as queries
from i2i.services import audit


@pytest.fixture(autouse=True)
def acting():
    with origin.acting(actor="mara@example.com", ip_address="192.0.2.7", request_id="r1"):
        yield


def newest(conn, **more):
    """All but that the template was migrated."""
    found = queries.list_newest(conn, page_size=100, **more)
    return [each for each in found if each.action != "command.db_migrate"]


def test_a_record_says_who_did_what_from_where(conn, owner):
    with origin.acting(actor=owner.email, actor_id=owner.id):
        audit.record(conn, "user.created", target="anna@example.com", detail="admin")
    (event,) = newest(conn)
    assert (event.actor, event.ip_address, event.request_id) == (owner.email, "192.0.2.7", "r1")
    assert (event.action, event.outcome) == ("user.created", "done")
    assert (event.target, event.detail) == ("anna@example.com", "admin")
    assert event.created_at.tzinfo is not None


def test_a_record_is_one_line_and_never_too_long(conn):
    audit.record(
        conn, "upload.refused", target="a\0b\r\n2026 login ok\x1b[2J\u2028", detail="ü" * 9999
    )
    (event,) = newest(conn)
    assert event.target == "a b  2026 login ok [2J "
    assert event.detail == "ü" * 1000


def test_a_deed_without_its_record_does_not_happen(conn, owner):
    def deed():
        with conn.transaction():
            conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", [owner.id])
            audit.record(conn, "Not An Action")

    with pytest.raises(psycopg.errors.CheckViolation):
        deed()
    assert conn.execute("SELECT role FROM users WHERE id = %s", [owner.id]).fetchone() == ("user",)


def test_a_refusal_is_refused_also_when_it_cannot_be_recorded(conn, caplog):
    audit.record_refusal(conn, "Not An Action", target="hunter2")
    assert newest(conn) == []
    assert "not recorded: CheckViolation" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_question_for_a_thing_of_others_survives_that_the_database_went_away(owner, caplog):
    @contextmanager
    def connect():
        raise DatabaseUnavailable("It went away.")
        yield

    with origin.acting(actor_id=owner.id):
        audit.lend_foreign(connect, thing_id=owner.id)
    audit.lend_refusal(connect, "access.refused")
    assert caplog.text.count("DatabaseUnavailable") == 2


def test_a_flood_of_refusals_leaves_a_bounded_number(conn):
    for _ in range(audit.MOST_REFUSALS + 5):
        audit.record_refusal(conn, "access.refused")
    with origin.acting(actor="other@example.com"):
        audit.record_refusal(conn, "access.refused")
    assert len(newest(conn)) == audit.MOST_REFUSALS + 1


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET actor = ''", "DELETE FROM audit_events", "TRUNCATE audit_events"],
)
def test_nothing_is_ever_changed(conn, statement):
    audit.record(conn, "user.created")
    with pytest.raises(psycopg.errors.DatabaseError), conn.transaction():
        conn.execute(statement)
    assert len(newest(conn)) == 1


def test_actions_are_found_by_name_noun_actor_and_page(conn):
    for action in ("session.created", "session.refused", "sessions.other"):
        audit.record(conn, action)
    with origin.acting(actor="Other@Example.com"):
        audit.record(conn, "user.created")
    assert [each.action for each in newest(conn, action="session")] == [
        "session.refused",
        "session.created",
    ]
    assert len(newest(conn, action="session.created")) == 1
    (found,) = queries.list_of_actor(conn, actor="other@example.com", page_size=9)
    assert found.action == "user.created"
    first, second = newest(conn)[:2]
    rest = newest(conn, before=first.created_at, before_id=first.id)
    assert rest[0] == second
    assert newest(conn, since=first.created_at) == [first]
