"""The WAL that leads on from a snapshot along one history, as it lies in the repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coffer.errors import CofferError, ObjectNotFoundError, PermanentError
from coffer.postgres.facts import ClusterFacts
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import Reach, WalCoverage
from coffer.postgres.wal_records import RecordScanner, RecordSpan, page_start

_BACK_BYTES = 64 << 10  # so far before the end of WAL the last record is looked for first [bytes]
_BACK_FACTOR = 16


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of one timeline, from `start` up to, and without, `end`."""

    timeline: int
    start: Lsn
    end: Lsn


@dataclass(frozen=True)
class WalPath:
    """What a recovery of one snapshot can replay.

    Attributes:
        archive: Where it lies.
        history: Of the timeline that is followed.
        timeline: The one of the first byte.
        begin: The first byte that a server needs: the segment's, in which replay begins.
        reach: How far there is no gap.
        segment_bytes: Size of a segment.
    """

    archive: WalArchive
    history: History
    timeline: int
    begin: Lsn
    reach: Reach
    segment_bytes: int

    @classmethod
    def of(cls, archive: WalArchive, coverage: WalCoverage, history: History, facts: ClusterFacts) -> WalPath:
        """Return the path from a snapshot on; the history must lead on from it.

        The bytes of the first segment before the switch to a timeline may be saved as of that timeline (its segment
        begins with a copy of them) or as of the one before: what leads further is taken.
        """
        begin = facts.start.segment_start(facts.segment_bytes)
        found = {}
        for timeline in sorted({history.timeline_at(begin), facts.start_timeline}):
            found[timeline] = coverage.reach(history, timeline, begin)
        best = max(found, key=lambda timeline: (found[timeline].end, timeline))
        return cls(archive, history, best, begin, found[best], facts.segment_bytes)

    def stretches(self, start: Lsn, end: Lsn) -> Iterator[Stretch]:
        """Yield what lies on which timeline between two positions, in order."""
        at = start
        ends = [(switch.timeline, switch.left_at) for switch in self.history.switches]
        for timeline, left_at in [*ends, (self.history.timeline, end)]:
            stop = min(left_at, end)
            if timeline >= self.timeline and stop > at:
                yield Stretch(timeline, at, stop)
                at = stop

    def timeline_at(self, lsn: Lsn) -> int:
        """Return the timeline of the byte at a position."""
        return max(self.timeline, self.history.timeline_at(lsn))

    def read(self, start: Lsn, end: Lsn) -> Iterator[bytes]:
        """Yield the bytes between two positions.

        Raises:
            WalGapError: Some are missing.
        """
        for stretch in self.stretches(start, end):
            yield from self.archive.bytes_between(stretch.timeline, stretch.start, stretch.end)

    def last_record(self, end: Lsn) -> RecordSpan | None:
        """Return the last record that is whole before a position; None where there is none."""
        back = _BACK_BYTES
        while True:
            begin = max(self.begin, page_start(max(0, end - back)))
            scanner = RecordScanner(begin, self.segment_bytes)
            for piece in self.read(begin, end):
                for _ in scanner.feed(piece):
                    pass
            for _ in scanner.finish():
                pass
            if scanner.last is not None or begin == self.begin:
                return scanner.last
            back *= _BACK_FACTOR

    def record_at(self, lsn: Lsn) -> RecordSpan | None:
        """Return the first whole record that begins at a position or behind it; None where WAL has none."""
        begin = max(self.begin, page_start(lsn))
        scanner = RecordScanner(begin, self.segment_bytes, watch=lsn)
        for piece in self.read(begin, self.reach.end):
            for at in range(0, len(piece), _BACK_BYTES):
                for _ in scanner.feed(piece[at : at + _BACK_BYTES]):
                    pass
                if scanner.found is not None:
                    return scanner.found
        for _ in scanner.finish():
            pass
        return scanner.found


def known_histories(archive: WalArchive, timelines: set[int], damages: list[CofferError]) -> dict[int, History]:
    """Return the history of each timeline that one is known of; timeline 1 needs none.

    Args:
        archive: The saved WAL.
        timelines: Those that are looked for, beside those whose history is saved.
        damages: Takes the errors of those that are damaged.
    """
    found = {}
    for timeline in sorted(timelines | set(archive.histories())):
        try:
            found[timeline] = archive.history(timeline)
        except ObjectNotFoundError:
            continue
        except PermanentError as error:
            damages.append(error)
    return found
