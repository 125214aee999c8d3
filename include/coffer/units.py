"""Quantities as people write them: sizes, rates, durations, percentages, windows.

Parsing is exact and strict: a text either has one meaning or raises a ValueError that says what is allowed. So a bare
number is refused (is ``30`` days or seconds?), and so is ``64Mb`` (megabits?). The ``format_`` functions are the exact
inverse of the ``parse_`` functions; the ``human_`` functions round, for people only.

Imports nothing but ``re`` and ``datetime``: the command line pays for this module on every start.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

__all__ = [
    "DURATION_ALLOWED",
    "PERCENTAGE_ALLOWED",
    "RATE_ALLOWED",
    "SIZE_ALLOWED",
    "WINDOW_ALLOWED",
    "UnitError",
    "Window",
    "format_duration",
    "format_percentage",
    "format_rate",
    "format_size",
    "human_duration",
    "human_rate",
    "human_size",
    "parse_duration",
    "parse_percentage",
    "parse_rate",
    "parse_size",
    "parse_window",
]

SIZE_ALLOWED = (
    "a number with a unit: B, kB, MB, GB, TB, PB (powers of 1000) or KiB, MiB, GiB, TiB, PiB (powers of 1024)"
)
RATE_ALLOWED = "a size per second, such as 500MB/s"
DURATION_ALLOWED = "a whole number with a unit: s, m (minutes), h, d or w, such as 30m, 4h, 90d"
PERCENTAGE_ALLOWED = "a number from 0 to 100 with a percent sign, such as 10%"
WINDOW_ALLOWED = "two times of day HH:MM-HH:MM, such as 00:00-06:00; it may cross midnight (22:00-04:00)"

_SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
_SIZE_UNITS_LARGEST_FIRST = sorted(
    ((factor, unit) for unit, factor in _SIZE_UNITS.items() if unit != "KB"), key=lambda pair: -pair[0]
)
_DURATION_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MINUTES_A_DAY = 1440

# [0-9] and not \d, which also takes the digits of other scripts; 18 digits keep every product small.
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))? ?([A-Za-z]+)", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,12}) ?([A-Za-z]+)", re.ASCII)
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,12})?) ?%", re.ASCII)
_WINDOW = re.compile(r"([0-9]{2}):([0-9]{2}) ?- ?([0-9]{2}):([0-9]{2})", re.ASCII)


class UnitError(ValueError):
    """A text that is no quantity.

    Args:
        what: The kind of quantity, such as ``size``.
        text: What was read; shown shortened.
        why: What is wrong with it, in a few words.
        allowed: What is allowed instead.
    """

    def __init__(self, what: str, text: str, why: str, allowed: str) -> None:
        super().__init__(what, text, why, allowed)
        self.what, self.text, self.why, self.allowed = what, text, why, allowed

    def __str__(self) -> str:
        """Return the kind, the value, the cause and what is allowed, in one line."""
        return f"{self.what} {self.text[:40]!r}: {self.why}; allowed: {self.allowed}"


# ------------------------------------------------------------------------------------------------ sizes and rates


def parse_size(text: str) -> int:
    """Return the size that a text such as ``64MB``, ``64 MiB`` or ``1.5GB`` means [bytes].

    Raises:
        ValueError: The text is no size, has no unit, or is not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        why = "it has no unit" if text.strip().isdigit() else "not a size"
        raise UnitError("size", text, why, SIZE_ALLOWED)
    whole, fraction, unit = match[1], match[2] or "", match[3]
    factor = _SIZE_UNITS.get(unit)
    if factor is None:
        # "Mb" is a megabit to a network engineer: a factor of eight must not hang on a shift key.
        why = f"unit {unit!r} would be bits" if unit.endswith("b") and len(unit) == 2 else f"unknown unit {unit!r}"
        raise UnitError("size", text, why, SIZE_ALLOWED)
    scale: int = 10 ** len(fraction)
    size_bytes, rest = divmod(int(whole + fraction) * factor, scale)
    if rest:
        raise UnitError("size", text, "not a whole number of bytes", SIZE_ALLOWED)
    return size_bytes


