"""SnapshotOperator, run without a database: from a source of the policy to a snapshot and its XCom."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import BackendUnavailableError
from coffer.sources.filesystem import SourceWarning, backup
from coffer_airflow.operators import SnapshotOperator
from tests.harness.installation import PROJECT, RANDOM_BYTES, connection, install, make_passphrase_repository

RECORD_BYTES = 5000  # a manifest of a few files is smaller
KILLED_WITHIN_S = 5  # what Airflow leaves between on_kill and SIGKILL


def take(source="docs", **options):
    """Run an operator as a task does."""
    return SnapshotOperator(task_id="snapshot", source=source, **options).execute({})


def test_a_source_of_the_policy_becomes_a_snapshot(installation):
    """The repository then has it, and the XCom is ids, counts and sizes that JSON can hold."""
    done = take()
    with installation.opened() as repository:
        (snapshot,) = repository.snapshots()
    assert (snapshot.id, "docs", "primary", True, 3) == (
        done["snapshot"],
        done["source"],
        done["location"],
        done["complete"],
        done["files"],
    )
    assert done == json.loads(json.dumps(done))
    assert len(json.dumps(done)) < 1000


def test_a_second_run_stores_nothing(installation):
    """Safe to run twice: the second snapshot stores its own record, and refers to what the first one stored."""
    assert take()["stored_bytes"] > RANDOM_BYTES
    second = take()
    assert (3, True) == (second["files"], second["complete"])
    assert second["stored_bytes"] < RECORD_BYTES


def test_compression_is_off_where_the_policy_says_so(installation):
    """What would shrink a thousandfold is stored as it is."""
    text = installation.policy.read_text()
    installation.policy.write_text(text.replace("local_backup:\n", "local_backup:\n  compression: {enabled: false}\n"))
    (installation.tree("docs") / "zeros").write_bytes(bytes(1_000_000))
    assert take()["stored_bytes"] > 1_000_000


def test_force_read_reads_all_again(installation):
    """Unchanged files are read, and still nothing is stored twice."""
    take()
    second = take(force_read=True)
    assert second["size_bytes"] == second["read_bytes"] > 0
    assert second["stored_bytes"] < RECORD_BYTES


def test_a_file_that_cannot_be_saved_is_a_warning(installation, monkeypatch, capfd):
    """The task succeeds and says that the snapshot is incomplete; with fail_on_warnings it fails, and keeps it."""

    def backup_with_a_warning(*given, **options):
        result = backup(*given, **options)
        snapshot = replace(result.snapshot, complete=False, warnings_count=1)
        return replace(result, snapshot=snapshot, warnings=(SourceWarning(b"/a\xff", "unreadable", "unreadable: no"),))

    monkeypatch.setattr("coffer_airflow.operators.snapshot.backup", backup_with_a_warning)
    done = take()
    assert (False, 1) == (done["complete"], done["warnings_count"])
    assert "/a\\xff: unreadable: no" in capfd.readouterr().out
    with pytest.raises(AirflowFailException, match=r"1 warnings\nHINT: the snapshot is kept"):
        take(fail_on_warnings=True)
    with installation.opened() as repository:
        assert 2 == len(repository.snapshots())


def test_a_head_that_cannot_be_remembered_is_logged(installation, capfd):
    """The task succeeds: the snapshot is whole. The log says that this machine would not notice its removal."""
    (installation.folder / "state").touch()
    assert take()["complete"]
    place = f"{installation.folder}/state/heads"
    assert f"would not notice its removal ({place}: Not a directory)" in capfd.readouterr().out


def test_a_deadline_that_has_passed_fails_at_once(installation):
    """A try that begins after the window does no work, and no further try is made."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(AirflowFailException, match="its time was over"):
        take(deadline=past.isoformat())
    with installation.opened() as repository:
        assert [] == repository.snapshots()


