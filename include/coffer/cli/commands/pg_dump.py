"""`coffer pg dump`: databases by their content, table by table."""

from __future__ import annotations

from typing import Any

import click

from coffer.cli.backing_up import tuned_by_policy, warn_of
from coffer.cli.clusters import cluster_options, find_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.listing import snapshot_fields
from coffer.cli.outcome import Outcome
from coffer.cli.quantities import DURATION
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape
from coffer.clock import SYSTEM_CLOCK
from coffer.progress import Progress
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.logical import dump_database
from coffer.sources.postgres.logical_spec import LogicalOptions, LogicalSource
from coffer.units import human_duration, human_rate, human_size

_JOBS = 2
CHAIN_SUFFIX = "-logical"  # physical backups of the same server have the name without it


@command(
    "dump",
    parent="pg",
    moves_data=True,
    options=(
        *cluster_options(),
        option(
            "--database",
            "-d",
            metavar="NAME",
            many=True,
            help="A database; again for more.  [else the policy's; else --dbname]",
        ),
        option(
            "--table", "-t", metavar="PATTERN", many=True, help="Only such tables: name, schema.name, with * and ?."
        ),
        option("--exclude-table", metavar="PATTERN", many=True, help="Leave such tables out."),
        option("--exclude-table-data", metavar="PATTERN", many=True, help="Keep only the definition of such tables."),
        flag("--no-roles", help="Leave out the roles and tablespaces of the server."),
        option(
            "--jobs",
            "-j",
            metavar="N",
            type=click.IntRange(1, 64),
            help="Tables at a time.  [else the policy's; else 2]",
        ),
        option("--tag", metavar="WORD", many=True, help="Keep a word with the snapshot."),
        option("--max-duration", metavar="DURATION", type=DURATION, help="End without a snapshot after 30m, 4h ..."),
    ),
)
def dump(run: Run, **given: Any) -> Outcome:
    """Back up databases logically, table by table.

    Every table of a database is read as of one moment, with its schema, large objects, and the roles of the server. The
    snapshot can be loaded into a server of the same version or a newer one, whole or table by table ('coffer pg load').
    Its source is the database's name with -logical. The programs pg_dump, pg_dumpall, pg_restore and psql are needed,
    of the server's version or newer; COFFER_PG_BIN names their folder.

    Ends with 3 if pg_dump warned of something; the snapshot is kept.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    cluster = find_cluster(run, given)
    known = cluster.of_policy
    source = LogicalSource(
        name=cluster.source + CHAIN_SUFFIX,
        connection=cluster.connection,
        databases=given["database"] or (known.dumped or known.dbnames if known is not None else ()),
        tables=given["table"],
        exclude=given["exclude_table"],
        exclude_data=given["exclude_table_data"],
        roles=not given["no_roles"],
        jobs=given["jobs"] or (known.dump_jobs if known is not None else _JOBS),
        tags=(*cluster.tags, *given["tag"]),
    )
    repo = run.repository()
    options = _options(run, given["max_duration"], started_s)
    progress = Progress(phase="opening")
    run.stops_softly = True
    with Display(run, progress):
        result = dump_database(repo, source, options=options, progress=progress, stop=run.stop)
    return _outcome(run, result, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = dump


def _options(run: Run, seconds: float | None, started_s: float) -> LogicalOptions:
    if run.policy is not None:
        seconds = seconds or run.policy.performance.max_duration_s
    return LogicalOptions(deadline_s=None if seconds is None else started_s + seconds, **tuned_by_policy(run))


def _outcome(run: Run, result: BackupResult, duration_s: float) -> Outcome:
    warn_of(run, result)
    snapshot, stats = result.snapshot, result.stats
    speed = stats["read_bytes"] / duration_s if duration_s > 0 else 0.0
    facts = {
        "snapshot": snapshot_fields(snapshot),
        "duration_s": round(duration_s, 3),
        "speed_bytes_per_s": round(speed),
    }
    incomplete = "" if snapshot.complete else f", incomplete: {count_of(snapshot.warnings_count, 'warning')}"
    names = ", ".join(snapshot.paths)
    files = (
        f"files:  {stats['files']:,} ({stats['files_new']:,} new, {stats['files_changed']:,} changed,"
        f" {stats['files_unchanged']:,} unchanged)"
    )
    lines = [
        f"snapshot {snapshot.id} of {escape(snapshot.source)}: {escape(names)}{incomplete}",
        files,
        f"size:   {human_size(stats['size_bytes'])}",
        f"stored: {human_size(stats['stored_bytes'])}, for {human_size(stats['raw_bytes_new'])} new",
        f"moment: {snapshot.facts['lsn']}, by pg_dump {escape(str(snapshot.facts['dump_version']))}",
        f"time:   {human_duration(duration_s)}, {human_rate(speed)}",
    ]
    return Outcome(result=facts, lines=lines, exit_code=result.exit_code)
