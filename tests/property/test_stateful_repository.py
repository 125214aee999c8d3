"""A repository against a plain model: whatever is done to tree, process and store, a snapshot gives back its tree."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coffer.errors import InterruptedRunError, TransientError
from coffer.repository.index import PREFIX as INDEX_PREFIX
from coffer.repository.repository import Repository
from coffer.restore import RestoreOptions, restore
from coffer.sources.filesystem import BackupOptions, BackupResult, FilesystemSource, backup
from coffer.verification.check import check
from coffer.verification.findings import Severity
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.snapshots import KEY, SMALL_CHUNKS, Tree, disk_tree, saved_tree
from tests.harness.soundness import differing

OPTIONS = BackupOptions(workers=1, pack_size_bytes=6000)
FOLDERS = ["", "a", "a/b", "c", "c/d"]
NAMES = ["f", "g", "h", "f!", "ff"]
LENGTHS = st.sampled_from([0, 1, 100, 900, 1024, 1025, 5000, 13_000])


class StopAfter(threading.Event):
    """Is set from the nth question on."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


class RepositoryMachine(RuleBasedStateMachine):
    """Files are written, changed, moved and deleted; runs succeed, are stopped, fail and are killed; index segments go.

    The model is a dict from the name of a snapshot to the tree as it was when it was taken. The store is in memory, the
    files are real.
    """

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="coffer-stateful-"))
        self.root = self.base / "source"
        for folder in FOLDERS:
            (self.root / folder).mkdir(exist_ok=True)
        self.draw = random.Random(seed)
        # Of its own: how many segments there are follows from random keys, and must not change what the tree becomes.
        self.draw_of_store = random.Random(seed)
        self.clock = ManualClock(time.time_ns() + 3_600_000_000_000)
        self.store = TamperableMemoryBackend()
        Repository.create(self.store, KEY, chunking=SMALL_CHUNKS, clock=self.clock)
        self._open()
        self.model: dict[str, Tree] = {}

    def teardown(self) -> None:
        if hasattr(self, "base"):
            shutil.rmtree(self.base)

    # ------------------------------------------------------------------------------------------------------ the tree

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), length=LENGTHS)
    def write(self, folder: str, name: str, length: int) -> None:
        """A new file, or a new content for an old one."""
        (self.root / folder / name).write_bytes(self.draw.randbytes(length))

    @rule(folder=st.sampled_from(FOLDERS), names=st.lists(st.sampled_from(NAMES), min_size=1), length=LENGTHS)
    def write_alike(self, folder: str, names: list[str], length: int) -> None:
        """Several files of one content."""
        data = self.draw.randbytes(length)
        for name in names:
            (self.root / folder / name).write_bytes(data)

    @rule(at=st.floats(0, 1), length=st.sampled_from([0, 1, 700, 3000]), cut=st.booleans())
    @precondition(lambda self: self._files())
    def change(self, at: float, length: int, cut: bool) -> None:
        """Some bytes in the middle are others; the file may end behind them."""
        path = self._pick()
        with path.open("r+b") as file:
            file.seek(int(at * path.stat().st_size))
            file.write(self.draw.randbytes(length))
            if cut:
                file.truncate()

    @rule(mtime_ns=st.integers(0, 2**62))
    @precondition(lambda self: self._files())
    def touch(self, mtime_ns: int) -> None:
        """Another time, the same content."""
        os.utime(self._pick(), ns=(0, mtime_ns))

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES))
    @precondition(lambda self: self._files())
    def move(self, folder: str, name: str) -> None:
        """To another place, over what may be there."""
        self._pick().replace(self.root / folder / name)

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES))
    @precondition(lambda self: self._files())
    def link(self, folder: str, name: str) -> None:
        """A second name for a file."""
        path = self._pick()
        with contextlib.suppress(FileExistsError):
            os.link(path, self.root / folder / name)

    @rule(size=st.sampled_from([4096, 50_000, 200_000]))
    @precondition(lambda self: self._files())
    def punch(self, size: int) -> None:
        """A hole at the end."""
        path = self._pick()
        os.truncate(path, path.stat().st_size + size)

    @rule()
    @precondition(lambda self: self._files())
    def delete(self) -> None:
        """One file goes."""
        self._pick().unlink()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def _pick(self) -> Path:
        return self.draw.choice(self._files())

    # ------------------------------------------------------------------------------------------------- runs and store

    @rule(force_read=st.booleans())
    def back_up(self, force_read: bool) -> None:
        """A run without faults."""
        self._note(self._run(force_read=force_read))

    @rule(questions=st.integers(0, 60))
    def back_up_until_stopped(self, questions: int) -> None:
        """A run that is asked to stop at some moment; it may be done before."""
        with contextlib.suppress(InterruptedRunError):
            self._note(self._run(stop=StopAfter(questions)))

    @rule(call=st.integers(0, 45), kind=st.sampled_from([FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER]))
    def back_up_until_killed(self, call: int, kind: FaultKind) -> None:
        """The process dies at some call to the store; a new one opens the repository."""
        self._back_up_with(Fault(kind, call=call), SimulatedKill, go_on=False)

    @rule(call=st.integers(0, 45), kind=st.sampled_from([FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER]))
    def back_up_with_a_failure(self, call: int, kind: FaultKind) -> None:
        """A call fails or its reply is lost; the process lives on with what it has in memory."""
        self._back_up_with(Fault(kind, call=call), TransientError, go_on=True)

    def _back_up_with(self, fault: Fault, expected: type[BaseException], *, go_on: bool) -> None:
        committed = {info.name for info in self.store.list("snapshots/")}
        tree = disk_tree(self.root)
        fault.call += self.backend.call_count
        self.backend.plan = [fault]
        try:
            result = self._run()
        except expected:
            # The commit may have happened before the fault: then it counts.
            new = {info.name for info in self.store.list("snapshots/")} - committed
            self.model |= dict.fromkeys((name for name in new if self._is_snapshot(name)), tree)
            return
        finally:
            self.backend.plan = []
            if not go_on:
                self._open()
        self._note(result)

    @rule()
    def reopen(self) -> None:
        """Another process."""
        self._open()

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        """Leases of the dead run out."""
        self.clock.advance(hours * 3600)

    @rule(share=st.floats(0, 1))
    def lose_segments(self, share: float) -> None:
        """Index segments are deleted: all that they say is in the packs too (invariant I8)."""
        for info in list(self.store.list(INDEX_PREFIX)):
            if self.draw_of_store.random() <= share:
                self.store.delete(info.name)
        self._open()

    def _open(self) -> None:
        self.backend = FaultyBackend(self.store)
        self.repo = Repository.open(self.backend, KEY, clock=self.clock)

    def _run(self, *, stop: threading.Event | None = None, force_read: bool = False) -> BackupResult:
        self.clock.advance(60)
        options = BackupOptions(workers=1, pack_size_bytes=OPTIONS.pack_size_bytes, force_read=force_read)
        return backup(self.repo, FilesystemSource("s", (self.root,)), options=options, stop=stop)

    def _note(self, result: BackupResult) -> None:
        assert 0 == result.exit_code
        self.model[result.snapshot.name] = disk_tree(self.root)
        self.assert_held(result.snapshot.name, self.repo)

    def _snapshot(self, at: float) -> str:
        """One of the snapshots; which there are follows from more than the steps, so it is no `Bundle`."""
        names = sorted(self.model)
        return names[int(at * (len(names) - 1))]

    def _is_snapshot(self, name: str) -> bool:
        return Repository.open(self.store, KEY).load_snapshot(name) is not None

    # ---------------------------------------------------------------------------------------------------- the promises

    @rule(at=st.floats(0, 1))
    def read_again(self, at: float) -> None:
        """Any snapshot, read by a new process."""
        if self.model:
            self.assert_held(self._snapshot(at), Repository.open(self.store, KEY))

    @rule(at=st.floats(0, 1))
    def restore_whole(self, at: float) -> None:
        """Any snapshot, restored into a new folder: files, attributes and all."""
        if not self.model:
            return
        name = self._snapshot(at)
        target = Path(tempfile.mkdtemp(dir=self.base))
        repo = Repository.open(self.store, KEY)
        result = restore(repo, repo.load_snapshot(name), target, options=RestoreOptions(verify=True, workers=1))
        assert 0 == result.failures_count, result.failures
        assert os.geteuid() != 0 or 0 == result.warnings_count, result.warnings  # others cannot give files away
        self._assert_restored(name, target)
        shutil.rmtree(target)

    def _assert_restored(self, name: str, target: Path) -> None:
        prefix = os.fsencode(target).strip(b"/") + b"/"
        restored = {
            path.removeprefix(prefix): (state.mode, state.mtime_ns, state.content, state.twin.removeprefix(prefix))
            for path, state in disk_tree(target / str(self.root).lstrip("/")).items()
        }
        expected = {
            path: (state.mode, state.mtime_ns, state.content, state.twin) for path, state in self.model[name].items()
        }
        assert expected == restored

    def assert_held(self, name: str, repo: Repository) -> None:
        held = saved_tree(repo, repo.load_snapshot(name), self.root)
        assert self.model[name] == held, differing(self.model[name], held)

    @invariant()
    def every_snapshot_is_listed(self) -> None:
        """What was committed is there; nothing else is."""
        if hasattr(self, "model"):
            assert set(self.model) == {snapshot.name for snapshot in self.repo.snapshots()}

    @rule()
    def everything_is_whole(self) -> None:
        """Every snapshot holds its tree, and check finds nothing but what was taken away."""
        repo = Repository.open(self.store, KEY)
        for name in self.model:
            self.assert_held(name, repo)
        errors = {f.code for f in check(repo).findings if f.severity is Severity.ERROR}
        assert errors <= {"index-incomplete"}


def run(examples: int, steps: int) -> None:
    """Run the machine; a failure shows its steps as they were drawn, for to shrink them takes minutes."""
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
    )
    run_state_machine_as_test(RepositoryMachine, settings=settings)


def test_a_repository_holds_what_the_model_says():
    """Some hundred steps, the same in every run."""
    run(80, 30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_repository_holds_what_the_model_says_for_long():
    """Some ten thousand steps."""
    run(200, 60)
