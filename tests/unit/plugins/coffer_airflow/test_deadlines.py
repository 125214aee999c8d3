"""What is said of a run that is late."""

import asyncio

from coffer_airflow.deadlines import say_overdue


def test_a_late_run_is_named_in_the_log(caplog):
    """An error with the run and its DAG; an argument that a later Airflow adds does no harm."""
    run = {"dag_id": "filesystem_backup", "dag_run_id": "scheduled__2026"}
    asyncio.run(say_overdue(context={"dag_run": run, "deadline": {}}, later="argument"))
    assert ["run scheduled__2026 of filesystem_backup is not done by its deadline"] == caplog.messages
