"""The raw measurements, kept in one JSON file: each is written down the moment it is made.

A measurement is one phase (`first`, `restore`, ...) of one tool on one tree in one round. It is keyed also by the scale
and by the tool's version (for Coffer: the commit that last touched the engine), so an interrupted run goes on where it
stopped, and a new version starts anew and leaves the old figures in the file.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """What one run of one tool gave.

    Attributes:
        scale: `full` or `quick`.
        tree: the tree's name.
        phase: what was done.
        tool: who did it.
        version: of the tool; for Coffer with the engine's commit.
        round: from 0.
        values: figure → value; the unit is in the name (`wall_s`, `cpu_s`, `peak_bytes`, `stored_bytes`, ...).
        command: what ran, with paths relative to the project.
        when: local date and time of its end.
    """

    scale: str
    tree: str
    phase: str
    tool: str
    version: str
    round: int
    values: dict[str, float] = field(default_factory=dict)
    command: str = ""
    when: str = ""

    def key(self) -> tuple[str, str, str, str, str, int]:
        """Return what makes a measurement itself: a second one of the same key replaces the first."""
        return (self.scale, self.tree, self.phase, self.tool, self.version, self.round)


class Results:
    """All measurements of one JSON file."""

    def __init__(self, path: Path) -> None:
        """Load what `path` holds; a file that is not there is empty."""
        self._path = path
        records = json.loads(path.read_text())["measurements"] if path.exists() else []
        self._by_key = {m.key(): m for m in (Measurement(**record) for record in records)}

    def add(self, measurement: Measurement) -> None:
        """Keep `measurement`, on disk before this returns."""
        self._by_key[measurement.key()] = measurement
        self._save()

    def forget(self, scale: str, versions: dict[str, str], trees: Iterable[str]) -> None:
        """Drop what these versions of the tools measured on these trees at `scale`."""
        gone = {m.key() for m in self.of(scale, versions) if m.tree in set(trees)}
        self._by_key = {key: m for key, m in self._by_key.items() if key not in gone}
        self._save()

    def _save(self) -> None:
        records = [asdict(m) for _, m in sorted(self._by_key.items())]
        lines = ",\n".join(json.dumps(record, sort_keys=True) for record in records)
        # Replaced whole, so a reader or an interrupted run never sees half of it.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text('{"measurements": [\n' + lines + "\n]}\n")
        os.replace(partial, self._path)

    def has(self, scale: str, tree: str, phase: str, tool: str, version: str, round_number: int) -> bool:
        """Return whether this measurement was made already."""
        return (scale, tree, phase, tool, version, round_number) in self._by_key

    def of(self, scale: str, versions: dict[str, str]) -> list[Measurement]:
        """Return the measurements at `scale` by the tools in these versions, in the order of their keys."""
        wanted = (m for _, m in sorted(self._by_key.items()) if m.scale == scale)
        return [m for m in wanted if versions.get(m.tool) == m.version]


Cell = tuple[str, str, str]


def medians(measurements: Iterable[Measurement]) -> dict[Cell, dict[str, float]]:
    """Return (tree, phase, tool) → figure → median over the rounds."""
    return {
        cell: {name: statistics.median(values) for name, values in figures.items()}
        for cell, figures in spread(measurements).items()
    }


def spread(measurements: Iterable[Measurement]) -> dict[Cell, dict[str, list[float]]]:
    """Return (tree, phase, tool) → figure → all its values, one per round."""
    grouped: dict[Cell, dict[str, list[float]]] = {}
    for m in measurements:
        figures = grouped.setdefault((m.tree, m.phase, m.tool), {})
        for name, value in m.values.items():
            figures.setdefault(name, []).append(value)
    return grouped
