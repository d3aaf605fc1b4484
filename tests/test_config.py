"""Settings: a wrong value ends the program in one line that names the variable, never the value."""

import re
import secrets
from pathlib import Path

import pytest

from i2i.config import ROOT, Settings

GIVEN = {"SECRET_KEY": "5c1f0a9e47d2b8336e0f9d1ab4c87e25"}


def read(**environ):
    return Settings.from_env(GIVEN | environ)


def test_defaults_hold_without_anything_but_a_secret():
    settings = read()
    assert settings.data_dir == Path("var").absolute()
    assert settings.blob_url == f"file://{Path('var').absolute()}/blobs"
    assert settings.postgres_url is None
    assert settings.postgres_url_direct is None
    assert settings.fal_media_hosts == ("*.fal.media", "storage.googleapis.com")
    assert settings.decoders >= 1
    assert not settings.practice
    assert not settings.fal_configured


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_URL", "mysql://db/i2i"),
        ("POSTGRES_URL", "host=db dbname=i2i"),
        ("POSTGRES_URL_NON_POOLING", "http://db"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "x" * 40),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
        ("SECRET_KEY", "0123456789abcdefghijklmnopqrstuv"),
        ("SECRET_KEY", "correct-horse" * 3),
        ("SECRET_KEY", "change-me-before-production-1234"),
        ("SECRET_KEY", "My_Super_Secret_Key_No_One_Knows"),
        ("SECRET_KEY", "$(openssl rand -hex 32)"),
        ("SECRET_KEY_FALLBACKS", "5c1f0a9e47d2b8336e0f9d1ab4c87e25,changeme"),
        ("SECRET_KEY_FILE", "/nowhere/at/all"),
        ("FAL_KEY_FILE", "/nowhere/at/all"),
        ("FAL_QUEUE_URL", "queue.fal.run"),
        ("FAL_QUEUE_URL", "http://queue.fal.run"),
        ("FAL_QUEUE_URL", "http://[::1"),
        ("FAL_REST_URL", "https://rest.fal.ai:port"),
        ("FAL_PLATFORM_URL", "ftp://api.fal.ai"),
        ("FAL_MEDIA_HOSTS", "*.fal.media,http://a/b"),
        ("FAL_MEDIA_HOSTS", "http://127.0.0.1:8001"),
        ("BLOB_URL", "/srv/blobs"),
        ("BLOB_URL", "file://relative"),
        ("BLOB_URL", "s3:///prefix"),
        ("X_ACCEL_REDIRECT", "/pictures"),
        ("X_ACCEL_REDIRECT", "yes"),
        ("S3_LINK_SECONDS", "60"),
        ("S3_LINK_SECONDS", "3601"),
        ("PUBLIC_URL", "http://i2i.example.com"),
        ("TRUSTED_PROXIES", "yes"),
        ("MAX_UPLOAD_MB", "0"),
        ("MAX_UPLOAD_MB", "-5"),
        ("MAX_UPLOAD_MB", "2.5"),
        ("MAX_IMAGE_PIXELS", "5____0"),
        ("MAX_IMAGE_PIXELS", "50_000_000_"),
        ("MAX_IMAGE_PIXELS", "9" * 5000),
        ("MAX_IMAGE_PIXELS", "٥٠٠٠٠"),
        ("WORKER_THREADS", "65"),
        ("WORKER_POLL_SECONDS", "inf"),
        ("WORKER_POLL_SECONDS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_ends_the_program_in_one_line(name, value):
    with pytest.raises(SystemExit) as caught:
        read(**{name: value})
    line = caught.value.code
    assert line.startswith(f"i2i: {name} ")
    assert "\n" not in line
    assert len(line) < 200
    if len(value) > 5:
        assert value not in line


def test_values_are_read_in_their_units():
    settings = read(
        MAX_UPLOAD_MB="30",
        STORAGE_QUOTA_MB=" 5_000 ",
        MAX_IMAGE_PIXELS="40_000_000",
        WORKER_POLL_SECONDS="0.5",
        TRUSTED_HOSTS="a.example.com, b.example.com",
        MAX_IN_FLIGHT_PER_USER="",
        LOG_LEVEL="INFO",
    )
    assert settings.max_upload_bytes == 30_000_000
    assert settings.storage_quota_bytes == 5_000_000_000
    assert settings.max_image_pixels == 40_000_000
    assert settings.worker_poll_seconds == 0.5
    assert settings.trusted_hosts == ("a.example.com", "b.example.com")
    assert settings.max_in_flight_per_user is None
    assert settings.log_level == "info"


def test_only_files_are_sent_by_nginx():
    with pytest.raises(SystemExit) as caught:
        read(X_ACCEL_REDIRECT="/blobs/", BLOB_URL="s3://bucket/prefix")
    assert caught.value.code.startswith("i2i: X_ACCEL_REDIRECT needs files")


def test_only_a_bucket_has_links():
    assert read(S3_LINK_SECONDS="60", BLOB_URL="s3://bucket/prefix").s3_link_seconds == 60
    with pytest.raises(SystemExit) as caught:
        read(S3_LINK_SECONDS="60", BLOB_URL="file:///srv/blobs")
    assert caught.value.code.startswith("i2i: S3_LINK_SECONDS needs a bucket")


@pytest.mark.parametrize(
    ("hosts", "holds"),
    [
        ("", True),
        ("other.example, I2I.example.com", True),
        ("i2i.example.com:443", True),
        (".example.com", True),
        ("example.com", False),
        (".i2i.example", False),
        ("other.example", False),
    ],
)
def test_the_host_that_fal_calls_is_trusted(hosts, holds):
    environ = {"PUBLIC_URL": "https://i2i.example.com", "TRUSTED_HOSTS": hosts}
    if holds:
        assert read(**environ).public_url == "https://i2i.example.com"
    else:
        with pytest.raises(SystemExit) as caught:
            read(**environ)
        assert caught.value.code.startswith("i2i: TRUSTED_HOSTS does not name the host")


def test_a_missing_secret_is_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit) as caught:
        Settings.from_env({"DATA_DIR": str(tmp_path)})
    assert caught.value.code.startswith("i2i: SECRET_KEY is not set")


