"""What a run of a database DAG is to do: decided when it runs, from the policy, the servers, the clock and the form.

Several names of the policy can be one server, and then one backup saves them all. The policy shows some of that; only
the servers know all of it, so each is asked which one it is when a run is planned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from coffer.clock import SYSTEM_CLOCK, utc_from_ns
from coffer.config.databases import DatabaseCluster, join_clusters
from coffer.config.policy import Policy
from coffer.errors import CofferError
from coffer.units import parse_duration
from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.failures import told_to_airflow
from coffer_airflow.hooks.cluster import ClusterHook, ServerInstance
from coffer_airflow.planning import destination, refuse_unknown_keys, run_deadline

log = logging.getLogger(__name__)

Kind = Literal["full", "incremental"]
OF_POLICY = "policy"  # the choice of a form that leaves something to the policy
# What the trigger forms of the DAGs ask.
FULL_FORM = ("databases", "ignore_window", "proof_budget", "check", "drill")
INCREMENTAL_FORM = ("databases", "method", *FULL_FORM[1:])
WAL_FORM = ("databases",)
_TOTALS = ("size_bytes", "read_bytes", "stored_bytes", "warnings_count")

Identify = Callable[[DatabaseCluster], ServerInstance | None]


def plan_backups(
    policy: Policy,
    *,
    kind: Kind,
    run_type: str,
    now: datetime,
    params: Mapping[str, Any],
    identify: Identify,
) -> list[dict[str, Any]]:
    """Return the arguments of `DatabaseBackupOperator`, one set for each cluster that is to be backed up now.

    Args:
        policy: The policy.
        kind: Of the backup.
        run_type: Airflow's: ``scheduled``, ``manual``, ``operator_triggered``.
        now: The time, aware.
        params: The trigger form: ``databases``, ``ignore_window``, ``method``, ``proof_budget``.
        identify: Asks a server which one it is; None where it does not answer.

    Raises:
        AirflowSkipException: The policy names no database, or a scheduled run is outside the backup window.
        AirflowFailException: A run by hand outside the window without leave, or the form names what there is not.
    """
    if kind not in policy.backup_types and run_type == "scheduled":
        raise AirflowSkipException(f"backup_types of the policy has no {kind}")
    names = _names(policy, params)
    deadline = run_deadline(policy, run_type, now, ignore_window=bool(params.get("ignore_window")))
    budget_s = _budget_s(params)
    chosen = clusters_at_hand(policy, names, identify)
    workers_each = max(1, policy.performance.max_workers // len(chosen))
    return [
        {
            "source": cluster.source,
            "databases": list(cluster.names),
            "kind": kind,
            "method": _method(kind, cluster, params),
            "location": destination(policy, cluster.server),
            "deadline": deadline.isoformat(),
            "workers": workers_each,
            "proof_budget_s": cluster.server.proof.budget if budget_s is None else budget_s,
        }
        for cluster in chosen
    ]


def plan_drains(policy: Policy, *, params: Mapping[str, Any], identify: Identify) -> list[dict[str, Any]]:
    """Return the arguments of `WalDrainOperator`, one set for each cluster; the backup window does not count for WAL.

    Raises:
        AirflowSkipException: The policy names no database.
        AirflowFailException: The form names a database that there is not.
    """
    chosen = clusters_at_hand(policy, _names(policy, params), identify)
    return [
        {
            "source": cluster.source,
            "databases": list(cluster.names),
            "location": destination(policy, cluster.server),
        }
        for cluster in chosen
    ]


def clusters_at_hand(policy: Policy, names: Sequence[str], identify: Identify) -> list[DatabaseCluster]:
    """Return the clusters that hold these databases, those that are one server as one.

    All clusters of the policy are asked, also those that are not chosen: a database that is chosen may be on the server
    of one that is not, whose name its snapshots bear. A server that does not answer is a cluster by itself; its own
    task says why.
    """
    alike: dict[ServerInstance | str, list[DatabaseCluster]] = {}
    clusters = policy.clusters
    for cluster in clusters:
        instance = identify(cluster) if len(clusters) > 1 else None
        alike.setdefault(cluster.source if instance is None else instance, []).append(cluster)
    joined = [join_clusters(same) for same in alike.values()]
    for cluster, same in zip(joined, alike.values(), strict=True):
        if len(same) > 1:
            log.info("%s are one server: one backup holds them, as %r", cluster.label, cluster.source)
    return [cluster for cluster in joined if set(cluster.names) & set(names)]


def identified(cluster: DatabaseCluster) -> ServerInstance | None:
    """Ask a server which one it is; None, and a line in the log, where it does not answer."""
    try:
        return ClusterHook(cluster).instance()
    except CofferError as error:
        log.warning("%s: %s", cluster.label, error)
        return None


# ------------------------------------------------------------------------------------------------ what the DAGs call


def plan_full(*, params: Mapping[str, Any], dag_run: Any) -> list[dict[str, Any]]:
    """Plan a run of full backups, by the policy as it is now; the arguments are named as in Airflow's context.

    Raises:
        AirflowFailException: The run's conf has a key that the form does not know, or as `plan_backups`.
        AirflowSkipException: As `plan_backups`.
    """
    return _plan("full", FULL_FORM, params, dag_run)


def plan_incremental(*, params: Mapping[str, Any], dag_run: Any) -> list[dict[str, Any]]:
    """Plan a run of incremental backups; errors as `plan_full`."""
    return _plan("incremental", INCREMENTAL_FORM, params, dag_run)


def plan_wal(*, params: Mapping[str, Any], dag_run: Any) -> list[dict[str, Any]]:
    """Plan a run that saves WAL.

    Raises:
        AirflowFailException: The run's conf has a key that the form does not know, or as `plan_drains`.
        AirflowSkipException: As `plan_drains`.
    """
    refuse_unknown_keys(getattr(dag_run, "conf", None) or {}, WAL_FORM)
    with told_to_airflow(log):
        return plan_drains(policy_of_dags(), params=params, identify=identified)


def plan_dumps(planned: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the arguments of `DatabaseDumpOperator`: the clusters of a plan of which the policy asks for dumps.

    Raises:
        AirflowSkipException: It asks for none.
    """
    policy = policy_of_dags()
    asked = [
        {name: backup[name] for name in ("source", "databases", "location", "workers")}
        for backup in planned
        if any(policy.cluster(name).dumped for name in backup["databases"])
    ]
    if not asked:
        raise AirflowSkipException("the policy asks for no dumps")
    return asked


