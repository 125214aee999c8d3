"""Columns of integers: exact over the whole range, compact, and bounded on reading."""

import struct
import sys
import tracemalloc

import pytest

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.repository import columns
from coffer.repository.columns import MAX_COUNT, pack_blob, pack_ints, unpack_blob, unpack_ints

SAMPLES = [
    [],
    [0],
    [7] * 1000,
    [-1] * 3,
    [1, 2, 3, 4],
    [5, -5, 5, -5],
    list(range(0, 100_000, 7)),
    [0, 255, 256, 65_535, 65_536, 1 << 32, (1 << 62) - 1, -(1 << 62)],
    [1 << 62, 0],
    [(1 << 64) - 1, 1 << 63],
    [-(1 << 62) - 1, 1],
    [1 << 63, -1],
    [1 << 64],
    [(1 << 127) - 1, -(1 << 127)],
]


@pytest.mark.parametrize("values", SAMPLES, ids=lambda values: f"{len(values)}-{str(values[:1])[:24]}")
def test_a_column_comes_back(values):
    """Every value, wherever the column stands in the bytes; the offset behind it is returned."""
    packed = pack_ints(values)
    assert (values, len(packed)) == unpack_ints(packed, 0, "x")
    assert (values, 3 + len(packed)) == unpack_ints(b"abc" + packed + b"def", 3, "x")
    assert (values, len(packed)) == unpack_ints(memoryview(packed), 0, "x")


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([], 5),
        ([1 << 61] * 5000, 13),
        (list(range(5000)), 5 + 5000),
        ([0, 200] * 50, 5 + 200),
        ([(1 << 63)] * 4, 5 + 32),
        ([-(1 << 63)] * 4, 5 + 64),
    ],
)
def test_a_column_is_as_small_as_its_differences(values, size):
    """Constant: one value. Rising by little: one byte each, whatever the values are."""
    assert size == len(pack_ints(values))


def test_the_bytes_are_those_of_the_format():
    """docs/format.md §6: width, count, then the byte planes of the zigzag-coded differences."""
    assert bytes((2,)) + struct.pack("<I", 3) + bytes((2, 1, 200)) + bytes((0, 2, 0)) == pack_ints([1, -256, -156])
    assert bytes((0,)) + struct.pack("<Iq", 3, -9) == pack_ints([-9, -9, -9])
    assert bytes((255,)) + struct.pack("<IQQ", 2, 1 << 62, 3) == pack_ints([1 << 62, 3])
    assert bytes((254,)) + struct.pack("<Iqqqq", 2, 0, 1, -1, -1) == pack_ints([1 << 64, -1])


def test_a_machine_of_the_other_byte_order_reads_and_writes_the_same(monkeypatch):
    """The bytes are little-endian everywhere: what a big-endian machine has in memory is swapped on both ways."""
    values = [5, 70_000, -3]
    monkeypatch.setattr(columns, "sys", type("sys", (), {"byteorder": "big"}))
    swapped = pack_ints(values)
    assert (values, len(swapped)) == unpack_ints(swapped, 0, "x")
    assert "little" == sys.byteorder, "the swap above is only seen to happen on a little-endian machine"
    monkeypatch.undo()
    assert pack_ints(values) != swapped


def test_a_value_that_no_column_can_hold_is_the_programmers_mistake():
    """Nothing is cut off in silence."""
    with pytest.raises(OverflowError):
        pack_ints([1 << 127, 0])


@pytest.mark.parametrize("values", [[1, 2, 3], [9, 9], [1 << 63], [1 << 100]])
def test_a_column_cut_short_is_corrupt(values):
    """At whatever byte."""
    packed = pack_ints(values)
    for length in range(len(packed)):
        with pytest.raises(ObjectCorruptError, match="x: column is cut short"):
            unpack_ints(packed[:length], 0, "x")
    with pytest.raises(ObjectCorruptError):
        unpack_ints(packed, len(packed) + 1, "x")


@pytest.mark.parametrize("width", [9, 100, 253])
def test_a_width_that_does_not_exist_is_corrupt(width):
    """Widths are 0 to 8, 254 and 255."""
    with pytest.raises(ObjectCorruptError, match=f"column of width {width}"):
        unpack_ints(struct.pack("<BI", width, 1) + bytes(300), 0, "x")


@pytest.mark.parametrize("width", [0, 1, 8, 254, 255])
def test_a_count_over_the_cap_takes_no_memory(width):
    """Thirteen bytes may declare four thousand million values (I7)."""
    data = struct.pack("<BI", width, (1 << 32) - 1) + bytes(8)
    tracemalloc.start()
    try:
        with pytest.raises(SizeLimitError, match=f"over the cap of {MAX_COUNT}"):
            unpack_ints(data, 0, "x")
        with pytest.raises(SizeLimitError, match="over the cap of 10"):
            unpack_ints(pack_ints([5] * 11), 0, "x", 10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 16
    assert [5] * 10 == unpack_ints(pack_ints([5] * 10), 0, "x", 10)[0]


@pytest.mark.parametrize("data", [b"", b"x", bytes(70_000)], ids=len)
def test_a_blob_comes_back(data):
    """With its length before it; the offset behind it is returned."""
    packed = pack_blob(data)
    assert 4 + len(data) == len(packed)
    assert (data, 2 + len(packed)) == unpack_blob(b"ab" + packed + b"c", 2, "x")


@pytest.mark.parametrize("data", [b"", b"\1\0\0", b"\1\0\0\0", b"\xff\xff\xff\xffabc"])
def test_a_blob_cut_short_is_corrupt(data):
    """Within its length or within its bytes; what it declares is not taken on trust."""
    with pytest.raises(ObjectCorruptError, match="x: blob is cut short"):
        unpack_blob(data, 0, "x")
