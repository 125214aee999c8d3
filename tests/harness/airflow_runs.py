"""Run the project's DAGs in this process, in the temporary Airflow of the tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.pool import make_pools
from tests.harness.airflow_home import PROJECT

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag


@cache
def make_database() -> None:
    """Make Airflow's database and the pool, once a process."""
    from airflow.utils.db import initdb

    initdb()
    make_pools(policy_of_dags())


def parse_dags() -> DagBag:
    """Parse dags/ anew, by the policy that COFFER_POLICY names now."""
    from airflow.dag_processing.dagbag import DagBag

    policy_of_dags.cache_clear()
    return DagBag(dag_folder=str(PROJECT / "dags"))


def run_dag(dag: Any, **params: Any) -> tuple[str, dict[str, list[Any]], dict[str, list[str]]]:
    """Run a DAG to its end.

    Returns:
        (final state, what each task returned, the states of each task), the lists with an item for each mapped one.
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    dag.deadline = None  # Airflow 3.3.2 cannot test a DAG that has one: apache/airflow#73428
    run = dag.test(run_conf=params)
    with create_session() as session:
        rows = session.scalars(XComModel.get_many(run_id=run.run_id, key="return_value", dag_ids=dag.dag_id)).all()
        returned: dict[str, list[Any]] = {}
        for row in sorted(rows, key=lambda row: row.map_index):
            returned.setdefault(row.task_id, []).append(XComModel.deserialize_value(row))
        states: dict[str, list[str]] = {}
        for instance in sorted(run.get_task_instances(session=session), key=lambda one: one.map_index):
            states.setdefault(instance.task_id, []).append(str(instance.state))
    return str(run.state), returned, states
