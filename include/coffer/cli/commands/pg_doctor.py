"""`coffer pg doctor`: whether a server is fit to be backed up, check by check."""

from __future__ import annotations

from typing import Any

import click

from coffer.cli.clusters import NamedCluster, cluster_options, find_clusters
from coffer.cli.command import command, option
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK, Fault
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape
from coffer.sources.postgres.diagnosis import Asked, Diagnosis, Verdict
from coffer.sources.postgres.doctor import Examination, examine

_METHODS = ("delta", "native", "wal")


@command(
    "doctor",
    parent="pg",
    opens=False,
    options=(
        *cluster_options(),
        option(
            "--method",
            metavar="METHOD",
            type=click.Choice(_METHODS),
            help="Of incremental backups: delta, native or wal.  [else the policy's]",
        ),
    ),
)
def see_doctor(run: Run, **given: Any) -> Outcome:
    """Check a server's settings for backups, one by one.

    Looks at the connection, the role, the settings, the slot, and at what a backup would leave out; each check ends
    with ok, warn or fail, and says what to do. Nothing is changed. Without --source and --host, all databases of the
    policy are looked at.

    Ends with 1 if a check failed, so that no backup can be made as asked, and with 3 if there are warnings.
    """
    clusters = find_clusters(run, given)
    seen = [(cluster, examine(cluster.connection, _asked(cluster, given))) for cluster in clusters]
    diagnoses = [diagnosis for _, examination in seen for diagnosis in examination.diagnoses]
    failed, warned = (_count(diagnoses, verdict) for verdict in (Verdict.FAIL, Verdict.WARN))
    lines = [line for cluster, examination in seen for line in _lines(cluster, examination)]
    lines.append(f"{count_of(len(diagnoses), 'check')}: {failed} failed, {count_of(warned, 'warning')}")
    result = {"clusters": [_fields(cluster, examination) for cluster, examination in seen]}
    fault = None
    if failed:
        first = next(diagnosis for diagnosis in diagnoses if diagnosis.verdict is Verdict.FAIL)
        fault = Fault("not-fit", f"{count_of(failed, 'check')} failed, the first of them {first.check}", first.hint)
    return Outcome(
        result=result, lines=lines, exit_code=EXIT_INCOMPLETE if warned and not failed else EXIT_OK, fault=fault
    )


COMMAND = see_doctor


def _asked(cluster: NamedCluster, given: dict[str, Any]) -> Asked:
    policy = cluster.of_policy
    method = given["method"] or (policy.server.method if policy is not None else _METHODS[0])
    proves = policy is None or policy.server.proof.budget > 0
    return Asked(cluster.slot, method, cluster.dbnames, proves)


def _count(diagnoses: list[Diagnosis], verdict: Verdict) -> int:
    return sum(diagnosis.verdict is verdict for diagnosis in diagnoses)


def _fields(cluster: NamedCluster, examination: Examination) -> dict[str, Any]:
    return {
        "source": escape(cluster.source),
        "server": escape(examination.label),
        "slot": cluster.slot,
        "verdict": examination.verdict.value,
        "checks": [
            {
                "check": diagnosis.check,
                "verdict": diagnosis.verdict.value,
                "found": escape(diagnosis.found),
                "hint": escape(diagnosis.hint) or None,
            }
            for diagnosis in examination.diagnoses
        ],
    }


def _lines(cluster: NamedCluster, examination: Examination) -> list[str]:
    """Return the lines of one server: its name, a line for each check, and below it what to do."""
    width = max(len(diagnosis.check) for diagnosis in examination.diagnoses)
    lines = [f"{escape(cluster.source)} at {escape(examination.label)}, slot {cluster.slot}"]
    for diagnosis in examination.diagnoses:
        lines.append(f"  {diagnosis.verdict.value:4}  {diagnosis.check:{width}}  {escape(diagnosis.found)}")
        if diagnosis.hint:
            lines.append(f"  {'':4}  {'':{width}}  HINT: {escape(diagnosis.hint)}")
    return [*lines, ""]
