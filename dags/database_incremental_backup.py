"""Back up what changed in the databases of the policy since the last backup, as snapshots that restore by themselves.

#### What and where to

As *database_full_backup*: each server once. How changes are found is said by *method* in *database_servers* of the
policy, or by the form:

- *delta*: every page is read from the server and compared with the last snapshot; only pages that changed are stored.
- *native*: PostgreSQL 17 or newer sends changed blocks only. Where it cannot be relied on, *delta* is done instead, and
  the log says so.
- *wal*: only WAL is saved, and there is no new snapshot: a restore replays everything since the last one.

With *delta* and *native* every snapshot is complete: no restore needs another one. The first run of all, without a
snapshot to compare with, is a full backup, and says so.

#### When

By *schedule.incremental* of the policy (at midnight, but on Sundays), in its time zone, and only within its backup
window. At the window's end a run stops without a snapshot and fails; the next one finds what it stored. One run at a
time, and none longer than *max_duration*.

- **RPO** the interval of *wal_archive*, 5 min: what was not in saved WAL yet is lost.
- **RTO** the time to read the data from the repository's disk, and to replay WAL since: *coffer pg restore*.

#### Tasks

As in *database_full_backup*: **plan**, **execute_backup**, **plan_checks**, **check**, **plan_drills**,
**verify_backup**, **report**.

**Needs** what *database_full_backup* needs.

#### By hand

*Trigger* shows the form of *database_full_backup*, and asks for the method. Running it twice does no harm: the second
run stores what changed meanwhile.

#### Run book

That of *database_full_backup*, and:

- **execute_backup succeeded** with *notes* in its XCom: another method was used than the one asked for. Its log says
  why: *pg-incr-refused* for native, a slot that had lost its WAL, another major version of the server.
- **execute_backup failed** with pg-sysid-changed: another cluster answers at this address, as after an initdb or an
  upgrade by pg_upgrade. Give it a name of its own in the policy.
- **execute_backup failed** with pg-wal-gap: WAL was removed from the server before it was saved. Trigger
  *database_full_backup*.
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
from coffer_airflow.database_dags import backup_params, databases_param, method_param, wire_backups
from coffer_airflow.database_planning import plan_incremental

POLICY = policy_of_dags()


@dag(
    schedule=database_schedule(POLICY, "incremental"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=max_duration(POLICY),
    deadline=deadline_alert(max_duration(POLICY)),
    allowed_run_types=RUN_TYPES,
    default_args=default_args(),
    params={"databases": databases_param(POLICY), "method": method_param(), **backup_params(POLICY)},
    doc_md=__doc__,
    tags=["backup", "database"],
)
def database_incremental_backup() -> None:
    """Wire the tasks."""
    wire_backups(plan_incremental)


database_incremental_backup()
