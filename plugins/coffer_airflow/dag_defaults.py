"""What all backup DAGs have in common: read anew whenever Airflow parses a DAG file, always with the same result.

Nothing here moves with the clock or the machine, only with the policy file: two parses give the same DAG.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from airflow.sdk import CronTriggerTimetable, MultipleCronTriggerTimetable
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from coffer.config.loading import load_policy
from coffer.config.policy import Policy
from coffer_airflow.deadlines import say_overdue

POOL = "coffer"  # as many slots as the policy's max_workers: `coffer_airflow.pool`
# WAL never waits behind backups: they can hold every slot of the other pool for hours, and servers keep WAL meanwhile.
WAL_POOL = "coffer_wal"
WAL_LONGEST = timedelta(
    hours=1
)  # of one run that saves WAL; what it saved is kept, and the next one goes on from there
START_DATE = datetime(2026, 1, 1, tzinfo=UTC)  # of every DAG; fixed, and before any run
RUN_TYPES = ("scheduled", "manual", "operator_triggered")  # yesterday cannot be backed up today: no backfill


@cache
def policy_of_dags() -> Policy:
    """Return the policy; read once a process.

    Raises:
        PolicyInvalidError: It has mistakes; as an import error, the page of DAGs shows all of them.
    """
    return load_policy()


def default_args() -> dict[str, Any]:
    """Return what every task has unless it says otherwise.

    Only transient errors are tried again: the operators fail at once on a permanent one. Pauses double from one minute
    up to 15.
    """
    return {
        "owner": "coffer",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
    }


def filesystem_schedule(policy: Policy) -> CronTriggerTimetable | MultipleCronTriggerTimetable:
    """Return when file trees are backed up: the DAG's own schedule, and those of sources that have one."""
    crons = dict.fromkeys(policy.schedule_of(source) for source in policy.sources_by_kind("filesystem"))
    ordered = sorted(crons) or [policy.filesystem_backup.schedule]
    if len(ordered) == 1:
        return CronTriggerTimetable(ordered[0], timezone=policy.timezone)
    return MultipleCronTriggerTimetable(*ordered, timezone=policy.timezone)


def database_schedule(policy: Policy, kind: Literal["full", "incremental"]) -> CronTriggerTimetable | None:
    """Return when databases are backed up; None where the policy names none, or leaves this kind out."""
    if not policy.databases or kind not in policy.backup_types:
        return None
    cron = policy.schedule.full if kind == "full" else policy.schedule.incremental
    return CronTriggerTimetable(cron, timezone=policy.timezone)


def wal_schedule(policy: Policy) -> CronTriggerTimetable | None:
    """Return when WAL is saved; None where the policy names no database."""
    return CronTriggerTimetable(policy.schedule.wal, timezone=policy.timezone) if policy.databases else None


def max_duration(policy: Policy) -> timedelta:
    """Return how long a run may take."""
    return timedelta(seconds=policy.performance.max_duration_s)


def deadline_alert(longest: timedelta) -> DeadlineAlert:
    """Return the alert on a run that is not done in time; it only tells, `dagrun_timeout` stops."""
    return DeadlineAlert(
        name="max_duration",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=longest,
        callback=AsyncCallback(say_overdue),
    )
