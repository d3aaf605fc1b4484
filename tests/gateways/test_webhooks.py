"""Signatures against keys of the test's own; the clock is the test's as well."""

import callbacks
import pytest
from urllib3 import PoolManager

from i2i.errors import FalTemporary
from i2i.gateways.fal import HttpFal
from i2i.gateways.webhooks import FETCH_PAUSE_SECONDS, KEEP_SECONDS, Keys, Signature, read_jwks

REQUEST = "0f3c9e1a-7d67-4bb0-8c62-3c0a3d4d9f11"
BODY = callbacks.body_of(REQUEST)


class Publisher:
    """fal's list of keys, counted; `keys` may change, None means that nobody answers."""

    def __init__(self, *signers):
        self.keys = [signer.jwk for signer in signers]
        self.looks = 0
        self.now = 0.0

    def fetch(self):
        self.looks += 1
        if self.keys is None:
            raise FalTemporary("nobody answers")
        return {"keys": self.keys}

    def clock(self):
        return self.now


@pytest.fixture
def signer():
    return callbacks.Signer()


@pytest.fixture
def publisher(signer):
    return Publisher(signer)


@pytest.fixture
def keys(publisher):
    return Keys(publisher.fetch, clock=publisher.clock)


def signed(signer, body=BODY, **changes):
    usual = {"request_id": REQUEST, "timestamp": 1_800_000_000}
    return Signature.from_headers(signer.headers(body, **usual | changes))


def test_a_signature_of_a_published_key_holds(keys, signer):
    assert keys.verify(signed(signer), BODY)


def test_every_key_is_tried(keys, publisher, signer):
    publisher.keys = [callbacks.Signer().jwk, signer.jwk]
    assert keys.verify(signed(signer), BODY)


def test_a_key_without_padding_is_read():
    assert len(read_jwks({"keys": [callbacks.Signer(padded=False).jwk]})) == 1


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": None},
        {"keys": ["x", None, {}]},
        {"keys": [{"crv": "Ed25519"}]},
        {"keys": [{"crv": "Ed25519", "x": "AAAA"}]},
        {"keys": [{"crv": "Ed25519", "x": "not base64 ***"}]},
        {"keys": [{"crv": "Ed25519", "x": "Ü"}]},
        {"keys": [{"crv": "P-256", "x": callbacks.Signer().jwk["x"]}]},
    ],
)
def test_what_is_no_key_is_left_out(document):
    assert read_jwks(document) == []


def test_another_key_does_not_hold(keys):
    assert not keys.verify(signed(callbacks.Signer()), BODY)


@pytest.mark.parametrize("index", [0, len(BODY) // 2, len(BODY) - 1])
def test_one_altered_byte_does_not_hold(keys, signer, index):
    altered = bytearray(BODY)
    altered[index] ^= 1
    assert not keys.verify(signed(signer), bytes(altered))


@pytest.mark.parametrize(
    ("name", "value"),
    [("Request-Id", "another"), ("User-Id", "user-2"), ("Timestamp", "1800000001")],
)
def test_every_header_is_signed(keys, signer, name, value):
    headers = signer.headers(BODY, request_id=REQUEST, timestamp=1_800_000_000)
    changed = Signature.from_headers(headers | {f"X-Fal-Webhook-{name}": value})
    assert not keys.verify(changed, BODY)


@pytest.mark.parametrize("name", callbacks.HEADERS)
@pytest.mark.parametrize("value", [None, "", "a\nb", "x" * 300, "ü", "1 2"])
def test_headers_that_are_missing_or_strange_are_no_signature(signer, name, value):
    headers = signer.headers(BODY, request_id=REQUEST, timestamp=1_800_000_000)
    headers[f"X-Fal-Webhook-{name}"] = value
    if value is None:
        del headers[f"X-Fal-Webhook-{name}"]
    assert Signature.from_headers(headers) is None


def test_keys_are_fetched_once_and_kept(keys, publisher, signer):
    for _ in range(3):
        keys.verify(signed(signer), BODY)
    publisher.keys, publisher.now = None, KEEP_SECONDS - 1
    assert keys.verify(signed(signer), BODY)
    assert publisher.looks == 1


def test_keys_older_than_a_day_count_no_more(keys, publisher, signer):
    keys.verify(signed(signer), BODY)
    publisher.keys, publisher.now = None, KEEP_SECONDS
    with pytest.raises(FalTemporary):
        keys.verify(signed(signer), BODY)


def test_a_new_key_of_fals_is_found(keys, publisher, signer):
    keys.verify(signed(signer), BODY)
    new = callbacks.Signer()
    publisher.keys, publisher.now = [new.jwk], FETCH_PAUSE_SECONDS
    assert keys.verify(signed(new), BODY)


def test_strangers_cannot_make_us_look_more_than_once_a_minute(keys, publisher):
    for _ in range(100):
        assert not keys.verify(signed(callbacks.Signer()), BODY)
    assert publisher.looks == 1
    publisher.now = FETCH_PAUSE_SECONDS
    for _ in range(100):
        assert not keys.verify(signed(callbacks.Signer()), BODY)
    assert publisher.looks == 2


def test_without_keys_nothing_is_said_about_a_signature(keys, publisher, signer):
    kept, publisher.keys = publisher.keys, None
    for _ in range(2):
        with pytest.raises(FalTemporary):
            keys.verify(signed(signer), BODY)
    assert publisher.looks == 1
    publisher.keys, publisher.now = kept, FETCH_PAUSE_SECONDS
    assert keys.verify(signed(signer), BODY)


def test_a_list_without_keys_replaces_none(keys, publisher, signer):
    keys.verify(signed(signer), BODY)
    publisher.keys, publisher.now = [], FETCH_PAUSE_SECONDS
    assert not keys.verify(signed(callbacks.Signer()), BODY)
    assert keys.verify(signed(signer), BODY)


def test_the_practice_servers_signature_holds(practice, make_settings, fal_environ):
    fal = HttpFal(make_settings(**fal_environ))
    headers = practice.courier.sign(request_id=REQUEST, body=BODY, timestamp=1_800_000_000)
    assert Keys(fal.jwks).verify(Signature.from_headers(headers), BODY)
    with PoolManager() as http:
        x = http.request("GET", f"{practice.url}/.well-known/jwks.json").json()["keys"][0]["x"]
    assert x.endswith("=")


def test_no_keys_are_had_of_a_closed_port(make_settings, fal_environ):
    settings = make_settings(**fal_environ | {"FAL_REST_URL": "http://127.0.0.1:9"})
    with pytest.raises(FalTemporary):
        HttpFal(settings).jwks()
