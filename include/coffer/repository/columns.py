"""Columns of integers as compact bytes, coded by C-speed primitives of the standard library.

A column is delta-coded, zigzag-mapped (Protocol Buffers encoding) and its byte planes are laid one after the other, so
that zstd sees long runs of like bytes. docs/format.md §6 has the layout.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import sub

from coffer.errors import ObjectCorruptError, SizeLimitError

_HEAD = struct.Struct("<BI")  # width, count
_CONSTANT = 0  # width of a column whose values are all the same: one value of 8 bytes follows
_RAW = 255  # width of a column with values outside +-2^62: 8 bytes each, not delta-coded
_SAFE = 1 << 62  # a delta of two values within +-2^62 fits a signed 64-bit integer

# Values of one column (I7): a block has at most MAX_BLOCK_ENTRIES entries, its extents a few times that.
MAX_COUNT = 1 << 22


def pack_ints(values: Sequence[int]) -> bytes:
    """Return a column's bytes; self-delimiting. Values are in [-2^63, 2^64).

    Deterministic: the same values give the same bytes.
    """
    count = len(values)
    if not count:
        return _HEAD.pack(_CONSTANT, 0)
    low, high = min(values), max(values)
    if low < -_SAFE or high >= _SAFE:
        return _HEAD.pack(_RAW, count) + b"".join((v & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little") for v in values)
    if low == high:
        return _HEAD.pack(_CONSTANT, count) + low.to_bytes(8, "little", signed=True)
    deltas = [values[0], *map(sub, values[1:], values)]
    mapped = array("Q", [(d << 1) ^ (d >> 63) for d in deltas])
    if sys.byteorder == "big":
        mapped.byteswap()
    raw = mapped.tobytes()
    width = (max(mapped).bit_length() + 7) // 8
    return _HEAD.pack(width, count) + b"".join([raw[plane::8] for plane in range(width)])


def unpack_ints(data: bytes | memoryview, at: int, what: str) -> tuple[list[int], int]:
    """Return (values, offset behind the column).

    Raises:
        ObjectCorruptError: The bytes are not a column.
        SizeLimitError: It declares more values than a column may have.
    """
    try:
        width, count = _HEAD.unpack_from(data, at)
    except struct.error:
        raise ObjectCorruptError(f"{what}: column is cut short") from None
    if count > MAX_COUNT:
        raise SizeLimitError(f"{what}: column of {count} values is over the cap of {MAX_COUNT}")
    at += _HEAD.size
    length = (8 if count else 0) if width == _CONSTANT else count * (8 if width == _RAW else width)
    body = bytes(data[at : at + length])
    if len(body) != length or (8 < width < _RAW):
        raise ObjectCorruptError(f"{what}: column is cut short")
    if width == _CONSTANT:
        return [int.from_bytes(body, "little", signed=True)] * count, at + length
    if width == _RAW:
        return list(struct.unpack(f"<{count}Q", body)), at + length
    planes = bytearray(8 * count)
    for plane in range(width):
        planes[plane::8] = body[plane * count : (plane + 1) * count]
    mapped = array("Q", bytes(planes))
    if sys.byteorder == "big":
        mapped.byteswap()
    return list(accumulate([(z >> 1) ^ -(z & 1) for z in mapped])), at + length


def pack_blob(data: bytes) -> bytes:
    """Return a byte string with its length before it."""
    return struct.pack("<I", len(data)) + data


def unpack_blob(data: bytes | memoryview, at: int, what: str) -> tuple[bytes, int]:
    """Return (byte string, offset behind it).

    Raises:
        ObjectCorruptError: It is cut short.
    """
    if at + 4 > len(data):
        raise ObjectCorruptError(f"{what}: blob is cut short")
    (length,) = struct.unpack_from("<I", data, at)
    body = bytes(data[at + 4 : at + 4 + length])
    if len(body) != length:
        raise ObjectCorruptError(f"{what}: blob is cut short")
    return body, at + 4 + length
