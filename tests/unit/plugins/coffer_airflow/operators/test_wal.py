"""WalDrainOperator: what was written since the last time is in the repository, and the server may forget it."""

import json
from dataclasses import replace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from coffer.errors_postgres import PostgresSlotBusyError, PostgresUnavailableError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.sources.postgres.replication import ReplicationSession
from coffer_airflow.operators import DatabaseBackupOperator, WalDrainOperator, wal

pytestmark = pytest.mark.postgres
SLOT = "coffer_primary"


def drain(**options):
    """Run an operator as a task does."""
    return WalDrainOperator(task_id="wal", source="primary", **options).execute({})


def write(server, size=100_000):
    """Write so much WAL."""
    server.sql(f"SELECT pg_logical_emit_message(false, 'x', repeat('y', {size}))")


@pytest.fixture
def backed_up(databases, server):
    """The installation, with one backup of the cluster."""
    DatabaseBackupOperator(task_id="backup", source="primary", proof_budget_s=0).execute({})
    return databases


def test_wal_since_the_last_time_is_saved(backed_up, server):
    """Up to what the server had written when it began; the slot stands there, and the archive has no hole."""
    write(server)
    before = Lsn.parse(server.value("SELECT pg_current_wal_flush_lsn()"))
    done = drain()
    assert Lsn.parse(done["end_lsn"]) >= before
    assert done["wal_bytes"] > 100_000
    assert done["end_lsn"] == server.value(f"SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{SLOT}'")
    with backed_up.opened() as repository:
        archive = WalArchive(repository, "primary")
        first = archive.ranges()[0]
        assert archive.end_of(1, first.start) == Lsn.parse(done["end_lsn"])
    assert done == json.loads(json.dumps(done))


def test_a_second_run_has_nothing_to_do(backed_up, server):
    """Safe to run twice: an idle server has written next to nothing."""
    drain()
    assert drain()["wal_bytes"] < 10_000


def test_before_the_first_backup_there_is_nothing_to_save(databases, server):
    """It is skipped, and says why; no slot is made that would keep WAL for nobody."""
    with pytest.raises(AirflowSkipException, match="primary: no backup yet"):
        drain()
    assert [] == server.sql("SELECT 1 FROM pg_replication_slots")


def test_a_slot_that_is_in_use_is_left_to_the_retries(backed_up, server, monkeypatch):
    """As by `coffer wal receive`."""

    def busy(*_, **__):
        raise PostgresSlotBusyError("slot is active")

    monkeypatch.setattr("coffer_airflow.operators.wal.drain", busy)
    with pytest.raises(PostgresSlotBusyError):
        drain()


def test_a_server_that_is_away_is_left_to_the_retries(backed_up, server):
    """It is tried again."""
    server.stop()
    with pytest.raises(PostgresUnavailableError):
        drain()


def test_a_slot_that_was_dropped_fails(backed_up, server):
    """There was a backup, so WAL is missing from now on; no further try helps."""
    with ReplicationSession(server.connection()) as session:
        session.drop_slot(SLOT)
    with pytest.raises(AirflowFailException, match="pg-slot-lost") as caught:
        drain()
    assert "HINT" in str(caught.value)


def test_wal_that_was_removed_before_it_was_saved_fails(backed_up, server):
    """The server gave the slot up; the run says so, and the next backup begins anew."""
    server.restart(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB")
    for _ in range(4):
        write(server, 1_000_000)
        server.sql("SELECT pg_switch_wal()")
    server.sql("CHECKPOINT")
    with pytest.raises(AirflowFailException, match=r"pg-(slot-lost|wal-gap)"):
        drain()
    server.restart(max_slot_wal_keep_size="1GB")
    done = DatabaseBackupOperator(task_id="backup", source="primary", proof_budget_s=0).execute({})
    assert ["pg-slot-lost"] == done["notes"]
    assert drain()["wal_bytes"] >= 0


def test_a_slot_that_falls_behind_fails_after_all_is_saved(backed_up, server, monkeypatch):
    """Half of what it may hold back is held back even so: somebody must be told before it is lost."""
    real = wal.slot_state

    def behind(*given, **options):
        found = real(*given, **options)
        return replace(found, keep_bytes=max(1, found.lag_bytes), position=Lsn(found.position + 1000))

    monkeypatch.setattr(wal, "slot_state", behind)
    write(server)
    with pytest.raises(AirflowFailException, match="holds back half of max_slot_wal_keep_size") as caught:
        drain()
    assert "Raise max_slot_wal_keep_size" in str(caught.value)
    with backed_up.opened() as repository:
        assert WalArchive(repository, "primary").newest() is not None


def test_what_is_seen_of_the_slot_goes_to_the_metrics(backed_up, server, monkeypatch):
    """With the source as their tag."""
    seen = {}
    monkeypatch.setattr(
        "coffer_airflow.operators.wal.metrics.gauge", lambda name, value, tags: seen.update({name: (value, tags)})
    )
    done = drain()
    tags = {"source": "primary"}
    assert {
        "coffer.wal.slot_lag_bytes": (done["slot_lag_bytes"], tags),
        "coffer.wal.slot_used_share": (pytest.approx(done["slot_used_share"], abs=1e-4), tags),
        "coffer.wal.saved_bytes": (done["wal_bytes"], tags),
    } == seen


def test_a_limit_that_is_missing_is_logged(backed_up, server, capfd):
    """PostgreSQL's default protects nobody's disk."""
    drain()
    assert "max_slot_wal_keep_size is not set" in capfd.readouterr().out
