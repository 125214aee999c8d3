"""An installation whose policy the Airflow side finds, and no connection unless a test gives one."""

import pytest

from coffer_airflow.dag_defaults import policy_of_dags
from tests.harness.databases import PASSWORD, PASSWORD_ENV, name_databases
from tests.harness.installation import install
from tests.harness.postgres import installations, servers_of


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A policy with the source `docs`, found through COFFER_POLICY, and its empty repository."""
    made = install(tmp_path / "installation")
    monkeypatch.setenv("COFFER_POLICY", str(made.policy))
    policy_of_dags.cache_clear()
    yield made
    policy_of_dags.cache_clear()


@pytest.fixture(scope="session")
def servers():
    """Makes servers of the newest version that is here; all are stopped and removed at the end."""
    with servers_of(installations()[-1]) as made:
        yield made


@pytest.fixture
def server(servers):
    """A server of the test's own."""
    made = servers.start()
    yield made
    made.close()


@pytest.fixture
def databases(installation, server, monkeypatch):
    """The installation, whose policy names that server's database `primary`."""
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.setenv("COFFER_PG_BIN", str(server.installation.programs))
    name_databases(installation, {"primary": server})
    return installation
