"""Places in the write-ahead log, and the names of the segments that hold them.

Source: PostgreSQL's `src/include/access/xlog_internal.h` (versions 15 to 18 are alike) and the documentation of the
type `pg_lsn`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from coffer.errors import SourceFormatError

MIN_SEGMENT_BYTES = 1 << 20
MAX_SEGMENT_BYTES = 1 << 30
MAX_TIMELINE = 0xFFFF_FFFF
_MAX_LSN = 0xFFFF_FFFF_FFFF_FFFF
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")


class Lsn(int):
    """A byte position in the write-ahead log, from 0 to 2^64 - 1. Written as PostgreSQL does: `0/16B3748`."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Check the range.

        Raises:
            SourceFormatError: Negative, or beyond 64 bits.
        """
        if not 0 <= value <= _MAX_LSN:
            raise SourceFormatError(f"LSN {value}: not a number of 64 bits")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `0/16B3748`.

        Raises:
            SourceFormatError: It is not of that form.
        """
        found = _LSN.fullmatch(text)
        if found is None:
            raise SourceFormatError(f"LSN {text[:40]!r}: expected two hexadecimal numbers with a slash between them")
        return cls(int(found[1], 16) << 32 | int(found[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFF_FFFF:X}"

    __repr__ = __str__

    def after(self, length: int) -> Lsn:
        """Return the position `length` bytes further on.

        Raises:
            SourceFormatError: It would be beyond 64 bits.
        """
        return Lsn(self + length)

    def segment_start(self, segment_bytes: int) -> Lsn:
        """Return where the segment begins that holds the byte at this position."""
        return Lsn(self - self % require_segment_size(segment_bytes))


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of the write-ahead log.

    Attributes:
        timeline: The history it belongs to, from 1.
        number: Its place, from 0; it holds the bytes from `number` x segment size on.
    """

    timeline: int
    number: int

    def name(self, segment_bytes: int) -> str:
        """Return its file name: 24 hexadecimal digits."""
        per_id = (1 << 32) // require_segment_size(segment_bytes)
        return f"{self.timeline:08X}{self.number // per_id:08X}{self.number % per_id:08X}"

    def start(self, segment_bytes: int) -> Lsn:
        """Return the position of its first byte."""
        return Lsn(self.number * require_segment_size(segment_bytes))

    @classmethod
    def holding(cls, timeline: int, lsn: Lsn, segment_bytes: int) -> Segment:
        """Return the segment that holds the byte at a position."""
        return cls(timeline, lsn // require_segment_size(segment_bytes))

    @classmethod
    def parse(cls, name: str, segment_bytes: int) -> Segment:
        """Read a segment's file name.

        Raises:
            SourceFormatError: Not such a name, timeline 0, or a last part that this segment size does not have.
        """
        found = _SEGMENT.fullmatch(name)
        if found is None:
            raise SourceFormatError(f"WAL segment {name[:40]!r}: expected 24 hexadecimal digits")
        timeline, high, low = (int(part, 16) for part in found.groups())
        per_id = (1 << 32) // require_segment_size(segment_bytes)
        if not timeline or low >= per_id:
            raise SourceFormatError(f"WAL segment {name}: no such segment where segments have {segment_bytes} bytes")
        return cls(timeline, high * per_id + low)


def require_segment_size(segment_bytes: int) -> int:
    """Return a segment size as it is, if PostgreSQL has it: a power of two from 1 MiB to 1 GiB.

    Raises:
        SourceFormatError: Another size.
    """
    is_power = segment_bytes & (segment_bytes - 1) == 0
    if not (is_power and MIN_SEGMENT_BYTES <= segment_bytes <= MAX_SEGMENT_BYTES):
        raise SourceFormatError(f"WAL segment size {segment_bytes}: not a power of two from 1 MiB to 1 GiB")
    return segment_bytes
