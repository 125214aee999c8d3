"""The report of the PostgreSQL figures. Pure: data in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.goals import MIB, judge
from benchmarks.postgres.contenders import CONTENDERS
from benchmarks.postgres.goals import OWN, goals_of, peak_verdict
from benchmarks.postgres.scenarios import DAYS, PHASES, tree_of
from benchmarks.report import commands_table, count_reached, goals_table, median_and_range, table
from benchmarks.results import Cell, Measurement, medians, spread

SCENARIO_TITLES = {
    "single": "one full backup and one incremental",
    "chain": f"one full backup and {DAYS} incrementals under load",
    "wal": "the restore command",
}
PHASE_TITLES = {
    "full": "full backup",
    "restore-full": "restore of it",
    "changed": "incremental, 1 % of pages changed",
    "restore-changed": "restore of it",
    **{f"day-{day}": f"incremental {day}" for day in range(1, DAYS + 1)},
    "restore-sixth": "restore of the sixth",
    "fetch": "fetch of all segments",
}
# The days between the first and the last are in the tables of medians only.
_MIDDLE_DAYS = frozenset(f"day-{day}" for day in range(2, DAYS))
_HEADER = (
    "phase",
    "tool",
    "rounds",
    "wall s",
    "CPU s",
    "MB/s",
    "peak MiB",
    "backups MiB",
    "WAL MiB",
    "grown MiB",
    "others' CPU s",
    "more",
)
_METHOD = """\
- Each round has a fresh copy of the cluster and fresh repositories. The server is at rest (checkpoint, all WAL
  archived) while the tools run one after another, and each round begins with another tool.
- Every run is a fresh process. Wall: from start to exit. CPU: of the process tree, by `wait4`; what the server does for
  the tools that speak to it is among *others' CPU*, while pgBackRest reads the files itself. Peak: resident memory of
  the largest process of the tree.
- MB/s: the length of the cluster's files below `base/`, by wall time; 1 MB is 10^6 bytes.
- Backups: the sum of the lengths of the repository's files without its archived WAL. Grown: that after the run, less
  that before. Coffer's and pgBackRest's archives hold all WAL since the first backup.
- 1 % changed: one row in every n-th page of `pgbench_accounts` is updated. Which pages changed is counted by comparing
  the server's files before and after, page by page.
- The load between the incrementals is a fixed number of pgbench's transactions with a fixed seed.
- Every restore is started, recovers, and must give the same number of rows and the same digest for each table as the
  server gave when it was backed up. In the first round every backup of the chain is restored and compared.
- Restore is the tool's own command: recovery afterwards is not measured.
- The restore command is run for one segment after another, each in a shell of its own, as the server runs it; each
  segment is compared with what the server wrote. Both tools fetch ahead in processes of their own, whose CPU time is
  among *others' CPU*.
- The limit is `pg_basebackup -Ft -X fetch | zstd -3 -T2 | openssl enc -aes-256-ctr`, the sum of all three;
  `-X stream` cannot be had in a pipe.
