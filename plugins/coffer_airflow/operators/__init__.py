"""Operators: one engine call each, stoppable at any moment, safe to run twice."""

from coffer_airflow.operators.restore import RestoreOperator
from coffer_airflow.operators.snapshot import SnapshotOperator
from coffer_airflow.operators.verify import VerifyOperator

__all__ = ["RestoreOperator", "SnapshotOperator", "VerifyOperator"]
