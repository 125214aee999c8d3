"""From names to snapshots: the newest is told by numbers, and damage hides no other."""

import pytest

from coffer.errors import ObjectCorruptError
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.repositories import commit_snapshot, make_repository

YEAR_S = 365 * 24 * 3600


@pytest.fixture
def clock():
    """A clock that stands at 2026-11-01 00:00 UTC."""
    return ManualClock()


@pytest.fixture
def store(clock):
    """A store that tests may damage."""
    return TamperableMemoryBackend(clock)


@pytest.fixture
def repo(store, clock):
    """An empty repository."""
    return make_repository(store, clock)


def test_a_wrong_clock_does_not_stay_the_newest(repo, clock):
    """Within a source numbers rise, whatever the clock said when a snapshot was taken."""
    clock.set_wall(clock.now_ns() + 4 * YEAR_S * 1_000_000_000)
    commit_snapshot(repo, clock)
    clock.set_wall(clock.now_ns() - 4 * YEAR_S * 1_000_000_000)
    later = commit_snapshot(repo, clock)
    assert later == repo.resolve("latest:home") == repo.resolve("latest") == repo.resolve("latest@2026-12-31")


def test_of_several_sources_the_newest_was_finished_last(repo, clock):
    """Between sources there is only the clock: a high number means nothing."""
    for _ in range(3):
        commit_snapshot(repo, clock, "often")
    rare = commit_snapshot(repo, clock, "rare")
    assert rare == repo.resolve("latest")


@pytest.mark.parametrize("name", ["latest", "latest:home"])
def test_an_older_snapshot_that_is_damaged_is_passed_over_and_told(store, repo, clock, name):
    """A newer one of its source is whole, so it cannot be the one that is meant."""
    harmed, newest = commit_snapshot(repo, clock), commit_snapshot(repo, clock)
    store.flip_bit(harmed.name, -1)
    concerns = []
    assert newest == repo.resolve(name, concerns=concerns) == repo.resolve(name)
    assert [("object-corrupt", harmed.name)] == [(found.code, found.object) for found in concerns]


@pytest.mark.parametrize("name", ["latest", "latest:home"])
def test_a_damaged_newest_is_not_replaced_by_the_one_before_it(store, repo, clock, name):
    """Nobody is given older files unasked; the hint names the one before."""
    before, harmed = commit_snapshot(repo, clock), commit_snapshot(repo, clock)
    store.flip_bit(harmed.name, -1)
    with pytest.raises(ObjectCorruptError, match=f"{harmed.name} is damaged and may be the one") as raised:
        repo.resolve(name)
    assert before.id in raised.value.hint
    store.flip_bit(before.name, -1)
    with pytest.raises(ObjectCorruptError) as raised:
        repo.resolve(name)
    assert "No other one is whole." == raised.value.hint


def test_damage_of_another_source_does_not_concern_one(store, repo, clock):
    """Asked for one source, the others are not read."""
    harmed, newest = commit_snapshot(repo, clock, "other"), commit_snapshot(repo, clock)
    store.flip_bit(harmed.name, -1)
    concerns = []
    assert newest == repo.resolve("latest:home", concerns=concerns)
    assert [] == concerns


def test_what_is_damaged_behind_a_moment_does_not_concern_it(store, repo, clock):
    """One that comes after a snapshot that was finished too late was so too."""
    first = commit_snapshot(repo, clock)
    clock.advance(YEAR_S)
    commit_snapshot(repo, clock)
    harmed = commit_snapshot(repo, clock)
    store.flip_bit(harmed.name, -1)
    assert first == repo.resolve("latest@2026-12-31")
