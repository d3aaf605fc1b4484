"""fal.ai over HTTP: upload inputs, submit once, ask, fetch results.

Protocol: fal's own pages on the queue, the storage, errors and the platform's request list. Two
properties matter more than anything else here. A submit is one POST on one new connection, never
repeated, and whatever comes back is sorted into accepted, refused, provably not sent, or unclear.
The key travels only to the three configured fal hosts; pictures are fetched without it, from
allowed hosts whose resolved addresses are public.

All times are bounds on the whole exchange, measured on the monotonic clock. Every error is one of
`i2i.errors.Fal*`; `OSError` leaves this module only when the caller's own sink cannot be written.
"""

import binascii
import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import BinaryIO, Literal, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes, urlencode, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from i2i.config import Settings
from i2i.errors import (
    FalAccount,
    FalError,
    FalGone,
    FalNotSent,
    FalRejected,
    FalTemporary,
    FalUnclear,
)
from i2i.gateways.deadlines import Deadlines

OUTPUTS_EXPIRE_SECONDS = 604_800
"""Seven days: how long fal keeps inputs and outputs of ours."""

MAX_OUTPUT_BYTES = 200_000_000
MAX_ANSWER_BYTES = 20_000_000
MAX_LIST_PAGES = 20
FROZEN_SECONDS = 10.0
"""A process that slept longer than this between `sent` and the first byte gives up."""

_CHUNK = 65_536
_REAL_QUEUES = ("https://queue.fal.run", "https://queue.falrun.com")
_LIFECYCLE = json.dumps({"expiration_duration_seconds": OUTPUTS_EXPIRE_SECONDS})
_TRANSPORT_ERRORS = (OSError, HTTPError, http.client.HTTPException)

Resolver = Callable[[str, int], list[str]]
"""Host name and port to IP addresses, best first; OSError when the name is unknown."""


# What fal tells us --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A request that fal has taken, and the three URLs under which it answers for it."""

    request_id: str
    status_url: str
    response_url: str
    cancel_url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Where a request is. `queue_position` counts from 0; a completed one may carry an error."""

    state: Literal["queued", "running", "completed"]
    queue_position: int | None = None
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One picture of a result. `nsfw` means fal has replaced it by a black one."""

    url: str
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    nsfw: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a completed request made. `billable_units` times the unit price is its cost."""

    outputs: list[Output]
    seed: int | None = None
    billable_units: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A request in fal's own list; `payload` is its input as JSON text, None where hidden."""

    request_id: str
    sent_at: datetime
    payload: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An endpoint as fal's platform lists it; the price is None where it names none."""

    status: str | None
    unit_price: Decimal | None
    unit: str | None
    currency: str


class Fal(Protocol):
    """What the worker needs of fal; `HttpFal` is the real one."""

    silent: bool

    def upload(
        self, *, name: str, data: bytes, content_type: str, keep_alive: Callable[[], None]
    ) -> str: ...

    def submit(
        self,
        endpoint: str,
        arguments: dict[str, object],
        *,
        sent_at_boottime: float | None = None,
        webhook_url: str | None = None,
    ) -> Accepted: ...

    def probe(self) -> None: ...

    def status(self, status_url: str) -> Status: ...

    def result(self, response_url: str) -> Result: ...

    def cancel(self, cancel_url: str) -> Literal["asked", "finished", "gone"]: ...

    def requests(
        self, endpoint: str, *, since: datetime, until: datetime | None = None
    ) -> list[Listed]: ...

    def download(
        self, url: str, sink: BinaryIO, *, keep_alive: Callable[[], None]
    ) -> str | None: ...


# Addresses ----------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """An http(s) URL, taken apart once, so that what is checked is what is dialled."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"


def _split(url: str) -> _Place:
    """Take a URL apart; ValueError for anything that two parsers could read in two ways."""
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise ValueError("the URL holds characters that do not belong in one")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not a plain http or https URL")
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}[parts.scheme]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Place(parts.scheme, parts.hostname.lower(), port, target)


