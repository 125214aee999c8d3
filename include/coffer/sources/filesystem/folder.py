"""Folders held open: what is in them is reached by its name, and not by a path that may come to lead elsewhere."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from coffer.repository.blocks import Group

_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LIST_FLAGS = os.O_RDONLY | _FLAGS
REACH_FLAGS = os.O_PATH | _FLAGS  # what is in the folder can be opened; the folder's own read permission is not needed

Identity = tuple[int, int]


class VanishedError(Exception):
    """The file is gone, or another stands in its place: an entry of it would be untrue."""


@dataclass(slots=True)
class ListedFolder(Group):
    """A group as the walk made it.

    Attributes:
        identity: (device, inode) of the folder that was listed; None where only the way to a source's path was looked
            at.
    """

    identity: Identity | None = None


def identity_of(status: os.stat_result) -> Identity:
    """Return what a file is known by."""
    return status.st_dev, status.st_ino


def open_folder(path: bytes, expected: Identity | None, flags: int) -> tuple[int, Identity]:
    """Open a folder, and see that it is the one that was met before.

    Another folder is taken too where it stands at this very path, no link in between: a file system that is mounted by
    being looked at, or a folder that was replaced.

    Args:
        path: Absolute.
        expected: What it was; None where nothing is known.
        flags: LIST_FLAGS or REACH_FLAGS.

    Returns:
        (descriptor, what it is).

    Raises:
        VanishedError: A link or another kind of file stands there, or the path leads elsewhere.
        OSError: It cannot be opened.
    """
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise VanishedError("another kind of file took its place") from None
        raise
    try:
        found = identity_of(os.fstat(fd))
        if expected is not None and found != expected and not _stands_at(fd, path):
            raise VanishedError("another folder took its place")
    except BaseException:
        os.close(fd)
        raise
    return fd, found


def _stands_at(fd: int, path: bytes) -> bool:
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd) == path
    except OSError:  # no /proc here: nothing shows that no link led there
        return False


class OpenFolder:
    """A folder whose files are read; opened when the first of them is. Holds one descriptor until it is closed."""

    __slots__ = ("_expected", "_fd", "_prefix")

    def __init__(self, group: ListedFolder) -> None:
        self._prefix = b"/" + group.folder + b"/" if group.folder else b"/"
        self._expected = group.identity
        self._fd = -1

    @property
    def fd(self) -> int:
        """The descriptor.

        Raises:
            VanishedError: It is not the folder that was listed.
            OSError: It cannot be opened.
        """
        if self._fd < 0:
            self._fd, _ = open_folder(self._prefix.rstrip(b"/") or b"/", self._expected, REACH_FLAGS)
        return self._fd

    def path_of(self, name: bytes) -> bytes:
        """Return the absolute path of a name in it."""
        return self._prefix + name

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
