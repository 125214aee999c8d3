"""The manifest in the making: blocks wait for open bundles, large ones are split, sparse bundles are told."""

from __future__ import annotations

import os
import random

import pytest

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.repository.manifest import ManifestReader
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly import blockcut, drafts
from tests.harness.backups import write_tree


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of some sixty entries."""
    monkeypatch.setattr(blockcut, "MIN_ENTRIES", 32)
    monkeypatch.setattr(blockcut, "_MEAN_BEYOND", 32)
    monkeypatch.setattr(blockcut, "MAX_ENTRIES", 256)


def blocks_of(bench, result):
    return bench.repo.manifest(result.snapshot).root.blocks


def test_many_blocks_may_wait_for_one_bundle(bench, small_blocks):
    """Files so small that one bundle spans many blocks: it is closed early, and every block is whole."""
    write_tree(bench.root, {f"{n // 20:03}/{n:04}": b"%d" % n for n in range(1000)})
    result = bench.back_up()
    assert len(blocks_of(bench, result)) > drafts._MAX_WAITING
    bench.assert_saved(result)
    second = bench.back_up()
    assert blocks_of(bench, result) == blocks_of(bench, second)


def test_a_block_too_large_for_a_chunk_is_split(bench, monkeypatch):
    """Halved until it fits; the parts are looked at entry by entry next time, and all comes back."""
    monkeypatch.setattr(drafts, "MAX_BLOCK_EXTENTS", 40)
    draw = random.Random(3)
    write_tree(bench.root, {f"{n:02}": draw.randbytes(20_000) for n in range(12)})
    result = bench.back_up()
    assert len(blocks_of(bench, result)) >= 3
    bench.assert_saved(result)
    second = bench.back_up()
    bench.assert_saved(second)
    assert (0, 12) == (second.stats["read_bytes"], second.stats["files_unchanged"])


def test_one_entry_alone_is_never_split(bench, monkeypatch):
    """There is nothing to halve."""
    monkeypatch.setattr(drafts, "MAX_BLOCK_EXTENTS", 1)
    write_tree(bench.root, {"large": os.urandom(30_000)})
    bench.assert_saved(bench.back_up())


def test_manifests_larger_than_their_pack_are_put_while_the_run_goes_on(bench, small_blocks, monkeypatch):
    """Full manifest packs do not gather in memory: they are flushed, data first, and the run goes on."""
    flushed = []
    real = ChunkWriter.flush_meta

    def flush_meta(writer):
        flushed.append(writer.meta_backlog)
        real(writer)

    monkeypatch.setattr(ChunkWriter, "flush_meta", flush_meta)
    write_tree(bench.root, {f"{n // 20:03}/{n:04}": os.urandom(20) for n in range(1000)})
    result = bench.back_up(pack_size_bytes=4000)
    assert len(flushed) > 2
    assert max(flushed) >= 1
    bench.assert_saved(result)


class TestAccount:
    """Which bundles are sparse is counted over the whole manifest, or not at all."""

    def prepare(self, bench):
        write_tree(bench.root, {f"{n // 20:03}/{n:04}": os.urandom(100) for n in range(600)})
        first = bench.back_up()
        for n in range(80):  # the first bundle holds at least twenty of them
            if n != 3:
                (bench.root / f"{n // 20:03}" / f"{n:04}").unlink()
        return first

    def test_unchanged_blocks_count_too(self, bench, small_blocks):
        """They are read again for the count; only what is less than half alive is sparse."""
        self.prepare(bench)
        second = bench.back_up()
        sparse = bench.repo.manifest(second.snapshot).root.sparse
        assert 0 < len(sparse) < 5
        third = bench.back_up()
        assert third.stats["read_bytes"] < 5000
        bench.assert_saved(third)

    def test_a_large_manifest_is_looked_through_every_eighth_time(self, bench, small_blocks, monkeypatch):
        """Beyond a number of unchanged blocks the count waits for its turn."""
        monkeypatch.setattr(drafts, "_FULL_ACCOUNT_BLOCKS", 2)
        self.prepare(bench)
        found = []
        for n in range(8):
            (bench.root / "020" / f"{n + 400:04}").write_bytes(b"changed")
            result = bench.back_up()
            found.append(bool(bench.repo.manifest(result.snapshot).root.sparse))
        assert [False] * 6 + [True, False] == found, "sequence 2 to 9: the eighth snapshot"
        bench.assert_saved(result)

    def test_a_block_that_cannot_be_read_ends_the_count(self, bench, small_blocks, monkeypatch):
        """A count that misses a block would call live bundles dead: then none is sparse."""
        self.prepare(bench)
        real_finish = drafts.ManifestDraft.finish

        def finish(draft, *args):
            def broken(reader, block):
                raise ObjectCorruptError("block: damaged")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ManifestReader, "groups", broken)
                return real_finish(draft, *args)

        monkeypatch.setattr(drafts.ManifestDraft, "finish", finish)
        second = bench.back_up()
        assert frozenset() == bench.repo.manifest(second.snapshot).root.sparse
        bench.assert_saved(second)


def test_a_root_too_large_for_a_chunk_is_one_clear_error(bench, small_blocks, monkeypatch):
    """Some 300 million entries: the run says what the remedy is, and commits nothing."""
    monkeypatch.setattr(drafts, "MAX_RAW_BYTES", 4096)
    write_tree(bench.root, {f"{n:02}/{m:03}": b"" for n in range(60) for m in range(40)})
    with pytest.raises(SizeLimitError, match="manifest: root of") as caught:
        bench.back_up()
    assert caught.value.hint.startswith("Divide the source")
    assert [] == bench.repo.snapshots()
