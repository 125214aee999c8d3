"""How a figure is judged: ratios, the faster peer, what is missing."""

import pytest

from benchmarks.goals import GOALS, MIB, PEAK_AT_MOST_BYTES, Goal, judge, peak_verdicts, ratio_of

FASTER = Goal("a wall time", "venv", "first", "wall_s", 0.5, ("restic", "borg"))


def test_the_faster_peer_is_the_one_with_the_smaller_median():
    """Coffer is compared with the better of its peers, whichever that is."""
    medians = {
        ("venv", "first", "coffer"): {"wall_s": 4.0},
        ("venv", "first", "restic"): {"wall_s": 12.0},
        ("venv", "first", "borg"): {"wall_s": 10.0},
    }

    verdict = judge(FASTER, medians)

    assert ("borg", 10.0, 0.4, True) == (verdict.reference_tool, verdict.reference, verdict.ratio, verdict.reached)


def test_a_bound_is_reached_when_it_is_met_exactly():
    """`at most` includes the bound itself, and the next value above it is a failure."""
    peers = {("venv", "first", "restic"): {"wall_s": 10.0}, ("venv", "first", "borg"): {"wall_s": 20.0}}

    exact = judge(FASTER, {**peers, ("venv", "first", "coffer"): {"wall_s": 5.0}})
    above = judge(FASTER, {**peers, ("venv", "first", "coffer"): {"wall_s": 5.001}})

    assert (True, False) == (exact.reached, above.reached)


def test_no_verdict_is_given_while_one_of_the_peers_is_not_measured():
    """Without every peer nobody knows the faster one, so nothing is claimed."""
    medians = {("venv", "first", "coffer"): {"wall_s": 4.0}, ("venv", "first", "restic"): {"wall_s": 12.0}}

    verdict = judge(FASTER, medians)

    assert (None, None, None) == (verdict.reference, verdict.ratio, verdict.reached)


def test_growth_is_judged_as_a_share_of_the_store_before():
    """A goal with `per` divides Coffer's figure by another figure of the same measurement."""
    goal = Goal("growth", "venv", "touched", "grown_bytes", 0.01, per="before_bytes")
    medians = {("venv", "touched", "coffer"): {"grown_bytes": 3.0, "before_bytes": 400.0}}

    verdict = judge(goal, medians)

    assert (0.0075, True) == (verdict.ratio, verdict.reached)


def test_a_plain_bound_is_compared_with_the_value_itself():
    """A goal without a reference has its bound in the figure's own unit."""
    goal = Goal("bytes read", "small", "one-file", "store_read_bytes", 4 * MIB)

    verdict = judge(goal, {("small", "one-file", "coffer"): {"store_read_bytes": 5.0 * MIB}})

    assert (5.0 * MIB, False) == (verdict.ratio, verdict.reached)


@pytest.mark.parametrize(
    ("value", "reference", "expected"), [(0.0, 0.0, 0.0), (1.0, 0.0, float("inf")), (3.0, 2.0, 1.5)]
)
def test_a_ratio_over_nothing_never_flatters(value, reference, expected):
    """Growth where the peer grew by nothing counts as infinitely more, and none beside none as equal."""
    assert expected == ratio_of(value, reference)


def test_the_peak_is_the_highest_over_all_of_coffers_measurements():
    """One phase with too much memory fails the goal, and peers' memory does not count."""
    medians = {
        ("venv", "first", "coffer"): {"peak_bytes": 200.0 * MIB},
        ("small", "restore", "coffer"): {"peak_bytes": 301.0 * MIB},
        ("small", "restore", "restic"): {"peak_bytes": 900.0 * MIB},
    }

    highest = peak_verdicts(medians)[0]

    assert (301.0 * MIB, False) == (highest.value, highest.reached)
    assert highest.goal.at_most == PEAK_AT_MOST_BYTES


def test_memory_at_ten_times_the_data_is_judged_beside_that_of_the_data():
    """Growth of resident memory with the number of files is a failure, even far below the bound."""
    medians = {
        ("small", "first", "coffer"): {"peak_bytes": 100.0 * MIB},
        ("small-10x", "first", "coffer"): {"peak_bytes": 180.0 * MIB},
    }

    _, first, unchanged = peak_verdicts(medians)

    assert (1.8, False, None) == (first.ratio, first.reached, unchanged.reached)


def test_every_goal_asks_for_a_phase_that_its_tree_goes_through():
    """A goal about something nobody measures could never be reached, and would say `not measured` for ever."""
    from benchmarks.scenarios import PHASES, phases_of

    assert [] == [goal for goal in GOALS if goal.phase not in PHASES[goal.tree]]
    assert [] == [
        (goal, tool) for goal in GOALS for tool in goal.against if goal.phase not in phases_of(goal.tree, tool)
    ]
