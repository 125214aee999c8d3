"""Write a file durably, and give it its name without ever taking another's.

The pieces of a local put, kept apart from the store: each is one system-call idea with its fallbacks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

from coffer.backends.base import Buffer
from coffer.backends.temporaries import Temporary
from coffer.errors import BackendLocationError

# Most parts that one writev takes [1024 on Linux]; POSIX promises 16.
IOV_MAX = max(16, os.sysconf("SC_IOV_MAX"))
# Bytes handed to one writev. Linux fills its page cache in the largest pages that one call covers: with 4 MiB a call,
# 64 MB on ext4 took 0.17 CPU-seconds on a virtual machine, with 512 KiB 0.02. It also lets a throttled sequence of
# parts be written as it is paced, and not in one burst at its end.
BATCH_BYTES = 512 << 10

# What link() answers on file systems without hard links: vfat and exfat EPERM, some network ones the others.
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
# What renameat2() answers where the kernel or the file system does not know RENAME_NOREPLACE.
_NO_NOREPLACE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
# What fsync() of a directory answers where there is no such thing (some network and FUSE file systems).
_NO_DIRECTORY_FSYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF})

_RENAME_NOREPLACE = 1


def write_parts(fd: int, parts: Iterable[Buffer]) -> int:
    """Write the concatenation of `parts` without joining them; return its length [bytes].

    Raises:
        OSError: From the system; any part of the data may have been written.
    """
    written_bytes = 0
    for batch in _batches(parts):
        written_bytes += _write_batch(fd, batch)
    return written_bytes


def _batches(parts: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    """Yield lists of at most IOV_MAX byte views, of BATCH_BYTES together (the last less); empty parts are left out."""
    batch: list[memoryview] = []
    room_bytes = BATCH_BYTES
    for part in parts:
        view = memoryview(part)
        if view.nbytes == 0:
            continue
        view = view.cast("B")
        start = 0
        while start < view.nbytes:
            piece = view[start : start + room_bytes]
            batch.append(piece)
            start += piece.nbytes
            room_bytes -= piece.nbytes
            if room_bytes == 0 or len(batch) == IOV_MAX:
                yield batch
                batch, room_bytes = [], BATCH_BYTES
    if batch:
        yield batch


def _write_batch(fd: int, batch: list[memoryview]) -> int:
    total_bytes = 0
    while batch:
        count = os.writev(fd, batch)
        total_bytes += count
        done = 0
        while done < len(batch) and count >= batch[done].nbytes:
            count -= batch[done].nbytes
            done += 1
        # A short write (signal, nearly full disk) goes on in the middle of a part; if the disk is full the next call
        # says so.
        del batch[:done]
        if count:
            batch[0] = batch[0][count:]
    return total_bytes


def fsync_directory(fd: int) -> None:
    """Make the entries of a directory durable, where the file system knows how.

    Raises:
        OSError: The entries may not be durable.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise


def publish(temp: Temporary, name: str, dir_fd: int) -> None:
    """Give a temporary its final name if that is free.

    Exactly one of several callers gets the name: link(2) and renameat2(2) with RENAME_NOREPLACE both fail with EEXIST
    in the kernel, there is no moment between look and leap.

    Raises:
        FileExistsError: The name is taken by another file.
        BackendLocationError: The file system offers neither hard links nor a rename that does not replace.
        OSError: From the system.
    """
    try:
        os.link(temp.name, name, src_dir_fd=temp.dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    except FileExistsError:
        # NFS may send a link twice and report the failure of the second: it is ours if it is the file we wrote.
        # Source: open(2), O_EXCL on NFS.
        if not _is_same_file(name, dir_fd, os.fstat(temp.fd)):
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _publish_by_rename(temp, name, dir_fd)


def _publish_by_rename(temp: Temporary, name: str, dir_fd: int) -> None:
    try:
        rename_noreplace(temp.name, temp.dir_fd, name, dir_fd)
    except OSError as error:
        if error.errno not in _NO_NOREPLACE:
            raise
        raise BackendLocationError(
            "store: its file system offers neither hard links nor a rename that does not replace",
            hint="Put the repository on ext4, XFS, Btrfs, ZFS or NFS.",
        ) from error
    temp.moved = True


def _is_same_file(name: str, dir_fd: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=dir_fd, follow_symlinks=False), status)
    except FileNotFoundError:
        return False


def rename_noreplace(old: str, old_dir_fd: int, new: str, new_dir_fd: int) -> None:
    """Rename unless the new name is taken.

    Raises:
        FileExistsError: It is taken.
        OSError: From the system; ENOSYS where the C library has no renameat2 (before glibc 2.28).
    """
    # ctypes costs 10 ms to import, and is needed on the few file systems without hard links only.
    import ctypes

    libc: Any = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new)
    if renameat2(old_dir_fd, os.fsencode(old), new_dir_fd, os.fsencode(new), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)
