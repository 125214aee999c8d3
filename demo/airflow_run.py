"""Run a DAG of this project in this process: no server, no scheduler, nothing left behind but the folder given."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffer_airflow.local_airflow import base_settings

if TYPE_CHECKING:
    from airflow.sdk import DAG


def set_up(home: Path, project: Path) -> None:
    """Point Airflow at a folder of its own and make its database; call it before anything imports Airflow."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(base_settings(home, project))
    from airflow.utils.db import initdb

    from coffer_airflow.dag_defaults import policy_of_dags
    from coffer_airflow.pool import make_pools

    initdb()
    make_pools(policy_of_dags())


def load_dag(dag_id: str) -> DAG:
    """Return a DAG of dags/, parsed as Airflow's dag-processor does.

    Raises:
        ImportError: A file of dags/ cannot be imported.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag()
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    dag: Any = bag.dags[dag_id]
    # Airflow 3.3.2 ends `dag.test()` of a DAG with a deadline in an AttributeError (apache/airflow#73428).
    dag.deadline = None
    return dag


def run_dag(dag: DAG, params: dict[str, Any]) -> tuple[str, dict[str, list[Any]]]:
    """Run a DAG to its end.

    Returns:
        Its final state, and what each task returned, a list with an item for each mapped one.
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    run = dag.test(run_conf=params)
    with create_session() as session:
        rows = session.scalars(XComModel.get_many(run_id=run.run_id, key="return_value", dag_ids=dag.dag_id)).all()
        returned: dict[str, list[Any]] = {}
        for row in sorted(rows, key=lambda row: row.map_index):
            returned.setdefault(row.task_id, []).append(XComModel.deserialize_value(row))
    return str(run.state), returned


@contextlib.contextmanager
def output_to(file: Path) -> Iterator[None]:
    """Send all that this process writes to its standard output and error to a file, Airflow's log lines above all."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(saved, 1):
            os.dup2(old, number)
            os.close(old)
        os.close(fd)