def format_size(size_bytes: int) -> str:
    """Return the shortest text with a whole number that `parse_size` reads as exactly this size [bytes]."""
    if size_bytes < 0:
        raise ValueError(f"size {size_bytes}: below zero")
    candidates = [
        f"{size_bytes // factor}{unit}"
        for factor, unit in _SIZE_UNITS_LARGEST_FIRST
        if size_bytes % factor == 0 and (size_bytes or factor == 1)
    ]
    return min(candidates, key=len)


def human_size(size_bytes: float) -> str:
    """Return a size [bytes] rounded for reading, in powers of 1024: ``389.2 MiB``; not meant to be parsed."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        # 1023.95 would be shown as 1024.0: go to the next unit just before that.
        if abs(value) < (1024 if unit == "B" else 1023.95):
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"


def parse_rate(text: str) -> int:
    """Return the rate that a text such as ``500MB/s`` means [bytes/s].

    Raises:
        ValueError: The text is no rate, or the rate is zero (which would never end).
    """
    size, slash, second = text.strip().partition("/")
    if not slash or second.strip() not in ("s", "sec", "second"):
        raise UnitError("rate", text, "it does not end in /s", RATE_ALLOWED)
    try:
        rate = parse_size(size)
    except UnitError as error:
        raise UnitError("rate", text, error.why, RATE_ALLOWED) from None
    if rate == 0:
        raise UnitError("rate", text, "zero would never end", RATE_ALLOWED)
    return rate


def format_rate(rate_bytes_per_s: int) -> str:
    """Return the text that `parse_rate` reads as exactly this rate [bytes/s]."""
    return f"{format_size(rate_bytes_per_s)}/s"


def human_rate(rate_bytes_per_s: float) -> str:
    """Return a rate [bytes/s] rounded for reading: ``112.4 MiB/s``."""
    return f"{human_size(rate_bytes_per_s)}/s"


# ------------------------------------------------------------------------------------------------ durations


def parse_duration(text: str) -> int:
    """Return the duration that a text such as ``30d``, ``4h`` or ``90s`` means [s].

    A day is 86,400 s and a week seven days. Months and years are refused: they have no fixed length.

    Raises:
        ValueError: The text is no duration or has no unit.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        why = "it has no unit" if text.strip().isdigit() else "not a duration"
        raise UnitError("duration", text, why, DURATION_ALLOWED)
    unit_s = _DURATION_UNITS_S.get(match[2])
    if unit_s is None:
        raise UnitError("duration", text, f"unknown unit {match[2]!r}", DURATION_ALLOWED)
    return int(match[1]) * unit_s


