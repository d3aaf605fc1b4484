"""The gateway to fal: against the practice server, and against a server that answers oddly."""

import gzip
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from PIL import Image

from i2i import errors
from i2i.config import Settings
from i2i.gateways import fal
from i2i.gateways.fal import HttpFal, Output, Status, allowed, request_urls
from i2i.practice import PracticeServer

ENDPOINT = "fal-ai/nano-banana-pro/edit"
KEY = "id:not-a-real-secret"


def settings(url="http://127.0.0.1:9", **more):
    """Settings with all of fal at one origin."""
    return Settings.from_env(
        {
            "SECRET_KEY": "only-for-tests-0123456789",
            "FAL_KEY": KEY,
            "FAL_QUEUE_URL": url,
            "FAL_REST_URL": url,
            "FAL_PLATFORM_URL": url,
            "FAL_MEDIA_HOSTS": f"*.fal.media,{url}",
        }
        | more
    )


def answer(status, body=b"", **headers):
    """A whole HTTP answer as bytes."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {"Content-Length": len(body)} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [
        f"HTTP/1.1 {status} x",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


class OddServer:
    """Answers every request with the bytes it was given (the last ones again and again).

    `None` stands for no answer at all; a function gets the connection. Requests are kept whole.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self.requests = []
        self.stopping = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def posts(self):
        return sum(request.startswith(b"POST ") for request in self.requests)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection, suppress(OSError):
            connection.settimeout(20)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._talk(connection)

    def _talk(self, connection):
        request = b""
        while not self._whole(request):
            if not (more := connection.recv(65536)):
                return
            request += more
        self.requests.append(request)
        reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if reply is None:
            self.stopping.wait()
        elif callable(reply):
            reply(connection)
        else:
            connection.sendall(reply)

    def _whole(self, request):
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return bool(end) and len(body) >= int(length[1] if length else 0)


@contextmanager
def against(*answers, **bounds):
    """A gateway and the odd server it talks to."""
    with OddServer(*answers) as server:
        yield HttpFal(settings(server.url), **bounds), server


def nothing():
    """Keep nothing alive."""


def photo():
    data = io.BytesIO()
    Image.new("RGB", (300, 400), "#4477aa").save(data, "JPEG")
    return data.getvalue()


# The whole way, with practice ---------------------------------------------------------------------


@pytest.fixture
def practice(tmp_path):
    with PracticeServer(tmp_path / "practice", seconds=0) as server:
        yield server


@pytest.fixture
def gateway(practice):
    return HttpFal(settings(practice.url), submit_seconds=5)


def fault(practice, mode, **more):
    practice.books.add_fault({"mode": mode, "count": 1, **more})


def submit(gateway, **arguments):
    url = gateway.upload(
        name="token-0.jpg", data=photo(), content_type="image/jpeg", keep_alive=nothing
    )
    return gateway.submit(ENDPOINT, {"prompt": "a person", "image_urls": [url]} | arguments)


def finish(gateway, accepted):
    for _ in range(10_000):
        status = gateway.status(accepted.status_url)
        if status.state == "completed":
            return status
    pytest.fail("it never completed")


def test_from_photo_to_picture(gateway, practice):
    began = datetime.now(UTC) - timedelta(minutes=1)
    accepted = submit(gateway)
    assert accepted == request_urls(settings(practice.url), ENDPOINT, accepted.request_id)
    assert finish(gateway, accepted) == Status(state="completed")
    result = gateway.result(accepted.response_url)
    [output] = result.outputs
    assert result.billable_units == Decimal(1)
    sink = io.BytesIO()
    assert gateway.download(output.url, sink, keep_alive=nothing) == "image/jpeg"
    assert Image.open(sink).size == (output.width, output.height)
    [listed] = gateway.requests(ENDPOINT, since=began)
    assert listed.request_id == accepted.request_id
    assert "token-0.jpg" in listed.payload
    assert gateway.requests("fal-ai/else", since=began) == []
    assert gateway.cancel(accepted.cancel_url) == "finished"


