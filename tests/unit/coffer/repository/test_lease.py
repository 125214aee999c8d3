"""Leases: one number for each writer, renewed in time, revoked when dead, never overwritten."""

import json

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import KIND_LEASE, seal_single
from coffer.errors import (
    BackendUnavailableError,
    LeaseLostError,
    ObjectCorruptError,
    ObjectNotFoundError,
    SizeLimitError,
)
from coffer.repository import lease
from coffer.repository.snapshot import encode_revoked, encode_snapshot, is_revoked
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.keyrings import make_keyring
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.repositories import make_snapshot

KEYRING = make_keyring()
TAG = KEYRING.ids.source_tag("home")
SIX_HOURS_NS = 6 * 3600 * 1_000_000_000


def _acquire(store, clock=None, tag=TAG):
    return lease.acquire(store, KEYRING, tag, clock or ManualClock())


def _names(store, prefix=""):
    return [info.name for info in store.list(prefix)]


def _commit(store, taken):
    store.put(taken.snapshot_name, [encode_snapshot(KEYRING, make_snapshot(KEYRING, "home", taken.sequence))])


def test_the_first_writer_takes_the_first_number():
    """One object, good for six hours, whose name fixes the snapshot's."""
    store, clock = MemoryBackend(), ManualClock()
    taken = _acquire(store, clock)
    assert (1, 1, clock.now_ns() + SIX_HOURS_NS) == (taken.sequence, taken.renewals, taken.deadline_ns)
    assert [f"leases/{TAG}-00000001-0001"] == _names(store)
    assert (_names(store), f"snapshots/{TAG}-00000001") == (taken.object_names, taken.snapshot_name)
    assert taken.deadline_ns == lease.deadline_ns(store, KEYRING, _names(store)[0])


def test_writers_side_by_side_have_different_numbers():
    """Of one source; other sources count for themselves."""
    store = MemoryBackend()
    assert [1, 2, 3] == [_acquire(store).sequence for _ in range(3)]
    assert 1 == _acquire(store, tag=KEYRING.ids.source_tag("other")).sequence


def test_a_number_is_never_taken_twice():
    """Above every snapshot, every mark and every lease that is there."""
    store = MemoryBackend()
    _commit(store, lease.Lease(TAG, 7, 1, 0))
    assert 8 == _acquire(store).sequence
    store.put(f"snapshots/{TAG}-00000012", [encode_revoked(KEYRING, f"snapshots/{TAG}-00000012")])
    assert 13 == _acquire(store).sequence
    assert 13 == lease.newest_number(store, KEYRING, TAG)
    assert 0 == lease.newest_number(store, KEYRING, "00000000")


def test_a_number_that_this_machine_remembers_is_not_taken_again():
    """A store that was rolled back does not show it (I12)."""
    store = MemoryBackend()
    _commit(store, lease.Lease(TAG, 2, 1, 0))
    assert 8 == lease.acquire(store, KEYRING, TAG, ManualClock(), above=7).sequence
    assert 9 == lease.acquire(store, KEYRING, TAG, ManualClock(), above=1).sequence


@pytest.mark.parametrize("name", ["snapshots/{}-00000001.bak", "leases/{}-00000001-0001.bak", "leases/{}-9"])
def test_a_stray_name_stops_no_writer(name):
    """It bears no number, and tidying up leaves it for check to report."""
    store = MemoryBackend()
    _commit(store, lease.Lease(TAG, 1, 1, 0))
    store.put(name.format(TAG), [b"a copy"])
    assert 2 == _acquire(store).sequence
    assert (0, True) == lease.sweep(store, KEYRING, TAG, ManualClock())
    assert name.format(TAG) in _names(store)


def test_a_lease_that_does_not_open_uses_up_no_number():
    """Else one false name would end all backups; where a writer made it, its name is still taken."""
    store = TamperableMemoryBackend()
    store.put(f"leases/{TAG}-99999999-0001", [b"x"])
    harmed = _acquire(store)
    assert 1 == harmed.sequence
    store.flip_bit(harmed.object_names[0], -1)
    assert 2 == _acquire(store).sequence


def test_no_number_has_nine_digits():
    """A snapshot of such a name would never be listed: it is refused before any work, and nothing is put."""
    store = MemoryBackend()
    _commit(store, lease.Lease(TAG, 99_999_999, 1, 0))
    before = _names(store)
    with pytest.raises(ObjectCorruptError, match="no number is left after 99999999"):
        _acquire(store)
    assert before == _names(store)


