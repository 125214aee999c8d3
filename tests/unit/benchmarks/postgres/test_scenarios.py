"""Who takes part in what, and when a folder is done with."""

import subprocess

import pytest

from benchmarks.measure import CommandError
from benchmarks.postgres.contenders import CONTENDERS
from benchmarks.postgres.goals import goals_of
from benchmarks.postgres.scenarios import PHASES, phases_of, processes_naming, tree_of, wait_until_idle
from benchmarks.results import Measurement, Results
from benchmarks.scenarios import Plan, pending_tools


@pytest.mark.parametrize("major", [15, 17, 18])
def test_every_goal_asks_for_what_is_measured(major):
    """A goal about something nobody measures could never be reached, and would say `not measured` for ever."""
    goals = goals_of(major)

    own = [goal.title for goal in goals if goal.phase not in phases_of(goal.tree, goal.tool)]
    peers = [
        (goal.title, tool)
        for goal in goals
        for tool in goal.against
        if (goal.against_phase or goal.phase) not in phases_of(goal.tree, tool)
    ]

    assert ([], []) == (own, peers)


def test_nothing_incremental_is_asked_of_a_server_that_has_none():
    """Before 17 there is no incremental backup of PostgreSQL's own, so neither is Barman's."""
    assert () == phases_of("pg15-single", "coffer-native")
    assert () == phases_of("pg15-chain", "pg_combinebackup")
    assert ("full", "restore-full") == phases_of("pg15-single", "barman")
    assert PHASES["single"] == phases_of("pg18-single", "barman")


def test_coffer_and_pgbackrest_go_through_everything():
    """The two that are compared throughout miss no phase."""
    for major in (15, 18):
        for scenario, phases in PHASES.items():
            tree = tree_of(major, scenario)
            assert [phases, phases] == [phases_of(tree, "coffer"), phases_of(tree, "pgbackrest")]


def test_each_round_begins_with_another_tool(tmp_path):
    """No tool always meets the state that the same other one leaves behind."""
    results = Results(tmp_path / "results.json")
    versions = {name: "1" for name in CONTENDERS if phases_of("pg15-single", name)}

    starts = [
        pending_tools(Plan("x", "pg15-single", number, versions), results, CONTENDERS, phases_of)[0]
        for number in range(5)
    ]

    assert ["coffer", "limit", "pgbackrest", "barman", "coffer"] == starts


def test_a_tool_is_done_when_all_of_its_phases_are(tmp_path):
    """A round that broke off goes on with the tools that miss something."""
    results = Results(tmp_path / "results.json")
    for phase in ("full", "restore-full"):
        for tool in ("limit", "pgbackrest"):
            results.add(Measurement("x", "pg15-single", phase, tool, "1", 0))
    plan = Plan("x", "pg15-single", 0, {"limit": "1", "pgbackrest": "1"})

    assert ["pgbackrest"] == pending_tools(plan, results, CONTENDERS, phases_of)


def test_what_a_tool_left_running_is_waited_for(tmp_path):
    """A process that names the folder keeps it from being removed; once it ended, nothing does."""
    left = subprocess.Popen(["sh", "-c", "read line", "sh", str(tmp_path / "spool")], stdin=subprocess.PIPE)
    try:
        with pytest.raises(CommandError, match="do not end"):
            wait_until_idle(tmp_path, timeout_s=0)
        assert [left.pid] == processes_naming(tmp_path)
    finally:
        left.communicate(b"end\n")

    wait_until_idle(tmp_path)
    assert [] == processes_naming(tmp_path)