def test_secrets_come_from_files_too(tmp_path):
    (tmp_path / "secret_key").write_text("kept-by-make-run-0123456789\n")
    (tmp_path / "fal").write_text("key:value\n")
    settings = Settings.from_env({"DATA_DIR": str(tmp_path), "FAL_KEY_FILE": f"{tmp_path}/fal"})
    assert settings.secret_key == "kept-by-make-run-0123456789"
    assert settings.fal_key == "key:value"
    assert settings.fal_configured


def test_urls_with_passwords_come_from_files_too(tmp_path):
    pooled, direct = "postgresql://i2i:pw-one@pool/i2i", "postgresql://i2i:pw-two@server/i2i"
    (tmp_path / "pooled").write_text(f"{pooled}\n")
    (tmp_path / "direct").write_text(f"{direct}\n")
    settings = read(
        POSTGRES_URL_FILE=f"{tmp_path}/pooled", POSTGRES_URL_NON_POOLING_FILE=f"{tmp_path}/direct"
    )
    assert (settings.postgres_url, settings.postgres_url_direct) == (pooled, direct)
    assert "pw-" not in repr(settings)
    (tmp_path / "pooled").write_text("mysql://i2i:pw-one@pool/i2i")
    with pytest.raises(SystemExit, match="POSTGRES_URL must be") as caught:
        read(POSTGRES_URL_FILE=f"{tmp_path}/pooled")
    assert "pw-one" not in caught.value.code


def test_former_keys_are_words_or_lines(tmp_path):
    former = ("3f7c2e918d4b06a5e1c9", "only-for-tests-0123456789")
    assert read(SECRET_KEY_FALLBACKS=", ".join(former)).secret_key_fallbacks == former
    (tmp_path / "former").write_text("\n".join(former))
    settings = read(SECRET_KEY_FALLBACKS_FILE=f"{tmp_path}/former")
    assert settings.secret_key_fallbacks == former
    assert former[0] not in repr(settings)


def test_a_random_key_is_never_taken_for_a_weak_one():
    makers = (secrets.token_hex, secrets.token_urlsafe)
    for make in makers:
        for _ in range(500):
            read(SECRET_KEY=make(32))


@pytest.mark.parametrize("name", [".env.example", "README.md", "docs/reference.md"])
def test_no_key_of_a_document_is_accepted(name):
    text = (ROOT / name).read_text()
    for value in re.findall(r"SECRET_KEY[=: ]+(\S+)", text):
        with pytest.raises(SystemExit):
            read(SECRET_KEY=value)


def test_a_file_that_holds_no_text_is_told_in_one_line(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystemExit, match="FAL_KEY_FILE"):
        read(FAL_KEY_FILE=str(tmp_path / "key"))


def test_secrets_are_not_in_the_representation():
    shown = repr(
        read(
            FAL_KEY="fal-secret",
            POSTGRES_URL="postgresql://u:db-secret@h/d",
            METRICS_TOKEN="m-secret",
        )
    )
    assert "secret" not in re.sub(r"secret_key|_secret", "", shown)
    assert GIVEN["SECRET_KEY"] not in shown


def test_a_pooler_switches_prepared_statements_off():
    one = read(POSTGRES_URL="postgresql://server/i2i")
    assert one.postgres_url_direct == "postgresql://server/i2i"
    assert one.prepare_threshold == 5
    two = read(
        POSTGRES_URL="postgresql://pooler/i2i", POSTGRES_URL_NON_POOLING="postgresql://server/i2i"
    )
    assert two.prepare_threshold is None


def test_a_url_of_several_hosts_is_libpqs_business():
    url = "postgresql://u@one:5432,two:5433/i2i?target_session_attrs=read-write"
    assert read(POSTGRES_URL=url).postgres_url == url


def test_a_queue_on_this_machine_is_practice():
    settings = read(FAL_QUEUE_URL="http://127.0.0.1:8001/", FAL_MEDIA_HOSTS="http://127.0.0.1:8001")
    assert settings.fal_queue_url == "http://127.0.0.1:8001"
    assert settings.practice
    assert settings.fal_configured


def test_the_example_lists_every_variable_and_holds():
    text = (ROOT / ".env.example").read_text()
    listed = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    source = (ROOT / "i2i" / "config.py").read_text()
    known = set(re.findall(r'(?:read|secret)\(\s*"([A-Z_]+)"', source)) | {"DATA_DIR"}
    assert known <= set(listed)
    assert set(listed) - known == {"PORT", "PRACTICE_PORT", "PRACTICE_SECONDS"}
    Settings.from_env(listed | GIVEN)
