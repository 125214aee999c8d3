"""`coffer pg drill`: a restore that is thrown away, and what it proved."""

from __future__ import annotations

from typing import Any

import click

from coffer.cli.clusters import source_of_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.faults import EXIT_FAILED, EXIT_OK, Fault
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.quantities import DURATION
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape
from coffer.clock import SYSTEM_CLOCK
from coffer.progress import Progress
from coffer.recovery.cluster_drill import drill_cluster
from coffer.recovery.drill_report import DrillFinding, DrillOptions, DrillReport
from coffer.units import human_duration, human_size

_VERDICTS = {
    "proved": "the restored cluster has the content of the original",
    "sound": "the restored cluster is whole, but there was nothing to compare its content with",
    "damaged": "the restored cluster is not what the original was",
}


@command(
    "drill",
    parent="pg",
    moves_data=True,
    options=(
        option("--source", metavar="NAME", required=True, help="The cluster, or one of its databases of the policy."),
        option("--snapshot", metavar="ID", help="This one; else the newest."),
        option(
            "--scratch",
            metavar="DIR",
            help="A folder with room for the whole cluster.  [the system's for temporary files]",
        ),
        flag("--no-structure", help="Leave out the check of tables and indexes (amcheck)."),
        flag("--heapallindexed", help="Look every row up in every index too: three times as long."),
        option("--structure-budget", metavar="DURATION", type=DURATION, help="For that check, 30m, 4h ..."),
        flag("--no-pages", help="Leave out the checksums of pages."),
        option("--workers", metavar="N", type=click.IntRange(min=0), default=0, help="Threads; 0 is one per core."),
    ),
)
def drill(run: Run, source: str, **given: Any) -> Outcome:
    """Restore a cluster into a scratch server and prove its content.

    Files are compared with the server's own manifest. A real server of the same version recovers to the moment of the
    digests that were taken with the backup, and every table that has one is compared. Then amcheck reads tables and
    indexes. The server listens on a unix socket only, archives nothing and connects to nothing; it and its files are
    removed at the end, also if this command is killed.

    Ends with 1 if anything is wrong.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    repo = run.repository()
    options = DrillOptions(
        scratch=user_path(given["scratch"]) if given["scratch"] else None,
        workers=given["workers"],
        read_pages=not given["no_pages"],
        structure=not given["no_structure"],
        heapallindexed=given["heapallindexed"],
        budget_s=given["structure_budget"],
    )
    progress = Progress(phase="planning")
    run.stops_softly = True
    with Display(run, progress):
        report = drill_cluster(
            repo,
            source_of_cluster(run, source, repo),
            snapshot=given["snapshot"],
            options=options,
            progress=progress,
            stop=run.stop,
        )
    return _outcome(report, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = drill


def _outcome(report: DrillReport, duration_s: float) -> Outcome:
    counts = report.counts
    steps = ", ".join(f"{step.name} {human_duration(step.duration_s)}" for step in report.steps)
    compared = f"{count_of(counts['tables_compared'], 'table')} whole, {counts['tables_sampled']:,} in part"
    structure = (
        f"{counts.get('tables_checked', 0):,} tables, {count_of(counts.get('indexes_checked', 0), 'index', 'indexes')}"
    )
    pages = f"{counts.get('pages_checked', 0):,} pages"
    lines = [_line(finding) for finding in report.findings]
    lines += [
        f"{report.verdict}: {_VERDICTS[report.verdict]}",
        f"snapshot:  {report.snapshot} of {escape(report.source)}, recovered to {escape(report.target)}",
        f"files:     {counts['files_checked']:,} of {human_size(counts.get('size_bytes', 0))}, {pages}",
        f"content:   {compared} equal, {counts['tables_left_out']:,} were not proved by the backup",
        f"structure: {structure}",
        f"time:      {human_duration(duration_s)}: {steps}",
    ]
    fault = None
    if not report.ok:
        fault = Fault(
            "damage-found",
            f"snapshot {report.snapshot}: {count_of(counts['errors'], 'error')} found in the restored cluster",
            "Keep older snapshots, take a full backup now and drill it. 'coffer verify' tells if the store is whole.",
        )
    return Outcome(
        result=report.to_json() | {"duration_s": round(duration_s, 3)},
        lines=lines,
        exit_code=EXIT_OK if report.ok else EXIT_FAILED,
        fault=fault,
    )


def _line(finding: DrillFinding) -> str:
    return f"{finding.severity.value}: {escape(finding.message)}"
