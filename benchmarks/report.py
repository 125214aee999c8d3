"""The report: goals beside what was measured, all medians, versions, machine, commands. Pure: data in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.goals import GOALS, MIB, Verdict, judge, peak_verdicts
from benchmarks.results import Cell, Measurement, medians, spread

TREE_TITLES = {
    "venv": "(a) the project's virtual environment",
    "small": "(b) small files of 1-8 KiB",
    "big": "(c) one file, the first half random",
    "postgres": "(d) a PostgreSQL data folder",
    "random": "random data alone",
    "small-10x": "ten times (b)",
}
PHASE_TITLES = {
    "first": "first backup",
    "unchanged": "second backup, nothing changed",
    "restore": "restore",
    "verify": "verify, all data read",
    "one-file": "restore of one small file",
    "changed": "backup, 1 % of files changed",
    "touched": "backup, all files touched",
    "copied": "backup, a copy of the tree beside it",
}
_TOOL_ORDER = ("coffer", "restic", "borg", "limit")
_PHASE_HEADER = (
    "phase",
    "tool",
    "rounds",
    "wall s",
    "CPU s",
    "peak MiB",
    "stored MiB",
    "grown MiB",
    "others' CPU s",
    "more",
)
_METHOD = """\
- Each round has fresh repositories. Within a phase the tools run one after another; each round begins with another
  tool.
- Every run is a fresh process. The source was read once before, so it is in the page cache; buffers are written out
  first.
- Wall: from start to exit. CPU: user and system time of the process tree, by `wait4`. Peak: resident memory of the
  largest process of the tree (for the pipeline: its largest program).
- Stored: the sum of the lengths of all files of the repository. Grown: that after the run, less that before.
- Read of the store: every read of the process tree on the repository's files, counted by strace in a separate, untimed
  run. restic and borg keep copies of their indexes beside the repository; what is read there is the second number.
- Others' CPU: what the rest of the machine used meanwhile, the kernel's write-back included. Much of it makes a figure
  doubtful.
- A restore counts only when it holds as many files and bytes as the source.
- 1 % changed: in a seeded 1 % of the files, 64 bytes are put into the middle. Touched: every modification time is moved
  by one second.
