"""Say what a restore would do, entry by entry; reads the target, writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from coffer.errors import PermanentError, RestoreTargetError, RestoreUnsafePathError
from coffer.repository.blocks import Group
from coffer.repository.entries import Entry, Kind
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.decision import Powers, decide
from coffer.restore.files import Tally, describe, join, refusal
from coffer.restore.folders import Folder, Folders, look, require_safe_folder, unsafe_name
from coffer.restore.nodes import SOCKET_LOST, same_place
from coffer.restore.selection import Selection
from coffer.restore.spec import (
    Action,
    IssueLog,
    Overwrite,
    PlannedEntry,
    RestoreFailure,
    RestoreOptions,
    RestoreResult,
)
from coffer.restore.target import Target
from coffer.restore.tree import NO_FOLDER

Reason = tuple[str, str]  # code, message


def plan_restore(repo: Repository, snapshot: Snapshot, target: Path, options: RestoreOptions) -> Iterator[PlannedEntry]:
    """Return what `restore` would do with each entry, in manifest order; reads the manifest as it goes.

    Raises:
        PathNotInSnapshotError, UsageError, RestoreTargetError: At once, as `restore` would; but only at the end a
            UsageError where no entry fits the include patterns.
    """
    selection = Selection(repo.manifest(snapshot), snapshot, options)
    place = Target(repo, target, options.overwrite)
    return _Planner(selection, place, options.overwrite).entries()


def summarise(snapshot: Snapshot, selection: Selection, place: Target, options: RestoreOptions) -> RestoreResult:
    """Return the result of a dry run."""
    tally = Tally()
    failures, warnings = IssueLog(), IssueLog()
    for entry in _Planner(selection, place, options.overwrite).entries():
        why = entry.refusal
        if why is not None:
            log = warnings if why.code == SOCKET_LOST[0] else failures
            log.add(why.path, why.code, why.message, why.entries_count)
        elif entry.kind is Kind.DIRECTORY:
            tally.directories += 1
        elif entry.action == Action.KEEP.value:
            tally.kept += 1
        elif entry.kind is Kind.FILE:
            tally.files += 1
            tally.size_bytes += entry.size_bytes
        elif entry.kind is Kind.SYMLINK:
            tally.symlinks += 1
        else:
            tally.others += 1
    return RestoreResult(
        snapshot,
        place.path,
        dry_run=True,
        stats=tally.stats(),
        failures=tuple(failures.kept),
        failures_count=failures.total,
        warnings=tuple(warnings.kept),
        warnings_count=warnings.total,
    )


class _Planner:
    def __init__(self, selection: Selection, place: Target, overwrite: Overwrite | None) -> None:
        self._selection, self._place, self._overwrite = selection, place, overwrite
        self._powers = Powers.of_process()

    def entries(self) -> Iterator[PlannedEntry]:
        """Yield each entry; a block that cannot be read is one that is refused."""
        root_fd = self._place.open(create=False)
        folders = None if root_fd is None else Folders(root_fd, lambda _: False, forbidden=self._place.forbidden)
        try:
            for ordinal in self._selection.ordinals:
                yield from self._block(ordinal, folders)
            self._selection.require_match()
        finally:
            if folders is not None:
                folders.close()

    def _block(self, ordinal: int, folders: Folders | None) -> Iterator[PlannedEntry]:
        try:
            groups = self._selection.groups(ordinal)
        except PermanentError as error:
            block = self._selection.manifest.root.blocks[ordinal]
            lost = f"{block.entry_count} entries from here on cannot be read: {error}"
            path = join(block.folder, block.name)
            why = RestoreFailure(path, error.code, lost, block.entry_count)
            yield PlannedEntry(path, Kind.FILE, Action.REFUSE.value, 0, why)
            return
        for group in groups:
            picked = self._selection.pick(group)
            if picked.rows:
                yield from self._group(group, picked.rows, folders)

    def _group(self, group: Group, rows: Sequence[int], folders: Folders | None) -> Iterator[PlannedEntry]:
        folder, blocked = self._open(group.folder, folders)
        try:
            for at in rows:
                entry = group.entry(at)
                action, reason = (Action.REFUSE, blocked) if blocked else self._judge(folder, group, at, entry)
                size_bytes = entry.size_bytes if entry.kind is Kind.FILE else 0
                why = None if reason is None else RestoreFailure(entry.path, *reason)
                yield PlannedEntry(entry.path, entry.kind, action.value, size_bytes, why)
        finally:
            if folder is not None and folders is not None:
                folders.release(folder)

    def _open(self, path: bytes, folders: Folders | None) -> tuple[Folder | None, Reason | None]:
        """Return the folder if it is there, and why nothing can be written into it if so."""
        try:
            require_safe_folder(path)
            return (None if folders is None else folders.acquire(path)), None
        except FileNotFoundError:
            return None, None
        except OSError as error:
            replaced = error.errno in NO_FOLDER and self._overwrite in (Overwrite.CHANGED, Overwrite.ALWAYS)
            return None, None if replaced else describe(error)
        except PermanentError as error:
            return None, describe(error)

    def _judge(self, folder: Folder | None, group: Group, at: int, entry: Entry) -> tuple[Action, Reason | None]:
        name = group.names[at]
        if unsafe_name(name):
            return Action.REFUSE, describe(RestoreUnsafePathError(f"name {os.fsdecode(name)!r}: not of one entry"))
        if entry.kind is Kind.SOCKET:
            return Action.REFUSE, SOCKET_LOST
        if folder is None:
            return Action.CREATE, None
        there = look(folder, name)
        row = group.rows[at]
        same = same_place(folder, name, row, (entry.rdev, entry.link_target, ()))
        action = decide(row, there, self._overwrite, self._powers, same_place=same)
        if action is Action.REFUSE and there is not None:
            return action, describe(RestoreTargetError(refusal(there)))
        return action, None
