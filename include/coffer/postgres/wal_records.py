"""Where the records of the write-ahead log begin and end, and the few of them that a recovery can stop at.

A stretch of WAL may begin and end anywhere in a record. The header of each page says how much of a record goes on from
the page before, so records are found from the start of any page on, without reading all WAL before it.

Source: PostgreSQL's `src/include/access/xlogrecord.h`, `xlog_internal.h`, `xact.h` and `pg_control.h`, and
`src/backend/access/transam/xlogreader.c` (versions 15 to 18 are alike in what is read here).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn, require_segment_size

WAL_PAGE_BYTES = 8192  # XLOG_BLCKSZ; other sizes are made by building PostgreSQL oneself
_HEADER = struct.Struct("<HHIQI")  # of a page: magic, info, timeline, address, rest of a record
_SHORT_BYTES, _LONG_BYTES = 24, 40
_GOES_ON, _IS_LONG, _IS_OVERWRITTEN = 0x0001, 0x0002, 0x0008  # in info of a page
_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("<q")
_RECORD_BYTES = 24  # xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, xl_crc
_XID_AT, _INFO_AT, _MANAGER_AT = 4, 16, 17
_LOG, _TRANSACTION = 0, 1  # resource managers RM_XLOG_ID, RM_XACT_ID
_SWITCH, _RESTORE_POINT = 0x40, 0x70  # of RM_XLOG_ID, in the high four bits of info
_HEAD_BYTES = 1024  # of a record are looked at
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01 [us after the Unix epoch]
_NAME_BYTES = 64
_SHORT_DATA, _LONG_DATA, _ORIGIN, _TOP_XID = 255, 254, 253, 252  # ids of the parts of a record


class MomentKind(Enum):
    """Kinds of records that a recovery can stop at."""

    COMMIT = 0x00
    ABORT = 0x20
    COMMIT_PREPARED = 0x30
    ABORT_PREPARED = 0x40
    RESTORE_POINT = -1


_ENDINGS: dict[int, MomentKind] = {kind.value: kind for kind in MomentKind if kind is not MomentKind.RESTORE_POINT}


@dataclass(frozen=True, slots=True)
class RecordSpan:
    """Where a record lies: from its first byte up to where the next one begins (but for a page's header there)."""

    start: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True)
class Moment:
    """A record that a recovery can stop at.

    Attributes:
        kind: What happened.
        span: Where it lies.
        time_us: By the server's clock [us since the Unix epoch].
        xid: The transaction that ended; 0 for a restore point. Of a prepared transaction it is inside `payload`.
        name: Of a restore point.
        payload: The beginning of the record's own data.
    """

    kind: MomentKind
    span: RecordSpan
    time_us: int
    xid: int
    name: str
    payload: bytes

    def ends(self, xid: int) -> bool:
        """Say whether this is the end of a transaction; of a prepared one it may say so of one of its parts too."""
        if self.kind in (MomentKind.COMMIT_PREPARED, MomentKind.ABORT_PREPARED):
            wanted = _LENGTH.pack(xid)
            return any(self.payload[at : at + 4] == wanted for at in range(8, len(self.payload), 4))
        return self.kind is not MomentKind.RESTORE_POINT and self.xid == xid