def _exact(url: str, hosts: Sequence[str]) -> bool:
    """Whether the URL's origin is listed with scheme and port, which only tests and practice do."""
    try:
        origin = _split(url).origin
        return any(_split(entry).origin == origin for entry in hosts if "://" in entry)
    except ValueError:
        return False


def allowed(url: str, hosts: Sequence[str]) -> bool:
    """Whether pictures may be sent to or fetched from this URL.

    Args:
        url: absolute URL as fal gave it.
        hosts: `FAL_MEDIA_HOSTS`; `name` and `*.name` (the name itself included) stand for https on
            port 443, an entry with scheme stands for exactly that origin.
    """
    if _exact(url, hosts):
        return True
    try:
        place = _split(url)
    except ValueError:
        return False
    if place.scheme != "https" or place.port != 443:
        return False
    for entry in (entry.lower() for entry in hosts if "://" not in entry):
        name = entry.removeprefix("*.")
        if place.host == name or (entry.startswith("*.") and place.host.endswith(f".{name}")):
            return True
    return False


def request_urls(settings: Settings, endpoint: str, request_id: str) -> Accepted:
    """The three URLs of a request by fal's rule: owner and app only, without the sub-path.

    Used where fal's own URLs are missing or point elsewhere, and to adopt a request from the list.
    """
    segments = endpoint.strip("/").split("/")
    kept = segments[: 3 if segments[0] in {"workflows", "comfy"} else 2]
    app = "/".join(quote(segment, safe="") for segment in kept)
    base = f"{settings.fal_queue_url}/{app}/requests/{quote(request_id, safe='')}"
    return Accepted(
        request_id=request_id,
        status_url=f"{base}/status",
        response_url=base,
        cancel_url=f"{base}/cancel",
    )


def boottime() -> float:
    """Seconds since boot, time asleep included: the clock of `submit(sent_at_boottime=)`."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, also when it hides an IPv4 one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(str(inner))
    return ip.is_global and not ip.is_multicast


# Answers and errors -------------------------------------------------------------------------------


class _NoAnswerError(Exception):
    """The exchange broke. `sent` is False only while not one byte of the request had left."""

    def __init__(self, detail: str, *, sent: bool, error_type: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent
        self.error_type = error_type

    def become(self, kind: type[FalError]) -> FalError:
        return kind(self.detail, error_type=self.error_type)


class _Answer(NamedTuple):
    """A whole answer to a small request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def fields(self) -> dict[str, object] | None:
        """The body as a JSON object, None when it is not one."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def _submit_kind(status: int) -> type[FalError]:
    """What a refused submit means: only an answer that excludes acceptance is a clear one."""
    if status in {401, 402, 403}:
        return FalAccount
    if status == 429:
        return FalNotSent
    if 400 <= status < 500 and status not in {408, 409, 499}:
        return FalRejected
    return FalUnclear


def _upload_kind(status: int) -> type[FalError]:
    """What a refused upload means: an upload costs nothing, so all of it may be tried again."""
    return FalAccount if status in {401, 402, 403} else FalNotSent


def _read_kind(status: int) -> type[FalError]:
    """What a refused read means: gone, the account's trouble, or ask again."""
    if status in {401, 402, 403}:
        return FalAccount
    return FalGone if status in {404, 410} else FalTemporary


def _list_kind(status: int) -> type[FalError]:
    """As a read, but a 403 is about this key's rights on the list and not about sending."""
    return FalAccount if status in {401, 402} else FalTemporary


def _result_kind(answer: _Answer) -> type[FalError]:
    """What a refused result means. Its status and body are the model's own (fal: queue/result)."""
    if answer.status == 400 and b"still in progress" in answer.body:
        return FalTemporary
    if not 400 <= answer.status < 500 or answer.status in {408, 409, 425, 429}:
        return FalTemporary
    from_model = isinstance((answer.fields() or {}).get("detail"), list)
    kind = _read_kind(answer.status)
    return FalRejected if from_model or kind is FalTemporary else kind


