"""What a run of a backup DAG is to do: decided when it runs, from the policy, the clock and the trigger form.

Plain functions on plain values: the DAG hands them to Airflow, and a test calls them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from croniter import croniter  # type: ignore[import-untyped]  # it ships no types

from coffer.clock import SYSTEM_CLOCK, utc_from_ns
from coffer.config.databases import DatabaseServer
from coffer.config.filetree import FileTreeSource
from coffer.config.policy import Policy
from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.failures import told_to_airflow

log = logging.getLogger(__name__)

BY_HAND = "manual"
FORM = ("sources", "ignore_window", "force_read", "check")  # what the trigger form of the DAG asks
# A run that ends itself leaves this much of its time for the checkpoint and the tasks behind it [part of the whole].
_RESERVE = 0.02


def plan_snapshots(
    policy: Policy, *, run_type: str, fired_at: datetime | None, now: datetime, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the arguments of `SnapshotOperator`, one set for each source that is to be backed up now.

    Args:
        policy: The policy.
        run_type: Airflow's: ``scheduled``, ``manual``, ``operator_triggered``.
        fired_at: The run's logical date; of a scheduled run, when the schedule fired.
        now: The time, aware.
        params: The trigger form: ``sources``, ``ignore_window``, ``force_read``.

    Raises:
        AirflowSkipException: A scheduled run outside the backup window, or nothing is due: nothing is to be done.
        AirflowFailException: A run by hand outside the window without leave, or of a source that there is not.
    """
    chosen = _chosen(policy, run_type, fired_at, params.get("sources") or ())
    deadline = run_deadline(policy, run_type, now, ignore_window=bool(params.get("ignore_window")))
    workers_each = max(1, policy.performance.max_workers // len(chosen))
    return [
        {
            "source": source.name,
            "location": destination(policy, source),
            "deadline": deadline.isoformat(),
            "workers": workers_each,
            "force_read": bool(params.get("force_read")),
        }
        for source in chosen
    ]


def plan_checks(snapshots: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the arguments of `VerifyOperator`: each location that a plan writes to, once, in the plan's order."""
    return [{"location": name} for name in dict.fromkeys(planned["location"] for planned in snapshots)]


def plan_run(*, params: Mapping[str, Any], dag_run: Any, logical_date: datetime | None = None) -> list[dict[str, Any]]:
    """Plan a run by the policy as it is now; the names of the arguments are those of Airflow's context.

    Raises:
        AirflowFailException: The run's conf has a key that the form does not know, or as `plan_snapshots`.
        AirflowSkipException: As `plan_snapshots`.
    """
    refuse_unknown_keys(getattr(dag_run, "conf", None) or {})
    with told_to_airflow(log):
        return plan_snapshots(
            policy_of_dags(),
            run_type=getattr(dag_run.run_type, "value", dag_run.run_type),
            fired_at=logical_date,
            now=utc_from_ns(SYSTEM_CLOCK.now_ns()),
            params=params,
        )


def refuse_unknown_keys(conf: Mapping[str, Any], form: Sequence[str] = FORM) -> None:
    """Refuse what the form does not ask: Airflow passes it over, and `ignore_windows` would do nothing unnoticed.

    Args:
        conf: Of the run.
        form: The keys of the form.

    Raises:
        AirflowFailException: A key is unknown; the message names it and the one that was probably meant.
    """
    unknown = sorted(set(conf) - set(form))
    if not unknown:
        return
    meant = {key: get_close_matches(key, form, n=1) for key in unknown}
    told = ", ".join(f"{key!r}" + (f" (did you mean {near[0]!r}?)" if near else "") for key, near in meant.items())
    raise AirflowFailException(
        f"conf of the run: unknown key {told}\nHINT: the keys are {', '.join(form)}. Nothing was backed up."
    )


def summarise(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of a run's snapshots."""
    done = list(snapshots)
    totals: dict[str, Any] = {
        name: sum(snapshot[name] for snapshot in done)
        for name in ("files", "size_bytes", "read_bytes", "stored_bytes", "warnings_count")
    }
    return {
        "snapshots": [snapshot["snapshot"] for snapshot in done],
        "complete": all(snapshot["complete"] for snapshot in done),
        **totals,
    }


def _chosen(
    policy: Policy, run_type: str, fired_at: datetime | None, names: Sequence[str]
) -> tuple[FileTreeSource, ...]:
    """Return the sources that the form names; without any, of a scheduled run those that are due, else all."""
    sources = policy.sources_by_kind("filesystem")
    unknown = sorted(set(names) - {source.name for source in sources})
    if unknown:
        raise AirflowFailException(
            f"sources {', '.join(unknown)}: the policy has {', '.join(source.name for source in sources) or 'none'}"
        )
    if names:
        chosen = tuple(source for source in sources if source.name in names)
    elif run_type == "scheduled" and fired_at is not None:
        local = fired_at.astimezone(policy.tzinfo)
        chosen = tuple(source for source in sources if croniter.match(policy.schedule_of(source), local))
    else:
        chosen = sources
    if not chosen:
        raise AirflowSkipException("the policy names no source of kind filesystem that is due")
    return chosen


def run_deadline(policy: Policy, run_type: str, now: datetime, *, ignore_window: bool) -> datetime:
    """Return when the work of a run must stop: at the end of the run's time or of the backup window.

    Raises:
        AirflowSkipException: A scheduled run outside the backup window.
        AirflowFailException: A run by hand outside the window without leave.
    """
    local = now.astimezone(policy.tzinfo)
    deadline = local + timedelta(seconds=policy.performance.max_duration_s * (1 - _RESERVE))
    if ignore_window and run_type != "scheduled":
        return deadline
    window = f"{policy.window} {policy.timezone}"
    if not policy.window.contains(local):
        if run_type == BY_HAND:
            raise AirflowFailException(
                f"it is {local:%H:%M}, outside the backup window {window}\n"
                "HINT: trigger it again with 'Run outside the backup window' switched on."
            )
        raise AirflowSkipException(f"it is {local:%H:%M}, outside the backup window {window}: the next run does it")
    return min(deadline, policy.window.end_after(local))


def destination(policy: Policy, source: FileTreeSource | DatabaseServer) -> str | None:
    """Return the location to name: None for the policy's first, which a connection may replace."""
    first = policy.locations_of(source)[0]
    return None if first == policy.locations[0] else first.name
