"""List trees, folder by folder, in the order of a manifest: depth first, names sorted by their bytes."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from pathlib import Path

from coffer.errors import SourceMissingError, SourceReadError
from coffer.repository.blocks import DEV, INO, MODE, Row
from coffer.sources.assembly.result import WarningLog
from coffer.sources.filesystem.filters import CACHE_TAG_NAME, Excludes, is_tagged_cache
from coffer.sources.filesystem.folder import (
    LIST_FLAGS,
    Identity,
    ListedFolder,
    VanishedError,
    open_folder,
)
from coffer.sources.filesystem.spec import FilesystemSource

_MAX_PATH_BYTES = 4095  # PATH_MAX of Linux, less the NUL at its end
_MAX_NAME_BYTES = 255
_KIND = 0o170000  # of st_mode (stat.S_IFMT, without a call)
_NO_NAMES: frozenset[bytes] = frozenset()

# A listing by descriptor gives names as text: back to the bytes that they are on the disk (os.fsencode, spelt out).
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list.

    Attributes:
        path: Relative to the root of the file system.
        only: Names to take; None for all. Set on the way down to a source's path.
        root_length: Length of the source path above it; what lies behind is what patterns see. -1 above any.
        device: That must not be left, or None.
        identity: What its parent's listing says it is; None for the root of the file system.
    """

    path: bytes
    only: frozenset[bytes] | None
    root_length: int
    device: int | None
    identity: Identity | None


