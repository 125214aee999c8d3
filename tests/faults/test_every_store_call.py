"""A fault at every call that a backup makes to the store: what was there stays, and the next run is whole.

Every fault is followed by the same questions: can every snapshot be read whole, do the older ones hold what they held,
does the backup succeed when it is tried again, and does it hold the tree byte for byte?
"""

from __future__ import annotations

import pytest

from coffer.backends.retry import RetryBackend
from coffer.errors import BackendFullError, CofferError, TransientError
from coffer.repository import snapshot as snapshots
from coffer.repository.repository import Repository
from coffer.sources.filesystem import BackupResult
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill
from tests.harness.snapshots import disk_tree
from tests.harness.soundness import assert_sound

KILLS = (FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER)
FAILURES = (FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER)


@pytest.fixture(params=sorted(SCENARIOS))
def scenario(request, tmp_path):
    return SCENARIOS[request.param](tmp_path / "source")


def calls_of(scenario: Scenario) -> list[tuple[str, str]]:
    """The calls of a run without faults: (method, name or prefix)."""
    copy = scenario.copy()
    counting = FaultyBackend(copy.store)
    copy.back_up(copy.open(counting))
    return counting.calls


def assert_mended(state: Scenario, outcome: BackupResult | BaseException, retry_with: Repository | None) -> None:
    """Ask the questions of this file's head."""
    now = disk_tree(state.root)
    if isinstance(outcome, BackupResult):
        state.note(outcome)
    before = assert_sound(state.store, state.expected, state.root)
    again = state.back_up(retry_with or state.open())
    state.note(again)
    after = assert_sound(state.store, state.expected, state.root)
    assert now == state.expected[again.snapshot.name]
    assert [s.name for s in after] == [s.name for s in before] + [again.snapshot.name]
    assert [] == list(state.store.list("checkpoints/"))


def run_with(state: Scenario, fault: Fault) -> tuple[Repository | None, BackupResult | BaseException]:
    """Back up with one fault; return the repository, where its process lives on, and how the run ended."""
    with FaultyBackend(state.store, [fault]) as faulty:
        repo = None
        try:
            repo = state.open(faulty)
            return repo, state.back_up(repo)
        except SimulatedKill as kill:
            return None, kill
        except CofferError as error:
            return repo, error


def test_a_kill_at_any_call_loses_no_snapshot_and_no_later_backup(scenario):
    """The process dies before or after the effect of any call; another one goes on."""
    calls = calls_of(scenario)
    for number in range(len(calls)):
        for kind in KILLS:
            state = scenario.copy()
            _, outcome = run_with(state, Fault(kind, call=number))
            assert isinstance(outcome, SimulatedKill)
            assert_mended(state, outcome, None)
    print(f"{2 * len(calls)} kills")


def test_a_failure_at_any_call_is_transient_and_the_same_process_can_go_on(scenario):
    """A call fails, or its reply is lost. The run ends with a transient error, or did without; the retry is whole."""
    calls = calls_of(scenario)
    committed_at = next(n for n, (method, name) in enumerate(calls) if (method, name[:10]) == ("put", snapshots.PREFIX))
    for number in range(len(calls)):
        for kind in FAILURES:
            state = scenario.copy()
            repo, outcome = run_with(state, Fault(kind, call=number))
            assert isinstance(outcome, TransientError | BackupResult)
            assert isinstance(outcome, BackupResult) or number <= committed_at, "it was committed and called a failure"
            assert_mended(state, outcome, repo)
    print(f"{2 * len(calls)} failures")


def test_a_full_store_at_any_put_is_said_and_nothing_is_lost(scenario):
    """No space is left for one object; once there is, the same process goes on."""
    puts = [name for method, name in calls_of(scenario) if method == "put"]
    committed_at = next(n for n, name in enumerate(puts) if name.startswith(snapshots.PREFIX))
    for number in range(len(puts)):
        state = scenario.copy()
        repo, outcome = run_with(state, Fault(FaultKind.FULL, nth=number))
        assert isinstance(outcome, BackendFullError if number <= committed_at else BackupResult)
        assert_mended(state, outcome, repo)
    print(f"{len(puts)} full stores")


def test_an_object_cut_off_at_any_read_is_never_believed(scenario):
    """A read that ends early is an error or is done without; nothing is stored that relies on it."""
    gets = [name for method, name in calls_of(scenario) if method == "get"]
    for number in range(len(gets)):
        state = scenario.copy()
        repo, outcome = run_with(state, Fault(FaultKind.SHORT_READ, nth=number))
        assert isinstance(outcome, CofferError | BackupResult)
        assert_mended(state, outcome, repo)
    print(f"{len(gets)} reads cut off")


def test_one_failure_is_nothing_to_a_store_that_is_asked_again(scenario):
    """With the retrying wrapper, as every run has it, no single failure or lost reply ends a run (invariant I3).

    The commit above all: a put that took effect and is tried again finds its own object, and that is no lost lease.
    """
    calls = calls_of(scenario)
    for number in range(len(calls)):
        for kind in FAILURES:
            state = scenario.copy()
            before = len(state.open().snapshots())
            with FaultyBackend(state.store, [Fault(kind, call=number)]) as faulty:
                repo = state.open(RetryBackend(faulty, clock=state.clock, sleep=lambda seconds: None))
                outcome = state.back_up(repo)
            state.note(outcome)
            assert before + 1 == len(state.open().snapshots())
            assert [] == [i.name for i in state.store.list("leases/") if outcome.snapshot.name[10:] in i.name]
            assert_mended(state, outcome, repo)
    print(f"{2 * len(calls)} failures retried")


@pytest.mark.parametrize("newest", [1, 2, 5, 50])
def test_a_listing_behind_the_times_does_no_harm(scenario, newest):
    """A listing that does not show the last changes of this very run, at any list call."""
    lists = [name for method, name in calls_of(scenario) if method == "list"]
    for number in range(len(lists)):
        state = scenario.copy()
        repo, outcome = run_with(state, Fault(FaultKind.STALE_LIST, nth=number, newest=newest))
        assert isinstance(outcome, TransientError | BackupResult)
        assert_mended(state, outcome, repo)