- pgBackRest: zstd level 3, AES-256-CBC, two processes, bundles, block incremental. Barman: its method `postgres`, not
  encrypted; compressed by zstd before PostgreSQL 17 only, as its incrementals ask for backups that are not compressed.
  pg_combinebackup: a chain of plain folders, neither compressed nor encrypted."""


@dataclass(frozen=True)
class Facts:
    """What stands around the figures: versions of the tools by server, the content, the machine, notes."""

    versions: dict[int, dict[str, str]]
    content: str
    machine: dict[str, str]
    notes: str


def render(measurements: Sequence[Measurement], facts: Facts) -> str:
    """Return the whole report as Markdown."""
    middle = medians(measurements)
    verdicts = [judge(goal, middle) for major in facts.versions for goal in goals_of(major)]
    verdicts.append(peak_verdict(middle))
    parts = [
        "# PostgreSQL figures",
        f"{count_reached(verdicts)} Written by `make bench-postgres`; the raw numbers are in `postgres.json`.",
        "## Goals",
        goals_table(verdicts),
        *([facts.notes.strip()] if facts.notes.strip() else []),
        "## Beside the peers",
        "Coffer's median wall time, as a multiple of each peer's.",
        _ratios(middle),
        "## All medians",
        "Median, and the lowest and highest of the rounds in brackets.",
        *_tables(measurements, facts),
        "## How it was measured",
        _METHOD,
        _facts(measurements, facts),
        "## Commands",
        _commands(measurements),
    ]
    return "\n\n".join(parts) + "\n"


def _ratios(middle: dict[Cell, dict[str, float]]) -> str:
    peers = [name for name in CONTENDERS if name not in OWN]
    rows = []
    for tree in sorted({cell[0] for cell in middle}):
        for phase in PHASES[tree.split("-")[1]]:
            if phase in _MIDDLE_DAYS:
                continue
            for tool in OWN:
                own = middle.get((tree, phase, tool))
                if own is None:
                    continue
                others = [middle.get((tree, phase, peer)) for peer in peers]
                cells = [f"{own['wall_s'] / other['wall_s']:.2f} x" if other else "" for other in others]
                rows.append((tree, PHASE_TITLES[phase], tool, f"{own['wall_s']:.2f}", *cells))
    return table(("where", "phase", "tool", "wall s", *peers), rows)


def _tables(measurements: Sequence[Measurement], facts: Facts) -> list[str]:
    cells = spread(measurements)
    parts = []
    for major in facts.versions:
        for scenario, title in SCENARIO_TITLES.items():
            tree = tree_of(major, scenario)
            wanted = [(tree, phase, tool) for phase in PHASES[scenario] for tool in CONTENDERS]
            rows = [_row(cell, cells[cell]) for cell in wanted if cell in cells]
            if rows:
                parts += [f"### PostgreSQL {major}: {title}", table(_HEADER, rows)]
    return parts


def _row(cell: Cell, figures: dict[str, list[float]]) -> list[str]:
    def column(name: str, unit: float = 1.0, digits: int = 2) -> str:
        return median_and_range([value / unit for value in figures.get(name, ())], digits)

    speeds = [size / wall / 1e6 for size, wall in zip(figures.get("source_bytes", ()), figures["wall_s"], strict=False)]
    times = [column("wall_s"), column("cpu_s"), median_and_range(speeds, 0)]
    sizes = [column("peak_bytes", MIB, 0), column("backups_bytes", MIB, 1), column("wal_bytes", MIB, 1)]
    sizes.append(column("backups_grown_bytes", MIB))
    others = column("others_cpu_s", 1.0, 1)
    return [PHASE_TITLES[cell[1]], cell[2], str(len(figures["wall_s"])), *times, *sizes, others, _more(figures)]


def _more(figures: dict[str, list[float]]) -> str:
    parts = []
    for name, words in (("read_bytes", "read from the server"), ("changed_bytes", "changed")):
        if name in figures:
            parts.append(f"{median_and_range([value / MIB for value in figures[name]], 1)} MiB {words}")
    if "segments" in figures:
        rates = [count / wall for count, wall in zip(figures["segments"], figures["wall_s"], strict=True)]
        parts.append(f"{median_and_range(rates, 1)} segments a second")
    if fell_back := sum(figures.get("fell_back", ())):
        parts.append(f"fell back to another method in {fell_back:.0f} rounds")
    return "; ".join(parts)


def _facts(measurements: Sequence[Measurement], facts: Facts) -> str:
    rows = [("content of the cluster", facts.content)]
    for major, versions in facts.versions.items():
        rows += [(f"PostgreSQL {major}: {name}", version) for name, version in versions.items()]
    rows += list(facts.machine.items())
    times = sorted(m.when for m in measurements)
    rows += [("measured", f"{times[0]} to {times[-1]}")] if times else []
    return table(("what", "value"), rows)


def _commands(measurements: Sequence[Measurement]) -> str:
    """Return the command of each phase and tool, on the last tree that has it."""
    found = {(m.phase, m.tool): m.command for m in measurements}
    skipped = {f"day-{day}" for day in range(2, DAYS + 1)}
    wanted = [(phase, tool) for phase in PHASE_TITLES if phase not in skipped for tool in CONTENDERS]
    return commands_table(
        [(PHASE_TITLES[phase], found[phase, tool]) for phase, tool in wanted if (phase, tool) in found]
    )
