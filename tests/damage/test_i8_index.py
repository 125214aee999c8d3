"""I8: the index is disposable: whatever happens to it, everything is found by the packs' own tables."""

import pytest

from coffer.errors import ChunkMissingError
from coffer.repository.pack import TYPE_DATA
from coffer.verification import check, verify
from tests.harness.corrupt import errors_of, unreadable_files
from tests.harness.faulty_backend import FaultyBackend


def assert_all_restorable(history, store):
    """Assert that a new process reads every file of every snapshot."""
    for snapshot in history.snapshots:
        assert set() == unreadable_files(history.open(store), snapshot)


@pytest.mark.parametrize("at", range(6))
def test_a_segment_that_was_lost_costs_nothing_but_an_error(history, store, at):
    """Its packs are read themselves; check says that a segment is missing, and which packs no other names."""
    store.delete(history.names("index/")[at])
    for report in (check(history.open(store)), verify(history.open(store))):
        (found,) = errors_of(report)
        assert ("index-incomplete", "index/") == (found.code, found.object)
    assert_all_restorable(history, store)


@pytest.mark.parametrize("harm", ["flip", "truncate"])
@pytest.mark.parametrize("at", range(6))
def test_a_segment_that_is_damaged_costs_nothing_but_an_error(history, store, at, harm):
    """Before there was a way round it, one flipped bit in any segment made every command fail."""
    name = history.names("index/")[at]
    if harm == "flip":
        store.flip_bit(name, -1)
    else:
        store.truncate(name, 100)
    for report in (check(history.open(store)), verify(history.open(store))):
        assert [name] == [found.object for found in errors_of(report)]
    assert_all_restorable(history, store)


@pytest.mark.parametrize("at", range(6))
def test_the_index_knows_all_chunks_in_spite_of_a_damaged_segment(history, store, at):
    """Also for who asks the index itself and reads no chunk, as `coffer stats` does."""
    store.flip_bit(history.names("index/")[at], 100)
    assert history.bench.reopen().index().totals() == history.open(store).index().totals()


def test_without_any_segment_everything_is_restorable(history, store):
    """Rebuilt from packs alone."""
    for name in history.names("index/"):
        store.delete(name)
    (found,) = errors_of(check(history.open(store)))
    assert "index-incomplete" == found.code
    assert_all_restorable(history, store)
    repo = history.open(store)
    assert repo.index().pack_ids() == frozenset()
    repo.adopt_packs()
    rebuilt, master = repo.index(), history.bench.reopen().index()
    assert {pack_id: list(master.iter_pack(pack_id)) for pack_id in master.pack_ids()} == {
        pack_id: list(rebuilt.iter_pack(pack_id)) for pack_id in rebuilt.pack_ids()
    }


@pytest.mark.parametrize("harm", ["delete", "flip"])
def test_the_next_backup_writes_the_index_anew(history, store, harm):
    """It stores no chunk again, names all packs in a new segment, and leaves the old segments as they are."""
    for name in history.names("index/"):
        if harm == "delete":
            store.delete(name)
        else:
            store.flip_bit(name, 90)
    repo = history.open(store)
    counting = FaultyBackend(store)
    repo.backend = counting
    history.back_up(repo)
    put = [name.partition("/")[0] for method, name in counting.calls if method == "put"]
    assert put.count("packs") <= 1, "a manifest's pack at most: nothing changed in the tree"
    damaged = [] if harm == "delete" else history.names("index/")
    assert damaged == [found.object for found in errors_of(check(history.open(store)))]
    assert_all_restorable(history, store)


def test_a_chunk_that_no_pack_holds_is_still_missing(history, store):
    """The way round a lost segment ends: the packs are looked through once, then the error is told."""
    store.delete(history.names("index/")[0])
    repo = history.open(store)
    for _ in range(2):
        with pytest.raises(ChunkMissingError):
            repo.reader().read(bytes(32), TYPE_DATA)
