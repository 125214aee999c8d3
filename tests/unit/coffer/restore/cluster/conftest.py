"""A cluster in a repository, made by hand, and a running server of each version that is here."""

from __future__ import annotations

import pytest

from tests.harness.clusters import SmallCluster
from tests.harness.postgres import installations, servers_of


@pytest.fixture
def small():
    """A small cluster that nobody else changes."""
    return SmallCluster()


@pytest.fixture
def target(tmp_path):
    """Where to restore to; it does not exist yet."""
    return tmp_path / "restored" / "data"


@pytest.fixture(scope="session", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version; all are stopped and removed at the end."""
    with servers_of(request.param) as made:
        yield made
