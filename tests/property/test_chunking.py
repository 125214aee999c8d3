"""Chunks are the stream, within their bounds, wherever it comes from; and cuts stay where the content stays."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from coffer.chunking.cutter import ChunkParams, Cutter, bundle_is_cut
from coffer.compression import Compressor, decompress
from coffer.crypto.hashing import IdKeys

params = st.builds(
    lambda method, least, more, most: ChunkParams(
        method, min_bytes=least, avg_bytes=256 + more, max_bytes=max(1024, 256 + more) + most
    ),
    st.sampled_from(["cdc", "fixed"]),
    st.integers(64, 256),
    st.integers(0, 3000),
    st.integers(0, 5000),
)
seeds = st.binary(min_size=32, max_size=32).map(lambda key: IdKeys(key).chunker_seed)
# Long streams of few draws: pieces that come again, as in real files, and pieces that do not.
streams = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 400)).map(lambda pair: pair[0] * pair[1]), max_size=8
).map(b"".join)


def cut(data, chosen, seed, steps=(1 << 30,)):
    """Cut a stream that arrives in pieces of the given sizes, over and over."""
    at, turn = 0, 0

    def readinto(view):
        nonlocal at, turn
        piece = data[at : at + min(len(view), steps[turn % len(steps)])]
        view[: len(piece)] = piece
        at, turn = at + len(piece), turn + 1
        return len(piece)

    return list(Cutter(chosen, seed).cut(readinto))


@given(streams, params, seeds)
def test_chunks_are_the_stream_within_their_bounds(data, chosen, seed):
    """Joined they are the stream; only the last may be short; the same again gives the same."""
    chunks = cut(data, chosen, seed)
    assert data == b"".join(chunks)
    assert all(chosen.min_bytes <= len(chunk) <= chosen.max_bytes for chunk in chunks[:-1])
    assert all(1 <= len(chunk) <= chosen.max_bytes for chunk in chunks[-1:])
    assert chunks == cut(data, chosen, seed)


@given(streams, params, seeds, st.lists(st.integers(1, 5000), min_size=1, max_size=4))
def test_cuts_do_not_depend_on_how_the_stream_arrives(data, chosen, seed, steps):
    """Short reads, long reads, any mixture."""
    assert cut(data, chosen, seed) == cut(data, chosen, seed, steps)


@settings(max_examples=50)
@given(st.integers(0, 1000), seeds, st.binary(min_size=1, max_size=50), st.integers(0, 40_000))
def test_cuts_come_together_again_behind_an_insertion(number, seed, inserted, place):
    """Of content without patterns: what lies some maxima behind a change is cut as before."""
    chosen = ChunkParams(min_bytes=256, avg_bytes=1024, max_bytes=4096)
    data = Random(number).randbytes(60_000)
    before = cut(data, chosen, seed)
    after = cut(data[:place] + inserted + data[place:], chosen, seed)
    kept = sum(len(chunk) for chunk in set(before) & set(after))
    # Chunks before the place stay, and those behind it after a few: FastCDC finds a common cut within some means.
    assert kept >= len(data) - 8 * chosen.max_bytes


@given(st.integers(0, 10_000_000), st.integers(1, 600_000), st.binary(min_size=16, max_size=16))
def test_a_bundle_ends_between_its_bounds(size, last, content_id):
    """Never below the minimum, always at the maximum, and by size and content id alone."""
    chosen = ChunkParams()
    ends = bundle_is_cut(chosen, size, last, content_id)
    assert not (ends and size < chosen.bundle_min_bytes)
    assert ends or size < chosen.bundle_max_bytes
    assert ends == bundle_is_cut(chosen, size, last, content_id)


@settings(max_examples=50)
@given(streams, st.integers(1, 9))
def test_compression_comes_back(data, level):
    """Whatever the content and the level, and whether it was worth it or not."""
    codec, payload = Compressor(level).compress(data)
    assert data == decompress(codec, memoryview(payload), len(data), "x")
    assert len(payload) <= len(data)
