"""Options that are quantities: each is read by the engine's own parser, and refused with what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from coffer.units import UnitError, parse_duration, parse_rate


class Quantity(click.ParamType[int]):
    """A click type around a parser of `coffer.units`."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the quantity in its unit; a wrong one is a usage error."""
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


DURATION = Quantity("duration", parse_duration)  # [s]
RATE = Quantity("rate", parse_rate)  # [bytes/s]


def seconds_until(text: str, now: datetime) -> float:
    """Return how long it is to a time of day ``06:00`` or a moment ``2026-11-01T06:00`` [s]; local time by default.

    Args:
        text: A time of day means the next one.
        now: Aware, in the local time zone.

    Raises:
        ValueError: It is neither, or it has passed.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        of_day = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - only its time of day is taken
        moment = datetime.combine(now.date(), of_day)
        if moment <= now.replace(tzinfo=None):
            moment += timedelta(days=1)
    aware = moment.astimezone() if moment.tzinfo is None else moment
    seconds = aware.timestamp() - now.timestamp()
    if seconds <= 0:
        raise ValueError(f"{text} has passed")
    return seconds
