"""The index: from segments to a table, and back to nothing without loss (I8)."""

import hashlib
import struct
import threading

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import KIND_INDEX, seal_single
from coffer.errors import CofferError, ObjectCorruptError, SizeLimitError
from coffer.ids import PackId
from coffer.repository import index as index_module
from coffer.repository.index import ChunkIndex, load_index, read_segment, write_segments
from coffer.repository.pack import MAX_TABLE_ROWS, ROW, ChunkLocation, pack_size
from tests.harness.keyrings import make_keyring
from tests.harness.manifests import chunk_id
from tests.harness.memory_store import TamperableMemoryBackend

KEYRING = make_keyring()


def _pack(number):
    return PackId(bytes((number,)) * 32)


def _table(*numbers, type_=1, codec=0):
    """A table of chunks of 10 bytes each, laid end to end."""
    return b"".join(ROW.pack(chunk_id(number), 80 + 26 * at, 26, 10, type_, codec) for at, number in enumerate(numbers))


def _put_plain(store, plain):
    data = seal_single(KEYRING, KIND_INDEX, plain)
    name = "index/" + hashlib.sha256(data).hexdigest()
    store.put(name, [data])
    return name, len(data)


def test_what_a_table_places_is_found():
    """Pack, position, offset, lengths, type and codec."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5, 6, type_=2, codec=1))
    assert ChunkLocation(_pack(1), 1, 106, 26, 10, 2, 1) == index.find(chunk_id(6))
    assert index.find(chunk_id(7)) is None
    assert chunk_id(5) in index
    assert chunk_id(7) not in index
    assert (2, {_pack(1)}) == (len(index), index.pack_ids())


def test_a_chunk_keeps_its_first_place():
    """Two writers may store the same chunk: which copy is used does not change while a run goes on."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5))
    index.add_table(_pack(2), _table(6, 5))
    assert _pack(1) == index.find(chunk_id(5)).pack_id
    assert [chunk_id(6)] == [found for found, _ in index.iter_pack(_pack(2))]


def test_a_chunk_in_two_packs_outlives_one_of_them():
    """Its other place is kept apart, and used once the first pack turns out to be missing."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5))
    index.add_table(_pack(2), _table(6, 5))
    index.forget_pack(_pack(1))
    assert (_pack(2), 1) == (index.find(chunk_id(5)).pack_id, index.find(chunk_id(5)).position)
    index.forget_pack(_pack(2))
    assert 0 == len(index)


def test_a_chunk_that_does_not_open_in_one_pack_is_placed_in_another():
    """The pack that is damaged keeps its other chunks; once no other place is left, the answer is no."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5, 6))
    index.add_table(_pack(2), _table(5))
    assert index.turn_elsewhere(chunk_id(5), _pack(1))
    assert (_pack(2), _pack(1)) == (index.find(chunk_id(5)).pack_id, index.find(chunk_id(6)).pack_id)
    assert not index.turn_elsewhere(chunk_id(5), _pack(2))
    assert not index.turn_elsewhere(chunk_id(6), _pack(1))


def test_packs_have_the_size_that_their_tables_say():
    """Without reading them; of a pack that was forgotten nothing is said."""
    index = ChunkIndex()
    tables = {_pack(1): _table(5, 6, 7), _pack(2): _table(6)}
    for pack_id, table in tables.items():
        index.add_table(pack_id, table)
    assert {pack_id: pack_size(pack_id, table) for pack_id, table in tables.items()} == index.pack_sizes()
    index.forget_pack(_pack(1))
    assert {_pack(2)} == index.pack_sizes().keys()


def test_adding_a_table_twice_changes_nothing():
    """Segments may name a pack again."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5))
    index.add_table(_pack(1), _table(5, 6))
    assert 1 == len(index)


def test_a_table_with_a_bad_row_is_taken_in_whole_or_not_at_all():
    """The row is refused before the first one is kept."""
    index = ChunkIndex()
    with pytest.raises(CofferError):
        index.add_table(_pack(1), _table(5) + ROW.pack(chunk_id(6), 0, 26, 10, 1, 0))
    assert (0, frozenset()) == (len(index), index.pack_ids())


def test_a_forgotten_pack_is_stored_anew():
    """Its chunks are unknown from then on; the others stay; it can come back."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(5, 6))
    index.add_table(_pack(2), _table(7))
    index.forget_pack(_pack(1))
    index.forget_pack(_pack(1))
    index.forget_pack(_pack(9))
    assert (None, _pack(2), {_pack(2)}) == (index.find(chunk_id(5)), index.find(chunk_id(7)).pack_id, index.pack_ids())
    index.add_table(_pack(1), _table(5, 6))
    assert _pack(1) == index.find(chunk_id(6)).pack_id


