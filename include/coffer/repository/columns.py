"""Columns of integers as compact bytes, coded by C-speed primitives of the standard library.

A column is delta-coded, zigzag-mapped (Protocol Buffers encoding) and its byte planes are laid one after the other, so
that zstd sees long runs of like bytes. docs/format.md §6 has the layout.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import sub

from coffer.errors import ObjectCorruptError, SizeLimitError

_HEAD = struct.Struct("<BI")  # width, count
_CONSTANT = 0  # width of a column whose values are all the same: one value of 8 bytes follows
_WIDE = 254  # width of a column with any other values within +-2^127: 16 bytes each, signed, not delta-coded
_RAW = 255  # width of a column with values in [0, 2^64), some over 2^62: 8 bytes each, not delta-coded
_BYTES = {_RAW: 8, _WIDE: 16}  # of one value, where the width does not say it
_LANE = 0xFFFF_FFFF_FFFF_FFFF
_SAFE = 1 << 62  # a delta of two values within +-2^62 fits a signed 64-bit integer

# Values of any column (I7); whoever knows how many there must be gives that as a lower cap.
MAX_COUNT = 1 << 22


def pack_ints(values: Sequence[int]) -> bytes:
    """Return a column's bytes; self-delimiting. Values are in [-2^127, 2^127): a time may lie beyond 64 bits.

    Deterministic: the same values give the same bytes.
    """
    count = len(values)
    if not count:
        return _HEAD.pack(_CONSTANT, 0)
    low, high = min(values), max(values)
    if low < -_SAFE or high >= _SAFE:
        if low >= 0 and high < 1 << 64:
            return _HEAD.pack(_RAW, count) + struct.pack(f"<{count}Q", *values)
        return _HEAD.pack(_WIDE, count) + b"".join([v.to_bytes(16, "little", signed=True) for v in values])
    if low == high:
        return _HEAD.pack(_CONSTANT, count) + low.to_bytes(8, "little", signed=True)
    deltas = [values[0], *map(sub, values[1:], values)]
    raw = _zigzag(_little_endian(array("q", deltas)), count)
    planes = [raw[plane::8] for plane in range(8)]
    while planes and not planes[-1].strip(b"\0"):
        planes.pop()
    return _HEAD.pack(len(planes), count) + b"".join(planes)


def unpack_ints(data: bytes | memoryview, at: int, what: str, cap: int = MAX_COUNT) -> tuple[list[int], int]:
    """Return (values, offset behind the column).

    Args:
        data: What holds the column.
        at: Where it starts [bytes].
        what: The object's name, for messages.
        cap: How many values it may have: some bytes can declare millions.

    Raises:
        ObjectCorruptError: The bytes are not a column.
        SizeLimitError: It declares more values than `cap`; no memory was taken for them.
    """
    try:
        width, count = _HEAD.unpack_from(data, at)
    except struct.error:
        raise ObjectCorruptError(f"{what}: column is cut short") from None
    if count > cap:
        raise SizeLimitError(f"{what}: column of {count} values is over the cap of {cap}")
    if 8 < width < _WIDE:
        raise ObjectCorruptError(f"{what}: column of width {width}")
    at += _HEAD.size
    length = min(count, 1) * 8 if width == _CONSTANT else count * _BYTES.get(width, width)
    body = bytes(data[at : at + length])
    if len(body) != length:
        raise ObjectCorruptError(f"{what}: column is cut short")
    if width == _CONSTANT:
        return [int.from_bytes(body, "little", signed=True)] * count, at + length
    if width == _RAW:
        return list(struct.unpack(f"<{count}Q", body)), at + length
    if width == _WIDE:
        return [int.from_bytes(body[i : i + 16], "little", signed=True) for i in range(0, length, 16)], at + length
    planes = bytearray(8 * count)
    for plane in range(width):
        planes[plane::8] = body[plane * count : (plane + 1) * count]
    return list(accumulate(_from_little_endian(_unzigzag(bytes(planes), count)))), at + length


# The zigzag map, z = 2d for d >= 0 and -2d - 1 below, on all values at once: the column is one long integer whose lanes
# of 64 bits are the values. A loop in Python over the values took five times as long.


def _zigzag(raw: bytes, count: int) -> bytes:
    """Map signed lanes [8 bytes each, little-endian] to unsigned ones."""
    lanes = int.from_bytes(raw, "little")
    signs = (lanes >> 63) & _ones(count)
    # Without their sign bits the lanes can be shifted: no bit crosses into the next one.
    doubled = (lanes ^ (signs << 63)) << 1
    return (doubled ^ (signs * _LANE)).to_bytes(8 * count, "little")


def _unzigzag(raw: bytes, count: int) -> bytes:
    """Undo `_zigzag`."""
    lanes = int.from_bytes(raw, "little")
    signs = lanes & _ones(count)
    return (((lanes ^ signs) >> 1) ^ (signs * _LANE)).to_bytes(8 * count, "little")


@lru_cache(maxsize=4)
def _ones(count: int) -> int:
    """Return an integer with the lowest bit of each of `count` lanes set."""
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _from_little_endian(raw: bytes) -> array[int]:
    values = array("q", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


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