def test_waiting_cancelling_and_unknown_requests(gateway, practice):
    fault(practice, "never")
    accepted = submit(gateway)
    assert gateway.status(accepted.status_url).state == "running"
    with pytest.raises(errors.FalTemporary, match="still in progress"):
        gateway.result(accepted.response_url)
    assert gateway.cancel(accepted.cancel_url) == "asked"
    assert gateway.status(accepted.status_url).error_type == "client_cancelled"
    with pytest.raises(errors.FalRejected) as caught:
        gateway.result(accepted.response_url)
    assert (caught.value.http_status, caught.value.error_type) == (499, "client_cancelled")
    absent = request_urls(settings(practice.url), ENDPOINT, "0" * 32)
    assert gateway.cancel(absent.cancel_url) == "gone"
    with pytest.raises(errors.FalGone):
        gateway.status(absent.status_url)


def test_a_refused_model_call_says_why_without_the_echo(gateway, practice):
    fault(practice, "model_error")
    accepted = submit(gateway, prompt="my secret words")
    assert finish(gateway, accepted).error_type == "content_policy_violation"
    with pytest.raises(errors.FalRejected) as caught:
        gateway.result(accepted.response_url)
    assert caught.value.error_type == "content_policy_violation"
    assert "flagged" in caught.value.detail
    assert "secret words" not in caught.value.detail


def test_a_black_picture_is_marked(gateway, practice):
    fault(practice, "nsfw")
    accepted = submit(gateway)
    finish(gateway, accepted)
    assert [output.nsfw for output in gateway.result(accepted.response_url).outputs] == [True]


@pytest.mark.parametrize(
    ("mode", "kind", "charges"),
    [
        ("lost_answer", errors.FalUnclear, 1),
        ("hang", errors.FalUnclear, 1),
        ("server_error", errors.FalUnclear, 0),
        ("bad_gateway_nginx", errors.FalUnclear, 0),
        ("refuse_429", errors.FalNotSent, 0),
        ("locked", errors.FalAccount, 0),
        ("unprocessable", errors.FalRejected, 0),
    ],
)
def test_what_a_spoiled_submit_means_and_costs(practice, mode, kind, charges):
    gateway = HttpFal(settings(practice.url), submit_seconds=0.5)
    fault(practice, mode)
    with pytest.raises(errors.FalError) as caught:
        submit(gateway)
    assert type(caught.value) is kind
    assert len(practice.books.listed()) == charges


def test_a_spoiled_upload_and_result_may_be_tried_again(gateway, practice):
    fault(practice, "upload_error")
    with pytest.raises(errors.FalNotSent):
        submit(gateway)
    accepted = submit(gateway)
    finish(gateway, accepted)
    fault(practice, "result_504")
    with pytest.raises(errors.FalTemporary) as caught:
        gateway.result(accepted.response_url)
    assert caught.value.error_type == "request_timeout"
    assert gateway.result(accepted.response_url).outputs


# One POST is one POST -----------------------------------------------------------------------------

