"""Whether the saved write-ahead log is whole, and holds what the snapshots of clusters need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from coffer.errors import CofferError, SourceFormatError
from coffer.errors_postgres import WalConflictError, WalGapError
from coffer.postgres.facts import ClusterFacts
from coffer.postgres.timeline import History
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import WalCoverage
from coffer.postgres.wal_object import (
    PREFIX,
    WalRangeRef,
    history_object_name,
    parse_history_object_name,
    parse_range_name,
)
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.verification.chain import SourceChain
from coffer.verification.findings import DAMAGE, FindingLog

_GAP = WalGapError.code
_QUEUED_PER_WORKER = 2
Backup = tuple[Snapshot, ClusterFacts]


@dataclass(slots=True)
class _SourceWal:
    """The log of one source.

    Attributes:
        archive: Reads it.
        ranges: Those that are sound.
        damaged: Those that are not.
        histories: By timeline; the sound ones.
    """

    archive: WalArchive
    ranges: list[WalRangeRef] = field(default_factory=list)
    damaged: list[WalRangeRef] = field(default_factory=list)
    histories: dict[int, History] = field(default_factory=lambda: {1: History(1)})


class WalExamination:
    """Examines the log of every source. Not for several threads.

    Attributes:
        ranges: How many ranges were looked at.
        read_bytes: What was read of them, once each [bytes]; 0 where only heads were opened.
    """

    def __init__(self, repo: Repository, notes: FindingLog, tick: Callable[[], None], *, workers: int = 0) -> None:
        """Look at a repository.

        Args:
            repo: The repository.
            notes: Takes the findings.
            tick: Called before each object; may raise.
            workers: Threads that read every byte; 0: only the heads of ranges are opened.
        """
        self._repo, self._notes, self._tick, self._workers = repo, notes, tick, workers
        self.ranges = self.read_bytes = 0

    def examine(self, objects: dict[str, int], chains: dict[str, SourceChain]) -> None:
        """Open every object, then follow what each snapshot of a cluster needs.

        Args:
            objects: Name → size [bytes] of the objects of WAL.
            chains: Source tag → its snapshots.
        """
        names: dict[str, dict[str, int]] = {}
        for name, size in objects.items():
            names.setdefault(name.removeprefix(PREFIX).partition("/")[0], {})[name] = size
        for tag in sorted({*names, *chains}):
            backups = self._backups(chains.get(tag, SourceChain()))
            if not backups and tag not in names:
                continue
            source = backups[0][0].source if backups else tag
            system_id = backups[-1][1].system_id if backups else None
            wal = _SourceWal(WalArchive(self._repo, source, system_id=system_id, tag=tag))
            self._open(wal, names.get(tag, {}))
            coverage = WalCoverage(wal.ranges)
            for backup in backups:
                self._judge_backup(wal, coverage, *backup)
            if backups:
                self._judge_gaps(wal, coverage, backups[0][1])

    def _backups(self, chain: SourceChain) -> list[Backup]:
        """Return the snapshots of clusters, oldest first."""
        found = []
        for _, snapshot in sorted(chain.snapshots.items()):
            try:
                facts = ClusterFacts.of(snapshot)
            except DAMAGE as error:
                self._notes.damage(snapshot.name, error)
                continue
            found += [(snapshot, facts)] if facts is not None else []
        return found

    # ------------------------------------------------------------------------------------------------ objects

    def _open(self, wal: _SourceWal, names: dict[str, int]) -> None:
        refs = []
        for name, size in names.items():
            ref = parse_range_name(name, size)
            if ref is not None:
                refs.append(ref)
            elif parse_history_object_name(name) is None:
                self._notes.hint(name, "stray-object", f"{name}: no range of WAL; nothing refers to it")
        refs.sort()
        self.ranges += len(refs)
        for ref, error in self._verdicts(wal.archive, refs):
            if error is None:
                wal.ranges.append(ref)
            else:
                self._notes.damage(ref.name, error)
                wal.damaged.append(ref)
        if self._workers:
            self._compare(wal)
        for name in sorted(names):
            timeline = parse_history_object_name(name)
            if timeline is not None:
                try:
                    wal.histories[timeline] = wal.archive.history(timeline)
                except DAMAGE as error:
                    self._notes.damage(name, error)

    def _verdicts(
        self, archive: WalArchive, refs: Iterable[WalRangeRef]
    ) -> Iterator[tuple[WalRangeRef, CofferError | None]]:
        """Yield what is wrong with each range, or None; with threads in the order in which they are done."""
        if not self._workers:
            for ref in refs:
                self._tick()
                yield ref, _error_of(archive.head, ref)
            return
        archive.system_id()  # learned once, and not by the threads at the same time
        with ThreadPoolExecutor(self._workers, thread_name_prefix="coffer-verify-wal") as pool:
            waiting: dict[Future[CofferError | None], WalRangeRef] = {}
            for ref in refs:
                self._tick()
                waiting[pool.submit(_error_of, archive.prove, ref)] = ref
                if len(waiting) >= self._workers * _QUEUED_PER_WORKER:
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from self._taken(waiting, done)
            yield from self._taken(waiting, set(waiting))

    def _taken(
        self, waiting: dict[Future[CofferError | None], WalRangeRef], done: set[Future[CofferError | None]]
    ) -> Iterator[tuple[WalRangeRef, CofferError | None]]:
        for future in done:
            ref = waiting.pop(future)
            self.read_bytes += ref.size_bytes
            yield ref, future.result()

    def _compare(self, wal: _SourceWal) -> None:
        """Hold overlapping ranges against each other: each with the one before it that reaches furthest.

        Whatever bytes two ranges hold, there is a chain of such comparisons between them.
        """
        furthest: WalRangeRef | None = None
        for ref in sorted(wal.ranges):
            if furthest is None or furthest.timeline != ref.timeline or furthest.end <= ref.start:
                furthest = ref
                continue
            self._tick()
            try:
                wal.archive.compare(furthest, ref)
            except (WalConflictError, *DAMAGE) as error:
                self._notes.damage(ref.name, error)
            if ref.end > furthest.end:
                furthest = ref

    # ------------------------------------------------------------------------------------------------ needs

    def _judge_backup(self, wal: _SourceWal, coverage: WalCoverage, snapshot: Snapshot, facts: ClusterFacts) -> None:
        """A cluster is consistent only after its log was replayed from the backup's start to its end."""
        history = History(facts.timeline)
        if facts.start_timeline != facts.timeline:
            found = wal.histories.get(facts.timeline)
            if found is None:
                name = history_object_name(wal.archive.tag, facts.timeline)
                text = f"{name}: the history of timeline {facts.timeline} is missing, snapshot {snapshot.id} needs it"
                self._notes.error(name, _GAP, text)
                self._notes.affect(name, snapshot.id)
                return
            history = found
        try:
            missing = coverage.missing_along(history, facts.start_timeline, facts.start, facts.timeline, facts.end)
        except SourceFormatError as error:
            self._notes.error(snapshot.name, error.code, f"{snapshot.name}: {error.message}")
            return
        for timeline, start, end in missing:
            blamed = [r for r in wal.damaged if r.timeline == timeline and r.start < end and start < r.end]
            for ref in blamed:
                self._notes.affect(ref.name, snapshot.id)
            if not blamed:
                name = _gap_name(wal.archive.tag, timeline, start, end)
                text = f"source {snapshot.source}: WAL {start}..{end} of timeline {timeline} is not saved"
                self._notes.error(name, _GAP, f"{text}, and snapshot {snapshot.id} cannot be restored without it")
                self._notes.affect(name, snapshot.id)

    def _judge_gaps(self, wal: _SourceWal, coverage: WalCoverage, oldest: ClusterFacts) -> None:
        """Behind the oldest backup every moment should be restorable."""
        newest = coverage.newest()
        if newest is None:
            return
        history = wal.histories.get(newest[0], History(newest[0]))
        try:
            missing = coverage.missing_along(history, oldest.timeline, oldest.end, *newest)
        except SourceFormatError:
            return  # another branch of history: what its own snapshots need was judged
        damaged = [(ref.timeline, ref.start, ref.end) for ref in wal.damaged]
        for timeline, start, end in missing:
            if any(t == timeline and begin < end and start < stop for t, begin, stop in damaged):
                continue
            text = f"source {wal.archive.source}: WAL {start}..{end} of timeline {timeline} is not saved"
            name = _gap_name(wal.archive.tag, timeline, start, end)
            self._notes.hint(name, _GAP, f"{text}: no moment inside it can be restored")


def _error_of(look: Callable[[WalRangeRef], object], ref: WalRangeRef) -> CofferError | None:
    try:
        look(ref)
    except DAMAGE as error:
        return error
    return None


def _gap_name(tag: str, timeline: int, start: int, end: int) -> str:
    """Return what the missing range would be called."""
    return f"{PREFIX}{tag}/{timeline:08x}-{start:016x}-{end:016x}"
