"""The writer: each chunk once, in the order of I2, within its memory, and never half."""

import os
import threading
import tracemalloc
from random import Random

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.compression import CODEC_RAW, CODEC_ZSTD, Compressor
from coffer.crypto.seal import ObjectKey
from coffer.errors import BackendFullError, BackendUnavailableError, ObjectCorruptError
from coffer.repository import writer as writer_module
from coffer.repository.index import ChunkIndex, load_index, read_segment
from coffer.repository.pack import MAX_RAW_BYTES, TYPE_DATA, TYPE_SECTION
from coffer.repository.reader import ChunkReader
from coffer.repository.writer import ChunkWriter, WriteStats, pack_ids
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.keyrings import make_keyring

KEYRING = make_keyring()
TEXT = b"a line of text that comes again\n" * 1000


class Recorder(MemoryBackend):
    """A store that notes the names that are put, in order."""

    def __init__(self):
        super().__init__()
        self.put_names = []

    def put(self, name, parts):
        super().put(name, parts)
        self.put_names.append(name.split("/")[0])


def _noise(seed, size=5000):
    return Random(seed).randbytes(size)


@pytest.fixture
def make_writer():
    """Makes writers, and closes them in the end."""
    made = []

    def make(store, index=None, **options):
        made.append(ChunkWriter(store, KEYRING, ChunkIndex() if index is None else index, **({"workers": 2} | options)))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def _fill(writer):
    """Ten packs' worth, so that some are put before the flush."""
    for seed in range(50):
        _submit(writer, _noise(seed))
    writer.flush_data()


def _submit(writer, data, type_=TYPE_DATA):
    return writer.submit([data], len(data), type_)


def _reader(store):
    return ChunkReader(store, KEYRING, load_index(store, KEYRING)[0])


def test_chunks_come_back_after_a_flush(make_writer):
    """Compressed and not, by a reader that knows only the store; the id is the keyed hash of the plaintext."""
    store = MemoryBackend()
    writer = make_writer(store)
    chunks = [TEXT, _noise(1), b"x", TEXT[:-1]]
    pending = [_submit(writer, data) for data in chunks]
    writer.flush_data()
    reader = _reader(store)
    assert chunks == [reader.read(chunk.chunk_id, TYPE_DATA) for chunk in pending]
    assert [KEYRING.ids.chunk_id(data) for data in chunks] == [chunk.chunk_id for chunk in pending]
    codecs = {reader.locate(chunk.chunk_id).codec for chunk in pending}
    assert {CODEC_RAW, CODEC_ZSTD} == codecs


def test_a_chunk_may_come_in_parts(make_writer):
    """A bundle is many files laid end to end: nobody has to join them before."""
    store = MemoryBackend()
    writer = make_writer(store)
    pending = writer.submit([b"one", b"two", b"three"], 11)
    writer.flush_data()
    assert b"onetwothree" == _reader(store).read(pending.chunk_id, TYPE_DATA)


def test_a_chunk_is_stored_once(make_writer):
    """Twice in a row, after a flush, and by the next writer with the same index."""
    store, index = MemoryBackend(), ChunkIndex()
    writer = make_writer(store, index)
    _submit(writer, TEXT)
    _submit(writer, TEXT)
    writer.flush_data()
    _submit(writer, TEXT)
    writer.flush_data()
    assert (1, 2, len(TEXT), 2 * len(TEXT)) == (
        writer.stats.chunks_new,
        writer.stats.chunks_known,
        writer.stats.raw_bytes_new,
        writer.stats.raw_bytes_known,
    )
    second = make_writer(store, index)
    _submit(second, TEXT)
    second.flush_data()
    assert WriteStats(chunks_known=1, raw_bytes_known=len(TEXT)) == second.stats
    assert 1 == len(list(store.list("packs/")))


