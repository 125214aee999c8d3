"""The PostgreSQL report: goals, ratios, what a row says."""

from benchmarks.postgres.report import Facts, render
from benchmarks.results import Measurement

FACTS = Facts({15: {"coffer": "1"}, 18: {"coffer": "1"}}, "scale 5", {"kernel": "Linux"}, notes="")


def measured(tool, phase, scenario="single", major=18, **values):
    tree = f"pg{major}-{scenario}"
    return Measurement("blank-5", tree, phase, tool, "1", 0, values, f"{tool} x | y", "2026-11-25T00:00:00")


def test_a_goal_stands_beside_what_was_measured():
    """A row holds the bound, the peer, Coffer's figure, the ratio and the verdict."""
    rows = [measured("coffer", "full", wall_s=4.0, peak_bytes=1.0), measured("limit", "full", wall_s=3.0)]

    text = render(rows, FACTS)

    assert "| 18: full, wall (0.9 x the limit's MB/s) | ≤ 1.11 x | limit: 3.00 s | 4.00 s | 1.333 x | **no** |" in text
    assert "1 of 2 goals reached" in text


def test_nothing_measured_is_nothing_claimed():
    """An empty file of results renders."""
    text = render([], FACTS)

    assert "0 of 0 goals reached" in text
    assert "| yes |" not in text


def test_coffer_is_set_beside_each_peer():
    """The table of ratios has a column for each peer, empty where it did not take part."""
    rows = [
        measured("coffer", "full", wall_s=2.0, peak_bytes=1.0),
        measured("pgbackrest", "full", wall_s=4.0),
        measured("barman", "full", wall_s=8.0),
    ]

    assert "| pg18-single | full backup | coffer | 2.00 |  | 0.50 x | 0.25 x |  |" in render(rows, FACTS)


def test_speed_is_that_of_the_source():
    """MB/s is the cluster's length by wall time, whatever was stored."""
    rows = [measured("coffer", "full", wall_s=2.0, peak_bytes=1.0, source_bytes=300e6)]

    assert "| full backup | coffer | 1 | 2.00 |  | 150 |" in render(rows, FACTS)


def test_a_backup_that_took_another_method_says_so():
    """The figures of a fallback are not those of the method that was asked for."""
    rows = [measured("coffer-native", "changed", wall_s=2.0, peak_bytes=1.0, fell_back=1.0, read_bytes=3.0 * 2**20)]

    text = render(rows, FACTS)

    assert "3.0 MiB read from the server" in text
    assert "fell back to another method in 1 rounds" in text


def test_segments_a_second_are_told():
    """The restore command's figure is a rate."""
    rows = [measured("coffer", "fetch", "wal", wall_s=2.0, peak_bytes=1.0, segments=60.0)]

    assert "30.0 segments a second" in render(rows, FACTS)


def test_a_command_with_a_bar_does_not_break_its_table():
    """The pipeline's bars are escaped, else they would open new cells."""
    assert "`limit x \\| y`" in render([measured("limit", "full", wall_s=1.0)], FACTS)
