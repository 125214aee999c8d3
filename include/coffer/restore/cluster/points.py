"""What can be restored: each snapshot of a cluster, and how far the saved WAL leads on from it."""

from __future__ import annotations

from dataclasses import dataclass

from coffer.errors import CofferError, SnapshotNotFoundError, UsageError
from coffer.postgres.facts import ClusterFacts
from coffer.postgres.timeline import History
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster.walpath import WalPath, known_histories


@dataclass(frozen=True)
class RestorePoint:
    """One snapshot, and what can be reached from it.

    Attributes:
        snapshot: The snapshot.
        facts: What it says of the cluster.
        path: Its WAL along the newest timeline that leads on from it.
    """

    snapshot: Snapshot
    facts: ClusterFacts
    path: WalPath

    @property
    def is_consistent(self) -> bool:
        """Whether there is WAL enough for the snapshot itself."""
        return self.path.reach.end >= self.facts.end


class ClusterHistory:
    """The snapshots of one cluster and its timelines, read once.

    Attributes:
        source: Its name.
        archive: Its WAL.
        coverage: Which of it is saved.
        snapshots: With their facts, oldest first: of the newest snapshot's cluster alone.
        histories: Of each timeline.
        others: Snapshots of another cluster that once had this name.
        damages: Of snapshots and histories that cannot be read.
    """

    def __init__(self, repo: Repository, source: str) -> None:
        """Read them.

        Raises:
            SnapshotNotFoundError: The source has no snapshot.
            UsageError: Its snapshots are of no cluster.
            ObjectCorruptError: Every one is damaged.
        """
        self.source = source
        self.damages: list[CofferError] = []
        found = repo.snapshots(source, damages=self.damages)
        if not found:
            if self.damages:
                raise self.damages[-1]
            names = ", ".join(sorted({s.source for s in repo.snapshots(damages=[]) if s.facts})) or "none"
            raise SnapshotNotFoundError(
                f"source {source!r}: has no snapshot", hint=f"Clusters with snapshots: {names}."
            )
        pairs = [(snapshot, ClusterFacts.of(snapshot)) for snapshot in sorted(found, key=lambda s: s.sequence)]
        of_clusters = [(snapshot, facts) for snapshot, facts in pairs if facts is not None]
        if not of_clusters:
            raise UsageError(
                f"source {source!r}: its snapshots are of no cluster", hint="Restore files with 'coffer restore'."
            )
        system_id = of_clusters[-1][1].system_id
        self.snapshots = [pair for pair in of_clusters if pair[1].system_id == system_id]
        self.others = len(of_clusters) - len(self.snapshots)
        self.archive = WalArchive(repo, source, system_id=system_id)
        self.coverage = self.archive.coverage()
        timelines = {facts.timeline for _, facts in self.snapshots} | set(self.coverage.timelines())
        self.histories = known_histories(self.archive, timelines, self.damages)

    def leading_from(self, facts: ClusterFacts) -> list[History]:
        """Return the histories along which a cluster can go on from a snapshot, newest timeline first."""
        histories = sorted(self.histories.values(), key=lambda history: -history.timeline)
        return [history for history in histories if history.holds(facts.timeline, facts.end)]

    def point(self, snapshot: Snapshot, facts: ClusterFacts, timeline: int | None = None) -> RestorePoint | None:
        """Return what can be reached from a snapshot; None where the timeline asked for does not lead on from it."""
        for history in self.leading_from(facts):
            if timeline in (None, history.timeline):
                return RestorePoint(snapshot, facts, WalPath.of(self.archive, self.coverage, history, facts))
        return None


def restore_points(repo: Repository, source: str) -> list[RestorePoint]:
    """Return the restore points of a cluster, oldest first. Reads snapshots and the names of WAL, nothing else.

    Raises:
        SnapshotNotFoundError, UsageError, ObjectCorruptError: There is none.
    """
    history = ClusterHistory(repo, source)
    found = (history.point(snapshot, facts) for snapshot, facts in history.snapshots)
    return [point for point in found if point is not None]
