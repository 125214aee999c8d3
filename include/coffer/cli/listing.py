"""How files and snapshots are shown: a line for people, fields for programs."""

from __future__ import annotations

import stat
from typing import Any

from coffer.cli.run import Run
from coffer.cli.text import path_fields, path_text, time_iso, time_text
from coffer.repository.concern import Concern
from coffer.repository.entries import Entry, Kind
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot

_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)


def entry_fields(entry: Entry) -> dict[str, Any]:
    """Return an entry as fields of a JSON object; the path is as in the snapshot, without a leading slash."""
    fields: dict[str, Any] = {
        **path_fields(entry.path),
        "kind": entry.kind.value,
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size_bytes": entry.size_bytes,
        "mtime": time_iso(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
        "links": entry.nlink,
    }
    if entry.link_target:
        fields |= path_fields(entry.link_target, "target")
    if entry.kind in _DEVICES:
        fields["device"] = device_text(entry.rdev)
    if entry.xattrs:
        fields["xattrs"] = [path_text(name) for name, _ in entry.xattrs]
    return fields


def entry_line(entry: Entry) -> str:
    """Return an entry as a line like that of `ls -ln`, with its whole path; widths are fixed, so a list can stream."""
    size = device_text(entry.rdev) if entry.kind in _DEVICES else f"{entry.size_bytes:,}"
    target = f" -> {path_text(entry.link_target)}" if entry.link_target else ""
    return (
        f"{stat.filemode(entry.mode)} {entry.uid:>5} {entry.gid:>5} {size:>15} {time_text(entry.mtime_ns)}"
        f" /{path_text(entry.path)}{target}"
    )


def device_text(rdev: int) -> str:
    """Return a device's numbers, major and minor."""
    import os

    return f"{os.major(rdev)},{os.minor(rdev)}"


def chosen_snapshot(run: Run, repo: Repository, name: str) -> Snapshot:
    """Return the snapshot that is named; what is wrong with those that "latest" looks at is told as warnings.

    Raises:
        SnapshotNotFoundError, SnapshotAmbiguousError: None fits, or several.
        ObjectCorruptError: The one that is meant is damaged, or a damaged one may be it.
    """
    concerns: list[Concern] = []
    found = repo.resolve(name, concerns=concerns)
    for concern in concerns:
        run.warn(concern.code, concern.message)
    return found


def snapshot_fields(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as fields of a JSON object."""
    return {
        "id": snapshot.id,
        "source": snapshot.source,
        "sequence": snapshot.sequence,
        "host": snapshot.host,
        "started": time_iso(snapshot.started_ns),
        "finished": time_iso(snapshot.finished_ns),
        "paths": list(snapshot.paths),
        "tags": list(snapshot.tags),
        "complete": snapshot.complete,
        "warnings_count": snapshot.warnings_count,
        "parent_id": snapshot.parent_id,
        "stats": snapshot.stats,
        "facts": snapshot.facts,
        "object": snapshot.name,
        "sha256": snapshot.sha256,
    }
