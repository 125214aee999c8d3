"""Write-ahead log as ranges of bytes, read through a physical slot.

A range may begin and end anywhere, also inside a segment, so nothing waits for a segment to be full. The slot is not
moved by reading: `replication.advance_slot` does that, once the caller has made the bytes durable.

Source: PostgreSQL documentation, "Streaming Replication Protocol", START_REPLICATION PHYSICAL.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from psycopg2.extras import REPLICATION_PHYSICAL

from coffer.errors import InterruptedRunError, SourceFormatError
from coffer.errors_postgres import PostgresSlotLostError, PostgresTimelineError, PostgresUnavailableError, WalGapError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.replication import ReplicationSession, slot_name
from coffer.sources.postgres.wal_feedback import STATUS_INTERVAL_S, WalFeedback

_POLL_S = 1.0  # how soon a stop is noticed while the server is silent


@dataclass(frozen=True, slots=True)
class WalStretch:
    """Bytes of one timeline, from `start` up to, and without, `end`."""

    timeline: int
    start: Lsn
    end: Lsn


def plan_stretches(history: History, saved_timeline: int, saved: Lsn, target: Lsn) -> list[WalStretch]:
    """Say what is to be read of which timeline, to get from what is saved to the target.

    Args:
        history: Of the server's timeline now.
        saved_timeline: On which the last saved byte lies.
        saved: The first byte that is not saved.
        target: The first byte that is not wanted.

    Returns:
        In the order of the log; no stretch is empty. Nothing where the target is reached already.

    Raises:
        PostgresTimelineError: The server's history does not lead on from what is saved.
    """
    if not history.holds(saved_timeline, saved):
        raise PostgresTimelineError(
            f"WAL was saved up to {saved} on timeline {saved_timeline}, which is not in the history of timeline "
            f"{history.timeline}",
            saved=str(saved),
            saved_timeline=saved_timeline,
            timeline=history.timeline,
        )
    ends = [(switch.timeline, switch.left_at) for switch in history.switches if switch.timeline >= saved_timeline]
    stretches: list[WalStretch] = []
    at = saved
    for timeline, left_at in [*ends, (history.timeline, target)]:
        end = min(left_at, target)
        if end > at:
            stretches.append(WalStretch(timeline, at, end))
            at = end
    return stretches


def require_kept(session: ReplicationSession, slot: str, saved: Lsn, segment_bytes: int) -> None:
    """Make sure that the server still has every byte from `saved` on.

    Raises:
        PostgresSlotLostError: There is no such slot, or it was invalidated: WAL may be missing from `saved` on.
        WalGapError: The slot keeps WAL only from a later segment on; the message names what is missing.
    """
    label = session.target.label
    position = session.read_slot(slot)
    if position is None or position.restart is None:
        state = "does not exist" if position is None else "was invalidated, its WAL may be gone"
        raise PostgresSlotLostError(
            f"postgres {label}: replication slot {slot} {state}; WAL is saved up to {saved}",
            slot=slot,
            saved=str(saved),
        )
    kept = position.restart.segment_start(segment_bytes)
    if kept > saved:
        raise WalGapError(
            f"postgres {label}: WAL {saved}..{kept} was removed from the server before it was saved",
            slot=slot,
            missing_from=str(saved),
            missing_to=str(kept),
        )


def stream_wal(
    session: ReplicationSession,
    slot: str | None,
    stretch: WalStretch,
    *,
    stop: threading.Event | None = None,
    durable: Callable[[], Lsn | None] | None = None,
    beat_s: float | None = None,
    asked: threading.Event | None = None,
) -> Generator[tuple[Lsn, bytes], None, None]:
    """Read one stretch of the log.

    The loop that takes the pieces must come back within wal_sender_timeout, so it only hands them on. The session is
    closed at the end, however that comes: the protocol has no way back from the middle of a timeline.

    Args:
        session: The connection; nothing else uses it any more.
        slot: That keeps the WAL; not moved, unless by `durable`. None for WAL that is kept anyway, as that of the last
            moment.
        stretch: What to read. Its end must be written already, or the call waits for it.
        stop: Ends it between two messages.
        durable: Tells up to where the log is saved, None where nothing new is; everything before the stretch must be.
            The server is told, and moves the slot. The iteration may then end early, behind any piece.
        beat_s: Yield no bytes, at the position that was reached, when the server has been silent for so long [s].
        asked: Is set, and a beat yielded, when the server waits until all that it sent is saved: it is to be stopped.
            With `durable` and `beat_s`.

    Yields:
        (position of the first byte, bytes), without gap and without overlap, up to the end of the stretch. No piece
        has more than 128 KiB.

    Raises:
        InterruptedRunError: `stop` was set. What was yielded is whole.
        WalGapError: The server has removed the segment.
        PostgresSlotBusyError: Somebody else reads from the slot.
        PostgresUnavailableError: The connection broke.
        SourceFormatError: The server left out bytes.
    """
    label = session.target.label
    at: int = stretch.start
    try:
        if at >= stretch.end:
            return
        with server_errors(label, slot=slot), session.connection.cursor() as cursor:
            cursor.start_replication(
                slot_name=None if slot is None else slot_name(slot),
                slot_type=REPLICATION_PHYSICAL,
                start_lsn=int(stretch.start),
                timeline=stretch.timeline,
                decode=False,
                status_interval=STATUS_INTERVAL_S,
            )
            # poll, not select: select breaks off for descriptors from 1,024 on.
            poll = select.poll()
            poll.register(session.connection.fileno(), select.POLLIN)
            feedback = WalFeedback(cursor, stretch.start, durable, asked)
            while at < stretch.end:
                if stop is not None and stop.is_set():
                    raise InterruptedRunError(f"postgres {label}: stopped by request at {Lsn(at)}", reason="stopped")
                feedback.tell()
                message = cursor.read_message()
                if message is None:
                    is_beat = feedback.answer(Lsn(at)) or not poll.poll(1000 * min(beat_s or _POLL_S, _POLL_S))
                    if is_beat and beat_s is not None:
                        yield Lsn(at), b""
                    continue
                begin, data = int(message.data_start), message.payload
                if begin != at:
                    raise SourceFormatError(f"postgres {label}: WAL goes on at {Lsn(begin)} where {Lsn(at)} was due")
                data = data[: stretch.end - at]
                yield Lsn(at), data
                at += len(data)
                if not feedback.goes_on(begin):
                    return
    finally:
        session.close()


def newest_position(session: ReplicationSession, expected_system_id: int | None = None) -> tuple[History, Lsn]:
    """Return the server's history and the end of what is on its disk.

    Raises:
        PostgresSystemChangedError: Another cluster answers.
        PostgresUnavailableError: The answer cannot be had now.
    """
    identity = session.identify(expected_system_id)
    history = History.parse(identity.timeline, session.timeline_history(identity.timeline))
    if history.switches and identity.flushed < history.switches[-1].left_at:
        raise PostgresUnavailableError(
            f"postgres {session.target.label}: is at {identity.flushed}, before its timeline {identity.timeline} begins"
        )
    return history, identity.flushed
