"""Which bytes of the log are saved: ranges joined where they meet, and what is missing between them.

Pure: everything follows from the names of the ranges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History
from coffer.postgres.wal_object import WalRangeRef

Span = tuple[Lsn, Lsn]  # from the first byte to the one behind the last


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a replay can go.

    Attributes:
        end: The first byte that it would need and that is not saved.
        timeline: On which that byte lies.
        gap: What is missing from `end` on, where something behind it is saved, or was written for certain; None where
            `end` is simply the end of what is saved.
    """

    end: Lsn
    timeline: int
    gap: Span | None


class WalCoverage:
    """What is saved of each timeline."""

    def __init__(self, ranges: Iterable[WalRangeRef]) -> None:
        """Join ranges; they may come in any order, overlap and repeat."""
        self._spans: dict[int, list[Span]] = {}
        for ref in sorted(ranges):
            spans = self._spans.setdefault(ref.timeline, [])
            if spans and ref.start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], ref.end)
            else:
                spans.append((ref.start, ref.end))

    def timelines(self) -> list[int]:
        """Return the timelines of which something is saved, oldest first."""
        return sorted(self._spans)

    def spans(self, timeline: int) -> list[Span]:
        """Return what is saved of a timeline: spans that do not touch, in order."""
        return list(self._spans.get(timeline, ()))

    def newest(self) -> tuple[int, Lsn] | None:
        """Return (the youngest timeline of which something is saved, where that ends); None where nothing is."""
        if not self._spans:
            return None
        timeline = max(self._spans)
        return timeline, self._spans[timeline][-1][1]

    def end_of(self, timeline: int, from_: Lsn) -> Lsn:
        """Return the first byte that is missing when one goes on from `from_` along a timeline."""
        span = self._holding(timeline, from_)
        return from_ if span is None else span[1]

    def next_start(self, timeline: int, after: Lsn) -> Lsn | None:
        """Return where the first span begins that begins at or behind a position; None where there is none."""
        return next((start for start, _ in self._spans.get(timeline, ()) if start >= after), None)

    def missing(self, timeline: int, start: Lsn, end: Lsn) -> list[Span]:
        """Return what is not saved of [start, end) of a timeline, in order."""
        found: list[Span] = []
        at = start
        while at < end:
            saved_until = min(self.end_of(timeline, at), end)
            if saved_until > at:
                at = saved_until
                continue
            until = min(self.next_start(timeline, at) or end, end)
            found.append((at, until))
            at = until
        return found

    def reach(self, history: History, from_timeline: int, from_: Lsn) -> Reach:
        """Return how far replay can go along a history.

        Args:
            history: Of the timeline that is aimed for.
            from_timeline: Where it begins; a part of that history.
            from_: The first byte that is needed.

        Raises:
            SourceFormatError: `from_timeline` is no part of the history.
        """
        at = from_
        for timeline, left_at in _path(history, from_timeline):
            end = self.end_of(timeline, at)
            if left_at is not None and end >= left_at:
                at = max(at, left_at)
                continue
            behind = self.next_start(timeline, end)
            if left_at is not None:  # so it was written up to there
                behind = left_at if behind is None else min(behind, left_at)
            return Reach(end, timeline, None if behind is None else (end, behind))
        raise AssertionError("unreachable: the youngest timeline of a history is not left")

    def missing_along(
        self, history: History, from_timeline: int, from_: Lsn, to_timeline: int, to: Lsn
    ) -> list[tuple[int, Lsn, Lsn]]:
        """Return (timeline, start, end) of what is not saved between two positions of a history, in order.

        Raises:
            SourceFormatError: `from_timeline` is no part of the history.
        """
        found: list[tuple[int, Lsn, Lsn]] = []
        at = from_
        for timeline, left_at in _path(history, from_timeline):
            end = to if timeline == to_timeline or left_at is None else min(left_at, to)
            found += [(timeline, *span) for span in self.missing(timeline, at, end)]
            at = max(at, end)
            if timeline == to_timeline:
                break
        return found

    def first_saved(self, history: History, from_: Lsn) -> tuple[int, Lsn]:
        """Return (timeline, position) of the first byte at or behind `from_` that is saved along a history.

        Where nothing is, it is `from_` itself.
        """
        first = history.timeline_at(from_)
        at = from_
        for timeline, left_at in _path(history, first):
            begin = at if self.end_of(timeline, at) > at else self.next_start(timeline, at)
            if begin is not None and (left_at is None or begin < left_at):
                return timeline, begin
            at = at if left_at is None else max(at, left_at)
        return first, from_

    def _holding(self, timeline: int, position: Lsn) -> Span | None:
        """Return the span that holds the byte at a position, or that ends there."""
        spans = self._spans.get(timeline, [])
        at = bisect_right(spans, position, key=lambda span: span[0])
        if not at or spans[at - 1][1] < position:
            return None
        return spans[at - 1]


def _path(history: History, from_timeline: int) -> list[tuple[int, Lsn | None]]:
    """Return (timeline, where it was left) of a history from a timeline on, oldest first."""
    path: list[tuple[int, Lsn | None]] = [
        (switch.timeline, switch.left_at) for switch in history.switches if switch.timeline >= from_timeline
    ]
    path.append((history.timeline, None))
    if path[0][0] != from_timeline:
        raise SourceFormatError(f"timeline {from_timeline}: not in the history of timeline {history.timeline}")
    return path