def _describe(value: object) -> tuple[str, str | None]:
    """Text and error type of an error body; `input`, an echo of what we sent, is left out."""
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        texts = [
            f"{'.'.join(str(step) for step in loc)}: {item.get('msg')}"
            if isinstance(loc := item.get("loc"), list)
            else str(item.get("msg"))
            for item in items
        ]
        types = [kind for item in items if isinstance(kind := item.get("type"), str)]
        return "; ".join(texts), types[0] if types else None
    if isinstance(value, dict):
        kind = value.get("type")
        return str(value.get("message") or ""), kind if isinstance(kind, str) else None
    return str(value), None


def _clean(text: str) -> str:
    """Fit for a log line: no inlined pictures, no line breaks, at most 2,000 characters."""
    text = re.sub(r"data:[\w.+/-]*[;,][^\s\"'<>]*", "data:…", text)
    return re.sub(r"\s+", " ", text).strip()[:2000]


def _error_of(answer: _Answer, kind: type[FalError]) -> FalError:
    """The error that an answer stands for, from any of fal's body families (fal: errors pages)."""
    fields = answer.fields()
    error_type: str | None = None
    if fields is None:
        text = answer.body[:4000].decode("utf-8", "replace")
    else:
        text, error_type = _describe(fields.get("detail", fields.get("error", "")))
        named = fields.get("error_type")
        error_type = named if isinstance(named, str) else error_type
    return kind(
        f"HTTP {answer.status}: {_clean(text)}",
        http_status=answer.status,
        error_type=answer.headers.get("X-Fal-Error-Type") or error_type,
    )


# Reading what fal says ----------------------------------------------------------------------------


def _unsigned(url: str) -> str:
    """A URL for a log line, without the query, which may hold a signature."""
    return _clean(url.partition("?")[0])[:200]


def _moment(value: datetime) -> str:
    """As fal's platform reads it: `2026-11-22T09:00:00Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    """A whole number of 0 or more; fal sends some as floats, and seeds beyond 2^53 as integers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def _status_of(fields: Mapping[str, object]) -> Status:
    """Lenient on purpose: a state that we do not know is still running."""
    state: Literal["queued", "running", "completed"] = "running"
    if fields.get("status") == "IN_QUEUE":
        state = "queued"
    elif fields.get("status") == "COMPLETED":
        state = "completed"
    error = fields.get("error")
    return Status(
        state=state,
        queue_position=_count(fields.get("queue_position")) if state == "queued" else None,
        error=_clean(_describe(error)[0]) if error else None,
        error_type=_text(fields.get("error_type")),
    )


def _result_of(fields: Mapping[str, object], headers: Mapping[str, str]) -> Result:
    """Collect `images[*]` and `image`; every field but the URL may be missing."""
    images = fields.get("images")
    found = list(images) if isinstance(images, list) else []
    if (single := fields.get("image")) is not None:
        found.append(single)
    flags = fields.get("has_nsfw_concepts")
    flags = flags if isinstance(flags, list) else [flags] * len(found)
    outputs: dict[str, Output] = {}
    for index, item in enumerate(found):
        image = item if isinstance(item, dict) else {"url": item}
        if (url := _text(image.get("url"))) is None:
            continue
        outputs.setdefault(
            url,
            Output(
                url=url,
                content_type=_text(image.get("content_type")),
                width=_count(image.get("width")) or None,
                height=_count(image.get("height")) or None,
                nsfw=index < len(flags) and flags[index] is True,
            ),
        )
    return Result(
        outputs=list(outputs.values()),
        seed=_count(fields.get("seed")),
        billable_units=_units(headers.get("X-Fal-Billable-Units")),
    )


def _units(text: str | None) -> Decimal | None:
    try:
        units = Decimal(text or "")
    except InvalidOperation:
        return None
    return units if units.is_finite() and units >= 0 else None


def _items(fields: Mapping[str, object], name: str) -> list[dict[str, object]]:
    """The objects of a list in an answer; what is no object is skipped."""
    found = fields.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _listed_of(item: object) -> Listed:
    """One entry of the list; ValueError when unreadable, for a gap would look like absence."""
    fields = item if isinstance(item, dict) else {}
    request_id, sent_at = _text(fields.get("request_id")), _text(fields.get("sent_at"))
    if request_id is None or sent_at is None:
        raise ValueError("an entry without request_id or sent_at")
    moment = datetime.fromisoformat(sent_at)
    payload = fields.get("json_input")
    if payload is not None and not isinstance(payload, str):
        payload = json.dumps(payload, ensure_ascii=False)
    return Listed(
        request_id=request_id,
        sent_at=moment if moment.tzinfo else moment.replace(tzinfo=UTC),
        payload=payload,
    )