def test_a_writer_that_loses_the_race_takes_the_next_number(monkeypatch):
    """The listing may be old: the conditional put decides."""
    store = MemoryBackend()
    _acquire(store)
    monkeypatch.setattr(lease, "newest_number", lambda *_: 0)
    assert 2 == _acquire(store).sequence


def test_a_number_that_was_committed_and_released_meanwhile_is_left(monkeypatch):
    """Its lease is gone, but its snapshot stands there: the put of the lease says nothing about that."""
    store = MemoryBackend()
    _commit(store, lease.Lease(TAG, 1, 1, 0))
    monkeypatch.setattr(lease, "newest_number", lambda *_: 0)
    assert 2 == _acquire(store).sequence
    assert [f"leases/{TAG}-00000002-0001"] == _names(store, "leases/")


def test_a_writer_that_always_loses_gives_up(monkeypatch):
    """After a thousand others were quicker something is wrong."""
    monkeypatch.setattr(lease, "_ATTEMPTS", 3)
    store = MemoryBackend()
    for _ in range(3):
        _acquire(store)
    monkeypatch.setattr(lease, "newest_number", lambda *_: 0)
    with pytest.raises(LeaseLostError, match="no lease after 3 attempts"):
        _acquire(store)


def test_renewing_puts_a_further_object():
    """Nothing is overwritten (I1); half of the time is left when it becomes due."""
    store, clock = MemoryBackend(), ManualClock()
    taken = _acquire(store, clock)
    assert not lease.needs_renewal(taken, clock)
    clock.advance(3 * 3600)
    assert not lease.needs_renewal(taken, clock)
    clock.advance(1)
    assert lease.needs_renewal(taken, clock)
    lease.renew(store, KEYRING, taken, clock)
    assert not lease.needs_renewal(taken, clock)
    assert [f"leases/{TAG}-00000001-0001", f"leases/{TAG}-00000001-0002"] == _names(store) == taken.object_names
    assert clock.now_ns() + SIX_HOURS_NS == taken.deadline_ns


def test_releasing_removes_every_object_of_a_lease():
    """And those of no other."""
    store, clock = MemoryBackend(), ManualClock()
    mine, other = _acquire(store, clock), _acquire(store, clock)
    lease.renew(store, KEYRING, mine, clock)
    lease.release(store, mine)
    lease.release(store, mine)
    assert other.object_names == _names(store)


def test_a_store_that_refuses_to_delete_is_left_alone():
    """The snapshot says that the writer has ended."""
    with FaultyBackend(MemoryBackend(), [Fault(FaultKind.FAIL_BEFORE, method="delete")]) as store:
        taken = _acquire(store)
        lease.release(store, taken)
        assert taken.object_names == _names(store)


# ------------------------------------------------------------------------------------------------ revoking


def test_exactly_one_of_writer_and_revoker_wins():
    """Both put at one name: whoever is first (I3)."""
    store = MemoryBackend()
    first, second = _acquire(store), _acquire(store)
    _commit(store, first)
    assert not lease.revoke(store, KEYRING, TAG, first.sequence)
    assert lease.revoke(store, KEYRING, TAG, second.sequence)
    assert lease.revoke(store, KEYRING, TAG, second.sequence)
    name = second.snapshot_name
    assert is_revoked(KEYRING, name, store.get(name))


def test_a_dead_writer_is_revoked_and_tidied_away():
    """Past its deadline, the mark is put first; then its objects go."""
    store, clock = MemoryBackend(), ManualClock()
    dead = _acquire(store, clock)
    lease.renew(store, KEYRING, dead, clock)
    clock.advance(6 * 3600)
    assert (1, True) == lease.sweep(store, KEYRING, TAG, clock)
    assert [dead.snapshot_name] == _names(store)
    assert (0, False) == lease.sweep(store, KEYRING, TAG, clock)


def test_a_writer_that_may_live_is_left():
    """One nanosecond before its deadline, and where its last renewal still holds."""
    store, clock = MemoryBackend(), ManualClock()
    alive = _acquire(store, clock)
    clock.set_wall(alive.deadline_ns - 1)
    assert (0, True) == lease.sweep(store, KEYRING, TAG, clock)
    lease.renew(store, KEYRING, alive, clock)
    clock.advance(3600)
    assert (0, True) == lease.sweep(store, KEYRING, TAG, clock)
    assert alive.object_names == _names(store)


