"""Whole WAL segments, and other files of pg_wal, put together from what is saved.

A promoted server copies the beginning of the segment in which it left the old timeline: its first bytes are the old
timeline's. So a segment is put together along a history, from the ranges of several timelines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coffer.errors import ObjectNotFoundError
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.timeline import History
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import WalCoverage


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Where the bytes of a segment come from.

    Attributes:
        segment: The segment.
        start: Its first byte.
        saved_until: The first byte that is not saved; the segment's end where it is whole.
        end: The byte behind its last.
        pieces: (timeline, start, end), end to end from `start` to `saved_until`.
    """

    segment: Segment
    start: Lsn
    saved_until: Lsn
    end: Lsn
    pieces: tuple[tuple[int, Lsn, Lsn], ...]

    @property
    def is_whole(self) -> bool:
        """Whether all of it is saved."""
        return self.saved_until == self.end


def segment_bytes_of(archive: WalArchive) -> int | None:
    """Return the size of the source's segments [bytes], as its newest range says; None where nothing is saved.

    Raises:
        ObjectCorruptError, WrongKeyError, SizeLimitError, ShortReadError: That range is damaged.
    """
    ranges = archive.ranges()
    return archive.head(ranges[-1]).segment_bytes if ranges else None


def plan_segment(archive: WalArchive, segment: Segment, segment_bytes: int) -> SegmentPlan:
    """Say where the bytes of a segment come from.

    A history that is not saved is taken for one without ancestors: then the timeline's own ranges must hold all.

    Raises:
        ObjectCorruptError, WrongKeyError, SizeLimitError: The timeline's history is damaged.
    """
    start = segment.start(segment_bytes)
    end = start.after(segment_bytes)
    own = WalCoverage(archive.ranges(segment.timeline, start, end))
    if own.end_of(segment.timeline, start) >= end:
        return SegmentPlan(segment, start, end, end, ((segment.timeline, start, end),))
    history = _history(archive, segment.timeline)
    pieces: list[tuple[int, Lsn, Lsn]] = []
    at = start
    while at < end:
        timeline = history.timeline_at(at)
        left_at = history.end_of(timeline)
        limit = end if left_at is None else min(end, left_at)
        coverage = own
        if timeline != segment.timeline:
            coverage = WalCoverage(archive.ranges(timeline, at, limit))
        until = min(coverage.end_of(timeline, at), limit)
        if until > at:
            pieces.append((timeline, at, until))
        at = until
        if until < limit:
            break
    return SegmentPlan(segment, start, at, end, tuple(pieces))


def segment_content(archive: WalArchive, plan: SegmentPlan) -> Iterator[bytes]:
    """Yield the saved bytes of a segment in order, in pieces of at most 1 MiB; what is not saved is left out.

    Raises:
        As `WalArchive.bytes_between`.
    """
    for timeline, start, end in plan.pieces:
        yield from archive.bytes_between(timeline, start, end)


def _history(archive: WalArchive, timeline: int) -> History:
    try:
        return archive.history(timeline)
    except ObjectNotFoundError:
        return History(timeline)
