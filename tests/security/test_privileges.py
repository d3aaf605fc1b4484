"""Rows 59 and 60: what the programs may do, what they keep to themselves, what they are made of."""

import re
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import features

from i2i.config import ROOT

LOCKED = dict(
    re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
)

LIBRARIES = {"webp": "1.3.2", "libjpeg_turbo": "3.0"}
"""What Pillow's wheel carries. libwebp below 1.3.2 has CVE-2023-4863."""


def requirements():
    for line in (ROOT / "requirements.in").read_text().splitlines():
        if text := line.partition("#")[0].strip():
            yield Requirement(text)


@pytest.mark.parametrize("wanted", list(requirements()), ids=lambda wanted: wanted.name)
def test_row_60_no_version_is_below_its_floor(wanted):
    floors = [each.version for each in wanted.specifier if each.operator == ">="]
    assert len(floors) == 1
    for found in (version(wanted.name), LOCKED[wanted.name.lower()]):
        assert Version(found) >= Version(floors[0])


def test_row_60_the_libraries_in_pillows_wheel_are_above_theirs(capsys):
    found = {name: features.version(name) for name in LIBRARIES}
    with capsys.disabled():
        print(f"\nPillow {version('pillow')} carries {found}")  # noqa: T201
    for name, floor in LIBRARIES.items():
        assert Version(found[name]) >= Version(floor), name
