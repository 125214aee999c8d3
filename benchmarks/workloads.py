"""Which trees there are at which scale, and how each is made once and kept in the cache.

`full` is what the figures are about. `quick` has the same shapes at a small size: it proves the harness in minutes, and
its figures say nothing. `heavy` is ten times (b), for the question whether memory grows with the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import trees
from benchmarks.layout import PROJECT_DIR, TREES_DIR


@dataclass(frozen=True)
class Scale:
    """The sizes of one set of trees.

    Attributes:
        name: the folder below the cache, and part of every measurement's key.
        venv: what tree (a) is copied from.
        small_files: files of (b).
        small_folders: folders of (b).
        big_bytes: length of the one file of (c).
        pgbench_scale: of (d); one unit is 100,000 rows.
    """

    name: str
    venv: Path
    small_files: int
    small_folders: int
    big_bytes: int
    pgbench_scale: int


VENV = PROJECT_DIR / ".venv"
FULL = Scale("full", VENV, trees.SMALL_FILES, trees.SMALL_FOLDERS, trees.BIG_FILE_BYTES, trees.PGBENCH_SCALE)
QUICK = Scale("quick", VENV / "lib/python3.11/site-packages/airflow", 5_000, 100, 64 * trees.MIB, 1)

HEAVY_FACTOR = 10
RANDOM_BYTES = 256 * trees.MIB


class Workloads:
    """The trees of one scale, made when they are first asked for."""

    def __init__(self, scale: Scale) -> None:
        """Bind to `scale`; nothing is made yet."""
        self.scale = scale
        self._folder = TREES_DIR / scale.name

    def tree(self, name: str) -> Path:
        """Return the folder of tree `name`: `venv`, `small`, `small-10x`, `big`, `random` or `postgres`."""
        makers: dict[str, Callable[[Path], None]] = {
            "venv": lambda target: trees.write_venv_tree(self.scale.venv, target),
            "small": lambda target: self._write_small(target, 1),
            "small-10x": lambda target: self._write_small(target, HEAVY_FACTOR),
            "big": self._write_big,
            "random": self._write_random,
            "postgres": lambda target: trees.write_postgres_folder(target, scale=self.scale.pgbench_scale),
        }
        return trees.make_once(self._folder / name, makers[name])

    def drop(self, name: str) -> None:
        """Remove tree `name` from the cache, for those that are too large to keep."""
        trees.remove(self._folder / name)

    def _write_small(self, target: Path, factor: int) -> None:
        texts = [path for path in trees.regular_files(self.tree("venv")) if path.suffix in trees.TEXT_SUFFIXES]
        files, folders = self.scale.small_files * factor, self.scale.small_folders * factor
        trees.write_small_tree(texts, target, files=files, folders=folders)

    def _write_big(self, target: Path) -> None:
        sources = [*trees.regular_files(self.tree("venv")), *trees.regular_files(self.tree("postgres"))]
        trees.write_big_file(sources, target, size_bytes=self.scale.big_bytes)

    def _write_random(self, target: Path) -> None:
        size_bytes = min(RANDOM_BYTES, self.scale.big_bytes)
        target.mkdir(parents=True)
        with (target / "random.bin").open("wb") as out:
            for block in trees.random_blocks(size_bytes, seed=3):
                out.write(block)
