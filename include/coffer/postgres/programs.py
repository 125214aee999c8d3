"""PostgreSQL's own programs on this machine: where they are, and which version fits.

Owns: finding them. Refuses: to download or install anything, and to run a program older than the server it is to read.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from coffer.errors import UsageError

VARIABLE = "COFFER_PG_BIN"  # one folder of programs or several, joined as in PATH; where it is set, nothing else counts
_SYSTEM = Path("/usr/lib/postgresql")  # Debian's place: <major>/bin
_ANSWER_S = 20  # a program that cannot tell its version by then is passed over [s]
_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)(?:[.\d]|beta|rc|devel)*)")
_HINT = (
    "Install PostgreSQL's client programs of that version (Debian: postgresql-client-{major}), or name their folder in"
    " COFFER_PG_BIN."
)


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of programs of one version.

    Attributes:
        folder: Where they are.
        major: Their major version.
        version: As the program says it, such as "15.18".
    """

    folder: Path
    major: int
    version: str

    def path(self, name: str) -> Path:
        """Return the path of one of the programs that were asked for."""
        return self.folder / name


def find_programs(names: Sequence[str], *, at_least: int = 0, exactly: int | None = None) -> Programs:
    """Return the folder that has all of the programs, of the version nearest to the one wanted.

    The nearest and not the newest: what pg_dump 15 writes loads into every server from 15 on, and what a newer pg_dump
    writes is promised to load only into servers that are not older than that pg_dump (PostgreSQL's documentation of
    pg_dump, "Notes").

    Args:
        names: Of the programs, the first of them is asked for its version.
        at_least: The oldest major version that will do: that of the server.
        exactly: The only major version that will do.

    Raises:
        UsageError: There is none; says which versions there are.
    """
    wanted = at_least if exactly is None else exactly
    found = [programs for folder in _folders() if (programs := _look(folder, tuple(names))) is not None]
    fitting = [p for p in found if (p.major == exactly if exactly is not None else p.major >= at_least)]
    if fitting:
        return min(fitting, key=lambda programs: programs.major)  # of two alike the first
    needs = f"version {wanted}" if exactly is not None else f"version {wanted} or newer" if wanted else "any version"
    there = ", ".join(sorted({programs.version for programs in found})) or "none"
    raise UsageError(
        f"program {' and '.join(names)} of {needs}: not found, there is {there}", hint=_HINT.format(major=wanted or 18)
    )


def _folders() -> Iterator[Path]:
    """Yield the folders to look into, each once: those that were named, or the system's and those of PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        folders = [Path(part) for part in named.split(os.pathsep) if part]
    else:
        folders = sorted(_SYSTEM.glob("*/bin"))
        folders += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    yield from dict.fromkeys(folders)


def _look(folder: Path, names: tuple[str, ...]) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in names):
        return None
    found = _version_of(folder / names[0])
    return None if found is None else Programs(folder, *found)


@lru_cache(maxsize=64)
def _version_of(program: Path) -> tuple[int, str] | None:
    """Return (major version, version) as a program says it, or None where it says nothing of use."""
    try:
        answer = subprocess.run(  # noqa: S603 - found in a folder of programs, no shell, no argument from outside
            [program, "--version"], capture_output=True, text=True, timeout=_ANSWER_S, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stdout)
    return (int(match["major"]), match["version"]) if match else None
