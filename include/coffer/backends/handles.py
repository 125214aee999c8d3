"""A bounded cache of open files, for restores that read many ranges of the same packs."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock


@dataclass(slots=True)
class Handle:
    """An open file and who uses it.

    Attributes:
        fd: The descriptor, valid until the handle is given back.
        users: Calls that are reading through it just now.
        dropped: The cache has let go of it; the last user closes it.
    """

    fd: int
    users: int = 0
    dropped: bool = False


class HandleCache:
    """At most `capacity` idle open files, least recently used first out; safe to use from several threads.

    A file that is being read is never closed under its reader, so up to one more per thread may be open.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._handles: OrderedDict[str, Handle] = OrderedDict()

    def acquire(self, name: str, opener: Callable[[str], int]) -> Handle:
        """Return an open handle of `name`, to be given back by `release`.

        A file that lost its last name since it was opened (deleted or replaced by another process) is opened anew.
        """
        with self._lock:
            handle = self._handles.get(name)
            if handle is not None:
                if os.fstat(handle.fd).st_nlink > 0:
                    self._handles.move_to_end(name)
                    handle.users += 1
                    return handle
                self._drop(name)
        # Opened outside the lock: a slow disk holds up one reader, not all.
        opened = Handle(opener(name), users=1)
        with self._lock:
            self._drop(name)
            self._handles[name] = opened
            while len(self._handles) > self._capacity:
                self._drop(next(iter(self._handles)))
        return opened

    def release(self, handle: Handle) -> None:
        """Give a handle back."""
        with self._lock:
            handle.users -= 1
            if handle.dropped and handle.users == 0:
                os.close(handle.fd)

    def forget(self, name: str) -> None:
        """Drop the handle of `name`, if there is one."""
        with self._lock:
            self._drop(name)

    def clear(self) -> None:
        """Drop all handles."""
        with self._lock:
            for name in list(self._handles):
                self._drop(name)

    def _drop(self, name: str) -> None:
        handle = self._handles.pop(name, None)
        if handle is None:
            return
        handle.dropped = True
        if handle.users == 0:
            os.close(handle.fd)
