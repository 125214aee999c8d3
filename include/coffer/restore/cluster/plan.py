"""From the moment that a user names to a snapshot, a stretch of WAL and a target that PostgreSQL cannot miss.

Nothing is left for the server to decide. Without a target a server replays what WAL it finds and opens; a gap is then
data lost in silence. So the end of the WAL is proved here, before anything is written, and every recovery has a
concrete target (docs/adr/0031-a-recovery-always-has-a-concrete-target.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from coffer.clock import utc_from_ns
from coffer.errors import UsageError
from coffer.errors_postgres import RestorePointError
from coffer.postgres.facts import CLUSTER_PATH, ClusterFacts
from coffer.postgres.lsn import Lsn
from coffer.postgres.record import MAX_RECORD_BYTES, ClusterRecord
from coffer.postgres.wal_records import RecordSpan
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster.content import read_small
from coffer.restore.cluster.points import ClusterHistory, RestorePoint
from coffer.restore.cluster.search import find_name, find_time, find_transaction
from coffer.restore.cluster.target import RecoveryTarget, TargetKind
from coffer.restore.cluster.walpath import WalPath


@dataclass(frozen=True, slots=True)
class StopAt:
    """What PostgreSQL is told.

    Attributes:
        setting: ``recovery_target`` or one of its kind.
        value: Of it.
        timeline: Of recovery_target_timeline.
        wal_end: The first byte of WAL that the recovery does not need.
        why: The place in words, for people.
        inclusive: Of recovery_target_inclusive.
    """

    setting: str
    value: str
    timeline: int
    wal_end: Lsn
    why: str
    inclusive: bool = True


@dataclass(frozen=True)
class ClusterPlan:
    """A restore that can be carried out.

    Attributes:
        source: Name of the cluster.
        snapshot, facts: Where it begins.
        record: What the snapshot keeps of the server.
        target: As it was asked for.
        path: WAL that leads on from the snapshot.
        stop: What the server is told.
        notes: What was decided, and what to be aware of, for people.
    """

    source: str
    snapshot: Snapshot
    facts: ClusterFacts
    record: ClusterRecord
    target: RecoveryTarget
    path: WalPath
    stop: StopAt
    notes: tuple[str, ...]

    @property
    def wal_bytes(self) -> int:
        """How much WAL the recovery may read [bytes]."""
        return self.stop.wal_end - self.path.begin


def plan_cluster_restore(
    repo: Repository,
    source: str,
    target: RecoveryTarget,
    *,
    snapshot: str | None = None,
    stop: threading.Event | None = None,
) -> ClusterPlan:
    """Choose the snapshot, and make sure that WAL leads from it to the target.

    The newest snapshot is taken whose end is at or before the target. Reads snapshots and names of WAL; for a time, a
    name, a transaction and the end of all WAL also WAL itself: some MiB, or for a name or transaction all of it from
    the snapshot on.

    Args:
        repo: The repository.
        source: Name of the cluster.
        target: The moment.
        snapshot: The one to begin with, as `Repository.resolve` takes it; else it is chosen.
        stop: Ends a long search.

    Raises:
        RestorePointError: Nothing leads to the target; the message names the bounds and the nearest moment.
        SnapshotNotFoundError, SnapshotAmbiguousError, UsageError: No such snapshot, or none of this cluster.
        ObjectCorruptError, WalConflictError: Something that is needed is damaged.
        InterruptedRunError: `stop` was set.
    """
    history = ClusterHistory(repo, source)
    chosen = None if snapshot is None else repo.resolve(snapshot)
    if chosen is not None and all(chosen.name != found.name for found, _ in history.snapshots):
        raise UsageError(
            f"snapshot {chosen.id}: is not one of cluster {source!r}", hint="'coffer pg points' lists those that are."
        )
    planner = _Planner(history, target, chosen, stop)
    point, stop_at = planner.choose()
    content = read_small(repo, repo.manifest(point.snapshot), CLUSTER_PATH, MAX_RECORD_BYTES)
    record = ClusterRecord("") if content is None else ClusterRecord.decode(content)
    notes = (*planner.notes(point), *([target.note] if target.note else []))
    return ClusterPlan(source, point.snapshot, point.facts, record, target, point.path, stop_at, notes)


class _Planner:
    """One choice."""

    def __init__(
        self, history: ClusterHistory, target: RecoveryTarget, chosen: Snapshot | None, stop: threading.Event | None
    ) -> None:
        self._history, self._target, self._chosen, self._stop = history, target, chosen, stop
        self._unusable: list[str] = []

    def choose(self) -> tuple[RestorePoint, StopAt]:
        """Return the snapshot that is best, and where to stop.

        Raises:
            RestorePointError: None leads to the target.
        """
        refused: RestorePointError | None = None
        for point in self._candidates():
            try:
                return point, self._stop_at(point)
            except RestorePointError as error:
                refused = refused or error
                if not point.is_consistent:
                    self._unusable.append(f"passed over snapshot {point.snapshot.id}: its own WAL is not whole")
                # What is too early for one snapshot may fit an older one; what WAL does not reach, fits none.
                if not error.details.get("older_may_do"):
                    break
        raise refused or self._no_candidate()

    def _candidates(self) -> Iterator[RestorePoint]:
        """Yield the snapshots that may do, the best first."""
        kind, target = self._target.kind, self._target
        for snapshot, facts in reversed(self._history.snapshots):
            if self._chosen is not None and snapshot.name != self._chosen.name:
                continue
            if self._chosen is None and kind is TargetKind.LSN and facts.end > target.lsn:
                continue
            if self._chosen is None and kind is TargetKind.TIME and snapshot.finished_ns > target.time_us * 1000 + 999:
                continue
            point = self._history.point(snapshot, facts, target.timeline)
            if point is not None:
                yield point

    def _stop_at(self, point: RestorePoint) -> StopAt:
        facts, path = point.facts, point.path
        if path.reach.end < facts.end:
            raise self._refusal(
                point, f"snapshot {point.snapshot.id} needs WAL up to {facts.end} itself", older_may_do=True
            )
        resolve = {
            TargetKind.IMMEDIATE: self._immediate,
            TargetKind.LATEST: self._latest,
            TargetKind.LSN: self._lsn,
            TargetKind.TIME: self._time,
            TargetKind.NAME: self._name,
            TargetKind.XID: self._transaction,
        }[self._target.kind]
        return resolve(point)

    # ----------------------------------------------------------------------------------------------- each kind

    def _immediate(self, point: RestorePoint) -> StopAt:
        """Stop behind the record that ends the backup.

        PostgreSQL's own `immediate` looks whether the cluster is consistent before the *next* record, or at the end of
        a transaction: where no record follows it replays all, and then refuses to open.
        """
        return self._last_record(point, point.facts.end, f"the backup's end, {point.facts.end}")

    def _latest(self, point: RestorePoint) -> StopAt:
        reach = point.path.reach
        if reach.gap is not None:
            raise self._refusal(point, "more was saved behind a gap, so the latest moment cannot be restored")
        return self._last_record(point, reach.end, f"the end of the saved WAL, {reach.end}")

    def _lsn(self, point: RestorePoint) -> StopAt:
        lsn, reach = self._target.lsn, point.path.reach
        if lsn < point.facts.end:
            raise self._refusal(point, f"it is before the end of snapshot {point.snapshot.id}", older_may_do=True)
        if lsn > reach.end:
            raise self._refusal(point, "the saved WAL does not reach it")
        span = point.path.record_at(lsn)
        if span is None:  # every record that was saved begins before it
            return self._last_record(point, reach.end, f"{lsn}, the end of the saved WAL")
        inclusive, timeline = self._target.inclusive, self._timeline_of(point, span.start)
        what = "the record there with it" if inclusive else "all before it"
        return StopAt(
            "recovery_target_lsn", str(lsn), timeline, self._end(point, span), f"{lsn}, {what}", inclusive=inclusive
        )

    def _last_record(self, point: RestorePoint, end: Lsn, why: str) -> StopAt:
        """Stop behind the last whole record before a position.

        PostgreSQL stops at a record that begins at the LSN it is told, or behind it. At the end of the WAL there is
        none: it would refuse to open. So it is told the beginning of the last record, and to replay that too.
        """
        span = point.path.last_record(end)
        if span is None or span.end < point.facts.end:
            raise self._refusal(point, f"no whole record reaches the end of snapshot {point.snapshot.id}")
        timeline = self._timeline_of(point, span.start)
        return StopAt("recovery_target_lsn", str(span.start), timeline, self._end(point, span), why)

    def _time(self, point: RestorePoint) -> StopAt:
        target, facts = self._target, point.facts
        found, before = find_time(point.path, target.time_us, facts.start, inclusive=target.inclusive)
        if found is None:
            until = "none was saved"
            if before is not None:
                until = f"the last that was saved ended at {_time_text(before.time_us)}"
            raise self._refusal(point, f"no transaction that ended after it was saved: {until}")
        if found.span.start < facts.end:
            raise self._refusal(point, f"it is before the end of snapshot {point.snapshot.id}", older_may_do=True)
        timeline = self._timeline_of(point, found.span.start)
        value = target.value.replace("T", " ")
        why = f"before the transaction of {_time_text(found.time_us)} at {found.span.start}"
        return StopAt(
            "recovery_target_time", value, timeline, self._end(point, found.span), why, inclusive=target.inclusive
        )

    def _name(self, point: RestorePoint) -> StopAt:
        found = find_name(point.path, self._target.value, point.facts.start, self._stop)
        if found is None:
            raise self._refusal(point, f"no such restore point follows snapshot {point.snapshot.id}", older_may_do=True)
        if found.span.end < point.facts.end:
            raise self._refusal(point, f"it is before the end of snapshot {point.snapshot.id}", older_may_do=True)
        timeline = self._timeline_of(point, found.span.start)
        why = f"the restore point of {_time_text(found.time_us)} at {found.span.start}"
        return StopAt("recovery_target_name", self._target.value, timeline, self._end(point, found.span), why)

    def _transaction(self, point: RestorePoint) -> StopAt:
        target = self._target
        found = find_transaction(point.path, target.xid, point.facts.start, self._stop)
        if found is None:
            raise self._refusal(
                point, f"no end of this transaction follows snapshot {point.snapshot.id}", older_may_do=True
            )
        if found.span.start < point.facts.end:
            raise self._refusal(point, f"it is before the end of snapshot {point.snapshot.id}", older_may_do=True)
        timeline = self._timeline_of(point, found.span.start)
        side = "with" if target.inclusive else "before"
        why = f"{side} the transaction that ended at {_time_text(found.time_us)}, {found.span.start}"
        return StopAt(
            "recovery_target_xid",
            str(target.xid),
            timeline,
            self._end(point, found.span),
            why,
            inclusive=target.inclusive,
        )

    @staticmethod
    def _end(point: RestorePoint, span: RecordSpan) -> Lsn:
        """Return the end of a record in the saved WAL, which may lack the zeros behind it."""
        return min(span.end, point.path.reach.end)

    @staticmethod
    def _timeline_of(point: RestorePoint, lsn: Lsn) -> int:
        return max(point.facts.timeline, point.path.timeline_at(lsn))

    # ----------------------------------------------------------------------------------------------- words

    def notes(self, point: RestorePoint) -> list[str]:
        """Say how the snapshot and the timeline came about, and what a reader should know."""
        history, found = self._history, []
        how = "as asked for" if self._chosen is not None else "the newest that leads to the target"
        found.append(f"snapshot {point.snapshot.id}, finished {_time_text(point.snapshot.finished_ns // 1000)}: {how}")
        others = [h.timeline for h in history.leading_from(point.facts) if h.timeline != point.path.history.timeline]
        if others:
            along = point.path.history.timeline
            others_text = ", ".join(map(str, others))
            found.append(f"follows timeline {along}; --timeline chooses another one ({others_text})")
        if point.facts.corrupt_pages:
            found.append(f"{point.facts.corrupt_pages} damaged pages were found on the server when it was taken")
        if history.others:
            found.append(f"{history.others} older snapshots of this name are of another cluster and were passed over")
        found += self._unusable
        found += [f"passed over: {error}" for error in history.damages]
        return found

    def _bounds(self) -> str:
        """Return from where to where a restore is possible."""
        points = [self._history.point(snapshot, facts) for snapshot, facts in self._history.snapshots]
        usable = [point for point in points if point is not None and point.is_consistent]
        if not usable:
            return "no snapshot of it can be restored"
        first, last = usable[0], usable[-1]
        since = _time_text(first.snapshot.finished_ns // 1000)
        end = last.path.reach.end
        return f"restorable is {first.facts.end} ({since}) to {end} on timeline {last.path.reach.timeline}"

    def _refusal(self, point: RestorePoint, why: str, *, older_may_do: bool = False) -> RestorePointError:
        reach = point.path.reach
        gap = ""
        if reach.gap is not None:
            gap = f"; WAL {reach.gap[0]}..{reach.gap[1]} of timeline {reach.timeline} is missing"
        nearest, hint = self._nearest(point)
        return RestorePointError(
            f"cluster {self._history.source!r}: {self._target} cannot be restored: {why}{gap}; {self._bounds()}",
            hint=hint,
            older_may_do=older_may_do and self._chosen is None,
            snapshot=point.snapshot.id,
            snapshot_end=str(point.facts.end),
            wal_end=str(reach.end),
            gap=None if reach.gap is None else [str(reach.gap[0]), str(reach.gap[1])],
            nearest=nearest,
        )

    def _nearest(self, point: RestorePoint) -> tuple[str | None, str]:
        """Return the nearest target that can be restored, and the advice to take it."""
        facts, reach = point.facts, point.path.reach
        if reach.end < facts.end:
            return None, "Save the missing WAL if another copy has it ('coffer wal push'), or name an older moment."
        oldest = all(facts.end <= other.end for _, other in self._history.snapshots)
        early = self._target.kind is TargetKind.LSN and self._target.lsn < facts.end
        if early and (oldest or self._chosen is not None):
            other = "" if self._chosen is None else " Without --snapshot an older snapshot is looked for."
            return "immediate", f"The nearest moment is the snapshot's own end: immediate ({facts.end}).{other}"
        if reach.gap is not None:
            nearest = f"lsn:{reach.end}"
            return nearest, f"The nearest moment from this snapshot is {nearest}; what came later is lost to it."
        return "latest", f"The nearest moment is the end of the saved WAL: latest ({reach.end})."

    def _no_candidate(self) -> RestorePointError:
        target, history = self._target, self._history
        oldest, facts = history.snapshots[0]
        why = "no snapshot ended before it"
        if target.timeline is not None and target.timeline not in history.histories:
            why = f"timeline {target.timeline} is not known"
        elif target.timeline is not None:
            why = f"no snapshot ended before it on timeline {target.timeline} or on one that led to it"
        return RestorePointError(
            f"cluster {history.source!r}: {target} cannot be restored: {why}; {self._bounds()}",
            hint=f"The earliest moment is the end of snapshot {oldest.id}: immediate, with --snapshot {oldest.id}.",
            nearest="immediate",
            snapshot=oldest.id,
            snapshot_end=str(facts.end),
        )


def _time_text(time_us: int) -> str:
    return utc_from_ns(time_us * 1000).strftime("%Y-%m-%d %H:%M:%S.%f UTC")
