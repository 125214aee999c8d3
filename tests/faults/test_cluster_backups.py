"""A fault at any call that a cluster's backup makes to the store: older snapshots stay, the next run is whole."""

from __future__ import annotations

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import CofferError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.verification import check
from tests.harness.cluster_content import must_hold, relation_contents
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill
from tests.harness.keyrings import make_unlocker
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.postgres import installations, servers_of

pytestmark = pytest.mark.postgres

KILLS = (FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER)
FAILURES = (FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER)
OPTIONS = ClusterOptions(method=Method.DELTA, workers=1, pack_size_bytes=200_000)


class Scenario:
    """A quiet server of which a full snapshot is stored, and that was changed since."""

    def __init__(self, server):
        self.server = server
        self.source = ClusterSource("primary", server.connection(), "coffer_primary")
        self.store = TamperableMemoryBackend()
        repo = Repository.create(self.store, make_unlocker(), clock=SYSTEM_CLOCK)
        server.sql("CREATE TABLE items AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 20000) n")
        server.sql("CHECKPOINT")
        first = backup_cluster(repo, self.source, options=OPTIONS).snapshot
        self.first, self.contents = first.name, relation_contents(repo, first)
        server.sql("UPDATE items SET name = 'changed' WHERE id % 1000 = 0")
        server.sql("CHECKPOINT")

    def back_up(self, backend):
        """Back up as a new process does; return the repository as it sees it, and how the run ended."""
        repo = None
        try:
            repo = Repository.open(backend, make_unlocker(), clock=SYSTEM_CLOCK)
            return repo, backup_cluster(repo, self.source, options=OPTIONS)
        except (SimulatedKill, CofferError) as error:
            return repo, error

    def count_calls(self):
        """How many calls a run without faults makes."""
        counting = FaultyBackend(self.store.clone())
        _, ended = self.back_up(counting)
        assert isinstance(ended, BackupResult)
        return counting.call_count

    def assert_mended(self, store):
        """The old snapshot is whole; the next run succeeds, holds the cluster, and has the WAL that it needs."""
        repo, again = self.back_up(store)
        assert isinstance(again, BackupResult), again
        must_hold(repo, again.snapshot, self.server)
        names = [snapshot.name for snapshot in repo.snapshots()]
        assert self.first == names[0]
        assert again.snapshot.name == names[-1]
        assert self.contents == relation_contents(repo, repo.snapshots()[0])
        for snapshot in repo.snapshots():
            facts = ClusterFacts.of(snapshot)
            wal = WalArchive(repo, "primary").bytes_between(facts.timeline, facts.start, facts.end)
            assert facts.end - facts.start == sum(map(len, wal))
        report = check(Repository.open(store, make_unlocker(), clock=SYSTEM_CLOCK))
        assert [] == [finding for finding in report.findings if finding.severity == "error"]


@pytest.fixture(scope="module", params=installations(), ids=str)
def scenario(request):
    with servers_of(request.param) as servers:
        yield Scenario(servers.start(autovacuum="off", checkpoint_timeout="1h", bgwriter_lru_maxpages="0"))


def _strike(scenario, kinds, step):
    calls = scenario.count_calls()
    assert calls > 15
    struck = 0
    for number in range(0, calls, step):
        for kind in kinds:
            store = scenario.store.clone()
            faulty = FaultyBackend(store, [Fault(kind, call=number)])
            _, ended = scenario.back_up(faulty)
            if not faulty.plan[0].is_used:
                continue  # a run makes a call more or less, as its WAL ends on this or that side of a segment
            assert isinstance(ended, SimulatedKill if kind in KILLS else CofferError | BackupResult)
            scenario.assert_mended(store)
            struck += 1
    assert struck >= len(kinds) * (calls // step - 1)
    print(f"{struck} faults at {calls} calls")


def test_a_kill_at_a_call_loses_no_snapshot_and_no_later_backup(scenario):
    """The process dies before or after the effect of every tenth call; another one goes on."""
    _strike(scenario, KILLS, 10)


@pytest.mark.slow
def test_a_failure_at_a_call_ends_in_an_error_of_the_tree_or_not_at_all(scenario):
    """Every seventh call fails, or its reply is lost; what was there stays, and the retry is whole."""
    _strike(scenario, FAILURES, 7)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fault_at_every_call_is_survived(scenario):
    """Kills, failures and lost replies at each of them."""
    _strike(scenario, (*KILLS, *FAILURES), 1)
