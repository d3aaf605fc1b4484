"""flask db studio: what pgAdmin is told. Its installation, 500 MB, is tried by hand."""

import stat

import pytest

from i2i.cli import studio


@pytest.mark.parametrize(
    ("url", "host", "line"),
    [
        (
            "postgresql://i2i:pass%3Aword%5C@db.example.com:5433/pictures?sslmode=require",
            "db.example.com",
            r"db.example.com:5433:*:i2i:pass\:word\\",
        ),
        ("postgresql://i2i@/pictures?host=/run/i2i&port=5432", "/run/i2i", "/run/i2i:5432:*:i2i:"),
    ],
)
def test_the_password_stands_only_in_its_file(tmp_path, url, host, line):
    wanted = studio.connection_of(url, passfile=tmp_path / "pgpass")
    assert (wanted["Host"], wanted["MaintenanceDB"]) == (host, "pictures")
    assert wanted["ConnectionParameters"]["passfile"] == str(tmp_path / "pgpass")
    assert "pass:word" not in str(wanted)
    assert (tmp_path / "pgpass").read_text() == f"{line}\n"
    assert stat.S_IMODE((tmp_path / "pgpass").stat().st_mode) == 0o600


def test_it_only_opens_with_the_key_and_on_loopback():
    assert 'DEFAULT_SERVER = "127.0.0.1"' in studio.SETTINGS
    assert not {name for name in studio.KEPT if "KEY" in name or "URL" in name} - {
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
    }
