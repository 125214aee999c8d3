"""Writing into a data folder by descriptors: no link in it is followed, and a file is there whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coffer.errors import RestoreSpaceError, RestoreTargetError
from coffer.restore.durability import flush_file_systems
from coffer.restore.files import FULL, PRIVATE, temporary_name
from coffer.restore.folders import OPEN_FOLDER, Folder, Folders, is_folder, look
from coffer.restore.pagecache import write_all

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_CONFIG_BYTES = 16 << 20


class DataFolder:
    """A folder that a cluster lives in: the data folder, or that of a tablespace. Thread-safe.

    Attributes:
        path: Where it is.
        folders: Its folders, by descriptor.
        owner: (uid, gid) that new files get; None: of this process.
    """

    def __init__(self, path: Path, owner: tuple[int, int] | None) -> None:
        """Open it; it is made private (0700) and given to its owner, with parents that are missing.

        Raises:
            RestoreTargetError: It cannot be made or opened.
        """
        self.path, self.owner = path, owner if os.geteuid() == 0 else None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, OPEN_FOLDER)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RestoreTargetError(f"target {path}: cannot be used ({reason})", hint="Give another folder.") from None
        self.folders = Folders(fd, lambda _: False)
        self._fd = fd
        self.take_over(fd, 0o700)

    def close(self) -> None:
        """Close all descriptors."""
        self.folders.close()

    def flush(self) -> None:
        """Make everything durable.

        Raises:
            RestoreError: A disk reported an error.
        """
        flush_file_systems(self.folders)

    def take_over(self, fd: int, mode: int) -> None:
        """Give a new file or folder its owner and mode."""
        if self.owner is not None:
            os.fchown(fd, *self.owner)
        os.fchmod(fd, mode)

    @contextmanager
    def opened(self, path: bytes) -> Iterator[Folder]:
        """Hold a folder open; what is missing of it is made, and what is no folder is replaced by one.

        Raises:
            OSError: It cannot be made.
        """
        folder = self.folders.acquire(b"")
        for name in path.split(b"/") if path else ():
            above = folder
            try:
                folder = self._step(above, name)
            finally:
                self.folders.release(above)
        try:
            yield folder
        finally:
            self.folders.release(folder)

    def _step(self, above: Folder, name: bytes) -> Folder:
        path = above.path + b"/" + name if above.path else name
        there = look(above, name)
        if not is_folder(there):
            self.folders.forget(path)
            if there is not None:
                os.unlink(name, dir_fd=above.fd)
            self.folders.make(above, name)
            folder = self.folders.acquire(path)
            self.take_over(folder.fd, 0o700)
            return folder
        return self.folders.acquire(path)

    @contextmanager
    def new_file(self, folder: Folder, name: bytes, mode: int = PRIVATE) -> Iterator[int]:
        """Make a file in place of what has its name; it gets the name when the work within has ended.

        Raises:
            RestoreSpaceError: The disk is full; what was there before still is.
            OSError: From the system; likewise.
        """
        temporary = temporary_name()
        fd = os.open(temporary, _CREATE, PRIVATE, dir_fd=folder.fd)
        try:
            try:
                yield fd
                self.take_over(fd, mode)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder.fd)
            if isinstance(error, OSError) and error.errno in FULL:
                raise RestoreSpaceError(f"target {self.path}: no space left ({error.strerror})") from None
            raise

    def write(self, path: bytes, content: bytes, mode: int = PRIVATE, *, sync: bool = False) -> None:
        """Write a file whole, in place of what has its name.

        Args:
            path: Relative to the folder.
            content: Of the file.
            mode: Of the file.
            sync: On return it is durable, and so is its name.

        Raises:
            RestoreSpaceError, OSError: As `new_file`.
        """
        above, _, name = path.rpartition(b"/")
        with self.opened(above) as folder:
            with self.new_file(folder, name, mode) as fd:
                write_all(fd, memoryview(content))
                if sync:
                    os.fsync(fd)
            if sync:
                os.fsync(folder.fd)

    def link(self, path: bytes, target: Path) -> None:
        """Make a symbolic link in place of what has its name, unless it is there."""
        above, _, name = path.rpartition(b"/")
        with self.opened(above) as folder:
            there = look(folder, name)
            if there is not None:
                if stat.S_ISLNK(there.st_mode) and os.readlink(name, dir_fd=folder.fd) == os.fsencode(target):
                    return
                self.folders.forget(path)
                remove(folder.fd, name)
            os.symlink(os.fsencode(target), name, dir_fd=folder.fd)
            if self.owner is not None:
                os.chown(name, *self.owner, dir_fd=folder.fd, follow_symlinks=False)

    def read(self, path: bytes) -> bytes | None:
        """Return a small file's content; None where there is no such file."""
        above, _, name = path.rpartition(b"/")
        with self.opened(above) as folder:
            try:
                fd = os.open(name, _READ, dir_fd=folder.fd)
            except OSError:
                return None
            with open(fd, "rb") as file:
                return file.read(MAX_CONFIG_BYTES)

    def discard(self, path: bytes, *, sync: bool = False) -> int:
        """Remove a file, or a folder with all in it, if it is there; return the count of files."""
        above, _, name = path.rpartition(b"/")
        with self.opened(above) as folder:
            if look(folder, name) is None:
                return 0
            self.folders.forget(path)
            count = remove(folder.fd, name)
            if sync:
                os.fsync(folder.fd)
            return count

    def give_to(self, owner: tuple[int, int]) -> None:
        """Give everything in it, and itself, to an owner; links themselves and not what they lead to."""
        os.fchown(self._fd, *owner)
        _give(self._fd, owner)


def remove(parent_fd: int, name: bytes) -> int:
    """Remove a file, or a folder with all in it; follows no link. Returns the count of files."""
    try:
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent_fd)
    except OSError:
        os.unlink(name, dir_fd=parent_fd)
        return 1
    try:
        count = sum(remove(fd, child) for child in map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)
    return count


def _give(fd: int, owner: tuple[int, int]) -> None:
    for name in os.listdir(fd):
        os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        try:
            below = os.open(name, OPEN_FOLDER, dir_fd=fd)
        except OSError:  # no folder
            continue
        try:
            _give(below, owner)
        finally:
            os.close(below)
