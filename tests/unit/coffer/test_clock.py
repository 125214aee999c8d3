"""The clock: what the machine says, and dates for times that have none."""

import time
from datetime import UTC, datetime

import pytest

from coffer.clock import SYSTEM_CLOCK, utc_from_ns


def test_the_system_clock_reads_wall_and_monotonic_time():
    """now_ns lies between two readings of the machine's own clock; monotonic_s never goes back."""
    before, first = time.time_ns(), SYSTEM_CLOCK.monotonic_s()
    now = SYSTEM_CLOCK.now_ns()
    assert before <= now <= time.time_ns()
    assert first <= SYSTEM_CLOCK.monotonic_s()


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_793_491_200_123_456_789, datetime(2026, 11, 1, 0, 0, 0, 123_456, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (-8_520_336_000_000_000_000, datetime(1700, 1, 1, tzinfo=UTC)),
        (1 << 100, datetime.max.replace(tzinfo=UTC)),
        (-(1 << 100), datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_time_becomes_a_date_exact_to_the_microsecond(time_ns, expected):
    """Rounded down, in UTC; a time outside the years 1 to 9999 is the nearest date there is, not an error."""
    assert expected == utc_from_ns(time_ns)
