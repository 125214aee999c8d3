"""`coffer ls`: the files of a snapshot."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coffer.cli.command import argument, command, flag
from coffer.cli.listing import chosen_snapshot, entry_fields, entry_line, snapshot_fields
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.run import Run
from coffer.cli.text import pattern_bytes
from coffer.errors import PathNotInSnapshotError
from coffer.repository.entries import Entry, Kind
from coffer.repository.manifest import ManifestReader


@command(
    "ls",
    options=(
        argument("snapshot", metavar="SNAPSHOT"),
        argument("path", metavar="[PATH]", required=False),
        flag("--recursive", "-R", help="List everything below as well."),
    ),
)
def list_files(run: Run, snapshot: str, path: str | None, recursive: bool) -> Outcome:
    """List the files of a snapshot.

    Without PATH the top of the snapshot is listed. Of a folder, what is directly in it is listed; of anything else, the
    file itself. Owners are numbers, times are in UTC.
    """
    repo = run.repository()
    found = chosen_snapshot(run, repo, snapshot)
    entries = _entries(repo.manifest(found), pattern_bytes(path or ""), recursive=recursive)
    return Outcome(result={"snapshot": snapshot_fields(found)}, rows=Rows("entries", entries, entry_fields, entry_line))


COMMAND = list_files


def _entries(manifest: ManifestReader, path: bytes, *, recursive: bool) -> Iterator[Entry]:
    own = manifest.find(path) if path else None
    if path and own is None:
        raise PathNotInSnapshotError(f"path /{os.fsdecode(path)}: not in the snapshot")
    if recursive:
        return manifest.entries(path)
    if own is not None and own.kind is not Kind.DIRECTORY:
        return iter((own,))
    return manifest.children(path)
