"""States of a repository in which a backup is about to be taken, each small and with several packs to put."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coffer.backends.base import Backend
from coffer.errors import InterruptedRunError
from coffer.progress import Progress
from coffer.repository import lease
from coffer.repository.repository import Repository
from coffer.sources.filesystem import BackupOptions, BackupResult, FilesystemSource, backup
from tests.harness.backups import write_tree
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.snapshots import KEY, SMALL_CHUNKS, Tree, disk_tree

OPTIONS = BackupOptions(workers=1, pack_size_bytes=8000)
SOURCE_NAME = "tree"
# Ahead of every file, so that none looks as if it changed under the reading: [ns since the Unix epoch] in 2100.
FUTURE_NS = 4_102_444_800 * 10**9


class HastyClock(ManualClock):
    """Every look at it lets ten minutes pass: leases are renewed again and again."""

    def now_ns(self) -> int:
        self.advance(600)
        return super().now_ns()


@dataclass
class Scenario:
    """A tree and a store.

    Attributes:
        root: The folder to back up, as it is now.
        store: Without faults.
        clock: The writer's.
        expected: What older snapshots hold, by object name.
    """

    root: Path
    store: TamperableMemoryBackend = field(default_factory=TamperableMemoryBackend)
    clock: ManualClock = field(default_factory=lambda: ManualClock(FUTURE_NS))
    expected: dict[str, Tree] = field(default_factory=dict)

    def copy(self) -> Scenario:
        """Return the same state with a store of its own."""
        clock = type(self.clock)(self.clock._now_ns)
        return Scenario(self.root, self.store.clone(), clock, dict(self.expected))

    def open(self, backend: Backend | None = None) -> Repository:
        """Open the repository as a new process does."""
        return Repository.open(backend or self.store, KEY, clock=self.clock)

    def back_up(
        self, repo: Repository, *, progress: Progress | None = None, stop: threading.Event | None = None
    ) -> BackupResult:
        """Back the tree up, a minute after the last time."""
        self.clock.advance(60)
        source = FilesystemSource(SOURCE_NAME, (self.root,))
        return backup(repo, source, options=OPTIONS, progress=progress, stop=stop)

    def note(self, result: BackupResult) -> None:
        """Remember what a finished backup must hold."""
        self.expected[result.snapshot.name] = disk_tree(self.root)


def _empty(root: Path) -> Scenario:
    """A new repository and a tree of thirty files."""
    scenario = Scenario(root)
    Repository.create(scenario.store, KEY, chunking=SMALL_CHUNKS, clock=scenario.clock)
    draw = random.Random(7)
    write_tree(root, {f"d{n % 3}/f{n:02}": draw.randbytes(97 * n % 900) for n in range(24)})
    write_tree(root, {f"large/{n}": draw.randbytes(7000 + 900 * n) for n in range(3)})
    os.link(root / "large" / "0", root / "large" / "0 again")
    (root / "link").symlink_to("nowhere")
    return scenario


def first(root: Path) -> Scenario:
    """Nothing was backed up yet."""
    return _empty(root)


def second(root: Path) -> Scenario:
    """One snapshot is there; since then files came, changed, moved and went."""
    scenario = _empty(root)
    scenario.note(scenario.back_up(scenario.open()))
    _change(root, 8)
    return scenario


def _change(root: Path, seed: int) -> None:
    draw = random.Random(seed)
    write_tree(root, {f"new/{n}": draw.randbytes(300 * n) for n in range(8)})
    write_tree(root, {"d1/f01": draw.randbytes(500), "large/1": draw.randbytes(9000)})
    (root / "d0" / "f03").rename(root / "d2" / "moved")
    (root / "d0" / "f06").unlink()


def resumed(root: Path) -> Scenario:
    """A run was stopped in the middle and left a checkpoint."""
    scenario = second(root)
    stop = threading.Event()
    progress = _StopAt(9000, stop)
    try:
        scenario.back_up(scenario.open(), progress=progress, stop=stop)
    except InterruptedRunError:
        return scenario
    raise AssertionError("the run was not stopped")


@dataclass(slots=True)
class _StopAt(Progress):
    """Sets an event once so many bytes were done."""

    at_bytes: int = 0
    event: threading.Event = field(default_factory=threading.Event)

    def __init__(self, at_bytes: int, event: threading.Event) -> None:
        Progress.__init__(self)
        self.at_bytes, self.event = at_bytes, event

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "bytes_done" and isinstance(value, int) and value >= getattr(self, "at_bytes", 1 << 60):
            self.event.set()


def after_a_kill(root: Path) -> Scenario:
    """A run was killed before its first index segment, long ago: orphan packs and an abandoned lease are left."""
    scenario = second(root)
    kill = Fault(FaultKind.KILL_BEFORE, method="put", prefix="index/")
    with FaultyBackend(scenario.store, [kill]) as dying:
        try:
            scenario.back_up(scenario.open(dying))
        except SimulatedKill:
            pass
    scenario.clock.advance(lease.LEASE_S + 1)
    return scenario


def long(root: Path) -> Scenario:
    """Time flies: the lease is renewed several times while the run goes on."""
    scenario = second(root)
    scenario.clock = HastyClock(scenario.clock._now_ns)
    return scenario


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "first": first,
    "second": second,
    "resumed": resumed,
    "after a kill": after_a_kill,
    "long": long,
}
