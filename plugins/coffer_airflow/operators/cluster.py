"""What the operators that work on a PostgreSQL cluster share: which cluster it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coffer.config.databases import DatabaseCluster, join_clusters
from coffer.config.policy import Policy
from coffer.errors import UsageError
from coffer.postgres.facts import ClusterFacts
from coffer.repository.repository import Repository
from coffer_airflow.operators.base import RepositoryOperator


class ClusterOperator(RepositoryOperator):
    """Base of the operators that work on a cluster of the policy.

    Args:
        source: The database whose name the cluster's snapshots bear.
        databases: All names of the policy that are on this cluster, where it took the servers to know that.
        **kwargs: Those of `RepositoryOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (*RepositoryOperator.template_fields, "source")

    def __init__(self, *, source: str, databases: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.databases = databases

    def cluster(self, policy: Policy) -> DatabaseCluster:
        """Return the cluster, as the policy has it.

        Raises:
            UsageError: The policy has no database of one of the names.
        """
        found: dict[str, DatabaseCluster] = {}
        for name in (self.source, *self.databases):
            try:
                part = policy.cluster(name)
            except KeyError:
                names = ", ".join(policy.databases) or "none"
                raise UsageError(f"database {name!r}: the policy has {names}", hint="Give one of these.") from None
            found.setdefault(part.source, part)
        return join_clusters(list(found.values()))


def is_backed_up(repo: Repository, source: str) -> bool:
    """Say whether there is a snapshot of a cluster."""
    return any(snapshot.source == source and ClusterFacts.of(snapshot) for snapshot in repo.snapshots())
