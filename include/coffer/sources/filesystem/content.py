"""Read a file's content into the repository; notice whatever happens to the file meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from coffer.chunking.cutter import Cutter
from coffer.crypto.hashing import IdKeys
from coffer.ids import ContentId
from coffer.progress import Progress
from coffer.repository.blocks import CTIME, DEV, INO, MTIME, SIZE, Row
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly.bundle import Bundle, Bundler, Known
from coffer.sources.assembly.extents import LargeContent, PendingContent, SmallContent
from coffer.sources.assembly.result import WarningLog
from coffer.sources.filesystem.folder import OpenFolder, VanishedError
from coffer.sources.filesystem.parent import Found
from coffer.sources.filesystem.walk import make_row

# O_NONBLOCK: a fifo put in the file's place must not hang us.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TRIES = 3  # of reading a small file that changes under the reading
_MAX_XATTR_BYTES = 8 << 20  # of one file: with them its entry fits in a chunk (XFS and Btrfs take more)
_MIN_SPARSE_BYTES = 4096  # no file system has holes below this

Xattrs = tuple[tuple[bytes, bytes], ...]
KnownElsewhere = Callable[[ContentId, Found | None], tuple[Known, int] | None]


class ContentReader:
    """Reads files for one run. Not thread-safe."""

    def __init__(
        self,
        writer: ChunkWriter,
        bundler: Bundler,
        ids: IdKeys,
        cutter: Cutter,
        bundle_below_bytes: int,
        progress: Progress,
        check_stop: Callable[[], None],
        known_elsewhere: KnownElsewhere,
        warnings: WarningLog,
    ) -> None:
        self._writer, self._bundler, self._ids, self._cutter = writer, bundler, ids, cutter
        self._bundle_below_bytes = bundle_below_bytes
        self._progress = progress
        self._check_stop = check_stop
        self._known_elsewhere = known_elsewhere
        self._warnings = warnings
        self._flags = _FLAGS | getattr(os, "O_NOATIME", 0)
        self.read_bytes = 0

    def read(
        self, folder: OpenFolder, name: bytes, row: Row, found: Found | None
    ) -> tuple[PendingContent | None, Row, bool, Xattrs]:
        """Read one regular file.

        Args:
            folder: Where it is.
            name: In the folder.
            row: As the walk saw it.
            found: What the parent has at this path.

        Returns:
            (content, None where it is empty; the row as it was read; whether it changed under the reading; xattrs).

        Raises:
            VanishedError: It is gone, or is another file now; or its folder is.
            OSError: It cannot be read.
        """
        try:
            fd = os.open(name, self._flags, dir_fd=folder.fd)
        except OSError as error:
            fd = self._open_otherwise(folder, name, error)
        try:
            size = row[SIZE]
            if size < self._bundle_below_bytes:
                data = os.read(fd, size + 1)
                status = os.fstat(fd)
                # The common case, spelt out: the loop over small files is what a backup of many of them costs.
                calm = (
                    len(data) == size
                    and status.st_ctime_ns == row[CTIME]
                    and status.st_mtime_ns == row[MTIME]
                    and status.st_ino == row[INO]
                    and status.st_dev == row[DEV]
                )
                read = self._take_small(fd, data, status, row, found) if calm else self._read_restless(fd, row, found)
                if read is not None:
                    return read[0], read[1], read[2], read_xattrs(fd, folder.path_of(name), self._warnings)
            content, row, changed = self._read_large(fd, row)
            return content, row, changed, read_xattrs(fd, folder.path_of(name), self._warnings)
        finally:
            os.close(fd)

    def _open_otherwise(self, folder: OpenFolder, name: bytes, error: OSError) -> int:
        """Try again without O_NOATIME, which is for owners only; or say what an open that failed means."""
        if isinstance(error, PermissionError):
            return os.open(name, _FLAGS, dir_fd=folder.fd)
        if isinstance(error, FileNotFoundError):
            raise VanishedError("gone before it was read") from None
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            raise VanishedError("another kind of file took its place") from None
        raise error

    def _take_small(
        self, fd: int, data: bytes, status: os.stat_result, row: Row, found: Found | None
    ) -> tuple[PendingContent | None, Row, bool] | None:
        """Bundle what was read in one piece. None where the file is sparse."""
        size = len(data)
        if not size:
            return None, row, False
        if status.st_blocks * 512 < size and size > _MIN_SPARSE_BYTES and has_holes(fd, size):
            return None
        self.read_bytes += size
        return self._bundle(data, found), row, False

    def _read_restless(self, fd: int, row: Row, found: Found | None) -> tuple[PendingContent | None, Row, bool] | None:
        """Read a small file that is not as the walk saw it. None where it has grown out of the small, or is sparse."""
        before = make_row(os.fstat(fd))
        for _ in range(_TRIES):
            _require_same_file(before, row)
            if before[SIZE] >= self._bundle_below_bytes:
                return None
            data = os.pread(fd, before[SIZE] + 1, 0)
            status = os.fstat(fd)
            after = make_row(status)
            calm = after == before and len(data) == before[SIZE]
            if calm:
                break
            before = after
        taken = self._take_small(fd, data, status, after, found)
        return None if taken is None else (taken[0], _with_size(after, len(data)), not calm)

    def _bundle(self, data: bytes, found: Found | None) -> PendingContent:
        content_id = self._ids.content_id(data)
        where: tuple[Bundle | Known, int] | None = self._bundler.find(content_id)
        if where is None:
            where = self._known_elsewhere(content_id, found)
            if where is not None:
                self._bundler.remember(content_id, where)
        if where is None:
            where = self._bundler.add(data, content_id)
        return SmallContent(content_id, where[0], where[1], len(data))

    def _read_large(self, fd: int, row: Row) -> tuple[PendingContent | None, Row, bool]:
        """Stream a file; holes stay holes."""
        status = os.fstat(fd)
        before = make_row(status)
        _require_same_file(before, row)
        content = LargeContent(self._ids, self._writer)
        at = 0
        for start, stop in data_ranges(fd, status):
            if start > at:
                content.add_hole(start - at)
            at = start
            for data in self._cutter.cut(_limited_reader(fd, start, stop)):
                self._check_stop()
                content.add(data, whole=len(data) == status.st_size)
                at += len(data)
                self.read_bytes += len(data)
                self._progress.bytes_done += len(data)
        after = make_row(os.fstat(fd))
        if at < after[SIZE] and after == before:
            content.add_hole(after[SIZE] - at)  # the hole at the end
            at = after[SIZE]
        return content if at else None, _with_size(after, at), after != before


def _require_same_file(now: Row, row: Row) -> None:
    """A path below a folder that was swapped leads elsewhere: what it leads to is not this entry's content."""
    if (now[INO], now[DEV]) != (row[INO], row[DEV]) or not stat.S_ISREG(now[0]):
        raise VanishedError("another file took its place while it was read")


