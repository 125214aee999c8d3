"""`coffer pg restore`: a cluster as it was at a moment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coffer.cli.clusters import source_of_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.listing import snapshot_fields
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.quantities import Quantity
from coffer.cli.run import Run
from coffer.cli.text import count_of, path_fields, path_text
from coffer.clock import SYSTEM_CLOCK
from coffer.errors import UsageError
from coffer.postgres.restore_command import restore_command
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.restore.cluster import (
    ClusterPlan,
    ClusterRestoreOptions,
    ClusterRestoreResult,
    parse_target,
    plan_cluster_restore,
    planned_tablespaces,
    restore_cluster,
)
from coffer.restore.cluster.spec import ACTIONS, WAL_LIMIT_BYTES
from coffer.units import human_duration, human_rate, human_size, parse_size

_SIZE = Quantity("size", parse_size)
_READ_ONLY = "then:      it answers read-only until it has recovered; SELECT pg_is_in_recovery() says f when it has"


@command(
    "restore",
    parent="pg",
    moves_data=True,
    options=(
        option("--source", metavar="NAME", help="The cluster, or one of its databases of the policy."),
        option("--snapshot", metavar="ID", help="Begin with this snapshot; else the best one is chosen."),
        option("--to", metavar="TARGET", default="latest", help="The moment; see above.  [latest]"),
        option("--target-folder", "--target", "-t", metavar="DIR", required=True, help="Data folder, new or empty."),
        option("--timeline", metavar="N", type=click.IntRange(1), help="Along this timeline; else the newest."),
        flag("--exclusive", help="Stop right before the moment, and not right after it."),
        option("--tablespace", metavar="OID=DIR", many=True, help="Where one goes; also OLDPATH=DIR."),
        option("--tablespaces-below", metavar="DIR", help="Each of the others gets a folder in this one."),
        flag("--tablespaces-in-place", help="Each of the others goes where it lay on the server."),
        flag("--delta", help="Over the same cluster's folder: write only pages that differ, remove what is too much."),
        option("--action", type=click.Choice(ACTIONS), default="promote", help="What the server does at the moment."),
        flag("--keep-archiving", help="Leave archive_mode on: this server takes over. Never for a test."),
        flag("--manifest", help="Write a backup_manifest for pg_verifybackup."),
        option("--owner", metavar="USER", help="Whose the files are to be; else as on the server (only root can)."),
        flag("--despite-damage", help="Let the server be started even if some files could not be restored."),
        flag("--no-sync", help="Do not wait until everything is on the disks."),
        option(
            "--wal-limit", metavar="SIZE", type=_SIZE, default=WAL_LIMIT_BYTES,
            help="Above this much WAL the server fetches it by itself.  [8GiB]",
        ),
        flag("--dry-run", "-n", help="Show what would be done, and write nothing."),
        option("--workers", metavar="N", type=click.IntRange(min=0), default=0, help="Threads; 0 is one per core."),
    ),
)  # fmt: skip
def restore_a_cluster(run: Run, **given: Any) -> Outcome:
    """Restore a cluster to a point in time.

    TARGET is latest (the end of all saved WAL), immediate (the end of the snapshot), time:2026-11-25T08:00:00Z,
    lsn:0/3000028, name:before_deploy or xid:1234. A time without a zone is UTC. Whether the moment can be reached is
    known before anything is written.

    The restored server archives nothing, and connects to no other one. At the end the command that starts it is shown.

    Ends with 3 if files could not be restored and --despite-damage was given.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    target = parse_target(given["to"], timeline=given["timeline"], inclusive=not given["exclusive"])
    repo = run.repository()
    source = _source(run, repo, given)
    run.stops_softly = True
    plan = plan_cluster_restore(repo, source, target, snapshot=given["snapshot"], stop=run.stop)
    folder = user_path(given["target_folder"])
    options = _options(run, plan, given)
    if given["dry_run"]:
        places = planned_tablespaces(repo, plan, folder, options)
        return Outcome(
            result={**_plan_fields(plan), **_place_fields(folder, places), "dry_run": True},
            lines=[*_plan_lines(plan, places), "nothing was written"],
        )
    progress = Progress(phase="restoring", bytes_total=plan.snapshot.stats.get("size_bytes", 0))
    with Display(run, progress):
        result = restore_cluster(repo, plan, folder, options=options, progress=progress, stop=run.stop)
    return _outcome(run, plan, result, SYSTEM_CLOCK.monotonic_s() - started_s)


COMMAND = restore_a_cluster


def _source(run: Run, repo: Repository, given: dict[str, Any]) -> str:
    if given["source"]:
        return source_of_cluster(run, given["source"], repo)
    if given["snapshot"]:
        return repo.resolve(given["snapshot"]).source
    sources = sorted({snapshot.source for snapshot in repo.snapshots(damages=[]) if snapshot.facts})
    if len(sources) == 1:
        return sources[0]
    names = ", ".join(sources) or "none"
    raise UsageError("no cluster is named", hint=f"Give --source; the repository has {names}.")


