"""I2: packs, index segments, manifest, snapshot; whatever was put when a run ended, the store is sound."""

from itertools import groupby

import pytest

from coffer.repository.pack import TYPE_DATA, TYPE_ROOT
from coffer.verification import check, verify
from tests.harness.corrupt import errors_of, hints_of
from tests.harness.faulty_backend import FaultyBackend
from tests.harness.memory_store import TamperableMemoryBackend


@pytest.fixture(scope="module")
def puts(history):
    """Name and bytes of everything that one further backup puts, in order, and the store before it."""
    before, after = history.copy(), history.copy()
    counting = FaultyBackend(after)
    repo = history.open(counting)
    (history.bench.root / "d3" / "grown").write_bytes(bytes(range(256)) * 200)
    history.back_up(repo)
    (history.bench.root / "d3" / "grown").unlink()
    names = [name for method, name in counting.calls if method == "put" and not name.startswith("leases/")]
    return before, [(name, after.get(name)) for name in names]


def kinds(names):
    """The kinds of objects in order, repetitions joined."""
    return [kind for kind, _ in groupby(name.partition("/")[0] for name in names)]


def test_objects_are_put_in_the_one_order(puts):
    """Data packs, their segment, manifest packs, their segment, the snapshot."""
    assert ["packs", "index", "packs", "index", "snapshots"] == kinds(name for name, _ in puts[1])


def test_a_run_that_ended_after_any_put_leaves_a_sound_repository(history, puts):
    """Every beginning of the sequence: no error, the old snapshots are whole, packs are a hint until they are named."""
    before, sequence = puts
    for count in range(len(sequence) + 1):
        store = before.clone()
        for name, data in sequence[:count]:
            store.put(name, [data])
        report = verify(history.open(store))
        assert [] == errors_of(report)
        assert len(history.snapshots) + (count == len(sequence)) == report.counts["snapshots"]
        orphans = sorted(name for name, _ in sequence[:count] if name.startswith("packs/"))
        named = count and any(name.startswith("index/") for name, _ in sequence[:count])
        if not named:
            assert [("orphan-pack", name) for name in orphans] == hints_of(report)


@pytest.mark.parametrize("type_", [TYPE_DATA, TYPE_ROOT])
def test_a_snapshot_without_what_it_relies_on_is_an_error(history, type_):
    """As if the order had not been kept: a snapshot is there, a pack that it needs is not; the pack is named."""
    for name in history.packs(type_):
        store = TamperableMemoryBackend()
        for other, data in history.bench.backend.contents().items():
            if other != name:
                store.put(other, [data])
        (found,) = errors_of(check(history.open(store, heads=history.heads)))
        assert ("object-not-found", name) == (found.code, found.object)
        assert found.snapshots


def test_a_snapshot_before_its_segment_is_an_error(history):
    """As if the snapshot had been put first: its chunks are there, and no segment says where."""
    for segment in history.names("index/"):
        store = history.copy()
        store.delete(segment)
        (found,) = errors_of(check(history.open(store, heads=history.heads)))
        assert ("index-incomplete", "index/") == (found.code, found.object)
