"""WAL as a server writes it, made by hand: pages with headers, records that cross them, commits and restore points."""

from __future__ import annotations

import struct

from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_records import RecordSpan

PAGE = 8192
SEGMENT = 1 << 20
EPOCH_US = 946_684_800_000_000
SYSTEM_ID = 7_123_456_789_012_345_678
HEAP = 10  # a resource manager that nothing stops at


class WalMaker:
    """Writes records one after another.

    Attributes:
        start: The first byte; of a segment.
        timeline: In the headers of the pages from here on; may be set to another one.
    """

    def __init__(self, start: int = SEGMENT, *, timeline: int = 1, segment_bytes: int = SEGMENT) -> None:
        assert start % segment_bytes == 0
        self.start, self.timeline, self._segment = start, timeline, segment_bytes
        self._data = bytearray()

    @property
    def end(self) -> Lsn:
        """The first byte that is not written."""
        return Lsn(self.start + len(self._data))

    @property
    def data(self) -> bytes:
        """Everything that was written."""
        return bytes(self._data)

    def between(self, start: int, end: int) -> bytes:
        """Return the bytes between two positions."""
        return bytes(self._data[start - self.start : end - self.start])

    def record(self, manager: int, info: int, body: bytes = b"", xid: int = 0, *, before: bytes = b"") -> RecordSpan:
        """Write one record; `before` stands between its head and its own data."""
        part = b"\xff" + bytes([len(body)]) if len(body) < 256 else b"\xfe" + struct.pack("<I", len(body))
        part = before + part
        length = 24 + (len(part) + len(body) if body else 0)
        head = struct.pack("<IIQBBxxI", length, xid, 0, info, manager, 0xC0FFEE)
        return self._put(head + (part + body if body else b""))

    def filler(self, size: int = 60) -> RecordSpan:
        """Write a record of so many bytes of its own that no recovery stops at."""
        return self.record(HEAP, 0, b"x" * size)

    def commit(self, xid: int, time_us: int) -> RecordSpan:
        """Write the commit of a transaction [us since the Unix epoch]."""
        return self.record(1, 0x00, struct.pack("<q", time_us - EPOCH_US), xid)

    def abort(self, xid: int, time_us: int) -> RecordSpan:
        """Write the abort of a transaction [us since the Unix epoch]."""
        return self.record(1, 0x20, struct.pack("<q", time_us - EPOCH_US), xid)

    def commit_prepared(self, xid: int, time_us: int) -> RecordSpan:
        """Write the commit of a prepared transaction: its number is not in the record's head."""
        twophase = struct.pack("<qII", time_us - EPOCH_US, 0x10, xid)
        return self.record(1, 0xB0, twophase, 0)

    def restore_point(self, name: str, time_us: int) -> RecordSpan:
        """Write a restore point."""
        return self.record(0, 0x70, struct.pack("<q64s", time_us - EPOCH_US, name.encode()))

    def switch(self) -> RecordSpan:
        """Write a switch to the next segment: zeros follow up to it."""
        span = self.record(0, 0x40)
        self._data += bytes(-self.end % self._segment)
        return span

    def crash(self, length: int) -> None:
        """Begin a record, and give it up at the end of the page, as a server that crashed and was started again."""
        self._header_if_due(0)
        head = struct.pack("<IIQBBxxI", length, 0, 0, 0, HEAP, 0)
        room = PAGE - self.end % PAGE
        assert len(head) <= room < length
        self._data += head.ljust(room, b"y")
        self._header(0x0008, 0)

    def pad_to(self, room: int) -> None:
        """Write records until only so many bytes [a multiple of 8, below 4096] are left on the page."""
        while PAGE - self.end % PAGE > room + 4096:
            self.filler(1000)
        left = PAGE - self.end % PAGE - room
        if left >= 32:
            self.filler(left - 29 if left >= 285 else left - 26)
        assert PAGE - self.end % PAGE == room, PAGE - self.end % PAGE

    def _put(self, record: bytes) -> RecordSpan:
        self._header_if_due(0)
        start = self.end
        rest = memoryview(record)
        while True:
            step = min(len(rest), PAGE - self.end % PAGE)
            self._data += rest[:step]
            rest = rest[step:]
            if not rest:
                break
            self._header(0x0001, len(rest))
        self._data += bytes(-self.end % 8)
        return RecordSpan(start, self.end)

    def _header_if_due(self, rest: int) -> None:
        if self.end % PAGE == 0:
            self._header(0, rest)

    def _header(self, info: int, rest: int) -> None:
        at = self.end
        is_long = at % self._segment == 0
        magic = struct.pack("<HHIQI4x", 0xD110, info | (0x0002 if is_long else 0), self.timeline, at, rest)
        self._data += magic + (struct.pack("<QII", SYSTEM_ID, self._segment, PAGE) if is_long else b"")
