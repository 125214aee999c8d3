"""Every test of this folder runs over every store of `stores.STORES`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coffer.backends.base import Backend
from tests.contract.stores import STORES, Opener


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Open backends on one and the same, at first empty store; all are closed after the test."""
    opener = STORES[request.param](tmp_path, monkeypatch)
    opened: list[Backend] = []

    def open_and_remember() -> Backend:
        opened.append(opener())
        return opened[-1]

    yield open_and_remember
    for backend in opened:
        backend.close()


@pytest.fixture
def store(open_store: Opener) -> Backend:
    """One backend on an empty store."""
    return open_store()
