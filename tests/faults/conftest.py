"""Lets the tests of this folder import what lies beside them, and print what they counted."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def say(request):
    """Keeps a line for the end of the run, where it is printed whether tests passed or failed."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
