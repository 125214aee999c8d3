"""`python -m benchmarks.postgres`: what its options mean."""

import pytest

from benchmarks.postgres.__main__ import parse, paths_of, rounds_of, scale_of


def test_a_plain_run_measures_everything_at_scale_100():
    """Without options it is the run whose report is kept; the long scenario has fewer rounds."""
    options = parse([])

    assert ("blank-100", ["single", "chain", "wal"], 60) == (scale_of(options), options.only, options.segments)
    assert [5, 3, 5] == [rounds_of(options, scenario) for scenario in options.only]
    assert ["postgres.json", "POSTGRES.md"] == [path.name for path in paths_of(options)]


def test_a_quick_run_never_touches_the_kept_figures():
    """It has its own files and its own key, whatever else is asked for."""
    plain, quick = parse(["--scale", "5"]), parse(["--quick"])

    assert set(paths_of(plain)).isdisjoint(paths_of(quick))
    assert ("blank-5", "blank-5-quick") == (scale_of(plain), scale_of(quick))
    assert 1 == rounds_of(quick, "single")


def test_another_content_has_a_report_of_its_own():
    """A run with other rows does not replace the report of the usual one."""
    options = parse(["--filler", "text"])

    assert "POSTGRES-text-100.md" == paths_of(options)[1].name


def test_an_unknown_tool_is_a_usage_error(capsys):
    """A slip of the pen must not look like a tool that has nothing to do."""
    with pytest.raises(SystemExit, match="2"):
        parse(["--tools", "coffer,pgbackup"])

    assert "unknown tools: pgbackup" in capsys.readouterr().err