def test_what_is_known_is_read_once_where_that_is_asked_for(make_writer, monkeypatch):
    """A chunk that opens is not stored again, and not read again while it is remembered; what is new is not read."""
    monkeypatch.setattr(writer_module, "_OPENED_KEPT", 2)
    store, index, asked = MemoryBackend(), ChunkIndex(), []
    first = make_writer(store, index)
    known = [_submit(first, _noise(n)).chunk_id for n in range(3)]
    first.flush_data()
    writer = make_writer(store, index, opens=lambda chunk_id, type_: asked.append((chunk_id, type_)) or True)
    for n in (0, 0, 1, 0, 2, 3, 3, 0):
        assert KEYRING.ids.chunk_id(_noise(n)) == _submit(writer, _noise(n)).chunk_id
    assert [(known[n], TYPE_DATA) for n in (0, 1, 2, 0)] == asked
    assert (1, 7) == (writer.stats.chunks_new, writer.stats.chunks_known)


def test_what_is_known_and_does_not_open_is_stored_anew(make_writer):
    """Once: it is under way then, and in the index in two places."""
    store, index = MemoryBackend(), ChunkIndex()
    first = make_writer(store, index)
    _submit(first, _noise(1))
    first.flush_data()
    writer = make_writer(store, index, opens=lambda *_: False)
    for _ in range(2):
        _submit(writer, _noise(1))
    writer.flush_data()
    assert (1, 1) == (writer.stats.chunks_new, writer.stats.chunks_known)
    assert 2 == len(list(store.list("packs/")))


def test_a_file_with_the_bytes_of_a_section_does_not_stand_in_for_it(make_writer):
    """Data and manifest chunks of the same bytes are different chunks: each is read as what it is."""
    store = MemoryBackend()
    writer = make_writer(store)
    data = _submit(writer, TEXT)
    writer.flush_data()
    section = _submit(writer, TEXT, TYPE_SECTION)
    writer.flush_meta()
    assert data.chunk_id != section.chunk_id
    reader = _reader(store)
    assert (TEXT, TEXT) == (reader.read(data.chunk_id, TYPE_DATA), reader.read(section.chunk_id, TYPE_SECTION))


def test_data_its_segment_manifest_and_its_segment_are_put_in_this_order(make_writer):
    """Whatever order they are handed over in (I2)."""
    store = Recorder()
    writer = make_writer(store)
    section = _submit(writer, _noise(1), TYPE_SECTION)
    data = _submit(writer, _noise(2))
    writer.flush_meta()
    assert ["packs", "index", "packs", "index"] == store.put_names
    segments = [read_segment(store, KEYRING, info.name, info.size_bytes) for info in store.list("index/")]
    assert 2 == len(segments)
    reader = _reader(store)
    assert reader.locate(section.chunk_id).pack_id != reader.locate(data.chunk_id).pack_id


def test_nothing_new_puts_nothing(make_writer):
    """No empty pack and no empty segment."""
    store = Recorder()
    writer = make_writer(store)
    writer.flush_data()
    writer.flush_meta()
    assert [] == store.put_names


def test_a_pack_is_put_as_soon_as_it_is_full(make_writer):
    """Before any flush; its chunks are in the index then."""
    store, index = Recorder(), ChunkIndex()
    writer = make_writer(store, index, pack_size_bytes=20_000, workers=1)
    pending = [_submit(writer, _noise(seed)) for seed in range(10)]
    assert 10 == len({chunk.chunk_id for chunk in pending})
    writer.flush_data()
    assert ["packs", "packs", "packs", "index"] == store.put_names
    assert (3, 10, writer.stats.stored_bytes) == (
        writer.stats.packs,
        len(index),
        sum(info.size_bytes for info in store.list("packs/")),
    )


def test_a_pack_is_full_of_rows_too(make_writer, monkeypatch):
    """So that no table grows to the cap of reading (I7)."""
    monkeypatch.setattr(writer_module, "MAX_TABLE_ROWS", 4)
    store = Recorder()
    writer = make_writer(store, workers=1)
    for seed in range(10):
        _submit(writer, _noise(seed, 20))
    writer.flush_data()
    assert ["packs", "packs", "packs", "index"] == store.put_names