LOCKED = {"detail": "User is locked. Reason: Exhausted balance."}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(b"", errors.FalUnclear, id="closed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", errors.FalUnclear, id="cut in the head"),
        pytest.param(b"SSH-2.0-x\r\n", errors.FalUnclear, id="no HTTP"),
        pytest.param(None, errors.FalUnclear, id="silence"),
        pytest.param(answer(200, b"hello"), errors.FalUnclear, id="no JSON"),
        pytest.param(answer(200, b"[" * 99_999), errors.FalUnclear, id="deep JSON"),
        pytest.param(answer(200, {"status": "IN_QUEUE"}), errors.FalUnclear, id="no id"),
        pytest.param(answer(200, {"request_id": 7}), errors.FalUnclear, id="odd id"),
        pytest.param(
            answer(200, {"request_id": "a"}, Content_Length=99), errors.FalUnclear, id="cut"
        ),
        pytest.param(answer(302, Location="/again"), errors.FalUnclear, id="redirect"),
        pytest.param(answer(307, Location="/again"), errors.FalUnclear, id="redirect 307"),
        *((answer(status, {"detail": "x"}), errors.FalUnclear) for status in (408, 409, 499)),
        *((answer(status, b"<p>nginx</p>"), errors.FalUnclear) for status in (500, 502, 503, 504)),
        (answer(429, {"detail": "x"}, Retry_After="1"), errors.FalNotSent),
        *((answer(status, LOCKED), errors.FalAccount) for status in (401, 402, 403)),
        pytest.param(answer(403, LOCKED, Content_Length=999), errors.FalAccount, id="403 cut"),
        *((answer(status, {"detail": "x"}), errors.FalRejected) for status in (400, 404, 413, 422)),
    ],
)
def test_every_odd_answer_is_sorted_and_never_asked_for_again(reply, kind):
    with (
        against(reply, submit_seconds=0.5) as (gateway, server),
        pytest.raises(errors.FalError) as caught,
    ):
        gateway.submit(ENDPOINT, {"prompt": "x"})
    assert type(caught.value) is kind
    assert len(server.requests) == server.posts() == 1
    assert KEY not in caught.value.detail


def test_a_dripping_answer_meets_the_deadline():
    def drip(connection):
        for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 4000:
            connection.sendall(bytes([byte]))
            if server.stopping.wait(0.05):
                return

    with against(drip, submit_seconds=0.4) as (gateway, server):
        with pytest.raises(errors.FalUnclear):
            gateway.submit(ENDPOINT, {})
        assert server.posts() == 1


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_success_with_an_id_is_accepted(status):
    with against(answer(status, {"request_id": "a/b"})) as (gateway, server):
        accepted = gateway.submit(ENDPOINT, {"prompt": "ü"})
    assert accepted == request_urls(settings(server.url), ENDPOINT, "a/b")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /fal-ai/nano-banana-pro/edit HTTP/1.1\r\n")
    assert f"Authorization: Key {KEY}".encode() in head
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in head
    assert b'Preference: {"expiration_duration_seconds": 604800}' in head
    assert json.loads(body) == {"prompt": "ü"}


def test_without_a_key_none_is_sent():
    with OddServer(answer(200, {"request_id": "a"})) as server:
        HttpFal(settings(server.url, FAL_KEY="")).submit(ENDPOINT, {})
        assert b"Authorization" not in server.requests[0]


def test_urls_elsewhere_are_not_believed():
    urls = {"status_url": "https://queue.fal.run/a/b/requests/c/status"}
    urls |= {"response_url": "https://evil.example/x", "cancel_url": "http://queue.fal.run/x"}
    with against(answer(200, {"request_id": "c", **urls})) as (gateway, server):
        accepted = gateway.submit("a/b/d", {})
    own = request_urls(settings(server.url), "a/b/d", "c")
    assert accepted.status_url == urls["status_url"]
    assert (accepted.response_url, accepted.cancel_url) == (own.response_url, own.cancel_url)


# Provably not sent --------------------------------------------------------------------------------


def not_sent(gateway, **more):
    with pytest.raises(errors.FalNotSent) as caught:
        gateway.submit(ENDPOINT, {}, **more)
    assert type(caught.value) is errors.FalNotSent
    return caught.value


def test_a_refused_connection_is_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    not_sent(HttpFal(settings(f"http://127.0.0.1:{port}")))


def test_an_unknown_name_is_not_sent():
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert "unknown" in not_sent(HttpFal(settings(), resolver=unknown)).detail
    assert "no address" in not_sent(HttpFal(settings(), resolver=lambda *_: [])).detail


def test_a_failed_tls_handshake_is_not_sent():
    with OddServer(b"") as server:
        not_sent(HttpFal(settings(f"https://127.0.0.1:{server.port}"), connect_seconds=0.5))
        assert server.posts() == 0


