"""Make symbolic links, fifos and device nodes, and further names of hard-linked files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from coffer.repository.blocks import MODE, Extras, Row
from coffer.restore.files import FileWriter, join, temporary_name
from coffer.restore.folders import Folder, look
from coffer.restore.spec import Action, IssueLog

SOCKET_LOST = "socket", "not restored: a socket exists only while its program listens"


class NodeMaker:
    """Makes what has no content, for one thread."""

    def __init__(self, writer: FileWriter, warnings: IssueLog) -> None:
        self._writer = writer
        self._warnings = warnings

    def make(self, folder: Folder, name: bytes, row: Row, extras: Extras) -> None:
        """Make one entry that is neither folder nor regular file.

        What this user or any user cannot make is a warning.

        Raises:
            RestoreTargetError: Its place is taken and may not be.
            OSError, ValueError: It could not be made; nothing is left of it.
        """
        mode = row[MODE]
        path = join(folder.path, name)
        if stat.S_ISSOCK(mode):
            self._warnings.add(path, *SOCKET_LOST)
            self._writer.ledger.pass_over(path)
        elif stat.S_ISLNK(mode):
            self._make_link(folder, name, path, row, extras)
        elif stat.S_ISFIFO(mode):
            self._make_node(folder, name, path, row, extras, lambda at: os.mkfifo(at, 0o600, dir_fd=folder.fd))
        elif self._writer.powers.is_root:
            device = stat.S_IFMT(mode) | 0o600
            self._make_node(
                folder, name, path, row, extras, lambda at: os.mknod(at, device, extras[0], dir_fd=folder.fd)
            )
        else:
            self._warnings.add(path, "device", "not restored: only root can make device nodes")
            self._writer.ledger.pass_over(path)

    def _make_link(self, folder: Folder, name: bytes, path: bytes, row: Row, extras: Extras) -> None:
        _, target, xattrs = extras

        def create(at: bytes) -> None:
            os.symlink(target, at, dir_fd=folder.fd)
            self._writer.attributes.set_link(folder, at, path, row, xattrs)

        if self._put(folder, name, path, row, create, same_place=same_place(folder, name, row, extras)):
            self._writer.tally.symlinks += 1

    def _make_node(
        self, folder: Folder, name: bytes, path: bytes, row: Row, extras: Extras, make: Callable[[bytes], None]
    ) -> None:
        def create(at: bytes) -> None:
            make(at)
            self._writer.attributes.set_node(folder, at, path, row, extras[2])

        if self._put(folder, name, path, row, create, same_place=same_place(folder, name, row, extras)):
            self._writer.tally.others += 1

    def link(self, folder: Folder, name: bytes, row: Row, source: Folder, source_name: bytes) -> None:
        """Give a file that was restored a further name.

        Raises:
            RestoreTargetError: The place is taken and may not be.
            OSError: The file system cannot; nothing is left of it.
        """
        path = join(folder.path, name)
        first, there = look(source, source_name), look(folder, name)
        if first is not None and there is not None and os.path.samestat(first, there):
            self._writer.tally.kept += 1
            return

        def create(at: bytes) -> None:
            os.link(source_name, at, src_dir_fd=source.fd, dst_dir_fd=folder.fd, follow_symlinks=False)

        # Another file in its place is not the same one, however much it looks it.
        if self._put(folder, name, path, row, create, same_place=False):
            self._writer.tally.hardlinks += 1

    def _put(
        self,
        folder: Folder,
        name: bytes,
        path: bytes,
        row: Row,
        create: Callable[[bytes], None],
        *,
        same_place: bool,
    ) -> bool:
        """Make something at its name, or beside it and move it there; return whether it was made."""
        action = self._writer.settle(folder, name, path, row, same_place=same_place)
        if action is Action.KEEP:
            return False
        at = name if folder.fresh and action is Action.CREATE else temporary_name()
        try:
            create(at)
            if at is not name:
                self._writer.give_name(folder, at, name, action)
        except FileExistsError:
            raise
        except BaseException:
            with suppress(OSError):
                os.unlink(at, dir_fd=folder.fd)
            raise
        return True


def same_place(folder: Folder, name: bytes, row: Row, extras: Extras) -> bool:
    """Say whether what is there leads where the entry leads: a link's target, a device's number."""
    mode = row[MODE]
    try:
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=folder.fd) == extras[1]
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_rdev == extras[0]
    except OSError:
        return False
    return True
