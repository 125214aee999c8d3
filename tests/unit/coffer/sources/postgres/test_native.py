"""Native incremental backups hold the cluster byte for byte; where they could not, its pages are compared."""

from __future__ import annotations

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import ObjectCorruptError
from coffer.postgres.backup_label import BackupLabel
from coffer.postgres.facts import PAGES_FOLDER, ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import parse_relation_path
from coffer.sources.postgres import native
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.stored import StoredCluster
from coffer.sources.postgres.summary_audit import ExpectedChanges
from tests.harness.cluster_content import content_of, must_hold, recovered
from tests.harness.native_backups import (
    QUIET,
    ROWS,
    method_of,
    must_be_compared,
    summarizing_server,
    take,
)
from tests.harness.postgres import wait_for
from tests.harness.repositories import make_repository

pytestmark = pytest.mark.postgres


@pytest.fixture
def repo():
    return make_repository(MemoryBackend())


@pytest.fixture
def own(summarizing_servers):
    """A server of its own that summarizes its WAL, with a table; its pages stay as they are once it is quiet."""
    with summarizing_server(summarizing_servers) as server:
        yield server


# ------------------------------------------------------------------------------------------------------ as it goes


def test_a_native_snapshot_is_the_cluster_byte_for_byte(repo, own):
    """After updates, truncation, VACUUM FULL, dropped and new tables; and a comparison after it finds no change."""
    must_hold(repo, take(repo, own, Method.FULL).snapshot, own)
    own.sql("UPDATE items SET text = 'changed' WHERE id % 500 = 0")
    own.sql("CREATE TABLE later AS " + ROWS.format(30000))
    second = take(repo, own)
    must_hold(repo, second.snapshot, own)
    own.sql("VACUUM FULL items")
    own.sql("DROP TABLE later")
    own.sql("DELETE FROM items WHERE id > 30000")
    own.sql("VACUUM items")
    third = take(repo, own)
    must_hold(repo, third.snapshot, own)
    assert [Method.NATIVE, Method.NATIVE] == [method_of(second), method_of(third)]
    assert ((), ()) == (second.warnings, third.warnings)
    last = take(repo, own, Method.DELTA)
    must_hold(repo, last.snapshot, own)
    assert last.stats["pages_changed"] < 60


def test_only_what_changed_comes_over_the_wire(repo, own):
    """Files without pages and free-space maps come whole; of all others the changed blocks, and 2 KiB at most."""
    full = take(repo, own, Method.FULL)
    own.sql("UPDATE items SET text = 'changed' WHERE id % 1000 = 0")
    result = take(repo, own)
    assert full.stats["read_bytes"] > full.stats["size_bytes"]
    assert result.stats["size_bytes"] > 0.95 * full.stats["size_bytes"]
    entries = [entry for entry in repo.manifest(result.snapshot).entries() if not entry.path.startswith(PAGES_FOLDER)]
    whole_bytes = sum(entry.size_bytes for entry in entries if comes_whole(entry.path))
    changed_bytes = result.stats["pages_changed"] * PAGE_BYTES
    assert result.stats["read_bytes"] < 1.2 * changed_bytes + whole_bytes + 2048 * len(entries)
    assert result.stats["read_bytes"] < full.stats["read_bytes"] / 2
    assert result.stats["pages_changed"] < full.stats["pages_changed"] / 10


def comes_whole(path):
    file = parse_relation_path(path)
    return file is None or file.fork == "fsm"


def test_its_label_is_that_of_a_whole_backup(repo, own):
    """A server does not start on a folder whose label says that it is incremental."""
    take(repo, own, Method.FULL)
    result = take(repo, own)
    label = BackupLabel.parse(content_of(repo, result.snapshot, b"backup_label"))
    assert label.incremental_from is None
    assert ClusterFacts.of(result.snapshot).start == label.start


def test_it_restores_by_itself(repo, own, summarizing_servers):
    """To its own end, on a real server, with the content of that moment; the snapshots before are not needed."""
    take(repo, own, Method.FULL)
    own.sql("DELETE FROM items WHERE id % 3 = 0")
    own.sql("INSERT INTO items SELECT n + 100000, 'late' FROM generate_series(1, 5000) n")
    take(repo, own)
    query = "SELECT count(*), sum(hashtextextended(items::text, 0)) FROM items"
    expected = own.sql(query)
    with recovered(repo, "primary", "immediate", summarizing_servers) as server:
        assert expected == server.sql(query)


