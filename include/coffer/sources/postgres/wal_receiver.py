"""Receive WAL from a server into the repository: what is missing until now, or on and on.

The order of things makes it safe at every moment: bytes are read, put, durable, and only then is the server told that
it may remove them. What was read and not put is read again. Where to go on is asked of the repository, never of the
slot alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from coffer.errors import CofferError, InterruptedRunError
from coffer.errors_postgres import PostgresSlotBusyError, PostgresUnavailableError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.replication import ReplicationSession, advance_slot
from coffer.sources.postgres.wal_resume import Position, Resumption, plan_resumption
from coffer.sources.postgres.wal_writer import RangeCutter, RangeWriter
from coffer.sources.postgres.walstream import WalStretch, stream_wal

DEFAULT_INTERVAL_S = 60.0  # how old received WAL may become before it is put
DEFAULT_PATIENCE_S = 300.0  # how long a lost server is waited for
_ENDLESS = Lsn(0xFFFF_FFFF_FFFF_FFFF)
_NOWHERE = Lsn(0)
_BEAT_S = 0.5
# A server frees the slot as soon as it notices that we left. [s], and how often it is asked meanwhile
_RELEASE_S = 10.0
_RELEASE_STEP_S = 0.02
_MAX_STALL_S = 30.0  # where wal_sender_timeout is switched off
_RETRY_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_STEADY_S = 30.0  # a connection that held so long was no failed attempt
_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What was received.

    Attributes:
        system_id: Of the cluster.
        segment_bytes: Size of its WAL segments [bytes].
        timeline: On which `end` lies.
        start: The first byte that was missing.
        end: The first byte that was not read; everything before it that the slot kept is durable.
        ranges: How many objects were put.
        wal_bytes: What they hold [bytes].
        stored_bytes: Their size [bytes].
        gap: WAL that was removed from the server before it was saved, where that was accepted; else None.
        slot_at: Where the slot stands now; the server keeps WAL from there on. None where it could not be moved.
        reconnects: How often the server was lost and found again.
    """

    system_id: int
    segment_bytes: int
    timeline: int
    start: Lsn
    end: Lsn
    ranges: int
    wal_bytes: int
    stored_bytes: int
    gap: tuple[Lsn, Lsn] | None
    slot_at: Lsn | None
    reconnects: int = 0


