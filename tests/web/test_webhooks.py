"""Callbacks over real HTTP handling with a key of the test's own: right status, never a 5xx."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import callbacks
import factories
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from i2i import db
from i2i.app import create_app
from i2i.models import JobStatus
from i2i.queries import jobs
from i2i.services import jobs as job_service
from i2i.services import webhooks

PUBLIC = {"PUBLIC_URL": "https://i2i.example.com"}
REQUEST = "0f3c9e1a-7d67-4bb0-8c62-3c0a3d4d9f11"
ANOTHER = "1f3c9e1a-7d67-4bb0-8c62-3c0a3d4d9f12"


class Platform(ThreadingHTTPServer):
    """fal's host with the keys; `signers` None makes it answer 500."""

    def __init__(self, *signers):
        self.signers = list(signers)
        self.looks = 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.looks += 1
        signers = self.server.signers
        body = json.dumps({"keys": [signer.jwk for signer in signers or ()]}).encode()
        self.send_response(500 if signers is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def signer():
    return callbacks.Signer()


@pytest.fixture
def platform(signer):
    with Platform(signer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fal(app_with, platform, conn, signer):
    """fal, calling back: posts signed bodies."""
    return Caller(app_with(FAL_REST_URL=platform.url, **PUBLIC), conn, signer)


class Caller:
    def __init__(self, app, conn, signer):
        self._client = app.test_client()
        self._conn = conn
        self.signer = signer

    def now(self):
        return self._conn.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0]

    def post(self, token, body, *, request_id=REQUEST, late=0, signer=None, **changes):
        headers = (signer or self.signer).headers(
            body, request_id=request_id, timestamp=math.ceil(self.now()) + late
        )
        headers |= {"Content-Type": "application/json"} | changes
        return self._client.post(f"/webhooks/fal/{token}", data=body, headers=headers)


@pytest.fixture
def sent(conn, owner):
    """The token of a request whose answer has not come yet."""
    job = factories.make_job(conn, user=owner, status="submitting")
    token = token_of(conn, job)
    factories.send(conn, token)
    return token


def token_of(conn, job):
    found = conn.execute("SELECT token FROM submissions WHERE job_id = %s", [job.id]).fetchone()
    return found[0]


def events(conn):
    return conn.execute("SELECT token, request_id FROM webhook_events").fetchall()


def test_a_callback_is_kept_once_and_announced(fal, conn, sent):
    body = callbacks.body_of(REQUEST)
    for _ in range(10):
        answer = fal.post(sent, body)
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})
    assert events(conn) == [(sent, REQUEST)]


def test_it_needs_no_session_and_gives_no_cookie(fal, sent):
    answer = fal.post(sent, callbacks.body_of(REQUEST), **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_without_a_public_url_there_is_nothing_here(app_with, platform, conn, signer, sent):
    caller = Caller(app_with(FAL_REST_URL=platform.url), conn, signer)
    assert caller.post(sent, callbacks.body_of(REQUEST)).status_code == 404
    assert platform.looks == 0


@pytest.mark.parametrize("missing", callbacks.HEADERS)
def test_unsigned_is_refused_before_anybody_is_asked(fal, platform, conn, sent, missing):
    answer = fal.post(sent, callbacks.body_of(REQUEST), **{f"X-Fal-Webhook-{missing}": ""})
    assert answer.status_code == 401
    assert (platform.looks, events(conn)) == (0, [])


def test_a_stranger_is_refused(fal, conn, sent):
    answer = fal.post(sent, callbacks.body_of(REQUEST), signer=callbacks.Signer())
    assert (answer.status_code, events(conn)) == (401, [])


def test_an_altered_body_is_refused(fal, conn, sent):
    body = callbacks.body_of(REQUEST)
    headers = fal.signer.headers(body, request_id=REQUEST, timestamp=math.ceil(fal.now()))
    answer = fal.post(sent, body.replace(b"OK", b"NO"), **headers)
    assert (answer.status_code, events(conn)) == (401, [])


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Request-Id", ANOTHER),
        ("User-Id", "somebody"),
        ("Timestamp", "{now}"),
        ("Signature", "0" * 128),
    ],
)
def test_an_altered_header_is_refused(fal, conn, sent, header, value):
    altered = {f"X-Fal-Webhook-{header}": value.format(now=math.ceil(fal.now()) + 9)}
    answer = fal.post(sent, callbacks.body_of(REQUEST), **altered)
    assert (answer.status_code, events(conn)) == (401, [])


@pytest.mark.parametrize(
    ("late", "status"),
    [(-3600, 401), (-301, 401), (-290, 200), (290, 200), (301, 401), (3600, 401)],
)
def test_five_minutes_of_difference_are_allowed(fal, sent, late, status):
    assert fal.post(sent, callbacks.body_of(REQUEST), late=late).status_code == status


@pytest.mark.parametrize("token", ["0" * 32, "x", "%00", "a" * 5000, "ü"])
def test_an_unknown_token_is_nothing(fal, conn, token):
    answer = fal.post(token, callbacks.body_of(REQUEST))
    assert answer.status_code in {400, 404}
    assert events(conn) == []