def _with_size(row: Row, size: int) -> Row:
    """The entry says what was read: of a file that grows, not what it became."""
    if row[SIZE] == size:
        return row
    mode, uid, gid, _, ino, dev, nlink, mtime, ctime = row
    return mode, uid, gid, size, ino, dev, nlink, mtime, ctime


def has_holes(fd: int, size: int) -> bool:
    """Say whether a file has holes, by asking the file system (lseek(2), SEEK_HOLE)."""
    try:
        return os.lseek(fd, 0, os.SEEK_HOLE) < size
    except OSError:
        return False


def data_ranges(fd: int, status: os.stat_result) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) of a file's data [bytes], rising; all of it where the file system cannot tell.

    The last range is open-ended (stop beyond any size) so that a file that grows is read on to its end.
    """
    endless = 1 << 62
    if status.st_blocks * 512 >= status.st_size or not has_holes(fd, status.st_size):
        yield 0, endless
        return
    at = 0
    while at < status.st_size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        stop = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, stop
        at = stop


def _limited_reader(fd: int, start: int, stop: int) -> Callable[[memoryview], int]:
    at = start

    def readinto(view: memoryview) -> int:
        nonlocal at
        count = os.preadv(fd, [view[: min(len(view), stop - at)]], at)
        at += count
        return count

    return readinto


def read_special(folder_fd: int, name: bytes, mode: int) -> tuple[int, bytes]:
    """Return (device number, link target) of a file that is no regular one; 0 and nothing where it has none.

    Raises:
        VanishedError: It is of another kind now.
        OSError: It cannot be read.
    """
    if stat.S_ISLNK(mode):
        try:
            return 0, os.readlink(name, dir_fd=folder_fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise VanishedError("another kind of file took its place") from None
            raise
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        status = os.lstat(name, dir_fd=folder_fd)
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(mode):
            raise VanishedError("another kind of file took its place")
        return status.st_rdev, b""
    return 0, b""


def read_xattrs(target: int | bytes, path: bytes, warnings: WarningLog) -> Xattrs:
    """Return all extended attributes, sorted by name: POSIX ACLs and capabilities are among them.

    A file system without them has none. One that cannot be read is a warning; the file is saved without it.

    Args:
        target: The file's descriptor, or its path where it need not be opened.
        path: Its path, for the warning.
        warnings: Where that goes.

    Raises:
        FileNotFoundError: The file is gone.
    """
    follow = isinstance(target, int)  # a descriptor is the file itself; a path may be a link's
    try:
        names = os.listxattr(target) if follow else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF):
            warnings.add(path, "xattr", f"extended attributes: {error.strerror}")
        return ()
    if not names:
        return ()
    pairs: list[tuple[bytes, bytes]] = []
    room = _MAX_XATTR_BYTES
    for name in sorted(names):
        try:
            value = os.getxattr(target, name) if follow else os.getxattr(target, name, follow_symlinks=False)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            if error.errno != errno.ENODATA:  # that one was removed since it was listed
                warnings.add(path, "xattr", f"extended attribute {name!r}: {error.strerror}")
            continue
        room -= len(name) + len(value)
        if room < 0:
            text = (
                f"extended attributes: more than {_MAX_XATTR_BYTES} bytes, saved without {name!r} and what follows it"
            )
            warnings.add(path, "xattr", text)
            break
        pairs.append((os.fsencode(name), value))
    return tuple(pairs)
