"""What a restore takes and gives."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from coffer.repository.entries import Kind
from coffer.repository.snapshot import Snapshot

MAX_ISSUES_KEPT = 1000  # their count is exact; beyond this many only the count is kept, so memory stays bounded


class Overwrite(Enum):
    """What becomes of files that are in the target already."""

    NEVER = "never"
    CHANGED = "changed"
    ALWAYS = "always"


class Action(Enum):
    """What a restore does with one entry."""

    CREATE = "create"
    OVERWRITE = "overwrite"
    KEEP = "keep"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What to restore, and how.

    Attributes:
        paths: Paths in the snapshot: each entry and all below it; none means everything. A slash at either end does
            not matter.
        include: gitignore patterns, seen from the snapshot's root: only files that match one, and the folders above
            them.
        exclude: gitignore patterns: left out.
        overwrite: None: the target must be new or empty. NEVER: what is there stays. CHANGED: what differs in kind,
            size, time, mode or owner is replaced. ALWAYS: everything is replaced.
        dry_run: Say what would be done, write nothing.
        verify: Read back every restored file and compare it with the snapshot's ids and attributes.
        durable: Return only when everything is on the target's disks; `verify` implies it. Else the system writes it
            there in its own time, as after any copy: a power cut within about half a minute may take finished files.
        workers: Threads that read and write; 0 for one per core.
    """

    paths: tuple[bytes, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overwrite: Overwrite | None = None
    dry_run: bool = False
    verify: bool = False
    durable: bool = False
    workers: int = 0


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """One line of a plan.

    Attributes:
        path: As in the snapshot.
        kind: Of the entry.
        action: "create" | "overwrite" | "keep" | "refuse".
        size_bytes: Of regular files, else 0 [bytes].
        refusal: Why it is refused, if it is.
    """

    path: bytes
    kind: Kind
    action: str
    size_bytes: int
    refusal: RestoreFailure | None = None


@dataclass(frozen=True, slots=True)
class RestoreFailure:
    """One file that was not restored, or not wholly.

    Attributes:
        path: As in the snapshot.
        code: The code of an error class (docs/errors.md), or a word for an attribute: "owner", "mode", "xattr",
            "attributes", "link", "socket", "device"; "differs" from a verification.
        message: What happened, for people.
        entries_count: How many entries it stands for, the one at `path` the first of them: more than one where a block
            of the manifest cannot be read. Nobody can say then which of them were selected: all are counted.
    """

    path: bytes
    code: str
    message: str
    entries_count: int = 1


class IssueLog:
    """Collects failures, or warnings, in bounded memory. Thread-safe."""

    def __init__(self) -> None:
        self.kept: list[RestoreFailure] = []
        self.total = 0
        self._lock = threading.Lock()

    def add(self, path: bytes, code: str, message: str, entries_count: int = 1) -> None:
        """Record one; `total` counts the entries that it stands for."""
        with self._lock:
            self.total += entries_count
            if len(self.kept) < MAX_ISSUES_KEPT:
                self.kept.append(RestoreFailure(path, code, message, entries_count))


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did; of a dry run, what it would have done.

    Attributes:
        snapshot: That was restored.
        target: The folder it was restored into.
        dry_run: Whether nothing was written.
        stats: Counts: files, directories, symlinks, hardlinks, others, kept (entries left as they were),
            verified_files. Sizes [bytes]: size_bytes (of the files restored), written_bytes (holes cost none),
            read_bytes (sealed chunks of file content that were read from the store).
        failures: The first thousand; every other entry was restored.
        failures_count: How many entries they stand for, with those that are not kept.
        warnings: Entries restored less something (an owner, an attribute); the first thousand.
        warnings_count: How many there were.
    """

    snapshot: Snapshot
    target: Path
    dry_run: bool
    stats: dict[str, int]
    failures: tuple[RestoreFailure, ...]
    failures_count: int
    warnings: tuple[RestoreFailure, ...]
    warnings_count: int

    @property
    def exit_code(self) -> int:
        """0, or 3 where something could not be restored as it was."""
        return 3 if self.failures_count or self.warnings_count else 0
