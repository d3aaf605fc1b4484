"""The practice fal server over real HTTP, and as a process that is killed."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image, ImageChops

from i2i.config import ROOT
from i2i.errors import Refused
from i2i.practice import FAULTS, PracticeServer, edit, enlarge, enlarged_size, spoken

EDIT = "fal-ai/qwen-image-edit-2511"
UPSCALER = "fal-ai/clarity-upscaler"


def call(url, method="GET", payload=None):
    """One request; gives status and parsed JSON, or bytes where it is none."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)) as connection:
        body = payload if isinstance(payload, bytes | None) else json.dumps(payload).encode()
        connection.request(method, f"{parts.path}?{parts.query}", body=body)
        response = connection.getresponse()
        data = response.read()
        if response.headers.get_content_type() == "application/json":
            return response.status, json.loads(data)
        return response.status, data


def until(condition):
    """Ask again until it holds; the bound is only a guard against hanging."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if (value := condition()) is not None:
            return value
    pytest.fail("it never came about")


def completed(status_url):
    def ask():
        status, state = call(status_url)
        assert (status == 200) == (state["status"] == "COMPLETED")
        return state if status == 200 else None

    return until(ask)


def photo(width=600, height=800):
    """A picture with enough in it that edits and the stamp show."""
    gradient = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge(
        "RGB", (gradient, gradient.transpose(Image.Transpose.ROTATE_180), gradient)
    )
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95)
    return data.getvalue()


def upload(url, name="token-0.jpg", data=None):
    _, places = call(f"{url}/storage/upload/initiate", "POST", {"file_name": name})
    assert call(places["upload_url"], "PUT", data or photo())[0] == 200
    return places["file_url"]


def submit(url, endpoint=EDIT, **arguments):
    arguments = {"prompt": "A person wearing it", "image_urls": [upload(url)]} | arguments
    return call(f"{url}/{endpoint}", "POST", arguments)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "practice"


@pytest.fixture
def url(directory):
    with PracticeServer(directory, seconds=0) as server:
        yield server.url


@pytest.fixture
def busy_url(directory):
    """A server whose requests never end by themselves within a test."""
    with PracticeServer(directory, seconds=3600) as server:
        yield server.url


def test_a_request_goes_through_queue_and_result_to_a_file(url):
    status, accepted = submit(url)
    assert status == 200
    assert accepted["status_url"] == (
        f"{url}/fal-ai/qwen-image-edit-2511/requests/{accepted['request_id']}/status"
    )
    assert "error" not in completed(accepted["status_url"])
    status, result = call(accepted["response_url"])
    assert status == 200
    [image] = result["images"]
    assert result["has_nsfw_concepts"] == [False]
    status, data = call(image["url"])
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (image["width"], image["height"]) == (960, 1280)
    assert len(data) == image["file_size"]


def test_urls_of_a_request_leave_the_sub_path_out(url):
    _, accepted = submit(url, "fal-ai/nano-banana-pro/edit")
    assert f"{url}/fal-ai/nano-banana-pro/requests/" in accepted["status_url"]
    completed(accepted["status_url"])
    assert "seed" not in call(accepted["response_url"])[1]


def test_the_upscaler_answers_one_image_of_twice_the_size(url):
    _, accepted = submit(url, UPSCALER, image_url=upload(url), image_urls=None, prompt=None)
    completed(accepted["status_url"])
    image = call(accepted["response_url"])[1]["image"]
    assert (image["width"], image["height"]) == (1200, 1600)


def test_several_pictures_of_one_request_differ(url):
    _, accepted = submit(url, num_images=2, output_format="png")
    completed(accepted["status_url"])
    first, second = (call(image["url"])[1] for image in call(accepted["response_url"])[1]["images"])
    assert first != second
    assert first.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("endpoint", "arguments", "field"),
    [
        (EDIT, {"image_urls": ["x"]}, "prompt"),
        (EDIT, {"prompt": "x"}, "image_urls"),
        (UPSCALER, {"prompt": "x"}, "image_url"),
    ],
)
def test_a_missing_field_is_refused_as_fal_does(url, endpoint, arguments, field):
    status, body = call(f"{url}/{endpoint}", "POST", arguments)
    assert status == 422
    assert body["detail"][0]["loc"] == ["body", field]
    assert body["detail"][0]["type"] == "missing"
    assert call(f"{url}/ledger")[1] == {"charges": 0, "requests": []}


def test_an_input_that_is_nowhere_fails_the_result(url):
    _, accepted = submit(url, image_urls=[f"{url}/files/0123456789abcdef/none.jpg"])
    assert completed(accepted["status_url"])["error_type"] == "file_download_error"
    assert call(accepted["response_url"])[0] == 422


def test_an_input_that_is_no_picture_fails_the_result_and_the_next_one_works(url):
    for _ in range(12):  # more than there are runners
        _, accepted = submit(url, image_urls=[upload(url, data=b"no picture")])
        assert completed(accepted["status_url"])["error_type"] == "file_download_error"
    _, accepted = submit(url)
    assert "error" not in completed(accepted["status_url"])


def test_ten_run_and_the_others_wait_in_order(busy_url):
    accepted = [submit(busy_url)[1] for _ in range(12)]

    def two_wait():
        states = [call(request["status_url"])[1] for request in accepted]
        running = sum(state["status"] == "IN_PROGRESS" for state in states)
        return states if running == 10 else None

    states = until(two_wait)
    assert [state.get("queue_position") for state in states[10:]] == [0, 1]
    assert call(accepted[0]["response_url"]) == (400, {"detail": "Request is still in progress"})


def test_cancelling(busy_url):
    accepted = [submit(busy_url)[1] for _ in range(12)]
    waiting, running = accepted[-1], accepted[0]
    until(lambda: call(running["status_url"])[1]["status"] == "IN_PROGRESS" or None)
    for request in (waiting, running):
        assert call(request["cancel_url"], "PUT") == (202, {"status": "CANCELLATION_REQUESTED"})
        assert completed(request["status_url"])["error_type"] == "client_cancelled"
        assert call(request["response_url"])[0] == 499
        assert call(request["cancel_url"], "PUT") == (400, {"status": "ALREADY_COMPLETED"})
    ledger = call(f"{busy_url}/ledger")[1]
    assert ledger["charges"] == 11  # what left the queue before it started is not charged
    assert call(f"{busy_url}/fal-ai/x/requests/abc/cancel", "PUT")[0] == 404


def test_unknown_requests_and_files_answer_404(url):
    _, accepted = submit(url)
    other = accepted["status_url"].replace("qwen-image-edit-2511", "else")
    assert call(other) == (404, {"status": "NOT_FOUND"})
    for path in ("/files/../requests/x", "/files/0123456789abcdef/..%2fx", "/files/x", "/"):
        assert call(url + path)[0] == 404


def test_the_ledger_names_the_input_file(url):
    _, accepted = submit(url)
    [entry] = call(f"{url}/ledger")[1]["requests"]
    assert entry == {
        "request_id": accepted["request_id"],
        "endpoint_id": EDIT,
        "received_at": entry["received_at"],
        "input_file": "token-0.jpg",
        "charged": True,
        "fault": None,
    }


def test_the_platform_list_has_pages_and_payloads(url):
    ids = [submit(url)[1]["request_id"] for _ in range(3)]
    submit(url, "fal-ai/else")
    base = f"{url}/v1/models/requests/by-endpoint?endpoint_id={EDIT}&limit=2"
    first = call(base)[1]
    assert first["has_more"]
    assert "json_input" not in first["items"][0]
    second = call(f"{base}&cursor={first['next_cursor']}&expand=payloads")[1]
    assert [item["request_id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["items"][0]["json_input"]["prompt"] == "A person wearing it"
    assert second["next_cursor"] is None
    assert call(f"{base}&start=2199-01-01T00:00:00Z")[1]["items"] == []
    assert call(f"{base}&start=soon")[0] == 400
    assert call(f"{base}&end=soon")[0] == 400


def test_the_end_of_the_platforms_list_is_exclusive(url):
    ids = [submit(url)[1]["request_id"] for _ in range(2)]
    base = f"{url}/v1/models/requests/by-endpoint?endpoint_id={EDIT}"
    last = call(base)[1]["items"][0]
    assert last["request_id"] == ids[1]
    (first,) = call(f"{base}&end={quote(last['sent_at'])}")[1]["items"]
    assert first["request_id"] == ids[0]
    since = call(f"{base}&start={quote(last['sent_at'])}")[1]["items"]
    assert [item["request_id"] for item in since] == [ids[1]]


def test_models_are_active(url):
    model = call(f"{url}/v1/models?endpoint_id={EDIT}")[1]["models"][0]
    assert (model["endpoint_id"], model["metadata"]["status"]) == (EDIT, "active")


@pytest.mark.parametrize("header", ["Origin: http://evil.example", "Host: evil.example"])
def test_web_pages_reach_nothing(url, header):
    with socket.create_connection(("127.0.0.1", urlsplit(url).port)) as connection:
        connection.sendall(f"GET /ledger HTTP/1.1\r\n{header}\r\n\r\n".encode())
        assert connection.recv(99).startswith(b"HTTP/1.1 403 ")


# Faults -------------------------------------------------------------------------------------------


def fault(url, mode, **more):
    assert call(f"{url}/faults", "POST", {"mode": mode, **more})[0] == 200


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        ("refuse_429", 429),
        ("server_error", 500),
        ("bad_gateway_nginx", 502),
        ("locked", 403),
        ("unprocessable", 422),
    ],
)
def test_refusals_are_not_charged_and_end_after_their_count(url, mode, status):
    fault(url, mode, count=2)
    assert [submit(url)[0] for _ in range(3)] == [status, status, 200]
    assert call(f"{url}/ledger")[1]["charges"] == 1


def test_faults_come_in_order_and_can_be_cleared(url):
    fault(url, "locked")
    fault(url, "server_error")
    fault(url, "refuse_429")
    assert [submit(url)[0] for _ in range(2)] == [403, 500]
    assert call(f"{url}/faults", "DELETE")[0] == 200
    assert submit(url)[0] == 200


def test_a_lost_answer_is_charged(url):
    fault(url, "lost_answer")
    with pytest.raises(http.client.RemoteDisconnected):
        submit(url)
    assert call(f"{url}/ledger")[1]["charges"] == 1


def test_a_hanging_answer_is_charged_and_never_comes(directory):
    with PracticeServer(directory, seconds=0) as server:
        fault(server.url, "hang")
        body = json.dumps({"prompt": "x", "image_urls": [upload(server.url)]}).encode()
        host, port = "127.0.0.1", urlsplit(server.url).port
        connection = socket.create_connection((host, port))
        connection.sendall(
            b"POST /%b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (EDIT.encode(), len(body), body)
        )
        until(lambda: call(f"{server.url}/ledger")[1]["charges"] == 1 or None)
    with connection:
        assert connection.recv(1) == b""


def test_nsfw_is_a_black_picture_with_a_flag(url):
    fault(url, "nsfw")
    _, accepted = submit(url)
    completed(accepted["status_url"])
    result = call(accepted["response_url"])[1]
    assert result["has_nsfw_concepts"] == [True]
    picture = Image.open(io.BytesIO(call(result["images"][0]["url"])[1]))
    assert picture.convert("L").getextrema() == (0, 0)


def test_a_model_error_shows_in_status_and_result(url):
    fault(url, "model_error")
    _, accepted = submit(url)
    assert completed(accepted["status_url"])["error_type"] == "content_policy_violation"
    status, body = call(accepted["response_url"])
    assert (status, body["detail"][0]["type"]) == (422, "content_policy_violation")


@pytest.mark.parametrize(("mode", "more"), [("never", {}), ("slow", {"seconds": 3600})])
def test_what_does_not_end_stays_in_progress_beside_what_does(url, mode, more):
    fault(url, mode, **more)
    _, stuck = submit(url)
    _, other = submit(url)
    completed(other["status_url"])
    assert call(stuck["status_url"])[1]["status"] == "IN_PROGRESS"


def test_upload_and_result_faults_spoil_only_theirs(url):
    fault(url, "upload_error")
    fault(url, "result_504")
    assert call(f"{url}/storage/upload/initiate", "POST", {"file_name": "a.jpg"})[0] == 500
    _, accepted = submit(url)
    completed(accepted["status_url"])
    assert [call(accepted["response_url"])[0] for _ in range(2)] == [504, 200]


def test_a_share_of_an_operation_goes_wrong_until_it_is_forgotten(url):
    _, accepted = submit(url)
    completed(accepted["status_url"])
    fault(url, "status_503", share=1)
    fault(url, "result_504", share=1e-9)
    assert [call(accepted["status_url"])[0] for _ in range(3)] == [503] * 3
    picture = call(accepted["response_url"])[1]["images"][0]["url"]
    fault(url, "file_500")
    assert [call(picture)[0] for _ in range(2)] == [500, 200]
    assert call(f"{url}/faults", "DELETE")[0] == 200
    assert call(accepted["status_url"])[0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        *({"mode": "else"}, {"mode": "hang", "count": 0}, {}),
        *(
            {"mode": "hang", "share": 0},
            {"mode": "hang", "share": 2},
            {"mode": "hang", "share": "x"},
        ),
    ],
)
def test_a_wrong_fault_is_refused(url, wrong):
    assert call(f"{url}/faults", "POST", wrong)[0] == 422


def test_every_mode_is_described():
    text = sys.modules[PracticeServer.__module__].__doc__
    assert all(f"    {mode} " in text for mode in FAULTS)


# Pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"aspect_ratio": "1:1"}, (1280, 1280)),
        ({"aspect_ratio": "16:9"}, (1280, 720)),
        ({"aspect_ratio": "9:16"}, (720, 1280)),
        ({"aspect_ratio": "auto"}, (960, 1280)),
        ({"image_size": "landscape_4_3"}, (1024, 768)),
        ({"image_size": {"width": 1000, "height": 700}}, (1000, 700)),
        ({"image_size": {"width": 10, "height": "x"}}, (960, 1280)),
    ],
)
def test_the_shape_is_the_one_asked_for(arguments, size):
    assert edit(photo(), arguments, variation=0).size == size


def changed(before, after):
    """Where two pictures differ clearly, as a box."""
    difference = ImageChops.difference(before, after).convert("L")
    return difference.point([255 if level > 60 else 0 for level in range(256)]).getbbox()


def test_practice_is_stamped_in_the_lower_right_corner():
    plain = Image.open(io.BytesIO(photo(960, 1280)))
    left, top, right, bottom = changed(plain, edit(photo(960, 1280), {}, variation=0))
    assert left > 480
    assert top > 1100
    assert (right, bottom) == (960, 1280)
    corner = enlarge(photo(), {"upscale_factor": 1}).crop((350, 700, 600, 800))
    darkest, lightest = corner.convert("L").getextrema()
    assert darkest < 40
    assert lightest > 220


def test_light_and_background_follow_the_prompt():
    def middle_and_edge(prompt):
        picture = edit(photo(), {"prompt": prompt, "aspect_ratio": "1:1"}, variation=0)
        return picture.getpixel((640, 640)), picture.getpixel((8, 8))

    studio, white = middle_and_edge("studio lighting. Studio white background")
    golden, street = middle_and_edge("golden hour light. Urban street background")
    assert golden[0] - golden[2] > studio[0] - studio[2] + 20
    assert min(white) > 240
    assert max(street) < 180


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("dramatic lighting, in an outdoor natural setting", "dramatic"),
        ("natural skin. Lighting: soft light", "soft"),
        ("a natural pose", "natural"),
        ("plain", None),
    ],
)
def test_words_beside_light_come_first(prompt, style):
    words = ["golden hour", "dramatic", "studio", "natural", "soft"]
    assert spoken(prompt, words, near="light") == style


def test_an_upscale_stays_within_fifty_megapixels():
    width, height = enlarged_size(3000, 4000, 4)
    assert 49_900_000 < width * height <= 50_000_000
    assert enlarged_size(600, 800, None) == enlarged_size(600, 800, "2") == (1200, 1600)
    assert enlarged_size(600, 800, 0) == (600, 800)


# Surviving ----------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A practice server of its own process, ready when it says so."""

    def __init__(self, directory: Path, *, port: int, seconds: float) -> None:
        code = (
            "import sys; from pathlib import Path; from i2i.practice import serve; "
            "serve(Path(sys.argv[1]), port=int(sys.argv[2]), seconds=float(sys.argv[3]), "
            "ready=lambda: print('ready', flush=True))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory), str(port), str(seconds)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout.readline() == b"ready\n"

    def end(self, number):
        self.process.send_signal(number)
        with self.process as process:
            return process.wait(timeout=30)


def test_everything_survives_kill_9(directory):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = Process(directory, port=port, seconds=3600)
    accepted = [submit(url)[1] for _ in range(11)]
    call(accepted[10]["cancel_url"], "PUT")
    until(lambda: call(accepted[0]["status_url"])[1]["status"] == "IN_PROGRESS" or None)
    ledger = call(f"{url}/ledger")[1]
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    # The kept length of a request would hold the test up, so it is shortened as an editor would.
    for file in (directory / "requests").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 0}))
    second = Process(directory, port=port, seconds=0)
    try:
        assert call(f"{url}/ledger")[1] == ledger
        for request in accepted[:10]:
            assert "error" not in completed(request["status_url"])
            image = call(request["response_url"])[1]["images"][0]
            assert call(image["url"])[0] == 200
        assert completed(accepted[10]["status_url"])["error_type"] == "client_cancelled"
        assert call(f"{url}/ledger")[1] == ledger
    finally:
        assert second.end(signal.SIGTERM) == 0


def test_sigint_ends_it_cleanly_while_it_works(directory):
    port = free_port()
    server = Process(directory, port=port, seconds=3600)
    submit(f"http://127.0.0.1:{port}")
    assert server.end(signal.SIGINT) == 0


def test_a_taken_port_is_said_plainly(directory, url):
    with pytest.raises(Refused, match=r"Port \d+ of 127.0.0.1 cannot be used"):
        PracticeServer(directory, port=urlsplit(url).port)
