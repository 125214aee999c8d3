"""One round on one server: which phases there are, in which order, and what each of them measures.

`single`  a full backup and its restore; 1 % of the pages change; an incremental and its restore
`chain`   a full backup and six incrementals, with pgbench's load before each; the sixth is restored
`wal`     the restore command: the segments of a load, one after another

Each round has a fresh copy of the cluster and fresh repositories. The server is at rest while the tools run one after
another, so all of them meet the same state; each round begins with another tool. Every restore is started, recovers,
and must hold the rows that the server held: only then does its time, or the size of what it came from, count.
"""

from __future__ import annotations

import filecmp
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import trees
from benchmarks.measure import Command, CommandError, Cost, launch, stored_bytes
from benchmarks.peers import COFFER
from benchmarks.postgres import cluster
from benchmarks.postgres.cluster import SCRATCH_DIR, Content, Digest
from benchmarks.postgres.contenders import CONTENDERS, Contender
from benchmarks.postgres.goals import NATIVE_SINCE
from benchmarks.postgres.pages import changed_pages, fingerprint, pages_of
from benchmarks.postgres.programs import BARMAN, PGBACKREST
from benchmarks.results import Measurement, Results
from benchmarks.scenarios import Plan, WrongRestoreError, figures_of, one_line, pending_tools
from tests.harness.postgres import Installation, Server, free_port, wait_for

DAYS = 6
PHASES: dict[str, tuple[str, ...]] = {
    "single": ("full", "restore-full", "changed", "restore-changed"),
    "chain": ("full", *(f"day-{day}" for day in range(1, DAYS + 1)), "restore-sixth"),
    "wal": ("fetch",),
}
# Who is compared in what; who is not there at all before PostgreSQL 17 is left out below.
_TAKING_PART = {
    "single": tuple(CONTENDERS),
    "chain": ("coffer", "coffer-native", "pgbackrest", "pg_combinebackup"),
    "wal": ("coffer", "pgbackrest"),
}
_LEFT_OUT = {
    "limit": {"changed", "restore-changed"},  # knows no incremental
    "pg_combinebackup": {"restore-full"},  # its full backup is the restored folder
}
_NEEDS_NATIVE = ("coffer-native", "pg_combinebackup")
_PROOF_SETTINGS = {"archive_mode": "off", "autovacuum": "off", "shared_buffers": "256MB"}
_LOAD_SHARE = 0.03  # of the accounts' pages, by each day's load: one transaction changes one of them
_ACCOUNTS_PAGES_PER_UNIT = 1_800
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Setting:
    """Where a round takes place: the server's programs, what it holds, and how many segments are fetched."""

    installation: Installation
    content: Content
    segments: int


def tree_of(major: int, scenario: str) -> str:
    """Return the name of a scenario on a version, as the results are keyed."""
    return f"pg{major}-{scenario}"


def phases_of(tree: str, tool: str) -> tuple[str, ...]:
    """Return the phases that `tool` goes through on `tree`."""
    version, scenario = tree.removeprefix("pg").split("-")
    if tool not in _TAKING_PART[scenario]:
        return ()
    left_out = set(_LEFT_OUT.get(tool, ()))
    if int(version) < NATIVE_SINCE:
        if tool in _NEEDS_NATIVE:
            return ()
        if tool == "barman":
            left_out |= {"changed", "restore-changed"}
    return tuple(phase for phase in PHASES[scenario] if phase not in left_out)


