"""The practice fal server: fal's protocol on this machine, real edits, nothing charged for real.

One loopback origin plays fal's queue, storage, file hosts and platform list, so that everything
of i2i runs as it does against fal. References such as "fal.md 1.2" are to the protocol notes.

State lies under one folder and survives `kill -9`: `requests/<id>.json`, one file a request, and
`files/<random>/<name>` for inputs and results; both are written beside and then renamed. What
had not completed when the server ended is made again after the start, and not charged again.

`GET /ledger` tells what would have been charged: `{"charges": N, "requests": [{request_id,
endpoint_id, received_at, input_file, charged, fault}]}`, one charge an accepted request; taking a
request out of the queue before it has started takes its charge back, as at fal.

`POST /faults` with `{"mode": M, "count": N}` (and `"seconds"` for slow) lets the next N operations
misbehave, first in, first out; with `{"mode": M, "share": 0.1}` a tenth of them, at random, until
`DELETE /faults` forgets what is left. Modes:

    lost_answer         accepts and charges, then closes the connection without an answer
    hang                accepts and charges, then never answers
    refuse_429          429, not accepted
    server_error        500, not accepted
    bad_gateway_nginx   502 with nginx's page, not accepted
    locked              403 "User is locked. Reason: Exhausted balance.", not accepted
    unprocessable       422, not accepted
    nsfw                completes with a black picture and has_nsfw_concepts [true]
    model_error         completes with an error; its result is 422 content_policy_violation
    slow                takes "seconds" instead of the usual time
    never               stays in progress
    upload_error        500 when an upload is initiated
    status_503          503 when a status is asked for
    result_504          504 when a result is fetched
    file_500            500 when a file is fetched
    webhook_lost        never calls back
    webhook_twice       calls back twice
    webhook_early       calls back first and answers the submit afterwards

A request with `?fal_webhook=` is called back when it has ended, signed with a key of this server's
own (`GET /.well-known/jwks.json`), and again after 1, 2, 4 and 8 s while there is no 2xx. Only
addresses on this machine are called; fal itself never calls those (fal.md 2).
"""

import hashlib
import http.client
import io
import json
import math
import os
import random
import re
import secrets
import signal
import socket
import socketserver
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from i2i.errors import Refused

RUNNING = 10
"""Requests in progress at once; fal allows an account 2 to 40 (fal.md 1.6)."""

EASELS = 2
"""Pictures painted at once, so that practice leaves the machine usable."""

LONG_SIDE = 1280
MOST_PIXELS = 50_000_000
MOST_BYTES = 200_000_000

FAULTS = {
    "lost_answer": "submit",
    "hang": "submit",
    "refuse_429": "submit",
    "server_error": "submit",
    "bad_gateway_nginx": "submit",
    "locked": "submit",
    "unprocessable": "submit",
    "nsfw": "submit",
    "model_error": "submit",
    "slow": "submit",
    "never": "submit",
    "webhook_lost": "submit",
    "webhook_twice": "submit",
    "webhook_early": "submit",
    "upload_error": "upload",
    "status_503": "status",
    "result_504": "result",
    "file_500": "file",
}
"""Every mode and the operation that it spoils."""

Json = dict[str, object]


# Requests -----------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Request:
    """One accepted request, as kept on disk; `error_*` is what its result answers if it failed."""

    number: int
    request_id: str
    endpoint_id: str
    received_at: str
    arguments: Json
    state: str = "IN_QUEUE"
    charged: bool = True
    fault: str | None = None
    seconds: float
    started_at: str | None = None
    ended_at: str | None = None
    outputs: list[Json] = field(default_factory=list)
    seed: int = 0
    error_status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    webhook_url: str | None = None

    @property
    def app(self) -> str:
        """Owner and app: the part of the id under which a request is asked for (fal.md 1.2)."""
        return app_of(self.endpoint_id)


def app_of(endpoint_id: str) -> str:
    """The first two segments, three for workflows/ and comfy/ (fal.md 1.2)."""
    segments = endpoint_id.split("/")
    return "/".join(segments[: 3 if segments[0] in {"workflows", "comfy"} else 2])


def input_urls(arguments: Json) -> list[str]:
    """The pictures that a request names, in order."""
    several = arguments.get("image_urls")
    found = [arguments.get("image_url"), *(several if isinstance(several, list) else [])]
    return [url for url in found if isinstance(url, str) and url]


def missing_field(endpoint_id: str, arguments: Json) -> str | None:
    """The first required field that a request lacks (fal.md 4.3)."""
    upscales = "upscale" in endpoint_id
    if not input_urls(arguments):
        return "image_url" if upscales else "image_urls"
    prompt = arguments.get("prompt")
    return None if upscales or (isinstance(prompt, str) and prompt.strip()) else "prompt"