def test_a_process_that_was_frozen_does_not_send():
    with against(answer(200, {"request_id": "a"})) as (gateway, server):
        long_ago = fal.boottime() - fal.FROZEN_SECONDS - 1
        assert not_sent(gateway, sent_at_boottime=long_ago).error_type == "frozen"
        assert server.requests == []
        gateway.submit(ENDPOINT, {}, sent_at_boottime=fal.boottime())
        assert server.posts() == 1


def test_words_that_are_no_unicode_are_sent_all_the_same():
    with against(answer(200, {"request_id": "a"})) as (gateway, server):
        gateway.submit(ENDPOINT, {"prompt": "\ud800"})
        assert server.posts() == 1


def test_a_vanished_peer_is_noticed_within_half_a_minute():
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway = HttpFal(settings())
        place = fal._split(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        connection = gateway._connection(place, "127.0.0.1", seconds=5)
        connection.connect()
        seen.append(connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        connection.close()
    assert seen == [30_000]


def test_the_next_address_is_tried_while_nothing_was_sent():
    with OddServer(answer(200, {"request_id": "a"})) as server:
        gateway = HttpFal(settings(server.url), resolver=lambda *_: ["127.99.0.1", "127.0.0.1"])
        assert gateway.submit(ENDPOINT, {}).request_id == "a"
        assert server.posts() == 1


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "IN_QUEUE", "queue_position": 3}, Status(state="queued", queue_position=3)),
        ({"status": "IN_QUEUE"}, Status(state="queued")),
        ({"status": "IN_PROGRESS", "queue_position": 3}, Status(state="running")),
        ({"status": "PONDERING"}, Status(state="running")),
        ({}, Status(state="running")),
        (
            {"status": "COMPLETED", "error": [{"msg": "no", "input": "echo"}], "error_type": "t"},
            Status(state="completed", error="no", error_type="t"),
        ),
    ],
)
@pytest.mark.parametrize("code", [200, 202])
def test_a_status_is_read_leniently(fields, status, code):
    with against(answer(code, fields)) as (gateway, server):
        assert gateway.status(f"{server.url}/a/b/requests/c/status") == status


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [
        ({"images": [{"url": "u", "width": 0}]}, [Output(url="u")]),
        (
            {"image": {"url": "u", "content_type": "image/png", "width": 3, "height": 4.0}},
            [Output(url="u", content_type="image/png", width=3, height=4)],
        ),
        (
            {"image": {"url": "u"}, "images": [{"url": "u"}, "v", {}, None]},
            [Output(url="u"), Output(url="v")],
        ),
        (
            {"images": [{"url": "u"}, {"url": "v"}], "has_nsfw_concepts": [False, True]},
            [Output(url="u"), Output(url="v", nsfw=True)],
        ),
        ({"image": {"url": "u"}, "has_nsfw_concepts": True}, [Output(url="u", nsfw=True)]),
        ({"video": {"url": "u"}}, []),
    ],
)
def test_outputs_are_collected_from_every_shape(fields, outputs):
    with against(answer(200, {"seed": 196619188014358660} | fields)) as (gateway, server):
        result = gateway.result(f"{server.url}/a/b/requests/c")
    assert result.outputs == outputs
    assert result.seed == 196619188014358660
    assert result.billable_units is None


@pytest.mark.parametrize(("header", "units"), [("2.5", Decimal("2.5")), ("NaN", None), ("x", None)])
def test_billable_units_come_from_the_header(header, units):
    with against(answer(200, {}, X_Fal_Billable_Units=header)) as (gateway, server):
        assert gateway.result(f"{server.url}/a").billable_units == units


PYDANTIC = {"detail": [{"loc": ["body", "x"], "msg": "bad", "type": "one_of", "input": "ECHO"}]}


