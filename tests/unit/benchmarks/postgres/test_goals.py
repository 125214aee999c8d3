"""The PostgreSQL goals: whose figure, beside which."""

import pytest

from benchmarks.goals import MIB, judge
from benchmarks.postgres.goals import goals_of, peak_verdict


def goal_named(words, major=18):
    (found,) = [goal for goal in goals_of(major) if goal.title == words]
    return found


def test_the_restore_of_an_incremental_is_judged_beside_that_of_the_full():
    """The reference is Coffer's own figure of another phase."""
    goal = goal_named("18: restore of the incremental, beside that of the full")
    medians = {
        ("pg18-single", "restore-full", "coffer"): {"wall_s": 4.0},
        ("pg18-single", "restore-changed", "coffer"): {"wall_s": 5.0},
    }

    verdict = judge(goal, medians)

    assert (1.25, False) == (verdict.ratio, verdict.reached)


def test_a_native_backup_is_judged_by_its_own_figures():
    """What the server sent in native mode is set beside the pages that changed."""
    goal = goal_named("18: incremental, 1 % of pages changed, read from the server (native)")
    medians = {
        ("pg18-single", "changed", "coffer"): {"read_bytes": 99.0, "changed_bytes": 10.0},
        ("pg18-single", "changed", "coffer-native"): {"read_bytes": 11.0, "changed_bytes": 10.0},
    }

    verdict = judge(goal, medians)

    assert (1.1, True) == (verdict.ratio, verdict.reached)


def test_the_speed_of_a_full_backup_is_judged_by_its_time():
    """0.9 times the limit's MB/s of one source is the limit's time divided by 0.9."""
    goal = goal_named("15: full, wall (0.9 x the limit's MB/s)", 15)
    medians = {("pg15-single", "full", "limit"): {"wall_s": 9.0}, ("pg15-single", "full", "coffer"): {"wall_s": 9.99}}

    verdict = judge(goal, medians)

    assert verdict.reached
    assert pytest.approx(1.11) == verdict.ratio


def test_a_server_without_native_incrementals_has_no_goal_for_them():
    """Nothing stands in the report that this version cannot show."""
    assert [] == [goal.title for goal in goals_of(15) if goal.tool == "coffer-native"]


def test_the_peak_is_the_highest_of_both_modes_of_coffer():
    """Peers' memory does not count, and one phase above the bound fails the goal."""
    medians = {
        ("pg18-single", "full", "coffer"): {"peak_bytes": 200.0 * MIB},
        ("pg18-chain", "day-3", "coffer-native"): {"peak_bytes": 401.0 * MIB},
        ("pg18-single", "full", "pgbackrest"): {"peak_bytes": 900.0 * MIB},
    }

    verdict = peak_verdict(medians)

    assert (401.0 * MIB, False, "day-3") == (verdict.value, verdict.reached, verdict.goal.phase)


def test_without_measurements_no_peak_is_claimed():
    """An empty file of results has no verdict."""
    assert peak_verdict({}).reached is None
