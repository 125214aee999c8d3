"""`coffer pg points`: which moments of a cluster can be restored."""

from __future__ import annotations

from typing import Any

from coffer.cli.clusters import source_of_cluster
from coffer.cli.command import command, option
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import count_of, table, time_iso, time_text
from coffer.errors import SnapshotNotFoundError
from coffer.repository.repository import Repository
from coffer.restore.cluster import RestorePoint, restore_points

_HEAD = ("id", "finished (UTC)", "method", "timeline", "consistent at", "WAL until", "")


@command(
    "points",
    parent="pg",
    options=(option("--source", metavar="NAME", help="Only this cluster, or that of this database of the policy."),),
)
def list_points(run: Run, source: str | None) -> Outcome:
    """List the points in time that can be restored.

    For each snapshot: where the cluster is consistent, and up to which position WAL leads on from it without a gap. Any
    moment between the two can be restored. Ends with 3 if there is a gap, or a snapshot without its own WAL.
    """
    repo = run.repository()
    sources = [source_of_cluster(run, source, repo)] if source else _sources(repo)
    if not sources:
        raise SnapshotNotFoundError("the repository has no snapshot of a cluster")
    clusters: list[dict[str, Any]] = []
    lines: list[str] = []
    for name in sources:
        points = restore_points(repo, name)
        clusters.append({"source": name, "points": [_fields(point) for point in points]})
        lines += [f"{name}:", *table(_HEAD, map(_cells, points), "lllrlll"), _summary(points), ""]
        for point in points:
            if _trouble(point):
                run.warn("pg-wal-gap", f"{name}, snapshot {point.snapshot.id}: {_trouble(point)}")
    return Outcome(
        result={"clusters": clusters},
        lines=lines[:-1],
        exit_code=EXIT_INCOMPLETE if run.warnings_count else EXIT_OK,
    )


COMMAND = list_points


def _sources(repo: Repository) -> list[str]:
    return sorted({snapshot.source for snapshot in repo.snapshots(damages=[]) if snapshot.facts})


def _trouble(point: RestorePoint) -> str:
    """Say what is missing behind a snapshot; empty if nothing is."""
    reach = point.path.reach
    if not point.is_consistent:
        return f"cannot be restored: WAL {reach.end}..{point.facts.end} is missing"
    if reach.gap is not None:
        return f"WAL {reach.gap[0]}..{reach.gap[1]} of timeline {reach.timeline} is missing"
    return ""


def _fields(point: RestorePoint) -> dict[str, Any]:
    facts, reach = point.facts, point.path.reach
    return {
        "snapshot": point.snapshot.id,
        "finished": time_iso(point.snapshot.finished_ns),
        "method": facts.method.value,
        "timeline": facts.timeline,
        "start_lsn": str(facts.start),
        "end_lsn": str(facts.end),
        "from_standby": facts.from_standby,
        "corrupt_pages": facts.corrupt_pages,
        "restorable": point.is_consistent,
        "wal_until": str(reach.end),
        "wal_timeline": reach.timeline,
        "gap": None if reach.gap is None else {"start": str(reach.gap[0]), "end": str(reach.gap[1])},
    }


def _cells(point: RestorePoint) -> tuple[str | int, ...]:
    facts, reach = point.facts, point.path.reach
    along = f" (timeline {reach.timeline})" if reach.timeline != facts.timeline else ""
    trouble = _trouble(point)
    if not trouble and facts.corrupt_pages:
        trouble = f"{count_of(facts.corrupt_pages, 'damaged page')} on the server"
    return (
        point.snapshot.id,
        time_text(point.snapshot.finished_ns),
        facts.method.value + (", standby" if facts.from_standby else ""),
        facts.timeline,
        str(facts.end),
        f"{reach.end}{along}",
        trouble,
    )


def _summary(points: list[RestorePoint]) -> str:
    usable = [point for point in points if point.is_consistent]
    if not usable:
        return "nothing can be restored"
    first, last = usable[0], usable[-1]
    return (
        f"restorable from {first.facts.end} ({time_text(first.snapshot.finished_ns)} UTC) to {last.path.reach.end},"
        f" {count_of(len(usable), 'snapshot')}"
    )
