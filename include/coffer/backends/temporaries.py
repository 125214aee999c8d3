"""Temporaries of puts: how they are made, and how those of killed writers are told from live ones and removed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat as stat_module
from contextlib import suppress

# Below the root, and so on the same file system as every object. One folder for all: looking for leftovers is one
# listing, where temporaries beside their objects would mean one for each of 256 folders.
TEMP_FOLDER = ".tmp"

# A temporary that nobody wrote to for so long, and nobody holds the lock of, is a killed writer's. The lock alone would
# do on a local disk; the age covers file systems where locks do not reach other machines. [ns; 6 h]
STALE_AGE_NS = 6 * 3600 * 1_000_000_000

_TEMP_NAME = re.compile(r"[0-9]{1,10}-[0-9a-f]{32}\.part")


class Temporary:
    """A new, empty, locked file of ours in the folder of temporaries; closed and removed on leaving the context.

    The mode is 0400 from the start: it binds later opens only, and spares a call before publishing.

    Args:
        temp_dir_fd: The folder of temporaries; stays the caller's.

    Attributes:
        name: The file's name in that folder.
        fd: Its descriptor, for writing.
        dir_fd: The folder.
        moved: To be set when the file was renamed away, so that there is nothing to remove.

    Raises:
        OSError: Nothing was made.
    """

    def __init__(self, temp_dir_fd: int) -> None:
        self.name = f"{os.getpid()}-{os.urandom(16).hex()}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self.name, flags, 0o400, dir_fd=temp_dir_fd)
        self.dir_fd = temp_dir_fd
        self.moved = False
        # A file system without locks is no reason not to back up: there, leftovers are told by age alone.
        with suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> Temporary:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary name as well as may be (a leftover is swept by a later run), and close the file."""
        if not self.moved:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self.dir_fd)
        os.close(self.fd)


def sweep_temporaries(temp_dir_fd: int) -> int:
    """Remove the temporaries of killed writers; return how many.

    Should a live writer's be hit after all (frozen for hours, on a file system without locks), its publishing fails as
    transient and is tried again from the start: nothing is lost but time. Errors are passed over, since leftovers cost
    space only.

    Args:
        temp_dir_fd: The folder of temporaries.
    """
    removed = 0
    with suppress(OSError):
        # The age is told by the store's own clock, which a network file system sets: touch the folder and look. This
        # works on a full disk too, where a leftover may be what fills it.
        os.utime(temp_dir_fd)
        now_ns = os.fstat(temp_dir_fd).st_mtime_ns
        for name in os.listdir(temp_dir_fd):
            if _TEMP_NAME.fullmatch(name) is None:
                continue
            with suppress(OSError):
                if _is_abandoned(name, temp_dir_fd, now_ns):
                    os.unlink(name, dir_fd=temp_dir_fd)
                    removed += 1
    return removed


def _is_abandoned(name: str, temp_dir_fd: int, now_ns: int) -> bool:
    status = os.stat(name, dir_fd=temp_dir_fd, follow_symlinks=False)
    if not stat_module.S_ISREG(status.st_mode) or now_ns - status.st_mtime_ns < STALE_AGE_NS:
        return False
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=temp_dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return True
