"""Back up the databases of the policy in full: each server once, from PostgreSQL 15 to 18, over the network.

#### What and where to

The names of *databases* in the policy. A physical backup holds a whole server, so names that are on one server are one
backup: its snapshots bear the first of them, and their tags the others. Everything is stored, what is known already
only by reference: a full backup compares nothing with anything, so that one wrong page cannot live on. The destination
is the first location of the policy, or the first that the server's entry names.

Each snapshot restores by itself, to any moment from its end on, as far as WAL was saved: *coffer pg restore*.

#### When

By *schedule.full* of the policy (Sundays at midnight), in its time zone, and only within its backup window. At the
window's end a run stops without a snapshot and fails; the next one finds what it stored. One run at a time, and none
longer than *max_duration*. The days between have *database_incremental_backup*, the minutes *wal_archive*.

- **RPO** the interval of *wal_archive*, 5 min: what was not in saved WAL yet is lost.
- **RTO** the time to read the data from the repository's disk, and to replay WAL since: *coffer pg restore*.

#### Tasks

1. **plan**: which servers there are, and until when
2. **execute_backup**, one for each server, with retries of its own
3. **plan_checks**, then **check**, one for each location that was written to
4. **plan_drills**, then **verify_backup**, one for each server: restored, started, its tables compared
5. **plan_dumps**, then **dump**, one for each server of which the policy asks for dumps (*logical*)
6. **report**: the totals

A server that fails does not keep the others from being saved and checked, but the run fails.

**Needs** the pool *coffer* with *max_workers* slots; a repository (*coffer init*); for each database a connection
*coffer_NAME* of type Postgres, or its address in *database_servers* of the policy; a role with REPLICATION. *coffer pg
doctor* looks at all that a server needs. For *verify_backup* the worker needs the programs of the same PostgreSQL
version. No Airflow variables.

#### By hand

*Trigger* shows a form: which databases, whether to run outside the window, how long tables may be digested, how deep
to check, and whether to prove the backup by a restore. Running it twice does no harm.

#### Run book

- **plan skipped**, "outside the backup window": nothing to do. The run came late, as after switching the DAG on by day.
- **plan skipped**, "the policy names no database": nothing to do.
- **execute_backup failed** with pg-auth, pg-hba or pg-no-replication: the HINT in its log says what to change on the
  server. *coffer pg doctor* shows all of it at once.
- **execute_backup up for retry** with pg-conn or pg-backup-running: the server did not answer, or another backup of it
  is running. It is tried again.
- **execute_backup failed**, "the time given to it is over": raise *max_rate*, or give it more time in the policy.
- **execute_backup succeeded** with *complete: false* in its XCom: the server has damaged pages, which its log names.
  The snapshot holds them as they are. Look at that server's disk.
- **verify_backup failed**: do not rely on that snapshot. Its log says what differs; take another full backup.
- **check failed**: trust that location no longer. *coffer verify* lists what is damaged.
- **tasks stay scheduled**: the pool *coffer* is missing or full (Admin > Pools).
"""

from airflow.sdk import dag

from coffer_airflow.dag_defaults import (
    RUN_TYPES,
    START_DATE,
    database_schedule,
    deadline_alert,
    default_args,
    max_duration,
    policy_of_dags,
)
from coffer_airflow.database_dags import backup_params, databases_param, wire_backups
from coffer_airflow.database_planning import plan_full

POLICY = policy_of_dags()


@dag(
    schedule=database_schedule(POLICY, "full"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=max_duration(POLICY),
    deadline=deadline_alert(max_duration(POLICY)),
    allowed_run_types=RUN_TYPES,
    default_args=default_args(),
    params={"databases": databases_param(POLICY), **backup_params(POLICY)},
    doc_md=__doc__,
    tags=["backup", "database"],
)
def database_full_backup() -> None:
    """Wire the tasks."""
    wire_backups(plan_full, with_dumps=True)


database_full_backup()
