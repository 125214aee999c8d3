"""The pool that holds backups back: as many slots as the policy's `max_workers`.

It is made by whoever sets an Airflow up (`make up`, `make demo`, the tests), never by a task: tasks cannot reach
Airflow's database.
"""

from __future__ import annotations

from coffer.config.policy import Policy
from coffer_airflow.dag_defaults import POOL


def make_pool(policy: Policy) -> None:
    """Make the pool in Airflow's database, or give it its number of slots; safe to repeat."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(
        POOL,
        slots=policy.performance.max_workers,
        description="Backups: as many slots as the policy's max_workers",
        include_deferred=True,
    )
