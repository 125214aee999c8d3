"""Files of a snapshot read without being written."""

import random

import pytest

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.restore.cluster.content import ChunkCache, pieces, read_small
from tests.harness.clusters import SmallCluster

LARGE = random.Random(3).randbytes(2_500_000)


@pytest.fixture(scope="module")
def made():
    return SmallCluster({b"large": LARGE, b"empty": b""})


def test_a_small_file_is_read_whole(made):
    """What is not there, or is a folder, is None; an empty one is empty."""
    manifest = made.repo.manifest(made.snapshot)
    assert b"15\n" == read_small(made.repo, manifest, b"PG_VERSION", 100)
    assert b"" == read_small(made.repo, manifest, b"empty", 100)
    assert LARGE == read_small(made.repo, manifest, b"large", len(LARGE))
    assert read_small(made.repo, manifest, b"base", 100) is None
    assert read_small(made.repo, manifest, b"nothing", 100) is None


def test_a_file_that_is_too_large_is_refused_before_it_is_read(made):
    """A hostile snapshot must not fill the memory (I7)."""
    with pytest.raises(SizeLimitError, match="large: has 2500000 bytes"):
        read_small(made.repo, made.repo.manifest(made.snapshot), b"large", 2_499_999)


@pytest.mark.parametrize("step", [1_000, 8192, 1 << 20, 3_000_000])
def test_a_large_file_comes_in_pieces_of_one_size(made, step):
    """They go over the borders of chunks; only the last one is shorter."""
    manifest = made.repo.manifest(made.snapshot)
    content = manifest.find(b"large").content
    found = list(pieces(ChunkCache(made.repo), manifest, content, step))
    assert LARGE == b"".join(found)
    assert {step} >= {len(piece) for piece in found[:-1]}


def test_a_run_beyond_its_chunk_is_damage(made):
    """No entry that a writer made asks for it; a hole is zeros."""
    manifest = made.repo.manifest(made.snapshot)
    extent = next(manifest.expand(manifest.find(b"PG_VERSION").content))
    cache = ChunkCache(made.repo)
    assert b"5\n" == bytes(cache.piece(extent.chunk_id, 1, 2))
    assert bytes(7) == bytes(cache.piece(None, 5, 7))
    with pytest.raises(ObjectCorruptError, match="a chunk of 3 bytes"):
        cache.piece(extent.chunk_id, 1, 3)
