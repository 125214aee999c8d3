"""The progress of a long run on standard error: a bar on a terminal, a line now and then elsewhere.

A thread of its own reads the run's counters, so the run pays nothing for being watched. Nothing is shown, and rich is
not loaded, before the run has lasted a moment: a short backup on a terminal does not wait for a bar.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from coffer.cli.run import Run
from coffer.cli.text import count_of, path_text
from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.progress import Progress
from coffer.units import human_duration, human_rate, human_size

if TYPE_CHECKING:
    from rich.console import RenderableType

_FIRST_AFTER_S = 0.5
_BAR_EVERY_S = 0.2
_LINE_EVERY_S = 30.0
_WINDOW_S = 5.0  # the speed that is shown is the mean over this time


class Meter:
    """Speed and remaining time, from the counters as they are seen.

    Args:
        progress: The counters.
        clock: Tells how much time passed.
    """

    def __init__(self, progress: Progress, clock: Clock = SYSTEM_CLOCK) -> None:
        self.progress = progress
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self.look()

    def look(self) -> None:
        """Take down where the run is now."""
        now_s = self._clock.monotonic_s()
        self._seen.append((now_s, self.progress.bytes_done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _WINDOW_S:
            self._seen.popleft()

    @property
    def rate_bytes_per_s(self) -> float:
        """The speed of the last seconds [bytes/s]."""
        (first_s, first_bytes), (last_s, last_bytes) = self._seen[0], self._seen[-1]
        return (last_bytes - first_bytes) / (last_s - first_s) if last_s > first_s else 0.0

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None where the whole is not known, or turned out to be more."""
        progress = self.progress
        if not progress.bytes_total > 0 or progress.bytes_done > progress.bytes_total:
            return None
        return progress.bytes_done / progress.bytes_total

    @property
    def remaining_s(self) -> float | None:
        """How long it will take at this speed [s]; None where that is not known."""
        rate = self.rate_bytes_per_s
        if self.share is None or rate <= 0:
            return None
        return (self.progress.bytes_total - self.progress.bytes_done) / rate

    def figures(self) -> str:
        """Return entries, bytes, speed and remaining time in one line."""
        progress = self.progress
        size = human_size(progress.bytes_done)
        if self.share is not None:
            size += f" of {human_size(progress.bytes_total)}"
        parts = [count_of(progress.files_done, "entry", "entries"), size, human_rate(self.rate_bytes_per_s)]
        if self.remaining_s is not None:
            parts.append(f"{human_duration(self.remaining_s)} left")
        return ", ".join(parts)


class Display:
    """Shows the progress of a run while it lasts; a context manager around the work. Its failure is not the run's."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._meter = Meter(progress)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        on_terminal = watched_terminal()
        if not run.quiet and (on_terminal or not run.as_json):
            target = self._show_bar if on_terminal else self._show_lines
            self._thread = threading.Thread(target=target, name="coffer-display", daemon=True)

    def __enter__(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _show_lines(self) -> None:
        while not self._ended.wait(_LINE_EVERY_S):
            self._meter.look()
            try:
                sys.stderr.write(f"coffer: {self._meter.progress.phase}: {self._meter.figures()}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # nobody reads it any more
                return

    def _show_bar(self) -> None:
        if self._ended.wait(_FIRST_AFTER_S):
            return
        from rich.console import Console
        from rich.live import Live

        try:
            live = Live(
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            with live:
                while True:
                    self._meter.look()
                    live.update(render(self._meter), refresh=True)
                    if self._ended.wait(_BAR_EVERY_S):
                        return
        except (OSError, ValueError):  # the terminal was closed
            return


def watched_terminal() -> bool:
    """Say whether people watch standard error on a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def render(meter: Meter) -> RenderableType:
    """Return the two lines on a terminal: phase, bar and figures; below them the path at hand."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = meter.share
    bar = ProgressBar(total=1.0, completed=share or 0.0, pulse=share is None, width=24)
    line = Table.grid(padding=(0, 1))
    line.add_row(Text(meter.progress.phase or "starting"), bar, Text(meter.figures()))
    path = "/" + path_text(meter.progress.current) if meter.progress.current else ""
    return Group(line, Text(path, no_wrap=True, overflow="ellipsis", style="dim"))
