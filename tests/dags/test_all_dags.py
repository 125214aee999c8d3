"""What holds for every DAG of the project."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from coffer_airflow.dag_defaults import POOL, WAL_POOL
from coffer_airflow.operators.base import RepositoryOperator
from tests.harness.airflow_home import PROJECT
from tests.harness.airflow_runs import parse_dags

DAG_IDS = {"database_full_backup", "database_incremental_backup", "filesystem_backup", "wal_archive"}
TAGS = {"backup", "database", "filesystem", "wal"}
# A DAG file is parsed every half minute: it may read the policy, and nothing else that takes time. [s]
PARSED_WITHIN_S = 5


@pytest.fixture(params=sorted(DAG_IDS))
def dag(request, dagbag):
    """Each DAG in turn."""
    return dagbag.dags[request.param]


def data_tasks(dag):
    """The tasks that move data, mapped or not."""
    for task in dag.tasks:
        cls = task.operator_class if task.is_mapped else type(task)
        if issubclass(cls, RepositoryOperator):
            yield task


def test_the_dags_are_exactly_these(dagbag):
    """No DAG is lost, none comes by accident, none fails to import."""
    assert {} == dagbag.import_errors
    assert DAG_IDS == set(dagbag.dags)


def test_the_default_policy_gives_the_same_dags(monkeypatch):
    """The policy that comes with the project parses them all too."""
    monkeypatch.delenv("COFFER_POLICY", raising=False)
    bag = parse_dags()
    assert ({}, DAG_IDS) == (bag.import_errors, set(bag.dags))


def test_two_parses_in_two_processes_are_equal(installation):
    """The serialised DAGs have one hash: nothing in them moves with the clock, the process or the order of a set."""
    code = """
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
from tests.harness.airflow_runs import parse_dags
print("HASHES", [SerializedDagModel.hash(DagSerialization.to_dict(dag)) for dag in parse_dags().dags.values()])
"""
    results = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        results.append(next(line for line in done.stdout.splitlines() if line.startswith("HASHES")))
    assert results[0] == results[1]
    assert len(DAG_IDS) == results[0].count("'") / 2


def test_a_dag_survives_serialisation(dag):
    """What the scheduler reads from its database is the DAG: same tasks, same wiring."""
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert sorted(dag.task_ids) == sorted(read.task_ids)
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        task.task_id: task.downstream_task_ids for task in read.tasks
    }


def test_a_run_is_bounded(dag):
    """One run at a time, none made up for, none longer than its timeout, and an alert on one that is late."""
    assert (1, False) == (dag.max_active_runs, dag.catchup)
    assert dag.dagrun_timeout is not None
    assert [dag.dagrun_timeout] == [alert.interval for alert in _listed(dag.deadline)]
    assert datetime(2026, 1, 1, tzinfo=UTC) == dag.start_date


def test_no_backfill(dag):
    """Yesterday's files cannot be backed up today."""
    assert {"scheduled", "manual", "operator_triggered"} == {kind.value for kind in dag.allowed_run_types}


def test_a_dag_says_what_it_is(dag):
    """Its page tells RPO, RTO, what it needs, how it is run by hand, and what to do when it fails."""
    for word in ("RPO", "RTO", "Needs", "By hand", "Run book"):
        assert word in dag.doc_md
    assert set(dag.tags) <= TAGS
    assert dag.tags


def test_every_task_has_owner_and_retries(dag):
    """Transient errors are tried again, with pauses that grow."""
    assert {"coffer"} == {task.owner for task in dag.tasks}
    assert all(task.retries == 3 and task.retry_exponential_backoff for task in dag.tasks)


def test_what_moves_data_waits_for_the_pool(dag):
    """Each such task is an operator of ours in our pool, so max_workers holds; WAL has one that no backup fills."""
    found = list(data_tasks(dag))
    assert found
    assert {WAL_POOL if dag.dag_id == "wal_archive" else POOL} == {task.pool for task in found}


def test_a_mapped_task_has_a_name_for_people(dag):
    """The grid shows which source or location it is, not a number."""
    assert all(task.map_index_template for task in dag.tasks if task.is_mapped)


def test_every_field_of_the_form_is_explained(dag):
    """Title and description, and a default that fits its own schema."""
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema["title"]
        assert param.schema["description_md"]
        assert param.value == param.resolve()


def test_a_parse_takes_little_time(dagbag):
    """The dag-processor's budget."""
    assert all(stat.duration.total_seconds() < PARSED_WITHIN_S for stat in dagbag.dagbag_stats)


def test_no_secret_is_in_a_serialised_dag(installation, dagbag):
    """The database that everybody reads holds no key."""
    key = installation.key_file.read_text().split()[1]
    assert key not in json.dumps([DagSerialization.to_dict(dag) for dag in dagbag.dags.values()])


def test_a_policy_with_mistakes_shows_as_an_import_error(installation):
    """Each mistake with its line, in the words of `coffer config check`, at every DAG."""
    installation.policy.write_text("timezone: Mars/Olympus\nsorces: []\n")
    errors = parse_dags().import_errors
    assert len(DAG_IDS) == len(errors)
    for shown in errors.values():
        assert "2 mistakes" in shown
        assert re.search(r"coffer\.yaml:1:.*Mars/Olympus", shown)
        assert re.search(r"coffer\.yaml:2:.*sorces", shown)


def _listed(value):
    return value if isinstance(value, list) else [value]
