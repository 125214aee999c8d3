"""`coffer pg points`: which moments can be restored, and what is missing."""

from __future__ import annotations

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.repository.repository import Repository
from tests.harness.clusters import SmallCluster, data_files, facts_at, keep_snapshot
from tests.harness.wal_maker import SEGMENT


@pytest.fixture
def cluster(repo):
    """A cluster in the repository that the command line uses."""
    opened = Repository.open(LocalBackend(repo), KeyFileUnlocker.load(repo.with_name("repo.key")))
    yield SmallCluster(repo=opened)
    opened.close()


def test_each_snapshot_is_a_line_and_the_bounds_come_last(coffer, cluster):
    """Where it is consistent, and how far WAL leads on."""
    ended = coffer("pg", "points")
    assert (0, "") == (ended.code, ended.err)
    lines = ended.out.splitlines()
    assert "main:" == lines[0]
    assert lines[2].startswith(cluster.snapshot.id)
    assert str(cluster.facts.end) in lines[2]
    assert str(cluster.wal.end) in lines[2]
    assert f"to {cluster.wal.end}, 1 snapshot" in lines[3]


def test_a_snapshot_without_its_wal_is_a_warning(coffer, cluster):
    """And does not count for the bounds; the exit code says that something is missing."""
    facts = facts_at(5 * SEGMENT + 40, 5 * SEGMENT + 4096)
    broken = keep_snapshot(cluster.repo, data_files(facts), facts)
    ended = coffer("pg", "points", "--source", "main")
    assert 3 == ended.code
    assert f"snapshot {broken.id}: cannot be restored" in ended.err
    assert f"to {cluster.wal.end}, 1 snapshot" in ended.out
    result = coffer("pg", "points", "--json").result
    (found,) = result["clusters"]
    assert [True, False] == [point["restorable"] for point in found["points"]]
    assert [cluster.snapshot.id, broken.id] == [point["snapshot"] for point in found["points"]]


def test_a_repository_without_clusters_is_told(coffer, repo, tree):
    """Files are listed by another command."""
    coffer("backup", tree, "--source", "files")
    code, line, _ = coffer("pg", "points").fault()
    assert (2, "the repository has no snapshot of a cluster") == (code, line)
    code, line, _ = coffer("pg", "points", "--source", "files").fault()
    assert (2, "source 'files': its snapshots are of no cluster") == (code, line)
