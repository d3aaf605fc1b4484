"""Rows 44 to 47: callbacks over the running stack, signed with the practice server's own key.

Every turn of the rule that decides is in tests/web/test_webhooks.py.
"""

import json
import math
import time
from uuid import uuid4

import callbacks
import factories
import pytest
from house import wait_until
from hypothesis import strategies as st


class Caller:
    """fal, calling back through nginx about a request of the town's owner."""

    def __init__(self, town, signer):
        self.town, self.signer = town, signer
        self.ask = town.crowd()
        self.request_id = str(uuid4())

    def post(self, token, body, *, late=0, signer=None, **changes):
        headers = (signer or self.signer).headers(
            body, request_id=self.request_id, timestamp=math.ceil(time.time()) + late
        )
        headers |= {"Content-Type": "application/json", "Sec-Fetch-Site": None} | changes
        return self.ask("POST", f"/webhooks/fal/{token}", body=body, headers=headers)

    def sent(self):
        """The token of a request whose answer has not come; no worker looks at it today."""
        conn, owner = self.town.conn, self.town.users["owner"]
        with conn.transaction():
            job = factories.make_job(conn, user=owner, status="submitting")
            conn.execute(
                "UPDATE processing_jobs SET run_after = now() + interval '1 day',"
                " lease_until = now() + interval '1 day' WHERE id = %s",
                [job.id],
            )
            (token,) = conn.execute(
                "SELECT token FROM submissions WHERE job_id = %s", [job.id]
            ).fetchone()
            factories.send(conn, token)
        return token

    def events(self, token):
        query = "SELECT request_id FROM webhook_events WHERE token = %s"
        return self.town.conn.execute(query, [token]).fetchall()

    def state(self, token):
        """What a callback might move."""
        return self.town.conn.execute(
            "SELECT j.status, j.fence, s.state, s.request_id FROM submissions s"
            " JOIN processing_jobs j ON j.id = s.job_id WHERE token = %s",
            [token],
        ).fetchone()


@pytest.fixture
def fal(town, stack):
    kept = stack.house.folder / "practice" / "webhook_key"
    wait_until(kept.exists, what="the key of the practice server")
    return Caller(town, callbacks.Signer(key=kept.read_bytes()))


def test_row_44_only_fal_is_heard(fal):
    """Unsigned, another's key, an altered body or header, six minutes off: 401, nothing moves."""
    token = fal.sent()
    before, body = fal.state(token), callbacks.body_of(fal.request_id)
    signed = fal.signer.headers(body, request_id=fal.request_id, timestamp=math.ceil(time.time()))
    answers = [
        *(fal.post(token, body, **{f"X-Fal-Webhook-{name}": None}) for name in callbacks.HEADERS),
        fal.post(token, body, signer=callbacks.Signer()),
        fal.post(token, body[:-1] + b" ", **signed),
        fal.post(token, body.replace(b"OK", b"KO"), **signed),
        *(fal.post(token, body, late=late) for late in (-360, 360, -(10**9), 10**9)),
        fal.post(token, body, **{"X-Fal-Webhook-User-Id": "somebody"}),
        fal.post(token, body, **{"X-Fal-Webhook-Request-Id": str(uuid4())}),
        fal.post(token, body, **{"X-Fal-Webhook-Signature": "0" * 128}),
        fal.post(token, body, **{"X-Fal-Webhook-Signature": "g" * 128}),
        fal.post(token, body, **{"X-Fal-Webhook-Timestamp": "9" * 400}),
        fal.post(token, body, **{"X-Fal-Webhook-Timestamp": "NaN"}),
    ]
    assert [each.status for each in answers] == [401] * len(answers)
    assert (fal.events(token), fal.state(token)) == ([], before)
    assert fal.post(token, body).status == 200


def test_row_45_ten_times_is_once(fal):
    token, body = fal.sent(), callbacks.body_of(fal.request_id)
    headers = fal.signer.headers(body, request_id=fal.request_id, timestamp=math.ceil(time.time()))
    answers = [fal.post(token, body, **headers).status for _ in range(10)]
    assert answers == [200] * 10
    assert fal.events(token) == [(fal.request_id,)]


def test_row_46_a_callback_is_of_one_request(fal):
    """Its signature holds, and its token is another's: refused, and neither moves."""
    first, second = fal.sent(), fal.sent()
    body = callbacks.body_of(fal.request_id)
    factories.accept(fal.town.conn, first)
    before = fal.state(first), fal.state(second)
    assert fal.post(first, body).status == 409
    fal.request_id = before[0][3]
    assert fal.post(second, callbacks.body_of(fal.request_id)).status == 409
    assert fal.post("0" * 32, callbacks.body_of(fal.request_id)).status == 404
    assert (fal.state(first), fal.state(second)) == before
    assert (fal.events(first), fal.events(second)) == ([], [])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 10_000_000, 413),
        (b"1" * 1_000_001, 413),
        (b"[" * 10_000 + b"]" * 10_000, 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
        (b'{"request_id": ' + b"9" * 100_000 + b"}", 400),
        (b"not json", 400),
        (b"", 400),
        (b"null", 400),
        (b"\xff\xfe\x00", 400),
    ],
    ids=lambda value: str(value)[:20],
)
def test_row_47_bodies_of_any_kind(fal, body, status):
    token = fal.sent()
    assert fal.post(token, body).status == status
    assert fal.events(token) == []


def test_row_47_a_payload_that_fal_could_not_write(fal):
    token = fal.sent()
    body = callbacks.body_of(fal.request_id, payload=None, payload_error="not serialisable")
    assert fal.post(token, body).status == 200
    assert fal.events(token) == [(fal.request_id,)]


def test_row_47_nothing_of_a_callback_breaks_the_route(fal, fuzz):
    """Random bodies, headers and tokens, signed and not: 2xx or 4xx. --fuzz-minutes for longer."""
    token = fal.sent()
    leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20)
    documents = st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner)
    )
    known = documents.map(
        lambda each: {"request_id": fal.request_id, "status": each, "payload": each}
    )
    written = (documents | known).map(lambda each: json.dumps(each).encode())
    odd = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))

    def check(body, header, value, is_signed, name):
        changes = {} if is_signed else {f"X-Fal-Webhook-{header}": value.encode("latin-1")}
        answer = fal.post(name or token, body, **changes)
        # 403: a name that ends the address elsewhere, where a form without an origin is refused.
        assert answer.status in {200, 308, 400, 401, 403, 404, 405, 409, 413}, answer.data

    fuzz(
        check,
        body=written | st.binary(),
        header=st.sampled_from(callbacks.HEADERS),
        value=odd,
        is_signed=st.booleans(),
        # A dot alone is no name: the client takes it out of the address.
        name=st.none()
        | st.text("0123456789abcdefABC-_.~%00", max_size=70).filter(lambda each: each.strip(".")),
    )
