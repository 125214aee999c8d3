"""Where streams and bundles are cut."""

from dataclasses import replace
from random import Random

import pytest

from coffer.chunking.cutter import ChunkParams, Cutter, bundle_is_cut

SMALL = ChunkParams(min_bytes=1024, avg_bytes=4096, max_bytes=16384)
SEED = 0x1234_5678_9ABC_DEF1


def _reader(data, step=1 << 30):
    at = 0

    def readinto(view):
        nonlocal at
        piece = data[at : at + min(len(view), step)]
        view[: len(piece)] = piece
        at += len(piece)
        return len(piece)

    return readinto


def _cut(data, params=SMALL, seed=SEED, step=1 << 30):
    return list(Cutter(params, seed).cut(_reader(data, step)))


def test_an_empty_stream_has_no_chunks():
    """Nothing in, nothing out."""
    assert [] == _cut(b"")


@pytest.mark.parametrize("method", ["cdc", "fixed"])
@pytest.mark.parametrize("size", [1, 1023, 1024, 4096, 16384, 32767, 32768, 32769, 200_000])
def test_chunks_are_the_stream_within_their_bounds(method, size):
    """Joined they are the stream; only the last may be shorter than the minimum, none is longer than the maximum."""
    params = replace(SMALL, method=method)
    data = Random(size).randbytes(size)
    chunks = _cut(data, params)
    assert data == b"".join(chunks)
    assert max(map(len, chunks)) <= params.max_bytes
    assert all(len(chunk) >= params.min_bytes for chunk in chunks[:-1])


def test_fixed_blocks_are_all_of_one_size():
    """Cut at the average, whatever the content; the last is what is left."""
    params = replace(SMALL, method="fixed")
    assert [4096] * 9 + [100] == [len(chunk) for chunk in _cut(bytes(9 * 4096 + 100), params)]


@pytest.mark.parametrize("method", ["cdc", "fixed"])
@pytest.mark.parametrize("step", [1, 7, 1000, 32768])
def test_cuts_do_not_depend_on_how_the_stream_arrives(method, step):
    """Short reads give the very same chunks: a pipe and a file are cut alike."""
    params = replace(SMALL, method=method)
    data = Random(5).randbytes(70_000)
    assert _cut(data, params) == _cut(data, params, step=step)


def test_cuts_do_not_depend_on_the_window():
    """The chunks of a beginning, but for its last, are those of the whole stream: no cut is an artefact of ours."""
    data = Random(6).randbytes(150_000)
    whole = _cut(data)
    for size in range(20_000, 150_000, 9_973):
        part = _cut(data[:size])
        assert whole[: len(part) - 1] == part[:-1]


def test_a_cutter_is_used_again_without_memory_of_the_last_stream():
    """One cutter cuts many files; an abandoned cut leaves nothing behind."""
    data = Random(7).randbytes(100_000)
    cutter = Cutter(SMALL, SEED)
    first = list(cutter.cut(_reader(data)))
    abandoned = cutter.cut(_reader(Random(8).randbytes(100_000)))
    next(abandoned)
    assert first == list(cutter.cut(_reader(data)))


def test_chunks_are_copies():
    """A chunk keeps its bytes while the cutter goes on."""
    data = Random(9).randbytes(100_000)
    cutter = Cutter(SMALL, SEED)
    kept = []
    for chunk in cutter.cut(_reader(data)):
        assert isinstance(chunk, bytes)
        kept.append(chunk)
    list(cutter.cut(_reader(bytes(100_000))))
    assert data == b"".join(kept)


def test_another_seed_cuts_elsewhere():
    """The seed is secret: sizes of chunks tell nothing about a known file."""
    data = Random(10).randbytes(100_000)
    assert _cut(data) != _cut(data, seed=SEED + 2)
    assert data == b"".join(_cut(data, seed=SEED + 2))


def test_content_defined_cuts_are_found_again_after_an_insertion():
    """A byte put in front changes the chunks at hand, and none behind them."""
    data = Random(11).randbytes(200_000)
    before, after = _cut(data), _cut(b"!" + data)
    assert len(set(before) & set(after)) >= len(before) - 3


def test_an_error_of_the_reader_comes_through():
    """Whatever reading raises is the caller's to handle; nothing is swallowed."""

    def failing(view):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(Cutter(SMALL, SEED).cut(failing))


BUNDLES = ChunkParams(bundle_min_bytes=1000, bundle_avg_bytes=500, bundle_max_bytes=3000)


def test_a_bundle_is_never_cut_below_its_minimum_and_always_at_its_maximum():
    """Whatever the content ids say."""
    low, high = bytes(16), b"\xff" * 16
    assert not bundle_is_cut(BUNDLES, 999, 999, low)
    assert bundle_is_cut(BUNDLES, 1000, 1, low)
    assert not bundle_is_cut(BUNDLES, 2999, 1, high)
    assert bundle_is_cut(BUNDLES, 3000, 1, high)


def test_a_bundle_is_cut_after_a_large_file_for_sure():
    """The chance grows with the file's size: from the mean distance on it is one."""
    assert bundle_is_cut(BUNDLES, 1500, 500, b"\xff" * 16)
    assert not bundle_is_cut(BUNDLES, 1500, 499, b"\xff" * 16)


def test_the_mean_distance_of_bundle_cuts_does_not_depend_on_file_sizes():
    """Small and large files alike: beyond the minimum, a cut comes after bundle_avg_bytes on average (within 15 %)."""
    seeded = Random(12)
    params = replace(BUNDLES, bundle_avg_bytes=5_000, bundle_max_bytes=1 << 40)
    for size in (10, 100, 1_000):
        distances = []
        for _ in range(1_000):
            distance = size
            while not bundle_is_cut(params, 10_000 + distance, size, seeded.randbytes(16)):
                distance += size
            distances.append(distance)
        assert abs(sum(distances) / len(distances) - 5_000) < 750