def _options(run: Run, plan: ClusterPlan, given: dict[str, Any]) -> ClusterRestoreOptions:
    below = given["tablespaces_below"]
    return ClusterRestoreOptions(
        tablespaces=_tablespaces(given["tablespace"]),
        tablespaces_below=user_path(below) if below else None,
        tablespaces_in_place=given["tablespaces_in_place"],
        delta=given["delta"],
        durable=not given["no_sync"],
        action=given["action"],
        keep_archiving=given["keep_archiving"],
        manifest=given["manifest"],
        owner=_owner(given["owner"]) if given["owner"] else None,
        despite_damage=given["despite_damage"],
        wal_limit_bytes=given["wal_limit"],
        restore_command=_fetching(run, plan) if plan.wal_bytes > given["wal_limit"] else None,
        workers=given["workers"],
    )


def _tablespaces(given: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in given:
        key, equals, folder = text.rpartition("=")
        if not equals or not key or not folder:
            raise UsageError(f"--tablespace {text!r}: not of the form OID=DIR or OLDPATH=DIR")
        if key in found:
            raise UsageError(f"--tablespace {key}: is given twice")
        found[key] = user_path(folder)
    return found


def _owner(user: str) -> tuple[int, int]:
    import pwd

    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(
            f"--owner {user!r}: there is no such user", hint="PostgreSQL's is mostly 'postgres'."
        ) from None
    return found.pw_uid, found.pw_gid


def _fetching(run: Run, plan: ClusterPlan) -> str:
    """Return the restore_command for more WAL than is put into pg_wal: with the options that this run was given."""
    named = {f"--{name.replace('_', '-')}": value for name, value in run.where.items() if value}
    options = {name: _absolute(name, value) for name, value in named.items()}
    run.warn(
        "restore-command",
        f"{human_size(plan.wal_bytes)} of WAL is fetched by the server itself: its user must be able to read the"
        " repository and the key file",
    )
    return restore_command(plan.source, options=options)


def _absolute(name: str, value: str) -> str:
    if name == "--location" or "://" in value:
        return value
    return os.path.abspath(user_path(value))


# ------------------------------------------------------------------------------------------------ what is shown


def _plan_fields(plan: ClusterPlan) -> dict[str, Any]:
    facts, stop = plan.facts, plan.stop
    return {
        "source": plan.source,
        "snapshot": snapshot_fields(plan.snapshot),
        "method": facts.method.value,
        "target": str(plan.target),
        "stops_at": stop.why,
        "recovery": {
            "setting": stop.setting,
            "value": stop.value,
            "inclusive": stop.inclusive,
            "timeline": stop.timeline,
        },
        "snapshot_end": str(facts.end),
        "wal_start": str(plan.path.begin),
        "wal_end": str(stop.wal_end),
        "wal_bytes": plan.wal_bytes,
        "wal_saved_until": str(plan.path.reach.end),
        "server_version": plan.record.server_version,
        "notes": list(plan.notes),
    }


def _place_fields(folder: Path, places: Mapping[int, Path]) -> dict[str, Any]:
    return {
        "target_folder": path_text(str(folder)),
        "tablespaces": {str(oid): path_text(str(place)) for oid, place in places.items()},
    }


def _plan_lines(plan: ClusterPlan, places: Mapping[int, Path]) -> list[str]:
    facts, stop, path = plan.facts, plan.stop, plan.path
    lines = [
        f"cluster:   {plan.source}, PostgreSQL {path_text(plan.record.server_version or str(facts.major))}",
        f"snapshot:  {plan.snapshot.id} ({facts.method.value}), consistent from {facts.end} on",
        f"target:    {plan.target}: {stop.why}, timeline {stop.timeline}",
        f"WAL:       {path.begin} to {stop.wal_end}, {human_size(plan.wal_bytes)}; saved until {path.reach.end}",
        f"size:      {human_size(plan.snapshot.stats.get('size_bytes', 0))}",
    ]
    for oid, folder in places.items():
        lines.append(
            f"tablespace {oid}: {path_text(plan.record.tablespaces.get(oid, '?'))} -> {path_text(str(folder))}"
        )
    return [*lines, *(f"note:      {note}" for note in plan.notes)]


def _outcome(run: Run, plan: ClusterPlan, result: ClusterRestoreResult, duration_s: float) -> Outcome:
    for found in (*result.failures, *result.warnings):
        run.warn(found.code, found.message, found.path)
    stats = result.stats
    start = shlex.join(result.start_command)
    facts = {
        **_plan_fields(plan),
        **_place_fields(result.target, result.tablespaces),
        "dry_run": False,
        "stats": dict(stats),
        "failures_count": result.failures_count,
        "failures": [{**path_fields(f.path), "code": f.code, "message": path_text(f.message)} for f in result.failures],
        "start_command": start,
        "duration_s": round(duration_s, 3),
    }
    written_bytes = stats["written_bytes"]
    segments = count_of(stats["wal_segments"], "WAL segment")
    lines = [
        *_plan_lines(plan, result.tablespaces),
        f"restored:  {path_text(str(result.target))}",
        f"files:     {stats['files']:,}, {human_size(written_bytes)} written, {segments}",
    ]
    if "pages_compared" in stats:
        pages = f"{stats['pages_compared']:,} pages compared, {stats['pages_written']:,} written"
        lines.append(f"delta:     {pages}, {count_of(stats['files_removed'], 'file')} removed")
    rate = human_rate(stats["size_bytes"] / duration_s if duration_s else 0)
    lines += [f"time:      {human_duration(duration_s)}, {rate}", _READ_ONLY, "start it with:", f"  {start}"]
    return Outcome(result=facts, lines=lines, exit_code=EXIT_INCOMPLETE if result.failures_count else EXIT_OK)
