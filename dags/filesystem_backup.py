"""Back up the file trees of the policy, each as one snapshot, and then check the repository.

#### What and where to

Sources are those of kind *filesystem* in the policy, config/coffer.yaml. The destination is the first location of the
policy, or the first of those that a source names. The other locations are **not written by this version**: replication
comes later. Until then, copy the repository's folder. A copy made while a backup runs may lack parts of that one
snapshot: *coffer check* of the copy says so, and the next copy adds them.

#### When

By the schedule of the policy (*filesystem_backup.schedule*), in its time zone, and only within its backup window. At
the window's end a run stops with a checkpoint and fails; the next one goes on where it stopped. One run at a time, and
none longer than *max_duration*.

- **RPO** 24 h: what changed since the last good run is lost.
- **RTO**: about the time to read the data from the repository's disk, by *coffer restore* or a RestoreOperator.

#### Tasks

1. **plan**: what is due, and until when
2. **snapshot**, one for each source
3. **plan_checks**, then **check**, one for each location that was written to
4. **report**: the totals

A source that fails does not keep the others from being saved and checked, but the run fails.

**Needs** the pool *coffer* with *max_workers* slots, and a repository (*coffer init*). The connection *coffer_default*
is optional: it can name another folder or the key; without it the policy says both. No Airflow variables.

#### By hand

*Trigger* shows a form: which sources, whether to run outside the window, whether to read every file again, and how
deep to check afterwards. Running it twice does no harm: the second run stores only what is new.

#### Run book

- **plan skipped**, "outside the backup window": nothing to do. The run came late, as after switching the DAG on by day.
  By hand: *Run outside the backup window*.
- **plan failed**, "unknown key": the conf of the run holds a key that the form does not know. Its log names the nearest
  one.
- **snapshot failed** with wrong-key or key-file: the HINT in its log says which file is meant. The connection
  *coffer_default* goes before the policy.
- **snapshot failed**, "the time given to it is over": trigger it with *Run outside the backup window*, or give it more
  time in the policy. It goes on where it stopped.
- **snapshot succeeded** with *complete: false* in its XCom: its log names each file that could not be read. All others
  are saved.
- **snapshot up for retry** with backend-full: free space where the repository lives. What was stored is kept.
- **check failed**: trust that location no longer. *coffer verify* lists what is damaged; undamaged files can be
  restored.
- **tasks stay scheduled**: the pool *coffer* is missing or full (Admin > Pools).
"""

from airflow.sdk import Param, TriggerRule, dag, task

from coffer.units import human_duration
from coffer_airflow.dag_defaults import (
    POOL,
    RUN_TYPES,
    START_DATE,
    deadline_alert,
    default_args,
    filesystem_schedule,
    max_duration,
    policy_of_dags,
)
from coffer_airflow.operators import SnapshotOperator, VerifyOperator
from coffer_airflow.planning import plan_checks, plan_run, summarise

POLICY = policy_of_dags()
SOURCES = [source.name for source in POLICY.sources_by_kind("filesystem")]
WINDOW = f"{POLICY.window} {POLICY.timezone}"
LONGEST = human_duration(POLICY.performance.max_duration_s)

PARAMS = {
    "sources": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "enum": SOURCES} if SOURCES else {"type": "string"},
        examples=SOURCES,
        title="Sources",
        description_md="Which sources of the policy to back up. None chosen: all of them.",
    ),
    "ignore_window": Param(
        default=False,
        type="boolean",
        title="Run outside the backup window",
        description_md=f"The backup window is **{WINDOW}**. Off: a run outside of it is refused, and one within stops"
        f" with a checkpoint at its end. On: this run may start now, and take up to {LONGEST}.",
    ),
    "force_read": Param(
        default=False,
        type="boolean",
        title="Read every file again",
        description_md="Off: files whose size, times and inode are as in the last snapshot are not read.",
    ),
    "check": Param(
        "structure",
        type="string",
        enum=["structure", "data"],
        values_display={"structure": "structure (seconds)", "data": "data: read every stored byte (long)"},
        title="Check afterwards",
        description_md="*structure*: everything that is referred to is there. *data*: every stored byte is read and"
        " authenticated as well.",
    ),
}


@dag(
    schedule=filesystem_schedule(POLICY),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=max_duration(POLICY),
    deadline=deadline_alert(max_duration(POLICY)),
    allowed_run_types=RUN_TYPES,
    default_args=default_args(),
    params=PARAMS,
    doc_md=__doc__,
    tags=["backup", "filesystem"],
)
def filesystem_backup() -> None:
    """Wire the tasks."""
    planned = task(task_id="plan")(plan_run)()
    snapshots = SnapshotOperator.partial(
        task_id="snapshot", pool=POOL, map_index_template="{{ task.source }}"
    ).expand_kwargs(planned)
    checks = task(task_id="plan_checks", trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)(plan_checks)(planned)
    check = VerifyOperator.partial(
        task_id="check", pool=POOL, depth="{{ params.check }}", map_index_template="{{ task.location or 'first' }}"
    ).expand_kwargs(checks)
    report = task(task_id="report")(summarise)(snapshots.output)
    snapshots >> checks
    check >> report


filesystem_backup()
