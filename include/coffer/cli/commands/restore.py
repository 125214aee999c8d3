"""`coffer restore`: files of a snapshot, back on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from coffer.cli.command import argument, command, flag, option
from coffer.cli.display import Display
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.listing import chosen_snapshot, snapshot_fields
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import count_of, path_fields, path_text, pattern_bytes
from coffer.clock import SYSTEM_CLOCK
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore import (
    Overwrite,
    PlannedEntry,
    RestoreOptions,
    RestoreResult,
    plan_restore,
    restore,
    taken_back_unused,
)
from coffer.units import human_duration, human_rate, human_size

_OVERWRITE = tuple(choice.value for choice in Overwrite)


@command(
    "restore",
    moves_data=True,
    options=(
        argument("snapshot", metavar="SNAPSHOT"),
        option("--target", "-t", metavar="DIR", required=True, help="Folder to restore into; / restores in place."),
        option("--path", metavar="PATH", many=True, help="Only this file or folder of the snapshot."),
        option("--include", metavar="PATTERN", many=True, help="Only files that match, as in .gitignore."),
        option("--exclude", "-e", metavar="PATTERN", many=True, help="Leave out what matches, as in .gitignore."),
        option(
            "--overwrite",
            type=click.Choice(_OVERWRITE),
            help="Restore into a folder that is not empty; of files that are there replace none, those that differ,"
            " or all.",
        ),
        flag("--dry-run", "-n", help="Show what would be done, and write nothing."),
        flag("--durable", help="End only when everything is on the target's disks; --verify implies it."),
        flag("--verify", help="Read every restored file again and compare it with the snapshot."),
        option("--workers", metavar="N", type=click.IntRange(min=0), default=0, help="Threads; 0 is one per core."),
    ),
)
def restore_files(run: Run, snapshot: str, target: str, workers: int, **given: Any) -> Outcome:
    """Restore files from a snapshot.

    The file /srv/a of the snapshot becomes DIR/srv/a. DIR must be new or empty unless --overwrite is given. Nothing is
    written outside of DIR.

    Ends with 3 if something could not be restored as it was; all the rest is. With 2, and no folder made, if --include
    fits nothing in the snapshot.
    """
    options = RestoreOptions(
        paths=tuple(pattern_bytes(path) for path in given["path"]),
        include=given["include"],
        exclude=given["exclude"],
        overwrite=Overwrite(given["overwrite"]) if given["overwrite"] else None,
        dry_run=given["dry_run"],
        verify=given["verify"],
        durable=given["durable"],
        workers=workers,
    )
    started_s = SYSTEM_CLOCK.monotonic_s()
    repo = run.repository()
    found = chosen_snapshot(run, repo, snapshot)
    folder = user_path(target)
    if options.dry_run:
        return _plan(run, repo, found, folder, options)
    progress = Progress(phase="restoring")
    run.stops_softly = True
    with Display(run, progress), taken_back_unused(folder):
        result = restore(repo, found, folder, options=options, progress=progress, stop=run.stop)
    return _outcome(run, result, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = restore_files


def _plan(run: Run, repo: Repository, snapshot: Snapshot, target: Path, options: RestoreOptions) -> Outcome:
    """Return the plan, as rows that are written while it is made; 3 where something would be refused."""
    counts: Counter[str] = Counter()
    size_bytes = 0

    def entries() -> Iterator[PlannedEntry]:
        nonlocal size_bytes
        for planned in plan_restore(repo, snapshot, target, options):
            why = planned.refusal
            counts[planned.action] += 1 if why is None else why.entries_count
            if why is not None:
                run.warn(why.code, why.message, why.path)
            if planned.action in ("create", "overwrite"):
                size_bytes += planned.size_bytes
            outcome.exit_code = EXIT_INCOMPLETE if planned.action == "refuse" else outcome.exit_code
            yield planned

    def totals() -> tuple[dict[str, Any], list[str]]:
        facts = {"counts": dict(counts), "size_bytes": size_bytes}
        done = ", ".join(f"{number:,} to {action}" for action, number in sorted(counts.items())) or "nothing to do"
        return facts, [f"{done}; {human_size(size_bytes)} to write; nothing was written"]

    outcome = Outcome(
        result={"snapshot": snapshot_fields(snapshot), "target": path_text(str(target)), "dry_run": True},
        rows=Rows("plan", entries(), _plan_fields, _plan_line),
        totals=totals,
        exit_code=EXIT_INCOMPLETE if run.warnings_count else EXIT_OK,
    )
    return outcome


def _plan_fields(planned: PlannedEntry) -> dict[str, Any]:
    return {
        **path_fields(planned.path),
        "kind": planned.kind.value,
        "action": planned.action,
        "size_bytes": planned.size_bytes,
    }


def _plan_line(planned: PlannedEntry) -> str:
    return f"{planned.action:<9} {planned.size_bytes:>15,} /{path_text(planned.path)}"


def _outcome(run: Run, result: RestoreResult, duration_s: float) -> Outcome:
    exit_code = result.exit_code or (EXIT_INCOMPLETE if run.warnings_count else EXIT_OK)
    for found in (*result.failures, *result.warnings):
        run.warn(found.code, found.message, found.path)
    # A failure that stands for many entries is one warning.
    told_at_once = sum(failure.entries_count - 1 for failure in result.failures)
    run.count_warnings(result.failures_count - told_at_once + result.warnings_count)
    stats = result.stats
    facts = {
        "snapshot": snapshot_fields(result.snapshot),
        "target": path_text(str(result.target)),
        "dry_run": False,
        "stats": stats,
        "failures_count": result.failures_count,
        "failures": [{**path_fields(f.path), "code": f.code, "message": path_text(f.message)} for f in result.failures],
        "duration_s": round(duration_s, 3),
    }
    written_bytes = stats.get("written_bytes", 0)
    but = f", but for {count_of(result.failures_count, 'entry', 'entries')}" if result.failures_count else ""
    folders, kept = count_of(stats.get("directories", 0), "folder"), f"{stats.get('kept', 0):,} left as they were"
    read = f"{human_size(stats.get('read_bytes', 0))} read from the store"
    lines = [
        f"snapshot {result.snapshot.id} was restored to {path_text(str(result.target))}{but}",
        f"files:  {stats.get('files', 0):,}, {folders}, {kept}",
        f"size:   {human_size(stats.get('size_bytes', 0))}, {human_size(written_bytes)} written, {read}",
        f"time:   {human_duration(duration_s)}, {human_rate(written_bytes / duration_s if duration_s else 0)}",
    ]
    if stats.get("verified_files"):
        lines.append(f"verified: {count_of(stats['verified_files'], 'file')} read again and compared")
    return Outcome(result=facts, lines=lines, exit_code=exit_code)