def test_full_manifest_packs_wait_for_the_data_that_they_name(make_writer):
    """They are put by the flush, after the data's segment (I2); a caller sees that some wait."""
    store = Recorder()
    writer = make_writer(store, pack_size_bytes=20_000, workers=1)
    data = _submit(writer, _noise(99))
    sections = [_submit(writer, _noise(seed), TYPE_SECTION) for seed in range(10)]
    assert 10 == len({chunk.chunk_id for chunk in sections})
    assert (2, []) == (writer.meta_backlog, store.put_names)
    writer.flush_meta()
    assert (0, ["packs", "index", "packs", "packs", "packs", "index"]) == (writer.meta_backlog, store.put_names)
    reader = _reader(store)
    assert _noise(99) == reader.read(data.chunk_id, TYPE_DATA)
    assert [_noise(seed) for seed in range(10)] == [reader.read(c.chunk_id, TYPE_SECTION) for c in sections]


def test_orphans_that_were_adopted_are_named_by_the_next_segment(make_writer):
    """So that the run after this one need not read the packs themselves."""
    store = MemoryBackend()
    dead = make_writer(store)
    _submit(dead, TEXT)
    dead.flush_data()
    (segment,) = [info.name for info in store.list("index/")]
    ((pack_id, table),) = [(p, bytes(t)) for p, t in read_segment(store, KEYRING, segment, len(store.get(segment)))]
    store.delete(segment)

    index = ChunkIndex()
    index.add_table(pack_id, table)
    writer = make_writer(store, index, adopted=[(pack_id, table)])
    writer.flush_data()
    assert {pack_id} == load_index(store, KEYRING)[0].pack_ids()
    assert [KEYRING.ids.chunk_id(TEXT)] == pack_ids(table)


def test_a_pack_that_is_there_already_is_no_error(make_writer, monkeypatch):
    """A put whose reply was lost, done again: named by its content, it is this very pack."""
    store = MemoryBackend()
    monkeypatch.setattr(
        MemoryBackend, "put", lambda self, name, parts, put=MemoryBackend.put: _twice(self, name, parts, put)
    )
    writer = make_writer(store)
    pending = _submit(writer, TEXT)
    writer.flush_data()
    assert TEXT == _reader(store).read(pending.chunk_id, TYPE_DATA)


def _twice(store, name, parts, put):
    from coffer.errors import ObjectExistsError

    put(store, name, parts)
    raise ObjectExistsError("there already")


def test_packs_that_no_segment_names_yet_are_told(make_writer):
    """A run that fails leaves them to the next; after a flush there are none."""
    writer = make_writer(MemoryBackend(), pack_size_bytes=1)
    chunk = _submit(writer, TEXT)
    writer._drain()
    assert [chunk.chunk_id] == [found for _, table in writer.unnamed for found in pack_ids(table)]
    writer.flush_data()
    assert [] == writer.unnamed


@pytest.mark.parametrize("length", [0, -1, MAX_RAW_BYTES + 1])
def test_a_chunk_of_an_impossible_length_is_the_programmers_mistake(make_writer, length):
    """None is empty, none is over the cap of reading (I7)."""
    with pytest.raises(ValueError, match=f"chunk of {length} bytes"):
        make_writer(MemoryBackend()).submit([b""], length)


def test_one_worker_for_each_core_is_the_default(make_writer):
    """Where no count is given."""
    before = threading.active_count()
    make_writer(MemoryBackend(), workers=0)
    assert (os.cpu_count() or 1) == threading.active_count() - before


def test_closing_ends_the_workers_and_may_be_repeated(make_writer):
    """Nothing that was not flushed is put."""
    store = Recorder()
    before = threading.active_count()
    writer = make_writer(store)
    _submit(writer, TEXT)
    writer.close()
    writer.close()
    assert (before, []) == (threading.active_count(), store.put_names)


# ------------------------------------------------------------------------------------------------ failing