- The limit is `tar | zstd -3 -T2 | openssl enc -aes-256-ctr`, the sum of all three."""


@dataclass(frozen=True)
class Facts:
    """What stands around the figures: the versions of the tools, the machine and the trees (name → files, bytes)."""

    versions: dict[str, str]
    machine: dict[str, str]
    trees: dict[str, tuple[int, int]]
    notes: str


def render(measurements: Sequence[Measurement], facts: Facts) -> str:
    """Return the whole report as Markdown."""
    middle = medians(measurements)
    verdicts = [*(judge(goal, middle) for goal in GOALS), *peak_verdicts(middle)]
    parts = [
        "# Figures",
        f"{count_reached(verdicts)} Written by `make bench`; the raw numbers are in `results.json`.",
        "## Goals",
        goals_table(verdicts),
        *([facts.notes.strip()] if facts.notes.strip() else []),
        "## All medians",
        "Median, and the lowest and highest of the rounds in brackets.",
        *_phase_tables(measurements),
        "## How it was measured",
        _METHOD,
        _facts(measurements, facts),
        "## Commands",
        _commands(measurements),
    ]
    return "\n\n".join(parts) + "\n"


def count_reached(verdicts: Sequence[Verdict]) -> str:
    """Return how many of the goals are reached, in one sentence."""
    judged = [v.reached for v in verdicts if v.reached is not None]
    return f"{sum(judged)} of {len(judged)} goals reached, {len(verdicts) - len(judged)} not measured."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def quantity(figure: str, value: float | None) -> str:
    """Return a value with its unit, which the figure's name tells."""
    if value is None:
        return "–"
    if figure.endswith("_s"):
        return f"{value:.2f} s"
    if figure.endswith("_bytes"):
        return f"{value / 2**20:.2f} MiB"
    return f"{100 * value:.2f} %"


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Return the goals beside what was measured, as a Markdown table."""
    rows = [
        (v.goal.title, *_bound(v), quantity(v.goal.figure, v.value), _measured(v), _word(v.reached)) for v in verdicts
    ]
    return table(("figure", "to reach", "compared with", "Coffer", "measured", "reached"), rows)


def _bound(verdict: Verdict) -> tuple[str, str]:
    goal = verdict.goal
    if goal.per is not None:
        return f"≤ {100 * goal.at_most:g} %", f"{goal.per_name}: {quantity(goal.per, verdict.reference)}"
    if goal.against:
        name = verdict.reference_tool or " or ".join(goal.against)
        return f"≤ {goal.at_most:.3g} x", f"{name}: {quantity(goal.figure, verdict.reference)}"
    return f"≤ {quantity(goal.figure, goal.at_most)}", ""


def _measured(verdict: Verdict) -> str:
    if verdict.ratio is None:
        return "–"
    if verdict.goal.per is not None:
        return f"{100 * verdict.ratio:.2f} %"
    return f"{verdict.ratio:.3f} x" if verdict.goal.against else ""


def _word(reached: bool | None) -> str:  # noqa: FBT001 - a table cell of three values
    return {True: "yes", False: "**no**", None: "not measured"}[reached]


def _phase_tables(measurements: Sequence[Measurement]) -> list[str]:
    cells = spread(measurements)
    parts = []
    for tree, title in TREE_TITLES.items():
        wanted = [(tree, phase, tool) for phase in PHASE_TITLES for tool in _TOOL_ORDER]
        rows = [_phase_row(cell, cells[cell]) for cell in wanted if cell in cells]
        if rows:
            parts += [f"### {title}", table(_PHASE_HEADER, rows)]
    return parts


def _phase_row(cell: Cell, figures: dict[str, list[float]]) -> list[str]:
    def column(name: str, unit: float = 1.0, digits: int = 2) -> str:
        return median_and_range([value / unit for value in figures.get(name, ())], digits)

    more = []
    if "store_read_bytes" in figures:
        more.append(f"read {column('store_read_bytes', MIB)} MiB of the store")
        more.append(f"{column('cache_read_bytes', MIB)} MiB of its own cache")
    if "compressed_share" in figures:
        more.append(f"stored compressed: {column('compressed_share', 0.01)} %")
    sizes = [column("peak_bytes", MIB, 0), column("stored_bytes", MIB, 1), column("grown_bytes", MIB)]
    times = [column("wall_s"), column("cpu_s")]
    others = column("others_cpu_s", 1.0, 1)
    return [PHASE_TITLES[cell[1]], cell[2], str(len(figures["wall_s"])), *times, *sizes, others, "; ".join(more)]


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return `median (lowest–highest)`, the median alone when all are equal, nothing when there are none."""
    if not values:
        return ""
    middle, low, high = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def _facts(measurements: Sequence[Measurement], facts: Facts) -> str:
    rows = [(f"version of {name}", version) for name, version in facts.versions.items()]
    rows += list(facts.machine.items())
    rows += [
        (TREE_TITLES.get(name, name), f"{files:,} files, {size / 2**20:,.0f} MiB")
        for name, (files, size) in facts.trees.items()
    ]
    for tool in facts.versions:
        times = sorted(m.when for m in measurements if m.tool == tool)
        rows += [(f"{tool} measured", f"{times[0]} to {times[-1]}")] if times else []
    return table(("what", "value"), rows)


def _commands(measurements: Sequence[Measurement]) -> str:
    """Return the command of each phase and tool, on the first tree that has it."""
    found = {(m.phase, m.tool): m.command for tree in reversed(TREE_TITLES) for m in measurements if m.tree == tree}
    wanted = [(phase, tool) for phase in PHASE_TITLES for tool in _TOOL_ORDER if (phase, tool) in found]
    return commands_table([(PHASE_TITLES[phase], found[phase, tool]) for phase, tool in wanted])


def commands_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return (phase, command line) as a Markdown table."""
    # A bar would end the table's cell.
    return table(("phase", "command"), [(phase, "`" + line.replace("|", "\\|") + "`") for phase, line in rows])
