"""A history of three snapshots; each test harms a copy."""

import pytest

from tests.harness.repo_builder import History


@pytest.fixture(scope="session")
def history(tmp_path_factory):
    """A repository of three snapshots."""
    return History(tmp_path_factory.mktemp("history"))


@pytest.fixture
def store(history):
    """A copy of its store."""
    return history.copy()
