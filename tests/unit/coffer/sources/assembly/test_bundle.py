"""Bundles join small files, each content once, and end where the content says."""

from __future__ import annotations

import random

import pytest

from coffer.chunking.cutter import ChunkParams
from coffer.ids import ContentId
from coffer.sources.assembly import bundle
from coffer.sources.assembly.bundle import Bundler, Known
from tests.harness.snapshots import SMALL_CHUNKS


class NotingWriter:
    """Takes chunks; their ids are their numbers."""

    def __init__(self):
        self.chunks = []

    def submit(self, parts, length):
        data = b"".join(parts)
        assert len(data) == length
        self.chunks.append(data)

        class Pending:
            chunk_id = len(self.chunks) - 1

        return Pending()


def content_id(data):
    return ContentId(random.Random(data).randbytes(16))


@pytest.fixture
def writer():
    return NotingWriter()


@pytest.fixture
def bundler(writer):
    return Bundler(writer, SMALL_CHUNKS)


def files(count, seed=1):
    draw = random.Random(seed)
    return [draw.randbytes(draw.randrange(1, 900)) for _ in range(count)]


def test_every_file_lies_where_it_was_said_to(bundler, writer):
    """In the bundle that was returned, at that offset; all of them in order."""
    placed = [(data, *bundler.add(data, content_id(data))) for data in files(200)]
    bundler.close()
    assert b"".join(data for data, _, _ in placed) == b"".join(writer.chunks)
    for data, where, offset in placed:
        assert data == writer.chunks[where.chunk_id][offset : offset + len(data)]


def test_bundles_are_cut_between_their_bounds(bundler, writer):
    """None shorter than the minimum but the last, none longer than the maximum and one file more."""
    for data in files(500):
        bundler.add(data, content_id(data))
    bundler.close()
    lengths = [len(chunk) for chunk in writer.chunks]
    assert SMALL_CHUNKS.bundle_min_bytes <= min(lengths[:-1])
    assert max(lengths) < SMALL_CHUNKS.bundle_max_bytes + 900


def test_files_that_come_again_are_cut_at_the_same_places(writer):
    """Behind other files, the same files soon fall into the same bundles: so a copied folder is stored once."""
    for before in (0, 7):
        bundler = Bundler(writer, SMALL_CHUNKS)
        for data in [*files(before, seed=9), *files(300)]:
            bundler.add(data, content_id(data))
        bundler.close()
    first = writer.chunks[: len(writer.chunks) // 2]
    again = set(writer.chunks[len(writer.chunks) // 2 :])
    assert len([chunk for chunk in first if chunk in again]) > 0.8 * len(first)


def test_a_content_is_found_while_it_is_young(bundler, monkeypatch):
    """Two generations of contents are remembered; one that is older than both is forgotten."""
    monkeypatch.setattr(bundle, "_GENERATION", 10)
    where = bundler.add(b"first", content_id(b"first"))
    assert where == bundler.find(content_id(b"first"))
    for n in range(10):
        bundler.add(b"%d" % n, content_id(b"%d" % n))
    assert where == bundler.find(content_id(b"first")), "it is in the older generation now"
    for n in range(10, 20):
        bundler.add(b"%d" % n, content_id(b"%d" % n))
    assert bundler.find(content_id(b"first")) is None
    assert bundler.find(content_id(b"19")) is not None


def test_what_is_stored_elsewhere_is_remembered_too(bundler):
    """A content found in the parent is found again without asking it."""
    known = (Known(b"c" * 32), 7)
    bundler.remember(content_id(b"x"), known)
    assert known == bundler.find(content_id(b"x"))


def test_numbers_say_which_bundles_are_closed(bundler, writer):
    """The open one has the highest; closing an empty one does nothing."""
    assert (0, True) == (bundler.number, bundler.is_empty)
    bundler.close()
    assert (0, []) == (bundler.number, writer.chunks)
    where, offset = bundler.add(b"x", content_id(b"x"))
    assert (0, 0, False) == (where.number, offset, bundler.is_empty)
    bundler.close()
    assert (1, True) == (bundler.number, bundler.is_empty)


def test_a_bundle_of_one_large_file_is_cut_behind_it(writer):
    """A file as long as the maximum ends its bundle."""
    params = ChunkParams(bundle_below_bytes=100, bundle_min_bytes=10, bundle_avg_bytes=10**9, bundle_max_bytes=50)
    bundler = Bundler(writer, params)
    bundler.add(b"a" * 60, content_id(b"a"))
    assert [b"a" * 60] == writer.chunks
