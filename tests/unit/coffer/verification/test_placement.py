"""Where chunks lie: by every segment that can be read, and by the packs that no segment names."""

import pytest

from coffer.crypto.seal import KIND_PACK, TAG_BYTES, FrameMeta, new_object_key
from coffer.ids import PackId, pack_name
from coffer.repository.index import write_segments
from coffer.repository.pack import ROW, TRAILER, TYPE_DATA, TYPE_TABLE, PackBuilder
from coffer.verification.findings import FindingLog
from coffer.verification.inventory import take_inventory
from coffer.verification.placement import judge_index, place_chunks


def place(repo, tick=lambda: None):
    """The placement, and the findings as (severity, code, object)."""
    notes = FindingLog()
    placement = place_chunks(repo.backend, repo.keyring, take_inventory(repo.backend, notes), notes, tick)
    return placement, [(found.severity.value, found.code, found.object) for found in notes.close()[0]]


def add_pack(store, keyring, content=b"one more chunk"):
    """Put a pack that no segment names."""
    builder = PackBuilder(keyring)
    builder.add(keyring.ids.chunk_id(content), TYPE_DATA, 0, content, len(content))
    pack = builder.finish()
    store.put(pack_name(pack.pack_id), pack.parts)
    return pack


def test_all_packs_of_a_whole_repository_are_placed(history, store):
    """As the engine's own index has them; nothing is found."""
    placement, findings = place(history.open(store))
    assert [] == findings
    own = history.open(store).index()
    assert own.pack_ids() == placement.index.pack_ids() == frozenset(placement.digests)
    assert len(own) == len(placement.index)
    assert (set(), set(), 0) == (placement.unindexed, placement.misfits, placement.damaged_segments)


def test_a_pack_that_no_segment_names_is_a_hint_and_is_placed(history, store):
    """A killed run left it; the next backup takes it in."""
    repo = history.open(store)
    pack = add_pack(store, repo.keyring)
    placement, findings = place(repo)
    assert [("hint", "orphan-pack", pack_name(pack.pack_id))] == findings
    assert {pack.pack_id} == placement.unindexed
    assert repo.keyring.ids.chunk_id(b"one more chunk") in placement.index


def test_a_missing_pack_is_placed_among_the_lost(history, store):
    """Whether it is an error depends on whether anybody needs it."""
    repo = history.open(store)
    name = history.names("packs/")[0]
    store.delete(name)
    placement, findings = place(repo)
    assert [("hint", "object-not-found", name)] == findings
    pack_id = PackId(bytes.fromhex(name[-64:]))
    assert frozenset({pack_id}) == placement.lost.pack_ids()
    assert pack_id not in placement.index.pack_ids()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"], ids=["shorter", "longer"])
def test_a_pack_of_another_size_is_an_error(history, store, change):
    """The table tells where the pack must end."""
    repo = history.open(store)
    name = history.names("packs/")[0]
    store.replace(name, change(store.get(name)))
    placement, findings = place(repo)
    assert [("error", "object-corrupt", name)] == findings
    assert {PackId(bytes.fromhex(name[-64:]))} == placement.misfits


def test_a_damaged_segment_is_an_error_and_its_packs_are_read_themselves(history, store):
    """The hints say why they are in no segment."""
    repo = history.open(store)
    whole, _ = place(repo)
    name = history.names("index/")[0]
    store.flip_bit(name, -1)
    placement, findings = place(repo)
    assert ("error", "object-corrupt", name) == findings[0]
    assert {("hint", "orphan-pack")} == {found[:2] for found in findings[1:]}
    assert whole.index.pack_ids() == placement.index.pack_ids()
    assert 1 == placement.damaged_segments


def test_two_segments_that_differ_over_a_pack_are_an_error_of_the_later(history, store):
    """Both are authentic; one of them lies."""
    repo = history.open(store)
    pack = add_pack(store, repo.keyring)
    row = ROW.pack(bytes(32), 80, len(pack.table), len(pack.table) - TAG_BYTES, TYPE_DATA, 0)
    names = [write_segments(store, repo.keyring, [(pack.pack_id, table)])[0] for table in (pack.table, row)]
    _, findings = place(repo)
    errors = [found for found in findings if found[2].startswith("index/")]
    assert [("error", "object-corrupt", max(names))] == errors


def test_a_table_whose_frames_do_not_lie_end_to_end_is_an_error_of_its_segment(history, store):
    """No writer leaves a gap, so nothing can be hidden in one."""
    repo = history.open(store)
    row = ROW.pack(bytes(32), 81, TAG_BYTES + 1, 1, TYPE_DATA, 0)
    (name,) = write_segments(store, repo.keyring, [(PackId(bytes(32)), row)])
    _, findings = place(repo)
    assert [("error", "object-corrupt", name)] == findings


def test_an_orphan_whose_table_belongs_to_another_size_is_an_error(history, store):
    """Authentic table, and more in the pack than it says."""
    repo = history.open(store)
    key = new_object_key(repo.keyring, KIND_PACK)
    row = ROW.pack(bytes(32), 80, TAG_BYTES + 1, 1, TYPE_DATA, 0)
    meta = FrameMeta(1, TYPE_TABLE, 0, ROW.size, ROW.size + TAG_BYTES, last=True)
    frames = bytes(TAG_BYTES + 100)
    trailer = TRAILER.pack(80 + len(frames), meta.sealed_length, 1, b"cofferpk")
    name = pack_name(PackId(bytes(range(32))))
    store.put(name, [key.header, frames, key.seal(row, meta), trailer])
    placement, findings = place(repo)
    assert [("error", "object-corrupt", name)] == findings
    assert set() == placement.unindexed


def test_it_asks_before_each_object_whether_to_go_on(history, store):
    """A stopped check ends within one object."""
    repo = history.open(store)
    add_pack(store, repo.keyring)
    ticks = []
    place(repo, lambda: ticks.append(1))
    assert len(history.names("index/")) + 1 == len(ticks)


@pytest.mark.parametrize(("damaged", "expected"), [(0, ["index-incomplete"]), (1, [])])
def test_packs_that_are_needed_and_unnamed_tell_of_a_missing_segment(history, store, damaged, expected):
    """Unless a damaged one is known already: one defect, one error."""
    placement, _ = place(history.open(store))
    placement.damaged_segments = damaged
    needed = set(placement.index.pack_ids())
    notes = FindingLog()
    judge_index(placement, needed, notes)
    found = notes.close()[0]
    assert expected == [finding.code for finding in found]
    assert all(f"{len(needed)} packs" in finding.message for finding in found)


def test_no_needed_pack_is_unnamed_in_a_whole_repository(history, store):
    """Then nothing is said."""
    placement, _ = place(history.open(store))
    notes = FindingLog()
    judge_index(placement, set(), notes)
    assert () == notes.close()[0]