class RecordScanner:
    """Goes through the records of a stretch of WAL, piece by piece. Holds one page and the head of one record.

    Attributes:
        last: The last record that is whole; None before the first.
        found: The first whole record that begins at or after `watch`.
        before: The last whole record that begins before `watch`.
    """

    def __init__(self, start: Lsn, segment_bytes: int, *, watch: Lsn | None = None) -> None:
        """Begin at the start of a page; what goes on from the page before is passed over.

        Args:
            start: Of a page.
            segment_bytes: Size of a segment.
            watch: A position; see `found`.

        Raises:
            SourceFormatError: No page begins there.
        """
        if start % WAL_PAGE_BYTES:
            raise SourceFormatError(f"WAL at {start}: no page begins there")
        self.last: RecordSpan | None = None
        self.found: RecordSpan | None = None
        self.before: RecordSpan | None = None
        self._at: int = start
        self._segment_bytes = require_segment_size(segment_bytes)
        self._watch = watch
        self._page_rest = b""
        self._empty_until = 0  # behind a switch, the rest of its segment holds nothing
        self._left = 0  # bytes that the record at hand has on further pages
        self._start = 0
        self._head = b""

    def feed(self, piece: bytes) -> Iterator[Moment]:
        """Yield the moments of the pages that this piece completes.

        Raises:
            SourceFormatError: A page is not the one that belongs here.
        """
        data = self._page_rest + piece if self._page_rest else piece
        whole = len(data) - len(data) % WAL_PAGE_BYTES
        for at in range(0, whole, WAL_PAGE_BYTES):
            yield from self._page(data[at : at + WAL_PAGE_BYTES])
        self._page_rest = bytes(data[whole:])

    def finish(self) -> Iterator[Moment]:
        """Yield the moments of the last page, of which only the beginning is there. Nothing may follow.

        Raises:
            SourceFormatError: As `feed`.
        """
        rest, self._page_rest = self._page_rest, b""
        if rest:
            yield from self._page(rest)

    def _page(self, page: bytes) -> Iterator[Moment]:
        begin = self._at
        self._at += len(page)
        if begin < self._empty_until or len(page) < _SHORT_BYTES:
            return
        magic, info, _, address, rest = _HEADER.unpack_from(page)
        if not magic:  # never written: the rest of a segment behind a switch
            self._empty_until = begin - begin % self._segment_bytes + self._segment_bytes
            self._left = 0
            return
        if magic >> 8 != 0xD1 or address != begin:
            raise SourceFormatError(f"WAL at {Lsn(begin)}: the page there is of {Lsn(address)}")
        at = _LONG_BYTES if info & _IS_LONG else _SHORT_BYTES
        if info & _GOES_ON and not info & _IS_OVERWRITTEN:
            end = at + rest
            is_ours = bool(rest) and rest == self._left  # else it was begun before the first page that was seen
            if is_ours:
                self._head += page[at : min(end, at + max(0, _HEAD_BYTES - len(self._head)))]
            if end > len(page):
                self._left = end - len(page) if is_ours else 0
                return
            if is_ours:
                yield from self._take(self._head, self._start, begin + end)
            at = -(-end // 8) * 8
        # Else a record that was begun on the page before was given up when the server crashed.
        self._left = 0
        yield from self._records(page, at, begin)

    def _records(self, page: bytes, at: int, begin: int) -> Iterator[Moment]:
        size, watch = len(page), self._watch
        last = None
        while at + 4 <= size and begin >= self._empty_until:
            (length,) = _LENGTH.unpack_from(page, at)
            if length < _RECORD_BYTES:
                if length:
                    raise SourceFormatError(f"WAL at {Lsn(begin + at)}: a record of {length} bytes")
                break
            end = at + length
            if end > size:
                self._left, self._start = end - size, begin + at
                self._head = page[at : at + _HEAD_BYTES]
                break
            if page[at + _MANAGER_AT] <= _TRANSACTION or watch is not None:
                yield from self._take(page[at : min(end, at + _HEAD_BYTES)], begin + at, begin + end)
                last = None
            else:
                last = at, end
            at = -(-end // 8) * 8
        if last is not None:
            self._note(begin + last[0], begin + last[1])

    def _note(self, start: int, end: int) -> RecordSpan:
        self.last = span = RecordSpan(Lsn(start), Lsn(-(-end // 8) * 8))
        if self._watch is not None and self.found is None:
            if start >= self._watch:
                self.found = span
            else:
                self.before = span
        return span

    def _take(self, head: bytes, start: int, end: int) -> Iterator[Moment]:
        """Take a whole record."""
        span = self._note(start, end)
        if head[_MANAGER_AT] == _LOG and head[_INFO_AT] & 0xF0 == _SWITCH:
            self._empty_until = -(-end // self._segment_bytes) * self._segment_bytes
        moment = _moment(head, span)
        if moment is not None:
            yield moment


def _moment(head: bytes, span: RecordSpan) -> Moment | None:
    manager, info = head[_MANAGER_AT], head[_INFO_AT]
    kind: MomentKind | None = None
    if manager == _TRANSACTION:
        kind = _ENDINGS.get(info & 0x70)
    elif manager == _LOG and info & 0xF0 == _RESTORE_POINT:
        kind = MomentKind.RESTORE_POINT
    if kind is None:
        return None
    data = _own_data(head)
    if len(data) < _TIME.size:
        return None
    time_us = _TIME.unpack_from(data)[0] + _EPOCH_US
    if kind is MomentKind.RESTORE_POINT:
        name = data[_TIME.size : _TIME.size + _NAME_BYTES].split(b"\0", 1)[0]
        return Moment(kind, span, time_us, 0, name.decode("utf-8", "replace"), b"")
    (xid,) = _LENGTH.unpack_from(head, _XID_AT)
    return Moment(kind, span, time_us, xid, "", data)


def _own_data(head: bytes) -> bytes:
    """Return the beginning of a record's own data; nothing where it has pages first, which these records have not."""
    at = _RECORD_BYTES
    while at + 2 <= len(head):
        part = head[at]
        if part == _SHORT_DATA:
            return head[at + 2 : at + 2 + head[at + 1]]
        if part == _LONG_DATA:
            return head[at + 5 :]
        if part == _ORIGIN:
            at += 3
        elif part == _TOP_XID:
            at += 5
        else:
            break
    return b""


def page_start(lsn: int) -> Lsn:
    """Return where the page begins that holds the byte at a position."""
    return Lsn(lsn - lsn % WAL_PAGE_BYTES)


def without_page_headers(data: bytes) -> bytes:
    """Return the bytes of pages without their headers, so that what lies on two pages can be searched for."""
    begins = range(0, len(data) - _SHORT_BYTES, WAL_PAGE_BYTES)
    sizes = (_LONG_BYTES if data[at + 2] & _IS_LONG else _SHORT_BYTES for at in begins)
    return b"".join([data[at + size : at + WAL_PAGE_BYTES] for at, size in zip(begins, sizes, strict=True)])


def moments(pieces: Iterable[bytes], start: Lsn, segment_bytes: int) -> Iterator[Moment]:
    """Yield the moments of a stretch of WAL.

    Args:
        pieces: Its bytes.
        start: Of a page.
        segment_bytes: Size of a segment.

    Raises:
        SourceFormatError: A page is not the one that belongs here.
    """
    scanner = RecordScanner(start, segment_bytes)
    for piece in pieces:
        yield from scanner.feed(piece)
    yield from scanner.finish()
