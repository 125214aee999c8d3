"""The file of raw measurements: kept at once, resumed, keyed by version."""

import json

from benchmarks.results import Measurement, Results, medians
from benchmarks.scenarios import Plan, pending_tools


def measured(version="1", round_number=0, phase="first", tool="coffer", **values):
    return Measurement("full", "postgres", phase, tool, version, round_number, values)


def test_a_measurement_is_on_disk_as_soon_as_it_is_added(tmp_path):
    """An interrupted run loses nothing that it had finished."""
    path = tmp_path / "results.json"

    Results(path).add(measured(wall_s=1.5))

    assert {"wall_s": 1.5} == json.loads(path.read_text())["measurements"][0]["values"]
    assert Results(path).has("full", "postgres", "first", "coffer", "1", 0)


def test_another_version_is_measured_anew_and_the_old_figures_stay(tmp_path):
    """Figures of two commits are never mixed into one median."""
    results = Results(tmp_path / "results.json")
    results.add(measured("old", wall_s=9.0))
    results.add(measured("new", wall_s=1.0))

    chosen = results.of("full", {"coffer": "new"})

    assert {("postgres", "first", "coffer"): {"wall_s": 1.0}} == medians(chosen)
    assert results.has("full", "postgres", "first", "coffer", "old", 0)


def test_the_median_is_taken_over_the_rounds(tmp_path):
    """Five rounds give one figure, which one slow round does not move."""
    results = Results(tmp_path / "results.json")
    for number, wall_s in enumerate((3.0, 1.0, 2.0, 50.0, 2.5)):
        results.add(measured(round_number=number, wall_s=wall_s))

    found = medians(results.of("full", {"coffer": "1"}))

    assert 2.5 == found["postgres", "first", "coffer"]["wall_s"]


def test_forgetting_drops_only_the_trees_and_versions_that_are_named(tmp_path):
    """Measuring one tree again must not cost the others."""
    results = Results(tmp_path / "results.json")
    results.add(measured("1", wall_s=1.0))
    results.add(measured("2", wall_s=1.0))

    results.forget("full", {"coffer": "1"}, ["venv"])
    kept = results.has("full", "postgres", "first", "coffer", "1", 0)
    results.forget("full", {"coffer": "1"}, ["postgres"])

    assert kept
    assert not results.has("full", "postgres", "first", "coffer", "1", 0)
    assert results.has("full", "postgres", "first", "coffer", "2", 0)


def test_a_round_is_resumed_with_the_tools_that_are_not_done(tmp_path):
    """What one version of a tool measured in this round is not measured twice."""
    results = Results(tmp_path / "results.json")
    results.add(measured("1", tool="coffer"))
    versions = {"coffer": "1", "restic": "7", "limit": "3"}

    assert ["restic", "limit"] == pending_tools(Plan("full", "postgres", 0, versions), results)


def test_each_round_begins_with_another_tool(tmp_path):
    """No tool always meets the state that the same other one leaves behind."""
    results = Results(tmp_path / "results.json")
    versions = {"coffer": "1", "restic": "7", "borg": "4", "limit": "3"}

    starts = [pending_tools(Plan("full", "venv", number, versions), results)[0] for number in range(5)]

    assert ["coffer", "restic", "borg", "limit", "coffer"] == starts
