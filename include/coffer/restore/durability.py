"""Flush what was written to the disks: once per file system, at the end."""

from __future__ import annotations

import os

from coffer.errors import RestoreError
from coffer.restore.folders import Folders

_HINT = "Look at the system's log for errors of the disk, then restore again with --overwrite changed --verify."


def flush_file_systems(folders: Folders) -> None:
    """Make everything durable that was written below the target.

    One syncfs(2) for each file system that was entered, not one fsync(2) for each file: the disk can then order its
    writes. Where the C library has no syncfs, all file systems are flushed.

    Raises:
        RestoreError: A disk reported an error while it wrote; which file it was is not known.
    """
    import ctypes  # 10 ms, paid once per restore

    libc = ctypes.CDLL(None, use_errno=True)
    syncfs = getattr(libc, "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    for path in folders.devices.values():
        with folders.opened(path) as folder:
            if syncfs(folder.fd) != 0:
                reason = os.strerror(ctypes.get_errno()).lower()
                raise RestoreError(f"target: its disk could not be flushed ({reason})", hint=_HINT)
