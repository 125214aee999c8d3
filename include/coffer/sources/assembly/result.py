"""What a backup says at its end: the snapshot, and what could not be saved as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from coffer.repository.concern import Concern
from coffer.repository.snapshot import Snapshot

MAX_WARNINGS_KEPT = 1000  # their count is exact; beyond this many only the count is kept, so memory stays bounded


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
