"""The tools that are compared, each behind the same few commands: Coffer, restic, borg, and the limit.

A tool object belongs to one fresh repository folder. Its methods return commands and run nothing, so what is timed is
exactly what is written into the report. Each tool keeps its caches beside its repository: a fresh repository also
means fresh caches, and the second backup finds what the first one left, as on a user's machine.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Protocol

from benchmarks.install import BORG, RESTIC
from benchmarks.layout import PROJECT_DIR
from benchmarks.measure import Command

COFFER = PROJECT_DIR / ".venv/bin/coffer"

# It protects nothing: the repositories are thrown away.
PASSWORD = "the same password for every tool"


class Tool(Protocol):
    """One program that backs up, over one repository below `home`."""

    name: str
    home: Path

    def repository(self) -> Path:
        """Return the folder whose size is the stored size."""

    def init(self) -> Command:
        """Return the command that makes the repository; untimed."""

    def backup(self, *sources: Path) -> Command:
        """Return the command that backs up `sources` as one snapshot."""


class Store(Tool, Protocol):
    """A tool whose repository can be asked for more: the next snapshot, a restore, a check."""

    def restore(self, target: Path) -> Command:
        """Return the command that restores the last snapshot into the empty folder `target`."""

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return the command that restores one file, named by its absolute source path, into `target`."""

    def verify(self) -> Command:
        """Return the command that reads and checks all stored data."""


class Restic:
    """restic with its default settings (`--compression auto`), the password read from a file."""

    name = "restic"

    def __init__(self, home: Path, program: Path = RESTIC) -> None:
        """Bind to `home`; `program` is the restic to run."""
        self.home = home
        self._program = str(program)
        self._password = home / "password"

    def repository(self) -> Path:
        """Return the repository folder."""
        return self.home / "repo"

    def init(self) -> Command:
        """Return `restic init`; writes the password file first."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._password.write_text(PASSWORD)
        return self._command("init")

    def backup(self, *sources: Path) -> Command:
        """Return `restic backup`."""
        return self._command("backup", *map(str, sources))

    def restore(self, target: Path) -> Command:
        """Return `restic restore latest`."""
        return self._command("restore", "latest", "--target", str(target))

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return `restic restore latest --include`."""
        return self._command("restore", "latest", "--target", str(target), "--include", str(path))

    def verify(self) -> Command:
        """Return `restic check --read-data`."""
        return self._command("check", "--read-data")

    def _command(self, *arguments: str) -> Command:
        fixed = ("-q", "-r", str(self.repository()), "--cache-dir", str(self.home / "cache"), "-p", str(self._password))
        return Command(argv=(self._program, *fixed, *arguments))


