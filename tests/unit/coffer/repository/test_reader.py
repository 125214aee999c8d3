"""The reader: finds, opens, decompresses, and computes the id again, every time (I5, I6, I7)."""

import threading

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.backends.metering import MeteringBackend
from coffer.crypto.seal import HEADER_BYTES
from coffer.errors import ChunkMissingError, ObjectCorruptError, ObjectNotFoundError, WrongKeyError
from coffer.ids import pack_name
from coffer.repository import reader as reader_module
from coffer.repository.index import ChunkIndex
from coffer.repository.pack import TYPE_DATA, TYPE_SECTION, PackBuilder
from coffer.repository.reader import ChunkReader
from tests.harness.keyrings import make_keyring
from tests.harness.memory_store import TamperableMemoryBackend

KEYRING = make_keyring()
DATA = [b"first chunk", b"second chunk", b"third"]
IDS = [KEYRING.ids.chunk_id(data) for data in DATA]


def _put_pack(store, index, chunks, type_=TYPE_DATA):
    builder = PackBuilder(KEYRING)
    for chunk_id, data in chunks:
        builder.add(chunk_id, type_, 0, data, len(data))
    pack = builder.finish()
    store.put(pack_name(pack.pack_id), pack.parts)
    index.add_table(pack.pack_id, pack.table)
    return pack


def _filled():
    store, index = TamperableMemoryBackend(), ChunkIndex()
    pack = _put_pack(store, index, zip(IDS, DATA, strict=True))
    return store, index, pack


def test_chunks_come_back():
    """By their ids."""
    store, index, _ = _filled()
    reader = ChunkReader(store, KEYRING, index)
    assert DATA == [reader.read(chunk_id, TYPE_DATA) for chunk_id in IDS]


def test_a_chunk_costs_one_ranged_read_and_the_first_of_a_pack_two():
    """The header once, for the pack's key; then each frame alone."""
    store, index, _ = _filled()
    metered = MeteringBackend(store)
    reader = ChunkReader(metered, KEYRING, index)
    reader.read(IDS[0], TYPE_DATA)
    assert (2, HEADER_BYTES + len(DATA[0]) + 16) == (metered.total("get"), metered.total("get", "bytes"))
    reader.read(IDS[1], TYPE_DATA)
    assert 3 == metered.total("get")


def test_keys_of_few_packs_are_kept(monkeypatch):
    """The least recently used one goes: memory is bounded, whatever the number of packs."""
    monkeypatch.setattr(reader_module, "_KEYS_KEPT", 2)
    store, index = MeteringBackend(MemoryBackend()), ChunkIndex()
    for chunk_id, data in zip(IDS, DATA, strict=True):
        _put_pack(store, index, [(chunk_id, data)])
    reader = ChunkReader(store, KEYRING, index)
    for number in (0, 1, 0, 2, 0, 1):
        assert DATA[number] == reader.read(IDS[number], TYPE_DATA)
    assert 6 + 4 == store.total("get")


def test_a_chunk_that_no_index_knows_is_missing():
    """Named by its id."""
    store, index, _ = _filled()
    unknown = KEYRING.ids.chunk_id(b"unknown")
    with pytest.raises(ChunkMissingError, match=unknown.hex()[:12]) as caught:
        ChunkReader(store, KEYRING, index).read(unknown, TYPE_DATA)
    assert unknown.hex() == caught.value.details["chunk_id"]


def test_a_rescue_is_asked_once_for_what_no_index_knows():
    """It may bring what only the packs know; a second miss is final."""
    store, _, pack = _filled()
    empty = ChunkIndex()
    calls = []

    def rescue():
        calls.append(1)
        empty.add_table(pack.pack_id, pack.table)

    reader = ChunkReader(store, KEYRING, empty, rescue)
    assert DATA[0] == reader.read(IDS[0], TYPE_DATA)
    with pytest.raises(ChunkMissingError):
        reader.read(bytes(32), TYPE_DATA)
    assert [1] == calls


