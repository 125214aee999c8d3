"""The database DAGs as they are parsed: schedules, forms and wiring follow from the policy."""

import pytest

from coffer_airflow.database_planning import FULL_FORM, INCREMENTAL_FORM, WAL_FORM
from tests.harness.airflow_runs import parse_dags

FORMS = {
    "database_full_backup": FULL_FORM,
    "database_incremental_backup": INCREMENTAL_FORM,
    "wal_archive": WAL_FORM,
}


@pytest.fixture
def dags(installation):
    """The DAGs of a policy that names databases; none of their servers is asked."""
    with installation.policy.open("a") as file:
        file.write("databases: [primary, audit]\nbackup_types: [full, incremental]\n")
        file.write('schedule: {full: "0 1 * * 0", incremental: "0 2 * * 1-6", wal: "*/10 * * * *"}\n')
    return parse_dags().dags


def test_the_schedules_are_the_policys(dags):
    """Each DAG has its own."""
    expected = {
        "database_full_backup": "0 1 * * 0",
        "database_incremental_backup": "0 2 * * 1-6",
        "wal_archive": "*/10 * * * *",
    }
    assert expected == {dag_id: dags[dag_id].timetable.expression for dag_id in expected}


def test_without_databases_nothing_is_scheduled(dagbag):
    """No run every five minutes that has nothing to do; by hand each can still be started."""
    assert {None} == {dagbag.dags[dag_id].schedule for dag_id in FORMS}


def test_a_kind_that_the_policy_leaves_out_is_not_scheduled(installation):
    """WAL is saved all the same: a full backup alone would be a week old."""
    with installation.policy.open("a") as file:
        file.write("databases: [primary]\nbackup_types: [full]\n")
    dags = parse_dags().dags
    assert dags["database_incremental_backup"].schedule is None
    assert dags["database_full_backup"].schedule is not None
    assert dags["wal_archive"].schedule is not None


@pytest.mark.parametrize("dag_id", sorted(FORMS))
def test_the_form_asks_what_the_plan_knows(dags, dag_id):
    """A field that is added to the form is added to the keys that a run may be given."""
    assert set(FORMS[dag_id]) == set(dags[dag_id].params)


@pytest.mark.parametrize("dag_id", sorted(FORMS))
def test_the_form_offers_the_databases_of_the_policy(dags, dag_id):
    """And no other."""
    field = dags[dag_id].params.get_param("databases")
    assert (["primary", "audit"], ["primary", "audit"]) == (field.schema["items"]["enum"], field.schema["examples"])


@pytest.mark.parametrize("dag_id", ["database_full_backup", "database_incremental_backup"])
def test_a_backup_is_checked_and_proved(dags, dag_id):
    """Each server's backup, the place that it went to, and the proof by a restore, which no later task hides."""
    dag = dags[dag_id]
    assert {"plan_checks", "plan_drills", "report"} <= dag.get_task("execute_backup").downstream_task_ids
    assert {"verify_backup"} <= dag.get_task("plan_drills").downstream_task_ids
    assert set() == dag.get_task("verify_backup").downstream_task_ids
    assert {"report"} == dag.get_task("check").downstream_task_ids


def test_dumps_come_with_the_full_backup_alone(dags):
    """Weekly, where the policy asks for them."""
    assert "dump" in dags["database_full_backup"].task_ids
    assert "dump" not in dags["database_incremental_backup"].task_ids
