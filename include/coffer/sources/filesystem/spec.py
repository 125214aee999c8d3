"""What a backup of a file tree takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