def drain(
    repo: Repository,
    source: str,
    target: PostgresConnection,
    *,
    slot: str,
    until: Lsn | None = None,
    from_: Position | None = None,
    accept_gap: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> DrainResult:
    """Save the WAL up to now, or up to `until`; then let the server remove it. Safe to repeat.

    On return all of it is durable. Ranges have up to 16 MiB and end where segments end.

    Args:
        repo: The repository.
        source: Name of the source.
        target: The cluster; also reached for SQL, to move the slot.
        slot: A physical slot, which keeps what is not saved.
        until: The first byte that is not wanted; waited for where it is not written yet. Where omitted, what is on the
            server's disk when the call begins.
        from_: (timeline, position) to begin at when nothing is saved, or when what is saved ends before what the slot
            keeps: the result's `gap` then says what is missing. Rounded down to its segment.
        accept_gap: In that case begin where the slot does.
        stop: Ends it; what was read is put, and InterruptedRunError raised.
        progress: Counters to keep up to date: `bytes_done` of `bytes_total` are WAL.

    Raises:
        PostgresSlotLostError, WalGapError, PostgresTimelineError, PostgresSystemChangedError, WalConflictError: See
            `plan_resumption`; nothing was read.
        PostgresSlotBusyError: Somebody else reads from the slot; nothing was read.
        PostgresUnavailableError: The server was lost; what was read before is durable.
        InterruptedRunError: `stop` was set.
        BackendError, TransientError: The store refuses. The slot keeps what is not durable.
    """
    archive = WalArchive(repo, source)
    receiver = _Receiver(archive, repo, target, slot, progress or Progress(), stop or threading.Event())
    resumption = receiver.plan(until=until, from_=from_, accept_gap=accept_gap)
    with receiver.writer_of(resumption) as writer:
        for stretch in resumption.stretches:
            receiver.read(stretch, writer)
    receiver.at = resumption.target
    return receiver.result(resumption, writer, timeline=resumption.history.timeline)


def receive(
    repo: Repository,
    source: str,
    target: PostgresConnection,
    *,
    slot: str,
    stop: threading.Event,
    interval_s: float = DEFAULT_INTERVAL_S,
    patience_s: float = DEFAULT_PATIENCE_S,
    from_: Position | None = None,
    accept_gap: bool = False,
    progress: Progress | None = None,
) -> DrainResult:
    """Save the WAL as it is written, until `stop` is set: at the latest `interval_s` later, or 16 MiB later.

    A lost server is looked for again, and a promoted one followed onto its new timeline. On return all that was read is
    durable, and the slot moved.

    Args:
        repo: The repository.
        source: Name of the source.
        target: The cluster.
        slot: A physical slot.
        stop: Ends it, without an error.
        interval_s: How old received bytes may become before they are put [s]. Each interval in which the server wrote
            anything makes an object.
        patience_s: How long a server that was lost is looked for before the error is raised [s].
        from_: As in `drain`.
        accept_gap: As in `drain`.
        progress: Counters to keep up to date.

    Raises:
        As `drain`, but InterruptedRunError.
    """
    archive = WalArchive(repo, source)
    receiver = _Receiver(archive, repo, target, slot, progress or Progress(), stop, max_age_s=interval_s)
    first = resumption = receiver.plan(until=None, from_=from_, accept_gap=accept_gap)
    receiver.at = first.begin[1]
    lost_s: float | None = None  # since when the server is looked for
    with receiver.writer_of(first) as writer:
        while not stop.is_set():
            before, began_s = receiver.at, repo.clock.monotonic_s()
            try:
                if lost_s is not None:
                    resumption = receiver.plan(until=None, from_=None, accept_gap=False)
                for stretch in _endless(resumption):
                    receiver.read(stretch, writer)
            except InterruptedRunError:
                break
            except (PostgresUnavailableError, PostgresSlotBusyError):
                if lost_s is None and not receiver.pieces:
                    raise  # somebody else is at the slot
                writer.settle()  # what is missing is asked of the repository
                now_s = repo.clock.monotonic_s()
                if lost_s is None or receiver.at != before or now_s - began_s >= _STEADY_S:
                    lost_s, receiver.attempts = now_s, 0
                elif now_s - lost_s >= patience_s:
                    raise
                receiver.wait_to_retry()
    return receiver.result(first, writer, timeline=resumption.history.timeline)


def _endless(resumption: Resumption) -> list[WalStretch]:
    """Return what is missing, and then all that the server will write on its timeline."""
    timeline = resumption.history.timeline
    stretches = list(resumption.stretches)
    begin = resumption.reached
    if stretches and (stretches[-1].timeline, stretches[-1].end) == (timeline, begin):
        begin = stretches.pop().start
    return [*stretches, WalStretch(timeline, begin, _ENDLESS)]


@dataclass(slots=True)
class _Receiver:
    """The reading side, in the caller's thread.

    Attributes:
        max_age_s: How old received bytes may become before they are put [s]; None where they can wait.
        at: The first byte that was not read.
        attempts: How often in a row the server was looked for in vain.
        reconnects: How often it was lost.
        pieces: How many were read of it.
    """

    archive: WalArchive
    repo: Repository
    target: PostgresConnection
    slot: str
    progress: Progress
    stop: threading.Event
    max_age_s: float | None = None
    at: Lsn = _NOWHERE
    attempts: int = 0
    reconnects: int = 0
    pieces: int = 0
    _stall_s: float = _MAX_STALL_S

    def plan(self, *, until: Lsn | None, from_: Position | None, accept_gap: bool) -> Resumption:
        """Ask the server where it is, and the repository what is saved."""
        self.progress.phase = "receiving WAL"
        with ReplicationSession(self.target) as session:
            found = plan_resumption(session, self.archive, self.slot, until=until, from_=from_, accept_gap=accept_gap)
            self._stall_s = _patience_of(session.show("wal_sender_timeout"))
        if self.max_age_s is None:
            missing = sum(stretch.end - stretch.start for stretch in found.stretches)
            self.progress.bytes_total = self.progress.bytes_done + missing
        return found

    def writer_of(self, resumption: Resumption) -> RangeWriter:
        """Return the writer of this run."""
        return RangeWriter(
            self.archive,
            system_id=resumption.system_id,
            segment_bytes=resumption.segment_bytes,
            progress=self.progress,
        )

    def read(self, stretch: WalStretch, writer: RangeWriter) -> None:
        """Read a stretch and hand its ranges over; where the store is slow, the connection is given up meanwhile."""
        self.at = stretch.start
        while self.at < stretch.end:
            self._read_until_full(WalStretch(stretch.timeline, self.at, stretch.end), writer)

    def _read_until_full(self, stretch: WalStretch, writer: RangeWriter) -> None:
        """Read until the end, or until the writer is so far behind that the server would lose patience with us."""
        cutter = RangeCutter(stretch.timeline, self.repo.clock, max_age_s=self.max_age_s)
        pending: list[tuple[Lsn, bytearray]] = []
        asked = threading.Event()
        pieces = self._pieces(stretch, writer, asked)
        try:
            with closing(pieces):
                for lsn, piece in pieces:
                    pending = cutter.add(lsn, piece)
                    self.at = lsn.after(len(piece))
                    self.progress.bytes_done += len(piece)
                    if asked.is_set():  # the server is to be stopped, and waits for us
                        asked.clear()
                        pending += cutter.rest()
                    while pending and writer.submit(stretch.timeline, *pending[0], timeout_s=self._stall_s):
                        del pending[0]
                    if pending:
                        break
        except CofferError:
            self._hand_over([*pending, *cutter.rest()], stretch.timeline, writer)
            raise
        self._hand_over([*pending, *cutter.rest()], stretch.timeline, writer)

    def _hand_over(self, ranges: list[tuple[Lsn, bytearray]], timeline: int, writer: RangeWriter) -> None:
        """Hand over what is left of a stream that has ended, however long that takes."""
        for start, data in ranges:
            writer.submit(timeline, start, data, timeout_s=None)

    def _pieces(
        self, stretch: WalStretch, writer: RangeWriter, asked: threading.Event
    ) -> Generator[tuple[Lsn, bytes], None, None]:
        """Yield what the server sends. Its slot may seem busy for a moment after our own last stream."""
        beat_s = _BEAT_S if self.max_age_s is None else min(_BEAT_S, self.max_age_s)
        more: dict[str, Any] = {"stop": self.stop, "durable": writer.durable, "beat_s": beat_s, "asked": asked}
        at, tries = stretch.start, 0
        while at < stretch.end:
            rest = WalStretch(stretch.timeline, at, stretch.end)
            try:
                with closing(stream_wal(ReplicationSession(self.target), self.slot, rest, **more)) as stream:
                    for lsn, piece in stream:
                        self.pieces, tries = self.pieces + 1, 0
                        at = lsn.after(len(piece))
                        yield lsn, piece
            except PostgresSlotBusyError:
                if not self.pieces or tries * _RELEASE_STEP_S >= _RELEASE_S or self.stop.wait(_RELEASE_STEP_S):
                    raise
                tries += 1

    def wait_to_retry(self) -> None:
        """Wait before the server is looked for again: not at all the first time, as it may just have been promoted."""
        self.stop.wait(_RETRY_S[min(self.attempts, len(_RETRY_S) - 1)])
        self.attempts += 1
        self.reconnects += 1

    def result(self, first: Resumption, writer: RangeWriter, *, timeline: int) -> DrainResult:
        """Move the slot to what was read, all of which is durable, and say what was done."""
        return DrainResult(
            system_id=first.system_id,
            segment_bytes=first.segment_bytes,
            timeline=timeline,
            start=first.begin[1],
            end=self.at,
            ranges=writer.ranges,
            wal_bytes=writer.wal_bytes,
            stored_bytes=writer.stored_bytes,
            gap=first.gap,
            slot_at=self._advance(self.at),
            reconnects=self.reconnects,
        )

    def _advance(self, to: Lsn) -> Lsn | None:
        """Move the slot. A server that has gone meanwhile is no error: the next run moves it."""
        tries = round(_RELEASE_S / _RELEASE_STEP_S)
        pause = threading.Event()
        while True:
            try:
                with closing(connect_sql(self.target)) as connection:
                    return advance_slot(connection, self.target.label, self.slot, to)
            except PostgresUnavailableError:
                return None
            except PostgresSlotBusyError:
                if not tries:
                    return None
                tries -= 1
                pause.wait(_RELEASE_STEP_S)


def _patience_of(wal_sender_timeout: str) -> float:
    """Return how long the reading may pause [s]: a quarter of the setting, as SHOW writes it; 0 switches it off."""
    found = re.fullmatch(r"(\d+)(ms|s|min|h|d)?", wal_sender_timeout)
    if found is None or not int(found[1]):
        return _MAX_STALL_S
    seconds = int(found[1]) * _UNITS_S[found[2] or "ms"]
    return min(seconds / 4, _MAX_STALL_S)
