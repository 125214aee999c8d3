"""The figures that Coffer is to reach, as data, and how each is judged. Pure: medians in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.results import Cell

MIB = 1 << 20
PEERS = ("restic", "borg")
Medians = Mapping[Cell, Mapping[str, float]]


@dataclass(frozen=True)
class Goal:
    """One figure to reach: Coffer's median, as a multiple of another's or by itself, is at most `at_most`.

    Attributes:
        title: the figure in words.
        tree: where it is measured.
        phase: what is measured.
        figure: which value of the measurement.
        at_most: the bound; a factor when `against` or `per` is set, else in the figure's own unit.
        against: tools whose smallest median the figure is divided by; none: see `per`.
        per: the figure of the same measurement that it is divided by; none: it stands by itself.
        per_name: what the figure `per` is, in words.
        tool: whose figure it is: Coffer, or Coffer in another mode.
        against_phase: the phase of the figures of `against`, where it is another one.
    """

    title: str
    tree: str
    phase: str
    figure: str
    at_most: float
    against: tuple[str, ...] = ()
    per: str | None = None
    per_name: str = "store"
    tool: str = "coffer"
    against_phase: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured. `value` and `reference` have the figure's unit; None: not measured yet.

    `ratio` is what is compared with the goal's bound.
    """

    goal: Goal
    value: float | None
    reference: float | None
    reference_tool: str | None
    ratio: float | None

    @property
    def reached(self) -> bool | None:
        """Return whether the goal is reached; None while it is not measured."""
        return None if self.ratio is None else self.ratio <= self.goal.at_most


def _goals() -> list[Goal]:
    a, b, c = "venv", "small", "big"
    goals = [
        Goal("first backup, (a), CPU", a, "first", "cpu_s", 1.15, ("limit",)),
        Goal("first backup, (a), CPU", a, "first", "cpu_s", 0.45, ("restic",)),
        Goal("first backup, (a), CPU", a, "first", "cpu_s", 0.55, ("borg",)),
        Goal("first backup, (a), wall", a, "first", "wall_s", 0.5, PEERS),
        Goal("first backup, (b), CPU", b, "first", "cpu_s", 0.35, PEERS),
        Goal("first backup, (b), wall", b, "first", "wall_s", 0.35, PEERS),
        Goal("first backup, (c), wall: 1.5 x the limit's speed", c, "first", "wall_s", 1 / 1.5, ("limit",)),
        Goal("stored size, (a)", a, "first", "stored_bytes", 0.88, PEERS),
        Goal("stored size, (b)", b, "first", "stored_bytes", 0.6, PEERS),
    ]
    for name, tree in (("a", a), ("b", b)):
        goals += [
            Goal(f"second backup, nothing changed, ({name}), wall", tree, "unchanged", "wall_s", 0.3, PEERS),
            Goal(f"second backup, 1 % of files changed, ({name}), wall", tree, "changed", "wall_s", 0.5, PEERS),
            Goal(f"store growth, 1 % of files changed, ({name})", tree, "changed", "grown_bytes", 1.2, ("restic",)),
            Goal(
                f"store growth, all files touched, ({name})", tree, "touched", "grown_bytes", 0.01, per="before_bytes"
            ),
        ]
    goals += [
        Goal(f"restore, ({name}), wall", tree, "restore", "wall_s", 0.6, PEERS)
        for name, tree in (("a", a), ("b", b), ("c", c))
    ]
    return [
        *goals,
        Goal("store growth, a copy of (a) beside it", a, "copied", "grown_bytes", 0.03, per="before_bytes"),
        Goal("verify, all data read, (a), wall", a, "verify", "wall_s", 0.5, ("restic",)),
        Goal("restore one small file from (b), read from the store", b, "one-file", "store_read_bytes", 4 * MIB),
        Goal("restore one small file from (b), wall", b, "one-file", "wall_s", 0.5, ("restic",)),
        Goal("random data: share that is stored compressed", "random", "first", "compressed_share", 0.001),
    ]


GOALS = tuple(_goals())
PEAK_AT_MOST_BYTES = 300 * MIB
# Two runs of the same program differ by some percent in resident memory; more than this would be growth with the data.
SAME_PEAK_FACTOR = 1.15


def judge(goal: Goal, medians: Medians) -> Verdict:
    """Return the verdict on `goal`: what Coffer's median is, and what it is compared with."""
    own = medians.get((goal.tree, goal.phase, goal.tool), {})
    value = own.get(goal.figure)
    reference, tool = _reference(goal, medians)
    if goal.per is not None:
        reference = own.get(goal.per)
    if value is None or (reference is None and (goal.against or goal.per)):
        return Verdict(goal, value, reference, tool, None)
    ratio = value if reference is None else ratio_of(value, reference)
    return Verdict(goal, value, reference, tool, ratio)


def _reference(goal: Goal, medians: Medians) -> tuple[float | None, str | None]:
    """Return the smallest median of the tools that the goal compares with, and whose it is.

    The faster peer is only known when every peer was measured: until then there is no reference.
    """
    found: list[tuple[float, str]] = []
    for tool in goal.against:
        figure = medians.get((goal.tree, goal.against_phase or goal.phase, tool), {}).get(goal.figure)
        if figure is None:
            return None, None
        found.append((figure, tool))
    return min(found) if found else (None, None)


def ratio_of(value: float, reference: float) -> float:
    """Return `value / reference`; nothing over nothing is 0, something over nothing is infinite."""
    if reference == 0:
        return 0.0 if value == 0 else float("inf")
    return value / reference


def peak_verdicts(medians: Medians) -> list[Verdict]:
    """Return two verdicts on memory: the highest of Coffer's peaks, and that of ten times (b) beside that of (b)."""
    own = {
        cell: figures["peak_bytes"]
        for cell, figures in medians.items()
        if cell[2] == "coffer" and "peak_bytes" in figures
    }
    highest = max(own, key=lambda cell: own[cell], default=None)
    title = "peak memory, any of these"
    tree, phase = (highest[0], highest[1]) if highest else ("", "")
    peak = own[highest] if highest else None
    verdicts = [Verdict(Goal(title, tree, phase, "peak_bytes", PEAK_AT_MOST_BYTES), peak, None, None, peak)]
    for phase in ("first", "unchanged"):
        title = f"peak memory, {phase} backup of 10 x (b), beside that of (b)"
        goal = Goal(title, "small-10x", phase, "peak_bytes", SAME_PEAK_FACTOR, ("coffer",))
        large, small = own.get(("small-10x", phase, "coffer")), own.get(("small", phase, "coffer"))
        ratio = ratio_of(large, small) if large is not None and small is not None else None
        verdicts.append(Verdict(goal, large, small, "coffer, (b)", ratio))
    return verdicts
