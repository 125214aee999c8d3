"""Folders of the target as descriptors: each opened relative to the one above it, no symbolic link followed (I11).

No path that a snapshot names is ever given to the system whole. So a link in the target, one that the snapshot itself
put there, or one that somebody swaps in while the restore runs, leads nowhere: its folder cannot be opened.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from coffer.errors import RestoreTargetError, RestoreUnsafePathError

CAPACITY = 128  # idle folders kept open; far below the usual limit of 1024 descriptors
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE = 0o700  # of a folder until its attributes are set: nobody else gets in before
ACL_DEFAULT = "system.posix_acl_default"
ACL_ACCESS = "system.posix_acl_access"
_UNSAFE = frozenset((b"", b".", b".."))


def unsafe_name(name: bytes) -> bool:
    """Say whether a name of a manifest is no plain name of one entry."""
    return name in _UNSAFE or b"/" in name or b"\0" in name


def all_safe(names: Sequence[bytes]) -> bool:
    """Say whether no name is unsafe; some times as fast as asking of each."""
    joined = b"".join(names)
    return _UNSAFE.isdisjoint(names) and b"/" not in joined and b"\0" not in joined


def require_safe_folder(path: bytes) -> None:
    """Check a manifest's path of a folder, component by component; empty is the root.

    Raises:
        RestoreUnsafePathError: It is absolute, or has an empty component, ``.`` or ``..``.
    """
    if path and any(unsafe_name(part) for part in path.split(b"/")):
        raise RestoreUnsafePathError(f"folder {os.fsdecode(path)!r}: not a path below the target")


class Folder:
    """An open folder of the target.

    Where this run made it, what a new file in it gets follows from the folder above and is not asked for again.

    Attributes:
        path: Below the target, as in the snapshot.
        fd: Its descriptor.
        fresh: Made by this run, or the target was empty: nobody else's file can be in it.
        gid: Group that a new file in it gets for certain; -1 where that is not certain (setgid, mount options).
        inherits_acl: New files in it get an ACL that the snapshot may not have.
        users: Who is using it just now.
        dropped: The cache has let go of it; the last user closes it.
    """

    __slots__ = ("dropped", "fd", "fresh", "gid", "inherits_acl", "path", "users")

    def __init__(self, path: bytes, fd: int, *, fresh: bool, gid: int, inherits_acl: bool) -> None:
        self.path, self.fd, self.fresh, self.gid, self.inherits_acl = path, fd, fresh, gid, inherits_acl
        self.users = 1
        self.dropped = False


def sure_gid(status: os.stat_result) -> int:
    """Return the group that a new file in a folder gets, -1 where that is not certain.

    With setgid, or on a file system mounted "grpid", it is the folder's; else the user's. Where these are the same,
    every rule agrees.
    """
    return status.st_gid if status.st_gid == os.getegid() else -1


def has_default_acl(fd: int) -> bool:
    """Say whether new files in a folder inherit an ACL."""
    try:
        return ACL_DEFAULT in os.listxattr(fd)
    except OSError:
        return False


class Folders:
    """Opens and makes folders below the target; keeps the last ones open. Thread-safe.

    Args:
        root_fd: The target; owned by this object from here on.
        is_fresh: Says of a path whether this run made that folder.
        forbidden: (device, inode) of a folder that must not be entered: the repository's own.
        capacity: Idle folders kept open.
    """

    def __init__(
        self,
        root_fd: int,
        is_fresh: Callable[[bytes], bool],
        *,
        forbidden: tuple[int, int] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self._is_fresh = is_fresh
        self._forbidden = forbidden
        self._capacity = capacity
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, Folder] = OrderedDict()
        status = os.fstat(root_fd)
        acl = has_default_acl(root_fd)
        self._root = Folder(b"", root_fd, fresh=is_fresh(b""), gid=sure_gid(status), inherits_acl=acl)
        self._root.users = 1 << 60  # never closed but by close()
        self.devices: dict[int, bytes] = {status.st_dev: b""}  # a folder on each file system that was entered

    def close(self) -> None:
        """Close every descriptor. Nobody may be using a folder."""
        with self._lock:
            for folder in self._open.values():
                os.close(folder.fd)
            self._open.clear()
        os.close(self._root.fd)

    @contextmanager
    def opened(self, path: bytes) -> Iterator[Folder]:
        """Hold a folder open; see `acquire`."""
        folder = self.acquire(path)
        try:
            yield folder
        finally:
            self.release(folder)

    def acquire(self, path: bytes) -> Folder:
        """Return an open folder, to be given back by `release`.

        Raises:
            OSError: It is not there (ENOENT), or is no folder: a link counts as none (ENOTDIR, ELOOP).
            RestoreTargetError: It is the repository's own folder.
        """
        folder, rest = self._deepest_open(path)
        for name in rest:
            above = folder
            try:
                folder = self._open_below(above, name)
            finally:
                self.release(above)
        return folder

    def _deepest_open(self, path: bytes) -> tuple[Folder, list[bytes]]:
        """Return the nearest folder at or above `path` that is open, in use now, and the names below it."""
        rest: list[bytes] = []
        with self._lock:
            while path:
                folder = self._open.get(path)
                if folder is not None:
                    folder.users += 1
                    self._open.move_to_end(path)
                    rest.reverse()
                    return folder, rest
                path, _, name = path.rpartition(b"/")
                rest.append(name)
        rest.reverse()
        return self._root, rest

    def _open_below(self, parent: Folder, name: bytes) -> Folder:
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent.fd)
        path = parent.path + b"/" + name if parent.path else name
        if parent.gid != -1 and self._is_fresh(path):
            folder = Folder(path, fd, fresh=True, gid=parent.gid, inherits_acl=False)
            self._keep(folder)
            return folder
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == self._forbidden:
                raise RestoreTargetError(
                    f"folder {os.fsdecode(path)!r}: is the repository itself",
                    hint="Choose another target, or leave the repository's folder out with --exclude.",
                )
            acl = has_default_acl(fd)
            folder = Folder(path, fd, fresh=self._is_fresh(path), gid=sure_gid(status), inherits_acl=acl)
        except BaseException:
            os.close(fd)
            raise
        with self._lock:
            self.devices.setdefault(status.st_dev, path)
        self._keep(folder)
        return folder

    def release(self, folder: Folder) -> None:
        """Give a folder back."""
        with self._lock:
            folder.users -= 1
            if folder.dropped and not folder.users:
                os.close(folder.fd)

    def make(self, parent: Folder, name: bytes) -> None:
        """Make a folder, private until its attributes are set.

        Raises:
            FileExistsError: The name is taken.
            OSError: It cannot be made.
        """
        os.mkdir(name, PRIVATE, dir_fd=parent.fd)
        if parent.inherits_acl:
            self._drop_inherited_acl(parent, name)

    def _drop_inherited_acl(self, parent: Folder, name: bytes) -> None:
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent.fd)
        try:
            for attribute in (ACL_DEFAULT, ACL_ACCESS):
                drop_xattr(fd, attribute)
        finally:
            os.close(fd)

    def _keep(self, folder: Folder) -> None:
        with self._lock:
            before = self._open.pop(folder.path, None)
            if before is not None:  # another thread was faster: both are the same folder, the younger one stays
                self._drop(before)
            self._open[folder.path] = folder
            while len(self._open) > self._capacity:
                self._drop(self._open.popitem(last=False)[1])

    def _drop(self, folder: Folder) -> None:
        folder.dropped = True
        if not folder.users:
            os.close(folder.fd)

    def forget(self, path: bytes) -> None:
        """Let go of a folder whose place is about to be taken by something else."""
        with self._lock:
            folder = self._open.pop(path, None)
            if folder is not None:
                self._drop(folder)


def drop_xattr(fd: int | bytes, name: str) -> None:
    """Remove an extended attribute; it need not be there, nor need the file system have any."""
    try:
        os.removexattr(fd, name)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


def look(folder: Folder, name: bytes) -> os.stat_result | None:
    """Return lstat of a name in a folder, or None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_folder(status: os.stat_result | None) -> bool:
    """Say whether something is there and is a folder."""
    return status is not None and stat.S_ISDIR(status.st_mode)
