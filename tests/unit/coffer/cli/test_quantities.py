"""Options that are quantities or times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import click
import pytest

from coffer.cli.quantities import DURATION, RATE, seconds_until


def test_quantities_are_read_by_the_engines_parsers():
    """A duration in seconds, a rate in bytes a second; a number is taken as it is."""
    assert (14_400, 50_000_000, 7) == (
        DURATION.convert("4h", None, None),
        RATE.convert("50MB/s", None, None),
        DURATION.convert(7, None, None),
    )


def test_what_is_none_is_refused_with_what_is_allowed():
    """The text of the parser is the text of the error."""
    with pytest.raises(click.BadParameter, match="allowed: a size per second"):
        RATE.convert("fast", None, None)


@pytest.mark.parametrize(
    ("text", "hours"), [("06:00", 3), ("03:00", 24), ("02:59", 24 - 1 / 60), ("2026-11-01T06:00+02:00", 2)]
)
def test_a_time_of_day_is_the_next_one(text, hours):
    """At 03:00 in a zone an hour ahead of UTC."""
    now = datetime(2026, 11, 1, 3, 0, tzinfo=timezone(timedelta(hours=1)))
    if "T" not in text:
        now = datetime(2026, 11, 1, 3, 0).astimezone()
    assert hours * 3600 == pytest.approx(seconds_until(text, now))


@pytest.mark.parametrize("text", ["2026-10-31T00:00+00:00", "24:00", "six", ""])
def test_what_has_passed_or_is_no_time_is_refused(text):
    """A deadline in the past would end every run at once."""
    with pytest.raises(ValueError):
        seconds_until(text, datetime(2026, 11, 1, tzinfo=UTC))