def _write_data_uri(url: str, sink: BinaryIO, *, most: int) -> str | None:
    """Decode an inlined picture (RFC 2397) into `sink`; returns its content type."""
    head, comma, body = url[len("data:") :].partition(",")
    kind, *options = head.split(";")
    if not comma or len(body) > most * 4 // 3 + 4:
        raise FalTemporary("the inlined picture is broken or too large", error_type="data_uri")
    try:
        data = (
            b64decode(unquote_to_bytes(body), validate=True)
            if "base64" in options
            else unquote_to_bytes(body)
        )
    except binascii.Error as error:
        raise FalTemporary("the inlined picture is broken", error_type="data_uri") from error
    if len(data) > most:
        raise FalTemporary("the inlined picture is too large", error_type="too_large")
    sink.write(data)
    return kind or None


# The real one -------------------------------------------------------------------------------------


class HttpFal:
    """fal over HTTP. Holds no connection, so threads may share one.

    `silent` says that the last exchange with fal's own hosts got no answer at all: fal, or the
    network on the way, is down.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        submit_seconds: float = 30.0,
        read_seconds: float = 10.0,
        transfer_seconds: float = 180.0,
        connect_seconds: float = 5.0,
        stall_seconds: float = 15.0,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Set up the bounds.

        Args:
            settings: key, bases and allowed hosts.
            submit_seconds: a submit in all, connecting included.
            read_seconds: a status, result, cancel or list page in all.
            transfer_seconds: an upload or download in all.
            connect_seconds: TCP and TLS, part of the above.
            stall_seconds: longest silence within a transfer, well below a lease.
            max_output_bytes: cap of one downloaded picture.
            resolver: names to addresses.
            tls: certificates to trust; the system's where None.
        """
        self._settings = settings
        self._submit_seconds = submit_seconds
        self._read_seconds = read_seconds
        self._transfer_seconds = transfer_seconds
        self._connect_seconds = connect_seconds
        self._stall_seconds = stall_seconds
        self._max_output_bytes = max_output_bytes
        self._resolve = resolver
        self._tls = tls
        self._deadlines = Deadlines()
        self.silent = False

    def upload(
        self, *, name: str, data: bytes, content_type: str, keep_alive: Callable[[], None]
    ) -> str:
        """Put one input into fal's storage and return the URL under which fal's models read it.

        `keep_alive` is called between chunks (64 kB), so it should be cheap; what it raises passes.

        Raises:
            FalAccount: the key or the balance is refused.
            FalNotSent: anything else; nothing was charged and it may be tried again.
        """
        try:
            upload_url, file_url = self._initiate(name, content_type=content_type)
            if not allowed(upload_url, self._settings.fal_media_hosts):
                raise FalNotSent(
                    f"upload host not in FAL_MEDIA_HOSTS: {_unsigned(upload_url)}",
                    error_type="refused_host",
                )
            self._put(upload_url, data, content_type=content_type, keep_alive=keep_alive)
        except _NoAnswerError as error:
            raise error.become(FalNotSent) from error
        return file_url

    def probe(self) -> None:
        """Ask for an upload that never comes: free, and refused just when a submit would be.

        Raises:
            FalAccount: the key or the balance is still refused.
            FalNotSent: no telling.
        """
        try:
            self._initiate("probe.jpg", content_type="image/jpeg")
        except _NoAnswerError as error:
            raise error.become(FalNotSent) from error

    def jwks(self) -> dict[str, object]:
        """The public keys with which fal signs its callbacks, as a JWKS document.

        Raises:
            FalError: they cannot be had just now.
        """
        try:
            answer = self._request(
                "GET",
                f"{self._settings.fal_rest_url}/.well-known/jwks.json",
                seconds=self._read_seconds,
            )
        except _NoAnswerError as error:
            raise error.become(FalTemporary) from error
        fields = answer.fields()
        if not answer.succeeded or fields is None:
            raise _error_of(answer, FalTemporary)
        return fields

    def _initiate(self, name: str, *, content_type: str) -> tuple[str, str]:
        """Where to put one input, and the URL under which fal's models will read it."""
        answer = self._request(
            "POST",
            f"{self._settings.fal_rest_url}/storage/upload/initiate?storage_type=fal-cdn-v3",
            payload={"file_name": name, "content_type": content_type},
            headers={"X-Fal-Object-Lifecycle": _LIFECYCLE},
            seconds=self._read_seconds,
        )
        if not answer.succeeded:
            raise _error_of(answer, _upload_kind(answer.status))
        fields = answer.fields() or {}
        upload_url, file_url = _text(fields.get("upload_url")), _text(fields.get("file_url"))
        if upload_url is None or file_url is None:
            raise FalNotSent("fal's storage gave no upload URL", error_type="storage")
        return upload_url, file_url

    def submit(
        self,
        endpoint: str,
        arguments: dict[str, object],
        *,
        sent_at_boottime: float | None = None,
        webhook_url: str | None = None,
    ) -> Accepted:
        """Ask fal to run a model: exactly one POST, which may cost money.

        Args:
            endpoint: full endpoint id, sub-path included.
            arguments: the model's input.
            sent_at_boottime: `boottime()` when the row was marked sent; a process that was frozen
                since then does not send.
            webhook_url: where fal shall call back when it has ended.

        Raises:
            FalNotSent: provably not accepted (no connection, 429, frozen).
            FalAccount: 401, 402, 403; provably not accepted either.
            FalRejected: refused for good (other 4xx).
            FalUnclear: no clear answer; it may have been accepted.
        """

        def check_awake() -> None:
            if sent_at_boottime is not None and boottime() - sent_at_boottime > FROZEN_SECONDS:
                raise _NoAnswerError("frozen", sent=False, error_type="frozen")

        url = f"{self._settings.fal_queue_url}/{quote(endpoint.strip('/'), safe='/')}"
        if webhook_url is not None:
            url += f"?{urlencode({'fal_webhook': webhook_url})}"
        try:
            answer = self._request(
                "POST",
                url,
                payload=arguments,
                headers={"X-Fal-Object-Lifecycle-Preference": _LIFECYCLE},
                seconds=self._submit_seconds,
                before_send=check_awake,
            )
        except _NoAnswerError as error:
            raise error.become(FalUnclear if error.sent else FalNotSent) from error
        if not answer.succeeded:
            raise _error_of(answer, _submit_kind(answer.status))
        fields = answer.fields() or {}
        if (request_id := _text(fields.get("request_id"))) is None:
            raise _error_of(answer, FalUnclear)
        return self._accepted(endpoint, request_id, fields)

    def status(self, status_url: str) -> Status:
        """Ask where a request is; FalTemporary, FalGone or FalAccount when fal does not say."""
        answer = self._ask("GET", status_url)
        fields = answer.fields()
        if not answer.succeeded or fields is None:
            kind = FalTemporary if answer.succeeded else _read_kind(answer.status)
            raise _error_of(answer, kind)
        return _status_of(fields)

    def result(self, response_url: str) -> Result:
        """Fetch what a completed request made; as `status`, or FalRejected: the model refused."""
        answer = self._ask("GET", response_url)
        fields = answer.fields()
        if not answer.succeeded or fields is None:
            kind = FalTemporary if answer.succeeded else _result_kind(answer)
            raise _error_of(answer, kind)
        return _result_of(fields, answer.headers)

    def cancel(self, cancel_url: str) -> Literal["asked", "finished", "gone"]:
        """Ask fal to stop. "asked" is no promise: a running request may still complete and cost."""
        answer = self._ask("PUT", cancel_url)
        if answer.succeeded:
            return "finished" if (answer.fields() or {}).get("success") is False else "asked"
        if answer.status == 400 and b"ALREADY_COMPLETED" in answer.body:
            return "finished"
        if answer.status in {404, 410}:
            return "gone"
        raise _error_of(answer, _read_kind(answer.status))

    def requests(
        self, endpoint: str, *, since: datetime, until: datetime | None = None
    ) -> list[Listed]:
        """All requests of this account to an endpoint from `since` to before `until`, or now.

        In fal's order, at most MAX_LIST_PAGES of 100. Never a part of them: FalTemporary when a
        page is missing, unreadable or one too many.
        """
        query = {
            "endpoint_id": endpoint,
            "start": _moment(since),
            **({} if until is None else {"end": _moment(until)}),
            "expand": "payloads",
            "limit": "100",
        }
        listed: list[Listed] = []
        for _ in range(MAX_LIST_PAGES):
            url = f"{self._settings.fal_platform_url}/v1/models/requests/by-endpoint"
            try:
                answer = self._request(
                    "GET", f"{url}?{urlencode(query)}", seconds=self._read_seconds
                )
            except _NoAnswerError as error:
                raise error.become(FalTemporary) from error
            if not answer.succeeded:
                raise _error_of(answer, _list_kind(answer.status))
            fields = answer.fields() or {}
            items = fields.get("items")
            try:
                listed += [
                    _listed_of(item) for item in (items if isinstance(items, list) else [None])
                ]
            except ValueError as error:
                raise FalTemporary(f"the request list: {error}", error_type="list") from error
            cursor = _text(fields.get("next_cursor"))
            if cursor is None or fields.get("has_more") is False:
                return listed
            query["cursor"] = cursor
        raise FalTemporary("the request list has too many pages", error_type="list")

    def download(self, url: str, sink: BinaryIO, *, keep_alive: Callable[[], None]) -> str | None:
        """Fetch one picture into `sink` and return its content type as fal names it.

        What was written before an error is to be thrown away. `keep_alive` as in `upload`.

        Raises:
            FalGone: 404 or 410, it has expired.
            FalTemporary: anything else; `error_type` is refused_host, refused_address, redirect,
                too_large, length or encoding where that is the reason.
        """
        if url.startswith("data:"):
            return _write_data_uri(url, sink, most=self._max_output_bytes)
        hosts = self._settings.fal_media_hosts
        if not allowed(url, hosts):
            raise FalTemporary(
                f"host not in FAL_MEDIA_HOSTS: {_unsigned(url)}", error_type="refused_host"
            )
        try:
            with self._exchange(
                "GET",
                url,
                headers={"Accept": "image/*"},
                seconds=self._transfer_seconds,
                silence=self._stall_seconds,
                public=not _exact(url, hosts),
            ) as (response, deadline):
                self._check_download(response)
                for chunk in _chunks(response, deadline=deadline, most=self._max_output_bytes):
                    sink.write(chunk)
                    keep_alive()
                return response.headers.get("Content-Type")
        except _NoAnswerError as error:
            raise error.become(FalTemporary) from error

    # How it is done -------------------------------------------------------------------------------

    def _accepted(self, endpoint: str, request_id: str, fields: Mapping[str, object]) -> Accepted:
        """Take fal's own URLs where the key may go to them, else those of the rule."""
        urls = request_urls(self._settings, endpoint, request_id)

        def trusted(name: str, fallback: str) -> str:
            url = _text(fields.get(name))
            return url if url is not None and self._is_queue(url) else fallback

        return Accepted(
            request_id=request_id,
            status_url=trusted("status_url", urls.status_url),
            response_url=trusted("response_url", urls.response_url),
            cancel_url=trusted("cancel_url", urls.cancel_url),
        )

    def _is_queue(self, url: str) -> bool:
        return _exact(url, (self._settings.fal_queue_url, *_REAL_QUEUES))

    def _ask(self, method: str, url: str) -> _Answer:
        """One free question about a request to the queue, which alone may see the key."""
        if not self._is_queue(url):
            raise FalTemporary(
                f"not an address of fal's queue: {_unsigned(url)}", error_type="refused_host"
            )
        try:
            return self._request(method, url, seconds=self._read_seconds)
        except _NoAnswerError as error:
            raise error.become(FalTemporary) from error

    def _put(
        self, url: str, data: bytes, *, content_type: str, keep_alive: Callable[[], None]
    ) -> None:
        """Send the bytes to a signed URL, without the key."""
        deadline = time.monotonic() + self._transfer_seconds

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(data), _CHUNK):
                if time.monotonic() > deadline:
                    raise TimeoutError("the upload took too long")
                yield data[start : start + _CHUNK]
                keep_alive()

        with self._exchange(
            "PUT",
            url,
            headers={"Content-Type": content_type, "Content-Length": str(len(data))},
            body=pieces(),
            seconds=self._transfer_seconds,
            silence=self._stall_seconds,
            public=not _exact(url, self._settings.fal_media_hosts),
        ) as (response, _):
            # The URL is signed, so a 403 is about that URL and not about the account.
            if not 200 <= response.status < 300:
                raise FalNotSent(
                    f"HTTP {response.status} from fal's storage", http_status=response.status
                )

    def _check_download(self, response: BaseHTTPResponse) -> None:
        if 300 <= response.status < 400:
            raise FalTemporary("redirected", http_status=response.status, error_type="redirect")
        if response.status != 200:
            kind = FalGone if response.status in {404, 410} else FalTemporary
            raise kind(f"HTTP {response.status}", http_status=response.status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FalTemporary("an encoded picture", error_type="encoding")

    def _request(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        payload: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> _Answer:
        """A small exchange with one of fal's own hosts, with the key."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self._settings.fal_key:
            sent["Authorization"] = f"Key {self._settings.fal_key}"
        body: bytes | None = None
        if payload is not None:
            sent["Content-Type"] = "application/json"
            body = json.dumps(payload).encode()
        try:
            answer = self._whole_answer(
                method, url, headers=sent, body=body, seconds=seconds, before_send=before_send
            )
        except _NoAnswerError as error:
            self.silent = error.error_type != "frozen"  # which is our own sleep
            raise
        self.silent = False
        return answer

    def _whole_answer(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        before_send: Callable[[], None] | None,
    ) -> _Answer:
        with self._exchange(
            method, url, headers=headers, body=body, seconds=seconds, before_send=before_send
        ) as (response, deadline):
            received = bytearray()
            try:
                for chunk in _chunks(response, deadline=deadline, most=MAX_ANSWER_BYTES):
                    received += chunk
            except _NoAnswerError:
                # A refusal is clear from its first line; a success counts only when whole.
                if 200 <= response.status < 300:
                    raise
            return _Answer(response.status, response.headers, bytes(received))

    @contextmanager
    def _exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        seconds: float,
        body: bytes | Iterator[bytes] | None = None,
        silence: float | None = None,
        public: bool = False,
        before_send: Callable[[], None] | None = None,
    ) -> Iterator[tuple[BaseHTTPResponse, float]]:
        """One request on one new connection; gives the answer's head and the deadline."""
        deadline = time.monotonic() + seconds
        place = _split(url)
        connection = self._connect(place, deadline=deadline, public=public)
        with closing(connection), self._deadlines.cutting(connection.sock, deadline):
            if before_send is not None:
                before_send()
            if time.monotonic() > deadline:
                raise _NoAnswerError("connecting took too long", sent=False)
            connection.timeout = seconds if silence is None else min(seconds, silence)
            sent = {"Host": place.authority, "Accept-Encoding": "identity", **headers}
            try:
                # It may have answered before it had read everything; that answer counts.
                with suppress(BrokenPipeError):
                    connection.request(
                        method, place.target, body=body, headers=sent, preload_content=False
                    )
                response = connection.getresponse()
            except _TRANSPORT_ERRORS as error:
                raise _NoAnswerError(
                    _clean(f"{type(error).__name__}: {error}"), sent=True
                ) from error
            with closing(response):
                yield response, deadline

    def _connect(self, place: _Place, *, deadline: float, public: bool) -> HTTPConnection:
        """Connect to one of the addresses that the name has now, and to no other."""
        until = min(deadline, time.monotonic() + self._connect_seconds)
        try:
            addresses = self._resolve(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise _NoAnswerError(f"{place.host} is unknown: {error}", sent=False) from error
        if public and not (addresses and all(_is_public(address) for address in addresses)):
            raise _NoAnswerError(
                f"{place.host} is at a private address", sent=False, error_type="refused_address"
            )
        last = f"{place.host} has no address"
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            remaining = until - time.monotonic()
            if remaining <= 0:
                break
            connection = self._connection(place, address, seconds=remaining / min(left, 2))
            try:
                connection.connect()
            except _TRANSPORT_ERRORS as error:
                connection.close()
                last = _clean(f"{place.host}: {type(error).__name__}: {error}")
            else:
                return connection
        raise _NoAnswerError(last, sent=False, error_type="no_connection")

    def _connection(self, place: _Place, address: str, *, seconds: float) -> HTTPConnection:
        options = list(HTTPConnection.default_socket_options)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Without it the kernel resends to a peer that has vanished for a quarter of an hour.
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000))
        if place.scheme == "http":
            connection = HTTPConnection(
                address, place.port, timeout=seconds, socket_options=options
            )
        else:
            connection = HTTPSConnection(
                address,
                place.port,
                timeout=seconds,
                socket_options=options,
                ssl_context=self._tls or _system_tls(),
                server_hostname=place.host,
            )
        # http.client would otherwise dial again by itself when the socket has gone.
        connection.auto_open = 0
        return connection

    def offer(self, endpoint: str) -> Offer | None:
        """What fal's platform says of an endpoint now (GET /v1/models); None: it knows none.

        FalAccount or FalTemporary when it does not answer.
        """
        models = self._platform("/v1/models", endpoint)
        found = [item for item in _items(models, "models") if item.get("endpoint_id") == endpoint]
        if not found:
            return None
        metadata = found[0].get("metadata")
        prices = _items(self._platform("/v1/models/pricing", endpoint), "prices")
        price = next((item for item in prices if item.get("endpoint_id") == endpoint), {})
        unit_price = price.get("unit_price")
        return Offer(
            status=_text(metadata.get("status")) if isinstance(metadata, dict) else None,
            unit_price=None if unit_price is None else _units(str(unit_price)),
            unit=_text(price.get("unit")),
            currency=_text(price.get("currency")) or "USD",
        )

    def _platform(self, path: str, endpoint: str) -> dict[str, object]:
        """One read of the platform API about an endpoint; empty when it knows nothing of it."""
        url = f"{self._settings.fal_platform_url}{path}?{urlencode({'endpoint_id': endpoint})}"
        try:
            answer = self._request("GET", url, seconds=self._read_seconds)
        except _NoAnswerError as error:
            raise error.become(FalTemporary) from error
        if answer.status in {404, 410}:
            return {}
        if not answer.succeeded:
            raise _error_of(answer, _read_kind(answer.status))
        return answer.fields() or {}


@cache
def _system_tls() -> ssl.SSLContext:
    """The system's certificates, read once and only where https is spoken."""
    return ssl.create_default_context()


def _chunks(response: BaseHTTPResponse, *, deadline: float, most: int) -> Iterator[bytes]:
    """The body as it comes, at most `most` bytes, whole or _NoAnswerError."""
    length = _count(response.headers.get("Content-Length"))
    if length is not None and length > most:
        raise _NoAnswerError(f"{length} bytes announced", sent=True, error_type="too_large")
    received = 0
    while True:
        try:
            chunk = response.read1(_CHUNK, decode_content=False)
        except _TRANSPORT_ERRORS as error:
            raise _NoAnswerError(
                _clean(f"cut after {received} bytes: {error}"), sent=True, error_type="length"
            ) from error
        received += len(chunk)
        if time.monotonic() > deadline:
            raise _NoAnswerError("the time is up", sent=True, error_type="time")
        if received > most:
            raise _NoAnswerError("more bytes than allowed", sent=True, error_type="too_large")
        if not chunk:
            break
        yield chunk
    if length is not None and received != length:
        raise _NoAnswerError(f"{received} of {length} bytes came", sent=True, error_type="length")
