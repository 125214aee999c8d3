"""Give hard-linked files their further names, when their first is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from coffer.errors import RestoreError
from coffer.repository.blocks import Group
from coffer.restore.files import split
from coffer.restore.folders import Folder, Folders, look
from coffer.restore.ledger import Ledger, WaitingLink
from coffer.restore.placing import PER_FILE, Placer
from coffer.restore.selection import Selection
from coffer.restore.spec import IssueLog, Overwrite


class Linker:
    """Makes the links that wait in a ledger; for the thread that reads the manifest.

    Args:
        selection: Reads an entry again that has to be restored as a file of its own.
        ledger, folders, warnings, overwrite: The run's.
        placer: The thread's own.
        add: Queues an entry as a file of its own.
    """

    def __init__(
        self,
        selection: Selection,
        ledger: Ledger,
        folders: Folders,
        placer: Placer,
        warnings: IssueLog,
        overwrite: Overwrite | None,
        add: Callable[[Folder, Group, int], None],
    ) -> None:
        self._selection, self._ledger, self._folders, self._placer = selection, ledger, folders, placer
        self._warnings, self._overwrite, self._add = warnings, overwrite, add

    def link_or_replace(self) -> Iterator[None]:
        """Link every name whose first name is there; yields after each.

        Where the first name failed, or an old file was kept in its place, the next of the names is queued as a file,
        and the others wait for it.
        """
        heirs: dict[bytes, bytes] = {}
        for link in self._ledger.waiting_links():
            if self._is_kept(link):
                pass
            elif not self._ledger.passed_over(link.first):
                self._link(link)
            elif link.first in heirs:
                self._ledger.let_wait(link._replace(first=heirs[link.first]))
            else:
                heirs[link.first] = link.path
                self._restore_alone(link)
            yield

    def link_the_rest(self) -> Iterator[None]:
        """Link the names that waited for another first name; yields after each. Files that were queued must be done."""
        for link in self._ledger.waiting_links():
            if self._ledger.passed_over(link.first):
                error = RestoreError(f"its other name {os.fsdecode(link.first)!r} could not be restored")
                self._placer.writer.fail(link.path, error)
            else:
                self._link(link)
            yield

    def _is_kept(self, link: WaitingLink) -> bool:
        """Say whether a link's place is taken by something that stays, whatever became of the link's first name."""
        if self._overwrite is not Overwrite.NEVER:
            return False
        folder_path, name = split(link.path)
        try:
            with self._folders.opened(folder_path) as folder:
                is_kept = look(folder, name) is not None
        except PER_FILE:
            return False
        if is_kept:
            self._placer.writer.tally.kept += 1
            self._ledger.pass_over(link.path)
        return is_kept

    def _link(self, link: WaitingLink) -> None:
        (folder_path, name), (first_path, first_name) = split(link.path), split(link.first)
        try:
            row = self._selection.groups(link.block)[link.group_at].rows[link.row_at]
            with self._folders.opened(folder_path) as folder, self._folders.opened(first_path) as first:
                self._placer.nodes.link(folder, name, row, first, first_name)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._warnings.add(link.path, "link", f"written as a file of its own, not as a hard link: {reason}")
            self._restore_alone(link)
        except PER_FILE as error:
            self._placer.writer.fail(link.path, error)

    def _restore_alone(self, link: WaitingLink) -> None:
        try:
            group = self._selection.groups(link.block)[link.group_at]
            with self._folders.opened(group.folder) as folder:
                self._add(folder, group, link.row_at)
        except PER_FILE as error:
            self._placer.writer.fail(link.path, error)
