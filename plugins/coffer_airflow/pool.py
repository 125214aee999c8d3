"""The pools: one that holds backups back, with as many slots as the policy's `max_workers`, and one for WAL.

They are made by whoever sets an Airflow up (`make up`, `make demo`, the tests), never by a task: tasks cannot reach
Airflow's database.
"""

from __future__ import annotations

from coffer.config.policy import Policy
from coffer_airflow.dag_defaults import POOL, WAL_POOL

_WAL_SLOTS = 4  # a drain is one stream and little work, and few clusters have much to save at once


def make_pools(policy: Policy) -> None:
    """Make the pools in Airflow's database, or give them their numbers of slots; safe to repeat."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(
        POOL,
        slots=policy.performance.max_workers,
        description="Backups: as many slots as the policy's max_workers",
        include_deferred=True,
    )
    Pool.create_or_update_pool(
        WAL_POOL,
        slots=_WAL_SLOTS,
        description="Saving WAL of databases: never behind backups",
        include_deferred=True,
    )