@pytest.mark.parametrize(
    ("reply", "of_status", "of_result"),
    [
        (b"", errors.FalTemporary, errors.FalTemporary),
        (None, errors.FalTemporary, errors.FalTemporary),
        (answer(200, b"x"), errors.FalTemporary, errors.FalTemporary),
        (answer(302, Location="/x"), errors.FalTemporary, errors.FalTemporary),
        (answer(401, {}), errors.FalAccount, errors.FalAccount),
        (answer(404, {}), errors.FalGone, errors.FalGone),
        (answer(410, {}), errors.FalGone, errors.FalGone),
        (answer(429, {}), errors.FalTemporary, errors.FalTemporary),
        (answer(504, PYDANTIC), errors.FalTemporary, errors.FalTemporary),
        (answer(422, PYDANTIC), errors.FalTemporary, errors.FalRejected),
        (answer(422, {"detail": "text"}), errors.FalTemporary, errors.FalRejected),
        (answer(403, PYDANTIC), errors.FalAccount, errors.FalRejected),
        (
            answer(400, {"detail": "Request is still in progress"}),
            errors.FalTemporary,
            errors.FalTemporary,
        ),
    ],
)
def test_what_a_refused_read_means(reply, of_status, of_result):
    with against(reply, read_seconds=0.4) as (gateway, server):
        url = f"{server.url}/a/b/requests/c"
        for ask, kind in ((gateway.status, of_status), (gateway.result, of_result)):
            with pytest.raises(errors.FalError) as caught:
                ask(url)
            assert type(caught.value) is kind
            assert "ECHO" not in caught.value.detail


@pytest.mark.parametrize(
    ("body", "headers", "detail", "error_type"),
    [
        (PYDANTIC, {}, "HTTP 422: body.x: bad", "one_of"),
        ({"detail": "t", "error_type": "a"}, {}, "HTTP 422: t", "a"),
        ({"detail": "t", "error_type": "a"}, {"X_Fal_Error_Type": "b"}, "HTTP 422: t", "b"),
        ({"error": {"type": "a", "message": "t"}}, {}, "HTTP 422: t", "a"),
        ({"detail": "data:image/png;base64,AAAA is bad"}, {}, "HTTP 422: data:… is bad", None),
        (b"<html>\n  nginx", {}, "HTTP 422: <html> nginx", None),
    ],
)
def test_details_are_short_and_free_of_echoes(body, headers, detail, error_type):
    with (
        against(answer(422, body, **headers)) as (gateway, server),
        pytest.raises(errors.FalRejected) as caught,
    ):
        gateway.result(f"{server.url}/a")
    assert (caught.value.detail, caught.value.error_type) == (detail, error_type)


def test_details_end_after_two_thousand_characters():
    with (
        against(answer(422, {"detail": "x" * 9000})) as (gateway, server),
        pytest.raises(errors.FalRejected) as caught,
    ):
        gateway.result(f"{server.url}/a")
    assert len(caught.value.detail) < 2020


def test_the_key_goes_to_the_queue_only():
    with against(answer(200, {})) as (gateway, server):
        elsewhere = f"http://localhost:{server.port}/a"
        for ask in (gateway.status, gateway.result, gateway.cancel):
            with pytest.raises(errors.FalTemporary, match="not an address of fal's queue"):
                ask(elsewhere)
        assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (answer(202, {"status": "CANCELLATION_REQUESTED"}), "asked"),
        (answer(200, {"success": True}), "asked"),
        (answer(200, {"success": False}), "finished"),
        (answer(400, {"status": "ALREADY_COMPLETED"}), "finished"),
        (answer(404, {"status": "NOT_FOUND"}), "gone"),
    ],
)
def test_what_cancelling_says(reply, word):
    with against(reply) as (gateway, server):
        assert gateway.cancel(f"{server.url}/a/cancel") == word
        assert server.requests[0].startswith(b"PUT /a/cancel ")


def test_cancelling_may_fail():
    with against(answer(500, b"")) as (gateway, server), pytest.raises(errors.FalTemporary):
        gateway.cancel(f"{server.url}/a/cancel")


# fal's list ---------------------------------------------------------------------------------------

ITEM = {"request_id": "a", "sent_at": "2026-11-22T10:00:00Z", "json_input": {"prompt": "ü"}}
SINCE = datetime(2026, 11, 22, 9, tzinfo=UTC)


