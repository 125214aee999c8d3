"""Save the write-ahead log of the databases of the policy, every few minutes, so that any moment can be restored.

#### What and where to

Each server of *databases* in the policy keeps WAL for the backup in a replication slot. This DAG brings what is new
into the repository, as far as it has been written at that moment, and only then lets the server forget it. A restore
goes to any moment between the end of a snapshot and the end of the saved WAL.

#### When

By *schedule.wal* of the policy (every 5 minutes), by day too: the backup window does not count. One run at a time, none
longer than an hour; what a run saved is kept, and the next one goes on from there.

- **RPO** 5 min: what was written since the last run is lost with the server.
- **RTO** as *database_full_backup*.

#### Tasks

1. **plan**: which servers there are
2. **save_wal**, one for each server, with retries of its own

They have a pool of their own, so that no backup keeps them waiting.

**Needs** the pool *coffer_wal*, and what *database_full_backup* needs. Before the first backup of a server there is
nothing to save, and its task is skipped.

#### By hand

*Trigger* shows a form: which databases. Running it twice does no harm. *coffer wal receive* does the same without
Airflow, and without a pause.

#### Run book

- **save_wal skipped**, "no backup yet": trigger *database_full_backup*.
- **save_wal up for retry** with pg-slot-busy: a backup, or *coffer wal receive*, is saving WAL just now.
- **save_wal failed** with pg-wal-gap or pg-slot-lost: the server removed WAL before it was saved. Trigger
  *database_full_backup*: moments in the gap cannot be restored. Then raise *max_slot_wal_keep_size*.
- **save_wal failed**, "the slot holds back ... of what it may": WAL grows faster than it is saved. Look at the
  repository's disk, and at *max_slot_wal_keep_size*.
- **a run is late** (Browse > Deadlines): the server's WAL disk fills until it is done. See *coffer pg doctor*.
- **tasks stay scheduled**: the pool *coffer_wal* is missing (Admin > Pools).
"""

from airflow.sdk import dag

from coffer_airflow.dag_defaults import (
    RUN_TYPES,
    START_DATE,
    WAL_LONGEST,
    deadline_alert,
    default_args,
    policy_of_dags,
    wal_schedule,
)
from coffer_airflow.database_dags import databases_param, wire_wal
from coffer_airflow.database_planning import plan_wal

POLICY = policy_of_dags()


@dag(
    schedule=wal_schedule(POLICY),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=WAL_LONGEST,
    deadline=deadline_alert(WAL_LONGEST),
    allowed_run_types=RUN_TYPES,
    default_args=default_args(),
    params={"databases": databases_param(POLICY)},
    doc_md=__doc__,
    tags=["backup", "database", "wal"],
)
def wal_archive() -> None:
    """Wire the tasks."""
    wire_wal(plan_wal)


wal_archive()
