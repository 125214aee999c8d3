"""The only place that reads the time.

Everything else takes a `Clock`, so that a test can set it and a run can be replayed. Times are aware and in UTC.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def utc_from_ns(time_ns: int) -> datetime:
    """Return an aware UTC datetime of a Unix time [ns], exact to the microsecond.

    A file's time may lie outside the years 1 to 9999, where there is no datetime: then it is the nearest there is.
    """
    microseconds = min(max(time_ns // 1000, _FIRST_US), _LAST_US)
    return _EPOCH + timedelta(microseconds=microseconds)
