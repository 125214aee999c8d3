"""I3: a snapshot exists by one conditional put; a revoked writer commits nothing, and no mark can hide a snapshot."""

import pytest

from coffer.crypto.seal import KIND_OFFSET, KIND_REVOKED, KIND_SNAPSHOT
from coffer.errors import LeaseLostError
from coffer.repository import lease
from coffer.repository.snapshot import encode_revoked, parse_name
from coffer.verification import check
from tests.harness.corrupt import errors_of, hints_of


@pytest.fixture
def repo(history, store):
    """The repository of a copy."""
    return history.open(store, heads=history.heads)


def next_number(history):
    """(source tag, the number after the newest snapshot's)."""
    tag, number = parse_name(history.names("snapshots/")[-1])
    return tag, number + 1


def test_a_writer_that_was_revoked_while_it_slept_commits_nothing(history, store, repo, monkeypatch):
    """The mark stands at the one name where it may commit: the put fails, and no snapshot is added."""
    tag, number = next_number(history)
    real = lease.acquire

    def acquire_and_sleep(backend, keyring, source_tag, clock, **more):
        held = real(backend, keyring, source_tag, clock, **more)
        assert lease.revoke(backend, keyring, held.source_tag, held.sequence)
        return held

    monkeypatch.setattr(lease, "acquire", acquire_and_sleep)
    with pytest.raises(LeaseLostError):
        history.back_up(repo)
    assert [s.id for s in history.snapshots] == [s.id for s in repo.snapshots()]
    report = check(history.open(store, heads=history.heads))
    assert [] == errors_of(report)
    assert len(history.snapshots) == report.counts["snapshots"]
    assert not lease.revoke(store, repo.keyring, tag, number - 1), "a snapshot that is there cannot be revoked"


def test_of_writer_and_mark_exactly_one_wins(history, store, repo):
    """Whoever comes second loses, and says so."""
    tag, number = next_number(history)
    assert lease.revoke(store, repo.keyring, tag, number)
    assert lease.revoke(store, repo.keyring, tag, number), "safe to repeat"
    history.back_up(repo)
    numbers = [parse_name(info.name)[1] for info in store.list("snapshots/")]
    assert [1, 2, 3, number, number + 1] == numbers
    assert [] == errors_of(check(repo))
    assert not lease.revoke(store, repo.keyring, tag, number + 1)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_snapshot_that_is_made_to_look_revoked_is_one_error_of_it(history, store, at):
    """The kind in the clear header is no proof: the mark must open."""
    name = history.names("snapshots/")[at]
    data = bytearray(store.get(name))
    assert KIND_SNAPSHOT == data[KIND_OFFSET]
    data[KIND_OFFSET] = KIND_REVOKED
    store.replace(name, bytes(data))
    assert [name] == [found.object for found in errors_of(check(history.open(store, heads=history.heads)))]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_mark_of_another_name_hides_no_snapshot(history, store, repo, at):
    """A genuine mark, moved: the name that it holds is not the name where it stands."""
    name = history.names("snapshots/")[at]
    tag, number = next_number(history)
    lease.revoke(store, repo.keyring, tag, number)
    store.replace(name, store.get(f"snapshots/{tag}-{number:08d}"))
    assert [name] == [found.object for found in errors_of(check(repo))]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_genuine_mark_in_a_snapshots_place_is_one_error_of_it(history, store, repo, at):
    """Even who holds the keys cannot revoke what was committed: the chain, or the remembered head, tells."""
    name = history.names("snapshots/")[at]
    store.replace(name, encode_revoked(repo.keyring, name))
    (found,) = errors_of(check(repo))
    assert ("chain-broken", name) == (found.code, found.object)


def test_leases_that_were_left_are_hints(history, store, repo):
    """One past its deadline, one whose run has ended, one that still holds; a damaged one is an error."""
    tag, number = next_number(history)
    clock = history.bench.clock
    now_ns = clock.now_ns()
    for run in (number, number + 1):
        lease.renew(store, repo.keyring, lease.Lease(tag, run, 0, 0), clock)
    lease.renew(store, repo.keyring, lease.Lease(tag, number - 1, 0, 0), clock)
    ended, holding, other = (f"leases/{tag}-{run:08d}-0001" for run in (number - 1, number, number + 1))
    assert [("stale-lease", ended)] == hints_of(check(repo))
    try:
        clock.advance(lease.LEASE_S + 1)
        lease.renew(store, repo.keyring, lease.Lease(tag, number + 1, 1, 0), clock)
        assert [("stale-lease", ended), ("stale-lease", holding)] == hints_of(check(repo))
    finally:
        clock.set_wall(now_ns)
    store.flip_bit(other, -1)
    assert [other] == [found.object for found in errors_of(check(repo))]
