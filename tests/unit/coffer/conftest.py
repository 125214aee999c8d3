"""A running PostgreSQL server of each version that is here."""

from __future__ import annotations

import pytest

from tests.harness.postgres import installations, servers_of


@pytest.fixture(scope="session", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version; all are stopped and removed at the end."""
    with servers_of(request.param) as made:
        yield made


@pytest.fixture(scope="session", params=[found for found in installations() if found.major >= 17], ids=str)
def summarizing_servers(request):
    """Makes servers of the versions that summarize their WAL: those that a native incremental backup needs."""
    with servers_of(request.param) as made:
        yield made


@pytest.fixture(scope="session")
def server(servers):
    """The server that tests share: they leave no slot, role or table behind that another could trip over."""
    return servers.start()


@pytest.fixture
def slot(server):
    """The name of a slot that does not exist yet; dropped afterwards."""
    name = "coffer_test"
    yield name
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name])
