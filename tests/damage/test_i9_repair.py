"""I9: a repair writes new objects and touches no old one; killed at any point, it leaves nothing worse.

What repairs is the next backup: it stores anew what is missing of the files that it still finds, takes orphan packs
into a new segment, and passes a damaged snapshot over.
"""

import pytest

from coffer.crypto.seal import HEADER_BYTES
from coffer.repository.pack import TYPE_DATA, TYPE_ROOT
from coffer.restore import restore
from coffer.verification import check, verify
from tests.harness.corrupt import errors_of, hints_of, unreadable_files
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill


def lose_pack(history, store):
    """A pack that holds content which the tree still has."""
    store.delete(_pack_of_the_present_tree(history))


def lose_manifest(history, store):
    """The manifest of the newest snapshot."""
    _, where = _root_of(history, history.snapshots[-1])
    store.delete(where)


def lose_segment(history, store):
    """An index segment."""
    store.delete(history.names("index/")[0])


def flip_segment(history, store):
    """A bit in an index segment."""
    store.flip_bit(history.names("index/")[0], 100)


def flip_snapshot(history, store):
    """A bit in the newest snapshot."""
    store.flip_bit(history.names("snapshots/")[-1], 100)


HARMS = [lose_pack, lose_manifest, lose_segment, flip_segment, flip_snapshot]


def _root_of(history, snapshot):
    where = history.bench.reopen().index().find(snapshot.manifest_root)
    return where, f"packs/{where.pack_id.hex()[:2]}/{where.pack_id.hex()}"


def _pack_of_the_present_tree(history):
    """A data pack of the first snapshot, of which the tree still has everything: none of the files that changed."""
    for name in history.packs(TYPE_DATA):
        copy = history.copy()
        copy.delete(name)
        first, *_, last = (unreadable_files(history.open(copy), snapshot) for snapshot in history.snapshots)
        if first and first == last:
            return name
    raise AssertionError("no such pack")


@pytest.mark.parametrize("harm", HARMS)
def test_a_backup_after_damage_touches_no_old_object_and_is_whole(history, store, harm):
    """The damaged objects too stay as they are, for whoever wants to look; the new snapshot is restorable."""
    harm(history, store)
    before = store.contents()
    repo = history.open(store)
    history.back_up(repo)
    after = store.contents()
    assert before == {name: after[name] for name in before}
    newest = history.open(store).newest(history.bench.source.name)
    assert newest.id not in {snapshot.id for snapshot in history.snapshots}
    assert set() == unreadable_files(history.open(store), newest)


def test_content_that_was_lost_and_is_stored_anew_heals_the_old_snapshots(history, store):
    """A missing pack whose content the tree still has: after one backup nothing is missing, and no error is left."""
    lost = _pack_of_the_present_tree(history)
    store.delete(lost)
    (found,) = errors_of(check(history.open(store)))
    assert (lost, 3) == (found.object, len(found.snapshots))
    history.back_up(history.open(store))
    report = verify(history.open(store))
    assert [] == errors_of(report)
    assert [("object-not-found", lost)] == hints_of(report), "the old segment still names it, and nothing needs it"
    for snapshot in history.snapshots:
        assert set() == unreadable_files(history.open(store), snapshot)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_pack_is_not_referred_to_for_ever(history, store, size):
    """Its size in the listing is another than its table says: its content is stored anew, as if it were missing."""
    lost = _pack_of_the_present_tree(history)
    store.replace(lost, store.get(lost)[:size])
    history.back_up(history.open(store))
    assert [lost] == [found.object for found in errors_of(check(history.open(store)))]
    for snapshot in history.open(store).snapshots():
        assert set() == unreadable_files(history.open(store), snapshot)
    (found,) = errors_of(verify(history.open(store)))
    assert ((), ()) == (found.snapshots, found.paths), "nothing lacks anything by it"


def test_reading_all_by_force_stores_anew_what_does_not_open(history, store, tmp_path):
    """A flipped bit does not show in a listing; to read the source and what is stored of it does."""
    lost = _pack_of_the_present_tree(history)
    store.flip_bit(lost, HEADER_BYTES)
    repo = history.open(store)
    history.bench.back_up(repo=repo)
    assert unreadable_files(history.open(store), history.open(store).snapshots()[-1])
    history.bench.back_up(repo=history.open(store), force_read=True)
    for snapshot in history.open(store).snapshots():
        assert set() == unreadable_files(history.open(store), snapshot)
    repo = history.open(store)
    assert () == restore(repo, repo.resolve("latest"), tmp_path / "out").failures
    puts = len([*store.list("packs/")])
    again = history.bench.back_up(repo=history.open(store), force_read=True)
    assert (0, puts) == (again.stats["raw_bytes_new"], len([*store.list("packs/")]))


@pytest.mark.parametrize("kind", [FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER])
@pytest.mark.parametrize("harm", HARMS)
def test_a_repair_that_is_killed_leaves_nothing_worse(history, store, harm, kind):
    """Killed at each put: every old object is as it was, no file more is lost, the next run completes the repair."""
    harm(history, store)
    before = store.contents()
    lost = [unreadable_files(history.open(store), snapshot) for snapshot in history.snapshots]
    for nth in range(_puts_of_a_repair(history, store)):
        copy = store.clone()
        with FaultyBackend(copy, [Fault(kind, method="put", nth=nth)]) as dying, pytest.raises(SimulatedKill):
            history.back_up(history.open(dying))
        after = copy.contents()
        assert before == {name: after[name] for name in before}
        for snapshot, paths in zip(history.snapshots, lost, strict=True):
            found = unreadable_files(history.open(copy), snapshot)
            assert paths is None or found <= paths
        history.back_up(history.open(copy))
        newest = history.open(copy).newest(history.bench.source.name)
        assert set() == unreadable_files(history.open(copy), newest)


def _puts_of_a_repair(history, store):
    counting = FaultyBackend(store.clone())
    history.back_up(history.open(counting))
    return [method for method, _ in counting.calls].count("put")


def test_check_and_verify_write_nothing(history, store):
    """Who looks for damage does not touch the store."""
    for harm in HARMS:
        copy = store.clone()
        harm(history, copy)
        counting = FaultyBackend(copy)
        repo = history.open(counting)
        check(repo)
        verify(repo)
        assert not {"put", "delete"} & {method for method, _ in counting.calls}


def test_reading_writes_nothing(history, store):
    """The way round a lost segment is found anew by each process: a restore needs no right to write."""
    lose_segment(history, store)
    counting = FaultyBackend(store)
    repo = history.open(counting)
    assert set() == unreadable_files(repo, history.snapshots[0])
    assert _root_of(history, history.snapshots[0])[0].type == TYPE_ROOT
    assert not {"put", "delete"} & {method for method, _ in counting.calls}
