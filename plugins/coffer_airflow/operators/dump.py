"""Dump databases of a PostgreSQL cluster of the policy, besides its physical backup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from coffer.compression import LEVEL_OFF
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.sources.postgres.logical import dump_database
from coffer.sources.postgres.logical_spec import LogicalOptions, LogicalSource
from coffer.units import human_size
from coffer_airflow.hooks.cluster import ClusterHook
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import Result
from coffer_airflow.operators.cluster import ClusterOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

DUMP_SUFFIX = "-logical"  # dumps and physical backups are two chains of snapshots
_WARNINGS_LOGGED = 200


class DatabaseDumpOperator(ClusterOperator):
    """Takes one logical backup of the databases that the policy asks for: tables, definitions, roles.

    From it single tables can be loaded, and another version of PostgreSQL. Safe to run twice: what did not change is
    stored once. Skips where the policy asks for no dump of this cluster.

    Args:
        workers: Threads that compress and seal; 0: as many as the policy's `max_workers`.
        **kwargs: Those of `ClusterOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = ClusterOperator.template_fields

    def __init__(self, *, workers: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workers = workers

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Dump them; see the class."""
        policy = hook.required_policy()
        cluster = self.cluster(policy)
        if not cluster.dumped:
            raise AirflowSkipException(f"{cluster.label}: the policy asks for no dump")
        source = LogicalSource(
            name=cluster.source + DUMP_SUFFIX,
            connection=ClusterHook(cluster).target,
            databases=cluster.dumped,
            jobs=cluster.dump_jobs,
            tags=cluster.tags,
        )
        performance = policy.performance
        options = LogicalOptions(
            level=performance.compression_level or LEVEL_OFF,
            workers=self.workers or performance.max_workers,
            pack_size_bytes=performance.pack_size_bytes,
        )
        self.log.info("dumping %s of %s to %s", ", ".join(cluster.dumped), source.connection.label, repo.backend.url)
        result = dump_database(repo, source, options=options, progress=progress, stop=self._stop)
        for warning in result.warnings[:_WARNINGS_LOGGED]:
            self.log.warning("%s: %s", warning.code, warning.message)
        snapshot, stats = result.snapshot, result.stats
        self.log.info(
            "snapshot %s of %s: %s; new in the repository: %s",
            snapshot.id,
            snapshot.source,
            human_size(stats["size_bytes"]),
            human_size(stats["stored_bytes"]),
        )
        return {
            "snapshot": snapshot.id,
            "source": snapshot.source,
            "databases": list(cluster.dumped),
            "location": hook.place,
            "complete": snapshot.complete,
            "warnings_count": snapshot.warnings_count,
            **stats,
        }
