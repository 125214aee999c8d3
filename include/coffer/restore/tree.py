"""The folders of a restore: made private, entered by descriptor, given their attributes after their contents."""

from __future__ import annotations

import errno
import os
import stat

from coffer.errors import PermanentError, RestoreTargetError, RestoreUnsafePathError
from coffer.repository.blocks import NO_EXTRAS, Extras, Row
from coffer.restore.attributes import Attributes
from coffer.restore.decision import Powers, decide
from coffer.restore.files import Tally, describe, join, refusal
from coffer.restore.folders import OPEN_FOLDER, PRIVATE, Folder, Folders, is_folder, look
from coffer.restore.ledger import Ledger
from coffer.restore.spec import Action, IssueLog, Overwrite

NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # nothing there, or a link, or a file
_BARE: Row = (stat.S_IFDIR | PRIVATE, 0, 0, 0, 0, 0, 0, 0, 0)


class Tree:
    """Makes folders, for the thread that reads the manifest."""

    def __init__(
        self,
        folders: Folders,
        ledger: Ledger,
        attributes: Attributes,
        powers: Powers,
        overwrite: Overwrite | None,
        warnings: IssueLog,
        tally: Tally,
    ) -> None:
        self._folders, self._ledger, self._attributes = folders, ledger, attributes
        self._powers, self._overwrite, self._warnings, self._tally = powers, overwrite, warnings, tally

    def take(self, parent: Folder, name: bytes, row: Row, extras: Extras = NO_EXTRAS) -> None:
        """Make the folder of an entry, or take the one that is there; its attributes wait until `finish`.

        Raises:
            RestoreTargetError: Something else is in its place, and may not be replaced.
            OSError: It cannot be made.
        """
        path = join(parent.path, name)
        try:
            self._folders.make(parent, name)
        except FileExistsError:
            self._ledger.note_folder(path, row, extras[2])
            self._meet(parent, name, path, row)
        else:
            self._ledger.note_folder(path, row, extras[2], made=True)
        self._tally.directories += 1

    def note(self, folder: bytes, name: bytes, row: Row, extras: Extras) -> None:
        """Remember a folder that is made only if something in it is restored."""
        self._ledger.note_folder(join(folder, name), row, extras[2])

    def enter(self, path: bytes) -> Folder:
        """Return a folder, open, to be released; folders on the way that are missing are made.

        Raises:
            RestoreUnsafePathError: A link or a file is in its place, and the snapshot has no folder there.
            RestoreTargetError: As `take`.
            OSError: It cannot be made or opened.
        """
        try:
            folder = self._folders.acquire(path)
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            folder = self._make_way(path)
        if not folder.fresh:
            self._ledger.mark_folder(path, made=False)
        return folder

    def _make_way(self, path: bytes) -> Folder:
        """Go down to a folder level by level, making what is missing and replacing what may be replaced."""
        folder = self._folders.acquire(b"")
        at = 0
        while at <= len(path):
            end = path.find(b"/", at)
            end = len(path) if end < 0 else end
            parent = folder
            try:
                folder = self._step(parent, path[at:end])
            finally:
                self._folders.release(parent)
            at = end + 1
        return folder

    def _step(self, parent: Folder, name: bytes) -> Folder:
        path = join(parent.path, name)
        try:
            return self._folders.acquire(path)
        except FileNotFoundError:
            self._folders.make(parent, name)
            self._ledger.mark_folder(path, made=True)
            self._tally.directories += 1
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            if not self._ledger.is_noted(path):
                raise RestoreUnsafePathError("a link or a file stands where the folder above it should be") from None
            self._meet(parent, name, path, _BARE)
        return self._folders.acquire(path)

    def _meet(self, parent: Folder, name: bytes, path: bytes, row: Row) -> None:
        """Decide about a place that is taken: a folder is taken over, anything else replaced if that was asked for."""
        there = look(parent, name)
        if is_folder(there) and self._ledger.made(path):
            return  # a second entry of this folder, or one that came after its contents
        action = decide(row, there, self._overwrite, self._powers)
        if action is Action.REFUSE:
            assert there is not None  # an empty place is never refused
            raise RestoreTargetError(refusal(there))
        if is_folder(there):
            self._take_over(parent, name)
            self._ledger.mark_folder(path, made=False)
            if self._overwrite is Overwrite.NEVER:
                self._ledger.pass_over(path)
            return
        self._folders.forget(path)
        if there is not None:
            os.unlink(name, dir_fd=parent.fd)
        self._folders.make(parent, name)
        self._ledger.mark_folder(path, made=True)

    def _take_over(self, parent: Folder, name: bytes) -> None:
        """Let the owner of a folder that forbids it write into it, until its own mode is set again."""
        if self._powers.is_root or self._overwrite is Overwrite.NEVER:
            return
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent.fd)
        try:
            status = os.fstat(fd)
            if status.st_uid == self._powers.uid and status.st_mode & PRIVATE != PRIVATE:
                os.fchmod(fd, stat.S_IMODE(status.st_mode) | PRIVATE)
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Set the attributes of every folder, each before the one it is in. Safe to repeat."""
        for note in self._ledger.folders_upwards():
            if not note.made and self._overwrite is Overwrite.NEVER:
                continue
            if not note.known:
                if note.made:
                    self._warnings.add(note.path, "attributes", "not set: its entry in the snapshot could not be read")
                continue
            above, _, name = note.path.rpartition(b"/")
            try:
                with self._folders.opened(above) as parent:
                    self._attributes.set_folder(parent, name, note)
            except (OSError, PermanentError) as error:
                self._warnings.add(note.path, "attributes", f"not set: {describe(error)[1]}")
