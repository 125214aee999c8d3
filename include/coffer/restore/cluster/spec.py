"""What the restore of a cluster takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coffer.repository.snapshot import Snapshot
from coffer.restore.spec import RestoreFailure

WAL_LIMIT_BYTES = 8 << 30  # of WAL that is put into pg_wal; more is fetched by the server itself [bytes]
ACTIONS = ("promote", "pause", "shutdown")


@dataclass(frozen=True, slots=True)
class ClusterRestoreOptions:
    """How to restore a cluster.

    Attributes:
        tablespaces: Where each goes, by its OID or by where it lay on the server.
        tablespaces_below: A folder in which each that is not named gets one of its OID's name.
        tablespaces_in_place: Each that is not named goes where it lay on the server.
        delta: Into a folder that holds this cluster already: only pages that differ are written, and what the
            snapshot does not have is removed.
        durable: Return only when everything is on the target's disks.
        action: What the server does at the target: "promote" opens it, "pause" lets one look first, "shutdown".
        keep_archiving: Leave archive_mode as it was. Otherwise it is off, so that a test archives nothing.
        manifest: Write a `backup_manifest`, so that pg_verifybackup can check the folder before its first start.
        owner: (uid, gid) of everything; None: as on the server where root restores, else this user.
        despite_damage: Let the folder be started even if files of it could not be restored.
        exclude: gitignore patterns of files that are left out as well; the server must not need them.
        settings: Further ones for postgresql.auto.conf, by name.
        wal_limit_bytes: Above this the server fetches WAL by `restore_command` [bytes].
        restore_command: The command for that; None: too much WAL is refused.
        workers: Threads that read and write; 0 for one per core.
    """

    tablespaces: Mapping[str, Path] = field(default_factory=dict)
    tablespaces_below: Path | None = None
    tablespaces_in_place: bool = False
    delta: bool = False
    durable: bool = True
    action: str = "promote"
    keep_archiving: bool = False
    manifest: bool = False
    owner: tuple[int, int] | None = None
    despite_damage: bool = False
    exclude: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    wal_limit_bytes: int = WAL_LIMIT_BYTES
    restore_command: str | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class ClusterRestoreResult:
    """What was restored.

    Attributes:
        snapshot: That was restored.
        target: The data folder.
        tablespaces: OID -> where it is.
        stats: Counts: files, wal_segments, pages_compared, pages_written, files_removed (the last three of a delta).
            Sizes [bytes]: size_bytes, written_bytes, read_bytes, wal_bytes.
        failures: Files that could not be restored, at most a thousand; only with `despite_damage`.
        failures_count: How many there were.
        warnings: What was restored less something, or needs attention.
        start_command: Starts the server, as its owner.
    """

    snapshot: Snapshot
    target: Path
    tablespaces: Mapping[int, Path]
    stats: Mapping[str, int]
    failures: tuple[RestoreFailure, ...]
    failures_count: int
    warnings: tuple[RestoreFailure, ...]
    start_command: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0, or 3 where something could not be restored."""
        return 3 if self.failures_count else 0
