"""Prove a backup of a cluster by a restore: on a server that is started for it, and ends with the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from coffer.progress import Progress
from coffer.recovery.cluster_drill import drill_cluster
from coffer.recovery.drill_report import DrillOptions, DrillReport
from coffer.repository.repository import Repository
from coffer.verification.findings import Severity
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import Result
from coffer_airflow.operators.cluster import ClusterOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

_FINDINGS_LOGGED = 200
_FINDINGS_IN_ERROR = 5


class DatabaseDrillOperator(ClusterOperator):
    """Restores a backup to a scratch folder, starts a server on it, and compares its tables with what they were.

    Changes nothing in the repository and nothing on the server that was backed up. Safe to run twice. Everything that
    it makes is removed, also when the task is killed. Fails without a further try where anything differs.

    Args:
        snapshot: The snapshot; None: the newest of the cluster.
        scratch_dir: Folder with room for the whole server; None: as the policy says, else the system's temporary one.
        **kwargs: Those of `ClusterOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "snapshot", "scratch_dir")

    def __init__(self, *, snapshot: str | None = None, scratch_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot
        self.scratch_dir = scratch_dir

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Prove it; see the class."""
        policy = hook.required_policy()
        cluster = self.cluster(policy)
        folder = self.scratch_dir or cluster.server.proof.scratch_dir
        options = DrillOptions(scratch=None if folder is None else Path(folder), workers=policy.performance.max_workers)
        self.log.info("restoring %s of %s to prove it", self.snapshot or "the newest snapshot", cluster.label)
        report = drill_cluster(
            repo,
            cluster.source,
            snapshot=self.snapshot or None,
            options=options,
            progress=progress,
            stop=self._stop,
        )
        return self._told(report, list(cluster.names), hook.place)

    def _told(self, report: DrillReport, databases: list[str], place: str) -> Result:
        """Log what was found and return the XCom."""
        for finding in report.findings[:_FINDINGS_LOGGED]:
            log = self.log.error if finding.severity is Severity.ERROR else self.log.warning
            log("%s: %s", finding.code, finding.message)
        errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
        if not report.ok:
            first = "\n  ".join(f"{finding.code}: {finding.message}" for finding in errors[:_FINDINGS_IN_ERROR])
            raise AirflowFailException(
                f"snapshot {report.snapshot} of {report.source!r}: {len(errors)} findings\n  {first}\n"
                "HINT: do not rely on it. Take a full backup now, and prove it; then look for what is wrong here."
            )
        self.log.info(
            "snapshot %s is %s: %s",
            report.snapshot,
            report.verdict,
            ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.counts.items()),
        )
        return {
            "snapshot": report.snapshot,
            "source": report.source,
            "databases": databases,
            "location": place,
            "verdict": report.verdict,
            **report.counts,
        }