class Round:
    """One round of one scenario, for the tools that have something to do in it."""

    def __init__(self, plan: Plan, setting: Setting, results: Results) -> None:
        """Bind; `results` takes each measurement at once."""
        self._plan = plan
        self._setting = setting
        self._results = results
        self._names = pending_tools(plan, results, CONTENDERS, phases_of)
        self._tools: list[Contender] = []
        self._expected: Digest = []
        self._source_bytes = 0
        self._shown = ""

    def run(self) -> None:
        """Go through the phases. The scratch folder is emptied before, and after a round that went well.

        Raises:
            CommandError: a tool failed. What was measured before is kept.
            WrongRestoreError: a restore does not hold what the server held.
        """
        steps = {"single": self._single, "chain": self._chain, "wal": self._wal}
        trees.remove(SCRATCH_DIR)
        with self._server() as server:
            self._tools = [CONTENDERS[name](server, SCRATCH_DIR / name) for name in self._names]
            for tool in self._tools:
                for command in tool.init():
                    launch(command)
            cluster.archive_by(server.home, [line for tool in self._tools for line in tool.archive_lines()])
            steps[self._plan.tree.split("-")[1]](server)
        wait_until_idle(SCRATCH_DIR)
        trees.remove(SCRATCH_DIR)

    @contextmanager
    def _server(self) -> Iterator[Server]:
        setting = self._setting
        server = cluster.start_copy(setting.installation, setting.content, SCRATCH_DIR / "server")
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)

    # ----------------------------------------------------------------------------------------------- the scenarios

    def _single(self, server: Server) -> None:
        self._rest(server)
        self._each("full", self._back_up)
        before = fingerprint(server.data)
        self._each("restore-full", self._restore)
        cluster.change_one_percent(server, pages_of(before))
        self._rest(server)
        changed = changed_pages(before, server.data)
        sizes = {"changed_bytes": float(changed.size_bytes), "zstd_bytes": float(changed.zstd_bytes)}
        self._each("changed", lambda phase, tool: self._back_up(phase, tool) | sizes)
        self._each("restore-changed", self._restore)

    def _chain(self, server: Server) -> None:
        transactions = round(self._setting.content.scale * _ACCOUNTS_PAGES_PER_UNIT * _LOAD_SHARE)
        self._rest(server)
        self._each("full", self._back_up)
        for day in range(1, DAYS + 1):
            before = fingerprint(server.data)
            cluster.load(server, transactions, seed=self._plan.round * DAYS + day)
            self._rest(server)
            sizes = {"changed_bytes": float(changed_pages(before, server.data).size_bytes)}
            self._each(f"day-{day}", lambda phase, tool, sizes=sizes: self._back_up(phase, tool) | sizes)
            if self._plan.round == 0 and day < DAYS:
                self._prove_all()
        self._each("restore-sixth", self._restore)

    def _wal(self, server: Server) -> None:
        kept = cluster.own(SCRATCH_DIR / "kept")
        lines = [line for tool in self._tools for line in tool.archive_lines()]
        cluster.archive_by(server.home, [*lines, f'cp "$1" {shlex.quote(str(kept))}/"$2"'])
        self._rest(server)
        for tool in self._tools:
            launch(tool.full())  # Coffer's receiver begins where its first backup does
        first = server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        cluster.write_segments(server, self._setting.segments, self._setting.content, seed=self._plan.round)
        self._rest(server)
        for tool in self._tools:
            launch(tool.incremental())
        names = sorted(path.name for path in kept.iterdir() if len(path.name) == len(first) and path.name > first)
        segments = names[: self._setting.segments]
        assert len(segments) == self._setting.segments, f"{len(names)} segments"
        self._each("fetch", lambda _, tool: self._fetch(tool, segments, kept))

    # ----------------------------------------------------------------------------------------------- the steps

    def _rest(self, server: Server) -> None:
        """Bring the server to rest, and learn what it holds. Reading it sets hint bits, so this comes first."""
        self._expected = cluster.digest(server)
        cluster.settle(server)
        self._source_bytes = sum(path.stat().st_size for path in trees.regular_files(server.data / "base"))

    def _each(self, phase: str, step: Callable[[str, Contender], dict[str, float]]) -> None:
        plan = self._plan
        for tool in self._tools:
            if phase not in phases_of(plan.tree, tool.name):
                continue
            values = step(phase, tool)
            when = datetime.now().astimezone().isoformat(timespec="seconds")  # a label, and never compared
            version, line = plan.versions[tool.name], self._shown
            self._results.add(
                Measurement(plan.scale, plan.tree, phase, tool.name, version, plan.round, values, line, when)
            )
            print(f"{plan.tree:11} {phase:15} {tool.name:16} round {plan.round}: {one_line(values)}", flush=True)

    def _launch(self, tool: Contender, command: Command) -> Cost:
        self._shown = printable(command, tool.server)
        return launch(command)

    def _back_up(self, phase: str, tool: Contender) -> dict[str, float]:
        before = sizes_of(tool)
        cost = self._launch(tool, tool.full() if phase == "full" else tool.incremental())
        for command in tool.after_backup():
            launch(command)
        after = sizes_of(tool)
        grown = {f"{name.removesuffix('_bytes')}_grown_bytes": after[name] - before[name] for name in after}
        return {**figures_of(cost), **after, **grown, "source_bytes": self._source_bytes, **tool.figures(cost.output)}

    def _restore(self, _: str, tool: Contender) -> dict[str, float]:
        home = cluster.own(SCRATCH_DIR / "restored")
        cost = self._launch(tool, tool.restore(cluster.own(home / "data")))
        self._prove(tool, home)
        trees.remove(home)
        return {**figures_of(cost), "source_bytes": self._source_bytes}

    def _prove(self, tool: Contender, home: Path) -> None:
        """Start what was restored into `home`, let it recover, and compare its rows with those of the source."""
        restored = Server(self._setting.installation, home, free_port(), _PROOF_SETTINGS)
        try:
            restored.start()
            wait_for(lambda: not restored.value("SELECT pg_is_in_recovery()"), "the end of recovery", 600)
            found = cluster.digest(restored)
        except AssertionError as error:
            raise WrongRestoreError(f"{tool.name}: what was restored does not start: {error}") from error
        finally:
            restored.stop(signal.SIGQUIT)
        if found != self._expected:
            raise WrongRestoreError(f"{tool.name} restored {found} of {self._expected} (rows, digest of each table)")

    def _prove_all(self) -> None:
        """Restore and prove the last backup of each tool, untimed: every backup of one chain is proved once."""
        for tool in self._tools:
            self._restore("", tool)

    def _fetch(self, tool: Contender, segments: list[str], kept: Path) -> dict[str, float]:
        target = cluster.own(SCRATCH_DIR / "fetched")
        cost = self._launch(tool, tool.fetch(segments, target))
        _, wrong, missing = filecmp.cmpfiles(kept, target, segments, shallow=False)
        if wrong or missing:
            raise WrongRestoreError(f"{tool.name} fetched other segments than the server wrote: {wrong + missing}")
        wait_until_idle(tool.home)  # what fetches ahead ends by itself
        trees.remove(target)
        return {**figures_of(cost), "segments": len(segments)}


