"""A cluster that is backed up is in the repository byte for byte, by every method, and refusals leave nothing."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import InterruptedRunError, UsageError
from coffer.errors_postgres import PostgresBackupRunningError, PostgresSystemChangedError
from coffer.postgres.facts import CLUSTER_PATH, ClusterFacts, Method
from coffer.postgres.record import ClusterRecord
from coffer.postgres.wal_archive import WalArchive
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from tests.harness.cluster_content import content_of, must_hold
from tests.harness.manual_clock import ManualClock
from tests.harness.repositories import commit_snapshot, make_repository

pytestmark = pytest.mark.postgres

FULL = ClusterOptions(method=Method.FULL, workers=2)
DELTA = ClusterOptions(method=Method.DELTA, workers=2)


@pytest.fixture
def repo():
    return make_repository(MemoryBackend())


@pytest.fixture
def own(servers):
    """A server of its own, with some tables; its pages stay as they are once it is quiet."""
    server = servers.start(autovacuum="off", checkpoint_timeout="1h", bgwriter_lru_maxpages="0")
    server.sql("CREATE TABLE items (id int PRIMARY KEY, name text, more text)")
    server.sql("INSERT INTO items SELECT n, 'item ' || n, repeat(md5(n::text), 3) FROM generate_series(1, 40000) n")
    server.sql("CREATE TABLE queue (id int, at timestamptz DEFAULT now())")
    server.sql("INSERT INTO queue SELECT generate_series(1, 5000)")
    yield server
    server.close()


def source_of(server, name="primary"):
    return ClusterSource(name, server.connection(), f"coffer_{name}", ("nightly",))


def take(repo, server, options):
    """Back up a quiet server: a checkpoint puts its buffers on disk first."""
    server.sql("CHECKPOINT")
    result = backup_cluster(repo, source_of(server), options=options)
    assert 0 == result.exit_code
    return result


def test_full_and_delta_hold_the_cluster_byte_for_byte(repo, own):
    """After updates, truncation, VACUUM FULL, dropped and new tables, each snapshot has the files of its moment."""
    first = take(repo, own, FULL)
    must_hold(repo, first.snapshot, own)
    own.sql("UPDATE items SET name = 'changed' WHERE id % 500 = 0")
    own.sql("TRUNCATE queue")
    own.sql("CREATE TABLE later AS SELECT generate_series(1, 30000) AS n")
    own.sql("CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 100) AS n")
    second = take(repo, own, DELTA)
    must_hold(repo, second.snapshot, own)
    own.sql("VACUUM FULL items")
    own.sql("DROP TABLE later")
    own.sql("DELETE FROM items WHERE id > 30000")
    own.sql("VACUUM items")
    third = take(repo, own, DELTA)
    must_hold(repo, third.snapshot, own)
    assert second.stats["pages_changed"] < second.stats["pages_read"] / 3
    assert second.snapshot.id == third.snapshot.parent_id


def test_the_snapshot_says_what_it_is(repo, own):
    """Facts, record and tags name the cluster, its databases and the WAL that it needs; that WAL is there."""
    result = take(repo, own, FULL)
    facts = ClusterFacts.of(result.snapshot)
    assert facts is not None
    assert (own.installation.major, Method.FULL, 1) == (facts.major, facts.method, facts.timeline)
    assert own.value("SELECT system_identifier FROM pg_control_system()") == facts.system_id
    record = ClusterRecord.decode(content_of(repo, result.snapshot, CLUSTER_PATH))
    assert {"postgres", "template1"} <= set(record.databases.values())
    assert "replica" == record.settings["wal_level"]
    assert ("nightly",) == result.snapshot.tags
    archive = WalArchive(repo, "primary")
    start = facts.start.segment_start(facts.segment_bytes)
    wal = b"".join(archive.bytes_between(facts.timeline, start, facts.end))
    assert facts.end - start == len(wal)


def test_tablespaces_are_folders_of_the_tree(repo, own):
    """Their files lie below pg_tblspc, and where they lay is in the record."""
    place = own.home / "space"
    place.mkdir()
    os.chown(place, own.data.stat().st_uid, own.data.stat().st_gid)
    own.sql(f"CREATE TABLESPACE side LOCATION '{place}'")
    own.sql("CREATE TABLE aside TABLESPACE side AS SELECT generate_series(1, 20000) AS n")
    result = take(repo, own, FULL)
    must_hold(repo, result.snapshot, own)
    record = ClusterRecord.decode(content_of(repo, result.snapshot, CLUSTER_PATH))
    assert [str(place)] == list(record.tablespaces.values())
    oid = next(iter(record.tablespaces))
    assert repo.manifest(result.snapshot).find(f"pg_tblspc/{oid}".encode()).mode & 0o040000


def test_a_damaged_page_is_named_and_the_snapshot_kept(repo, own):
    """The run ends with 3: the rest of the cluster is worth having."""
    path = own.value("SELECT pg_relation_filepath('items')")
    own.sql("CHECKPOINT")
    own.stop()
    with (own.data / path).open("r+b") as file:
        file.seek(3 * 8192 + 4000)
        file.write(b"damage!!")
    own.start()
    result = backup_cluster(repo, source_of(own), options=FULL)
    assert 3 == result.exit_code
    assert [(path.encode(), "pg-page-checksum")] == [(w.path, w.code) for w in result.warnings]
    assert 1 == ClusterFacts.of(result.snapshot).corrupt_pages
    record = ClusterRecord.decode(content_of(repo, result.snapshot, CLUSTER_PATH))
    assert [(path, 3)] == record.corrupt_pages


def test_a_first_incremental_is_full_and_says_so(repo, own):
    """Nobody has to remember which backup comes first."""
    result = take(repo, own, DELTA)
    assert Method.FULL is ClusterFacts.of(result.snapshot).method
    assert ["pg-incr-refused"] == [warning.code for warning in result.warnings]


def test_two_backups_of_a_cluster_do_not_run_at_once(repo, own):
    """The second is refused, and nothing of it stays; when the first is gone, even by a crash, the way is free."""
    blocker = own.connection()
    from coffer.sources.postgres.cluster_sql import lock_cluster
    from coffer.sources.postgres.connection import connect_sql

    held = connect_sql(blocker)
    lock_cluster(held, "a test")
    with pytest.raises(PostgresBackupRunningError):
        backup_cluster(repo, source_of(own), options=FULL)
    assert [] == repo.snapshots()
    held.close()
    take(repo, own, FULL)


def test_the_lock_is_of_the_cluster_and_not_of_the_database_that_a_run_names(repo, own):
    """Advisory locks hold within a database: all runs take it in the same one."""
    from coffer.sources.postgres.cluster_sql import connect_for_lock, lock_cluster

    own.sql("CREATE DATABASE other")
    held = connect_for_lock(own.connection(dbname="other"))
    lock_cluster(held, "a test")
    with pytest.raises(PostgresBackupRunningError):
        backup_cluster(repo, source_of(own), options=FULL)
    held.close()


def test_an_address_of_the_environment_leads_nowhere_else(repo, own, monkeypatch):
    """Libpq puts PGHOSTADDR before the host that it is given: the backup would be of another server."""
    own.sql("CHECKPOINT")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    result = backup_cluster(repo, source_of(own), options=FULL)
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    must_hold(repo, result.snapshot, own)


def test_another_cluster_under_the_same_name_is_refused(repo, own, servers):
    """An address that leads to another cluster must not go on with the chain."""
    take(repo, own, FULL)
    own_id = ClusterFacts.of(repo.snapshots()[0]).system_id
    other = servers.start("--data-checksums", "--no-instructions")
    try:
        if other.value("SELECT system_identifier FROM pg_control_system()") == own_id:
            pytest.fail("the harness made two clusters with one identifier")
        with pytest.raises(PostgresSystemChangedError):
            backup_cluster(repo, source_of(other), options=DELTA)
        assert 1 == len(repo.snapshots())
    finally:
        other.close()


def test_a_name_of_a_file_tree_is_refused(repo, own):
    """Two kinds of sources do not share a chain."""
    commit_snapshot(repo, ManualClock(), "primary")
    with pytest.raises(UsageError, match="of no cluster"):
        backup_cluster(repo, source_of(own), options=FULL)


def test_a_stop_commits_nothing_and_the_next_run_goes_on(repo, own):
    """What was stored is known to the next run."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        backup_cluster(repo, source_of(own), options=FULL, stop=stop)
    assert [] == repo.snapshots()
    result = take(repo, own, FULL)
    must_hold(repo, result.snapshot, own)


def test_a_server_that_dies_ends_the_run_and_nothing_is_committed(repo, own):
    """Whatever the server was at: one clear error of the tree."""
    from coffer.errors import CofferError

    class Killer:
        phase, files_done, bytes_done, bytes_stored, files_total, bytes_total = "", 0, 0, 0, 0, 0

        @property
        def current(self):
            return b""

        @current.setter
        def current(self, path):
            if b"base/" in path and own.process is not None:
                os.kill(own.process.pid, signal.SIGKILL)
                own.process.wait()
                own.process = None

    with pytest.raises(CofferError):
        backup_cluster(repo, source_of(own), options=FULL, progress=Killer())
    assert [] == repo.snapshots()