def test_a_packs_chunks_come_by_offset():
    """As a reader of the whole pack wants them."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(9, 3, 6))
    assert [(chunk_id(9), 80), (chunk_id(3), 106), (chunk_id(6), 132)] == [
        (found, where.offset) for found, where in index.iter_pack(_pack(1))
    ]
    assert [] == list(index.iter_pack(_pack(2)))


def test_totals_are_by_type_and_by_codec():
    """Counts and sums of lengths."""
    index = ChunkIndex()
    index.add_table(_pack(1), _table(1, 2, type_=1, codec=0))
    index.add_table(_pack(2), _table(3, type_=1, codec=1))
    index.add_table(_pack(3), _table(4, type_=2, codec=1))
    assert {1: (3, 30, 78), 2: (1, 10, 26)} == index.totals()
    assert {0: 52, 1: 26} == index.sealed_by_codec(1)
    assert ({}, {}) == (ChunkIndex().totals(), index.sealed_by_codec(9))


def test_threads_use_one_index():
    """Finding while another thread adds: every answer is whole."""
    index = ChunkIndex()
    failures = []

    def add():
        for number in range(100):
            index.add_table(PackId(struct.pack(">I", number) * 8), _table(number))

    def look():
        for number in range(100):
            where = index.find(chunk_id(number))
            if where is not None and where.pack_id != struct.pack(">I", number) * 8:
                failures.append(where)

    threads = [threading.Thread(target=work) for work in (add, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ([], 100) == (failures, len(index))


# ------------------------------------------------------------------------------------------------ segments


def test_segments_come_back_as_an_index():
    """All packs of all segments; the store holds nothing in the clear."""
    store = MemoryBackend()
    write_segments(store, KEYRING, [(_pack(1), _table(1, 2)), (_pack(2), b"")])
    write_segments(store, KEYRING, [(_pack(3), _table(3))])
    index, damages = load_index(store, KEYRING)
    assert ({_pack(1), _pack(2), _pack(3)}, 3, []) == (index.pack_ids(), len(index), damages)
    assert all(chunk_id(1) not in store.get(info.name) for info in store.list("index/"))


def test_no_tables_make_no_segment():
    """An unchanged source stores nothing here."""
    store = MemoryBackend()
    assert ([], []) == (write_segments(store, KEYRING, []), list(store.list()))


def test_a_segment_is_named_by_its_bytes():
    """And sealed as an object of its own kind."""
    store = MemoryBackend()
    (name,) = write_segments(store, KEYRING, [(_pack(1), _table(1))])
    assert "index/" + hashlib.sha256(store.get(name)).hexdigest() == name


def test_many_tables_make_several_segments(monkeypatch):
    """No segment grows to the cap of reading."""
    monkeypatch.setattr(index_module, "_SPLIT_BYTES", 3 * ROW.size)
    store = MemoryBackend()
    names = write_segments(store, KEYRING, [(_pack(n), _table(n, 100 + n)) for n in range(1, 6)])
    assert 3 == len(names)
    assert 10 == len(load_index(store, KEYRING)[0])


def test_a_segment_that_is_there_already_is_left_as_it_is(monkeypatch):
    """A put whose reply was lost, done again."""
    store = MemoryBackend()
    sealed = seal_single(KEYRING, KIND_INDEX, b"")
    monkeypatch.setattr(index_module, "seal_single", lambda *_: sealed)
    first = write_segments(store, KEYRING, [(_pack(1), b"")])
    assert first == write_segments(store, KEYRING, [(_pack(1), b"")])


def test_a_segment_under_another_name_is_corrupt():
    """Bytes and name must fit: a segment cannot stand in for another."""
    store = TamperableMemoryBackend()
    first, second = [write_segments(store, KEYRING, [(_pack(n), _table(n))])[0] for n in (1, 2)]
    store.replace(first, store.get(second))
    with pytest.raises(ObjectCorruptError, match="does not match its name"):
        read_segment(store, KEYRING, first, len(store.get(first)))


def test_a_damaged_segment_is_passed_over_and_told():
    """The others are read; the packs' own tables say what it said (I8)."""
    store = TamperableMemoryBackend()
    first, second = [write_segments(store, KEYRING, [(_pack(n), _table(n))])[0] for n in (1, 2)]
    store.flip_bit(first, -1)
    index, damages = load_index(store, KEYRING)
    assert ({_pack(2)}, [first]) == (index.pack_ids(), [damage.details["object"] for damage in damages])
    assert second not in str(damages)


def test_an_oversized_segment_is_not_read():
    """Its size is compared before any byte is asked for (I7)."""
    with pytest.raises(SizeLimitError, match="over the cap"):
        read_segment(MemoryBackend(), KEYRING, "index/x", 64 * 1024 * 1024 + 1)


@pytest.mark.parametrize(
    "plain",
    [
        b"x",
        bytes(35),
        bytes(32) + struct.pack(">I", 1),
        bytes(32) + struct.pack(">I", 1) + bytes(45),
        bytes(32) + struct.pack(">I", MAX_TABLE_ROWS + 1),
        bytes(32) + struct.pack(">I", (1 << 32) - 1),
        bytes(32) + struct.pack(">I", 0) + b"tail",
    ],
)
def test_a_segment_that_no_writer_writes_is_corrupt(plain):
    """Sealed with the right key, but cut short or with counts that do not fit."""
    store = MemoryBackend()
    name, size_bytes = _put_plain(store, plain)
    with pytest.raises(ObjectCorruptError, match=name):
        read_segment(store, KEYRING, name, size_bytes)