def now_text() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, sync, rename: after a crash there is the old file or the new one."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Books:
    """All requests, in memory and on disk, and the faults still to come. Safe between threads."""

    def __init__(self, directory: Path, *, seconds: float) -> None:
        self.files = directory / "files"
        self.seconds = seconds
        self.stopping = threading.Event()
        self._kept = directory / "requests"
        self._changed = threading.Condition()
        self._faults: list[Json] = []
        self._requests: dict[str, Request] = {}
        self._called: set[str] = set()
        for folder in (self._kept, self.files):
            folder.mkdir(parents=True, exist_ok=True)
        kept = [Request(**json.loads(path.read_bytes())) for path in self._kept.glob("*.json")]
        for request in sorted(kept, key=lambda request: request.number):
            self._requests[request.request_id] = request

    def accept(
        self,
        endpoint_id: str,
        arguments: Json,
        *,
        fault: Json | None,
        webhook_url: str | None = None,
    ) -> Request:
        """Write a new request down; from here on it counts as charged."""
        mode = str(fault["mode"]) if fault else None
        seconds = fault.get("seconds") if fault and mode == "slow" else None
        seed = arguments.get("seed")
        with self._changed:
            request = Request(
                number=len(self._requests),
                request_id=secrets.token_hex(16),
                endpoint_id=endpoint_id,
                received_at=now_text(),
                arguments=arguments,
                state="IN_PROGRESS" if mode == "never" else "IN_QUEUE",
                fault=mode,
                webhook_url=webhook_url,
                seconds=float(seconds) if isinstance(seconds, int | float) else self.seconds,
                seed=seed if isinstance(seed, int) else secrets.randbelow(2**31),
            )
            self._keep(request)
            self._requests[request.request_id] = request
            self._changed.notify_all()
        return request

    def find(self, request_id: str) -> Request | None:
        with self._changed:
            return self._requests.get(request_id)

    def listed(self) -> list[Request]:
        with self._changed:
            return list(self._requests.values())

    def position(self, request: Request) -> int:
        """How many wait before this one, from 0."""
        with self._changed:
            return sum(
                other.state == "IN_QUEUE" and other.number < request.number
                for other in self._requests.values()
            )

    def take(self) -> Request | None:
        """Start the oldest waiting request; waits for one, None when the server stops.

        On disk it stays in the queue until it has ended, and so a new start takes it again.
        """
        with self._changed:
            while not self.stopping.is_set():
                for request in self._requests.values():
                    if request.state == "IN_QUEUE":
                        request.state, request.started_at = "IN_PROGRESS", now_text()
                        return request
                self._changed.wait()
        return None

    def complete(self, request: Request, *, outputs: list[Json]) -> None:
        with self._changed:
            if request.state == "IN_PROGRESS":
                request.outputs = outputs
                self._end(request)

    def fail(self, request: Request, *, status: int, kind: str, message: str) -> None:
        with self._changed:
            if request.state == "IN_PROGRESS":
                self._end(request, status=status, kind=kind, message=message)

    def cancel(self, request: Request) -> bool:
        """Stop it, shown as completed with an error (fal.md 1.2); False when it had ended."""
        with self._changed:
            if request.state == "COMPLETED":
                return False
            request.charged = request.state != "IN_QUEUE"
            self._end(request, status=499, kind="client_cancelled", message="Request cancelled")
            return True

    def mark_called(self, request: Request) -> None:
        """Calling back is over, whether anybody took it or not."""
        with self._changed:
            self._called.add(request.request_id)
            self._changed.notify_all()

    def wait_called(self, request: Request) -> None:
        """Until calling back is over, or the server stops."""
        with self._changed:
            while request.request_id not in self._called and not self.stopping.is_set():
                self._changed.wait()

    def stop(self) -> None:
        with self._changed:
            self.stopping.set()
            self._changed.notify_all()

    def add_fault(self, fault: Json) -> None:
        with self._changed:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        with self._changed:
            self._faults.clear()

    def next_fault(self, operation: str) -> Json | None:
        """The oldest fault that is meant for this operation and hits it, used up once."""
        with self._changed:
            for fault in self._faults:
                if FAULTS[str(fault["mode"])] != operation:
                    continue
                if "share" in fault:
                    if random.random() < float(str(fault["share"])):  # noqa: S311 - no secret
                        return fault
                else:
                    fault["count"] = int(str(fault["count"])) - 1
                    if fault["count"] == 0:
                        self._faults.remove(fault)
                    return fault
        return None

    def _end(
        self,
        request: Request,
        *,
        status: int | None = None,
        kind: str | None = None,
        message: str | None = None,
    ) -> None:
        request.error_status, request.error_type, request.error_message = status, kind, message
        request.state, request.ended_at = "COMPLETED", now_text()
        self._keep(request)

    def _keep(self, request: Request) -> None:
        data = json.dumps(asdict(request), ensure_ascii=False).encode()
        write_whole(self._kept / f"{request.request_id}.json", data)


