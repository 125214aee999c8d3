"""What the tests of sources share."""

from __future__ import annotations

import pytest

from tests.harness.backups import Workbench


@pytest.fixture
def bench(tmp_path):
    return Workbench(tmp_path / "source")