def plan_drills(
    planned: Iterable[Mapping[str, Any]], backups: Iterable[Mapping[str, Any]], *, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the arguments of `DatabaseDrillOperator`: what was planned and became a backup, in the plan's order.

    Raises:
        AirflowSkipException: The form asks for none.
    """
    if not params.get("drill"):
        raise AirflowSkipException("no proof by a restore was asked for")
    snapshots = {backup["source"]: backup["snapshot"] for backup in backups}
    return [
        {
            "source": backup["source"],
            "databases": backup["databases"],
            "location": backup["location"],
            "snapshot": snapshots[backup["source"]],
        }
        for backup in planned
        if backup["source"] in snapshots
    ]


def summarise_backups(backups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of a run's backups."""
    done = list(backups)
    totals: dict[str, Any] = {name: sum(backup[name] for backup in done) for name in _TOTALS}
    return {
        "snapshots": [backup["snapshot"] for backup in done if backup["snapshot"]],
        "methods": {backup["source"]: backup["method"] for backup in done},
        "complete": all(backup["complete"] for backup in done),
        **totals,
    }


def _plan(kind: Kind, form: Sequence[str], params: Mapping[str, Any], dag_run: Any) -> list[dict[str, Any]]:
    refuse_unknown_keys(getattr(dag_run, "conf", None) or {}, form)
    with told_to_airflow(log):
        return plan_backups(
            policy_of_dags(),
            kind=kind,
            run_type=getattr(dag_run.run_type, "value", dag_run.run_type),
            now=utc_from_ns(SYSTEM_CLOCK.now_ns()),
            params=params,
            identify=identified,
        )


def _names(policy: Policy, params: Mapping[str, Any]) -> Sequence[str]:
    """Return the databases that the form names; without any, all."""
    names = params.get("databases") or ()
    unknown = sorted(set(names) - set(policy.databases))
    if unknown:
        raise AirflowFailException(
            f"databases {', '.join(unknown)}: the policy has {', '.join(policy.databases) or 'none'}"
        )
    if not policy.databases:
        raise AirflowSkipException("the policy names no database")
    return names or policy.databases


def _method(kind: Kind, cluster: DatabaseCluster, params: Mapping[str, Any]) -> str:
    if kind == "full":
        return "full"
    asked = params.get("method") or OF_POLICY
    return cluster.server.method if asked == OF_POLICY else str(asked)


def _budget_s(params: Mapping[str, Any]) -> int | None:
    """Return how long the proof may take, as the form says [s]; None leaves it to the policy."""
    text = str(params.get("proof_budget") or "").strip()
    if not text:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise AirflowFailException(f"proof_budget {text!r}: {error}\nHINT: such as 10m, or 0s for none.") from None