def test_pages_of_the_list_are_followed():
    hidden = {"request_id": "b", "sent_at": "2026-11-22T10:00:00", "json_input": None}
    pages = [{"items": [ITEM], "next_cursor": "Mg==", "has_more": True}, {"items": [hidden]}]
    with against(*(answer(200, page) for page in pages)) as (gateway, server):
        listed = gateway.requests(ENDPOINT, since=SINCE)
    assert [(entry.request_id, entry.payload) for entry in listed] == [
        ("a", '{"prompt": "ü"}'),
        ("b", None),
    ]
    assert {entry.sent_at for entry in listed} == {SINCE + timedelta(hours=1)}
    assert b"start=2026-11-22T09%3A00%3A00Z&expand=payloads" in server.requests[0]
    assert b"cursor=Mg%3D%3D" in server.requests[1]


def test_a_window_of_the_list_ends_before_its_end():
    with against(answer(200, {"items": [ITEM]})) as (gateway, server):
        gateway.requests(ENDPOINT, since=SINCE, until=SINCE + timedelta(hours=1))
    assert b"start=2026-11-22T09%3A00%3A00Z&end=2026-11-22T10%3A00%3A00Z&" in server.requests[0]


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, {"items": [{"request_id": "a"}]}),
        answer(200, {"items": [{**ITEM, "sent_at": "soon"}]}),
        answer(200, {}),
        answer(200, {"items": [], "next_cursor": "again"}),
        answer(403, {"error": {"type": "authorization_error", "message": "no"}}),
        b"",
    ],
)
def test_a_list_with_gaps_is_no_list(reply):
    with against(reply) as (gateway, _), pytest.raises(errors.FalTemporary):
        gateway.requests(ENDPOINT, since=SINCE)


# Uploads ------------------------------------------------------------------------------------------


def upload(gateway, *, size=10, keep_alive=nothing):
    return gateway.upload(
        name="t-0.jpg", data=bytes(size), content_type="image/jpeg", keep_alive=keep_alive
    )


def test_an_upload_goes_in_chunks_and_without_the_key():
    calls = []
    with OddServer(b"") as server:
        places = {"upload_url": f"{server.url}/put?signed=1", "file_url": "https://v3.fal.media/x"}
        server.answers = [answer(200, places), answer(201)]
        gateway = HttpFal(settings(server.url))
        assert (
            upload(gateway, size=200_000, keep_alive=lambda: calls.append(1)) == places["file_url"]
        )
        start, put = server.requests
    assert len(calls) == 4
    assert start.startswith(b"POST /storage/upload/initiate?storage_type=fal-cdn-v3 ")
    assert KEY.encode() in start
    assert put.startswith(b"PUT /put?signed=1 ")
    assert b"Authorization" not in put
    assert put.partition(b"\r\n\r\n")[2] == bytes(200_000)


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([answer(500)], errors.FalNotSent),
        ([answer(422, {})], errors.FalNotSent),
        ([answer(403, LOCKED)], errors.FalAccount),
        ([answer(200, {"upload_url": "x"})], errors.FalNotSent),
        ([b""], errors.FalNotSent),
        (["places", answer(403)], errors.FalNotSent),
        (["places", answer(302, Location="/x")], errors.FalNotSent),
        (["places", b""], errors.FalNotSent),
        (["places", None], errors.FalNotSent),
    ],
)
def test_a_failed_upload_is_never_charged(replies, kind):
    with OddServer(b"") as server:
        places = {"upload_url": f"{server.url}/put", "file_url": "u"}
        server.answers = [answer(200, places) if reply == "places" else reply for reply in replies]
        gateway = HttpFal(settings(server.url), read_seconds=0.5, transfer_seconds=0.5)
        with pytest.raises(errors.FalError) as caught:
            upload(gateway)
        assert type(caught.value) is kind
        assert len(server.requests) == len(replies)


@pytest.mark.parametrize("host", ["https://evil.example", "http://v3.fal.media", "file:///etc"])
def test_photos_go_to_allowed_hosts_only(host):
    with (
        against(answer(200, {"upload_url": f"{host}/put", "file_url": "u"})) as (gateway, _),
        pytest.raises(errors.FalNotSent) as caught,
    ):
        upload(gateway)
    assert caught.value.error_type == "refused_host"