def test_after_a_native_one_comes_any_other(repo, own):
    """Native, compared and full ones follow each other in any order."""
    for number, method in enumerate([Method.FULL, Method.NATIVE, Method.DELTA, Method.NATIVE, Method.FULL,
                                     Method.NATIVE]):  # fmt: skip
        own.sql(f"UPDATE items SET text = 'round {number}' WHERE id % 100 = {number}")
        result = take(repo, own, method)
        assert method is method_of(result)
        must_hold(repo, result.snapshot, own)


def test_a_standby_is_read_as_well(repo, own, summarizing_servers):
    """From its last restart point on; where there is none since the last backup, its pages are compared."""
    standby = summarizing_servers.start_standby(own, **QUIET, summarize_wal="on")
    try:
        take(repo, standby, Method.FULL)
        own.sql("UPDATE items SET text = 'changed' WHERE id % 500 = 0")
        own.sql("CHECKPOINT")
        at = own.value("SELECT pg_current_wal_lsn()")
        wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s", [at]), "the standby")
        result = take(repo, standby)
        assert Method.NATIVE is method_of(result)
        assert ClusterFacts.of(result.snapshot).from_standby
        must_hold(repo, result.snapshot, standby)
        must_be_compared(take(repo, standby), "pg-incr-refused", "this backup starts at")
    finally:
        standby.close()


# ------------------------------------------------------------------------------------------------------ refusals


def test_an_older_server_is_compared(repo, server):
    """PostgreSQL 15 and 16 have no incremental backups; 17 has none where its WAL is not summarized."""
    words = "17 does" if server.installation.major < 17 else "WAL summarization is enabled"
    take(repo, server, Method.FULL, "plain")
    server.sql("CREATE TABLE later AS SELECT generate_series(1, 30000) AS n")
    result = take(repo, server, name="plain")
    must_be_compared(result, "pg-incr-refused", words)
    server.sql("DROP TABLE later")
    server.sql("SELECT pg_drop_replication_slot('coffer_plain')")


def test_summaries_that_are_gone_are_no_failure(repo, own):
    """The server keeps them for ten days by default; somebody may remove them earlier."""
    take(repo, own, Method.FULL)
    own.sql("UPDATE items SET text = 'changed' WHERE id % 500 = 0")
    own.sql("CHECKPOINT")
    reached = (
        "SELECT max(end_lsn) >= redo_lsn FROM pg_available_wal_summaries(), pg_control_checkpoint() GROUP BY redo_lsn"
    )
    wait_for(lambda: own.value(reached), "the summary up to the checkpoint")
    for file in (own.data / "pg_wal/summaries").iterdir():
        file.unlink()
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "WAL summaries are required")
    must_hold(repo, result.snapshot, own)
    again = take(repo, own)
    assert Method.NATIVE is method_of(again)


def test_a_time_with_minimal_wal_is_a_gap(repo, own):
    """What was written then is in no WAL, and so in no summary."""
    take(repo, own, Method.FULL)
    own.sql("SELECT pg_drop_replication_slot('coffer_primary')")
    own.restart(wal_level="minimal", max_wal_senders="0", summarize_wal="off")
    own.sql("TRUNCATE items; INSERT INTO items " + ROWS.format(5000))
    own.restart(wal_level="replica", max_wal_senders="10", summarize_wal="on")
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "WAL summaries are required")
    must_hold(repo, result.snapshot, own)


def test_a_parent_whose_manifest_is_damaged_is_no_failure(repo, own, monkeypatch):
    """It is streamed to the server, and breaks off in the middle."""
    take(repo, own, Method.FULL)
    read = StoredCluster.read

    def broken(self, path):
        yield from read(self, path) if not path.endswith(b"backup_manifest") else []
        if path.endswith(b"backup_manifest"):
            yield next(read(self, path))[:20_000]
            raise ObjectCorruptError("chunk 17: damaged")

    monkeypatch.setattr(StoredCluster, "read", broken)
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "chunk 17: damaged")


