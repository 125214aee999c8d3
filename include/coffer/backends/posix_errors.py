"""Turn what the operating system says of a local store into Coffer's errors."""

from __future__ import annotations

import errno
import os

from coffer.errors import (
    BackendAccessError,
    BackendFullError,
    BackendLocationError,
    BackendUnavailableError,
    CofferError,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# A symbolic link, another file system or no folder where the store expects one of its own folders.
_LOCATION = frozenset({errno.ELOOP, errno.EXDEV, errno.ENOTDIR})

_EFBIG_HINT = "A limit on the size of one file was hit: see 'ulimit -f' and the file system's own limit."
_LOCATION_HINT = "Everything below the repository's folder must be plain folders and files of one file system."


def translate(error: OSError, what: str) -> CofferError:
    """Return the error to raise for `error`.

    Whatever is not known to be final (EIO, ESTALE, ENOTCONN, ETIMEDOUT, EMFILE ...) is held to be transient: a wrong
    retry costs seconds, a wrong "permanent" costs the night's backup.

    Args:
        error: What the system call raised.
        what: Object and action, to begin the message with: ``object 'a/b': cannot be stored``.
    """
    number = error.errno or 0
    reason = f"{os.strerror(number).lower()} [{errno.errorcode.get(number, number)}]"
    message = f"{what}: {reason}"
    if number in _FULL:
        return BackendFullError(message, hint=_EFBIG_HINT if number == errno.EFBIG else None, errno=number)
    if number in _REFUSED:
        return BackendAccessError(message, errno=number)
    if number in _LOCATION:
        return BackendLocationError(message, hint=_LOCATION_HINT, errno=number)
    return BackendUnavailableError(message, errno=number)
