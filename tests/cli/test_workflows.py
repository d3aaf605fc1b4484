"""flask workflows: documents in and out, and what is refused says where."""

import json
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from factories import document, make_job, make_user, make_workflow
from hypothesis import given
from hypothesis import strategies as st

from i2i.documents import write_toml
from i2i.errors import Refused


def find(connection, workflow="basic-v1"):
    return connection.execute(
        "SELECT name, is_active, version, seed_digest IS NULL FROM workflow_configs WHERE id = %s",
        [workflow],
    ).fetchone()


def test_apply_says_what_changed(flask, db_conn, tmp_path):
    path = tmp_path / "basic.json"
    path.write_text(json.dumps(document()))
    assert flask("workflows", "apply", str(path)).stdout == "basic-v1: added (version 1)\n"
    assert flask("workflows", "apply", str(path)).stdout == "basic-v1: unchanged (version 1)\n"
    path.write_text(json.dumps(document(name="Better", unit_price=0.05)))
    assert flask("workflows", "apply", str(path)).stdout == (
        "basic-v1: changed: name, unit_price (version 2)\n"
    )
    off = json.dumps(document(name="Better", unit_price=0.05, is_active=False))
    result = flask("workflows", "apply", "-", stdin=off)
    assert result.stdout == "basic-v1: changed: is_active (version 2)\n"
    assert find(db_conn)[:3] == ("Better", False, 2)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["toml", "json"])
def test_what_export_writes_apply_takes_back_unchanged(flask, options):
    flask("seed")
    names = ["apparel-enhancement", "mannequin-to-human-v1", "mannequin-to-human-v2"]
    for name in names:
        text = flask("workflows", "export", name, *options).stdout
        result = flask("workflows", "apply", "-", stdin=text)
        assert result.stdout == f"{name}: unchanged (version 1)\n"
    everything = flask("workflows", "export", *options).stdout
    result = flask("workflows", "apply", "-", stdin=everything)
    assert result.stdout.splitlines() == [f"{name}: unchanged (version 1)" for name in names]
    # An unchanged or a switched one still counts as the shipped one.
    assert "kept" not in flask("seed").stdout
    assert flask("workflows", "export", *options).stdout == everything


TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.text('"\\\n\r\t\x7f a'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_every_document_survives_toml(value):
    assert tomllib.loads(write_toml(value)) == value


def test_toml_has_no_null():
    with pytest.raises(Refused, match="--json"):
        write_toml({"a": {"b": None}})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("w.toml", 'id = "x"\nname = \n', "w.toml:2:8: Invalid value."),
        ("w.json", '{"id": "x",\n "name" 3}', "w.json:2:9: Expecting ':' delimiter."),
        ("w.json", "[]", "w.json:1:1: "),
        ("w.json", json.dumps(document(max_side=3)), "w.json: /max_side: "),
        ("w.json", json.dumps(document(colour=3)), "w.json: /colour: "),
        (
            "w.json",
            json.dumps(document(request_template={"a": "{{ nothing }}"})),
            "w.json: /request_template/a: ",
        ),
        (
            "w.json",
            json.dumps({"workflows": [document(), document(id="b", max_side=3)]}),
            "w.json: /workflows/1/max_side: ",
        ),
        ("w.json", json.dumps({"workflows": 3}), "w.json: /workflows: "),
    ],
)
def test_a_document_that_does_not_hold_is_one_line_with_its_place(
    flask, db_conn, tmp_path, monkeypatch, *, name, text, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    result = flask("workflows", "apply", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"i2i: {said}"), result.stderr
    assert result.stderr.count("\n") == 1
    assert find(db_conn) is None


def test_several_are_stored_together_or_not_at_all(flask, db_conn):
    bad = document(id="b", default_parameters={"nothing": 1})
    text = json.dumps({"workflows": [document(), bad]})
    result = flask("workflows", "apply", "-", stdin=text)
    assert result.exit_code == 1
    assert result.stderr.startswith("i2i: standard input: /workflows/1/default_parameters")
    assert find(db_conn) is None


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "binary"])
def test_a_file_that_cannot_be_read_is_one_line(flask, tmp_path, content):
    path = tmp_path / "w.toml"
    if content is not None:
        path.write_bytes(content)
    result = flask("workflows", "apply", str(path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"i2i: {path} ")
    assert result.stderr.count("\n") == 1


def test_list_and_show(flask, db_conn):
    make_workflow(db_conn)
    make_workflow(db_conn, id="dear", unit_price=None, is_active=False)
    assert "basic-v1" in flask("workflows", "list").stdout
    basic, dear = json.loads(flask("workflows", "list", "--json").stdout)
    assert (basic["id"], basic["is_active"], basic["unit_price"]) == ("basic-v1", True, 0.035)
    assert (dear["id"], dear["is_active"], dear["unit_price"]) == ("dear", False, None)
    shown = flask("workflows", "show", "dear").stdout
    assert "Price       unknown" in shown
    assert "setting    Setting  studio white  studio white, outdoor" in shown
    assert flask("workflows", "show", "nope").stderr == "i2i: There is no workflow nope.\n"


def test_switching_off_and_on(flask, db_conn):
    job = make_job(db_conn, user=make_user(db_conn))
    name = db_conn.execute("SELECT workflow_name FROM processing_jobs").fetchone()[0]
    assert flask("workflows", "disable", name).stdout == f"{name} is off.\n"
    assert status_of(db_conn, job) == "pending"
    assert find(db_conn, name)[1] is False
    result = flask("workflows", "disable", name, "--cancel-waiting")
    assert result.stdout == f"{name} is off; 1 waiting pictures cancelled.\n"
    assert status_of(db_conn, job) == "cancelled"
    assert flask("workflows", "enable", name).exit_code == 0
    assert find(db_conn, name)[1] is True


def status_of(connection, job):
    row = connection.execute("SELECT status FROM processing_jobs WHERE id = %s", [job.id])
    return row.fetchone()[0]


def test_delete_is_refused_while_jobs_name_it(flask, db_conn):
    make_job(db_conn, user=make_user(db_conn))
    name = db_conn.execute("SELECT workflow_name FROM processing_jobs").fetchone()[0]
    make_workflow(db_conn, id="unused")
    result = flask("workflows", "delete", name, "--yes")
    assert result.exit_code == 1
    assert "was used for 1 picture," in result.stderr
    assert result.stderr.count("\n") == 1
    assert flask("workflows", "delete", "unused").exit_code == 1
    assert flask("workflows", "delete", "unused", "--yes").stdout == "Deleted unused.\n"
    assert find(db_conn, "unused") is None


def test_check_finds_what_was_broken_by_hand(flask, db_conn):
    flask("seed")
    assert flask("workflows", "check").exit_code == 0
    db_conn.execute(
        "UPDATE workflow_configs SET default_parameters = '{}' WHERE id = 'apparel-enhancement'"
    )
    result = flask("workflows", "check")
    assert result.exit_code == 1
    assert "apparel-enhancement: /default_parameters" in result.stdout
    assert "mannequin-to-human-v1: ok" in result.stdout
    assert result.stderr == "i2i: 1 of 3 workflows need a look.\n"


OFFERS = {
    "fal-ai/qwen-image-edit-2511": ("active", 0.03, "megapixels"),
    "fal-ai/nano-banana-pro/edit": ("deprecated", 0.18, "images"),
}


class Platform(BaseHTTPRequestHandler):
    """fal's platform API as its documentation shows it: models and prices."""

    def do_GET(self):
        parts = urlsplit(self.path)
        (endpoint,) = parse_qs(parts.query)["endpoint_id"]
        if self.headers["Authorization"] != "Key right":
            self.answer(401, {"error": {"type": "authorization_error", "message": "no"}})
        elif endpoint not in OFFERS:
            self.answer(404, {"error": {"type": "not_found", "message": endpoint}})
        elif parts.path == "/v1/models":
            status = OFFERS[endpoint][0]
            entry = {"endpoint_id": endpoint, "metadata": {"status": status}}
            self.answer(200, {"models": [entry], "next_cursor": None, "has_more": False})
        elif parts.path == "/v1/models/pricing":
            _, price, unit = OFFERS[endpoint]
            entry = {"endpoint_id": endpoint, "unit_price": price, "unit": unit, "currency": "USD"}
            self.answer(200, {"prices": [entry]})

    def answer(self, status, fields):
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def platform():
    with ThreadingHTTPServer(("127.0.0.1", 0), Platform) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_check_compares_endpoints_and_prices_with_fal(flask, platform):
    flask("seed")
    result = flask("workflows", "check", FAL_KEY="right", FAL_PLATFORM_URL=platform)
    assert result.exit_code == 1
    differs = (
        "fal lists fal-ai/nano-banana-pro/edit as deprecated; "
        "the price is 0.15 USD per image here, 0.18 USD per image at fal"
    )
    assert result.stdout.splitlines() == [
        "apparel-enhancement: fal does not know the endpoint fal-ai/clarity-upscaler",
        "mannequin-to-human-v1: ok",
        f"mannequin-to-human-v2: {differs}",
    ]
    wrong = flask("workflows", "check", FAL_KEY="wrong", FAL_PLATFORM_URL=platform)
    assert wrong.exit_code == 1
    assert "mannequin-to-human-v1: fal does not answer: HTTP 401: no" in wrong.stdout
    assert "wrong" not in wrong.output