def test_a_lease_of_a_finished_writer_is_removed_whatever_its_deadline():
    """Its snapshot exists: the writer was killed between commit and release."""
    store, clock = MemoryBackend(), ManualClock()
    done = _acquire(store, clock)
    _commit(store, done)
    assert (1, False) == lease.sweep(store, KEYRING, TAG, clock)
    assert [done.snapshot_name] == _names(store)


def test_other_sources_are_not_swept():
    """Each source tidies up after itself."""
    store, clock = MemoryBackend(), ManualClock()
    other = _acquire(store, clock, KEYRING.ids.source_tag("other"))
    clock.advance(7 * 3600)
    assert (0, False) == lease.sweep(store, KEYRING, TAG, clock)
    assert other.object_names == _names(store)


def test_a_lease_that_is_released_meanwhile_is_passed_over():
    """Between the listing and the look at it."""
    store, clock = MemoryBackend(), ManualClock()
    _acquire(store, clock)
    clock.advance(7 * 3600)
    gone = Fault(FaultKind.FAIL_BEFORE, method="stat", prefix="leases/", error=ObjectNotFoundError("gone"))
    with FaultyBackend(store, [gone]) as racing:
        assert (0, True) == lease.sweep(racing, KEYRING, TAG, clock)


def test_a_damaged_lease_is_left_for_check_and_stops_nobody():
    """It cannot be judged; a backup that is committed is not made to fail by it."""
    store, clock = TamperableMemoryBackend(), ManualClock()
    harmed, dead = _acquire(store, clock), _acquire(store, clock)
    clock.advance(7 * 3600)
    store.flip_bit(harmed.object_names[0], -1)
    assert (1, True) == lease.sweep(store, KEYRING, TAG, clock)
    assert [*harmed.object_names, dead.snapshot_name] == _names(store)


def test_a_store_that_does_not_answer_is_said_so():
    """Tidying up hides no transient error: the run is tried again."""
    store, clock = MemoryBackend(), ManualClock()
    _acquire(store, clock)
    silent = Fault(FaultKind.FAIL_BEFORE, method="get")
    with FaultyBackend(store, [silent]) as faulty, pytest.raises(BackendUnavailableError):
        lease.sweep(faulty, KEYRING, TAG, clock)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"\xff",
        b"{}",
        b'{"deadline_ns": "soon"}',
        b'{"deadline_ns": null}',
        b'{"deadline_ns": Infinity}',
        b'{"deadline_ns": NaN}',
        b"[" * 3000,
    ],
)
def test_a_lease_that_no_writer_writes_is_corrupt(body):
    """Sealed with the right key, but without a deadline."""
    store = MemoryBackend()
    store.put("leases/x", [seal_single(KEYRING, KIND_LEASE, body)])
    with pytest.raises(ObjectCorruptError):
        lease.deadline_ns(store, KEYRING, "leases/x")


def test_an_oversized_lease_is_not_read():
    """A lease has some hundred bytes (I7)."""
    store = MemoryBackend()
    store.put("leases/x", [bytes(5000)])
    with pytest.raises(SizeLimitError):
        lease.deadline_ns(store, KEYRING, "leases/x")


def test_a_lease_tells_its_deadline_and_a_random_writer():
    """Two leases of the same instant are different objects, so that a lost reply is told from a lost race."""
    store = MemoryBackend()
    first, second = [json.loads(_opened(store, _acquire(store))) for _ in range(2)]
    assert first["deadline_ns"] == second["deadline_ns"]
    assert first["writer"] != second["writer"]


def _opened(store, taken):
    from coffer.crypto.seal import open_single

    return open_single(KEYRING, KIND_LEASE, store.get(taken.object_names[0]), "x")


@pytest.mark.parametrize(
    "name",
    ["leases/0123abcd-00000001", "leases/0123abcd-00000001-1", "snapshots/0123abcd-00000001", "leases/x"],
)
def test_a_name_that_no_writer_makes_is_corrupt(name):
    """A stray object among the leases is named."""
    with pytest.raises(ObjectCorruptError, match="not the name of a lease"):
        lease.parse_name(name)
    assert ("0123abcd", 1, 2) == lease.parse_name("leases/0123abcd-00000001-0002")
