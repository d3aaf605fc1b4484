"""Settings from the environment: one frozen value, read once, wrong values end the program.

SURFACE of the variables: `docs/reference.md`; `.env.example` lists them all.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where sql/, migrations/ and templates/ lie."""

LEASE_SECONDS = 45
"""How long a worker owns a claimed row before another may take it (docs/job-states.md)."""

FAL_QUEUE_URL = "https://queue.fal.run"

MAKE_A_KEY = "32 random bytes in hex will do: openssl rand -hex 32"

WEAK_WORDS = (
    *("changeme", "replaceme", "password", "secret", "example", "insecure", "placeholder"),
    *("default", "letmein", "qwerty", "asdfgh", "openssl"),
)
"""What keys copied from documents say, spelled without what stands between the letters."""

T = TypeVar("T")


class Problem(ValueError):
    """What is wrong with one value; becomes the one line that ends the program."""


def fail(name: str, message: str) -> NoReturn:
    """End the program with one line that names the variable and never shows its value."""
    raise SystemExit(f"i2i: {name} {message}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the environment decides. Sizes are bytes unless the name says otherwise."""

    data_dir: Path
    postgres_url: str | None = field(repr=False)
    postgres_url_direct: str | None = field(repr=False)
    secret_key: str = field(repr=False)
    secret_key_fallbacks: tuple[str, ...] = field(default=(), repr=False)
    fal_key: str | None = field(default=None, repr=False)
    fal_queue_url: str = FAL_QUEUE_URL
    fal_rest_url: str = "https://rest.fal.ai"
    fal_platform_url: str = "https://api.fal.ai"
    fal_media_hosts: tuple[str, ...] = ("*.fal.media", "storage.googleapis.com")
    blob_url: str
    x_accel_redirect: str | None = None
    s3_link_seconds: int = 0
    public_url: str | None = None
    trusted_proxies: int = 0
    trusted_hosts: tuple[str, ...] = ()
    max_upload_bytes: int = 25_000_000
    max_files_per_upload: int = 50
    max_image_pixels: int = 50_000_000
    storage_quota_bytes: int = 20_000_000_000
    trash_days: int = 7
    max_jobs_per_batch: int = 200
    daily_pictures: int = 500
    daily_pictures_per_user: int = 200
    max_in_flight: int = 10
    max_in_flight_per_user: int | None = None
    worker_threads: int = 8
    worker_poll_seconds: float = 5.0
    decoders: int = 1
    metrics_token: str | None = field(default=None, repr=False)
    log_level: str = "info"
    log_format: str = "text"
    bcrypt_rounds: int = 12

    @property
    def practice(self) -> bool:
        """True when the queue is on this machine, so that nothing costs money."""
        return _is_loopback(self.fal_queue_url)

    @property
    def fal_configured(self) -> bool:
        """True when sending makes sense: there is a key, or another queue stands in for fal's."""
        return self.fal_key is not None or self.fal_queue_url != FAL_QUEUE_URL

    @property
    def prepare_threshold(self) -> int | None:
        """psycopg's: None (no prepared statements) behind a pooler such as PgBouncer."""
        return 5 if self.postgres_url == self.postgres_url_direct else None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read all settings; SystemExit with one line naming the variable that is wrong."""
        data_dir = Path(environ.get("DATA_DIR") or "var").expanduser().absolute()

        def checked(name: str, text: str | None, default: T, parse: Callable[[str], T]) -> T:
            if not text:
                return default
            try:
                return parse(text)
            except Problem as problem:
                fail(name, f"{problem}.")

        def read(name: str, default: T, parse: Callable[[str], T]) -> T:
            return checked(name, environ.get(name, "").strip(), default, parse)

        def secret(name: str) -> str | None:
            if file := environ.get(f"{name}_FILE"):
                try:
                    return Path(file).read_text(encoding="utf-8").strip() or None
                except OSError as error:
                    fail(f"{name}_FILE", f"cannot be read: {error.strerror}.")
                except UnicodeDecodeError:
                    fail(f"{name}_FILE", "does not hold text.")
            return environ.get(name, "").strip() or None

        postgres_url = checked("POSTGRES_URL", secret("POSTGRES_URL"), None, _postgres_url)
        direct = secret("POSTGRES_URL_NON_POOLING")
        queue_url = read("FAL_QUEUE_URL", FAL_QUEUE_URL, _base_url)
        media_hosts = read("FAL_MEDIA_HOSTS", cls.fal_media_hosts, _media_hosts)
        if not _is_loopback(queue_url) and any("://" in entry for entry in media_hosts):
            fail(
                "FAL_MEDIA_HOSTS",
                "names an exact origin, which is for tests, beside a queue elsewhere.",
            )
        blob_url = read("BLOB_URL", f"file://{data_dir}/blobs", store_url)
        x_accel_redirect = read("X_ACCEL_REDIRECT", None, _location)
        if x_accel_redirect and not blob_url.startswith("file:"):
            fail("X_ACCEL_REDIRECT", "needs files: BLOB_URL names another kind of store.")
        s3_link_seconds = read("S3_LINK_SECONDS", 0, _whole(0, 3600))
        if s3_link_seconds and not blob_url.startswith("s3:"):
            fail("S3_LINK_SECONDS", "needs a bucket: BLOB_URL names another kind of store.")
        public_url = read("PUBLIC_URL", None, _public_url)
        if public_url and not public_url.startswith("https:") and not _is_loopback(queue_url):
            fail("PUBLIC_URL", "must be https: fal calls it. Only a practice server takes http.")
        trusted_hosts = read("TRUSTED_HOSTS", cls.trusted_hosts, _words)
        if public_url and trusted_hosts and not _is_among(public_url, trusted_hosts):
            fail(
                "TRUSTED_HOSTS", "does not name the host of PUBLIC_URL: fal's calls would get 400."
            )
        given_key = secret("SECRET_KEY") or _kept_secret(data_dir)
        secret_key = checked("SECRET_KEY", given_key, None, _strong_key)
        if secret_key is None:
            fail("SECRET_KEY", f"is not set. {MAKE_A_KEY}")
        fallbacks = secret("SECRET_KEY_FALLBACKS")
        return cls(
            data_dir=data_dir,
            postgres_url=postgres_url,
            postgres_url_direct=checked(
                "POSTGRES_URL_NON_POOLING", direct, postgres_url, _postgres_url
            ),
            secret_key=secret_key,
            secret_key_fallbacks=checked("SECRET_KEY_FALLBACKS", fallbacks, (), _strong_keys),
            fal_key=secret("FAL_KEY"),
            fal_queue_url=queue_url,
            fal_rest_url=read("FAL_REST_URL", cls.fal_rest_url, _base_url),
            fal_platform_url=read("FAL_PLATFORM_URL", cls.fal_platform_url, _base_url),
            fal_media_hosts=media_hosts,
            blob_url=blob_url,
            x_accel_redirect=x_accel_redirect,
            s3_link_seconds=s3_link_seconds,
            public_url=public_url,
            trusted_proxies=read("TRUSTED_PROXIES", 0, _whole(0, 10)),
            trusted_hosts=trusted_hosts,
            max_upload_bytes=read("MAX_UPLOAD_MB", 25, _whole(1, 1000)) * 1_000_000,
            max_files_per_upload=read("MAX_FILES_PER_UPLOAD", 50, _whole(1, 1000)),
            max_image_pixels=read("MAX_IMAGE_PIXELS", 50_000_000, _whole(10_000, 250_000_000)),
            storage_quota_bytes=read("STORAGE_QUOTA_MB", 20_000, _whole(1)) * 1_000_000,
            trash_days=read("TRASH_DAYS", 7, _whole(0, 3650)),
            max_jobs_per_batch=read("MAX_JOBS_PER_BATCH", 200, _whole(1, 10_000)),
            daily_pictures=read("DAILY_PICTURES", 500, _whole(0)),
            daily_pictures_per_user=read("DAILY_PICTURES_PER_USER", 200, _whole(0)),
            max_in_flight=read("MAX_IN_FLIGHT", 10, _whole(1, 1000)),
            max_in_flight_per_user=read("MAX_IN_FLIGHT_PER_USER", None, _whole(1, 1000)),
            worker_threads=read("WORKER_THREADS", 8, _whole(1, 64)),
            worker_poll_seconds=read("WORKER_POLL_SECONDS", 5.0, _seconds(0.1, 60)),
            decoders=read("DECODERS", max(1, (os.cpu_count() or 2) - 1), _whole(1, 64)),
            metrics_token=secret("METRICS_TOKEN"),
            log_level=read("LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error")),
            log_format=read("LOG_FORMAT", "text", _one_of("text", "json")),
        )


def _is_among(url: str, hosts: Sequence[str]) -> bool:
    """Whether a URL's host is named, itself or under an entry like `.example.com`."""
    host = (urlsplit(url).hostname or "").lower()
    names = {entry.lower().partition(":")[0] for entry in hosts}
    return host in names or any(
        host == name[1:] or host.endswith(name) for name in names if name.startswith(".")
    )


def _is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine."""
    return urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}


def _kept_secret(data_dir: Path) -> str | None:
    """The key that `make run` made once in DATA_DIR, if any."""
    try:
        return (data_dir / "secret_key").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _strong_key(text: str) -> str:
    """A key that nobody guesses: long, without a pattern, from no document."""
    if len(text) < 16:
        raise Problem(f"is shorter than 16 characters. {MAKE_A_KEY}")
    steps = [abs(ord(one) - ord(two)) for one, two in pairwise(text)]
    in_a_row = sum(step <= 1 for step in steps) > 0.75 * len(steps)
    if len(set(text)) < 8 or in_a_row or re.fullmatch(r"(.+?)\1+", text, re.DOTALL):
        raise Problem(f"follows a pattern that can be guessed. {MAKE_A_KEY}")
    letters = re.sub(r"[^a-z]", "", text.lower())
    if any(word in letters for word in WEAK_WORDS):
        raise Problem(f"is an example or a common word, not a random key. {MAKE_A_KEY}")
    return text


def _strong_keys(text: str) -> tuple[str, ...]:
    return tuple(map(_strong_key, _words(text)))


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,18}|\d{1,3}(_\d{3}){1,5}", text, re.ASCII) else -1
        if number < least or (most is not None and number > most):
            bounds = f"from {least} to {most}" if most is not None else f"of {least} or more"
            raise Problem(f"must be a whole number {bounds}")
        return number

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) or not least <= float(text) <= most:
            raise Problem(f"must be a number of seconds from {least:g} to {most:g}")
        return float(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise Problem(f"must be one of {', '.join(choices)}")
        return text.lower()

    return parse


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def _split(text: str) -> SplitResult:
    """urlsplit, with its own complaints (a port of letters, half a bracket) as a Problem."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise Problem("is not a URL") from None
    return parts


def _postgres_url(text: str) -> str | None:
    if text.partition("://")[0] not in {"postgresql", "postgres"}:
        raise Problem("must be a libpq URL, as in postgresql://user:password@host:5432/database")
    return text


def _base_url(text: str) -> str:
    parts = _split(text)
    loopback = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Problem("must be an http or https URL")
    if parts.scheme == "http" and not loopback:
        raise Problem("must be https, or http on this machine: the key travels in a header")
    return text.rstrip("/")


def _public_url(text: str) -> str | None:
    parts = _split(text)
    https = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(text))
    if not https or not parts.hostname or parts.query or parts.fragment:
        raise Problem("must be an https URL that fal can reach, without a query")
    return text.rstrip("/")


def store_url(text: str) -> str:
    """The URL of a store of pictures; Problem when it is none."""
    parts = _split(text)
    if parts.scheme == "file" and parts.path.startswith("/"):
        return text
    if parts.scheme == "s3" and parts.netloc:
        return text
    raise Problem("must be file:///path or s3://bucket/prefix")


def _location(text: str) -> str | None:
    if not re.fullmatch(r"/([A-Za-z0-9._-]+/)+", text):
        raise Problem("must be the path of a location of nginx, as in /blobs/")
    return text


def _media_hosts(text: str) -> tuple[str, ...]:
    entries = _words(text)
    for entry in entries:
        if not re.fullmatch(r"(\*\.)?[a-z0-9.-]+|https?://[^/\s]+", entry, re.IGNORECASE):
            raise Problem("must list host names, *.names or exact origins")
    return entries
