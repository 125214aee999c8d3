"""Back up a PostgreSQL cluster of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from coffer.clock import SYSTEM_CLOCK, utc_from_ns
from coffer.compression import LEVEL_OFF
from coffer.config.databases import DatabaseCluster
from coffer.config.policy import Policy
from coffer.errors import InterruptedRunError, UsageError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.wal_receiver import drain
from coffer.units import human_size
from coffer_airflow.hooks.cluster import ClusterHook
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import Result
from coffer_airflow.operators.cluster import ClusterOperator, is_backed_up

if TYPE_CHECKING:
    from airflow.sdk import Context

_WARNINGS_LOGGED = 200
METHODS = ("full", "delta", "native", "wal")


class DatabaseBackupOperator(ClusterOperator):
    """Takes one backup of a cluster: a snapshot from which all of its databases can be restored.

    Safe to run twice: a second snapshot stores what changed meanwhile. A run that was killed or whose time was over
    leaves no snapshot, and what it stored is found by the next one. Without an earlier snapshot an incremental backup
    is a full one, and says so. Pages that are damaged on the server are logged as warnings; the snapshot is kept, and
    the task succeeds with ``complete: false``, unless `fail_on_warnings` is set.

    Args:
        kind: ``full`` or ``incremental``; for people, `method` says how.
        method: ``full``, ``delta``, ``native`` or ``wal``; None: full, or the policy's for an incremental backup.
        deadline: When to stop (ISO 8601 with a UTC offset); the task then fails without a further try.
        workers: Threads that compress and seal; 0: as many as the policy's `max_workers`.
        proof_budget_s: How long the server may be asked for digests of its tables [s]; None: as the policy says.
        fail_on_warnings: Fail the task where the snapshot is incomplete. The snapshot stays.
        **kwargs: Those of `ClusterOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "method", "deadline")

    def __init__(
        self,
        *,
        kind: str = "full",
        method: str | None = None,
        deadline: str | None = None,
        workers: int = 0,
        proof_budget_s: float | None = None,
        fail_on_warnings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.method = method
        self.deadline = deadline
        self.workers = workers
        self.proof_budget_s = proof_budget_s
        self.fail_on_warnings = fail_on_warnings

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Take the backup; see the class."""
        policy = hook.required_policy()
        cluster = self.cluster(policy)
        method = self._method(cluster)
        deadline_s = self._deadline_s(repo)
        server = ClusterHook(cluster)
        if method == "wal":
            if is_backed_up(repo, cluster.source):
                return self._save_wal(repo, hook, cluster, server, progress)
            self.log.warning("%s: WAL alone needs a backup to begin from: this one is full", cluster.label)
            method = "full"
        self.log.info("backing up %s at %s to %s (%s)", cluster.label, server.target.label, repo.backend.url, method)
        source = ClusterSource(cluster.source, server.target, cluster.slot, cluster.tags)
        options = self._options(policy, cluster, Method(method), deadline_s)
        try:
            result = backup_cluster(repo, source, options=options, progress=progress, stop=self._stop)
        except InterruptedRunError as error:
            if self._stop.is_set():
                raise
            raise AirflowFailException(
                f"{error}: no snapshot was made, and what was stored is found by the next run\n"
                "HINT: give it more time (performance_config.scheduling in the policy) or a higher max_rate, or start a"
                " run by hand with 'Run outside the backup window'."
            ) from None
        if repo.heads is not None and repo.heads.failure:
            self.log.warning(
                "the snapshot is not remembered on this machine, which would not notice its removal (%s)",
                repo.heads.failure,
            )
        return self._told(result, cluster, hook.place)

    def _method(self, cluster: DatabaseCluster) -> str:
        method = self.method or ("full" if self.kind == "full" else cluster.server.method)
        if method not in METHODS:
            raise UsageError(f"method {method!r}: there are {', '.join(METHODS)}")
        return method

    def _options(
        self, policy: Policy, cluster: DatabaseCluster, method: Method, deadline_s: float | None
    ) -> ClusterOptions:
        performance, server = policy.performance, cluster.server
        return ClusterOptions(
            method=method,
            fast_checkpoint=server.fast_checkpoint,
            max_rate_bytes_s=server.max_rate,
            level=performance.compression_level or LEVEL_OFF,
            workers=self.workers or performance.max_workers,
            pack_size_bytes=performance.pack_size_bytes,
            deadline_s=deadline_s,
            proof_budget_s=server.proof.budget if self.proof_budget_s is None else self.proof_budget_s,
            proof_tables=server.proof.tables,
        )

    def _deadline_s(self, repo: Repository) -> float | None:
        """Return when to stop, by the repository's monotonic clock [s]."""
        if self.deadline is None:
            return None
        left_s = (datetime.fromisoformat(self.deadline) - utc_from_ns(SYSTEM_CLOCK.now_ns())).total_seconds()
        if left_s <= 0:
            raise AirflowFailException(
                f"database {self.source!r}: its time was over at {self.deadline}, before this try began\n"
                "HINT: the next run takes it. Was the server away, or another run in the way?"
            )
        return repo.clock.monotonic_s() + left_s

    def _save_wal(
        self, repo: Repository, hook: RepositoryHook, cluster: DatabaseCluster, server: ClusterHook, progress: Progress
    ) -> Result:
        """Make an incremental backup of method ``wal``: there is no new snapshot, only more to replay."""
        saved = drain(repo, cluster.source, server.target, slot=cluster.slot, stop=self._stop, progress=progress)
        self.log.info("%s: %s of WAL saved, up to %s", cluster.label, human_size(saved.wal_bytes), saved.end)
        return {
            "snapshot": None,
            "source": cluster.source,
            "databases": list(cluster.names),
            "location": hook.place,
            "kind": self.kind,
            "method": "wal",
            "complete": True,
            "warnings_count": 0,
            "timeline": saved.timeline,
            "end_lsn": str(saved.end),
            "size_bytes": saved.wal_bytes,
            "read_bytes": saved.wal_bytes,
            "stored_bytes": saved.stored_bytes,
        }

    def _told(self, result: BackupResult, cluster: DatabaseCluster, place: str) -> Result:
        """Log what was done and return the XCom."""
        snapshot, stats = result.snapshot, result.stats
        for warning in result.warnings[:_WARNINGS_LOGGED]:
            where = f"{warning.path.decode(errors='backslashreplace')}: " if warning.path else ""
            self.log.warning("%s: %s%s", warning.code, where, warning.message)
        for concern in result.concerns:
            self.log.warning("%s: %s", concern.code, concern.message)
        facts = ClusterFacts.of(snapshot)
        assert facts is not None  # a backup of a cluster is one
        self.log.info(
            "snapshot %s of %s (%s): %s, %s read; new in the repository: %s; consistent from %s on",
            snapshot.id,
            cluster.label,
            facts.method.value,
            human_size(stats["size_bytes"]),
            human_size(stats["read_bytes"]),
            human_size(stats["stored_bytes"]),
            facts.end,
        )
        if not snapshot.complete:
            self.log.warning("INCOMPLETE: %d pages are damaged on the server", facts.corrupt_pages)
        if self.fail_on_warnings and not snapshot.complete:
            raise AirflowFailException(
                f"snapshot {snapshot.id} of {cluster.source!r}: {facts.corrupt_pages} pages are damaged on the server\n"
                "HINT: the snapshot is kept, with these pages as they are; the log names them. Look at the disk."
            )
        return {
            "snapshot": snapshot.id,
            "source": snapshot.source,
            "databases": list(cluster.names),
            "location": place,
            "sequence": snapshot.sequence,
            "kind": self.kind,
            "method": facts.method.value,
            "complete": snapshot.complete,
            "warnings_count": snapshot.warnings_count,
            "notes": sorted({warning.code for warning in result.warnings if not warning.path}),
            "started_at": utc_from_ns(snapshot.started_ns).isoformat(),
            "finished_at": utc_from_ns(snapshot.finished_ns).isoformat(),
            "timeline": facts.timeline,
            "start_lsn": str(facts.start),
            "end_lsn": str(facts.end),
            **stats,
        }
