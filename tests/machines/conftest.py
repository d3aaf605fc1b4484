"""PostgreSQL with TLS, PgBouncer and a network of this machine's own."""

import os
from pathlib import Path

import pytest
from fleet import PGBOUNCER, FarServer, Network, PgBouncer


def pytest_collection_modifyitems(items):
    for item in items:
        if "machines" in item.path.parts:
            item.add_marker(pytest.mark.machines)


@pytest.fixture(scope="session")
def network():
    made = Network()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def far_server(network):
    """Debian's PostgreSQL: the one that comes with i2i for a first try speaks no TLS."""
    named = os.environ.get("I2I_TEST_PG_BIN")
    found = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("[1-9]*/bin"))
    if not found:
        pytest.skip("no PostgreSQL with TLS is installed: apt-get install postgresql")
    made = FarServer(network.here, bin_dir=found[-1])
    yield made
    made.server.remove()


@pytest.fixture(scope="session")
def pgbouncer(far_server):
    if PGBOUNCER is None:
        pytest.skip("no PgBouncer is installed: apt-get install pgbouncer")
    running = PgBouncer(far_server)
    yield running
    running.stop()
