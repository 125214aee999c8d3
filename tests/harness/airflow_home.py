"""The Airflow of the tests: settings in the environment, all it writes in a temporary folder. Imports no Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from coffer_airflow.local_airflow import base_settings

PROJECT = Path(__file__).resolve().parents[2]


def use_temporary_airflow() -> None:
    """Point Airflow at a temporary folder of this process, made when Airflow needs it; call it before any import."""
    home = Path(tempfile.gettempdir(), f"coffer-tests-airflow-{os.getpid()}")
    os.environ.update(base_settings(home, PROJECT))
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
    atexit.register(_remove, home, os.getpid())


def _remove(home: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork
        shutil.rmtree(home, ignore_errors=True)
