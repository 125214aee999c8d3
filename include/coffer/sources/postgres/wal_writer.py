"""Ranges of the log on their way into the repository: cut from the stream, and put by a thread of their own.

The server breaks off a connection whose reader is away for longer than wal_sender_timeout. So the reader never waits
for the store: it hands ranges to this thread through a short queue, and learns when that is full. At most four ranges
are held: one being filled, one that waits, one being put and its sealed form; 64 MiB.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from coffer.clock import Clock
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress

# A multiple of every segment's size up to it, and a part of every larger one's: ranges and segments end together. As
# large as a usual segment, so one is brought back by opening one object. [bytes]
RANGE_BYTES = 16 << 20
_MAX_WAITING = 1


@dataclass(frozen=True, slots=True)
class _Range:
    timeline: int
    start: Lsn
    data: bytearray


class RangeWriter:
    """Puts ranges in the order in which they come. A context manager: it is left when all are durable.

    Attributes:
        ranges: How many were put.
        wal_bytes: What they hold [bytes].
        stored_bytes: Their objects [bytes].
    """

    def __init__(self, archive: WalArchive, *, system_id: int, segment_bytes: int, progress: Progress) -> None:
        self._archive, self._system_id, self._segment_bytes = archive, system_id, segment_bytes
        self._progress = progress
        self._changed = threading.Condition()
        self._waiting: deque[_Range] = deque()
        self._is_busy = self._is_closed = False
        self._error: BaseException | None = None
        self._durable: Lsn | None = None
        self.ranges = self.wal_bytes = self.stored_bytes = 0
        self._thread = threading.Thread(target=self._run, name="coffer-wal", daemon=True)

    def __enter__(self) -> RangeWriter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            if kind is not None and not issubclass(kind, Exception):
                self._waiting.clear()  # the process is ending; nothing is acknowledged that was not put
            self._changed.notify_all()
        self._thread.join()
        if error is None:
            self._raise()

    def durable(self) -> Lsn | None:
        """Return the end of what is durable; None before the first range is. From any thread."""
        return self._durable

    def submit(self, timeline: int, start: Lsn, data: bytearray, *, timeout_s: float | None) -> bool:
        """Hand over a range; it is not to be changed any more.

        Returns:
            bool: False where the queue was full all the time; the range was not taken.

        Raises:
            CofferError: An earlier range could not be put.
        """
        with self._changed:
            has_room = self._changed.wait_for(self._has_room, timeout_s)
            self._raise()
            if has_room:
                self._waiting.append(_Range(timeline, start, data))
                self._changed.notify_all()
            return has_room

    def settle(self) -> None:
        """Wait until everything that was handed over is durable.

        Raises:
            CofferError: A range could not be put.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._waiting or self._is_busy))
            self._raise()

    def _has_room(self) -> bool:
        return self._error is not None or len(self._waiting) < _MAX_WAITING

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (found := self._next()) is not None:
                self._put(found)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that hands over
            with self._changed:
                self._error = error
                self._waiting.clear()
                self._changed.notify_all()

    def _next(self) -> _Range | None:
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return None
            self._is_busy = True
            found = self._waiting.popleft()
            self._changed.notify_all()
            return found

    def _put(self, found: _Range) -> None:
        ref = self._archive.put(
            found.timeline,
            found.start,
            found.data,
            system_id=self._system_id,
            segment_bytes=self._segment_bytes,
        )
        self._durable = ref.end
        self.ranges += 1
        self.wal_bytes += ref.length
        self.stored_bytes += ref.size_bytes
        self._progress.files_done = self.ranges
        self._progress.bytes_stored = self.stored_bytes


class RangeCutter:
    """Gathers the pieces of one stretch of a timeline, and says when a range is whole."""

    def __init__(self, timeline: int, clock: Clock, *, max_age_s: float | None = None) -> None:
        """Begin.

        Args:
            timeline: Of the stretch.
            clock: Tells how old the first byte of a range is.
            max_age_s: A range is whole at this age, however short it is [s]; None where it can wait.
        """
        self.timeline = timeline
        self._clock, self._max_age_s = clock, max_age_s
        self._start: Lsn | None = None
        self._began_s = 0.0
        self._data = bytearray()

    def add(self, lsn: Lsn, piece: bytes) -> list[tuple[Lsn, bytearray]]:
        """Take the next piece, and return the ranges that it completes: at most two, and their starts."""
        whole = []
        view = memoryview(piece)
        while view:
            if self._start is None:
                self._start, self._began_s = lsn, self._clock.monotonic_s()
            taken = view[: RANGE_BYTES - (lsn % RANGE_BYTES)]
            self._data += taken
            view, lsn = view[len(taken) :], lsn.after(len(taken))
            if lsn % RANGE_BYTES == 0:
                whole += self.rest()
        return whole + (self.rest() if self._is_old() else [])

    def rest(self) -> list[tuple[Lsn, bytearray]]:
        """Return what was gathered and is no whole range, with its start; nothing where there is none."""
        if self._start is None:
            return []
        found = [(self._start, self._data)]
        self._start, self._data = None, bytearray()
        return found

    def _is_old(self) -> bool:
        if self._start is None or self._max_age_s is None:
            return False
        return self._clock.monotonic_s() - self._began_s >= self._max_age_s
