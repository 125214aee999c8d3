"""Contents on their way: large files in bounded memory, with lists of what is stored, and long holes between them."""

from __future__ import annotations

import errno
import os
import random
import tracemalloc

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.repository.entries import Extent
from coffer.repository.index import ChunkIndex
from coffer.repository.manifest import decode_list
from coffer.repository.pack import TYPE_LIST
from coffer.repository.reader import ChunkReader
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly import extents as module
from coffer.sources.assembly.extents import MAX_DIRECT_EXTENTS, LargeContent
from tests.harness.backups import write_tree
from tests.harness.keyrings import make_keyring

KEYRING = make_keyring()
PIECES = [b"%d" % n for n in range(7)]


class Store:
    """A writer, and what reads back what it wrote."""

    def __init__(self):
        self._backend, self._index = MemoryBackend(), ChunkIndex()
        self.writer = ChunkWriter(self._backend, KEYRING, self._index, workers=1)

    def content(self):
        return LargeContent(KEYRING.ids, self.writer)

    def expanded(self, content):
        """The extents with lists resolved."""
        self.writer.flush_meta()
        reader = ChunkReader(self._backend, KEYRING, self._index)
        found = []
        for extent in content.extents:
            listed = decode_list(reader.read(extent.chunk_id, TYPE_LIST), "x") if extent.indirect else [extent]
            assert sum(part.length for part in listed) == extent.length
            found += listed
        return found


@pytest.fixture
def store():
    made = Store()
    yield made
    made.writer.close()


def fill(content, count):
    """Add so many chunks and return their extents."""
    for n in range(count):
        content.add(PIECES[n % 7], whole=False)
    return [Extent(KEYRING.ids.chunk_id(PIECES[n % 7]), 0, len(PIECES[n % 7])) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, MAX_DIRECT_EXTENTS, MAX_DIRECT_EXTENTS + 1, 2 * MAX_DIRECT_EXTENTS, 5000])
def test_lists_hold_a_thousand_extents_each_whenever_they_are_made(store, count):
    """The same file gives the same lists and the same id, those of its extents one after the other."""
    content = store.content()
    expected = fill(content, count)
    done = content.resolve()
    assert done is content.resolve()
    assert count > MAX_DIRECT_EXTENTS or list(done.extents) == expected
    assert count <= MAX_DIRECT_EXTENTS or len(done.extents) == -(-count // MAX_DIRECT_EXTENTS)
    assert expected == store.expanded(done)
    assert KEYRING.ids.extents_id((e.chunk_id, e.offset, e.length) for e in expected) == done.content_id


def test_a_file_of_very_many_chunks_takes_bounded_memory(store):
    """What is stored is folded while the rest is read: a file of TiB must not need GiB."""
    content = store.content()
    fill(content, 2 * MAX_DIRECT_EXTENTS)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        fill(content, 30 * MAX_DIRECT_EXTENTS)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20 * 30 * MAX_DIRECT_EXTENTS, "less than 20 bytes per chunk"


@pytest.mark.parametrize("hole", [1, 1 << 32, (1 << 40) - 1, 1 << 40, 4 << 50, 7 << 60])
@pytest.mark.parametrize("at", [0, 600, 1023, 1024, 1200])
def test_a_hole_of_any_length_fits_among_lists(store, hole, at):
    """A list has a row for each 4 GiB of a hole; 4 PiB would be more than a chunk, 7 EiB more than the memory."""
    content = store.content()
    expected = []
    for n in range(1200):
        if n == at:
            content.add_hole(hole)
            expected.append(Extent(None, 0, hole))
        expected += fill(content, 1)
    if at == 1200:
        content.add_hole(hole)
        expected.append(Extent(None, 0, hole))
    done = content.resolve()
    assert len(done.extents) <= 4
    assert expected == store.expanded(done)
    assert KEYRING.ids.extents_id((e.chunk_id, e.offset, e.length) for e in expected) == done.content_id


def test_holes_that_meet_are_one(store):
    """As where data between them was cut off while the file was read: a list would give them back as one."""
    content = store.content()
    content.add_hole(5)
    content.add_hole(7)
    assert (Extent(None, 0, 12),) == content.resolve().extents


@pytest.mark.parametrize(("adds", "is_named_by_its_bytes"), [(1, True), (2, False)])
def test_a_file_in_one_piece_has_the_id_of_its_content(store, adds, is_named_by_its_bytes):
    """As a bundled one has: a copy of it is found by it."""
    content = store.content()
    for _ in range(adds):
        content.add(b"whole", whole=True)
    assert is_named_by_its_bytes == (KEYRING.ids.content_id(b"whole") == content.resolve().content_id)


def test_a_file_of_more_extents_than_a_block_takes_is_a_warning(bench, monkeypatch):
    """It cannot be saved, whatever is done; every other file of the tree is."""
    monkeypatch.setattr(module, "_FOLD_AT", 20)
    monkeypatch.setattr(module, "MAX_DIRECT_EXTENTS", 10)
    monkeypatch.setattr(module, "_MAX_FOLDED", 2)
    write_tree(bench.root, {"good": b"x", "huge": random.Random(1).randbytes(200_000)})
    result = bench.back_up()
    expected = (os.fsencode(bench.root / "huge"), f"unreadable: {os.strerror(errno.EFBIG)}")
    assert [expected] == [(w.path, w.message) for w in result.warnings]
    assert os.fsencode(bench.root / "good").strip(b"/") in bench.saved(result)
