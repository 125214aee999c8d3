"""The only place that reads the time.

Everything else takes a `Clock`, so that a test can set it and a run can be replayed. Times are aware and in UTC.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Source of wall time and of a monotonic time for durations."""

    def now_ns(self) -> int:
        """Return the wall time [ns since the Unix epoch]."""
        ...

    def monotonic_s(self) -> float:
        """Return a time that never goes back [s]; only differences mean something."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return the wall time [ns since the Unix epoch]."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Return a time that never goes back [s]."""
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()


def utc_from_ns(time_ns: int) -> datetime:
    """Return an aware UTC datetime of a Unix time [ns], exact to the microsecond."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