# Calling back -------------------------------------------------------------------------------------

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try; fal tries up to 31 times over an hour (fal.md 2)."""


class Courier:
    """Calls back on this machine, signed as fal signs, with a key that is kept in the folder."""

    def __init__(self, directory: Path, *, stopping: threading.Event) -> None:
        self._stopping = stopping
        kept = directory / "webhook_key"
        if not kept.exists():
            write_whole(kept, secrets.token_bytes(32))
            kept.chmod(0o600)
        self._key = Ed25519PrivateKey.from_private_bytes(kept.read_bytes())

    @property
    def jwks(self) -> Json:
        """The public key, padded as fal's own are."""
        x = urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": x}]}

    def deliver(self, url: str, *, request_id: str, body: bytes) -> bool:
        """Post until a 2xx; a redirect ends it, as with fal. False when nobody took it."""
        if urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"}:
            return False
        for pause in PAUSES:
            if self._stopping.wait(pause):
                return False
            with suppress(OSError, ValueError, http.client.HTTPException):
                status = self._post(url, request_id=request_id, body=body)
                if 200 <= status < 400:
                    return status < 300
        return False

    def sign(self, *, request_id: str, body: bytes, timestamp: int) -> dict[str, str]:
        """The four headers (fal.md 2)."""
        digest = hashlib.sha256(body).hexdigest()
        message = f"{request_id}\npractice\n{timestamp}\n{digest}"
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": "practice",
            "X-Fal-Webhook-Timestamp": str(timestamp),
            "X-Fal-Webhook-Signature": self._key.sign(message.encode()).hex(),
        }

    def _post(self, url: str, *, request_id: str, body: bytes) -> int:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        headers = self.sign(request_id=request_id, body=body, timestamp=int(time.time()))
        headers["Content-Type"] = "application/json"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        with closing(kind(str(parts.hostname), parts.port, timeout=5)) as connection:
            connection.request("POST", target or "/", body, headers)
            return connection.getresponse().status


# Files --------------------------------------------------------------------------------------------


def file_name(url: str) -> str | None:
    """The last segment of a URL's path; None for an inlined picture."""
    return None if url.startswith("data:") else unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def find_file(files: Path, path: str) -> Path | None:
    """The file behind a path `/files/<random>/<name>` of this server, if it is there."""
    found = re.fullmatch(r"/files/([0-9a-f]{16})/([\w.-]+)", unquote(path), re.ASCII)
    if found is None or found[2].startswith("."):
        return None
    file = files / found[1] / found[2]
    return file if file.is_file() else None


def load_input(files: Path, url: str) -> bytes:
    """The bytes of an input: a file of ours, or inlined; ValueError for every other address."""
    if url.startswith("data:"):
        return b64decode(url.partition(",")[2])
    file = find_file(files, urlsplit(url).path)
    if file is None:
        raise ValueError("no such file")
    return file.read_bytes()


# Pictures -----------------------------------------------------------------------------------------

SIZES = {  # fal.md 4.3
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}

LIGHTING: dict[str, tuple[float, float, tuple[float, float, float]]] = {
    # contrast around mid grey, lift in levels, gain of red, green and blue
    "golden hour": (1.05, 4, (1.12, 1.01, 0.82)),
    "dramatic": (1.35, -22, (1.0, 0.99, 1.02)),
    "studio": (1.10, 10, (1.0, 1.0, 1.02)),
    "natural": (1.02, 4, (1.03, 1.01, 0.96)),
    "soft": (0.86, 14, (1.01, 1.0, 0.99)),
}

BACKDROPS: dict[str, tuple[str, str]] = {  # top and bottom
    "studio white": ("#ffffff", "#e9e9ec"),
    "urban street": ("#9aa0a8", "#4d4f55"),
    "home interior": ("#efe3d2", "#b89877"),
    "outdoor": ("#a9cdf0", "#8fae76"),
}


def spoken(prompt: str, words: list[str], *, near: str) -> str | None:
    """The first of the words that the prompt uses, by preference right before or after `near`."""
    text = prompt.lower()
    for word in words:
        gap = r"[^.;,]{0,16}"
        if re.search(rf"\b{word}\b{gap}\b(?:{near})|\b(?:{near})\w*\b{gap}\b{word}\b", text):
            return word
    return next((word for word in words if re.search(rf"\b{word}\b", text)), None)