def test_what_keep_alive_raises_passes():
    class LeaseLostError(Exception):
        pass

    def lost():
        raise LeaseLostError

    with OddServer(b"") as server:
        places = {"upload_url": f"{server.url}/put", "file_url": "u"}
        server.answers = [answer(200, places), None]
        gateway = HttpFal(settings(server.url))
        with pytest.raises(LeaseLostError):
            upload(gateway, keep_alive=lost)
        server.answers = [answer(200, b"picture")]
        with pytest.raises(LeaseLostError):
            gateway.download(f"{server.url}/x", io.BytesIO(), keep_alive=lost)


# Downloads ----------------------------------------------------------------------------------------


def refused_download(gateway, url, kind=errors.FalTemporary):
    with pytest.raises(errors.FalError) as caught:
        gateway.download(url, io.BytesIO(), keep_alive=nothing)
    assert type(caught.value) is kind
    return caught.value.error_type


def test_a_picture_is_fetched_without_the_key():
    sink, calls = io.BytesIO(), []
    reply = answer(200, bytes(300_000), Content_Type="image/png")
    with against(reply) as (gateway, server):
        kind = gateway.download(f"{server.url}/x?y=1", sink, keep_alive=lambda: calls.append(1))
    assert kind == "image/png"
    assert sink.getvalue() == bytes(300_000)
    assert len(calls) >= 4
    assert b"Authorization" not in server.requests[0]
    assert b"Accept-Encoding: identity" in server.requests[0]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "error_type"),
    [
        (answer(302, Location="https://v3.fal.media/x"), "redirect"),
        (answer(200, bytes(1001)), "too_large"),
        (CHUNKED + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n", "too_large"),
        (answer(200, bytes(10), Content_Length=11), "length"),
        (CHUNKED + b"a\r\n" + bytes(10) + b"\r\n", "length"),
        (answer(200, gzip.compress(b"x", mtime=0), Content_Encoding="gzip"), "encoding"),
        (answer(206, b"x"), None),
        (answer(403, b"x"), None),
        (answer(500, b"x"), None),
        (None, None),
    ],
)
def test_a_download_that_is_not_right_is_an_error(reply, error_type):
    with against(reply, transfer_seconds=0.5, max_output_bytes=1000) as (gateway, server):
        assert refused_download(gateway, f"{server.url}/x") == error_type
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_an_expired_picture_is_gone(status):
    with against(answer(status, b"x")) as (gateway, server):
        refused_download(gateway, f"{server.url}/x", errors.FalGone)


def test_silence_within_a_download_is_cut_short():
    def stall(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        server.stopping.wait()

    with against(stall, stall_seconds=0.3) as (gateway, server):
        assert refused_download(gateway, f"{server.url}/x") == "length"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://v3.fal.media/x",
        "https://v3.fal.media:8443/x",
        "https://v3.fal.media@evil.example/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://[::ffff:127.0.0.1]/x",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://v3.fal.media/x",
        "https://v3.fal.media\\@evil.example/x",
        "https://v3.fal.media /x",
        "https://v3.fal.mediа/x",
        "https://v3.fal.media:x/",
        "",
    ],
)
def test_pictures_come_from_allowed_hosts_only(url):
    def never(host, port):
        pytest.fail(f"{host} was looked up")

    assert refused_download(HttpFal(settings(), resolver=never), url) == "refused_host"


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["::1"],
        ["fd00::1"],
        ["fe80::1%eth0"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["1.1.1.1", "127.0.0.1"],
        ["odd"],
        [],
    ],
)
def test_a_name_at_a_private_address_is_refused(addresses):
    gateway = HttpFal(settings(), resolver=lambda *_: addresses)
    assert refused_download(gateway, "https://v3.fal.media/x") == "refused_address"


