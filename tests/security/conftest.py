"""The stack behind nginx; without an nginx its tests are skipped, which .ci/run does not accept."""

import faulthandler
import time

import hypothesis
import pytest
from stack import NGINX, Stack
from town import Town


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-minutes",
        type=float,
        default=0.0,
        help="how long each parser is tried with random input; 0 is one short round, always the same",
    )
    parser.addoption(
        "--clients",
        type=int,
        default=60,
        help="how many slow clients of each kind there are; 200 are promised",
    )


ON_THE_STACK = {"stack", "town"}
"""Fixtures that need the running whole."""


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items):
    reason = "no nginx is installed: apt-get install nginx-light"
    for item in items:
        if "security" in item.path.parts:
            item.add_marker(pytest.mark.security)
            if NGINX is None and ON_THE_STACK & set(item.fixturenames):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def fuzz(request):
    """Calls a function with hypothesis' inputs, for as long as `--fuzz-minutes` says."""
    minutes = request.config.getoption("--fuzz-minutes", default=0.0)
    settings = hypothesis.settings(
        max_examples=1000 if minutes else 150,
        derandomize=not minutes,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    def run(check, **strategies):
        if minutes:
            faulthandler.cancel_dump_traceback_later()  # it does not hang
        end = time.monotonic() + 60 * minutes
        rounds = 0
        while not rounds or time.monotonic() < end:
            settings(hypothesis.given(**strategies)(check))()
            rounds += 1
        return rounds * settings.max_examples

    return run


@pytest.fixture(scope="session")
def stack(copies, tmp_path_factory):
    """The running whole, for all tests with the marker `security` (tests/stack.py tells what it has)."""
    folder = tmp_path_factory.mktemp("stack")
    running = Stack(
        database=copies(), folder=folder, LOG_FORMAT="json", FAL_KEY="canary-key-of-the-account"
    ).open()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def full_buckets(request):
    """Nobody pays for the tries of the test before: on the stack all come from one address."""
    if ON_THE_STACK & set(request.fixturenames):
        stack = request.getfixturevalue("stack")
        stack.house.query("DELETE FROM rate_limits RETURNING bucket")


@pytest.fixture
def town(stack):
    """Fresh users of the stack, one of whom owns things."""
    made = Town(stack)
    yield made
    made.conn.close()
