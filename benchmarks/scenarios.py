"""One round on one tree: which phases there are, in which order, and what each of them measures.

Within a phase the tools run one after another, and each round begins with another tool, so that a slow minute of the
machine or a full write-back queue does not always meet the same one. Every round has fresh repositories and, where
files are changed, a fresh copy of the tree. The source is read once before, so each tool finds it in the page cache.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks import trees
from benchmarks.install import BORG, RESTIC
from benchmarks.layout import PROJECT_DIR, SCRATCH_DIR, TREES_DIR
from benchmarks.measure import Command, Cost, bytes_read_below, launch, stored_bytes
from benchmarks.peers import COFFER, Borg, Coffer, Limit, Restic, Store, Tool
from benchmarks.results import Measurement, Results

TOOLS: dict[str, Callable[[Path], Tool]] = {"coffer": Coffer, "restic": Restic, "borg": Borg, "limit": Limit}

# tree → its phases in order. A later phase builds upon the snapshots of the earlier ones.
PHASES: dict[str, tuple[str, ...]] = {
    "venv": ("first", "unchanged", "restore", "verify", "changed", "touched", "copied"),
    "small": ("first", "unchanged", "restore", "one-file", "changed", "touched"),
    "big": ("first", "restore"),
    "postgres": ("first",),
    "random": ("first",),
    "small-10x": ("first", "unchanged"),
}
# Only Coffer's memory is asked about here, and only Coffer's way with random data there.
COFFER_ONLY = frozenset({"small-10x", "random"})
HEAVY = frozenset({"small-10x"})
_CHANGING = frozenset({"changed", "touched", "copied"})


class WrongRestoreError(Exception):
    """A tool's restore does not hold what the source holds: its time would mean nothing."""


@dataclass(frozen=True)
class Plan:
    """What a round is asked to do: at which scale and in which round, and the version of each tool that takes part."""

    scale: str
    tree: str
    round: int
    versions: dict[str, str]


def phases_of(tree: str, tool: str) -> tuple[str, ...]:
    """Return the phases that `tool` goes through on `tree`; the limit knows no second backup."""
    if tool == "limit":
        return () if tree in COFFER_ONLY else ("first",)
    return PHASES[tree] if tool == "coffer" or tree not in COFFER_ONLY else ()


def pending_tools(
    plan: Plan,
    results: Results,
    tools: Iterable[str] = TOOLS,
    phases_of: Callable[[str, str], tuple[str, ...]] = phases_of,
) -> list[str]:
    """Return the tools that have a phase of this round still to do, in this round's order.

    Args:
        plan: the round.
        results: what is measured already.
        tools: the names of all tools, in the order of round 0.
        phases_of: says which phases (tree, tool) goes through.
    """
    names = [name for name in tools if name in plan.versions]
    turn = plan.round % len(names) if names else 0

    def done(tool: str) -> bool:
        key = (plan.scale, plan.tree)
        phases = phases_of(plan.tree, tool)
        return all(results.has(*key, phase, tool, plan.versions[tool], plan.round) for phase in phases)

    return [name for name in names[turn:] + names[:turn] if not done(name)]


