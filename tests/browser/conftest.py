"""A house and pages; without a Chromium the journeys are skipped, which .ci/run does not accept.

With I2I_JOURNEY_URL the pages are another house's, as `docs/deploy/rehearse.sh` has installed one.
"""

import itertools
import os
from types import SimpleNamespace

import house as houses
import pytest
import urllib3
from chromium import CHROMIUM, QUIET
from house import House
from playwright.sync_api import expect

expect.set_options(timeout=houses.PATIENCE * 1000)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest files begin, for the last one may have to run alone (see the Makefile)."""
    items.sort(key=lambda item: "browser" not in item.path.parts)
    if CHROMIUM is None:
        reason = "no Chromium is installed: apt-get install chromium"
        for item in items:
            if "browser" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": QUIET}


PEOPLE = itertools.count(1)
ELSEWHERE = os.environ.get("I2I_JOURNEY_URL")


@pytest.fixture(scope="session")
def house(request, tmp_path_factory):
    """One running i2i for all browser tests; its two users are the journey's alone, see `somebody`."""
    if ELSEWHERE:
        http = urllib3.PoolManager(
            retries=False,
            timeout=houses.PATIENCE,
            ca_certs=os.environ["I2I_JOURNEY_CERTIFICATE"],
        )
        yield SimpleNamespace(url=ELSEWHERE, http=http)
        return
    copies = request.getfixturevalue("copies")
    running = House(database=copies(), folder=tmp_path_factory.mktemp("house")).open()
    running.make_user(houses.EMAIL)
    running.make_user(houses.OTHER)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def still_house(copies, tmp_path_factory):
    """The pages alone: no worker takes what a test writes down. A module's `house`, if it asks."""
    running = House(database=copies(), folder=tmp_path_factory.mktemp("still"))
    running.flask("db", "seed")
    running.start_web()
    houses.wait_until(running.is_ready, what="GET /readyz with 200")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def somebody(house):
    """Makes a user who has nothing yet."""
    return lambda: house.make_user(f"person{next(PEOPLE)}@example.com")


@pytest.fixture
def open_page(house, browser):
    """Opens a page of its own context; what a browser would complain about fails the test."""
    contexts, complaints = [], []

    def open_(**options):
        context = browser.new_context(
            base_url=house.url, ignore_https_errors=bool(ELSEWHERE), **options
        )
        context.set_default_timeout(houses.PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error"
                and not any(each in message.text for each in ("status of", "DISCONNECTED"))
                else None
            ),
        )
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
