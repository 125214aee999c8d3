"""DatabaseDrillOperator: a backup is restored, started and compared, and what differs fails the task."""

import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer.verification.findings import Severity
from coffer_airflow.operators import DatabaseBackupOperator, DatabaseDrillOperator
from tests.harness.databases import fill

pytestmark = pytest.mark.postgres


def prove(**options):
    """Run an operator as a task does."""
    return DatabaseDrillOperator(task_id="verify_backup", source="primary", **options).execute({})


@pytest.fixture
def backed_up(databases, server):
    """The XCom of one backup, with digests of its tables."""
    fill(server)
    return DatabaseBackupOperator(task_id="backup", source="primary", proof_budget_s=60).execute({})


@pytest.fixture
def scratch():
    """A folder that the server's user gets to: tests may run as root, a server never does."""
    folder = Path(tempfile.mkdtemp(prefix="coffer-drill-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_backup_is_proved(databases, backed_up, scratch):
    """Its tables are what they were; the XCom says how many, and nothing is left on the disk."""
    done = prove(snapshot=backed_up["snapshot"], scratch_dir=str(scratch))
    assert (backed_up["snapshot"], "proved", ["primary"]) == (done["snapshot"], done["verdict"], done["databases"])
    assert done["tables_compared"] >= 1
    assert done == json.loads(json.dumps(done))
    assert [] == list(scratch.iterdir())


def test_what_differs_fails_without_a_further_try(databases, backed_up, monkeypatch):
    """The first findings are in the error, with what to do."""
    finding = SimpleNamespace(severity=Severity.ERROR, code="table-differs", message="public.orders: 3 rows differ")
    hint = SimpleNamespace(severity=Severity.HINT, code="sampled", message="only a part")
    report = SimpleNamespace(
        ok=False, verdict="damaged", snapshot="ab12", source="primary", findings=(finding, hint), counts={}
    )
    monkeypatch.setattr("coffer_airflow.operators.drill.drill_cluster", lambda *_, **__: report)
    with pytest.raises(AirflowFailException, match=r"1 findings\n  table-differs: public.orders: 3 rows differ\nHINT"):
        prove()


def test_the_folder_is_the_policys_unless_one_is_named(databases, monkeypatch):
    """Where there is room."""
    seen = []

    def spy(repo, source, *, snapshot, options, progress, stop):
        seen.append((source, snapshot, options.scratch, options.workers))
        raise RuntimeError("enough")

    monkeypatch.setattr("coffer_airflow.operators.drill.drill_cluster", spy)
    policy = databases.policy.read_text()
    databases.policy.write_text(policy.replace("user: backup,", "user: backup, proof: {scratch_dir: /mnt/room},"))
    for given in ({}, {"snapshot": "ab12", "scratch_dir": "/elsewhere"}):
        with pytest.raises(RuntimeError):
            prove(**given)
    assert [("primary", None, "/mnt/room", 4), ("primary", "ab12", "/elsewhere", 4)] == [
        (source, snapshot, str(folder), workers) for source, snapshot, folder, workers in seen
    ]
