"""`coffer pg extract`: one database, or a few tables, out of the backup of a whole cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from coffer.cli.clusters import source_of_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import escape, path_text
from coffer.clock import SYSTEM_CLOCK
from coffer.errors import UsageError
from coffer.progress import Progress
from coffer.recovery.single_table import ExtractOptions, ExtractResult, extract
from coffer.restore.cluster import parse_target
from coffer.sources.postgres.connection import PostgresConnection
from coffer.units import human_duration, human_size


@command(
    "extract",
    parent="pg",
    moves_data=True,
    options=(
        option("--source", metavar="NAME", required=True, help="The cluster, or one of its databases of the policy."),
        option("--database", "-d", metavar="NAME", required=True, help="The database on the server."),
        option("--table", "-T", metavar="NAME", many=True, help="Only this table: schema.table; may be repeated."),
        option("--to", metavar="TARGET", default="latest", help="The moment, as for 'coffer pg restore'.  [latest]"),
        option("--snapshot", metavar="ID", help="Begin with this snapshot; else the best one is chosen."),
        option("--timeline", metavar="N", type=click.IntRange(1), help="Along this timeline; else the newest."),
        flag("--exclusive", help="Stop right before the moment, and not right after it."),
        option("--output", "-o", metavar="FILE", help="Write SQL to a new file, or to standard output with -."),
        option("--into", metavar="NAME", help="Load it into this database instead, all or nothing."),
        option("--host", metavar="HOST", help="Of --into: the server.  [localhost]"),
        option("--port", metavar="PORT", type=click.IntRange(1, 65535), default=5432, help="Of --into.  [5432]"),
        option("--user", "-U", metavar="ROLE", help="Of --into; the password is where libpq looks for it."),
        flag("--schema-only", help="Definitions without rows."),
        flag("--data-only", help="Rows without definitions."),
        flag("--no-owner", help="Leave out whose the objects are and who may use them."),
        option("--scratch", metavar="DIR", help="A folder with room for the database.  [that for temporary files]"),
        option("--superuser", metavar="ROLE", help="The role that initdb made.  [as recorded, else postgres]"),
        option("--workers", metavar="N", type=click.IntRange(min=0), default=0, help="Threads; 0 is one per core."),
    ),
)  # fmt: skip
def extract_tables(run: Run, source: str, **given: Any) -> Outcome:
    """Get a database or a table out of a physical backup.

    The files of this database alone are restored into a scratch folder. A real server recovers them to the moment,
    pg_dump writes what was asked for, and the scratch folder is removed, also if this command is killed. The server
    of the backup is not asked for anything.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    into = _destination(run, given)
    target = parse_target(given["to"], timeline=given["timeline"], inclusive=not given["exclusive"])
    repo = run.repository()
    options = ExtractOptions(
        database=given["database"],
        tables=tuple(given["table"]),
        snapshot=given["snapshot"],
        scratch=user_path(given["scratch"]) if given["scratch"] else None,
        schema_only=given["schema_only"],
        data_only=given["data_only"],
        no_owner=given["no_owner"],
        superuser=given["superuser"] or "",
        workers=given["workers"],
    )
    progress = Progress(phase="planning")
    run.stops_softly = True
    with Display(run, progress):
        name = source_of_cluster(run, source, repo)
        result = extract(repo, name, target, options, into=into, progress=progress, stop=run.stop)
    return _outcome(run, result, into, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = extract_tables


def _destination(run: Run, given: dict[str, Any]) -> BinaryIO | Path | PostgresConnection:
    """Return where it goes.

    Raises:
        UsageError: Nowhere, or to several places.
    """
    output, into = given["output"], given["into"]
    if (output is None) == (into is None):
        raise UsageError("destination: give either --output or --into", hint="--output - writes to standard output.")
    if given["schema_only"] and given["data_only"]:
        raise UsageError("--schema-only and --data-only: nothing is left", hint="Give one of them, or none.")
    if into is not None:
        return PostgresConnection(
            host=given["host"] or "localhost", port=given["port"], user=given["user"] or "", dbname=into
        )
    if output != "-":
        return user_path(output)
    if run.as_json:
        raise UsageError("--output - and --json: both want standard output", hint="Write to a file.")
    return sys.stdout.buffer


def _outcome(run: Run, result: ExtractResult, into: BinaryIO | Path | PostgresConnection, duration_s: float) -> Outcome:
    what = ", ".join(map(escape, result.tables)) or f"database {escape(result.database)}"
    where = "standard output"
    if isinstance(into, Path):
        where = path_text(str(into))
    elif isinstance(into, PostgresConnection):
        where = f"database {escape(into.dbname)} on {escape(into.label)}"
    facts = {
        "snapshot": result.snapshot,
        "moment": escape(result.moment),
        "database": escape(result.database),
        "tables": list(map(escape, result.tables)),
        "dumped_bytes": result.dumped_bytes,
        "stats": result.stats,
        "duration_s": round(duration_s, 3),
    }
    read = human_size(result.stats.get("read_bytes", 0))
    lines = [
        f"{what} as of {escape(result.moment)}: {human_size(result.dumped_bytes)} to {where}",
        f"from snapshot {result.snapshot}, {read} read from the store, in {human_duration(duration_s)}",
    ]
    for note in result.notes:
        run.note(f"coffer: note: {escape(note)}")
    if not isinstance(into, (Path, PostgresConnection)):  # the dump is on standard output: say the rest elsewhere
        for line in lines:
            run.note(f"coffer: {line}")
        lines = []
    return Outcome(result=facts, lines=lines)
