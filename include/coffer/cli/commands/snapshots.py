"""`coffer snapshots`: what there is to restore."""

from __future__ import annotations

from coffer.cli.command import command, option
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.listing import snapshot_fields
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.run import Run
from coffer.cli.text import count_of, table, time_text
from coffer.errors import CryptoError, RepositoryError, SnapshotNotFoundError
from coffer.repository import snapshot as snapshots
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.units import human_size

_HEAD = ("id", "finished (UTC)", "source", "host", "files", "size", "added", "")


@command("snapshots", options=(option("--source", metavar="NAME", help="Only those of this source."),))
def list_snapshots(run: Run, source: str | None) -> Outcome:
    """List the snapshots.

    Oldest first. One that cannot be read, or that this machine knows and the store has lost, is a warning, and the
    rest is listed (exit code 3).
    """
    repo = run.repository()
    found = readable_snapshots(run, repo, source)
    for concern in repo.lost_heads(source):
        run.warn(concern.code, concern.message)
    require_known(run, repo, source, found)
    if run.as_json:
        rows = Rows("snapshots", found, snapshot_fields, str)
        return Outcome(rows=rows, exit_code=_exit_code(run))
    lines = table(_HEAD, map(_cells, found), "llllrrrl") if found else []
    return Outcome(lines=[*lines, count_of(len(found), "snapshot")], exit_code=_exit_code(run))


COMMAND = list_snapshots


def readable_snapshots(run: Run, repo: Repository, source: str | None = None) -> list[Snapshot]:
    """Return the snapshots of a source or of all, oldest first; each that cannot be read is a warning."""
    prefix = snapshots.PREFIX
    if source is not None:
        prefix += repo.keyring.ids.source_tag(source) + "-"
    found = []
    for info in list(repo.backend.list(prefix)):
        try:
            snapshot = repo.load_snapshot(info.name)
        except (RepositoryError, CryptoError) as error:
            run.warn(error.code, str(error))
        else:
            found += [snapshot] if snapshot is not None else []
    return sorted(found, key=lambda s: (s.started_ns, s.name))


def require_known(run: Run, repo: Repository, source: str | None, found: list[Snapshot]) -> None:
    """Refuse a source that has no snapshot, unless it was said why: mostly its name is misspelt.

    Raises:
        SnapshotNotFoundError: Names those that there are.
    """
    if source is None or found or run.warnings_count:
        return
    there = sorted({snapshot.source for snapshot in readable_snapshots(run, repo)})
    names = ", ".join(there) or "none"
    raise SnapshotNotFoundError(f"source {source!r}: has no snapshot", hint=f"Sources with snapshots: {names}.")


def _exit_code(run: Run) -> int:
    return EXIT_INCOMPLETE if run.warnings_count else EXIT_OK


def _cells(snapshot: Snapshot) -> tuple[str | int, ...]:
    stats = snapshot.stats
    return (
        snapshot.id,
        time_text(snapshot.finished_ns),
        snapshot.source,
        snapshot.host,
        stats.get("files", 0),
        human_size(stats.get("size_bytes", 0)),
        human_size(stats.get("stored_bytes", 0)),
        "" if snapshot.complete else f"incomplete: {count_of(snapshot.warnings_count, 'warning')}",
    )
