"""A source tree, a repository and a clock, ready to back up again and again."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coffer.backends.base import Backend
from coffer.backends.memory import MemoryBackend
from coffer.chunking.cutter import ChunkParams
from coffer.clock import Clock
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.sources.filesystem import BackupOptions, BackupResult, FilesystemSource, backup
from tests.harness.manual_clock import ManualClock
from tests.harness.snapshots import KEY, SMALL_CHUNKS, Tree, disk_tree, saved_tree
from tests.harness.soundness import differing

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make such files")


class Workbench:
    """Backs up one folder into one repository.

    The clock is an hour ahead of the files: none of them looks as if it had changed while it was read.

    Attributes:
        root: The folder that is backed up; empty at first.
        source: What is backed up.
        clock: The repository's.
        backend: The store.
        repo: The repository, as one process has it open.
    """

    def __init__(self, root: Path, *, backend: Backend | None = None, chunking: ChunkParams = SMALL_CHUNKS) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._above = {os.fsencode(folder): os.lstat(folder) for folder in root.resolve().parents}
        self.source = FilesystemSource("tree", (root,))
        self.clock = ManualClock(time.time_ns() + 3_600_000_000_000)
        self.backend = MemoryBackend() if backend is None else backend
        self.repo = Repository.create(self.backend, KEY, chunking=chunking, clock=self.clock)

    def reopen(self, backend: Backend | None = None, clock: Clock | None = None) -> Repository:
        """Return the repository as another process opens it."""
        return Repository.open(backend or self.backend, KEY, clock=clock or self.clock)

    def back_up(self, *, repo: Repository | None = None, stop: Any = None, **options: Any) -> BackupResult:
        """Back up once, a second after the last time; `options` are those of `BackupOptions`."""
        self.clock.advance(1)
        options.setdefault("workers", 1)  # the order of chunks in packs is then the same every time
        with self._quiet_above():
            return backup(repo or self.repo, self.source, options=BackupOptions(**options), stop=stop)

    @contextmanager
    def _quiet_above(self) -> Iterator[None]:
        """Show the folders above the tree as they were at first: others write into /tmp meanwhile."""
        real = os.lstat

        def lstat(path: Any, **kwargs: Any) -> os.stat_result:
            return self._above.get(path) or real(path, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "lstat", lstat)
            yield

    def change_source(self, **fields: Any) -> None:
        """Back up something else from now on; `fields` are those of `FilesystemSource`."""
        self.source = replace(self.source, **fields)

    def saved(self, of: Snapshot | BackupResult) -> Tree:
        """Return what a snapshot holds of the folder, read as a new process reads it."""
        snapshot = of.snapshot if isinstance(of, BackupResult) else of
        return saved_tree(self.reopen(), snapshot, self.root)

    def on_disk(self) -> Tree:
        """Return what the folder holds now."""
        return disk_tree(self.root)

    def assert_saved(self, result: BackupResult, *, warnings: int = 0) -> None:
        """Assert that a backup saved the folder as it is now."""
        expected, actual = self.on_disk(), self.saved(result)
        assert expected == actual, differing(expected, actual)
        assert warnings == result.snapshot.warnings_count, result.warnings

    def stored_names(self, prefix: str = "") -> list[str]:
        """Return the names of the objects in the store."""
        return [info.name for info in self.backend.list(prefix)]


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, with the folders that they need."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for the time of the context, where we are root."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextmanager
def folder_for_everybody() -> Iterator[Path]:
    """Give a folder that nobody can reach too: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="coffer-test-") as name:
        os.chmod(name, 0o755)
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)