@pytest.mark.parametrize("status", ["processing", "completed"])
def test_another_jobs_token_is_refused(fal, conn, owner, sent, status):
    job = factories.make_job(conn, user=owner, status=status)
    request_id = conn.execute(
        "SELECT request_id FROM submissions WHERE job_id = %s", [job.id]
    ).fetchone()[0]
    wrong = fal.post(token_of(conn, job), callbacks.body_of(REQUEST))
    stolen = fal.post(sent, callbacks.body_of(request_id), request_id=request_id)
    assert (wrong.status_code, stolen.status_code, events(conn)) == (409, 409, [])


def test_one_hour_late_it_still_finds_its_request(fal, conn, owner, settings):
    """fal signs each try anew. Meanwhile a person has given the lost answer up."""
    job = factories.make_job(conn, user=owner, status="unknown")
    job_service.give_up(conn, job_id=job.id, user_id=owner.id)
    conn.execute(
        "UPDATE submissions SET sent_at = sent_at - interval '1 hour',"
        " look_after = now() + interval '5 minutes'"
    )
    token = token_of(conn, job)
    for _ in range(2):
        assert fal.post(token, callbacks.body_of(REQUEST)).status_code == 200
    assert [webhooks.apply_pending(conn, settings) for _ in range(2)] == [1, 0]
    found = conn.execute("SELECT request_id, look_after <= now() FROM submissions").fetchone()
    assert found == (REQUEST, True)
    assert jobs.find(conn, job_id=job.id).status == JobStatus.FAILED


@pytest.mark.parametrize("status", ["processing", "storing", "completed"])
def test_late_and_known_is_kept(fal, conn, owner, status):
    job = factories.make_job(conn, user=owner, status=status)
    token, request_id = conn.execute(
        "SELECT token, request_id FROM submissions WHERE job_id = %s", [job.id]
    ).fetchone()
    answer = fal.post(token, callbacks.body_of(request_id), request_id=request_id)
    assert (answer.status_code, events(conn)) == (200, [(token, request_id)])
    assert jobs.find(conn, job_id=job.id).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"{}", 400),
        (b"[" * 10_000 + b"]" * 10_000, 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
        (callbacks.body_of(ANOTHER), 400),
        (callbacks.body_of(5), 400),
        (callbacks.body_of(REQUEST, payload=None, payload_error="not serialisable"), 200),
        (callbacks.body_of(REQUEST, status="ERROR", error="Invalid status code: 422"), 200),
        (callbacks.body_of(REQUEST, payload="\0" * 10), 200),
        (b"1" * 1_000_001, 413),
        (b"x" * 10_000_000, 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_signed_body_of_any_kind_gets_an_answer(fal, conn, sent, body, status):
    answer = fal.post(sent, body)
    assert answer.status_code == status
    assert len(events(conn)) == (status == 200)


def test_without_fals_keys_fal_shall_come_again(fal, platform, conn, sent):
    platform.signers = None
    for _ in range(3):
        answer = fal.post(sent, callbacks.body_of(REQUEST))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert (platform.looks, events(conn)) == (1, [])


def test_with_kept_keys_fals_host_may_be_away(fal, platform, sent):
    assert fal.post(sent, callbacks.body_of(REQUEST)).status_code == 200
    platform.signers = None
    assert fal.post(sent, callbacks.body_of(REQUEST)).status_code == 200
    assert platform.looks == 1


def test_ten_at_once_are_one(make_settings, database, platform, signer):
    """Ten threads with connections of their own, and no keys kept yet."""
    settings = make_settings(POSTGRES_URL=database, FAL_REST_URL=platform.url, **PUBLIC)
    app = create_app(settings)
    body = callbacks.body_of(REQUEST)
    with (
        psycopg.connect(database, autocommit=True) as conn,
        db.make_pool(settings, size=10, application="i2i test") as pool,
    ):
        app.extensions["i2i"].database.use(pool)
        user = factories.make_user(conn)
        job = factories.make_job(conn, user=user, status="submitting")
        token = token_of(conn, job)
        factories.send(conn, token)
        conn.execute("LISTEN i2i_work")
        caller = Caller(app, conn, signer)
        headers = signer.headers(body, request_id=REQUEST, timestamp=math.ceil(caller.now()))

        def post(_):
            return (
                app.test_client()
                .post(f"/webhooks/fal/{token}", data=body, headers=headers)
                .status_code
            )

        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(post, range(10)))
        assert answers == [200] * 10
        assert events(conn) == [(token, REQUEST)]
        assert len(list(conn.notifies(timeout=1))) == 1
        assert jobs.find(conn, job_id=job.id).status == JobStatus.SUBMITTING
        assert [webhooks.apply_pending(conn, settings) for _ in range(2)] == [1, 0]
        story = [event.to_status for event in jobs.list_events(conn, job_id=job.id)]
        assert story == ["pending", "submitting", "processing"], "one transition"


class NoPool:
    """A pool whose database is away."""

    def getconn(self):
        raise PoolTimeout


def test_without_a_database_fal_shall_come_again(app_with, platform, signer, sent, conn):
    app = app_with(FAL_REST_URL=platform.url, **PUBLIC)
    app.extensions["i2i"].database.use(NoPool())
    answer = Caller(app, conn, signer).post(sent, callbacks.body_of(REQUEST))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
