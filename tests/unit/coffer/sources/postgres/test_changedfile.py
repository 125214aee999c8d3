"""A file of changed blocks becomes the whole file: sent blocks, old ones where they are left, and zeroes."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from coffer.errors import ObjectCorruptError, SourceFormatError
from coffer.errors_postgres import PostgresIncrementalAuditError, PostgresIncrementalRefusedError
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import parse_relation_path
from coffer.sources.postgres.changedfile import ChangedFile
from coffer.sources.postgres.clustertree import make_row
from coffer.sources.postgres.incremental_file import MAGIC
from coffer.sources.postgres.pagefile import PIECE_BYTES
from coffer.sources.postgres.summary_audit import ExpectedChanges, Fork
from tests.harness.page_bench import MODE, PageBench, changed

PATH = b"base/5/16384"
FORK = Fork(1663, 5, 16384, 0)


class SentFile:
    """A file of changed blocks as the server sends it: block -> page."""

    def __init__(self, pages, truncation, changes=None):
        numbers = np.array([MAGIC, len(pages), truncation, *pages], "<u4").tobytes()
        self.data = numbers + bytes(-len(numbers) % PAGE_BYTES if pages else 0) + b"".join(pages.values())
        self.changes = changes or ExpectedChanges()

    def store(self, bench, pages, tree, path):
        file = ChangedFile(pages, bench.old, self.changes, path, parse_relation_path(path))
        for at in range(0, len(self.data), PIECE_BYTES):
            file.add(self.data[at : at + PIECE_BYTES], len(self.data))
        content, digests = file.finish()
        tree.add_pages(path, make_row(MODE, 0, 0, content.size_bytes, 0), content, digests)


def pages_of(data, blocks):
    """Return block -> page."""
    return {block: data[block * PAGE_BYTES : (block + 1) * PAGE_BYTES] for block in sorted(blocks)}


@pytest.fixture
def bench():
    return PageBench()


def test_only_what_was_sent_is_stored(bench):
    """The rest refers to the snapshot before, also its digests."""
    before = random.Random(1).randbytes(900 * PAGE_BYTES)
    bench.store({PATH: before})
    blocks = [0, 5, 6, 7, 400, 898]
    after = changed(before, blocks, 2)
    manifest = bench.store({PATH: SentFile(pages_of(after, blocks), 900)})
    bench.must_hold(manifest, {PATH: after})
    assert (6, 6) == (bench.counts.read, bench.counts.changed)
    assert bench.stored_bytes < 6 * (PAGE_BYTES + 16) + 12_000


def test_a_file_without_a_change_is_kept_as_it_is(bench):
    """Its content is taken over whole: not one extent of it is looked at."""
    before = random.Random(2).randbytes(300 * PAGE_BYTES)
    entry = bench.store({PATH: before}).find(PATH)
    manifest = bench.store({PATH: SentFile({}, 300)})
    bench.must_hold(manifest, {PATH: before})
    assert entry.content == manifest.find(PATH).content
    assert 0 == bench.counts.changed


def test_old_pages_behind_a_cut_become_zeroes(bench):
    """The stock tools take the old page: rows that were deleted come back."""
    before = random.Random(3).randbytes(100 * PAGE_BYTES)
    bench.store({PATH: before})
    changes = ExpectedChanges()
    changes.cut(FORK, 10)
    changes.add(FORK, 0, np.array([70]))
    new = random.Random(4).randbytes(PAGE_BYTES)
    manifest = bench.store({PATH: SentFile({70: new}, 100, changes)})
    expected = before[: 10 * PAGE_BYTES] + bytes(60 * PAGE_BYTES) + new + bytes(29 * PAGE_BYTES)
    bench.must_hold(manifest, {PATH: expected})


def test_a_longer_file_has_zeroes_behind_the_old_one(bench):
    """Pages that bulk insertion added and nobody wrote to are not in the WAL."""
    before = random.Random(5).randbytes(20 * PAGE_BYTES)
    bench.store({PATH: before})
    new = random.Random(6).randbytes(PAGE_BYTES)
    manifest = bench.store({PATH: SentFile({30: new}, 40)})
    bench.must_hold(manifest, {PATH: before + bytes(10 * PAGE_BYTES) + new + bytes(9 * PAGE_BYTES)})


def test_a_sent_block_makes_the_file_as_long_as_it_needs(bench):
    """A block behind the length that the header names."""
    before = random.Random(7).randbytes(4 * PAGE_BYTES)
    bench.store({PATH: before})
    new = random.Random(8).randbytes(PAGE_BYTES)
    manifest = bench.store({PATH: SentFile({6: new}, 2)})
    bench.must_hold(manifest, {PATH: before[: 2 * PAGE_BYTES] + bytes(4 * PAGE_BYTES) + new})


def test_a_shorter_file_ends_where_it_ends(bench):
    """What was cut off and not grown again is not there."""
    before = random.Random(9).randbytes(50 * PAGE_BYTES)
    bench.store({PATH: before})
    manifest = bench.store({PATH: SentFile({}, 12)})
    bench.must_hold(manifest, {PATH: before[: 12 * PAGE_BYTES]})


def test_a_visibility_map_does_not_grow_by_blocks_of_its_heap(bench):
    """The header names what the heap was cut to; a map that long would be a gigabyte of zeroes."""
    path = PATH + b"_vm"
    before = random.Random(14).randbytes(3 * PAGE_BYTES)
    bench.store({path: before})
    changes = ExpectedChanges()
    changes.cut(FORK, 40_000)
    changes.cut(FORK._replace(fork=2), 40_000)
    manifest = bench.store({path: SentFile({0: b"m" * PAGE_BYTES}, 40_000, changes)})
    bench.must_hold(manifest, {path: b"m" * PAGE_BYTES + before[PAGE_BYTES : 2 * PAGE_BYTES]})


def test_an_empty_file_that_grew_is_what_was_sent(bench):
    """The snapshot before has no page of it."""
    bench.store({PATH: b""})
    new = random.Random(10).randbytes(3 * PAGE_BYTES)
    manifest = bench.store({PATH: SentFile(pages_of(new, [0, 2]), 3)})
    bench.must_hold(manifest, {PATH: new[:PAGE_BYTES] + bytes(PAGE_BYTES) + new[2 * PAGE_BYTES :]})
    manifest = bench.store({PATH: SentFile({}, 0)})
    bench.must_hold(manifest, {PATH: b""})


def test_many_zeroes_have_digests(bench):
    """More of them than a chunk of digests holds, and the next backup compares with them."""
    bench.store({PATH: b"x" * PAGE_BYTES})
    manifest = bench.store({PATH: SentFile({}, 70_000)})
    expected = b"x" * PAGE_BYTES + bytes(69_999 * PAGE_BYTES)
    bench.must_hold(manifest, {PATH: expected})
    manifest = bench.store({PATH: expected})
    bench.must_hold(manifest, {PATH: expected})
    assert 0 == bench.counts.changed


def test_a_block_that_must_be_there_and_is_not_ends_the_attempt(bench):
    """Before anything of the file is believed."""
    before = random.Random(11).randbytes(30 * PAGE_BYTES)
    bench.store({PATH: before})
    changes = ExpectedChanges()
    changes.add(FORK, 0, np.array([3, 20]))
    with pytest.raises(PostgresIncrementalAuditError, match="block 20"):
        bench.store({PATH: SentFile(pages_of(before, [3]), 30, changes)})


def test_a_file_that_the_snapshot_does_not_have_ends_the_attempt(bench):
    """Nothing could be put between the blocks."""
    bench.store({b"base/5/1": b"x" * PAGE_BYTES})
    with pytest.raises(PostgresIncrementalRefusedError, match="does not have it"):
        bench.store({PATH: SentFile({}, 1)})


def test_chunks_that_are_gone_end_the_attempt(bench, monkeypatch):
    """Kept whole or page by page: a snapshot never refers to what the store does not have."""
    before = random.Random(12).randbytes(30 * PAGE_BYTES)
    bench.store({PATH: before})
    index = bench.repo.index()
    old = bench.old
    old.find(PATH)  # the manifest is read by now
    for pack_id in list(index.pack_ids()):
        index.forget_pack(pack_id)
    monkeypatch.setattr(type(bench.repo), "adopt_packs", lambda self: ([], []))  # it would find them again
    for sent in (SentFile({}, 30), SentFile(pages_of(before, [3]), 30)):
        bench.old = old
        with pytest.raises(PostgresIncrementalRefusedError, match="not have all pages"):
            bench.store({PATH: sent})


def test_lists_that_do_not_open_end_the_attempt(bench, monkeypatch):
    """The error says which file it was."""
    before = random.Random(13).randbytes(300 * PAGE_BYTES)
    bench.store({PATH: before})
    bench.store({PATH: changed(before, range(0, 300, 4), 1)})  # so scattered that it has a list

    def fail(content):
        raise ObjectCorruptError("damaged")
        yield content

    monkeypatch.setattr(bench.old._manifest, "expand", fail)
    with pytest.raises(PostgresIncrementalRefusedError, match="16384"):
        bench.store({PATH: SentFile(pages_of(before, [3]), 300)})


def test_a_file_with_half_a_page_ends_the_attempt(bench):
    """It was caught while it grew; which half would be whose cannot be told."""
    bench.store({PATH: b"x" * (PAGE_BYTES * 3 // 2)})
    with pytest.raises(PostgresIncrementalRefusedError, match="16384"):
        bench.store({PATH: SentFile({}, 2)})


@pytest.mark.parametrize("blocks", [[3, 2], [9, 1, 5]])
def test_blocks_out_of_order_are_refused(bench, blocks):
    """The pages come in the order of the numbers, and the file is written from its begin."""
    bench.store({PATH: b"x" * (10 * PAGE_BYTES)})
    sent = SentFile({}, 10)
    sent.data = SentFile(dict.fromkeys(blocks, b"y" * PAGE_BYTES), 10).data
    with pytest.raises(SourceFormatError, match="order"):
        bench.store({PATH: sent})


def test_nothing_at_all_is_refused(bench):
    """A file of changed blocks has a header at least."""
    bench.store({PATH: b"x" * PAGE_BYTES})
    sent = SentFile({}, 1)
    sent.data = b""
    with pytest.raises(SourceFormatError, match="without a header"):
        bench.store({PATH: sent})


def step_of(draw, before, number):
    """Return (the file after some cuts and writes, what was sent, what summaries say) for one step of a chain."""
    pages = len(before) // PAGE_BYTES
    changes = ExpectedChanges()
    data, written = before, set()
    for _ in range(draw.randrange(1, 4)):
        if draw.random() < 0.5:
            cut = draw.randrange(len(data) // PAGE_BYTES + 1)
            data = data[: cut * PAGE_BYTES]
            written = {block for block in written if block < cut}
            changes.cut(FORK, cut)
        data += bytes(draw.randrange(300) * PAGE_BYTES)  # as bulk insertion extends: without WAL
        if data:
            count = len(data) // PAGE_BYTES
            blocks = draw.sample(range(count), draw.randrange(0, min(count, 150)))
            data = changed(data, blocks, number)
            written.update(blocks)
            changes.add(FORK, 0, np.array(blocks or [0]))
            written.update([] if blocks else [0])
    extra = draw.sample(range(pages), min(pages, 5))  # the server may send more than it must
    sent = sorted(written | {block for block in extra if block * PAGE_BYTES < len(data)})
    return data, SentFile(pages_of(data, sent), len(data) // PAGE_BYTES, changes)


@pytest.mark.parametrize("seed", range(12))
def test_every_snapshot_of_a_chain_is_whole(bench, seed):
    """Cut, grown and written in any order, and sometimes compared whole between: each has its own moment's bytes."""
    draw = random.Random(seed)
    data = draw.randbytes(draw.randrange(1, 400) * PAGE_BYTES)
    kept = [(bench.store({PATH: data}), data)]
    for number in range(7):
        data, sent = step_of(draw, data, number)
        kept.append((bench.store({PATH: data if draw.random() < 0.3 else sent}), data))
    for manifest, expected in kept:
        bench.must_hold(manifest, {PATH: expected})
    assert all(one is not other for (one, _), (other, _) in pairwise(kept))