def test_a_chunk_of_another_type_is_corrupt():
    """A manifest cannot name data as its section, nor the reverse."""
    store, index, _ = _filled()
    with pytest.raises(ObjectCorruptError, match="of type 1, expected 2"):
        ChunkReader(store, KEYRING, index).read(IDS[0], TYPE_SECTION)


def test_any_flipped_bit_of_a_frame_is_corrupt():
    """The pack is named."""
    store, index, pack = _filled()
    name = pack_name(pack.pack_id)
    for offset in range(HEADER_BYTES, HEADER_BYTES + len(DATA[0]) + 16):
        store.flip_bit(name, offset, offset % 8)
        with pytest.raises(ObjectCorruptError, match=name):
            ChunkReader(store, KEYRING, index).read(IDS[0], TYPE_DATA)
        store.flip_bit(name, offset, offset % 8)
    assert DATA[0] == ChunkReader(store, KEYRING, index).read(IDS[0], TYPE_DATA)


def test_a_frame_with_another_chunk_is_corrupt():
    """Sealed and authentic, but under a false id: the id is computed again (I6)."""
    store, index = MemoryBackend(), ChunkIndex()
    _put_pack(store, index, [(IDS[0], b"not the first chunk")])
    with pytest.raises(ObjectCorruptError, match="holds another chunk"):
        ChunkReader(store, KEYRING, index).read(IDS[0], TYPE_DATA)


def test_a_missing_pack_is_told_unless_another_holds_the_chunk():
    """Two writers may have stored it: the second pack is as good."""
    store, index, pack = _filled()
    store.delete(pack_name(pack.pack_id))
    with pytest.raises(ObjectNotFoundError):
        ChunkReader(store, KEYRING, index).read(IDS[0], TYPE_DATA)

    store, index, pack = _filled()
    _put_pack(store, index, [(IDS[0], DATA[0])])
    store.delete(pack_name(pack.pack_id))
    reader = ChunkReader(store, KEYRING, index)
    assert DATA[0] == reader.read(IDS[0], TYPE_DATA)
    with pytest.raises(ChunkMissingError):
        reader.read(IDS[1], TYPE_DATA)


@pytest.mark.parametrize("harm", ["flip", "truncate"])
def test_a_damaged_chunk_is_read_where_it_was_stored_anew(harm):
    """Wherever the index places it first; where it is whole nowhere, the damage is told."""
    store, index, pack = _filled()
    name = pack_name(pack.pack_id)
    if harm == "flip":
        store.flip_bit(name, HEADER_BYTES)
    else:
        store.replace(name, b"")
    assert not ChunkReader(store, KEYRING, index).opens(IDS[0], TYPE_DATA)
    _put_pack(store, index, [(IDS[0], DATA[0])])
    reader = ChunkReader(store, KEYRING, index)
    assert reader.opens(IDS[0], TYPE_DATA)
    assert DATA[0] == reader.read(IDS[0], TYPE_DATA)
    assert (harm == "flip") == reader.opens(IDS[1], TYPE_DATA)


def test_a_pack_of_another_repository_does_not_open():
    """Its header tells, before anything is decrypted."""
    store, index, _ = _filled()
    with pytest.raises(WrongKeyError):
        ChunkReader(store, make_keyring(bytes(16)), index).read(IDS[0], TYPE_DATA)


def test_threads_read_side_by_side(monkeypatch):
    """With few keys kept, so that they push each other's out."""
    monkeypatch.setattr(reader_module, "_KEYS_KEPT", 1)
    store, index = MemoryBackend(), ChunkIndex()
    for chunk_id, data in zip(IDS, DATA, strict=True):
        _put_pack(store, index, [(chunk_id, data)])
    reader = ChunkReader(store, KEYRING, index)
    results = []

    def work():
        results.extend(reader.read(IDS[n % 3], TYPE_DATA) == DATA[n % 3] for n in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 200 == results
