"""Backups of real servers in a repository in memory, with a proof, for drills and restores."""

from __future__ import annotations

from coffer.backends.memory import MemoryBackend
from coffer.clock import SYSTEM_CLOCK
from coffer.postgres.facts import CLUSTER_PATH, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.proof import Proof
from coffer.postgres.record import MAX_RECORD_BYTES, ClusterRecord
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster.content import read_small
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.replication import ReplicationSession
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.wal_receiver import drain
from tests.harness.keyrings import make_unlocker
from tests.harness.postgres import Server

NAME = "primary"
SLOT = "coffer_primary"


def new_repository() -> Repository:
    """Make a repository in memory, with the real clock."""
    return Repository.create(MemoryBackend(), make_unlocker(), clock=SYSTEM_CLOCK)


def back_up(repo: Repository, server: Server, *, method: Method = Method.FULL, **options: object) -> Snapshot:
    """Take a snapshot with a proof of all tables that the role may read; `options` are those of `ClusterOptions`."""
    given = {"method": method, "workers": 2, "proof_budget_s": 60.0, **options}
    source = ClusterSource(NAME, server.connection(), SLOT)
    return backup_cluster(repo, source, options=ClusterOptions(**given)).snapshot


def save_wal(repo: Repository, server: Server) -> Lsn:
    """Save all WAL up to now; return where it ends."""
    server.sql("SELECT pg_logical_emit_message(true, 'tests', 'flush')")
    return drain(repo, NAME, server.connection(), slot=SLOT).end


def proof_of(repo: Repository, snapshot: Snapshot) -> Proof:
    """Return the proof that a snapshot keeps."""
    content = read_small(repo, repo.manifest(snapshot), CLUSTER_PATH, MAX_RECORD_BYTES)
    assert content is not None
    return Proof.parse(ClusterRecord.decode(content).proof)


def position(server: Server) -> Lsn:
    """Return where the server's WAL ends on its disk."""
    with ReplicationSession(server.connection()) as session:
        return session.identify().flushed
