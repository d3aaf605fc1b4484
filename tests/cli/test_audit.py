"""flask audit: what was done, read in a terminal."""

import json

from i2i import origin
from i2i.services import audit


def test_list_filters_and_keeps_to_one_line_an_event(flask, db_conn):
    with origin.acting(actor="mara@example.com", ip_address="192.0.2.7"):
        audit.record(db_conn, "user.created", target="anna\n2026-11-23 FORGED")
    audit.record(db_conn, "session.refused", outcome="refused")
    text = flask("audit", "list").stdout
    assert len(text.splitlines()) == 3
    assert "anna 2026-11-23 FORGED" in text
    only = flask("audit", "list", "--actor", "MARA@example.com", "--json").stdout
    assert [each["action"] for each in json.loads(only)] == ["user.created"]
    only = flask("audit", "list", "--action", "session", "--limit", "1", "--json").stdout
    assert [each["outcome"] for each in json.loads(only)] == ["refused"]
    assert json.loads(flask("audit", "list", "--since", "2999-01-01", "--json").stdout) == []
