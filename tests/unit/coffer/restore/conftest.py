"""A bench that backs up, a target, and a way to restore."""

import pytest

from coffer.restore import RestoreOptions, restore
from tests.harness.backups import Workbench


@pytest.fixture
def bench(tmp_path):
    return Workbench(tmp_path / "source")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def give_back(bench, target):
    """Restore the newest snapshot, or the one given, as a process of its own does."""

    def run(snapshot=None, *, to=None, repo=None, progress=None, stop=None, **options):
        repo = repo or bench.reopen()
        options.setdefault("workers", 2)
        found = snapshot or repo.resolve("latest")
        return restore(repo, found, to or target, options=RestoreOptions(**options), progress=progress, stop=stop)

    return run
