"""What a drill says: errors before hints, exact counts, and a verdict that claims no more than was shown."""

from __future__ import annotations

import pytest

from coffer.errors import SourceFormatError
from coffer.recovery.drill_report import MAX_FINDINGS, DrillLog, words_of
from tests.harness.manual_clock import ManualClock


def test_errors_come_first_and_the_rest_in_order():
    """As they were found."""
    notes = DrillLog(ManualClock())
    notes.hint("collation", "one")
    notes.damage("file-missing", "two", file="base/5/1")
    notes.damage("heap-damaged", "three", database="postgres", table="public.a")
    report = notes.close("primary", "abcd", "0/3000028, all before it")
    assert ["two", "three", "one"] == [finding.message for finding in report.findings]
    assert {"severity": "error", "code": "file-missing", "message": "two", "file": "base/5/1"} == (
        report.to_json()["findings"][0]
    )


@pytest.mark.parametrize(
    ("compared", "sampled", "errors", "expected"),
    [(0, 0, 0, "sound"), (1, 0, 0, "proved"), (0, 1, 0, "proved"), (5, 0, 1, "damaged"), (0, 0, 1, "damaged")],
)
def test_the_verdict_claims_no_more_than_was_shown(compared, sampled, errors, expected):
    """Without a comparison a cluster is sound at best."""
    notes = DrillLog(ManualClock())
    notes.count("tables_compared", compared)
    notes.count("tables_sampled", sampled)
    for _ in range(errors):
        notes.damage("manifest", "x")
    report = notes.close("primary", "abcd", "")
    assert (expected, not errors) == (report.verdict, report.ok)


def test_many_findings_are_counted_and_not_kept():
    """A thousand are enough."""
    notes = DrillLog(ManualClock())
    for number in range(MAX_FINDINGS + 5):
        notes.damage("file-missing", str(number))
    report = notes.close("primary", "abcd", "")
    assert (MAX_FINDINGS, MAX_FINDINGS + 5) == (len(report.findings), report.counts["errors"])


def test_steps_are_measured_also_where_they_fail():
    """By the clock."""
    clock = ManualClock()
    notes = DrillLog(clock)

    def fail():
        with notes.step("restore"):
            clock.advance(2.5)
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert [("restore", 2.5)] == [(step.name, step.duration_s) for step in notes.steps]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SourceFormatError("a b", hint="Do this."), "a b"),
        (ValueError("one\n  two"), "one two"),
        (ValueError(""), "ValueError"),
    ],
)
def test_an_error_is_told_in_one_line(error, expected):
    """Whatever it is."""
    assert expected == words_of(error)