@pytest.mark.parametrize(
    ("kind", "error"), [(FaultKind.FULL, BackendFullError), (FaultKind.FAIL_BEFORE, BackendUnavailableError)]
)
def test_a_store_that_fails_ends_the_writer(make_writer, kind, error):
    """The same error again and again, from the flush and from the next chunk; code, hint and cause are kept."""
    with FaultyBackend(MemoryBackend(), [Fault(kind, method="put")]) as store:
        writer = make_writer(store, pack_size_bytes=20_000)
        with pytest.raises(error):
            _fill(writer)
        with pytest.raises(error) as again:
            writer.flush_data()
        assert error.default_hint == again.value.hint
        with pytest.raises(error):
            _submit(writer, b"more")


def test_a_chunk_on_its_way_tells_of_the_failure(make_writer, monkeypatch):
    """Whoever waits for its id does not wait for ever."""
    writer = make_writer(MemoryBackend(), workers=1)
    broken = ObjectCorruptError("broken")

    def fail(*_):
        raise broken

    monkeypatch.setattr(Compressor, "compress", fail)
    first, second = _submit(writer, b"one"), None
    with pytest.raises(ObjectCorruptError, match="broken"):
        first.chunk_id  # noqa: B018 - the property waits and raises
    with pytest.raises(ObjectCorruptError, match="broken"):
        second = _submit(writer, b"two")
    assert second is None


def test_a_chunk_that_is_waited_for_takes_little_memory(make_writer):
    """A large file has thousands on their way at a time; a lock for each would be more than the chunk's own row."""
    writer = make_writer(MemoryBackend())
    _submit(writer, TEXT)
    writer.flush_data()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        pending = [_submit(writer, TEXT) for _ in range(2000)]
        writer.flush_data()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 400 * len(pending)


def test_an_error_that_is_none_of_ours_comes_through_as_it_is(make_writer, monkeypatch):
    """A programmer's mistake in a worker is not dressed up as a store's failure."""
    writer = make_writer(MemoryBackend())
    monkeypatch.setattr(Compressor, "compress", lambda *_: 1 / 0)
    _submit(writer, b"one")
    with pytest.raises(ZeroDivisionError):
        writer.flush_data()


def test_a_chunk_that_does_not_decompress_is_not_stored(make_writer, monkeypatch):
    """An encoder's bug, or a bit that flipped in memory, must not become a bad backup."""
    store = Recorder()
    writer = make_writer(store)
    whole = Compressor.compress
    monkeypatch.setattr(Compressor, "compress", lambda self, data: whole(self, data[:-1] + b"?"))
    _submit(writer, TEXT)
    with pytest.raises(ObjectCorruptError, match="new chunk") as caught:
        writer.flush_data()
    assert "memory" in caught.value.hint
    assert [] == store.put_names


def test_a_frame_that_does_not_open_ends_the_writer(make_writer, monkeypatch):
    """Its pack is spent and never put."""
    store = Recorder()
    writer = make_writer(store)
    monkeypatch.setattr(ObjectKey, "open", lambda *_: b"?")
    _submit(writer, TEXT)
    with pytest.raises(ObjectCorruptError, match="does not open to what was sealed"):
        writer.flush_data()
    assert [] == store.put_names


def test_chunks_wait_while_too_much_is_under_way(make_writer, monkeypatch):
    """The memory of what waits is bounded, whatever the size of the data; a larger chunk passes alone."""
    monkeypatch.setattr(writer_module, "_IN_FLIGHT_BYTES", 10_000)
    most = 0
    release = threading.Event()
    whole = Compressor.compress

    def slow(self, data):
        nonlocal most
        most = max(most, writer._in_flight_bytes)
        release.wait(10)
        return whole(self, data)

    writer = make_writer(MemoryBackend())
    monkeypatch.setattr(Compressor, "compress", slow)
    feeder = threading.Thread(target=lambda: [_submit(writer, _noise(seed)) for seed in range(6)])
    feeder.start()
    feeder.join(0.2)
    assert feeder.is_alive(), "six chunks of 5,000 bytes were taken, though only two may wait"
    release.set()
    feeder.join(10)
    _submit(writer, _noise(7, 20_000))
    writer.flush_data()
    assert most <= 20_000
    assert 7 == writer.stats.chunks_new
