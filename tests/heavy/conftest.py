"""A running i2i and a browser for what is too large for every run."""

from types import SimpleNamespace

import house as houses
import pytest
from chromium import CHROMIUM, QUIET
from house import House


def pytest_addoption(parser):
    parser.addoption("--short", action="store_true", help="12 photos and a ZIP of 40 pictures")


@pytest.fixture
def size(pytestconfig):
    """How much it is: `photos` sent at once, `pictures` in a ZIP."""
    if pytestconfig.getoption("--short", default=False):
        return SimpleNamespace(photos=12, pictures=40)
    return SimpleNamespace(photos=50, pictures=300)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": QUIET}


@pytest.fixture
def house(copies, tmp_path):
    running = House(database=copies(), folder=tmp_path / "house").open()
    running.make_user(houses.EMAIL)
    yield running
    running.stop()
