"""DatabaseBackupOperator, run without a database of Airflow's: from a cluster of the policy to a snapshot."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import InterruptedRunError
from coffer.errors_postgres import PostgresBackupRunningError, PostgresUnavailableError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.cluster_sql import lock_cluster
from coffer.sources.postgres.connection import connect_sql
from coffer_airflow.operators import DatabaseBackupOperator, WalDrainOperator
from tests.harness.databases import PASSWORD, PASSWORD_ENV, fill
from tests.harness.installation import PROJECT
from tests.harness.postgres import wait_for

pytestmark = pytest.mark.postgres
KILLED_WITHIN_S = 5  # what Airflow leaves between on_kill and SIGKILL


def take(**options):
    """Run an operator as a task does."""
    return DatabaseBackupOperator(task_id="backup", **{"source": "primary", "proof_budget_s": 0, **options}).execute({})


def snapshots(made):
    """The snapshots in the repository."""
    with made.opened() as repository:
        return repository.snapshots()


def test_a_cluster_of_the_policy_becomes_a_snapshot(databases, server):
    """The repository then has it, and the XCom is ids, names and sizes that JSON can hold."""
    fill(server)
    done = take(databases=["primary"])
    (snapshot,) = snapshots(databases)
    facts = ClusterFacts.of(snapshot)
    assert (snapshot.id, "primary", ["primary"], "primary", True, "full", "full", str(facts.end), []) == (
        done["snapshot"],
        done["source"],
        done["databases"],
        done["location"],
        done["complete"],
        done["kind"],
        done["method"],
        done["end_lsn"],
        done["notes"],
    )
    assert done == json.loads(json.dumps(done))
    assert len(json.dumps(done)) < 1500


def test_an_incremental_takes_the_policys_method(databases, server):
    """It compares pages unless the policy says otherwise, and stores what changed."""
    fill(server)
    first = take()
    server.sql("UPDATE orders SET note = 'other' WHERE id < 10")
    second = take(kind="incremental")
    assert ("delta", "incremental", []) == (second["method"], second["kind"], second["notes"])
    assert second["stored_bytes"] < first["stored_bytes"] / 5


@pytest.mark.parametrize("method", ["delta", "wal"])
def test_the_first_incremental_is_full_and_says_so(databases, server, method, capfd):
    """There is nothing to compare with, and nothing for WAL to be replayed on."""
    done = take(kind="incremental", method=method)
    assert ("full", True) == (done["method"], done["complete"])
    assert "this one is full" in capfd.readouterr().out


def test_an_incremental_by_wal_makes_no_snapshot(databases, server):
    """What was written since is saved, and the server may forget it."""
    take()
    server.sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 100000))")
    before = server.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'coffer_primary'")
    done = take(kind="incremental", method="wal")
    after = server.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'coffer_primary'")
    assert (None, "wal", True) == (done["snapshot"], done["method"], done["complete"])
    assert done["read_bytes"] > 100_000
    assert after > before
    assert 1 == len(snapshots(databases))


def test_the_other_names_of_a_server_are_tags(databases, server):
    """They are found by them."""
    text = databases.policy.read_text()
    databases.policy.write_text(text.replace("databases: [primary]", "databases: [primary, audit]"))
    with databases.policy.open("a") as file:
        file.write(f"  audit: {{host: 127.0.0.1, port: {server.port}, dbname: audit}}\n")
    assert ["primary", "audit"] == take(source="audit")["databases"]
    (snapshot,) = snapshots(databases)
    assert ("primary", ("audit",)) == (snapshot.source, tuple(snapshot.tags))


def test_the_policys_settings_reach_the_backup(databases, server, monkeypatch):
    """Method, speed, checkpoint, proof, compression; a run's own threads and time."""
    text = databases.policy.read_text()
    entry = "method: native, max_rate: 1MB/s, fast_checkpoint: false, proof: {budget: 7s, tables: [public.orders]}"
    text = text.replace("user: backup,", f"user: backup, {entry},")
    databases.policy.write_text(text.replace("local_backup:\n", "local_backup:\n  compression: {enabled: false}\n"))
    seen = []

    def spy(repo, source, *, options, progress, stop):
        seen.append((source, options))
        raise PostgresUnavailableError("enough")

    monkeypatch.setattr("coffer_airflow.operators.database.backup_cluster", spy)
    soon = datetime.now(UTC) + timedelta(hours=1)
    for given in ({"proof_budget_s": None}, {"kind": "full", "workers": 3, "deadline": soon.isoformat()}):
        with pytest.raises(PostgresUnavailableError):
            take(**{"kind": "incremental", **given})
    (source, first), (_, second) = seen
    assert ("primary", "coffer_primary", server.port) == (source.name, source.slot, source.connection.port)
    assert (Method.NATIVE, 1_000_000, False, 0, 7, ("public.orders",), None) == (
        first.method,
        first.max_rate_bytes_s,
        first.fast_checkpoint,
        first.level,
        first.proof_budget_s,
        first.proof_tables,
        first.deadline_s,
    )
    assert (Method.FULL, 3, 0) == (second.method, second.workers, second.proof_budget_s)
    assert 3500 < second.deadline_s - time.monotonic() < 3600


