"""The tools that are compared, each behind the same few commands: restic, borg, and the pipeline that is the limit.

A tool object belongs to one fresh repository folder. Its methods return commands and run nothing, so what is timed is
exactly what is written into the report. Each tool keeps its caches beside its repository: a fresh repository also
means fresh caches, and the second backup finds what the first one left, as on a user's machine.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Protocol

from benchmarks.install import BORG_VERSION, PEERS_DIR
from benchmarks.measure import Command

PASSWORD = "the same password for every tool"  # noqa: S105 - protects nothing: throwaway repositories


class Tool(Protocol):
    """One backup program over one repository below `home`."""

    name: str
    home: Path

    def init(self) -> Command:
        """Return the command that makes the repository; untimed."""

    def backup(self, *sources: Path) -> Command:
        """Return the command that backs up `sources` as one snapshot."""

    def restore(self, target: Path) -> Command:
        """Return the command that restores the last snapshot into the empty folder `target`."""

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return the command that restores one file, named by its absolute source path, into `target`."""

    def verify(self) -> Command:
        """Return the command that reads and checks all stored data."""

    def repository(self) -> Path:
        """Return the folder whose size is the stored size."""


class Restic:
    """restic with its default settings (`--compression auto`), the password read from a file."""

    name = "restic"

    def __init__(self, home: Path, program: Path = PEERS_DIR / "restic/usr/bin/restic") -> None:
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

    def dump_one(self, path: Path, target: Path) -> Command:
        """Return `restic dump`, which looks the path up folder by folder and need not walk the whole snapshot."""
        return self._command("dump", "latest", str(path), "--target", str(target / path.name))

    def verify(self) -> Command:
        """Return `restic check --read-data`."""
        return self._command("check", "--read-data")

    def _command(self, *arguments: str) -> Command:
        fixed = ("-q", "-r", str(self.repository()), "--cache-dir", str(self.home / "cache"), "-p", str(self._password))
        return Command(argv=(self._program, *fixed, *arguments))


class Borg:
    """borg 1.4 with `zstd,3` and `repokey-blake2` (its fast mode on this kind of machine); defaults otherwise."""

    name = "borg"

    def __init__(self, home: Path, program: Path = PEERS_DIR / f"borg-{BORG_VERSION}/bin/borg") -> None:
        """Bind to `home`; `program` is the borg to run."""
        self.home = home
        self._program = str(program)

    def repository(self) -> Path:
        """Return the repository folder."""
        return self.home / "repo"

    def init(self) -> Command:
        """Return `borg init`."""
        self.home.mkdir(parents=True, exist_ok=True)
        return self._command("init", "--encryption", "repokey-blake2", str(self.repository()))

    def backup(self, *sources: Path) -> Command:
        """Return `borg create`; the archive's name is the time, as borg wants a new one for each."""
        archive = f"{self.repository()}::{{now:%Y%m%dT%H%M%S.%f}}"
        return self._command("create", "--compression", "zstd,3", archive, *map(str, sources))

    def restore(self, target: Path) -> Command:
        """Return `borg extract` of the last archive, whose name `borg list` gives (0.5 s, part of the command)."""
        return self._extract(target)

    def restore_one(self, path: Path, target: Path) -> Command:
        """Return `borg extract` of one path."""
        return self._extract(target, str(path).lstrip("/"))

    def verify(self) -> Command:
        """Return `borg check --verify-data`."""
        return self._command("check", "--verify-data", str(self.repository()))

    def _extract(self, target: Path, *paths: str) -> Command:
        borg, repository = shlex.quote(self._program), shlex.quote(str(self.repository()))
        last = f"$({borg} list --last 1 --format '{{archive}}' {repository})"
        script = f"{borg} extract {repository}::{last} {shlex.join(paths)}"
        return Command(argv=("sh", "-c", script), env=self._environment(), cwd=target)

    def _command(self, *arguments: str) -> Command:
        return Command(argv=(self._program, *arguments), env=self._environment())

    def _environment(self) -> tuple[tuple[str, str], ...]:
        return (("BORG_BASE_DIR", str(self.home / "base")), ("BORG_PASSPHRASE", PASSWORD), ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes"))


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
        """Make the folder and the password file; nothing to run."""
        self.repository().mkdir(parents=True, exist_ok=True)
        (self.home / "password").write_text(PASSWORD)
        return Command(argv=("true",))

    def backup(self, *sources: Path) -> Command:
        """Return the pipeline, written to a file."""
        seal = f"openssl enc -aes-256-ctr -pbkdf2 -pass {shlex.quote(f'file:{self.home}/password')}"
        script = f"tar -cPf - {shlex.join(map(str, sources))} | zstd -3 -T2 -q | {seal} > {shlex.quote(f'{self.repository()}/out')}"
        return Command(argv=("sh", "-c", script))
