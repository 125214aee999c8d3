"""Operators: one engine call each, stoppable at any moment, safe to run twice."""

from coffer_airflow.operators.database import DatabaseBackupOperator
from coffer_airflow.operators.drill import DatabaseDrillOperator
from coffer_airflow.operators.dump import DatabaseDumpOperator
from coffer_airflow.operators.restore import RestoreOperator
from coffer_airflow.operators.snapshot import SnapshotOperator
from coffer_airflow.operators.verify import VerifyOperator
from coffer_airflow.operators.wal import WalDrainOperator

__all__ = [
    "DatabaseBackupOperator",
    "DatabaseDrillOperator",
    "DatabaseDumpOperator",
    "RestoreOperator",
    "SnapshotOperator",
    "VerifyOperator",
    "WalDrainOperator",
]
