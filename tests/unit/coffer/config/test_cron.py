"""Cron texts: what is read means what Airflow's croniter means; what is doubtful is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from croniter import CroniterBadDateError, croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from coffer.config.cron import CRON_ALLOWED, Cron, parse_cron
from coffer.units import UnitError


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0 fields and not five"),
        ("daily", "it has 1 field and not five"),
        ("0 0 * * * *", "it has 6 fields and not five"),
        ("60 0 * * *", "minute 60 is not within 0 to 59"),
        ("0 24 * * *", "hour 24 is not within 0 to 23"),
        ("0 0 0 * *", "day 0 is not within 1 to 31"),
        ("0 0 * 13 *", "month 13 is not within 1 to 12"),
        ("0 0 * * 8", "weekday 8 is not within 0 to 7"),
        ("0 0 * * fun", "weekday 'fun' is not a number"),
        ("a 0 * * *", "minute 'a' is not a number"),
        ("0 0 * * L", "weekday 'L' is not a number"),
        ("-5 0 * * *", "minute '' is not a number"),
        ("5,,6 0 * * *", "minute '' is not a number"),
        ("0 6-4 * * *", "hour '6-4': the range does not run upwards"),
        ("0 5-5 * * *", "hour '5-5': the range does not run upwards"),
        ("5/15 0 * * *", "minute '5/15': a step needs * or a range before it"),
        ("*/0 0 * * *", "minute step 0 is not within 1 to 59"),
        ("*/ 0 * * *", "minute step '' is not a number"),
        ("0 0 31 2 *", "it never fires: no such day in those months"),
        ("0 0 31 4,6 *", "it never fires: no such day in those months"),
        ("0 0 * * *,1", "weekday '*,1': a * stands alone"),
    ],
)
def test_a_wrong_cron_text_is_refused_with_its_cause(text, why):
    """Each mistake is named with its field, and what is allowed is said."""
    with pytest.raises(UnitError) as caught:
        parse_cron(text)
    assert (why, CRON_ALLOWED) == (caught.value.why, caught.value.allowed)


@pytest.mark.parametrize(
    ("text", "hours", "weekdays"),
    [
        ("0 0 * * *", {0}, set(range(7))),
        ("0 */6 * * 0", {0, 6, 12, 18}, {0}),
        ("0 1-5/2 * * 1-6", {1, 3, 5}, set(range(1, 7))),
        ("0 4 * * 7", {4}, {0}),
        ("0 4 * * 5-7", {4}, {5, 6, 0}),
        ("0 4 * * Mon-fri,SAT", {4}, set(range(1, 7))),
        ("0 4 29 feb *", {4}, set(range(7))),
        ("0 4 31 4 1", {4}, {1}),
        ("0 4 31 4 0-6", {4}, set(range(7))),
    ],
)
def test_a_cron_text_is_read_field_by_field(text, hours, weekdays):
    """Steps, ranges, lists and names become sets of numbers; 7 is Sunday like 0."""
    cron = parse_cron(text)
    assert (hours, weekdays) == (cron.hours, cron.weekdays)


def test_times_of_day_come_in_order():
    """The times at which a schedule fires are sorted by hour, then minute."""
    assert [(1, 0), (1, 30), (3, 0), (3, 30)] == list(parse_cron("*/30 3,1 * * *").times_of_day())


def _field(first: int, last: int) -> st.SearchStrategy[str]:
    number = st.integers(first, last)
    pairs = st.tuples(number, number).filter(lambda pair: pair[0] != pair[1])
    span = pairs.map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.tuples(span | st.just("*"), st.integers(1, last)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    item = number.map(str) | span | step
    return st.just("*") | st.lists(item, min_size=1, max_size=3).map(",".join)


CRONS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 6)).map(" ".join)


def _fires(cron: Cron, text: str, moment: datetime) -> bool:
    """Tell whether a schedule fires at a minute; days and weekdays join by or if both are restricted."""
    day_fits, weekday_fits = moment.day in cron.days, moment.isoweekday() % 7 in cron.weekdays
    fields = text.split()
    either = fields[2] != "*" and fields[4] != "*"
    return (
        moment.minute in cron.minutes
        and moment.hour in cron.hours
        and moment.month in cron.months
        and (day_fits or weekday_fits if either else day_fits and weekday_fits)
    )


@settings(max_examples=200, deadline=None)
@given(CRONS, st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2030, 1, 1)))
def test_what_is_read_means_what_croniter_means(text, start):
    """The next times that croniter finds are times of the sets read here; what is refused never fires there either."""
    times = croniter(text, start.replace(tzinfo=UTC))
    try:
        cron = parse_cron(text)
    except UnitError as error:
        refusal = error
    else:
        for _ in range(3):
            assert _fires(cron, text, times.get_next(datetime))
        return
    assert "it never fires: no such day in those months" == refusal.why
    with pytest.raises(CroniterBadDateError):
        times.get_next(datetime)
