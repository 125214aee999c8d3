"""Five-field cron texts: read, and refused with a reason.

Airflow reads a schedule with croniter. The engine must work without Airflow, and croniter brings more than is needed
here, so this small reader takes what every cron knows (numbers, names, ``*``, lists, ranges, steps) and refuses the
rest, all of which would be read differently by one cron or another. What it takes, croniter takes with the same
meaning (the unit test compares the two).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coffer.units import UnitError

CRON_ALLOWED = (
    "five fields: minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7 (0 and 7 are Sunday); each one "
    '*, a number, a range 1-5, a step */6 or 1-5/2, or a list 1,15; such as "0 0 * * *"'
)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Field(NamedTuple):
    """One of the five fields: its name, its first and last number, and the names of numbers."""

    name: str
    first: int
    last: int
    names: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day", 1, 31, {}),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("weekday", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)


class Cron(NamedTuple):
    """A schedule.

    Attributes:
        minutes: 0 to 59.
        hours: 0 to 23.
        days: Days of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 (Sunday) to 6.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def times_of_day(self) -> Iterator[tuple[int, int]]:
        """Yield each (hour, minute) at which the schedule fires on a day that it fires on, in order."""
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                yield hour, minute


def parse_cron(text: str) -> Cron:
    """Return the schedule that a cron text means.

    Raises:
        UnitError: It has not five fields, a field is outside its range, or it never fires (31 February).
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise _refusal(text, f"it has {len(fields)} field{'' if len(fields) == 1 else 's'} and not five")
    minutes, hours, days, months, weekdays = (
        _field(text, field, part) for field, part in zip(_FIELDS, fields, strict=True)
    )
    cron = Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays))
    # With a weekday given too (0-6 counts as given), cron fires on either: only a day that stands alone is impossible.
    if fields[4] == "*" and not any(min(days) <= _DAYS_OF_MONTH[month - 1] for month in months):
        raise _refusal(text, "it never fires: no such day in those months")
    return cron


def _refusal(text: str, why: str) -> UnitError:
    return UnitError("cron", text, why, CRON_ALLOWED)


def _field(text: str, field: _Field, part: str) -> frozenset[int]:
    """Return the numbers that one field of the text names."""
    numbers: set[int] = set()
    for item in part.split(","):
        span, slash, step_text = item.partition("/")
        step = 1
        if item == "*" and part != "*":
            raise _refusal(text, f"{field.name} {part!r}: a * stands alone")  # croniter drops the rest of the list
        if slash:
            # "5/15" means 5 alone to some crons and 5,20,35,50 to others.
            if span != "*" and "-" not in span:
                raise _refusal(text, f"{field.name} {item!r}: a step needs * or a range before it")
            step = _number(text, _Field(f"{field.name} step", 1, max(field.last, 1), {}), step_text)
        first, last = _span(text, field, span)
        numbers.update(range(first, last + 1, step))
    return frozenset(numbers)


def _span(text: str, field: _Field, span: str) -> tuple[int, int]:
    """Return the first and the last number of ``*``, ``3`` or ``1-5``, both inclusive."""
    if span == "*":
        return field.first, field.last
    first_text, dash, last_text = span.partition("-")
    first = _number(text, field, first_text)
    if not dash:
        return first, first
    last = _number(text, field, last_text)
    # Airflow's croniter reads 5-5 as every hour there is, so a range of one number must not get that far.
    if last <= first:
        raise _refusal(text, f"{field.name} {span!r}: the range does not run upwards")
    return first, last


def _number(text: str, field: _Field, word: str) -> int:
    """Return the number that a word of a field means."""
    if word.lower() in field.names:
        return field.names[word.lower()]
    if not (word.isascii() and word.isdigit() and len(word) <= 4):
        raise _refusal(text, f"{field.name} {word[:20]!r} is not a number")
    if not field.first <= int(word) <= field.last:
        raise _refusal(text, f"{field.name} {word} is not within {field.first} to {field.last}")
    return int(word)
