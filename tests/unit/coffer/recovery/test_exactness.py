"""The promise of docs/adr/0032: a cluster that is recovered to a proof's position has exactly what the proof saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.postgres.facts import ClusterFacts
from coffer.recovery.content_check import compare_content
from coffer.recovery.drill_report import DrillLog
from coffer.recovery.scratch_server import ScratchServer, ServerOptions
from coffer.recovery.scratch_space import ScratchSpace
from coffer.restore.cluster.execute import restore_cluster
from coffer.restore.cluster.plan import plan_cluster_restore
from coffer.restore.cluster.spec import ClusterRestoreOptions
from coffer.restore.cluster.target import RecoveryTarget, TargetKind
from coffer.sources.postgres.content_digest import ProofOptions, take_proof
from tests.harness.cluster_backups import NAME, back_up, position, save_wal
from tests.harness.postgres import wait_for
from tests.harness.postgres_load import SLOW_COMMITS, TABLES, Load, make_tables

pytestmark = pytest.mark.postgres


def recovered(repo, scratch, proof):
    """Restore the cluster to a proof's position; return what comparing it found, and how many tables were equal."""
    target = RecoveryTarget(TargetKind.LSN, str(proof.lsn), proof.timeline, inclusive=False)
    plan = plan_cluster_restore(repo, NAME, target)
    notes = DrillLog(SYSTEM_CLOCK)
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        options = ClusterRestoreOptions(tablespaces_below=space.tablespaces, durable=False, owner=space.owner)
        restore_cluster(repo, plan, space.data, options=options)
        server = ScratchServer(space, ServerOptions(("postgres",), plan.record.settings))
        server.start()
        compare_content(server, proof, notes)
    return [(found.code, found.table) for found in notes.kept], notes.counts["tables_compared"]


def take_proofs(repo, server, rounds, dbnames):
    """Take proofs under load, after one full backup; return them."""
    snapshot = back_up(repo, server, proof_budget_s=0.0)
    facts = ClusterFacts.of(snapshot)
    proofs = []
    with Load(server, writers=6, dbnames=dbnames) as load:
        for _ in range(rounds):
            begin = load.committed
            wait_for(lambda begin=begin: load.committed > begin + 20, "more transactions")
            proofs.append(
                take_proof(
                    server.connection(),
                    after=max(facts.end, position(server)),
                    segment_bytes=facts.segment_bytes,
                    options=ProofOptions(budget_s=60.0),
                )
            )
    save_wal(repo, server)
    return proofs


@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_every_proof_under_writers_is_equal_to_the_cluster_recovered_to_its_position(
    repo, servers, programs, scratch, rounds
):
    """Commits that wait for the disk, subtransactions, prepared and rolled back ones: in every round all is equal."""
    server = servers.start(**SLOW_COMMITS)
    server.sql("CREATE DATABASE second")
    for dbname in ("postgres", "second"):
        make_tables(server, dbname)
    proofs = take_proofs(repo, server, rounds, ("postgres", "second"))
    server.close()
    assert [True] * rounds == [proof.exact for proof in proofs]
    for proof in proofs:
        assert ([], 2 * len(TABLES)) == recovered(repo, scratch, proof)
    assert len({proof.lsn for proof in proofs}) == rounds


def test_a_position_that_is_off_by_one_commit_is_noticed(repo, servers, programs, scratch):
    """The comparison is not blind: further on, transactions are there that the digests had not seen."""
    server = servers.start(**SLOW_COMMITS)
    make_tables(server)
    (proof,) = take_proofs(repo, server, 1, ("postgres",))
    server.close()
    later = replace(proof, lsn=proof.until)
    found, _ = recovered(repo, scratch, later)
    assert ("moment-passed", "") in found
