"""Lines in a task's log that say how far a run is, while the engine works."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.progress import Progress
from coffer.units import human_rate, human_size

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

INTERVAL_S = 15.0


class ProgressLog:
    """Logs a line every quarter minute for the length of a `with` block, on a thread of its own.

    Args:
        log: Where to.
        progress: The counters that the engine keeps.
        interval_s: Time between two lines [s].
        clock: For the speed.
    """

    def __init__(
        self, log: Logger, progress: Progress, *, interval_s: float = INTERVAL_S, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._log = log
        self._progress = progress
        self._interval_s = interval_s
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="coffer-progress", daemon=True)

    def __enter__(self) -> ProgressLog:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_s, last_bytes = self._clock.monotonic_s(), 0
        while not self._ended.wait(self._interval_s):
            now_s, done_bytes = self._clock.monotonic_s(), self._progress.bytes_done
            rate = max(0, done_bytes - last_bytes) / max(now_s - last_s, 1e-6)
            self._log.info("%s, %s", describe(self._progress), human_rate(rate))
            last_s, last_bytes = now_s, done_bytes


def describe(progress: Progress) -> str:
    """Return how far a run is, in one line without paths: ``backing up: 1200 entries, 31.0 MiB, ...``."""
    size = human_size(progress.bytes_done)
    if progress.bytes_total:
        size += f" of about {human_size(progress.bytes_total)}"
    written = human_size(progress.bytes_stored)
    return f"{progress.phase or 'starting'}: {progress.files_done} entries, {size}, {written} written"
