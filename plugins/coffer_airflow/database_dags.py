"""What the database DAGs have in common: the form, and how the tasks are wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import Param, TriggerRule, task

from coffer.config.policy import Policy
from coffer.units import human_duration
from coffer_airflow.dag_defaults import POOL, WAL_POOL
from coffer_airflow.database_planning import OF_POLICY, plan_drills, plan_dumps, summarise_backups
from coffer_airflow.operators import (
    DatabaseBackupOperator,
    DatabaseDrillOperator,
    DatabaseDumpOperator,
    VerifyOperator,
    WalDrainOperator,
)
from coffer_airflow.planning import plan_checks

Planner = Callable[..., list[dict[str, Any]]]
_AFTER_ANY = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS  # a cluster that fails does not keep the others from what follows
_NAMES = "{{ task.databases | join(', ') or task.source }}"


def databases_param(policy: Policy) -> Param:
    """Return the field that asks which databases."""
    names = list(policy.databases)
    return Param(
        [],
        type=["null", "array"],
        items={"type": "string", "enum": names} if names else {"type": "string"},
        examples=names,
        title="Databases",
        description_md="Which databases of the policy. None chosen: all of them. Those that are on the server of a"
        " chosen one are saved with it: a physical backup holds a whole server.",
    )


def method_param() -> Param:
    """Return the field that asks how an incremental backup finds what changed."""
    return Param(
        OF_POLICY,
        type="string",
        enum=[OF_POLICY, "delta", "native", "wal"],
        values_display={
            OF_POLICY: "as the policy says",
            "delta": "delta: read all pages, store those that changed",
            "native": "native: the server sends changed blocks (PostgreSQL 17+)",
            "wal": "wal: save WAL alone, no new snapshot",
        },
        title="Method",
        description_md="How changes are found. *native* gives way to *delta* where the server cannot be relied on, and"
        " the log says so.",
    )


def backup_params(policy: Policy) -> dict[str, Param]:
    """Return the fields that every form of a database backup has, after its own first ones."""
    window, longest = f"{policy.window} {policy.timezone}", human_duration(policy.performance.max_duration_s)
    return {
        "ignore_window": Param(
            default=False,
            type="boolean",
            title="Run outside the backup window",
            description_md=f"The backup window is **{window}**. Off: a run outside of it is refused, and one within"
            f" stops at its end. On: this run may start now, and take up to {longest}.",
        ),
        "proof_budget": Param(
            "",
            type=["null", "string"],
            title="Time for the proof",
            description_md="How long the server may be asked for digests of its tables, such as *10m*; *0s* takes none."
            " Empty: as the policy says.",
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
        "drill": Param(
            default=True,
            type="boolean",
            title="Prove it by a restore",
            description_md="Restore each backup on the worker, start a PostgreSQL server on it, and compare its tables"
            " with what they were. Needs the server's programs and as much free space as the databases have.",
        ),
    }


def wire_backups(plan: Planner, *, with_dumps: bool = False) -> None:
    """Wire the tasks of a DAG that backs up databases.

    Args:
        plan: What the first task runs: it returns the arguments of `DatabaseBackupOperator`.
        with_dumps: Whether the dumps that the policy asks for are taken after it.
    """
    planned = _task("plan", plan)()
    backups = DatabaseBackupOperator.partial(
        task_id="execute_backup", pool=POOL, map_index_template=_NAMES
    ).expand_kwargs(planned)
    checks = _task("plan_checks", plan_checks, _AFTER_ANY)(planned)
    check = VerifyOperator.partial(
        task_id="check", pool=POOL, depth="{{ params.check }}", map_index_template="{{ task.location or 'first' }}"
    ).expand_kwargs(checks)
    drills = _task("plan_drills", plan_drills, _AFTER_ANY)(planned, backups.output)
    DatabaseDrillOperator.partial(task_id="verify_backup", pool=POOL, map_index_template=_NAMES).expand_kwargs(drills)
    if with_dumps:
        dumps = _task("plan_dumps", plan_dumps, _AFTER_ANY)(planned)
        backups >> dumps
        DatabaseDumpOperator.partial(task_id="dump", pool=POOL, map_index_template=_NAMES).expand_kwargs(dumps)
    report = _task("report", summarise_backups)(backups.output)
    backups >> checks
    check >> report


def wire_wal(plan: Planner) -> None:
    """Wire the tasks of the DAG that saves WAL; as `wire_backups`, with the arguments of `WalDrainOperator`."""
    planned = _task("plan", plan)()
    WalDrainOperator.partial(task_id="save_wal", pool=WAL_POOL, map_index_template=_NAMES).expand_kwargs(planned)


def _task(task_id: str, call: Callable[..., Any], trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS) -> Any:
    """Return a task that calls a function; what is handed to it are the results of other tasks, and not their type."""
    return task(task_id=task_id, trigger_rule=trigger_rule)(call)
