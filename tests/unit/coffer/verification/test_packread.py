"""One pack, from its first byte to its last."""

import pytest

from coffer.errors import BackendUnavailableError
from coffer.ids import ChunkId, PackId
from coffer.repository.pack import TYPE_DATA, ChunkLocation
from coffer.verification import packread
from coffer.verification.findings import FindingLog
from coffer.verification.inventory import take_inventory
from coffer.verification.packread import PackProver, PackVerdict, windows
from coffer.verification.placement import place_chunks
from tests.harness.corrupt import pack_offsets
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend

MIB = 1 << 20


def rows(*lengths, start=80):
    """Frames of these sealed lengths, end to end."""
    found, at = [], start
    for position, length in enumerate(lengths):
        found.append((ChunkId(bytes(32)), ChunkLocation(PackId(bytes(32)), position, at, length, 1, TYPE_DATA, 0)))
        at += length
    return found


@pytest.mark.parametrize(
    ("frames", "size"),
    [
        (rows(), 0),
        (rows(), 10 * MIB),
        (rows(100, 200), 1000),
        (rows(*[MIB] * 11), 80 + 12 * MIB),
        (rows(9 * MIB, 1, 9 * MIB), 30 * MIB),
        (rows(5, start=9 * MIB), 9 * MIB + 5),
        (rows(5, 5, start=9 * MIB), 20 * MIB),
    ],
    ids=["empty", "no-frames", "small", "many", "large-frames", "gap-before", "gaps"],
)
def test_windows_cover_the_pack_once_and_hold_each_frame_whole(frames, size):
    """Whatever the frames' lengths: no byte is read twice, none is left out, no frame is cut."""
    cut = list(windows(frames, size))
    edges = [0, *(stop for _, stop, _ in cut)]
    assert edges[:-1] == [start for start, _, _ in cut]
    assert (size, sorted(edges)) == (edges[-1], edges)
    assert frames == [row for _, _, inside in cut for row in inside]
    for start, stop, inside in cut:
        assert all(start <= where.offset and where.offset + where.sealed_length <= stop for _, where in inside)
        assert stop - start <= packread._READ_BYTES or len(inside) == 1


def test_frames_behind_the_end_are_in_no_window():
    """A truncated pack: what is there is read."""
    frames = rows(100, 200, 300)
    assert [(0, 380, frames[:2]), (380, 500, [])] == list(windows(frames, 500))


def prove(history, store, name, *, backend=None, count=lambda length: None):
    repo = history.open(store)
    notes = FindingLog()
    placement = place_chunks(repo.backend, repo.keyring, take_inventory(repo.backend, notes), notes, lambda: None)
    prover = PackProver(backend or store, repo.keyring, placement, count)
    pack_id = PackId(bytes.fromhex(name[-64:]))
    frames = list(placement.index.iter_pack(pack_id))
    return prover.prove(pack_id, placement.sizes[pack_id]), frames


def test_a_whole_pack_is_proved_and_every_byte_counted(history, store):
    """No problem, and each chunk counts."""
    name = history.packs(TYPE_DATA)[0]
    read = []
    verdict, frames = prove(history, store, name, count=read.append)
    assert PackVerdict(verdict.pack_id, proved=len(frames)) == verdict
    assert store.stat(name).size_bytes == sum(read)
    assert 0 == read[0], "asked before the first read whether to go on"


def test_a_pack_over_the_cap_is_not_read(history, store, monkeypatch):
    """All that lies in it is lost; nothing is allocated for it."""
    name = history.packs(TYPE_DATA)[0]
    monkeypatch.setattr(packread, "MAX_PACK_BYTES", store.stat(name).size_bytes - 1)
    counting = FaultyBackend(store)
    verdict, _ = prove(history, store, name, backend=counting)
    assert (True, "size-limit", []) == (verdict.all_lost, verdict.code, counting.calls)


def test_a_damaged_frame_is_told_by_its_position_and_the_others_are_proved(history, store):
    """The message says how many are whole."""
    name = history.packs(TYPE_DATA)[0]
    store.flip_bit(name, pack_offsets(store, name)["first-frame"])
    verdict, frames = prove(history, store, name)
    assert ([0], len(frames) - 1, "object-corrupt") == (verdict.lost, verdict.proved, verdict.code)
    expected = (
        f"{name}: frame 0 failed authentication; {name}: content does not match its name; "
        f"{len(frames) - 1} other chunks are whole"
    )
    assert expected == verdict.message


def test_a_damaged_header_loses_all_frames(history, store):
    """Without its key nothing opens; the bytes are still hashed."""
    name = history.packs(TYPE_DATA)[0]
    store.flip_bit(name, 20)
    verdict, _ = prove(history, store, name)
    assert verdict.all_lost
    assert (0, "wrong-key") == (verdict.proved, verdict.code)
    assert verdict.message.endswith("content does not match its name")


def test_a_damaged_table_loses_no_frame_that_the_index_knows(history, store):
    """The index has the same table."""
    name = history.packs(TYPE_DATA)[0]
    store.flip_bit(name, pack_offsets(store, name)["table"])
    verdict, frames = prove(history, store, name)
    assert ([], len(frames)) == (verdict.lost, verdict.proved)
    assert f"frame {len(frames)} failed authentication" in verdict.message


def test_a_truncated_pack_loses_the_frames_behind_its_end(history, store):
    """Those before it are proved."""
    name = history.packs(TYPE_DATA)[0]
    _, frames = prove(history, store, name)
    cut = frames[-1][1].offset + 5
    store.truncate(name, cut)
    verdict, _ = prove(history, store, name)
    assert ([frames[-1][1].position], len(frames) - 1) == (verdict.lost, verdict.proved)
    assert f"{name}: 1 frames lie behind its end" in verdict.message


def test_a_pack_that_shrinks_while_it_is_read_loses_the_rest(history, store, monkeypatch):
    """The listing was right, the read comes short: nothing of that piece is believed."""
    monkeypatch.setattr(packread, "_READ_BYTES", 2000)
    name = history.packs(TYPE_DATA)[0]
    short = FaultyBackend(store, [Fault(FaultKind.SHORT_READ, method="get", prefix=name, nth=4)])
    verdict, frames = prove(history, store, name, backend=short)
    assert len(frames) == verdict.proved + len(verdict.lost)
    assert verdict.proved
    assert verdict.lost
    assert "short-read" == verdict.code


def test_a_pack_in_another_packs_place_is_told_by_table_and_name(history, store):
    """It is authentic in itself: its table is not the one that the index has, and no frame is where it should be."""
    one, two = history.packs(TYPE_DATA)[:2]
    store.replace(one, store.get(two))
    verdict, frames = prove(history, store, one)
    assert f"{one}: has another table than the index" == verdict.problems[0]
    assert len(frames) == len(verdict.lost)
    assert 0 == verdict.proved


def test_a_long_list_of_problems_is_cut_and_counted():
    """A pack of a thousand damaged frames has one line."""
    verdict = PackVerdict(PackId(bytes(32)), lost=[0])
    for number in range(10):
        verdict.note(f"code-{number}", f"problem {number}")
    assert ("code-0", "problem 0; problem 1; problem 2; and 7 more") == (verdict.code, verdict.message)


def test_a_store_that_fails_is_no_damage(history, store):
    """Nothing is known of the pack then."""
    name = history.packs(TYPE_DATA)[0]
    failing = FaultyBackend(store, [Fault(FaultKind.FAIL_BEFORE, method="get", prefix="packs/")])
    with pytest.raises(BackendUnavailableError):
        prove(history, store, name, backend=failing)