def target_size(arguments: Json, width: int, height: int) -> tuple[int, int]:
    """Width and height to paint, from image_size or aspect_ratio, else the input's own shape."""
    size = arguments.get("image_size")
    if isinstance(size, str) and size in SIZES:
        return SIZES[size]
    if isinstance(size, dict):
        sides = [side for name in ("width", "height") if isinstance(side := size.get(name), int)]
        if len(sides) == 2 and all(64 <= side <= 4096 for side in sides):
            return sides[0], sides[1]
    ratio = re.fullmatch(r"(\d{1,2}):(\d{1,2})", str(arguments.get("aspect_ratio")))
    if ratio and int(ratio[1]) and int(ratio[2]):
        width, height = int(ratio[1]), int(ratio[2])
    scale = LONG_SIDE / max(width, height)
    return max(64, round(width * scale)), max(64, round(height * scale))


def open_input(source: bytes, *, side: int) -> Image.Image:
    """Decode an input upright and in RGB, a JPEG no larger than needed for `side`."""
    picture = Image.open(io.BytesIO(source))
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError("too many pixels")
    picture.draft("RGB", (side, side))
    return ImageOps.exif_transpose(picture).convert("RGB")


def light(picture: Image.Image, style: str, *, variation: int) -> Image.Image:
    """Lay the tone curve of a lighting style over a picture; variations differ by a breath."""
    contrast, lift, gains = LIGHTING[style]
    lift += (variation % 4) * 3
    curve = [
        min(255, max(0, round(((level - 128) * contrast + 128 + lift) * gain)))
        for gain in gains
        for level in range(256)
    ]
    return picture.point(curve)