class Round:
    """One round on one tree, for the tools that have something to do in it."""

    def __init__(self, plan: Plan, base: Path, results: Results) -> None:
        """Bind to the tree `base`, which is only read. `results` takes each measurement at once."""
        self._plan = plan
        self._results = results
        self._tools = [TOOLS[name](SCRATCH_DIR / name) for name in pending_tools(plan, results)]
        self._changing = any(phase in _CHANGING for phase in PHASES[plan.tree])
        self._source = SCRATCH_DIR / unique("source") / plan.tree if self._changing else base
        self._base = base

    def run(self) -> None:
        """Go through the phases; the scratch folder is emptied before and after.

        Raises:
            CommandError: a tool failed. What was measured before is kept.
            WrongRestoreError: a restore is not complete.
        """
        trees.remove(SCRATCH_DIR)
        trees.make_spreading(SCRATCH_DIR)
        if self._changing:
            self._source.parent.mkdir(parents=True)
            trees.copy_tree(self._base, self._source)
            trees.settle()
        trees.warm(self._source)
        for tool in self._tools:
            launch(tool.init())
        for phase in PHASES[self._plan.tree]:
            self._prepare(phase)
            for tool in self._tools:
                if phase in phases_of(self._plan.tree, tool.name):
                    self._measure(phase, tool)
        trees.remove(SCRATCH_DIR)

    def _prepare(self, phase: str) -> None:
        if phase == "changed":
            trees.change_one_percent(self._source, seed=self._plan.round)
        elif phase == "touched":
            trees.touch_all(self._source)
        elif phase == "copied":
            trees.copy_tree(self._source, self._copy)
        if phase in _CHANGING:
            trees.settle()

    @property
    def _copy(self) -> Path:
        return self._source.with_name(self._source.name + "-copy")

    def _measure(self, phase: str, tool: Tool) -> None:
        steps: dict[str, Callable[[Store], tuple[Command, dict[str, float]]]] = {
            "restore": self._restore,
            "one-file": self._restore_one,
            "verify": self._verify,
        }
        command, values = steps[phase](_store(tool)) if phase in steps else self._backup(phase, tool)
        plan = self._plan
        self._results.add(
            Measurement(
                scale=plan.scale,
                tree=plan.tree,
                phase=phase,
                tool=tool.name,
                version=plan.versions[tool.name],
                round=plan.round,
                values=values,
                command=printable(command),
                when=datetime.now().astimezone().isoformat(timespec="seconds"),  # a label, and never compared
            )
        )
        print(f"{plan.tree:10} {phase:10} {tool.name:8} round {plan.round}: {one_line(values)}", flush=True)

    def _backup(self, phase: str, tool: Tool) -> tuple[Command, dict[str, float]]:
        sources = (self._source, self._copy) if phase == "copied" else (self._source,)
        if phase != "unchanged":  # borg puts what it read out of the page cache: the next tool would read the disk
            for source in sources:
                trees.warm(source)
        before = stored_bytes(tool.repository())
        command = tool.backup(*sources)
        values = figures_of(launch(command))
        after = stored_bytes(tool.repository())
        values |= {"stored_bytes": after, "grown_bytes": after - before, "before_bytes": before}
        if self._plan.tree == "random" and isinstance(tool, Coffer):
            values["compressed_share"] = compressed_share(tool)
        return command, values

    def _restore(self, tool: Store) -> tuple[Command, dict[str, float]]:
        # Removed with the round; see `trees.make_spreading`.
        target = fresh_folder(unique(f"restored-{tool.name}"))
        command = tool.restore(target)
        values = figures_of(launch(command))
        expected, restored = trees.measure_tree(self._source), trees.measure_tree(target)
        if expected != restored:
            raise WrongRestoreError(f"{tool.name} restored {restored} (files, bytes) of {expected}")
        return command, values

    def _restore_one(self, tool: Store) -> tuple[Command, dict[str, float]]:
        files = trees.regular_files(self._source / trees.folder_name(7))
        path = files[self._plan.round % len(files)]
        command = tool.restore_one(path, fresh_folder("restored"))
        values = figures_of(launch(command))
        if trees.measure_tree(SCRATCH_DIR / "restored") != (1, path.stat().st_size):
            raise WrongRestoreError(f"{tool.name} did not restore {path.name}")
        again = tool.restore_one(path, fresh_folder("restored"))
        whole, store = bytes_read_below(again, tool.home, tool.repository())
        values |= {"store_read_bytes": store, "cache_read_bytes": whole - store}
        trees.remove(SCRATCH_DIR / "restored")
        return command, values

    def _verify(self, tool: Store) -> tuple[Command, dict[str, float]]:
        command = tool.verify()
        return command, figures_of(launch(command))


def _store(tool: Tool) -> Store:
    assert isinstance(tool, Coffer | Restic | Borg), tool.name
    return tool


def figures_of(cost: Cost) -> dict[str, float]:
    """Return a cost's numbers by name."""
    return {
        "wall_s": round(cost.wall_s, 4),
        "cpu_s": round(cost.cpu_s, 4),
        "peak_bytes": cost.peak_bytes,
        "others_cpu_s": round(cost.others_cpu_s, 2),
    }


def unique(name: str) -> str:
    """Return a name that no earlier round had; see `trees.make_spreading`."""
    return f"{name}-{secrets.token_hex(3)}"


def fresh_folder(name: str) -> Path:
    """Return an empty folder of this name in the scratch folder."""
    folder = SCRATCH_DIR / name
    trees.remove(folder)
    folder.mkdir(parents=True)
    return folder


def compressed_share(tool: Coffer) -> float:
    """Return which share of the data's bytes Coffer stored compressed, as its own `stats` says.

    Raises:
        CommandError: `coffer stats` failed.
    """
    data = json.loads(launch(tool.stats()).output)["result"]["data"]
    return 1.0 - float(data["raw_stored_bytes"]) / float(data["stored_bytes"])


def printable(command: Command) -> str:
    """Return a command line as it stands in the report: programs by name, `/bench` and `/trees` for the folders."""
    line = command.argv[2] if command.argv[:2] == ("sh", "-c") else shlex.join(command.argv)
    line = re.sub(r"\b(source|restored-[a-z]+)-[0-9a-f]{6}\b", r"\1", line)
    for program in (COFFER, RESTIC, BORG):
        line = line.replace(str(program), program.name)
    # borg names paths in an archive without their leading slash.
    for folder, shown in ((SCRATCH_DIR, "/bench"), (TREES_DIR, "/trees")):
        line = line.replace(str(folder), shown).replace(str(folder).lstrip("/"), shown.lstrip("/"))
    return line


def one_line(values: dict[str, float]) -> str:
    """Return a measurement's values for the terminal."""
    parts = [f"{name[:-2]} {value:.2f} s" for name, value in values.items() if name.endswith("_s")]
    parts += [f"{name[:-6]} {value / 2**20:.1f} MiB" for name, value in values.items() if name.endswith("_bytes")]
    return ", ".join(parts)


def free_bytes() -> int:
    """Return how much room the cache's file system has."""
    return shutil.disk_usage(PROJECT_DIR).free