def resolve_paths(source: FilesystemSource) -> tuple[bytes, ...]:
    """Return the source's paths: absolute, links resolved, sorted, each once.

    One below another is kept: patterns, and the edge of a file system, hold anew from there.

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
    return tuple(sorted(resolved, key=lambda path: path.split(b"/")))


class Walk:
    """One pass over the source's trees."""

    def __init__(
        self, source: FilesystemSource, paths: tuple[bytes, ...], excludes: Excludes | None, warnings: WarningLog
    ) -> None:
        self._source = source
        self._roots = frozenset(path.strip(b"/") for path in paths)
        self._ways: dict[bytes, frozenset[bytes]] = _ways_to(self._roots)
        self._left_out: set[bytes] = set()  # folders of which only the tag and the way to a source's path are taken
        self._excludes = excludes
        self._warnings = warnings

    def groups(self) -> Iterator[ListedFolder]:
        """Yield a group (names and stat rows) for every folder that has entries.

        What vanishes or cannot be listed is a warning; the rest goes on.

        Raises:
            SourceReadError: A source path itself cannot be read, or is a link by now.
        """
        stack = [self._first()]
        while stack:
            folder = stack.pop()
            group, below = self._list(folder)
            if group.names:
                yield group
            below.reverse()
            stack += below

    def _first(self) -> _Folder:
        if b"" not in self._roots:
            return _Folder(b"", self._ways[b""], -1, None, None)
        return _Folder(b"", None, 0, os.lstat(b"/").st_dev if self._source.one_file_system else None, None)

    def _list(self, folder: _Folder) -> tuple[ListedFolder, list[_Folder]]:
        group = ListedFolder(folder.path, [], [])
        ways = self._ways.get(folder.path, _NO_NAMES)
        names, rows = self._scan(folder, group, ways) if folder.only is None else self._lead(folder)
        if self._excludes is not None and folder.root_length >= 0:
            taken = [
                name in ways or not self._is_excluded(folder, name, is_folder=stat.S_ISDIR(row[MODE]))
                for name, row in zip(names, rows, strict=True)
            ]
            names, rows = list(compress(names, taken)), list(compress(rows, taken))
        group.names, group.rows = names, rows
        # Most entries are files: only what is a folder is looked at once more.
        below = [
            self._descend(folder, names[at], row) for at, row in enumerate(rows) if row[MODE] & _KIND == stat.S_IFDIR
        ]
        return group, [child for child in below if child is not None]

    def _lead(self, folder: _Folder) -> tuple[list[bytes], list[Row]]:
        """Return names and rows of what leads to a source's path, sorted by name."""
        assert folder.only is not None  # the caller asks only there
        names = sorted(folder.only)
        rows: list[Row] = []
        for name in names:
            path = os.path.join(b"/" + folder.path, name)
            try:
                status = os.lstat(path)
            except OSError as error:
                raise _lost(path, "reached", error.strerror) from None
            if stat.S_ISLNK(status.st_mode):  # links were resolved: something was put in its place since
                raise _lost(path, "reached", "it is a link now")
            rows.append(make_row(status))
        return names, rows

    def _scan(self, folder: _Folder, group: ListedFolder, ways: frozenset[bytes]) -> tuple[list[bytes], list[Row]]:
        """Return names and rows of what is in a folder, sorted by name; say in `group` which folder that was."""
        path = b"/" + folder.path
        fd = -1
        try:
            fd, group.identity = open_folder(path, folder.identity, LIST_FLAGS)
            found = self._listing(folder, ways, fd, group.identity[0])
            try:
                rows = [make_row(entry.stat(follow_symlinks=False)) for _, entry in found]
            except OSError:  # one of them is gone: once more, one by one
                return self._scan_restless(path, found)
            return [name for name, _ in found], rows
        except (OSError, VanishedError) as error:
            if ways or folder.path in self._roots:
                raise _lost(path, "listed", error.args[-1]) from None
            self._warn(path, error)
            return [], []
        finally:
            if fd >= 0:
                os.close(fd)

    def _scan_restless(self, path: bytes, found: list[tuple[bytes, os.DirEntry[str]]]) -> tuple[list[bytes], list[Row]]:
        """Return names and rows of those that are still there; the others are a warning each."""
        names: list[bytes] = []
        rows: list[Row] = []
        for name, entry in found:
            try:
                rows.append(make_row(entry.stat(follow_symlinks=False)))
            except OSError as error:
                self._warn(os.path.join(path, name), error)
                continue
            names.append(name)
        return names, rows

    def _listing(
        self, folder: _Folder, ways: frozenset[bytes], fd: int, device: int
    ) -> list[tuple[bytes, os.DirEntry[str]]]:
        """Return (name, entry) of what is taken of an open folder, sorted by name."""
        path = b"/" + folder.path
        with os.scandir(fd) as listing:
            found = [(entry.name.encode(_ENCODING, _ERRORS), entry) for entry in listing]
        found.sort(key=_name_of)
        if ways:
            self._require(folder, ways, found)
        # Mounted by being opened: another file system, as one that was seen to be.
        taken = ways if folder.device not in (None, device) else None
        if self._source.exclude_caches and any(name == CACHE_TAG_NAME for name, _ in found) and is_tagged_cache(fd):
            taken = ways | {CACHE_TAG_NAME}
        if taken is not None:
            if ways:
                self._left_out.add(folder.path)
            found = [pair for pair in found if pair[0] in taken]
        if len(path) + _MAX_NAME_BYTES >= _MAX_PATH_BYTES:
            found = [pair for pair in found if self._is_short_enough(os.path.join(path, pair[0]))]
        return found

    def _is_short_enough(self, path: bytes) -> bool:
        """Leave out, with a warning, what no program reaches by its path: a restore could not either."""
        if len(path) <= _MAX_PATH_BYTES:
            return True
        self._warn(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
        return False

    def _require(self, folder: _Folder, ways: frozenset[bytes], found: list[tuple[bytes, os.DirEntry[str]]]) -> None:
        """See that what leads to a source's path is still there, and is no link."""
        there = dict(found)
        for name in sorted(ways):
            path = os.path.join(b"/" + folder.path, name)
            if name not in there:
                raise _lost(path, "reached", os.strerror(errno.ENOENT))
            if there[name].is_symlink():
                raise _lost(path, "reached", "it is a link now")

    def _descend(self, folder: _Folder, name: bytes, row: Row) -> _Folder | None:
        path = folder.path + b"/" + name if folder.path else name
        device = row[DEV]
        identity = device, row[INO]
        if path in self._roots:
            return _Folder(path, None, len(path) + 1, device if self._source.one_file_system else None, identity)
        ways = self._ways.get(path)
        if folder.only is not None:
            return _Folder(path, ways, -1, None, identity)
        if folder.device is not None and device != folder.device:
            return None if ways is None else _Folder(path, ways, -1, None, identity)
        if ways is not None and (
            folder.path in self._left_out
            or (self._excludes is not None and self._is_excluded(folder, name, is_folder=True))
        ):
            return _Folder(path, ways, -1, None, identity)
        return _Folder(path, None, folder.root_length, folder.device, identity)

    def _is_excluded(self, folder: _Folder, name: bytes, *, is_folder: bool) -> bool:
        assert self._excludes is not None  # the caller asks only where there are some
        path = folder.path + b"/" + name if folder.path else name
        return self._excludes(path[folder.root_length :], is_folder=is_folder)

    def _warn(self, path: bytes, error: OSError | VanishedError) -> None:
        code = "vanished" if isinstance(error, FileNotFoundError | VanishedError) else "unreadable"
        self._warnings.add(path, code, f"{code}: {error.args[-1]}")


def _ways_to(roots: frozenset[bytes]) -> dict[bytes, frozenset[bytes]]:
    """Return folder → names in it that lead to a source's path, for every folder above one."""
    ways: dict[bytes, set[bytes]] = {}
    for root in roots - {b""}:
        parts = root.split(b"/")
        for depth, name in enumerate(parts):
            ways.setdefault(b"/".join(parts[:depth]), set()).add(name)
    return {folder: frozenset(names) for folder, names in ways.items()}


def _lost(path: bytes, what: str, why: str | None) -> SourceReadError:
    return SourceReadError(f"source path {os.fsdecode(path)}: cannot be {what} ({why})")


# The stat row of a file: what the next run compares. In C, for it is made for every file of every run.
make_row: Callable[[os.stat_result], Row] = attrgetter(
    "st_mode", "st_uid", "st_gid", "st_size", "st_ino", "st_dev", "st_nlink", "st_mtime_ns", "st_ctime_ns"
)


def _name_of(pair: tuple[bytes, os.DirEntry[str]]) -> bytes:
    return pair[0]
