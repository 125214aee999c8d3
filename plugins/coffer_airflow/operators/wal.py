"""Save the write-ahead log of a PostgreSQL cluster of the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.observability import stats as metrics

from coffer.config.databases import DatabaseCluster
from coffer.errors_postgres import PostgresSlotLostError
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.sources.postgres.slot_state import SlotState, SlotVerdict, free_disk_bytes, slot_state
from coffer.sources.postgres.wal_receiver import DrainResult, drain
from coffer.units import human_size
from coffer_airflow.hooks.cluster import ClusterHook
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import Result
from coffer_airflow.operators.cluster import ClusterOperator, is_backed_up

if TYPE_CHECKING:
    from airflow.sdk import Context


class WalDrainOperator(ClusterOperator):
    """Saves the write-ahead log that a cluster wrote since the last time, and lets the server forget it.

    Safe to run twice, and beside a backup. Skips where there is no backup yet: the first one makes the slot. Fails
    where WAL was lost before it could be saved; and, after what there is was saved, where the slot still holds back
    half of what it may, or of what the disk has: it would soon be given up, or fill the disk. Airflow's metrics have
    what it sees: ``coffer.wal.slot_lag_bytes``, ``coffer.wal.slot_used_share``, ``coffer.wal.saved_bytes``.

    Args:
        **kwargs: Those of `ClusterOperator`, and Airflow's own.
    """

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Save it; see the class."""
        cluster = self.cluster(hook.required_policy())
        server = ClusterHook(cluster)
        if not _state_of(server).exists and not is_backed_up(repo, cluster.source):
            raise AirflowSkipException(f"{cluster.label}: no backup yet; the first one begins to keep WAL")
        saved = drain(repo, cluster.source, server.target, slot=cluster.slot, stop=self._stop, progress=progress)
        slot = _state_of(server)
        share = _used_share(slot)
        self._measure(cluster, saved, slot, share)
        if slot.verdict is SlotVerdict.LOST:
            raise PostgresSlotLostError(f"postgres {server.target.label}: slot {slot.name}: {slot.reason}")
        if slot.verdict is SlotVerdict.WARN:
            raise AirflowFailException(
                f"slot {slot.name} holds back {human_size(slot.lag_bytes)}, after all that there was is saved:"
                f" {slot.reason}\n"
                "HINT: WAL grows faster than it is saved. Raise max_slot_wal_keep_size, if the disk allows; is the"
                " repository slower than the server?"
            )
        return {
            "source": cluster.source,
            "databases": list(cluster.names),
            "location": hook.place,
            "timeline": saved.timeline,
            "start_lsn": str(saved.start),
            "end_lsn": str(saved.end),
            "ranges": saved.ranges,
            "wal_bytes": saved.wal_bytes,
            "stored_bytes": saved.stored_bytes,
            "slot_lag_bytes": slot.lag_bytes,
            "slot_used_share": round(share, 4),
        }

    def _measure(self, cluster: DatabaseCluster, saved: DrainResult, slot: SlotState, share: float) -> None:
        """Log what was saved, and give it to Airflow's metrics."""
        self.log.info(
            "%s: %s of WAL saved in %d pieces, up to %s on timeline %d; the slot holds back %s",
            cluster.label,
            human_size(saved.wal_bytes),
            saved.ranges,
            saved.end,
            saved.timeline,
            human_size(slot.lag_bytes),
        )
        if slot.advice:
            self.log.warning("%s", slot.advice)
        tags = {"source": cluster.source}
        metrics.gauge("coffer.wal.slot_lag_bytes", slot.lag_bytes, tags=tags)
        metrics.gauge("coffer.wal.slot_used_share", share, tags=tags)
        metrics.gauge("coffer.wal.saved_bytes", saved.wal_bytes, tags=tags)


def _state_of(server: ClusterHook) -> SlotState:
    """Ask the server for the state of the cluster's slot, and its disk where that is this machine's."""
    target = server.target
    connection = server.get_conn()
    try:
        free_bytes = free_disk_bytes(connection, label=target.label) if target.is_local else None
        return slot_state(connection, server.cluster.slot, label=target.label, free_bytes=free_bytes)
    finally:
        connection.close()


def _used_share(slot: SlotState) -> float:
    """Return how much of its limit, or of the disk's free space, a slot holds back; 0 where neither is known."""
    rooms = [room for room in (slot.keep_bytes, slot.free_bytes) if room]
    return slot.lag_bytes / min(rooms) if rooms else 0.0
