"""Find in the saved WAL the record that a recovery to a time, a name or a transaction would stop at.

A server finds it by itself; but whether it is there must be known before anything is written, and how much WAL the
recovery needs.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

from coffer.errors import InterruptedRunError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_records import WAL_PAGE_BYTES, Moment, MomentKind, moments, page_start, without_page_headers
from coffer.restore.cluster.walpath import WalPath

_WINDOW_BYTES = 16 << 20  # of WAL looked at together; a range has about as much [bytes]
_XID = struct.Struct("<I")

Fits = Callable[[Moment], bool]


def find_time(path: WalPath, time_us: int, start: Lsn, *, inclusive: bool) -> tuple[Moment | None, Moment | None]:
    """Find the first transaction that ended after a time: a recovery to this time stops right before it.

    The times of transactions rise with their positions, but for what ran at the same moment; so the place is found by
    bisection, and few windows of WAL are read. Where the server's clock was set back, a recovery stops earlier than
    the record that is found here, which takes no more WAL.

    Args:
        path: Where to look.
        time_us: The time [us since the Unix epoch].
        start: The first byte that counts.
        inclusive: Whether a transaction of exactly this time is before it.

    Returns:
        (that record, or None where none was saved; the last transaction before it, or None where none was met).
    """

    def is_after(moment: Moment) -> bool:
        return moment.time_us > time_us if inclusive else moment.time_us >= time_us

    begins = _windows(path, start)
    low, high = 0, len(begins)  # the first moment at or behind the window `high` is after the time, if there is one
    last_before: Moment | None = None
    while low < high:
        middle = (low + high) // 2
        first = next(_endings(path, begins[middle], start), None)
        if first is None or is_after(first):
            high = middle
        else:
            low, last_before = middle + 1, first
    for moment in _endings(path, begins[max(low - 1, 0)], start) if begins else ():
        if is_after(moment):
            return moment, last_before
        last_before = moment
    return None, last_before


def find_name(path: WalPath, name: str, start: Lsn, stop: threading.Event | None = None) -> Moment | None:
    """Find the first restore point of a name from a position on."""
    wanted = name.encode("utf-8", "surrogateescape") + b"\0"

    def fits(moment: Moment) -> bool:
        return moment.kind is MomentKind.RESTORE_POINT and moment.name == wanted[:-1].decode("utf-8", "replace")

    return _find(path, wanted, fits, start, stop)


def find_transaction(path: WalPath, xid: int, start: Lsn, stop: threading.Event | None = None) -> Moment | None:
    """Find the end of a transaction from a position on."""
    return _find(path, _XID.pack(xid), lambda moment: moment.ends(xid), start, stop)


def _find(path: WalPath, wanted: bytes, fits: Fits, start: Lsn, stop: threading.Event | None) -> Moment | None:
    """Find a moment that has some bytes in it: only windows that hold these bytes are taken apart."""
    for begin in _windows(path, start):
        if stop is not None and stop.is_set():
            raise InterruptedRunError("search in the saved WAL: stopped by request", hint="Run it again.")
        end = min(Lsn(begin + _WINDOW_BYTES), path.reach.end)
        # One page more at the front: a record may have its beginning there. None of those looked for has two pages.
        from_ = max(path.begin, Lsn(begin - WAL_PAGE_BYTES) if begin >= WAL_PAGE_BYTES else begin)
        data = b"".join(path.read(from_, end))
        if wanted not in without_page_headers(data):
            continue
        for moment in moments([data], from_, path.segment_bytes):
            if moment.span.start >= start and fits(moment):
                return moment
    return None


def _windows(path: WalPath, start: Lsn) -> list[Lsn]:
    """Return where the windows begin that hold WAL from a position on; each begins with a page."""
    first = max(path.begin, page_start(start))
    return [Lsn(at) for at in range(first, path.reach.end, _WINDOW_BYTES)]


def _endings(path: WalPath, begin: Lsn, start: Lsn) -> Iterator[Moment]:
    """Yield the transactions that ended from a position on, in order."""
    for moment in moments(path.read(begin, path.reach.end), begin, path.segment_bytes):
        if moment.kind is not MomentKind.RESTORE_POINT and moment.span.start >= start:
            yield moment
