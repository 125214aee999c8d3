"""Make ready the database of the local Airflow: tables, pool, and the user `admin`. Run by `scripts/airflow_up.py`.

A program of its own, since Airflow reads its settings once, when it is imported. Safe to repeat: an older database is
brought up to date, and the user gets the password of the file again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import initdb

from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.pool import make_pools

USER = "admin"


def main(password_file: str) -> int:
    """Prepare the database that the environment's settings name."""
    password = Path(password_file).read_text(encoding="ascii")
    initdb()
    make_pools(policy_of_dags())
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(USER)
        if user is None:
            added = manager.add_user(USER, "Coffer", "Admin", "admin@localhost", manager.find_role("Admin"), password)
            return 0 if added else 1
        manager.reset_password(user.id, password)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
