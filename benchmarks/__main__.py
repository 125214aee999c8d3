"""`python -m benchmarks`: measure what is not measured yet, and write the report.

make bench                                   every figure, five rounds, peers in the same run
python -m benchmarks --only venv             one tree's figures only
python -m benchmarks --quick                 small trees, one round: proves the harness, says nothing else
python -m benchmarks --heavy                 also ten times (b): 12 GB of disk, ten minutes
python -m benchmarks --report                only render results.json again
python -m benchmarks --again                 forget what was measured for these versions, and measure anew
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.install import SetupError, install_peers
from benchmarks.layout import BENCHMARKS_DIR, CACHE_DIR, PROJECT_DIR, RESULTS_JSON, RESULTS_MD
from benchmarks.measure import CommandError
from benchmarks.peers import version_of
from benchmarks.report import Facts, render
from benchmarks.results import Results
from benchmarks.scenarios import (
    COFFER_ONLY,
    HEAVY,
    PHASES,
    TOOLS,
    Plan,
    Round,
    WrongRestoreError,
    free_bytes,
    pending_tools,
)
from benchmarks.surroundings import engine_commit, machine
from benchmarks.trees import GIB, measure_tree
from benchmarks.workloads import FULL, QUICK, Scale, Workloads

NOTES_MD = BENCHMARKS_DIR / "NOTES.md"
# Measured: the trees 9 GB; the largest round, (c), 4 repositories and a restore: 16 GB; ten times (b): 14 GB.
NEEDED_BYTES = {"quick": 1 * GIB, "full": 26 * GIB}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 something failed, 2 usage."""
    options = parse(arguments)
    scale = QUICK if options.quick else FULL
    paths = (CACHE_DIR / "quick.json", CACHE_DIR / "QUICK.md") if options.quick else (RESULTS_JSON, RESULTS_MD)
    try:
        if not options.report:
            install_peers()
        versions = {name: version_of(name) for name in options.tools}
        if "coffer" in versions:
            versions["coffer"] += f" ({engine_commit()})"
        results = Results(paths[0])
        workloads = Workloads(scale)
        if options.again:
            results.forget(scale.name, versions, options.only)
        if not options.report:
            measure(options, scale, workloads, versions, results)
        write_report(scale, workloads, versions, results, paths[1])
    except (SetupError, CommandError, WrongRestoreError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(f"report: {paths[1].relative_to(PROJECT_DIR)}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed options; exits with 2 on a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Coffer's figures beside those of its peers."
    )
    parser.add_argument("--rounds", type=int, default=None, help="rounds (default: 5; quick: 1)")
    parser.add_argument(
        "--only", action="append", choices=sorted(PHASES), default=None, metavar="TREE", help=f"{sorted(PHASES)}"
    )
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(TOOLS), help="e.g. coffer,restic")
    parser.add_argument("--quick", action="store_true", help="small trees, one round; for trying the harness")
    parser.add_argument("--heavy", action="store_true", help="also ten times (b)")
    parser.add_argument("--report", action="store_true", help="measure nothing, render the report again")
    parser.add_argument("--again", action="store_true", help="measure anew what these versions have measured already")
    options = parser.parse_args(arguments)
    if unknown := set(options.tools) - set(TOOLS):
        parser.error(f"unknown tools: {', '.join(sorted(unknown))} (known: {', '.join(TOOLS)})")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 5
    if options.only is None:
        options.only = [tree for tree in PHASES if options.heavy or tree not in HEAVY]
    return options


def measure(
    options: argparse.Namespace, scale: Scale, workloads: Workloads, versions: dict[str, str], results: Results
) -> None:
    """Run every round that is not done yet.

    Raises:
        SetupError: too little room on the disk.
        CommandError: a tool failed; what was measured before is kept.
        WrongRestoreError: a tool's restore is not complete.
    """
    if free_bytes() < NEEDED_BYTES[scale.name]:
        raise SetupError(f"{free_bytes() / GIB:.0f} GiB free: {NEEDED_BYTES[scale.name] / GIB:.0f} GiB are needed")
    for round_number in range(options.rounds):
        for tree in options.only:
            # One round of the heavy tree answers its question: memory differs little between runs.
            if tree in HEAVY and round_number:
                continue
            taking_part = {t: v for t, v in versions.items() if tree not in COFFER_ONLY or t == "coffer"}
            plan = Plan(scale.name, tree, round_number, taking_part)
            if pending_tools(plan, results):
                Round(plan, workloads.tree(tree), results).run()
            if tree in HEAVY:
                workloads.drop(tree)


def write_report(scale: Scale, workloads: Workloads, versions: dict[str, str], results: Results, path: Path) -> None:
    """Render all measurements of these versions to `path`, and print which goals are not reached."""
    measurements = results.of(scale.name, versions)
    seen = dict.fromkeys(m.tree for m in measurements)
    sizes = {tree: measure_tree(workloads.tree(tree)) for tree in seen if tree not in HEAVY}
    notes = NOTES_MD.read_text() if NOTES_MD.exists() else ""
    path.write_text(render(measurements, Facts(versions, machine(), sizes, notes)))


if __name__ == "__main__":
    sys.exit(main())