def test_damaged_pages_are_warnings(databases, server, monkeypatch, capfd):
    """The task succeeds and says that the snapshot is incomplete; with fail_on_warnings it fails, and keeps it."""

    def damaged(*given, **options):
        result = backup_cluster(*given, **options)
        facts = {**result.snapshot.facts, "corrupt_pages": 3}
        snapshot = replace(result.snapshot, complete=False, warnings_count=3, facts=facts)
        return replace(result, snapshot=snapshot)

    monkeypatch.setattr("coffer_airflow.operators.database.backup_cluster", damaged)
    done = take()
    assert (False, 3) == (done["complete"], done["warnings_count"])
    assert "INCOMPLETE: 3 pages are damaged" in capfd.readouterr().out
    with pytest.raises(AirflowFailException, match=r"3 pages are damaged on the server\nHINT: the snapshot is kept"):
        take(fail_on_warnings=True)
    assert 2 == len(snapshots(databases))


def test_a_deadline_that_has_passed_fails_at_once(databases, server):
    """A try that begins after the window does no work, and no further try is made."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(AirflowFailException, match="its time was over"):
        take(deadline=past.isoformat())
    assert [] == snapshots(databases)


def test_a_deadline_that_comes_fails_without_a_further_try(databases, server, monkeypatch):
    """Unlike a kill, which is the user's or the machine's, the end of the window is the same for a further try."""

    def late(*_, **__):
        raise InterruptedRunError("backup of 'primary': the time given to it is over")

    monkeypatch.setattr("coffer_airflow.operators.database.backup_cluster", late)
    with pytest.raises(AirflowFailException, match=r"the time given to it is over: no snapshot was made"):
        take()


def test_two_backups_of_a_cluster_do_not_run_at_once(databases, server):
    """The second is told so by an error that is tried again, and nothing is stored."""
    other = connect_sql(server.connection())
    lock_cluster(other, "other")
    with pytest.raises(PostgresBackupRunningError):
        take()
    assert [] == snapshots(databases)
    other.close()
    assert take()["complete"]


def test_a_server_that_is_away_is_left_to_the_retries(databases, server):
    """It comes out as it is, so that Airflow tries again."""
    server.stop()
    with pytest.raises(PostgresUnavailableError):
        take()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("user: backup", "user: plain", "pg-no-replication: "),
        ("user: backup", "user: outsider", "pg-hba: "),
        ("user: backup", "user: nobody", "pg-auth: "),
        ("host: 127.0.0.1, ", "", "usage: database 'primary': neither"),
        (PASSWORD_ENV, "COFFER_TEST_UNSET", "the variable COFFER_TEST_UNSET is not set"),
    ],
)
def test_a_permanent_error_is_not_tried_again(databases, server, old, new, message):
    """AirflowFailException with code and hint: Airflow makes no further try."""
    databases.policy.write_text(databases.policy.read_text().replace(old, new))
    with pytest.raises(AirflowFailException, match=message) as caught:
        take()
    assert "\nHINT: " in str(caught.value)


def test_a_method_that_there_is_not_is_refused(databases, server):
    """The message names those that there are."""
    with pytest.raises(AirflowFailException, match="method 'fast': there are full, delta, native, wal"):
        take(method="fast")


def test_no_secret_is_logged_or_returned(databases, server, monkeypatch, caplog, capfd):
    """Neither the log nor the XCom nor an error holds the password."""
    caplog.set_level("DEBUG")
    done = take()
    monkeypatch.setenv(PASSWORD_ENV, "planted-and-wrong")
    with pytest.raises(AirflowFailException) as caught:
        take()
    logged = caplog.text + "".join(capfd.readouterr()) + json.dumps(done) + str(caught.value)
    assert "pg-auth" in logged
    assert PASSWORD not in logged
    assert "planted" not in logged


PROGRAM = """
import signal, sys
from coffer.errors import InterruptedRunError
from coffer_airflow.operators import DatabaseBackupOperator
operator = DatabaseBackupOperator(task_id="backup", source="primary", proof_budget_s=0)
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow's task runner does
print("ready", flush=True)
try:
    operator.execute({})
except InterruptedRunError as error:
    print("interrupted", error)
    sys.exit(42)
"""


def test_a_kill_ends_the_backup_in_time(databases, server):
    """A real process at work is sent SIGTERM: it ends within 5 s, makes no snapshot, and the next run does."""
    fill(server, rows=100_000)
    slow = databases.policy.read_text().replace("user: backup,", "user: backup, max_rate: 2MB/s,")
    databases.policy.write_text(slow)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert "ready\n" == process.stdout.readline()
        wait_for(lambda: server.sql("SELECT 1 FROM pg_stat_progress_basebackup WHERE backup_streamed > 0"), "a stream")
        process.send_signal(signal.SIGTERM)
        killed_s = time.monotonic()
        said, _ = process.communicate(timeout=60)
        taken_s = time.monotonic() - killed_s
    finally:
        process.kill()
        process.wait()
    assert (42, True) == (process.returncode, "stopped by request" in said)
    assert taken_s < KILLED_WITHIN_S
    assert [] == snapshots(databases)
    databases.policy.write_text(slow.replace(", max_rate: 2MB/s", ""))
    assert take()["complete"]
    assert WalDrainOperator(task_id="wal", source="primary").execute({})["ranges"] >= 0
