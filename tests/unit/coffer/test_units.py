"""Units: what is read is exact, what is doubtful is refused, what is written is read back."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coffer import units
from coffer.units import (
    Window,
    format_duration,
    format_percentage,
    format_rate,
    format_size,
    human_duration,
    human_rate,
    human_size,
    parse_duration,
    parse_percentage,
    parse_rate,
    parse_size,
    parse_window,
)

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0B", 0),
        ("1B", 1),
        ("64MB", 64_000_000),
        ("64MiB", 67_108_864),
        ("64 MiB", 67_108_864),
        (" 1kB ", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 * 2**40),
        ("1PB", 10**15),
        ("1PiB", 2**50),
    ],
)
def test_size_has_one_exact_meaning(text: str, expected: int) -> None:
    """Decimal units are powers of 1000, binary ones powers of 1024, fractions are exact."""
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("64", "it has no unit"),
        ("", "not a size"),
        ("MB", "not a size"),
        ("-1MB", "not a size"),
        ("1e3MB", "not a size"),
        ("1,5GB", "not a size"),
        (".5MB", "not a size"),
        ("٣MB", "not a size"),
        ("64Mb", "unit 'Mb' would be bits"),
        ("64mb", "unit 'mb' would be bits"),
        ("64M", "unknown unit 'M'"),
        ("64mB", "unknown unit 'mB'"),
        ("64XB", "unknown unit 'XB'"),
        ("1.5B", "not a whole number of bytes"),
        ("0.3KiB", "not a whole number of bytes"),
        ("9" * 19 + "B", "not a size"),
    ],
)
def test_doubtful_size_is_refused_with_what_is_allowed(text: str, why: str) -> None:
    """A size without one clear meaning raises, names the cause and lists the units."""
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    assert f"size {text!r}: {why}; allowed: {units.SIZE_ALLOWED}" == str(caught.value)


@given(st.integers(min_value=0, max_value=10**17))
@example(0)
@example(1000)
@example(1024)
@example(2**50)
@example(64_000_000)
def test_size_survives_writing_and_reading(size_bytes: int) -> None:
    """What format_size writes, parse_size reads as the same number of bytes."""
    assert size_bytes == parse_size(format_size(size_bytes))


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(0, "0B"), (1001, "1001B"), (64_000_000, "64MB"), (2**26, "64MiB")]
)
def test_size_is_written_as_short_as_it_can_be(size_bytes: int, expected: str) -> None:
    """The unit is chosen so that the text is short and still exact."""
    assert expected == format_size(size_bytes)


def test_negative_quantities_are_programmer_errors() -> None:
    """Nothing below zero can be formatted."""
    for function in (format_size, format_rate, format_duration):
        with pytest.raises(ValueError, match="below zero"):
            function(-1)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024 * 1023.96, "1.0 MiB"),
        (389.2 * 2**20, "389.2 MiB"),
        (2**40, "1.0 TiB"),
        (3 * 2**60, "3072.0 PiB"),
    ],
)
def test_human_size_rounds_to_a_tenth(size_bytes: float, expected: str) -> None:
    """Sizes for people have one decimal place and never reach 1024 of a unit but the last."""
    assert expected == human_size(size_bytes)


@pytest.mark.parametrize(
    ("text", "expected"), [("500MB/s", 500_000_000), ("1GB/s", 10**9), ("1 MiB / s", 2**20), ("2kB/sec", 2000)]
)
def test_rate_is_a_size_per_second(text: str, expected: int) -> None:
    """A rate is read as bytes a second."""
    assert expected == parse_rate(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("500MB", "it does not end in /s"),
        ("500MB/h", "it does not end in /s"),
        ("500Mb/s", "would be bits"),
        ("fast/s", "not a size"),
        ("0B/s", "zero would never end"),
    ],
)
def test_doubtful_rate_is_refused(text: str, why: str) -> None:
    """A rate that is none, is in bits or is zero raises and names the cause."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_rate(text)
    assert str(caught.value).startswith(f"rate {text!r}: ")


@given(st.integers(min_value=1, max_value=10**17))
def test_rate_survives_writing_and_reading(rate: int) -> None:
    """What format_rate writes, parse_rate reads as the same rate."""
    assert rate == parse_rate(format_rate(rate))


