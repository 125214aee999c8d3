"""What a backup of a file tree takes and gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from coffer.repository.concern import Concern
from coffer.repository.snapshot import Snapshot

MAX_WARNINGS_KEPT = 1000  # their count is exact; beyond this many only the count is kept, so memory stays bounded


@dataclass(frozen=True, slots=True)
class FilesystemSource:
    """A named set of trees.

    Attributes:
        name: Names the chain of snapshots.
        paths: Folders or files; symbolic links in them are resolved.
        exclude: gitignore patterns, relative to each path.
        include: gitignore patterns that bring back what `exclude` leaves out (not below an excluded folder, as in git).
        one_file_system: Do not descend into other file systems; the mount point itself is saved, empty.
        exclude_caches: Of a folder with a valid CACHEDIR.TAG, save the folder and the tag only.
        tags: The user's words, kept with the snapshot.
    """

    name: str
    paths: tuple[Path, ...]
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    one_file_system: bool = False
    exclude_caches: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """How to run.

    Attributes:
        level: Of zstd, 1 to 19; 0 stores everything as it is.
        workers: Threads that compress and seal; 0 for one per core.
        pack_size_bytes: Size of a pack [bytes].
        host: Recorded in the snapshot; the machine's name where None.
        force_read: Read every file, whatever the parent says, and every chunk of it that is stored already; one that
            does not open is stored anew.
        deadline_s: Stop with a checkpoint at this monotonic time [s], by the repository's clock.
    """

    level: int = 3
    workers: int = 0
    pack_size_bytes: int = 64_000_000
    host: str | None = None
    force_read: bool = False
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class SourceWarning:
    """One file that could not be saved as it should be.

    Attributes:
        path: As the system knows it (absolute).
        code: "vanished" or "unreadable": it is not in the snapshot. "changed": it is there as it was found. "xattr": it
            is there without some extended attribute.
        message: What happened, for people.
    """

    path: bytes
    code: str
    message: str


@dataclass(slots=True)
class WarningLog:
    """Collects warnings in bounded memory."""

    kept: list[SourceWarning] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, path: bytes, code: str, message: str) -> None:
        """Record one."""
        self.counts[code] += 1
        if len(self.kept) < MAX_WARNINGS_KEPT:
            self.kept.append(SourceWarning(path, code, message))

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a finished backup did.

    Attributes:
        snapshot: As committed.
        stats: The snapshot's counts and sizes.
        warnings: The first thousand; `snapshot.warnings_count` is exact.
        concerns: What is wrong with the repository; the backup itself is whole.
    """

    snapshot: Snapshot
    stats: dict[str, int]
    warnings: tuple[SourceWarning, ...]
    concerns: tuple[Concern, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where some files could not be saved, or where the store is not as it should be."""
        return 0 if self.snapshot.complete and not self.concerns else 3
