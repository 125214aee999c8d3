"""zstd in and out, and no trust in the sizes that a frame declares (I7)."""

import threading
import tracemalloc
from random import Random

import pytest
import zstandard

from coffer.compression import CODEC_RAW, CODEC_ZSTD, LEVEL_OFF, Compressor, decompress
from coffer.errors import ObjectCorruptError

TEXT = b"a line of text that comes again and again\n" * 20_000
NOISE = Random(1).randbytes(500_000)


@pytest.mark.parametrize("level", [1, 3, 9])
@pytest.mark.parametrize("size", [1, 100, 10_000, len(TEXT)])
def test_text_comes_back(level, size):
    """Compressed or not, the plaintext is the same."""
    codec, payload = Compressor(level).compress(TEXT[:size])
    assert TEXT[:size] == decompress(codec, payload, size, "x")


def test_text_shrinks():
    """More than tenfold, for lines that repeat."""
    codec, payload = Compressor(3).compress(TEXT)
    assert CODEC_ZSTD == codec
    assert len(payload) < len(TEXT) / 10


@pytest.mark.parametrize("size", [1, 1000, 127 * 1024, 128 * 1024, 500_000])
def test_noise_is_stored_as_it_is(size):
    """The payload is the very data: nothing is gained by compressing it, and nothing copied."""
    data = NOISE[:size]
    codec, payload = Compressor(3).compress(data)
    assert CODEC_RAW == codec
    assert payload is data
    assert data == decompress(codec, payload, size, "x")


def test_a_compressible_part_is_found_by_the_samples():
    """Half noise, half text: some sample shrinks, so the chunk is compressed."""
    data = NOISE + TEXT
    codec, payload = Compressor(3).compress(data)
    assert CODEC_ZSTD == codec
    assert data == decompress(codec, payload, len(data), "x")


def test_a_large_chunk_is_compressed_over_its_whole_length():
    """Beyond 2 MiB the window covers the chunk: the same noise 3 MiB later costs nearly nothing."""
    apart = NOISE + bytes(3 * 1024 * 1024) + NOISE
    codec, payload = Compressor(3).compress(apart)
    assert CODEC_ZSTD == codec
    assert len(payload) < 1.1 * len(NOISE)
    assert apart == decompress(codec, payload, len(apart), "x")


def test_compressing_is_deterministic_within_one_version():
    """The same bytes at the same level give the same payload."""
    assert Compressor(3).compress(TEXT) == Compressor(3).compress(TEXT)


@pytest.mark.parametrize("data", [TEXT, TEXT[:100], bytes(5 << 20)])
def test_level_0_stores_everything_as_it_is(data):
    """Whatever would shrink: zstd itself would take 0 for its default level."""
    codec, payload = Compressor(LEVEL_OFF).compress(data)
    assert CODEC_RAW == codec
    assert payload is data


@pytest.mark.parametrize("codec", [2, 7, 255])
def test_an_unknown_codec_is_corrupt(codec):
    """No guess is made."""
    with pytest.raises(ObjectCorruptError, match=f"unknown codec {codec}"):
        decompress(codec, b"x", 1, "x")


@pytest.mark.parametrize("codec", [CODEC_RAW, CODEC_ZSTD])
@pytest.mark.parametrize("off_by", [-1, 1])
def test_another_length_than_the_authenticated_one_is_corrupt(codec, off_by):
    """Both for stored and for compressed chunks."""
    payload = TEXT if codec == CODEC_RAW else zstandard.compress(TEXT)
    with pytest.raises(ObjectCorruptError):
        decompress(codec, payload, len(TEXT) + off_by, "x")


def _without_size(data):
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"(\xb5/\xfd",
        b"not a frame at all",
        zstandard.compress(TEXT)[:-5],
        zstandard.compress(TEXT) + b"tail",
        zstandard.compress(TEXT) + zstandard.compress(b"again"),
        _without_size(TEXT),
    ],
    ids=["empty", "magic", "other", "cut", "tail", "two frames", "no size"],
)
def test_a_damaged_frame_is_corrupt(payload):
    """Cut, followed by more, or without the size that is compared."""
    with pytest.raises(ObjectCorruptError):
        decompress(CODEC_ZSTD, payload, len(TEXT), "x")


def test_a_frame_that_declares_a_huge_size_takes_no_memory():
    """A frame header of some bytes may say 2^50: the authenticated length is compared first (I7)."""
    bomb = bytearray(zstandard.compress(bytes(1 << 20)))
    # Frame header descriptor: a content size of 8 bytes, single segment (RFC 8878, §3.1.1.1).
    huge = b"(\xb5/\xfd" + bytes((0b1110_0000,)) + (1 << 50).to_bytes(8, "little") + bytes(bomb[9:])
    tracemalloc.start()
    try:
        with pytest.raises(ObjectCorruptError, match="another length"):
            decompress(CODEC_ZSTD, huge, 1 << 20, "x")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_a_bomb_stops_at_the_authenticated_length():
    """A frame whose blocks hold more than it declares does not grow beyond what was asked for."""
    honest = zstandard.compress(bytes(1 << 24))
    assert 1 << 24 == zstandard.frame_content_size(honest)
    descriptor = honest[4]
    size_at = 5 if descriptor & 0x20 else 6
    lying = honest[:size_at] + (1 << 16).to_bytes(4, "little") + honest[size_at + 4 :]
    assert 1 << 16 == zstandard.frame_content_size(lying)
    with pytest.raises(ObjectCorruptError):
        decompress(CODEC_ZSTD, lying, 1 << 16, "x")


def test_threads_decompress_side_by_side():
    """Each thread has a context of its own."""
    codec, payload = Compressor(3).compress(TEXT)
    results = []

    def work():
        results.extend(decompress(codec, memoryview(payload), len(TEXT), "x") == TEXT for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 80 == results
