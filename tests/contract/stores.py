"""The stores and wrappers that the contract suite runs over.

To let another store join (S3, GCS), add one function to `STORES`. It gets a folder of its own for the test and pytest's
`monkeypatch`, prepares one *empty* store (a fresh bucket or prefix), and returns an opener: a function that opens a
backend on that same store each time it is called. The suite asks nothing else; it closes what was opened. A store that
needs a service (a local S3 double, say) starts it once per session in a fixture of `conftest.py`.

To let another wrapper join, wrap `_local` or `_memory` the same way. A wrapper must not sleep for real: give it a
`ManualClock`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coffer.backends.base import Backend
from coffer.backends.local import LocalBackend
from coffer.backends.memory import MemoryBackend
from coffer.backends.metering import MeteringBackend
from coffer.backends.retry import RetryBackend
from coffer.backends.throttle import ThrottledBackend, TokenBucket
from tests.harness.faulty_backend import FaultyBackend
from tests.harness.manual_clock import ManualClock

Opener = Callable[[], Backend]


def _memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    store = MemoryBackend()
    return lambda: store


def _local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    return lambda: LocalBackend(folder / "store", create=True)


def _local_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """As on exfat: link(2) answers EPERM, so that names are given by renameat2(2)."""

    def no_link(source: str, target: str, **_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), source, None, target)

    monkeypatch.setattr(os, "link", no_link)
    return _local(folder, monkeypatch)


def _retry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    opener, clock = _local(folder, monkeypatch), ManualClock()
    return lambda: RetryBackend(opener(), clock=clock, sleep=clock.sleep)


def _throttle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    opener, clock = _local(folder, monkeypatch), ManualClock()
    bucket = TokenBucket(1_000_000, clock=clock, sleep=clock.sleep)
    return lambda: ThrottledBackend(opener(), write=bucket, read=bucket)


def _throttle_without_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    opener = _local(folder, monkeypatch)
    return lambda: ThrottledBackend(opener())


def _metering(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    opener = _local(folder, monkeypatch)
    return lambda: MeteringBackend(opener())


def _faulty_without_faults(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    opener = _memory(folder, monkeypatch)
    return lambda: FaultyBackend(opener())


def _stacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """All wrappers, in the order in which the engine nests them."""
    opener, clock = _memory(folder, monkeypatch), ManualClock()
    bucket = TokenBucket(500_000_000, clock=clock, sleep=clock.sleep)

    def open_stack() -> Backend:
        throttled = ThrottledBackend(opener(), write=bucket, read=bucket)
        return MeteringBackend(RetryBackend(throttled, clock=clock, sleep=clock.sleep))

    return open_stack


STORES: dict[str, Callable[[Path, pytest.MonkeyPatch], Opener]] = {
    "memory": _memory,
    "local": _local,
    "local-without-hard-links": _local_without_hard_links,
    "retry": _retry,
    "throttle": _throttle,
    "throttle-without-limits": _throttle_without_limits,
    "metering": _metering,
    "faulty-without-faults": _faulty_without_faults,
    "stacked": _stacked,
}