def test_a_begin_that_was_guessed_wrong_is_no_failure(repo, own, monkeypatch):
    """Another checkpoint ended between the begin of the backup and its first file."""
    take(repo, own, Method.FULL)
    asked = native.read_checkpoint

    def later(connection, label):
        timeline, redo = asked(connection, label)
        return timeline, Lsn(redo - 8)

    monkeypatch.setattr(native, "read_checkpoint", later)
    monkeypatch.setattr(native, "read_changes", lambda *_: (ExpectedChanges(), 0))
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "before the checkpoint that was looked at")


def test_a_parent_with_damaged_pages_is_no_base(repo, own):
    """A page that was mended on the server would not be read again."""
    path = own.data / own.value("SELECT pg_relation_filepath('items')")
    own.sql("CHECKPOINT")
    own.stop()
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * PAGE_BYTES + 4000] + b"damage!!" + whole[3 * PAGE_BYTES + 4008 :])
    own.start()
    source = ClusterSource("primary", own.connection(), "coffer_primary")
    assert 3 == backup_cluster(repo, source, options=ClusterOptions(method=Method.FULL)).exit_code
    own.stop()
    path.write_bytes(whole)
    own.start()
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "damaged pages")
    must_hold(repo, result.snapshot, own)


def test_without_checksums_and_hints_stale_maps_would_come_back(repo, summarizing_servers):
    """Either of them puts the cutting of visibility maps into the WAL; and both backups must have had it."""
    options = ["--no-data-checksums"] if summarizing_servers.installation.major >= 18 else ["--no-locale"]
    server = summarizing_servers.start(*options, **QUIET, summarize_wal="on")
    try:
        server.sql("CREATE TABLE items AS SELECT generate_series(1, 10000) AS id")
        take(repo, server, Method.FULL)
        must_be_compared(take(repo, server), "pg-incr-refused", "wal_log_hints are off")
        server.restart(wal_log_hints="on")
        must_be_compared(take(repo, server), "pg-incr-refused", "or were at the last snapshot")
        server.sql("UPDATE items SET id = -id WHERE id % 100 = 0")
        result = take(repo, server)
        assert Method.NATIVE is method_of(result)
        must_hold(repo, result.snapshot, server)
    finally:
        server.close()


def test_another_timeline_is_compared(repo, own, summarizing_servers):
    """A standby was promoted: its summaries are of two timelines, and of its own past."""
    take(repo, own, Method.FULL)
    standby = summarizing_servers.start_standby(own, **QUIET, summarize_wal="on")
    try:
        own.sql("UPDATE items SET text = 'before' WHERE id % 500 = 0")
        at = own.value("SELECT pg_current_wal_lsn()")
        wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s", [at]), "the standby")
        own.stop()
        standby.sql("SELECT pg_promote()")
        wait_for(lambda: not standby.value("SELECT pg_is_in_recovery()"), "the promotion")
        standby.sql("UPDATE items SET text = 'after' WHERE id % 500 = 1")
        result = take(repo, standby)
        must_be_compared(result, "pg-incr-refused", "timeline")
        must_hold(repo, result.snapshot, standby)
        assert 2 == ClusterFacts.of(result.snapshot).timeline
        standby.sql("UPDATE items SET text = 'later' WHERE id % 500 = 2")
        again = take(repo, standby)
        assert Method.NATIVE is method_of(again)
        must_hold(repo, again.snapshot, standby)
    finally:
        standby.close()


def test_where_packs_are_missing_nothing_is_kept_unseen(repo, own, monkeypatch):
    """Files without a change are taken over whole, so the store must be whole."""
    take(repo, own, Method.FULL)
    adopt = type(repo).adopt_packs

    def missing(self, *given, **named):
        orphans, _ = adopt(self, *given, **named)
        return orphans, [bytes(16)]

    monkeypatch.setattr(type(repo), "adopt_packs", missing)
    monkeypatch.setattr(type(repo.index()), "forget_pack", lambda self, pack_id: None)
    result = take(repo, own)
    must_be_compared(result, "pg-incr-refused", "packs of the repository are missing")
