"""A running i2i and a browser for what is too large for every run."""

import house as houses
import pytest
from chromium import CHROMIUM, QUIET
from house import House


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": QUIET}


@pytest.fixture
def house(copies, tmp_path):
    running = House(database=copies(), folder=tmp_path / "house").open()
    running.make_user(houses.EMAIL)
    yield running
    running.stop()
