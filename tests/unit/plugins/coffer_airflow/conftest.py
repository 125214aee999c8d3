"""An installation whose policy the Airflow side finds, and no connection unless a test gives one."""

import pytest

from coffer_airflow.dag_defaults import policy_of_dags
from tests.harness.installation import install


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A policy with the source `docs`, found through COFFER_POLICY, and its empty repository."""
    made = install(tmp_path / "installation")
    monkeypatch.setenv("COFFER_POLICY", str(made.policy))
    policy_of_dags.cache_clear()
    yield made
    policy_of_dags.cache_clear()
