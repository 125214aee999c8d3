"""The report: what it says of a goal, and of what is missing."""

from benchmarks.report import Facts, median_and_range, quantity, render, table
from benchmarks.results import Measurement

FACTS = Facts(
    versions={"coffer": "1", "restic": "2"}, machine={"kernel": "Linux"}, trees={"venv": (3, 1 << 20)}, notes=""
)


def measured(tool, phase="first", round_number=0, **values):
    return Measurement(
        "full", "venv", phase, tool, "1", round_number, values, f"{tool} backup | x", "2026-11-24T00:00:00"
    )


def test_the_report_says_of_each_goal_whether_it_is_reached():
    """A row holds the bound, the peer, Coffer's figure, the ratio and the verdict."""
    values = {"wall_s": 4.0, "cpu_s": 8.0, "stored_bytes": 400.0 * 2**20, "peak_bytes": 100.0 * 2**20}
    others = {"wall_s": 10.0, "cpu_s": 10.0, "stored_bytes": 500.0 * 2**20, "peak_bytes": 100.0 * 2**20}
    rows = [measured("coffer", **values), *(measured(tool, **others) for tool in ("restic", "borg", "limit"))]

    text = render(rows, FACTS)

    assert "| first backup, (a), wall | ≤ 0.5 x | borg: 10.00 s | 4.00 s | 0.400 x | yes |" in text
    assert "| first backup, (a), CPU | ≤ 0.45 x | restic: 10.00 s | 8.00 s | 0.800 x | **no** |" in text


def test_what_was_not_measured_is_said_to_be_so():
    """An empty file of results renders, and claims nothing."""
    text = render([], FACTS)

    assert text.count("not measured |") > 20
    assert "0 of 0 goals reached" in text
    assert "| yes |" not in text


def test_the_median_of_the_rounds_is_reported_with_their_range():
    """One slow round moves the range and not the median."""
    rows = [measured("coffer", "verify", n, wall_s=wall) for n, wall in enumerate((2.0, 9.0, 3.0))]

    assert "| verify, all data read | coffer | 3 | 3.00 (2.00–9.00) |" in render(rows, FACTS)


def test_a_command_with_a_bar_does_not_break_its_table():
    """The pipeline's bars are escaped, else they would open new cells."""
    assert "`limit backup \\| x`" in render([measured("limit", wall_s=1.0)], FACTS)


def test_notes_written_by_hand_stand_below_the_goals():
    """What was tried where a goal is not reached belongs into the report, and survives its rendering."""
    text = render([], Facts({}, {}, {}, notes="## Where the time goes\n\nzstd.\n"))

    assert text.index("## Goals") < text.index("## Where the time goes") < text.index("## All medians")


def test_a_quantity_has_the_unit_of_its_figure():
    """The figure's name carries the unit; a missing value is a dash."""
    given = [("wall_s", 1.5), ("stored_bytes", 3 * 2**20), ("compressed_share", 0.25), ("wall_s", None)]

    assert ["1.50 s", "3.00 MiB", "25.00 %", "–"] == [quantity(figure, value) for figure, value in given]


def test_equal_values_are_written_once():
    """A range of nothing is noise."""
    assert ["", "2.0", "2.0 (1.0–4.0)"] == [median_and_range(values, 1) for values in ([], [2, 2], [4, 1, 2])]


def test_a_table_has_as_many_rules_as_columns():
    """Markdown shows a table only when header and rule agree."""
    assert "| a | b |\n|---|---|\n| 1 | 2 |" == table(("a", "b"), [("1", "2")])