def backdrop(picture: Image.Image, size: tuple[int, int], *, setting: str | None) -> Image.Image:
    """The ground on which the photo stands: a setting's colours, else the photo itself, blurred."""
    if setting is None:
        small = ImageOps.fit(picture, (max(1, size[0] // 16), max(1, size[1] // 16)))
        return small.filter(ImageFilter.GaussianBlur(4)).resize(size)
    top, bottom = BACKDROPS[setting]
    return ImageOps.colorize(Image.linear_gradient("L"), top, bottom).resize(size)


def compose(picture: Image.Image, size: tuple[int, int], *, setting: str | None) -> Image.Image:
    """Bring a photo into another shape: cropped when it nearly fits, else set on a backdrop."""
    change = (picture.width / picture.height) / (size[0] / size[1])
    if setting is None and 0.85 < change < 1.18:
        return ImageOps.fit(picture, size)
    share = 1.0 if setting is None else 0.88
    inset = ImageOps.contain(picture, (round(size[0] * share), round(size[1] * share)))
    soft = max(1, min(inset.size) // 40)
    mask = Image.new("L", inset.size, 0)
    edges = (soft, soft, inset.width - soft, inset.height - soft)
    mask.paste(255, edges)
    ground = backdrop(picture, size, setting=setting)
    place = ((size[0] - inset.width) // 2, (size[1] - inset.height) // 2)
    ground.paste(inset, place, mask.filter(ImageFilter.BoxBlur(soft)))
    return ground


def stamp(picture: Image.Image) -> Image.Image:
    """Write PRACTICE on a dark band in the lower right corner."""
    height = max(14, min(picture.size) // 18)
    font = ImageFont.load_default(size=height)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), "PRACTICE", font=font)
    x, y = picture.width - (right - left) - height, picture.height - (bottom - top) - height
    draw.rectangle(
        (x - height // 2, y - height // 2, picture.width, picture.height), fill="#1b1b1d"
    )
    draw.text((x - left, y - top), "PRACTICE", font=font, fill="#ffffff")
    return picture


def enlarged_size(width: int, height: int, factor: object) -> tuple[int, int]:
    """An upscaler's size: factor 1 to 4 (2 where it is none), at most 50 Mpx."""
    scale = min(4.0, max(1.0, float(factor))) if isinstance(factor, int | float) else 2.0
    scale = min(scale, (MOST_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def enlarge(source: bytes, arguments: Json) -> Image.Image:
    """What an upscaler does: more pixels, then sharpened."""
    picture = open_input(source, side=8192)
    size = enlarged_size(picture.width, picture.height, arguments.get("upscale_factor"))
    larger = picture.resize(size, Image.Resampling.BICUBIC)
    return stamp(larger.filter(ImageFilter.SHARPEN))


def edit(source: bytes, arguments: Json, *, variation: int) -> Image.Image:
    """What an edit model does, as far as shape, light and background go."""
    picture = open_input(source, side=LONG_SIDE)
    size = target_size(arguments, picture.width, picture.height)
    prompt = str(arguments.get("prompt", ""))
    style = spoken(prompt, list(LIGHTING), near="light")
    setting = spoken(prompt, list(BACKDROPS), near="background|setting")
    if style is not None or variation:
        picture = light(picture, style or "natural", variation=variation)
    return stamp(compose(picture, size, setting=setting))


def encode(picture: Image.Image, output_format: object) -> tuple[bytes, str]:
    """Bytes and format name: png, webp, else jpeg."""
    name = output_format if output_format in {"png", "webp"} else "jpeg"
    data = io.BytesIO()
    options: dict[str, int] = {"compress_level": 1} if name == "png" else {"quality": 90}
    picture.save(data, str(name), **options)
    return data.getvalue(), str(name)


def paint(request: Request, files: Path) -> list[Json]:
    """Make a request's pictures and keep them as files; raises when the input is unusable."""
    source = load_input(files, input_urls(request.arguments)[0])
    count = request.arguments.get("num_images", 1)
    made: list[Json] = []
    for index in range(min(4, max(1, count)) if isinstance(count, int) else 1):
        if "upscale" in request.endpoint_id:
            picture = enlarge(source, request.arguments)
        else:
            variation = (request.seed + index) % 7 if "seed" in request.arguments else index
            picture = edit(source, request.arguments, variation=variation)
        if request.fault == "nsfw":
            picture = Image.new("RGB", picture.size)
        data, kind = encode(picture, request.arguments.get("output_format"))
        folder = files / hashlib.sha256(f"{request.request_id} {index}".encode()).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        name = f"output-{index}.{kind}"
        write_whole(folder / name, data)
        made.append(
            {
                "path": f"/files/{folder.name}/{name}",
                "content_type": f"image/{kind}",
                "file_name": name,
                "file_size": len(data),
                "width": picture.width,
                "height": picture.height,
            }
        )
    return made


# Results ------------------------------------------------------------------------------------------


def output_of(request: Request, origin: str) -> Json:
    """Shape G for upscalers, C for nano-banana, else A (fal.md 4.2)."""
    images: list[Json] = [
        {"url": f"{origin}{output['path']}"}
        | {name: value for name, value in output.items() if name != "path"}
        for output in request.outputs
    ]
    if "upscale" in request.endpoint_id:
        output: Json = {"image": images[0], "seed": request.seed, "timings": {}}
    elif "nano-banana" in request.endpoint_id:
        output = {"images": images, "description": ""}
    else:
        output = {"images": images, "seed": request.seed, "timings": {}}
        output |= {"has_nsfw_concepts": [False] * len(images)}
        output |= {"prompt": request.arguments.get("prompt")}
    if request.fault == "nsfw":
        output["has_nsfw_concepts"] = [True] * len(images)
    return output


def result_of(request: Request, origin: str) -> Json:
    """What an ended request answers, and what a callback carries: its output, or its error."""
    if request.error_status is None:
        return output_of(request, origin)
    if request.error_status != 422:
        return {"detail": request.error_message, "error_type": request.error_type}
    item = {
        "loc": ["body", "prompt"],
        "msg": request.error_message,
        "type": request.error_type,
        "input": request.arguments,
    }
    return {"detail": [item]}


def callback_of(request: Request, origin: str) -> bytes:
    """The body of a callback (fal.md 2)."""
    content: Json = {
        "request_id": request.request_id,
        "gateway_request_id": request.request_id,
        "status": "OK" if request.error_status is None else "ERROR",
        "payload": result_of(request, origin),
    }
    if request.error_status is not None:
        content["error"] = f"Invalid status code: {request.error_status}"
    return json.dumps(content, ensure_ascii=False).encode()


# The server ---------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Fal's four hosts in one: routes first, then one method an operation."""

    protocol_version = "HTTP/1.1"
    server_version = "practice-fal"
    server: "_Server"
    timeout = 120

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet: `make run` shows what matters."""

    def parse_request(self) -> bool:
        """Refuse what a web page had a browser send, be it by a name that points here."""
        if not super().parse_request():
            return False
        names = {None, f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"}
        if self.headers.get("Host") in names and "Origin" not in self.headers:
            return True
        self.close_connection = True
        self._answer(403, {"detail": "Not for browsers"})
        return False

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/ledger":
            self._ledger()
        elif path == "/.well-known/jwks.json":
            self._answer(200, self.server.courier.jwks)
        elif path == "/v1/models/requests/by-endpoint":
            self._list(parse_qs(query))
        elif path == "/v1/models":
            self._models(parse_qs(query))
        elif path.startswith("/files/"):
            self._send_file(path)
        elif (found := self._request_of(path)) is not None:
            request, operation = found
            if operation == "/status":
                self._status(request)
            elif operation in {"", "/response"}:
                self._result(request)
            else:
                self._answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        body = self._body()
        if body is None:
            return
        if path == "/faults":
            self._add_fault(body)
        elif path == "/storage/upload/initiate":
            self._initiate(body)
        elif re.fullmatch(r"(/[\w.-]+){2,6}", path, re.ASCII):
            webhook_url = parse_qs(query).get("fal_webhook", [None])[0]
            self._submit(path.strip("/"), body, webhook_url=webhook_url)
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_PUT(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/uploads/"):
            self._receive(path)
        elif self._body() is not None and (found := self._request_of(path)) is not None:
            request, operation = found
            if operation != "/cancel":
                self._answer(404, {"detail": "Not Found"})
            elif self.books.cancel(request):
                self._answer(202, {"status": "CANCELLATION_REQUESTED"})
            else:
                self._answer(400, {"status": "ALREADY_COMPLETED"})

    def do_DELETE(self) -> None:
        if self.path.partition("?")[0] == "/faults":
            self.books.clear_faults()
            self._answer(200, {"faults": 0})
        else:
            self._answer(404, {"detail": "Not Found"})

    # The queue: fal.md 1.2 and 1.3

    def _submit(self, endpoint_id: str, body: bytes, *, webhook_url: str | None) -> None:
        fault = self.books.next_fault("submit")
        mode = fault["mode"] if fault else None
        if mode == "refuse_429":
            self._answer(429, {"detail": "Too many requests"})
        elif mode == "server_error":
            self._answer(500, {"detail": "Internal Server Error", "error_type": "internal_error"})
        elif mode == "bad_gateway_nginx":
            page = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
            self._send(502, page, "text/html")
        elif mode == "locked":
            self._answer(403, {"detail": "User is locked. Reason: Exhausted balance."})
        elif (arguments := read_object(body)) is None:
            self._unprocessable("body", "JSON object expected", "model_type", None)
        elif mode == "unprocessable":
            self._unprocessable("prompt", "Prompt is not valid", "value_error", arguments)
        elif (missing := missing_field(endpoint_id, arguments)) is not None:
            self._unprocessable(missing, "Field required", "missing", arguments)
        else:
            request = self.books.accept(
                endpoint_id, arguments, fault=fault, webhook_url=webhook_url
            )
            if mode == "webhook_early" and webhook_url:
                self.books.wait_called(request)
            if mode == "hang":
                self.books.stopping.wait()
            if mode in {"hang", "lost_answer"}:
                self._hang_up()
            else:
                self._answer(200, {**self._state_of(request), "status": "IN_QUEUE"})

    def _unprocessable(self, name: str, message: str, kind: str, echoed: Json | None) -> None:
        """Refuse as pydantic does, echo included: clients must cope with it (fal.md 1.5)."""
        item: Json = {"loc": ["body", name], "msg": message, "type": kind, "input": echoed}
        self._answer(422, {"detail": [item]}, {"X-Fal-Retryable": "false"})

    def _state_of(self, request: Request) -> Json:
        base = f"{self.origin}/{request.app}/requests/{request.request_id}"
        state: Json = {
            "status": request.state,
            "request_id": request.request_id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
            "logs": None,
            "metrics": {},
        }
        if request.state == "IN_QUEUE":
            state["queue_position"] = self.books.position(request)
        if state["status"] == "COMPLETED" and request.error_status is not None:
            state |= {"error": request.error_message, "error_type": request.error_type}
        return state

    def _status(self, request: Request) -> None:
        if self.books.next_fault("status") is not None:
            self._answer(503, {"detail": "Service Unavailable"})
            return
        state = self._state_of(request)
        self._answer(200 if state["status"] == "COMPLETED" else 202, state)

    def _result(self, request: Request) -> None:
        if request.state != "COMPLETED":
            self._answer(400, {"detail": "Request is still in progress"})
        elif self.books.next_fault("result") is not None:
            self._answer(504, {"detail": "Gateway Timeout", "error_type": "request_timeout"})
        elif request.error_status is not None:
            headers = {"X-Fal-Error-Type": str(request.error_type)}
            if request.error_status == 422:
                headers = {"X-Fal-Retryable": "false"}
            self._answer(request.error_status, result_of(request, self.origin), headers)
        else:
            headers = {"x-fal-request-id": request.request_id}
            headers["X-Fal-Billable-Units"] = str(len(request.outputs))
            self._answer(200, result_of(request, self.origin), headers)

    # Storage and files: fal.md 3.4

    def _initiate(self, body: bytes) -> None:
        fields = read_object(body)
        if self.books.next_fault("upload") is not None:
            self._answer(500, {"detail": "Internal Server Error"})
        elif fields is None:
            self._unprocessable("file_name", "Field required", "missing", None)
        else:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(fields.get("file_name"))).lstrip(".")[-100:]
            place = f"{secrets.token_hex(8)}/{name or 'file'}"
            self._answer(
                200,
                {
                    "upload_url": f"{self.origin}/uploads/{place}",
                    "file_url": f"{self.origin}/files/{place}",
                },
            )

    def _receive(self, path: str) -> None:
        found = re.fullmatch(r"/uploads/([0-9a-f]{16})/([\w-][\w.-]*)", path, re.ASCII)
        data = self._body()
        if data is None:
            return
        if found is None:
            self._answer(404, {"detail": "Not Found"})
            return
        folder = self.books.files / found[1]
        folder.mkdir(exist_ok=True)
        write_whole(folder / found[2], data)
        self._answer(200, {})

    def _send_file(self, path: str) -> None:
        file = find_file(self.books.files, path)
        if file is None:
            self._answer(404, {"detail": "Not Found"})
        elif self.books.next_fault("file") is not None:
            self._answer(500, {"detail": "Internal Server Error"})
        else:
            kind = {".png": "image/png", ".webp": "image/webp"}.get(file.suffix, "image/jpeg")
            self._send(200, file.read_bytes(), kind)

    # The platform's lists: fal.md 1.6 and 5

    def _list(self, query: dict[str, list[str]]) -> None:
        endpoint_id = query.get("endpoint_id", [""])[0]
        offset, limit = (
            int(text) if text.isdecimal() else usual
            for text, usual in (
                (query.get("cursor", ["0"])[0], 0),
                (query.get("limit", ["50"])[0], 50),
            )
        )
        try:
            since, until = (
                datetime.fromisoformat(query[name][0]).timestamp() if name in query else usual
                for name, usual in (("start", time.time() - 86_400), ("end", math.inf))
            )
        except ValueError:
            problem = {"type": "validation_error", "message": "start or end is not a date"}
            self._answer(400, {"error": problem})
            return
        items: list[Json] = [
            {
                "request_id": request.request_id,
                "endpoint_id": request.endpoint_id,
                "sent_at": request.received_at,
                "started_at": request.started_at,
                "ended_at": request.ended_at,
                "status_code": request.error_status or (200 if request.ended_at else None),
            }
            | ({"json_input": request.arguments} if query.get("expand") == ["payloads"] else {})
            for request in reversed(self.books.listed())
            if request.endpoint_id == endpoint_id
            and since <= datetime.fromisoformat(request.received_at).timestamp() < until
        ]
        limit = max(1, min(100, limit))
        more = offset + limit < len(items)
        self._answer(
            200,
            {
                "items": items[offset : offset + limit],
                "has_more": more,
                "next_cursor": str(offset + limit) if more else None,
            },
        )

    def _models(self, query: dict[str, list[str]]) -> None:
        models = [
            {"endpoint_id": name, "metadata": {"display_name": name, "status": "active"}}
            for name in query.get("endpoint_id", [])
        ]
        self._answer(200, {"models": models, "next_cursor": None, "has_more": False})

    # Practice only

    def _ledger(self) -> None:
        requests = self.books.listed()
        entries = [
            {
                "request_id": request.request_id,
                "endpoint_id": request.endpoint_id,
                "received_at": request.received_at,
                "input_file": file_name(input_urls(request.arguments)[0]),
                "charged": request.charged,
                "fault": request.fault,
            }
            for request in requests
        ]
        charges = sum(request.charged for request in requests)
        self._answer(200, {"charges": charges, "requests": entries})

    def _add_fault(self, body: bytes) -> None:
        fault = read_object(body) or {}
        count, share = fault.get("count", 1), fault.get("share", 1)
        is_share = isinstance(share, int | float) and 0 < share <= 1
        if fault.get("mode") not in FAULTS or not isinstance(count, int) or count < 1:
            modes = ", ".join(FAULTS)
            self._answer(422, {"detail": f"mode is one of {modes}; count is 1 or more"})
        elif not is_share:
            self._answer(422, {"detail": "share is a number above 0, at most 1"})
        else:
            self.books.add_fault({**fault, "count": count})
            self._answer(200, {"mode": fault["mode"], "count": count})

    # Plumbing

    @property
    def books(self) -> Books:
        return self.server.books

    @property
    def origin(self) -> str:
        return self.server.origin

    def _request_of(self, path: str) -> tuple[Request, str] | None:
        """The request that a path names and what follows it; None after having answered 404."""
        found = re.fullmatch(r"/(.+)/requests/([0-9a-f]+)(/[a-z/]+)?", path)
        request = self.books.find(found[2]) if found else None
        if found is None or request is None or request.app != found[1]:
            self._answer(404, {"status": "NOT_FOUND"})
            return None
        return request, found[3] or ""

    def _body(self) -> bytes | None:
        """All of the body; None when it is too large or cut, and the connection ends."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            self._answer(413, {"detail": "Content-Length missing or too large"})
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _hang_up(self) -> None:
        self.close_connection = True

    def _answer(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self._send(status, data, "application/json", headers)

    def _send(
        self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def read_object(body: bytes) -> Json | None:
    """A JSON object, None for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Server(ThreadingHTTPServer):
    """Threads that can be joined: every open connection is closed when the server ends."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, books: Books, courier: Courier, *, port: int) -> None:
        self.books = books
        self.courier = courier
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)
        self.port = int(self.server_address[1])
        self.origin = f"http://127.0.0.1:{self.port}"

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""

    def server_close(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class PracticeServer:
    """A practice fal on 127.0.0.1; a context manager runs it in threads of this process."""

    def __init__(self, directory: Path, *, port: int = 0, seconds: float = 3.0) -> None:
        """Read the kept state and listen.

        Args:
            directory: where requests and files are kept; made when missing.
            port: on 127.0.0.1; 0 takes a free one.
            seconds: how long a request is in progress.

        Raises:
            Refused: the port is taken.
        """
        self.books = Books(directory, seconds=seconds)
        self.courier = Courier(directory, stopping=self.books.stopping)
        self._couriers = ThreadPoolExecutor(RUNNING, "courier")
        try:
            self._server = _Server(self.books, self.courier, port=port)
        except OSError as error:
            raise Refused(
                f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}. Choose another."
            ) from error
        self.url = self._server.origin
        self._easels = threading.Semaphore(EASELS)
        self._runners = [threading.Thread(target=self._run_requests) for _ in range(RUNNING)]
        self._listener: threading.Thread | None = None

    def run(self) -> None:
        """Serve until `stop` is called from another thread, then end what runs and close."""
        for runner in self._runners:
            runner.start()
        try:
            self._server.serve_forever(poll_interval=0.05)
        finally:
            self.books.stop()
            self._server.server_close()
            for runner in self._runners:
                runner.join()
            self._couriers.shutdown()

    def stop(self) -> None:
        """End `run`; what had not completed is made again after the next start."""
        self.books.stop()
        self._server.shutdown()

    def __enter__(self) -> Self:
        self._listener = threading.Thread(target=self.run)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._listener is not None:
            self._listener.join()

    def _run_requests(self) -> None:
        while (request := self.books.take()) is not None:
            # A full disk takes no runner away; what could not be kept is made again after a start.
            with suppress(OSError):
                self._run_request(request)

    def _run_request(self, request: Request) -> None:
        until = time.monotonic() + request.seconds
        try:
            with self._easels:
                outputs = paint(request, self.books.files)
        except Exception as error:  # noqa: BLE001  Pillow's parsers raise many kinds.
            message = f"Could not load the image: {error}"
            self.books.fail(request, status=422, kind="file_download_error", message=message)
            self._call_back(request)
            return
        if self.books.stopping.wait(max(0.0, until - time.monotonic())):
            return
        if request.fault == "model_error":
            self.books.fail(
                request,
                status=422,
                kind="content_policy_violation",
                message="The content could not be processed: it was flagged by a checker",
            )
        else:
            self.books.complete(request, outputs=outputs)
        self._call_back(request)

    def _call_back(self, request: Request) -> None:
        """Tell whoever asked for it that the request has ended."""
        url = request.webhook_url
        if url is None or request.fault == "webhook_lost":
            return
        body = callback_of(request, self.url)

        def deliver() -> None:
            for _ in range(2 if request.fault == "webhook_twice" else 1):
                self.courier.deliver(url, request_id=request.request_id, body=body)
            self.books.mark_called(request)

        self._couriers.submit(deliver)


def serve(
    directory: Path, *, port: int, seconds: float, ready: Callable[[], None] | None = None
) -> None:
    """Run the practice server in this process until SIGTERM or SIGINT.

    Args:
        directory: where requests and files are kept.
        port: on 127.0.0.1; 0 takes a free one.
        seconds: how long a request is in progress.
        ready: called once the port is open.
    """
    server = PracticeServer(directory, port=port, seconds=seconds)

    def end(signum: int, frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this very thread runs, hence the other thread.
        threading.Thread(target=server.stop).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if ready is not None:
        ready()
    server.run()
