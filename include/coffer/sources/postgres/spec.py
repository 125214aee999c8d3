"""What a backup of a cluster takes."""

from __future__ import annotations

from dataclasses import dataclass

from coffer.postgres.facts import Method
from coffer.sources.postgres.connection import PostgresConnection


@dataclass(frozen=True, slots=True)
class ClusterSource:
    """A cluster, and the name of its chain of snapshots.

    Attributes:
        name: Names the chain, and the cluster's WAL in the repository.
        connection: How it is reached.
        slot: The replication slot that keeps WAL until it is in the repository; made where there is none.
        tags: The user's words, kept with the snapshot.
    """

    name: str
    connection: PostgresConnection
    slot: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How to run.

    Attributes:
        method: How changed pages are found. A method that is not possible gives way to the next safer one, and the
            result says so: native to delta, delta to full.
        fast_checkpoint: Begin at once with a checkpoint that takes all the server's I/O; else wait for a gentle one.
        max_rate_bytes_s: The server sends no faster than this [bytes/s]; None for no limit.
        level: Of zstd, 1 to 19; 0 stores everything as it is.
        workers: Threads that compress and seal; 0 for one per core.
        pack_size_bytes: Size of a pack [bytes].
        host: Recorded in the snapshot; this machine's name where None.
        deadline_s: End the run at this monotonic time [s], by the repository's clock; nothing is committed then.
        proof_budget_s: How long to prove content with the snapshot [s]; 0 proves nothing.
        proof_tables: Tables that are proved first, as `database.schema.table`.
    """

    method: Method = Method.DELTA
    fast_checkpoint: bool = True
    max_rate_bytes_s: int | None = None
    level: int = 3
    workers: int = 0
    pack_size_bytes: int = 64_000_000
    host: str | None = None
    deadline_s: float | None = None
    proof_budget_s: float = 0.0
    proof_tables: tuple[str, ...] = ()