def test_a_name_that_changes_its_address_is_looked_up_once():
    answers = iter([["127.0.0.1"], ["127.99.0.1"]])
    with OddServer(answer(200, b"picture")) as server:
        origin = f"http://v3.fal.media:{server.port}"
        gateway = HttpFal(
            settings(server.url, FAL_MEDIA_HOSTS=origin), resolver=lambda *_: next(answers)
        )
        gateway.download(f"{origin}/x", io.BytesIO(), keep_alive=nothing)
        assert f"Host: v3.fal.media:{server.port}\r\n".encode() in server.requests[0]
    assert next(answers) == ["127.99.0.1"]


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/png;base64,iVBORw==", b"\x89PNG"),
        ("data:image/png;base64,iVBORw%3D%3D", b"\x89PNG"),
        ("data:image/png,%89PNG", b"\x89PNG"),
    ],
)
def test_an_inlined_picture_is_decoded(url, data):
    sink = io.BytesIO()
    assert HttpFal(settings()).download(url, sink, keep_alive=nothing) == "image/png"
    assert sink.getvalue() == data


@pytest.mark.parametrize("url", ["data:image/png;base64", "data:;base64,!!", "data:," + "x" * 2000])
def test_a_broken_or_large_inlined_picture_is_refused(url):
    refused_download(HttpFal(settings(), max_output_bytes=1000), url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for v3.fal.media that nobody but these tests trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command, which makes the certificate of this test")
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=v3.fal.media", "-addext", "subjectAltName=DNS:v3.fal.media"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            *subject,
            *files,
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize(("name", "fetched"), [("v3.fal.media", True), ("v4.fal.media", False)])
def test_the_certificate_is_checked_for_the_name_though_the_address_is_dialled(
    certificate, name, fetched
):
    names = []
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server_side.sni_callback = lambda _, wanted, __: names.append(wanted)
    trusted = ssl.create_default_context(cafile=certificate / "cert.pem")
    with OddServer(answer(200, b"picture"), tls=server_side) as server:
        origin = f"https://{name}:{server.port}"
        gateway = HttpFal(
            settings(FAL_MEDIA_HOSTS=origin), resolver=lambda *_: ["127.0.0.1"], tls=trusted
        )
        if fetched:
            sink = io.BytesIO()
            gateway.download(f"{origin}/x", sink, keep_alive=nothing)
            assert sink.getvalue() == b"picture"
            assert f"Host: {name}:{server.port}\r\n".encode() in server.requests[0]
        else:
            assert refused_download(gateway, f"{origin}/x") == "no_connection"
            assert server.requests == []
    assert names == [name]


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "app"),
    [
        ("fal-ai/flux-lora/image-to-image", "fal-ai/flux-lora"),
        ("google/nano", "google/nano"),
        ("workflows/me/mine/x", "workflows/me/mine"),
        ("comfy/me/mine", "comfy/me/mine"),
    ],
)
def test_urls_by_fals_rule(endpoint, app):
    urls = request_urls(settings("https://queue.fal.run", FAL_MEDIA_HOSTS=""), endpoint, "r 1")
    assert urls.response_url == f"https://queue.fal.run/{app}/requests/r%201"
    assert urls.status_url == f"{urls.response_url}/status"
    assert urls.cancel_url == f"{urls.response_url}/cancel"


HOSTS = ("*.fal.media", "storage.googleapis.com", "http://127.0.0.1:8001")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://v3.fal.media/x", True),
        ("https://V3B.FAL.MEDIA:443/x", True),
        ("https://fal.media/x", True),
        ("https://storage.googleapis.com/x", True),
        ("http://127.0.0.1:8001/x", True),
        ("http://127.0.0.1:8002/x", False),
        ("https://127.0.0.1:8001/x", False),
        ("https://evilfal.media/x", False),
        ("https://x.storage.googleapis.com/x", False),
        ("http://storage.googleapis.com/x", False),
        ("https://user@v3.fal.media/x", False),
        ("https://v3.fal.media.evil.example/x", False),
    ],
)
def test_allowed_hosts(url, expected):
    assert allowed(url, HOSTS) is expected
