"""Restore a PostgreSQL cluster to a moment: the snapshot's tree, WAL up to there, and what makes a server stop there.

`target` reads what the user says, `points` and `plan` decide what that takes (`search` looks into WAL, `walpath` goes
through timelines), `guard` and `tablespaces` refuse what must not be written to, and `execute` carries it out: by an
ordinary restore, or by `delta` over a folder that is there; then WAL (`walfiles`), `settings`, and pg_control last.
"""

from coffer.restore.cluster.execute import planned_tablespaces, restore_cluster
from coffer.restore.cluster.plan import ClusterPlan, StopAt, plan_cluster_restore
from coffer.restore.cluster.points import RestorePoint, restore_points
from coffer.restore.cluster.spec import ClusterRestoreOptions, ClusterRestoreResult
from coffer.restore.cluster.target import RecoveryTarget, TargetKind, parse_target

__all__ = [
    "ClusterPlan",
    "ClusterRestoreOptions",
    "ClusterRestoreResult",
    "RecoveryTarget",
    "RestorePoint",
    "StopAt",
    "TargetKind",
    "parse_target",
    "plan_cluster_restore",
    "planned_tablespaces",
    "restore_cluster",
    "restore_points",
]