def format_duration(duration_s: int) -> str:
    """Return the text with the largest fitting unit up to days that `parse_duration` reads as this duration [s]."""
    if duration_s < 0:
        raise ValueError(f"duration {duration_s}: below zero")
    for unit in ("d", "h", "m"):
        count, rest = divmod(duration_s, _DURATION_UNITS_S[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{duration_s}s"


def human_duration(duration_s: float) -> str:
    """Return a duration [s] rounded for reading, in two units at most: ``0.42 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if duration_s < 9.995:
        return f"{duration_s:.2f} s"
    if duration_s < 59.95:
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    for large_s, large, small_s, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole_s >= large_s:
            count, rest_s = divmod(whole_s, large_s)
            return f"{count} {large} {rest_s // small_s} {small}" if rest_s >= small_s else f"{count} {large}"
    raise AssertionError(f"unreachable: {duration_s} s is at least a minute")  # pragma: no cover - 59.95 rounds to 60


# ------------------------------------------------------------------------------------------------ percentages


def parse_percentage(text: str) -> float:
    """Return the share that a text such as ``10%`` or ``2.5%`` means, from 0 to 1.

    Raises:
        ValueError: The text is no percentage, or is over 100 %.
    """
    match = _PERCENTAGE.fullmatch(text.strip())
    if match is None:
        raise UnitError("percentage", text, "not a percentage", PERCENTAGE_ALLOWED)
    percent = float(match[1])
    if percent > 100:
        raise UnitError("percentage", text, "over 100 %", PERCENTAGE_ALLOWED)
    return percent / 100


def format_percentage(share: float) -> str:
    """Return the percentage of a share from 0 to 1, exact to nine decimal places of the percentage: ``10%``."""
    if not 0 <= share <= 1:
        raise ValueError(f"share {share}: outside 0 to 1")
    return f"{share * 100:.9f}".rstrip("0").rstrip(".") + "%"


# ------------------------------------------------------------------------------------------------ windows


class Window(NamedTuple):
    """A daily span of wall-clock time, half-open: the start belongs to it, the end does not.

    A NamedTuple and not a dataclass: importing ``dataclasses`` costs more than this whole module.

    Attributes:
        start_minute: First minute, counted from midnight, 0 to 1439 [min].
        end_minute: Minute after the last, 1 to 1440 [min]; at or before the start, it is on the next day.
    """

    start_minute: int
    end_minute: int

    @property
    def crosses_midnight(self) -> bool:
        """Tell whether the window ends on the day after it began (an end at 24:00 does not cross)."""
        return self.end_minute <= self.start_minute

    @property
    def length_s(self) -> int:
        """Return the window's length on a day without a clock change [s]."""
        minutes = self.end_minute - self.start_minute
        return 60 * (minutes + _MINUTES_A_DAY if self.crosses_midnight else minutes)

    def contains(self, moment: time | datetime) -> bool:
        """Tell whether a wall-clock time is within the window.

        Args:
            moment: The time of day, in the time zone the window is meant in; the date of a datetime does not matter.
        """
        minute = moment.hour * 60 + moment.minute
        if self.crosses_midnight:
            return minute >= self.start_minute or minute < self.end_minute
        return self.start_minute <= minute < self.end_minute

    def end_after(self, moment: datetime) -> datetime:
        """Return the first end of the window after a moment.

        A window that is open at the moment is thereby told when it closes; of one that is not, the next closing.

        Args:
            moment: Aware datetime, in the time zone the window is meant in.

        Returns:
            Aware datetime in the moment's time zone, later than the moment; correct over a change of the clocks
            (where the end's wall-clock time comes twice, it is the next of the two).

        Raises:
            ValueError: The moment has no time zone.
        """
        if moment.tzinfo is None:
            raise ValueError("window end: the moment has no time zone")
        hour, minute = divmod(self.end_minute % _MINUTES_A_DAY, 60)
        end = moment.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
        while True:
            for fold in (0, 1):
                candidate = end.replace(fold=fold)
                # Compared in UTC: datetimes of one zone compare by their wall clocks, wrong on the day of a change.
                if candidate.astimezone(UTC) > moment.astimezone(UTC):
                    return candidate
            end += timedelta(days=1)

    def __str__(self) -> str:
        """Return the text that `parse_window` reads as this window."""
        (start_h, start_m), (end_h, end_m) = divmod(self.start_minute, 60), divmod(self.end_minute, 60)
        return f"{start_h:02}:{start_m:02}-{end_h:02}:{end_m:02}"


def parse_window(text: str) -> Window:
    """Return the window that a text such as ``00:00-06:00`` means.

    ``00:00-24:00`` is the whole day.

    Raises:
        ValueError: The text is no window, a time does not exist, or the window is empty.
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise UnitError("window", text, "not a window", WINDOW_ALLOWED)
    start_h, start_m, end_h, end_m = (int(group) for group in match.groups())
    if start_h > 23 or start_m > 59:
        raise UnitError("window", text, f"there is no time {match[1]}:{match[2]}", WINDOW_ALLOWED)
    if end_m > 59 or end_h * 60 + end_m > _MINUTES_A_DAY:
        raise UnitError("window", text, f"there is no time {match[3]}:{match[4]}", WINDOW_ALLOWED)
    start_minute, end_minute = start_h * 60 + start_m, end_h * 60 + end_m
    if start_minute == end_minute:
        raise UnitError("window", text, "it is empty (the whole day is 00:00-24:00)", WINDOW_ALLOWED)
    # 22:00-00:00 ends at the midnight that follows: one spelling inside, so that equal windows compare equal.
    return Window(start_minute, end_minute or _MINUTES_A_DAY)
