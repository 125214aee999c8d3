"""An installation whose policy the DAGs read, and the DAGs parsed by it."""

import pytest

from coffer_airflow.dag_defaults import policy_of_dags
from tests.harness.airflow_runs import make_database, parse_dags
from tests.harness.installation import install


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A policy with two sources, found through COFFER_POLICY, and its empty repository."""
    made = install(tmp_path / "installation", ("docs", "site"))
    monkeypatch.setenv("COFFER_POLICY", str(made.policy))
    policy_of_dags.cache_clear()
    yield made
    policy_of_dags.cache_clear()


@pytest.fixture
def dagbag(installation):
    """The project's DAGs, parsed by the installation's policy."""
    return parse_dags()


@pytest.fixture
def filesystem_backup(dagbag):
    """The DAG, ready to be run in this process."""
    make_database()
    return dagbag.dags["filesystem_backup"]
