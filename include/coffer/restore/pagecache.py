"""Write content into files, and say what of it the system's page cache is to keep (docs/adr/0024)."""

from __future__ import annotations

import errno
import mmap
import os
import re
from contextlib import suppress

from coffer.repository.pack import MAX_RAW_BYTES

# Of one write call. Linux fills its page cache in the largest pages that one call covers, which made larger writes up
# to eight times as dear on a virtual machine (docs/adr/0010).
WRITE_BYTES = 512 << 10
# Files from here on are not kept in the page cache: a smaller one is likely to be used soon, and costs little of it.
UNCACHED_FROM_BYTES = 64 << 20

# Source: include/uapi/linux/fs.h, since Linux 6.14: write through the page cache, begin to write the pages out at
# once, and free them when they are on the disk. Python's os module has no name for it.
RWF_DONTCACHE = 0x80
# Linux 6.14 could use a page after it was freed, and 6.15 refused the flag ("Disable FOP_DONTCACHE for now due to
# bugs", May 2025): a restore is the last moment to find out whether a maintainer's branch has the fix.
_SOUND_FROM = (6, 16)
_NOT_KNOWN = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_PAGE_BYTES = mmap.PAGESIZE


def is_sound(release: str) -> bool:
    """Say whether a kernel of this release ("6.18.44-amd64") can be asked to leave pages uncached."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _SOUND_FROM


_IS_SOUND = is_sound(os.uname().release)


def flags_for(size_bytes: int) -> int:
    """Return the flags for `write_at` of a file that will have this size [bytes]; 0 on a kernel that is not sound."""
    return RWF_DONTCACHE if _IS_SOUND and size_bytes >= UNCACHED_FROM_BYTES else 0


def write_all(fd: int, view: memoryview) -> None:
    """Write bytes where the descriptor stands.

    Raises:
        OSError: Some of it may be written.
    """
    length = len(view)
    done = 0
    while done < length:
        done += os.write(fd, view[done : done + WRITE_BYTES])


def make_room(fd: int, at: int, length: int, flags: int) -> None:
    """Reserve the blocks of a part that nobody writes yet, in the order of the file; nothing where it is kept cached.

    The pages between two parts are written out later than the parts. Without a place of their own between them, a file
    of 4 GiB lay in 2,440 pieces on ext4.

    Where blocks cannot be reserved nothing happens: the write says what is wrong. Nothing is reserved of a part that
    no chunk can hold, which only a hostile snapshot has.
    """
    if flags and length <= MAX_RAW_BYTES:
        with suppress(OSError, OverflowError):
            os.posix_fallocate(fd, at, length)


def write_at(fd: int, view: memoryview, at: int, flags: int) -> int:
    """Write bytes at a place of a file; other threads may write other places of it meanwhile.

    Only whole pages are left uncached. The first and the last page may belong to a neighbour too, which would have to
    read it back from the disk if it were gone.

    Args:
        fd: Open for writing.
        view: What to write.
        at: Where its first byte goes [bytes].
        flags: As `flags_for` or the last call for this file returned.

    Returns:
        The flags for the next call: 0 where kernel or file system do not know them.

    Raises:
        OSError: Some of it may be written.
    """
    length = len(view)
    head = min(-at % _PAGE_BYTES, length)
    tail = max(head, length - (at + length) % _PAGE_BYTES)
    done = 0
    while done < length:
        whole_pages = head <= done < tail
        end = length if not flags else head if done < head else tail if whole_pages else length
        piece = view[done : min(done + WRITE_BYTES, end)]
        if not flags or not whole_pages:
            done += os.pwrite(fd, piece, at + done)
            continue
        try:
            done += os.pwritev(fd, [piece], at + done, flags)
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise
            flags = 0  # and the same piece again: whatever else is wrong, the plain call says so
    return flags