def test_human_rate_is_a_human_size_per_second() -> None:
    """A rate for people has one decimal place."""
    assert "112.4 MiB/s" == human_rate(112.4 * 2**20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("45s", 45), ("30m", 1800), ("4h", 14_400), ("30d", 2_592_000), ("90 d", 7_776_000), ("2w", 1_209_600)],
)
def test_duration_has_one_exact_meaning(text: str, expected: int) -> None:
    """Units of a duration are s, m (minutes), h, d and w."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("30", "it has no unit"),
        ("", "not a duration"),
        ("1.5h", "not a duration"),
        ("-1d", "not a duration"),
        ("30 days", "unknown unit 'days'"),
        ("1M", "unknown unit 'M'"),
        ("1y", "unknown unit 'y'"),
        ("1h30m", "not a duration"),
    ],
)
def test_doubtful_duration_is_refused_with_what_is_allowed(text: str, why: str) -> None:
    """A duration without a fixed length or a unit raises and says what is allowed."""
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert f"duration {text!r}: {why}; allowed: {units.DURATION_ALLOWED}" == str(caught.value)


@given(st.integers(min_value=0, max_value=10**11))
@example(86_400)
@example(90)
def test_duration_survives_writing_and_reading(duration_s: int) -> None:
    """What format_duration writes, parse_duration reads as the same number of seconds."""
    assert duration_s == parse_duration(format_duration(duration_s))


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, "0.00 s"),
        (0.421, "0.42 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (187_200, "2 d 4 h"),
        (86_460, "1 d"),
    ],
)
def test_human_duration_has_two_units_at_most(duration_s: float, expected: str) -> None:
    """A duration for people names at most two units and drops what is below the second."""
    assert expected == human_duration(duration_s)


@pytest.mark.parametrize(("text", "expected"), [("10%", 0.1), ("0%", 0.0), ("100%", 1.0), ("2.5 %", 0.025)])
def test_percentage_is_a_share_of_one(text: str, expected: float) -> None:
    """A percentage is read as a share from 0 to 1."""
    assert expected == parse_percentage(text)


@pytest.mark.parametrize(
    ("text", "why"), [("10", "not a percentage"), ("-1%", "not a percentage"), ("100.1%", "over 100 %"), ("0.1", "not")]
)
def test_doubtful_percentage_is_refused(text: str, why: str) -> None:
    """A percentage without its sign, below 0 or over 100 raises."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_percentage(text)
    assert units.PERCENTAGE_ALLOWED in str(caught.value)


