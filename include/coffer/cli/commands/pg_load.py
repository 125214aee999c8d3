"""`coffer pg load`: a logical backup, back in a database, or as an SQL script or as files."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from coffer.cli.clusters import cluster_options, find_cluster
from coffer.cli.command import argument, command, flag, option
from coffer.cli.display import Display
from coffer.cli.listing import chosen_snapshot, snapshot_fields
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape, path_text
from coffer.clock import SYSTEM_CLOCK
from coffer.errors import RestoreSpaceError, RestoreTargetError, UsageError
from coffer.progress import Progress
from coffer.recovery.logical_restore import LoadOptions, LoadResult, load_database
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.units import human_duration, human_rate, human_size


@command(
    "load",
    parent="pg",
    moves_data=True,
    options=(
        argument("snapshot", metavar="SNAPSHOT"),
        *cluster_options(),
        option("--database", "-d", metavar="NAME", help="The database in the snapshot.  [else the only one]"),
        option("--into", metavar="NAME", help="The database to load into; made if missing.  [else of the same name]"),
        option("--table", "-t", metavar="PATTERN", many=True, help="Only such tables, into a database that exists."),
        flag("--data-only", help="Put rows into tables that are there and empty."),
        flag("--roles", help="Make the roles and tablespaces of the backup first."),
        flag("--no-owner", help="Everything belongs to the role that loads."),
        flag("--no-privileges", help="Grant nothing."),
        option("--jobs", "-j", metavar="N", type=click.IntRange(1, 64), default=2, help="Tables at a time.  [else 2]"),
        option(
            "--output", "-o", metavar="FILE", help="Write an SQL script instead; DIR/: the files; -: to the screen."
        ),
    ),
)
def load(run: Run, snapshot: str, **given: Any) -> Outcome:
    """Restore a logical backup into a database.

    The database is made, or must be empty, and the server may be of a newer version than the one that was backed up.
    With --table only some tables are made, with their indexes, constraints, triggers and rights, and filled; with
    --data-only they are only filled. With --output no server is needed. pg_restore is needed, of the target's version
    or newer; COFFER_PG_BIN names its folder.

    A failure ends the load and names the statement; what was loaded before it stays.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    options = LoadOptions(
        database=given["database"] or "",
        into=given["into"] or "",
        tables=given["table"],
        data_only=given["data_only"],
        roles=given["roles"],
        owner=not given["no_owner"],
        privileges=not given["no_privileges"],
        jobs=given["jobs"],
    )
    output = given["output"]
    _refuse_contradictions(run, given)
    cluster = None if output else find_cluster(run, given)
    repo = run.repository()
    found = chosen_snapshot(run, repo, snapshot)
    progress = Progress(phase="opening")
    run.stops_softly = True
    with Display(run, progress):
        if cluster is None:
            result = _write(repo, found, output, options, progress, run)
        else:
            result = load_database(repo, found, cluster.connection, options=options, progress=progress, stop=run.stop)
    return _outcome(run, result, output, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = load


def _refuse_contradictions(run: Run, given: dict[str, Any]) -> None:
    output = given["output"]
    if output == "-" and run.as_json:
        raise UsageError("--output - and --json: both write to standard output", hint="Give --output FILE.")
    if output and given["into"]:
        raise UsageError("--output and --into: both are given", hint="A script names no database: leave --into out.")


# ------------------------------------------------------------------------------------------------ to a file


def _write(
    repo: Repository, snapshot: Snapshot, output: str, options: LoadOptions, progress: Progress, run: Run
) -> LoadResult:
    from coffer.recovery.logical_script import write_files, write_script

    if output == "-":
        return write_script(repo, snapshot, sys.stdout.buffer.write, options=options, progress=progress, stop=run.stop)
    path = user_path(output)
    if output.endswith("/") or path.is_dir():
        result, restored = write_files(repo, snapshot, path, options=options, progress=progress, stop=run.stop)
        for failure in (*restored.failures, *restored.warnings):
            run.warn(failure.code, failure.message, failure.path)
        return result
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RestoreTargetError(
            f"output {str(path)!r}: cannot be made ({(error.strerror or str(error)).lower()})",
            hint="Give the name of a new file in a folder that you may write to.",
        ) from None
    try:
        with os.fdopen(fd, "wb") as file:
            result = write_script(repo, snapshot, file.write, options=options, progress=progress, stop=run.stop)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _forget(path)
        raise RestoreSpaceError(f"output {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    except BaseException:
        _forget(path)
        raise
    return result


def _forget(path: Path) -> None:
    """Remove a script that ends in the middle."""
    with suppress(OSError):
        path.unlink()


# ------------------------------------------------------------------------------------------------ what was done


def _outcome(run: Run, result: LoadResult, output: str | None, duration_s: float) -> Outcome:
    for note in result.notes:
        run.note(escape(note))
    speed = result.size_bytes / duration_s if duration_s > 0 else 0.0
    facts = {
        "snapshot": snapshot_fields(result.snapshot),
        "database": result.database,
        "into": result.into,
        "created": result.created,
        "tables": result.tables,
        "rows": result.rows,
        "size_bytes": result.size_bytes,
        "notes": list(result.notes),
        "duration_s": round(duration_s, 3),
    }
    if output == "-":
        return Outcome(result=facts)  # the script is the output
    where = f"written to {path_text(output)}" if output else f"loaded into {escape(result.into)}"
    lines = [
        f"database {escape(result.database)} of snapshot {result.snapshot.id} was {where}",
        f"rows:   {result.rows:,} in {count_of(result.tables, 'table')}, {human_size(result.size_bytes)}",
        f"time:   {human_duration(duration_s)}, {human_rate(speed)}",
    ]
    return Outcome(result=facts, lines=lines, exit_code=3 if run.warnings_count else 0)
