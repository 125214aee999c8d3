"""Two writers at once: every snapshot that is said to be taken is there, whole, whatever the order of their calls."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from coffer.backends.base import Backend
from coffer.backends.local import LocalBackend
from coffer.repository.repository import Repository
from coffer.sources.filesystem import BackupResult, FilesystemSource, backup
from tests.faults.scenarios import FUTURE_NS, OPTIONS, Scenario, first, second
from tests.harness.backups import write_tree
from tests.harness.faulty_backend import FaultyBackend
from tests.harness.manual_clock import ManualClock
from tests.harness.programs import PROJECT
from tests.harness.snapshots import KEY, SMALL_CHUNKS, disk_tree, saved_tree
from tests.harness.soundness import assert_sound
from tests.harness.turns import run_in_turns

SAME = ("tree", "tree")
OTHER = ("tree", "other")


class Writer:
    """Opens the repository and backs the tree up, as a process of its own would."""

    def __init__(self, scenario: Scenario, source: str, hour: int = 1) -> None:
        self._root = scenario.root
        self._source = source
        self._clock = ManualClock(FUTURE_NS + hour * 3600 * 10**9)

    def __call__(self, backend: Backend) -> BackupResult:
        repo = Repository.open(backend, KEY, clock=self._clock)
        return backup(repo, FilesystemSource(self._source, (self._root,)), options=OPTIONS)


def count_of_calls(scenario: Scenario) -> int:
    """How many calls one writer makes when it is alone."""
    counting = FaultyBackend(scenario.store.clone())
    Writer(scenario, "tree")(counting)
    return counting.call_count


def assert_both_whole(scenario: Scenario, order: Sequence[int], sources: tuple[str, str]) -> None:
    """Run two writers in this order; both must end well, each with a snapshot of its own that is whole."""
    state = scenario.copy()
    writers = [Writer(state, source) for source in sources]
    outcomes = run_in_turns(state.store, order, writers)
    assert all(isinstance(outcome, BackupResult) for outcome in outcomes), (order, outcomes)
    assert 2 == len({outcome.snapshot.name for outcome in outcomes})
    for outcome in outcomes:
        state.note(outcome)
    assert_sound(state.store, state.expected, state.root)
    assert [] == list(state.store.list("leases/"))


def one_preemption(calls: int, step: int) -> Iterable[list[int]]:
    """The first runs to call n, then the second to its end, then the first to its."""
    for at in range(0, calls + 1, step):
        yield [0] * at + [1] * 10_000


def two_preemptions(calls: int, step: int) -> Iterable[list[int]]:
    """The first runs to call n, the second to call m, the first to its end, the second to its."""
    for first_at in range(0, calls + 1, step):
        for second_at in range(1, calls + 1, step):
            yield [0] * first_at + [1] * second_at + [0] * 10_000


def drawn(calls: int, count: int) -> Iterable[list[int]]:
    """Orders drawn evenly, always the same ones."""
    draw = random.Random(20_261_101)
    for _ in range(count):
        yield [draw.randrange(2) for _ in range(2 * calls)]


@pytest.mark.parametrize("sources", [SAME, OTHER], ids=["same source", "two sources"])
@pytest.mark.parametrize("prepare", [first, second], ids=["first backup", "second backup"])
def test_two_writers_in_many_orders_both_commit(tmp_path, prepare, sources):
    """One switch at every call, two switches at every seventh, and orders drawn at random."""
    scenario = prepare(tmp_path / "source")
    calls = count_of_calls(scenario)
    orders = [*one_preemption(calls, 1), *two_preemptions(calls, 7), *drawn(calls, 20), [0, 1] * calls]
    for order in orders:
        assert_both_whole(scenario, order, sources)
    print(f"{len(orders)} orders of two times {calls} calls")


@pytest.mark.slow
@pytest.mark.parametrize("sources", [SAME, OTHER], ids=["same source", "two sources"])
def test_two_writers_in_every_order_with_two_switches_both_commit(tmp_path, sources):
    """Two switches at every pair of calls, and a thousand orders drawn at random."""
    scenario = first(tmp_path / "source")
    calls = count_of_calls(scenario)
    orders = [*two_preemptions(calls, 1), *drawn(calls, 1000)]
    for order in orders:
        assert_both_whole(scenario, order, sources)
    print(f"{len(orders)} orders of two times {calls} calls")


PROGRAM = """
    import sys
    from pathlib import Path
    from coffer.backends.local import LocalBackend
    from coffer.repository.repository import Repository
    from coffer.sources.filesystem import FilesystemSource, backup
    from tests.faults.scenarios import OPTIONS
    from tests.harness.snapshots import KEY

    store, root, source = sys.argv[1:]
    repo = Repository.open(LocalBackend(Path(store)), KEY)
    print("ready", flush=True)
    sys.stdin.readline()
    print(backup(repo, FilesystemSource(source, (Path(root),)), options=OPTIONS).snapshot.name)
"""


def test_processes_back_up_side_by_side(tmp_path):
    """Four real processes on one folder, two of them of the same source, started at one moment."""
    root = tmp_path / "source"
    draw = random.Random(3)
    write_tree(root, {f"d{n % 7}/{n}": draw.randbytes(n * 31 % 3000) for n in range(300)})
    store = LocalBackend(tmp_path / "store", create=True)
    repo = Repository.create(store, KEY, chunking=SMALL_CHUNKS)
    program = "\n".join(line[4:] for line in PROGRAM.splitlines())
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "store"), str(root), source],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for source in ("a", "a", "b", "c")
    ]
    for process in running:
        assert "ready\n" == process.stdout.readline()
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [0] * 4 == [process.returncode for process in running]
    snapshots = repo.snapshots()
    assert names == {snapshot.name for snapshot in snapshots}
    for snapshot in snapshots:
        assert disk_tree(root) == saved_tree(Repository.open(store, KEY), snapshot, root)
    store.close()


def test_one_folder_of_a_repository_named_by_two_paths_is_one(tmp_path):
    """The chain of a source goes on whoever writes: numbers rise, each snapshot names the one before."""
    scenario = first(tmp_path / "source")
    links = []
    for number in range(4):
        result = Writer(scenario, "tree", number)(scenario.store)
        links.append((result.snapshot.sequence, result.snapshot.previous_sequence))
    assert [(1, 0), (2, 1), (3, 2), (4, 3)] == links
    assert 4 == len(assert_sound(scenario.store, {}, Path(scenario.root)))
