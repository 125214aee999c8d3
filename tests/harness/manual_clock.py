"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from threading import Lock

# 2026-11-01 00:00:00 UTC, so that times in failures are readable.
EPOCH_NS = 1_793_491_200 * 1_000_000_000


class ManualClock:
    """A `coffer.clock.Clock` for tests; `sleep` is a stand-in for `time.sleep` that lets it go on and returns at once.

    Attributes:
        slept_s: Every sleep, in order [s].
    """

    def __init__(self, now_ns: int = EPOCH_NS) -> None:
        self._lock = Lock()
        self._now_ns = now_ns
        self._monotonic_ns = 0
        self.slept_s: list[float] = []

    def now_ns(self) -> int:
        """Return the set time [ns since the Unix epoch]."""
        return self._now_ns

    def monotonic_s(self) -> float:
        """Return how far the clock was let go on [s]."""
        return self._monotonic_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Let the clock go on."""
        with self._lock:
            self._now_ns += round(seconds * 1e9)
            self._monotonic_ns += round(seconds * 1e9)

    def set_wall(self, now_ns: int) -> None:
        """Set the wall time only, as an administrator or NTP does [ns since the Unix epoch]."""
        with self._lock:
            self._now_ns = now_ns

    def sleep(self, seconds: float) -> None:
        """Note a sleep and let the clock go on by it."""
        self.slept_s.append(seconds)
        self.advance(seconds)
