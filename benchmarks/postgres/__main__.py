"""`python -m benchmarks.postgres`: measure what is not measured yet, and write the report.

python -m benchmarks.postgres                every figure on every server that is here, scale 100, peers in the same run
python -m benchmarks.postgres --quick        scale 5, one round, few segments: proves the harness, says nothing else
python -m benchmarks.postgres --pg 18        one version only
python -m benchmarks.postgres --only single  one scenario only: single, chain or wal
python -m benchmarks.postgres --scale 500    a larger cluster; its report is POSTGRES-blank-500.md
python -m benchmarks.postgres --filler text   rows that compress to a half; pgbench's own compress to next to nothing
python -m benchmarks.postgres --report       only render postgres.json again
python -m benchmarks.postgres --again        forget what was measured for these versions, and measure anew

An interrupted run goes on where it stopped: each measurement is kept the moment it is made.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.install import SetupError
from benchmarks.layout import CACHE_DIR, POSTGRES_JSON, POSTGRES_MD, PROJECT_DIR
from benchmarks.measure import CommandError
from benchmarks.peers import version_of
from benchmarks.postgres.cluster import FILLERS, Content, gold
from benchmarks.postgres.contenders import CONTENDERS
from benchmarks.postgres.programs import BARMAN, PGBACKREST, first_line, install_peers
from benchmarks.postgres.report import Facts, render
from benchmarks.postgres.scenarios import PHASES, Round, Setting, needed_bytes, phases_of, tree_of
from benchmarks.results import Measurement, Results
from benchmarks.scenarios import Plan, WrongRestoreError, free_bytes, pending_tools
from benchmarks.surroundings import engine_commit, machine
from tests.harness.postgres import Installation, Servers, installations

NOTES_MD = Path(__file__).with_name("NOTES.md")
QUICK_SCALE, FULL_SCALE = 5, 100
QUICK_SEGMENTS, FULL_SEGMENTS = 6, 60
ROUNDS = 5
# Its six days make a round long, and what it is about, sizes, hardly differs between rounds.
CHAIN_ROUNDS_MAX = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 something failed, 2 usage."""
    options = parse(arguments)
    paths = paths_of(options)
    try:
        servers = chosen_servers(options.pg)
        if not options.report:
            install_peers(options.tools)
        commit = engine_commit()
        versions = {server.major: versions_of(server, options.tools, commit) for server in servers}
        results = Results(paths[0])
        if options.again:
            forget(options, versions, results)
        if not options.report:
            measure(options, servers, versions, results)
        write_report(options, versions, results, paths[1])
    except (SetupError, CommandError, WrongRestoreError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(f"report: {paths[1].relative_to(PROJECT_DIR)}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed options; exits with 2 on a mistake."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description="Coffer's PostgreSQL figures.")
    words = ",".join
    parser.add_argument("--pg", action="append", type=int, metavar="MAJOR", help="version of the server (default: all)")
    parser.add_argument("--scale", type=int, help=f"pgbench's scale (default: {FULL_SCALE}; quick: {QUICK_SCALE})")
    parser.add_argument("--filler", choices=FILLERS, default=FILLERS[0], help="what is in the rows' filler")
    parser.add_argument("--segments", type=int, help=f"WAL segments to fetch (default: {FULL_SEGMENTS})")
    parser.add_argument("--rounds", type=int, help=f"rounds (default: {ROUNDS}, chain {CHAIN_ROUNDS_MAX}; quick: 1)")
    parser.add_argument("--only", action="append", choices=list(PHASES), help="one scenario; may be given again")
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(CONTENDERS), help=words(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="a small cluster, one round; for trying the harness")
    parser.add_argument("--report", action="store_true", help="measure nothing, render the report again")
    parser.add_argument("--again", action="store_true", help="measure anew what these versions have measured already")
    options = parser.parse_args(arguments)
    if unknown := set(options.tools) - set(CONTENDERS):
        parser.error(f"unknown tools: {', '.join(sorted(unknown))} (known: {', '.join(CONTENDERS)})")
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.scale = options.scale or (QUICK_SCALE if options.quick else FULL_SCALE)
    options.segments = options.segments or (QUICK_SEGMENTS if options.quick else FULL_SEGMENTS)
    options.only = options.only or list(PHASES)
    return options


def paths_of(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return where the raw numbers and the report go; another content than the usual one has a report of its own."""
    if options.quick:
        return CACHE_DIR / "postgres-quick.json", CACHE_DIR / "POSTGRES-QUICK.md"
    content = Content(options.scale, options.filler)
    if content == Content(FULL_SCALE):
        return POSTGRES_JSON, POSTGRES_MD
    return POSTGRES_JSON, POSTGRES_MD.with_stem(f"{POSTGRES_MD.stem}-{content}")


def chosen_servers(majors: list[int] | None) -> list[Installation]:
    """Return the servers of this machine, or those of these versions.

    Raises:
        SetupError: one of them is not here.
    """
    here = installations()
    if missing := set(majors or ()) - {found.major for found in here}:
        raise SetupError(f"PostgreSQL {', '.join(map(str, missing))} is not here; found: {', '.join(map(str, here))}")
    # Its own user must be able to run it: the harness knows how.
    return [Servers(found).installation for found in here if not majors or found.major in majors]


def versions_of(installation: Installation, tools: list[str], commit: str) -> dict[str, str]:
    """Return what each tool says of its version, with the server's where it takes part in the work."""
    server = first_line(installation.programs / "postgres", "--version").removeprefix("postgres ")
    own = f"{version_of('coffer')} ({commit}), {server}"
    known = {
        "coffer": lambda: own,
        "coffer-native": lambda: own,
        "limit": lambda: "; ".join((f"pg_basebackup {server}", first_line("zstd", "--version"), _openssl())),
        "pgbackrest": lambda: f"{first_line(PGBACKREST, 'version')}, {server}",
        "barman": lambda: f"barman {first_line(BARMAN, '--version').split()[0]}, {server}",
        "pg_combinebackup": lambda: server,
    }
    return {name: known[name]() for name in tools}


def _openssl() -> str:
    return first_line("openssl", "version")


def scale_of(options: argparse.Namespace) -> str:
    """Return the name of the scale, as the results are keyed."""
    return f"{Content(options.scale, options.filler)}{'-quick' if options.quick else ''}"


def rounds_of(options: argparse.Namespace, scenario: str) -> int:
    """Return how many rounds a scenario has."""
    rounds: int = options.rounds
    return min(rounds, CHAIN_ROUNDS_MAX) if scenario == "chain" else rounds


def forget(options: argparse.Namespace, versions: dict[int, dict[str, str]], results: Results) -> None:
    """Drop what these versions measured in these scenarios."""
    for major, tools in versions.items():
        results.forget(scale_of(options), tools, [tree_of(major, scenario) for scenario in options.only])


def measure(
    options: argparse.Namespace, servers: list[Installation], versions: dict[int, dict[str, str]], results: Results
) -> None:
    """Run every round that is not done yet; versions and scenarios take turns.

    Raises:
        SetupError: too little room on the disk.
        CommandError: a tool failed; what was measured before is kept.
        WrongRestoreError: a tool's restore does not hold what the server held.
    """
    needed = needed_bytes(options.scale)
    if free_bytes() < needed:
        raise SetupError(f"{free_bytes() >> 30} GiB free: {needed >> 30} GiB are needed")
    content = Content(options.scale, options.filler)
    for number in range(options.rounds):
        for scenario in options.only:
            for server in servers if number < rounds_of(options, scenario) else ():
                tree = tree_of(server.major, scenario)
                taking_part = {t: v for t, v in versions[server.major].items() if phases_of(tree, t)}
                plan = Plan(scale_of(options), tree, number, taking_part)
                if not pending_tools(plan, results, CONTENDERS, phases_of):
                    continue
                gold(server, content)
                started_s = time.perf_counter()
                Round(plan, Setting(server, content, options.segments), results).run()
                print(f"{tree:11} round {number}: {time.perf_counter() - started_s:.0f} s in all", flush=True)


def write_report(
    options: argparse.Namespace, versions: dict[int, dict[str, str]], results: Results, path: Path
) -> None:
    """Render all measurements of these versions to `path`."""
    scale = scale_of(options)
    measurements: list[Measurement] = []
    for major, tools in versions.items():
        measurements += [m for m in results.of(scale, tools) if m.tree.startswith(f"pg{major}-")]
    notes = NOTES_MD.read_text() if NOTES_MD.exists() and not options.quick else ""
    filler = {"blank": "pgbench's own rows, whose filler is blank", "text": "pgbench's rows with hexadecimal text"}
    content = f"scale {options.scale} ({options.scale * 100_000:,} accounts); {filler[options.filler]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(measurements, Facts(versions, content, machine(), notes)))


if __name__ == "__main__":
    sys.exit(main())
