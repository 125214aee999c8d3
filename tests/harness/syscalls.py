"""System calls that fail, or kill, at a chosen moment: real code above, a scripted kernel below."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# What the local store asks of the system.
CALLS = ("open", "stat", "fstat", "mkdir", "writev", "pread", "fsync", "link", "unlink", "utime", "listdir", "scandir")


class ScriptedCalls:
    """Counts calls of `os` functions and acts at one of them.

    Attributes:
        made: Names of the calls so far, in order.
    """

    def __init__(self, act: Callable[[str], None] | None = None, at: int = -1, *, after: bool = False) -> None:
        self.made: list[str] = []
        self._act = act
        self._at = at
        self._after = after

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a stand-in for one function that counts, acts when it is its turn, and else does the real thing."""

        def call(*args: Any, **kwargs: Any) -> Any:
            is_hit = len(self.made) == self._at
            self.made.append(name)
            if is_hit and self._act is not None and not self._after:
                self._act(name)
            try:
                return real(*args, **kwargs)
            finally:
                # Also behind a call that failed by itself (a stat of what is not there yet).
                if is_hit and self._act is not None and self._after:
                    self._act(name)

        return call


class FileCalls(ScriptedCalls):
    """Counts calls on files; folders that are opened to be listed, or to reach the files in them, are not counted.

    Attributes:
        opened: Basenames of the files that were opened, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[bytes] = []

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a stand-in that counts."""
        counting = super().wrap(name, real)
        if name != "open":
            return counting

        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
            if flags & os.O_DIRECTORY:
                return real(path, flags, *args, **kwargs)
            self.opened.append(os.path.basename(path))
            return counting(path, flags, *args, **kwargs)

        return call


@contextmanager
def scripted(calls: ScriptedCalls, names: tuple[str, ...] = CALLS) -> Iterator[ScriptedCalls]:
    """Route `os` functions through a script for the time of the context."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, calls.wrap(name, getattr(os, name)))
        yield calls


def fail_with(number: int) -> Callable[[str], None]:
    """Return an act that raises the OSError of an errno."""

    def act(name: str) -> None:
        raise OSError(number, os.strerror(number), name)

    return act


def kill_self(name: str) -> None:
    """Die as by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
