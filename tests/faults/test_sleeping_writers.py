"""A writer that sleeps past its lease, and clocks that disagree (invariant I3)."""

from __future__ import annotations

import pytest

from coffer.errors import LeaseLostError
from coffer.repository import lease
from coffer.repository.repository import Repository
from coffer.repository.snapshot import object_name
from coffer.sources.filesystem import BackupResult
from tests.faults.scenarios import SOURCE_NAME, Scenario, first, second
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.manual_clock import ManualClock
from tests.harness.snapshots import KEY, disk_tree
from tests.harness.soundness import assert_sound

HOUR_NS = 3600 * 10**9


def run_that_sleeps(state: Scenario, number: int) -> tuple[BackupResult | LeaseLostError, BackupResult]:
    """Back up; at call `number` sleep past the lease, while another process backs up the same source.

    Returns:
        How the sleeper ended, and what the other one committed.
    """
    others: list[BackupResult] = []

    def sleep(seconds: float) -> None:
        state.clock.advance(lease.LEASE_S + 1)
        others.append(state.back_up(state.open()))

    with FaultyBackend(state.store, [Fault(FaultKind.SLOW, call=number)], sleep=sleep) as slow:
        try:
            outcome: BackupResult | LeaseLostError = state.back_up(state.open(slow))
        except LeaseLostError as error:
            outcome = error
    (other,) = others
    return outcome, other


@pytest.mark.parametrize("prepare", [first, second], ids=["first backup", "second backup"])
def test_a_writer_that_slept_past_its_lease_commits_wholly_or_not_at_all(tmp_path, prepare):
    """It sleeps at any of its calls. Where it was revoked meanwhile it says so and committed nothing; else it is whole.

    The other writer's snapshot is whole in either case, and the source can be backed up again at once.
    """
    scenario = prepare(tmp_path / "source")
    counting = FaultyBackend(scenario.store.clone())
    alone = scenario.copy()
    alone.back_up(alone.open(counting))
    lost = 0
    for number in range(counting.call_count):
        state = scenario.copy()
        outcome, other = run_that_sleeps(state, number)
        state.note(other)
        if isinstance(outcome, BackupResult):
            state.note(outcome)
        else:
            lost += 1
        snapshots = assert_sound(state.store, state.expected, state.root)
        assert set(state.expected) == {snapshot.name for snapshot in snapshots}
        again = state.back_up(state.open())
        state.note(again)
        assert_sound(state.store, state.expected, state.root)
        assert again.snapshot.previous_sequence == max(s.sequence for s in snapshots)
    assert lost >= 5, "the writer must have been revoked at most of its calls between lease and commit"
    print(f"slept at {counting.call_count} calls, revoked at {lost}")


def test_a_revoked_writer_commits_nothing(tmp_path):
    """The mark at the snapshot's name and the snapshot exclude each other; the loser says that it lost."""
    scenario = first(tmp_path / "source")
    tag = scenario.open().keyring.ids.source_tag(SOURCE_NAME)
    keyring = scenario.open().keyring

    def revoke(seconds: float) -> None:
        assert lease.revoke(scenario.store, keyring, tag, 1)

    fault = Fault(FaultKind.SLOW, method="put", prefix="snapshots/")
    with (
        FaultyBackend(scenario.store, [fault], sleep=revoke) as slow,
        pytest.raises(LeaseLostError, match=r"the writer was revoked; nothing was committed"),
    ):
        scenario.back_up(scenario.open(slow))
    assert [] == scenario.open().snapshots()
    assert [object_name(tag, 1)] == [info.name for info in scenario.store.list("snapshots/")]
    assert [] == list(scenario.store.list("leases/"))
    result = scenario.back_up(scenario.open())
    assert 2 == result.snapshot.sequence
    assert 0 == result.stats["raw_bytes_new"], "packs of the revoked writer are found"
    scenario.note(result)
    assert_sound(scenario.store, scenario.expected, scenario.root)


def test_a_writer_that_committed_cannot_be_revoked(tmp_path):
    """Whoever comes with the mark after the commit is told so; the snapshot stays."""
    scenario = first(tmp_path / "source")
    repo = scenario.open()
    result = scenario.back_up(repo)
    tag = repo.keyring.ids.source_tag(SOURCE_NAME)
    assert not lease.revoke(scenario.store, repo.keyring, tag, result.snapshot.sequence)
    scenario.note(result)
    assert_sound(scenario.store, scenario.expected, scenario.root)


@pytest.mark.parametrize("hours", [-30_000, -7, -1, 1, 7, 30_000])
def test_writers_whose_clocks_disagree_do_no_harm(tmp_path, hours):
    """Another machine's clock is ahead or behind: its backup is whole, and so is that of the writer it overtook.

    Only a clock that is ahead by more than the lease revokes a live writer, which then says so.
    """
    scenario = first(tmp_path / "source")
    others: list[BackupResult] = []

    def other_machine(seconds: float) -> None:
        there = Scenario(scenario.root, scenario.store, ManualClock(scenario.clock.now_ns() + hours * HOUR_NS))
        others.append(there.back_up(there.open()))

    fault = Fault(FaultKind.SLOW, method="put", prefix="snapshots/")
    with FaultyBackend(scenario.store, [fault], sleep=other_machine) as slow:
        if hours >= 7:
            with pytest.raises(LeaseLostError):
                scenario.back_up(scenario.open(slow))
        else:
            scenario.note(scenario.back_up(scenario.open(slow)))
    scenario.note(others[0])
    assert_sound(scenario.store, scenario.expected, scenario.root)
    scenario.note(scenario.back_up(scenario.open()))
    assert_sound(scenario.store, scenario.expected, scenario.root)


def test_a_clock_that_goes_back_does_no_harm(tmp_path):
    """Backups of one source while the wall clock jumps back by years: numbers rise, every snapshot is whole."""
    scenario = first(tmp_path / "source")
    for number, years in enumerate([0, -20, -10, -60, 5]):
        scenario.clock.set_wall(scenario.clock.now_ns() + years * 365 * 24 * HOUR_NS)
        (scenario.root / "d0" / "f00").write_bytes(b"%d" % number)
        result = scenario.back_up(scenario.open())
        assert number + 1 == result.snapshot.sequence
        scenario.note(result)
        assert disk_tree(scenario.root) == scenario.expected[result.snapshot.name]
    assert_sound(scenario.store, scenario.expected, scenario.root)
    assert result.snapshot.id == Repository.open(scenario.store, KEY).newest(SOURCE_NAME).id
