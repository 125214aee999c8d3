"""Let ext4 lay a restored tree where no files were deleted a moment ago.

For some minutes ext4 does not use the inode of a deleted file again: it looks for a free one behind it, one after
another (`recently_deleted` in Linux' fs/ext4/ialloc.c). New folders come to lie beside their parent, so who deletes a
damaged tree and restores it at once meets all of its inodes: creating 60,000 files took 17 to 30 s instead of 1.1 s
(Linux 6.18). A folder with the flag FS_TOPDIR_FL (`chattr +T`) has its subfolders spread over the whole disk, each by
its name, and what is in them lies beside them. So the target has it while it is filled (docs/adr/0035).
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
from types import TracebackType

# linux/fs.h
_GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS
_SET_FLAGS = 0x40086602  # FS_IOC_SETFLAGS
_TOP_OF_TREE = 0x00020000  # FS_TOPDIR_FL
_FLAGS = struct.Struct("=I4x")  # the ioctls read and write an int; the number is defined with a long's size


class Spreading:
    """Sets the flag of a folder, and takes it back. Where the file system has no such flag nothing happens.

    A run that is killed leaves it: it changes where later subfolders are laid, and nothing else.
    """

    def __init__(self, fd: int) -> None:
        """Work on an open folder; its descriptor must stay open until the end."""
        self._fd = fd
        self._is_set = False

    def __enter__(self) -> Spreading:
        with contextlib.suppress(OSError):
            flags = self._read()
            if not flags & _TOP_OF_TREE:
                fcntl.ioctl(self._fd, _SET_FLAGS, _FLAGS.pack(flags | _TOP_OF_TREE))
                self._is_set = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_set:
            self._is_set = False
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._fd, _SET_FLAGS, _FLAGS.pack(self._read() & ~_TOP_OF_TREE))

    def _read(self) -> int:
        return int(_FLAGS.unpack(fcntl.ioctl(self._fd, _GET_FLAGS, bytes(_FLAGS.size)))[0])
