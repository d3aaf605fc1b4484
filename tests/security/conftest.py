"""The stack behind nginx; without an nginx its tests are skipped, which .ci/run does not accept."""

import pytest
from stack import NGINX, Stack


def pytest_collection_modifyitems(items):
    if NGINX is None:
        reason = "no nginx is installed: apt-get install nginx-light"
        for item in items:
            if item.get_closest_marker("security"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def stack(copies, tmp_path_factory):
    """The running whole, for all tests with the marker `security` (tests/stack.py tells what it has)."""
    running = Stack(database=copies(), folder=tmp_path_factory.mktemp("stack")).open()
    yield running
    running.stop()
