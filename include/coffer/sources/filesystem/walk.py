"""List trees, folder by folder, in the order of a manifest: depth first, names sorted by their bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coffer.errors import SourceMissingError, SourceReadError
from coffer.repository.blocks import Group, Row
from coffer.sources.filesystem.filters import CACHE_TAG_NAME, Excludes, is_tagged_cache
from coffer.sources.filesystem.spec import FilesystemSource, WarningLog


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list.

    Attributes:
        path: Relative to the root of the file system.
        only: Names to take; None for all. Set on the way down to a source's path.
        root_length: Length of the source path above it; what lies behind is what patterns see. -1 above any.
        device: That must not be left, or None.
    """

    path: bytes
    only: frozenset[bytes] | None
    root_length: int
    device: int | None


def resolve_paths(source: FilesystemSource) -> tuple[bytes, ...]:
    """Return the source's paths: absolute, links resolved, sorted, none below another.

    Raises:
        SourceMissingError: One does not exist.
    """
    resolved = set()
    for path in source.paths:
        try:
            resolved.add(os.fsencode(Path(path).resolve(strict=True)))
        except (FileNotFoundError, NotADirectoryError):
            raise SourceMissingError(f"source path {path}: does not exist") from None
        except (OSError, RuntimeError) as error:
            raise SourceReadError(f"source path {path}: cannot be reached ({error})") from None
    kept: list[bytes] = []
    for candidate in sorted(resolved, key=lambda p: p.split(b"/")):
        if not any(candidate.startswith(above.rstrip(b"/") + b"/") for above in kept):
            kept.append(candidate)
    return tuple(kept)


class Walk:
    """One pass over the source's trees."""

    def __init__(
        self, source: FilesystemSource, paths: tuple[bytes, ...], excludes: Excludes | None, warnings: WarningLog
    ) -> None:
        self._source = source
        self._roots = frozenset(path.strip(b"/") for path in paths)
        self._excludes = excludes
        self._warnings = warnings

    def groups(self) -> Iterator[Group]:
        """Yield a group (names and stat rows) for every folder that has entries.

        What vanishes or cannot be listed is a warning; the rest goes on.

        Raises:
            SourceReadError: A source path itself cannot be read.
        """
        whole = b"" in self._roots
        first = _Folder(b"", None if whole else self._children(b""), 0 if whole else -1, None)
        if whole and self._source.one_file_system:
            first = _Folder(b"", None, 0, os.lstat(b"/").st_dev)
        stack = [first]
        while stack:
            folder = stack.pop()
            group, below = self._list(folder)
            if group.names:
                yield group
            below.reverse()
            stack += below

    def _children(self, folder: bytes) -> frozenset[bytes]:
        """Names in `folder` that lead to a source path."""
        start = len(folder) + 1 if folder else 0
        return frozenset(
            root[start:].partition(b"/")[0] for root in self._roots if not folder or root.startswith(folder + b"/")
        )

    def _list(self, folder: _Folder) -> tuple[Group, list[_Folder]]:
        group = Group(folder.path, [], [])
        below: list[_Folder] = []
        names, rows = group.names, group.rows
        excluding = self._excludes is not None and folder.root_length >= 0
        for name, status in self._scan(folder):
            mode = status.st_mode
            is_folder = stat.S_ISDIR(mode)
            if excluding and self._is_excluded(folder, name, is_folder=is_folder):
                continue
            names.append(name)
            rows.append(make_row(status))
            if is_folder:
                child = self._descend(folder, name, status)
                if child is not None:
                    below.append(child)
        return group, below

    def _scan(self, folder: _Folder) -> Iterator[tuple[bytes, os.stat_result]]:
        """Yield (name, lstat) sorted by name."""
        path = b"/" + folder.path
        if folder.only is not None:
            for name in sorted(folder.only):
                try:
                    status = os.lstat(os.path.join(path, name))
                except OSError as error:
                    above = os.fsdecode(os.path.join(path, name))
                    raise SourceReadError(f"source path {above}: cannot be reached ({error.strerror})") from None
                yield name, status
            return
        try:
            with os.scandir(path) as listing:
                found = [(entry.name, entry) for entry in listing]
        except OSError as error:
            if folder.path in self._roots:
                raise SourceReadError(f"source path {os.fsdecode(path)}: cannot be listed ({error.strerror})") from None
            self._warn(path, error)
            return
        found.sort(key=_first)
        if self._source.exclude_caches and any(name == CACHE_TAG_NAME for name, _ in found) and is_tagged_cache(path):
            found = [pair for pair in found if pair[0] == CACHE_TAG_NAME]
        for name, entry in found:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                self._warn(entry.path, error)
                continue
            yield name, status

    def _descend(self, folder: _Folder, name: bytes, status: os.stat_result) -> _Folder | None:
        path = folder.path + b"/" + name if folder.path else name
        if folder.only is not None:
            if path not in self._roots:
                return _Folder(path, self._children(path), -1, None)
            return _Folder(path, None, len(path) + 1, status.st_dev if self._source.one_file_system else None)
        if folder.device is not None and status.st_dev != folder.device:
            return None
        return _Folder(path, None, folder.root_length, folder.device)

    def _is_excluded(self, folder: _Folder, name: bytes, *, is_folder: bool) -> bool:
        assert self._excludes is not None  # the caller asks only where there are some
        path = folder.path + b"/" + name if folder.path else name
        return self._excludes(path[folder.root_length :], is_folder=is_folder)

    def _warn(self, path: bytes, error: OSError) -> None:
        code = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
        self._warnings.add(path, code, f"{code}: {error.strerror}")


def make_row(status: os.stat_result) -> Row:
    """Return the stat row of a file: what the next run compares."""
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_ino,
        status.st_dev,
        status.st_nlink,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _first(pair: tuple[bytes, os.DirEntry[bytes]]) -> bytes:
    return pair[0]