class Borg:
    """borg 1.4 with `zstd,3` and `repokey-blake2` (its fast mode on this kind of machine); defaults otherwise."""

    name = "borg"

    def __init__(self, home: Path, program: Path = BORG) -> None:
        """Bind to `home`; `program` is the borg to run."""
        self.home = home
        self._program = str(program)
        self._archives = 0

    def repository(self) -> Path:
        """Return the repository folder."""
        return self.home / "repo"

    def init(self) -> Command:
        """Return `borg init`."""
        self.home.mkdir(parents=True, exist_ok=True)
        return self._command("init", "--encryption", "repokey-blake2", str(self.repository()))

    def backup(self, *sources: Path) -> Command:
        """Return `borg create`; borg wants a new name for each archive, so they are counted."""
        self._archives += 1
        return self._command("create", "--compression", "zstd,3", self._last_archive(), *map(str, sources))

    def restore(self, target: Path) -> Command:
        """Return `borg extract` of the last archive; it writes into the working directory."""
        return self._extract(target)

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return `borg extract` of one path."""
        return self._extract(target, str(path).lstrip("/"))

    def verify(self) -> Command:
        """Return `borg check --verify-data`."""
        return self._command("check", "--verify-data", str(self.repository()))

    def _extract(self, target: Path, *paths: str) -> Command:
        return Command((self._program, "extract", self._last_archive(), *paths), self._environment(), cwd=target)

    def _last_archive(self) -> str:
        return f"{self.repository()}::archive-{self._archives}"

    def _command(self, *arguments: str) -> Command:
        return Command(argv=(self._program, *arguments), env=self._environment())

    def _environment(self) -> tuple[tuple[str, str], ...]:
        return (
            ("BORG_BASE_DIR", str(self.home / "base")),
            ("BORG_PASSPHRASE", PASSWORD),
            ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes"),
        )


class Limit:
    """`tar | zstd -3 -T2 | openssl enc`: no deduplication, no index, no second backup; the least a backup can cost."""

    name = "limit"

    def __init__(self, home: Path) -> None:
        """Bind to `home`, which will hold the one output file."""
        self.home = home

    def repository(self) -> Path:
        """Return the folder of the output file."""
        return self.home / "repo"

    def init(self) -> Command:
        """Make the folder and the password file; nothing to run then."""
        self.repository().mkdir(parents=True, exist_ok=True)
        (self.home / "password").write_text(PASSWORD)
        return Command(argv=("true",))

    def backup(self, *sources: Path) -> Command:
        """Return the pipeline, written to a file."""
        seal = f"openssl enc -aes-256-ctr -pbkdf2 -pass {shlex.quote(f'file:{self.home}/password')}"
        out = shlex.quote(f"{self.repository()}/out")
        script = f"tar -cPf - {shlex.join(map(str, sources))} | zstd -3 -T2 -q | {seal} > {out}"
        return Command(argv=("sh", "-c", script))


class Coffer:
    """Coffer with its default settings and a key file, as a fresh process each time.

    The only place that knows how its command line is spelt.
    """

    name = "coffer"

    def __init__(self, home: Path, program: Path = COFFER) -> None:
        """Bind to `home`; `program` is the coffer to run."""
        self.home = home
        self._program = str(program)

    def repository(self) -> Path:
        """Return the repository folder."""
        return self.home / "repo"

    def init(self) -> Command:
        """Return `coffer init`."""
        self.home.mkdir(parents=True, exist_ok=True)
        return self.command("init", str(self.repository()), "--key-file", str(self.home / "key"))

    def backup(self, *sources: Path) -> Command:
        """Return `coffer backup`."""
        return self.command("backup", *map(str, sources), "--source", "bench")

    def restore(self, target: Path) -> Command:
        """Return `coffer restore latest`."""
        return self.command("restore", "latest", "--target", str(target))

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return `coffer restore latest --path`."""
        return self.command("restore", "latest", "--target", str(target), "--path", str(path))

    def verify(self) -> Command:
        """Return `coffer verify`."""
        return self.command("verify")

    def stats(self) -> Command:
        """Return `coffer stats --json`."""
        return self.command("stats", "--json")

    def command(self, *arguments: str) -> Command:
        """Return `coffer` with these arguments, on this repository and with its key."""
        environment = (
            ("COFFER_REPOSITORY", str(self.repository())),
            ("COFFER_KEY_FILE", str(self.home / "key")),
            # What Coffer remembers outside the store belongs to this repository alone.
            ("XDG_CACHE_HOME", str(self.home / "cache")),
            ("XDG_STATE_HOME", str(self.home / "state")),
            # As on a user's machine: compiled modules are kept, by the untimed init at the latest (docs/adr/0016).
            ("PYTHONDONTWRITEBYTECODE", ""),
        )
        return Command(argv=(self._program, *arguments), env=environment)


def version_of(name: str) -> str:
    """Return what tool `name` says of its own version, in one line."""
    commands = {
        "coffer": [(str(COFFER), "--version")],
        "restic": [(str(RESTIC), "version")],
        "borg": [(str(BORG), "--version")],
        "limit": [("tar", "--version"), ("zstd", "--version"), ("openssl", "version")],
    }
    first_lines = (subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in commands[name])
    return "; ".join(text.strip().splitlines()[0].strip("* ") for text in first_lines)
