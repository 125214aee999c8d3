"""Where the receiving of WAL goes on: what the server has and keeps, held against what is saved."""

from __future__ import annotations

from dataclasses import dataclass

from coffer.errors_postgres import PostgresError, PostgresTimelineError, PostgresUnavailableError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import WalCoverage
from coffer.sources.postgres.replication import ReplicationSession
from coffer.sources.postgres.walstream import WalStretch, newest_position, plan_stretches, require_kept

Position = tuple[int, Lsn]  # timeline and the first byte


@dataclass(frozen=True, slots=True)
class Resumption:
    """What is to be received.

    Attributes:
        system_id: Of the cluster.
        segment_bytes: Size of its segments [bytes].
        history: Of its timeline now.
        begin: Where the first missing byte lies; the target where nothing is missing.
        target: The first byte that is not wanted, on the youngest timeline.
        reached: From the target on, the first byte that is not saved: a standby may be behind what another server sent.
        stretches: What is missing, in the order of the log.
        gap: What was removed from the server before it was saved, where that was accepted.
    """

    system_id: int
    segment_bytes: int
    history: History
    begin: Position
    target: Lsn
    reached: Lsn
    stretches: tuple[WalStretch, ...]
    gap: tuple[Lsn, Lsn] | None


def plan_resumption(
    session: ReplicationSession,
    archive: WalArchive,
    slot: str,
    *,
    until: Lsn | None = None,
    from_: Position | None = None,
    accept_gap: bool = False,
) -> Resumption:
    """Say what is to be received, and save the timelines' histories.

    Everything that the slot keeps and that is not saved is received, so also a hole. Where a promoted server left a
    timeline earlier than its log is saved (its last transactions were lost to it), the saved end stays, and the new
    timeline is received from where it begins.

    Args:
        session: A connection; it is not used up.
        archive: Of the source.
        slot: That keeps the WAL.
        until: The first byte that is not wanted; where omitted, the end of what is on the server's disk.
        from_: Where to begin when nothing is saved yet, or what is saved ends before what the slot keeps.
        accept_gap: Go on where the slot begins in that case, if `from_` is not given.

    Raises:
        PostgresSlotLostError: There is no such slot, or it was invalidated.
        WalGapError: The slot does not keep what comes after the saved end, and neither `from_` nor `accept_gap` says to
            go on behind it.
        PostgresTimelineError: The server is on a timeline that does not come after the one that is saved.
        PostgresSystemChangedError: Another cluster answers.
        WalConflictError: The server has another history of a timeline than the one that is saved.
    """
    history, flushed = newest_position(session, archive.system_id())
    system_id = session.identify().system_id
    segment_bytes = session.wal_segment_bytes()
    _save_histories(session, archive, history, system_id)
    coverage = archive.coverage()
    saved = _saved_end(coverage, history, session.target.label)
    (timeline, start), gap = _first_needed(
        session, coverage, history, slot, segment_bytes, saved, from_, accept_gap=accept_gap
    )
    target = flushed if until is None else until
    stretches = tuple(
        WalStretch(planned.timeline, begin, end)
        for planned in plan_stretches(history, timeline, start, target)
        for begin, end in coverage.missing(planned.timeline, planned.start, planned.end)
    )
    begin = (stretches[0].timeline, stretches[0].start) if stretches else (history.timeline, target)
    reached = coverage.end_of(history.timeline, target)
    return Resumption(system_id, segment_bytes, history, begin, target, reached, stretches, gap)


def _saved_end(coverage: WalCoverage, history: History, label: str) -> Position | None:
    """Return where what is saved ends on the server's history; None where nothing is saved.

    Raises:
        PostgresTimelineError: The youngest timeline that is saved is no part of that history.
    """
    newest = coverage.newest()
    if newest is None:
        return None
    timeline, end = newest
    if timeline != history.timeline and all(switch.timeline != timeline for switch in history.switches):
        raise PostgresTimelineError(
            f"postgres {label}: is on timeline {history.timeline}, WAL is saved up to {end} on timeline {timeline}, "
            "which is not in its history",
            saved=str(end),
            saved_timeline=timeline,
            timeline=history.timeline,
        )
    left_at = history.end_of(timeline)
    return timeline, end if left_at is None else min(end, left_at)


def _first_needed(
    session: ReplicationSession,
    coverage: WalCoverage,
    history: History,
    slot: str,
    segment_bytes: int,
    saved: Position | None,
    from_: Position | None,
    *,
    accept_gap: bool,
) -> tuple[Position, tuple[Lsn, Lsn] | None]:
    """Return where everything must be there from, and what was given up before it."""
    wanted = None if from_ is None else _segment_begin(session, history, from_, segment_bytes)
    position = session.read_slot(slot)
    if position is None or position.restart is None:
        require_kept(session, slot, saved[1] if saved is not None else Lsn(0), segment_bytes)  # says what is wrong
        raise PostgresUnavailableError(f"postgres {session.target.label}: replication slot {slot} was just made anew")
    kept = position.restart.segment_start(segment_bytes)
    if saved is not None and kept <= saved[1]:
        first = coverage.first_saved(history, kept)
        return (wanted if wanted is not None and kept <= wanted[1] < first[1] else first), None
    if wanted is None and saved is not None and not accept_gap:
        require_kept(session, slot, saved[1], segment_bytes)
    if wanted is None:
        wanted = history.timeline_at(kept), kept
    else:
        require_kept(session, slot, wanted[1], segment_bytes)
    return wanted, None if saved is None or wanted[1] <= saved[1] else (saved[1], wanted[1])


def _segment_begin(session: ReplicationSession, history: History, from_: Position, segment_bytes: int) -> Position:
    """Return where the segment of a position begins: a server that replays needs its first page too."""
    timeline, start = from_
    if not history.holds(timeline, start):
        raise PostgresTimelineError(
            f"postgres {session.target.label}: {start} on timeline {timeline} is not in the history of timeline "
            f"{history.timeline}",
            timeline=history.timeline,
        )
    begin = start.segment_start(segment_bytes)
    return min(timeline, history.timeline_at(begin)), begin


def _save_histories(session: ReplicationSession, archive: WalArchive, history: History, system_id: int) -> None:
    """Save the histories of the server's timeline and of its ancestors, where they are not."""
    if history.timeline == 1:
        return
    there = set(archive.histories())
    for timeline in [switch.timeline for switch in history.switches if switch.timeline > 1]:
        if timeline not in there:
            # A server that was made from a backup may lack old ones; its own history names the same ancestors.
            try:
                content = session.timeline_history(timeline)
            except PostgresError:
                continue
            archive.put_history(timeline, content, system_id=system_id)
    content = session.timeline_history(history.timeline)
    archive.put_history(history.timeline, content, system_id=system_id)
