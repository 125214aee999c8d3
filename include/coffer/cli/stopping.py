"""Ctrl-C, SIGTERM, a closed terminal: the first asks the work to stop where it can go on later, the second ends it."""

from __future__ import annotations

import _thread
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from coffer.cli.faults import EXIT_FAILED
from coffer.cli.run import Run

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handle_signals(run: Run) -> Iterator[None]:
    """Handle the signals while a command runs, and put the former handlers back.

    A signal that is ignored (nohup, a background job) stays so. Outside the main thread nothing is done: Python allows
    handlers only there.
    """
    former = {}
    asked = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not run.stops_softly:
            raise KeyboardInterrupt
        if asked:
            # os.write and os._exit: the interrupted code may hold the lock of a stream or of a thread.
            os.write(2, b"\ncoffer: left at once; what was stored is found again by the next run\n")
            os._exit(EXIT_FAILED)
        asked = True
        # From a thread of its own: the interrupted code may be inside the event, and hold its lock.
        _thread.start_new_thread(run.stop.set, ())
        os.write(2, b"\ncoffer: stopping; once more to leave at once\n")

    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                former[number] = signal.signal(number, on_signal)
    except ValueError:
        former.clear()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