def test_a_deadline_to_come_does_not_disturb(installation):
    """A run that ends in time is like any other."""
    assert take(deadline=(datetime.now(UTC) + timedelta(hours=1)).isoformat())["complete"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda made: made.key_file.unlink(), "key-file: "),
        (lambda made: made.key_file.chmod(0o644), "mode 0644 lets others read it"),
        (lambda made: (made.repository / "coffer.json").unlink(), "not-a-repository: "),
        (lambda made: made.tree("docs").rename(made.folder / "away"), "source-missing: "),
    ],
)
def test_a_permanent_error_is_not_tried_again(installation, break_it, message):
    """AirflowFailException with code and hint: Airflow makes no further try."""
    break_it(installation)
    with pytest.raises(AirflowFailException, match=message) as caught:
        take()
    assert "\nHINT: " in str(caught.value)


def test_a_source_that_there_is_not_is_refused(installation):
    """The message names those that there are."""
    with pytest.raises(AirflowFailException, match="source 'dosc': the policy has docs"):
        take("dosc")


def test_a_transient_error_is_left_to_the_retries(installation, monkeypatch):
    """It comes out as it is, so that Airflow tries again."""

    def fail(*_, **__):
        raise BackendUnavailableError("store: no answer")

    monkeypatch.setattr("coffer_airflow.operators.snapshot.backup", fail)
    with pytest.raises(BackendUnavailableError):
        take()


def test_no_secret_is_logged_or_returned(installation, tmp_path, monkeypatch, caplog, capfd):
    """With the passphrase in the connection, neither the log nor the XCom nor an error holds it."""
    folder, passphrase = tmp_path / "other", "planted-passphrase-0815"
    make_passphrase_repository(folder, passphrase)
    monkeypatch.setenv("AIRFLOW_CONN_COFFER_DEFAULT", connection(host=str(folder), password=passphrase))
    caplog.set_level("DEBUG")
    done = take()
    monkeypatch.setenv("AIRFLOW_CONN_COFFER_DEFAULT", connection(host=str(folder), password=f"{passphrase}-not"))
    with pytest.raises(AirflowFailException) as caught:
        take()
    logged = caplog.text + "".join(capfd.readouterr())
    assert "does not open this repository" in logged
    assert "planted" not in logged + json.dumps(done) + str(caught.value)
    assert "wrong-key" in str(caught.value)


PROGRAM = """
import signal, sys
from coffer.errors import InterruptedRunError
from coffer_airflow.operators import SnapshotOperator
operator = SnapshotOperator(task_id="snapshot", source="docs", workers=1)
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow's task runner does
print("ready", flush=True)
try:
    operator.execute({})
except InterruptedRunError as error:
    print("interrupted", error)
    sys.exit(42)
"""


def test_a_kill_stores_a_checkpoint_in_time(tmp_path, monkeypatch):
    """A real process at work is sent SIGTERM: it ends within 5 s with a checkpoint, and the next run goes on there."""
    slow = "performance_config: {compression: {chunk_size: 16MB}, concurrency: {io_limit: 12MB/s}}\n"
    made = install(tmp_path / "slow", extra=slow)
    for n in range(96):
        (made.tree("docs") / f"{n:02}").write_bytes(n.to_bytes() + _random_mib(n))
    monkeypatch.setenv("COFFER_POLICY", str(made.policy))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert "ready\n" == process.stdout.readline()
        _wait_for(lambda: any((made.repository / "packs").rglob("?" * 64)), process)
        process.send_signal(signal.SIGTERM)
        killed_s = time.monotonic()
        said, _ = process.communicate(timeout=60)
        taken_s = time.monotonic() - killed_s
    finally:
        process.kill()
        process.wait()
    assert (42, True) == (process.returncode, "stopped by request" in said)
    assert taken_s < KILLED_WITHIN_S
    made.policy.write_text(made.policy.read_text().replace(slow, ""))
    resumed = take()
    assert resumed["complete"]
    assert 0 < resumed["read_bytes"] < resumed["size_bytes"]


def _random_mib(seed):
    import random

    return random.Random(seed).randbytes(1024 * 1024)


def _wait_for(condition, process):
    """Wait until something is there while a process works."""
    limit_s = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < limit_s
        signal.sigtimedwait([], 0.02)