@given(st.integers(min_value=0, max_value=100 * 10**6).map(lambda millionths: millionths / 10**6))
def test_percentage_survives_writing_and_reading(percent: float) -> None:
    """What format_percentage writes, parse_percentage reads as the same share."""
    share = parse_percentage(f"{percent:.6f}%")
    assert share == parse_percentage(format_percentage(share))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_outside_its_range_cannot_be_formatted(share: float) -> None:
    """A share below 0, over 1 or not a number is a programmer error."""
    with pytest.raises(ValueError, match="outside 0 to 1"):
        format_percentage(share)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00-06:00", Window(0, 360)),
        ("22:30-04:00", Window(1350, 240)),
        ("00:00-24:00", Window(0, 1440)),
        ("22:00-00:00", Window(1320, 1440)),
        ("22:00 - 24:00", Window(1320, 1440)),
    ],
)
def test_window_is_read_in_one_spelling(text: str, expected: Window) -> None:
    """An end at midnight is the same as 24:00, so that equal windows compare equal."""
    assert expected == parse_window(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("00:00", "not a window"),
        ("0:00-6:00", "not a window"),
        ("24:00-06:00", "there is no time 24:00"),
        ("00:61-06:00", "there is no time 00:61"),
        ("00:00-06:60", "there is no time 06:60"),
        ("00:00-24:01", "there is no time 24:01"),
        ("06:00-06:00", "it is empty"),
        ("00:00-00:00", "it is empty"),
    ],
)
def test_impossible_window_is_refused(text: str, why: str) -> None:
    """A window that is none, names a time that does not exist or is empty raises and says what is allowed."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_window(text)
    assert units.WINDOW_ALLOWED in str(caught.value)


WINDOWS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda w: w[0] != w[1]).map(lambda w: Window(*w))


@given(WINDOWS)
def test_window_survives_writing_and_reading(window: Window) -> None:
    """What str writes, parse_window reads as the same window."""
    assert window == parse_window(str(window))


@given(WINDOWS)
def test_window_contains_as_many_minutes_as_it_is_long(window: Window) -> None:
    """The minutes of a day that the window contains add up to its length."""
    inside = sum(window.contains(time(minute // 60, minute % 60)) for minute in range(1440))
    assert window.length_s == 60 * inside


def test_window_is_half_open() -> None:
    """The start belongs to a window, the end does not; across midnight too."""
    window = parse_window("22:00-04:00")
    assert [False, True, True, True, False] == [
        window.contains(moment) for moment in (time(21, 59), time(22), time(0), time(3, 59, 59), time(4))
    ]
    assert parse_window("00:00-06:00").contains(datetime(2026, 11, 24, 5, 59, tzinfo=UTC))


@given(WINDOWS, st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(BERLIN)))
def test_window_ends_after_the_moment_within_a_day(window: Window, moment: datetime) -> None:
    """The next end is later than the moment, at most a day and an hour away, at the end's wall-clock time."""
    end = window.end_after(moment)
    away = end.astimezone(UTC) - moment.astimezone(UTC)
    assert timedelta(0) < away <= timedelta(hours=25)
    assert (window.end_minute % 1440, 0, 0) == (end.hour * 60 + end.minute, end.second, end.microsecond)


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        ("00:00-06:00", datetime(2026, 11, 24, 1, 30), datetime(2026, 11, 24, 6)),
        ("00:00-06:00", datetime(2026, 11, 24, 6, 0), datetime(2026, 11, 25, 6)),
        ("22:00-04:00", datetime(2026, 11, 24, 23, 0), datetime(2026, 11, 25, 4)),
        ("22:00-04:00", datetime(2026, 11, 25, 3, 59, 59), datetime(2026, 11, 25, 4)),
        ("00:00-24:00", datetime(2026, 11, 24, 12), datetime(2026, 11, 25)),
        ("00:00-06:00", datetime(2026, 12, 31, 7), datetime(2027, 1, 1, 6)),
    ],
)
def test_window_end_is_the_next_on_the_wall_clock(window: str, moment: datetime, expected: datetime) -> None:
    """An open window is told when it closes, a closed one its next closing."""
    assert expected.replace(tzinfo=BERLIN) == parse_window(window).end_after(moment.replace(tzinfo=BERLIN))


@pytest.mark.parametrize(
    ("moment_utc", "hours"),
    [(datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 3.5), (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 4.5)],
)
def test_window_end_is_right_over_a_change_of_the_clocks(moment_utc: datetime, hours: float) -> None:
    """On the day the clocks change, 06:00 is an hour nearer or farther than the wall clock says."""
    moment = moment_utc.astimezone(BERLIN)
    end = parse_window("00:00-06:00").end_after(moment)
    assert timedelta(hours=hours) == end.astimezone(UTC) - moment_utc


@pytest.mark.parametrize("fold", [0, 1])
def test_window_end_in_a_repeated_hour_is_the_next_of_the_two(fold: int) -> None:
    """In the hour that comes twice, each turn finds the end twenty minutes ahead of it."""
    moment = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=fold)
    end = parse_window("00:00-02:30").end_after(moment)
    assert timedelta(minutes=20) == end.astimezone(UTC) - moment.astimezone(UTC)


def test_window_end_needs_a_time_zone() -> None:
    """A naive moment is a programmer error."""
    with pytest.raises(ValueError, match="no time zone"):
        parse_window("00:00-06:00").end_after(datetime(2026, 11, 24))


def test_units_import_nothing_heavy() -> None:
    """The module stays cheap to import: no dataclasses, inspect, decimal or third-party module comes with it."""
    code = "import sys; before = set(sys.modules); import coffer.units; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [] == [name for name in loaded if name in {"dataclasses", "inspect", "decimal", "fractions", "pydantic"}]


def test_refusal_survives_pickling() -> None:
    """A UnitError carried between processes keeps its parts."""
    with pytest.raises(units.UnitError) as caught:
        parse_size("64Mb")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(caught.value), "unit 'Mb' would be bits") == (str(copy), copy.why)


def test_public_names_are_all_there_is() -> None:
    """__all__ lists what the module itself defines for others, and no more."""
    own = {
        name
        for name, value in vars(units).items()
        if not name.startswith("_") and (name.isupper() or getattr(value, "__module__", "") == units.__name__)
    }
    assert own - {"UTC"} == set(units.__all__)