def sizes_of(tool: Contender) -> dict[str, float]:
    """Return the sizes of a repository: all of it, its archived WAL, and the rest, which are the backups."""
    everything = stored_bytes(tool.repository())
    folder = tool.wal_folder()
    wal = stored_bytes(folder) if folder is not None else 0
    return {"stored_bytes": everything, "wal_bytes": wal, "backups_bytes": everything - wal}


def processes_naming(folder: Path) -> list[int]:
    """Return the processes in whose command line a path below `folder`, or it itself, stands."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is not ours
            continue
    return found


def wait_until_idle(folder: Path, timeout_s: float = 120.0) -> None:
    """Wait until no process works with `folder` any more: what a tool left running ends by itself.

    Raises:
        CommandError: one is still there when the time is over.
    """
    until_s = time.monotonic() + timeout_s
    while left := processes_naming(folder):
        if time.monotonic() > until_s:
            raise CommandError(f"{folder.name}: processes {left} do not end")
        time.sleep(_LOOK_AGAIN_S)


def printable(command: Command, server: Server) -> str:
    """Return a command line as it stands in the report: programs by name, `/bench` for the folder, no port."""
    words = command.argv
    if words[0] == "setpriv":
        words = words[words.index("--") + 1 :]
    line = words[-1] if words[:2] == ("bash", "-o") else shlex.join(words)
    for program in (COFFER, PGBACKREST, BARMAN):
        line = line.replace(str(program), program.name)
    line = line.replace(f"{server.installation.programs}/", "").replace(str(SCRATCH_DIR), "/bench")
    return line.replace(str(server.port), "PORT")


def needed_bytes(scale: int) -> int:
    """Return how much room a run takes: clusters, repositories of which some are not compressed, one restore."""
    return (4 << 30) + scale * 12 * 15 * (1 << 20)
