"""`coffer pg backup`: one snapshot of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from coffer.cli.backing_up import tuned_by_policy, warn_of
from coffer.cli.clusters import cluster_options, find_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.listing import snapshot_fields
from coffer.cli.outcome import Outcome
from coffer.cli.quantities import DURATION, RATE
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape
from coffer.clock import SYSTEM_CLOCK
from coffer.postgres.facts import Method
from coffer.progress import Progress
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.units import human_duration, human_rate, human_size

if TYPE_CHECKING:
    from coffer.config.databases import DatabaseCluster

_METHODS = [method.value for method in Method]


@command(
    "backup",
    parent="pg",
    moves_data=True,
    options=(
        *cluster_options(),
        option(
            "--method",
            type=click.Choice(_METHODS),
            help="How pages that changed are found; every snapshot is complete.  [else the policy's; else delta]",
        ),
        flag("--spread-checkpoint", help="Wait for a gentle checkpoint instead of asking for one at once."),
        option("--max-rate", metavar="RATE", type=RATE, help="The server sends no faster than 50MB/s ..."),
        option("--max-duration", metavar="DURATION", type=DURATION, help="End without a snapshot after 30m, 4h ..."),
        option(
            "--prove",
            metavar="DURATION",
            type=DURATION,
            help="Prove tables' content with it, for 10m at most ... 0s proves nothing.  [else the policy's; else 0s]",
        ),
        option("--prove-first", metavar="TABLE", many=True, help="Prove this table first: database.schema.table."),
        option("--tag", metavar="WORD", many=True, help="Keep a word with the snapshot."),
    ),
)
def back_up(run: Run, **given: Any) -> Outcome:
    """Back up a cluster as one complete snapshot.

    full: everything is stored, what is known already once. delta: everything is read, only changed pages are stored.
    native: the server sends changed pages only (PostgreSQL 17 and newer); what it sends is audited, and where it falls
    short, delta is done instead. The WAL that the snapshot needs is saved with it.

    Ends with 3 if the server found damaged pages: the snapshot is kept, and names them.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    cluster = find_cluster(run, given)
    source = ClusterSource(cluster.source, cluster.connection, cluster.slot, (*cluster.tags, *given["tag"]))
    repo = run.repository()
    options = _options(run, given, cluster.of_policy, started_s)
    progress = Progress(phase="opening")
    run.stops_softly = True
    with Display(run, progress):
        result = backup_cluster(repo, source, options=options, progress=progress, stop=run.stop)
    return _outcome(run, result, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = back_up


def _options(run: Run, given: dict[str, Any], known: DatabaseCluster | None, started_s: float) -> ClusterOptions:
    """Return what the options say, and for the rest what the policy says of the cluster."""
    seconds = given["max_duration"]
    method, budget_s = Method.DELTA, 0.0
    tables: tuple[str, ...] = ()
    rate: int | None = None
    is_fast = not given["spread_checkpoint"]
    if known is not None:
        server = known.server
        method = Method.NATIVE if server.method == Method.NATIVE.value else Method.DELTA
        budget_s, tables, rate = server.proof.budget, server.proof.tables, server.max_rate
        is_fast = is_fast and server.fast_checkpoint
    if run.policy is not None:
        seconds = seconds or run.policy.performance.max_duration_s
    return ClusterOptions(
        method=method if given["method"] is None else Method(given["method"]),
        fast_checkpoint=is_fast,
        max_rate_bytes_s=given["max_rate"] or rate,
        deadline_s=None if seconds is None else started_s + seconds,
        proof_budget_s=budget_s if given["prove"] is None else given["prove"],
        proof_tables=(*given["prove_first"], *tables),
        **tuned_by_policy(run),
    )


def _outcome(run: Run, result: BackupResult, duration_s: float) -> Outcome:
    warn_of(run, result)
    snapshot, stats = result.snapshot, result.stats
    speed = stats["read_bytes"] / duration_s if duration_s > 0 else 0.0
    facts = {
        "snapshot": snapshot_fields(snapshot),
        "duration_s": round(duration_s, 3),
        "speed_bytes_per_s": round(speed),
    }
    incomplete = "" if snapshot.complete else f", incomplete: {count_of(snapshot.warnings_count, 'damaged page')}"
    lines = [
        f"snapshot {snapshot.id} of {escape(snapshot.source)}, {snapshot.facts['method']}{incomplete}",
        f"size:   {human_size(stats['size_bytes'])}, {human_size(stats['read_bytes'])} read from the server",
        f"pages:  {stats['pages_read']:,} looked at, {stats['pages_changed']:,} stored",
        f"stored: {human_size(stats['stored_bytes'])}, for {human_size(stats['raw_bytes_new'])} new",
        f"WAL:    {snapshot.facts['start_lsn']} to {snapshot.facts['end_lsn']}",
        f"time:   {human_duration(duration_s)}, {human_rate(speed)}",
    ]
    return Outcome(result=facts, lines=lines, exit_code=result.exit_code)
