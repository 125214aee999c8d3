"""Set owners, extended attributes, modes and times; what cannot be set is a warning and not the end.

The order matters. A change of owner clears setuid bits and capabilities (chown(2)), so it comes first. Extended
attributes need the owner's right to write, which the mode may take away, so the mode comes after them. Times come last.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from coffer.repository.blocks import GID, MODE, MTIME, UID, Row
from coffer.restore.decision import Powers
from coffer.restore.folders import ACL_ACCESS, ACL_DEFAULT, OPEN_FOLDER, Folder, drop_xattr
from coffer.restore.ledger import FolderNote, Xattrs
from coffer.restore.spec import IssueLog

_NOBODY = (1 << 32) - 1  # to chown(2) it means "leave it": no file has it, so an entry that says so is false
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
ACLS = (ACL_ACCESS, ACL_DEFAULT)


class NewFile(Protocol):
    """A regular file that is being made.

    Attributes:
        row, xattrs: What it is to be.
    """

    row: Row
    xattrs: Xattrs

    @property
    def path(self) -> bytes:
        """Its path in the snapshot."""
        ...


class Attributes:
    """Sets attributes for one run. Thread-safe."""

    def __init__(self, powers: Powers, warnings: IssueLog) -> None:
        self._powers = powers
        self._warnings = warnings
        self._owner_warned = False
        self.unset_xattrs: set[str] = set()  # names that some file could not be given; a verification passes over them

    def set_file(self, fd: int, file: NewFile, folder: Folder) -> None:
        """Set everything of a new regular file that is open for writing."""
        row, xattrs = file.row, file.xattrs
        owned = row[UID] == self._powers.uid and row[GID] == folder.gid
        if owned and not xattrs and not folder.inherits_acl:
            # The common case, spelt out: it is what a restore of many small files costs.
            try:
                os.fchmod(fd, row[MODE] & 0o7777)
                os.utime(fd, ns=(row[MTIME], row[MTIME]))
            except OSError as error:
                self._warn(file.path, "attributes", error)
            return
        self._set(fd, file.path, row, xattrs, owned=owned, exactly=folder.inherits_acl)

    def set_folder(self, parent: Folder, name: bytes, note: FolderNote) -> None:
        """Set everything of a folder whose contents are finished.

        Raises:
            OSError: It is not there any more.
        """
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent.fd)
        try:
            row = note.row
            if note.made and parent.gid != -1:
                owner = self._powers.uid, parent.gid
            else:
                status = os.fstat(fd)
                owner = status.st_uid, status.st_gid
            owned = (row[UID], row[GID]) == owner
            self._set(fd, note.path, row, note.xattrs, owned=owned, exactly=not note.made)
        finally:
            os.close(fd)

    def set_node(self, folder: Folder, name: bytes, path: bytes, row: Row, xattrs: Xattrs) -> None:
        """Set everything of a new fifo or device node, without opening it.

        Raises:
            OSError: Something else stands there by now (ENOENT).
        """
        # chmod(2) follows links, so the node is pinned first and changed through its descriptor.
        fd = os.open(name, _PIN, dir_fd=folder.fd)
        try:
            if stat.S_IFMT(os.fstat(fd).st_mode) != stat.S_IFMT(row[MODE]):
                raise FileNotFoundError(errno.ENOENT, "another kind of file took its place")
            owned = row[UID] == self._powers.uid and row[GID] == folder.gid
            self._set(b"/proc/self/fd/%d" % fd, path, row, xattrs, owned=owned, exactly=folder.inherits_acl)
        finally:
            os.close(fd)

    def set_link(self, folder: Folder, name: bytes, path: bytes, row: Row, xattrs: Xattrs) -> None:
        """Set owner, extended attributes and time of a new symbolic link, never of what it leads to.

        Raises:
            OSError: Something else stands there by now (ENOENT).
        """
        # Pinned first: whoever may write to the folder could put a file of ours at the name, to be given its owner.
        fd = os.open(name, _PIN, dir_fd=folder.fd)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                raise FileNotFoundError(errno.ENOENT, "another kind of file took its place")
            self._set_pinned_link(b"/proc/self/fd/%d" % fd, folder, path, row, xattrs)
        finally:
            os.close(fd)

    def _set_pinned_link(self, link: bytes, folder: Folder, path: bytes, row: Row, xattrs: Xattrs) -> None:
        """Set everything of a link by its descriptor's entry in /proc, which leads to the link and no further."""
        try:
            if (row[UID] != self._powers.uid or row[GID] != folder.gid) and self._may_chown(path, row):
                os.chown(link, row[UID], row[GID])
        except OSError as error:
            self._warn(path, "owner", error)
        self._put_xattrs(link, path, xattrs)
        try:
            os.utime(link, ns=(row[MTIME], row[MTIME]))
        except OSError as error:
            self._warn(path, "attributes", error)

    # ----------------------------------------------------------------------------------------------- pieces

    def _set(self, target: int | bytes, path: bytes, row: Row, xattrs: Xattrs, *, owned: bool, exactly: bool) -> None:
        """Set everything through a descriptor, or through a path that stands for one."""
        mode = row[MODE] & 0o7777
        if not owned and not self._chown(target, path, row) and mode & _SET_IDS and not stat.S_ISDIR(row[MODE]):
            # A setuid program of root's must not become one of the restoring user's.
            mode &= ~_SET_IDS
            self._warnings.add(path, "mode", "setuid and setgid bits left out: the owner could not be set")
        if xattrs or exactly:
            self._set_xattrs(target, path, xattrs, exactly=exactly)
        try:
            os.chmod(target, mode)
            os.utime(target, ns=(row[MTIME], row[MTIME]))
        except OSError as error:
            self._warn(path, "attributes", error)

    def _chown(self, target: int | bytes, path: bytes, row: Row) -> bool:
        """Set owner and group; return whether they are set."""
        if not self._may_chown(path, row):
            return False
        try:
            os.chown(target, row[UID], row[GID])
        except OSError as error:
            self._warn(path, "owner", error)
            return False
        return True

    def _may_chown(self, path: bytes, row: Row) -> bool:
        if not self._powers.is_root:
            if not self._owner_warned:
                self._owner_warned = True
                self._warnings.add(path, "owner", "owners not set, of this and all other files: only root can")
            return False
        if _NOBODY in (row[UID], row[GID]):
            self._warnings.add(path, "owner", f"owner not set: {row[UID]}:{row[GID]} is none that a file can have")
            return False
        return True

    def _set_xattrs(self, target: int | bytes, path: bytes, xattrs: Xattrs, *, exactly: bool) -> None:
        wanted = {os.fsdecode(name) for name, _ in xattrs}
        try:
            # Only ACLs come by themselves, from the folder above; other names may be the system's own (SELinux).
            for name in set(os.listxattr(target)) - wanted if exactly else ():
                if name in ACLS or name.startswith("user."):
                    drop_xattr(target, name)
        except OSError as error:
            self._warn(path, "xattr", error)
        self._put_xattrs(target, path, xattrs)

    def _put_xattrs(self, target: int | bytes, path: bytes, xattrs: Xattrs) -> None:
        for key, value in xattrs:
            try:
                os.setxattr(target, key, value)
            except (OSError, ValueError) as error:
                self.unset_xattrs.add(os.fsdecode(key))
                self._warn(path, "xattr", error, what=f"extended attribute {os.fsdecode(key)!r}")

    def _warn(self, path: bytes, code: str, error: Exception, what: str = "") -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._warnings.add(path, code, f"{what or code} not set: {reason.lower()}")
