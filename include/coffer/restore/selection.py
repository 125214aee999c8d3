"""Which entries of a snapshot are wanted, and which blocks of its manifest have to be read for them."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from coffer.errors import PathNotInSnapshotError, PermanentError, UsageError
from coffer.repository.blocks import MODE, Group
from coffer.repository.entries import path_key
from coffer.repository.manifest import ManifestReader
from coffer.repository.snapshot import Snapshot
from coffer.restore.spec import RestoreOptions

_BLOCKS_KEPT = 4  # decoded; looking for a path and then restoring it reads its blocks once
_NEAREST = 3  # names to suggest for a path that is not there

Matcher = Callable[[str], bool]


class Picked(NamedTuple):
    """What is wanted of a group.

    Attributes:
        rows: Rows that are wanted, rising.
        above: Rows of folders that are only wanted if something in them is, rising.
    """

    rows: Sequence[int]
    above: Sequence[int]


class Selection:
    """The wanted part of one manifest. For one thread."""

    def __init__(self, manifest: ManifestReader, snapshot: Snapshot, options: RestoreOptions) -> None:
        """Look every path up.

        Raises:
            PathNotInSnapshotError: One is not in the snapshot.
            UsageError: A pattern is not gitignore syntax.
            ObjectCorruptError, ChunkMissingError: A block that a path must be in is damaged.
        """
        self.manifest = manifest
        self._snapshot_id, self._patterns = snapshot.id, options.include
        self._has_matched = self._is_partly_unread = False
        self._decoded: OrderedDict[int, list[Group]] = OrderedDict()
        blocks = manifest.root.blocks
        self._keys = [(path_key(block.folder), block.name) for block in blocks]
        self._include = _matcher("include", options.include)
        self._exclude = _matcher("exclude", options.exclude)
        paths = {path.strip(b"/") for path in options.paths}
        self.is_whole = not paths or b"" in paths
        self._paths: tuple[bytes, ...] = ()
        self._named: dict[bytes, set[bytes]] = {}
        self._above: dict[bytes, set[bytes]] = {}
        self.ordinals: Sequence[int] = range(len(blocks))
        if not self.is_whole:
            self._paths = tuple(sorted(paths))
            self.ordinals = sorted(self._find_all(snapshot))

    def groups(self, ordinal: int) -> list[Group]:
        """Return the groups of a block; the last few are kept.

        Raises:
            ObjectCorruptError, ChunkMissingError: The block is damaged; others may be whole.
        """
        found = self._decoded.get(ordinal)
        if found is None:
            try:
                found = self.manifest.groups(self.manifest.root.blocks[ordinal])
            except PermanentError:
                self._is_partly_unread = True
                raise
            self._decoded[ordinal] = found
            if len(self._decoded) > _BLOCKS_KEPT:
                self._decoded.popitem(last=False)
        return found

    def pick(self, group: Group) -> Picked:
        """Return what is wanted of a group."""
        picked = self._pick_paths(group)
        if self._include is None and self._exclude is None:
            return picked
        prefix = os.fsdecode(group.folder) + "/" if group.folder else ""
        rows: list[int] = []
        above: list[int] = []
        for at in sorted([*picked.rows, *picked.above]):
            is_folder = stat.S_ISDIR(group.rows[at][MODE])
            path = prefix + os.fsdecode(group.names[at]) + ("/" if is_folder else "")
            if self._exclude is not None and self._exclude(path):
                continue
            if at in picked.above or not (self._include is None or self._include(path)):
                if is_folder:
                    above.append(at)
                continue
            rows.append(at)
        self._has_matched = self._has_matched or bool(rows)
        return Picked(rows, above)

    def require_match(self) -> None:
        """Refuse include patterns that nothing fitted, once all groups were picked from: no success with nothing done.

        Where some block could not be read nobody knows, and the damage is told instead.

        Raises:
            UsageError: Nothing is wanted.
        """
        if self._patterns and not self._has_matched and not self._is_partly_unread:
            shown = ", ".join(map(repr, self._patterns))
            raise UsageError(
                f"include {shown}: nothing in snapshot {self._snapshot_id} matches, or all of it is excluded",
                hint="Patterns are seen from the snapshot's root; 'coffer find' tells where a file is.",
            )

    # ----------------------------------------------------------------------------------------------- paths

    def _pick_paths(self, group: Group) -> Picked:
        folder = group.folder
        if self.is_whole or any(folder == path or folder.startswith(path + b"/") for path in self._paths):
            return Picked(range(len(group.names)), ())
        named, above = self._named.get(folder, set()), self._above.get(folder, set())
        if not named and not above:
            return Picked((), ())
        rows = [at for at, name in enumerate(group.names) if name in named]
        folders = [at for at, name in enumerate(group.names) if name in above and name not in named]
        return Picked(rows, folders)

    def _find_all(self, snapshot: Snapshot) -> set[int]:
        """Look every path up; return the blocks that hold it, what is above it, and what is below."""
        ordinals: set[int] = set()
        for path in self._paths:
            if not self._is_there(path):
                raise self._not_there(path, snapshot)
            folder, _, name = path.rpartition(b"/")
            self._named.setdefault(folder, set()).add(name)
            ordinals.update(self._own_blocks(path), self._blocks_below(path))
            while folder:
                path_above = folder
                folder, _, name = path_above.rpartition(b"/")
                self._above.setdefault(folder, set()).add(name)
                ordinals.update(self._own_blocks(path_above))
        return ordinals

    def _is_there(self, path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        return any(
            group.folder == folder and name in group.names
            for ordinal in self._own_blocks(path)
            for group in self.groups(ordinal)
        )

    def _own_blocks(self, path: bytes) -> Iterator[int]:
        """Yield the block that holds an entry, if any does: the last that begins at or before it."""
        folder, _, name = path.rpartition(b"/")
        at = bisect_right(self._keys, (path_key(folder), name)) - 1
        if at >= 0:
            yield at

    def _blocks_below(self, path: bytes) -> Iterator[int]:
        """Yield the blocks that may hold what is below a folder."""
        key = path_key(path)
        first = max(bisect_right(self._keys, (key, b"")) - 1, 0)
        for at in range(first, len(self._keys)):
            if at > first and self._keys[at][0][: len(key)] != key:
                return
            yield at

    def _not_there(self, path: bytes, snapshot: Snapshot) -> PathNotInSnapshotError:
        """Return the error, with the names that are most like the first component that is missing."""
        import shlex  # only a path that is wrong pays for these
        from difflib import get_close_matches

        parts = path.split(b"/")
        depth = next(n for n in range(1, len(parts) + 1) if not self._is_there(b"/".join(parts[:n])))
        folder = b"/".join(parts[: depth - 1])
        names = [os.fsdecode(name) for name in self._names_in(folder)]
        prefix = os.fsdecode(folder) + "/" if folder else ""
        near = [prefix + name for name in get_close_matches(os.fsdecode(parts[depth - 1]), names, _NEAREST)]
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else None
        if depth == len(parts) == 1:  # a name alone, or something at the top
            find = f"'coffer find {shlex.quote(os.fsdecode(path))} {snapshot.id}' tells where a file of that name is."
            hint = f"{hint} " if hint else "Paths are seen from the snapshot's root: "
            hint += find
        return PathNotInSnapshotError(
            f"path {os.fsdecode(path)!r}: not in snapshot {snapshot.id}",
            hint=hint,
            nearest=near,
        )

    def _names_in(self, folder: bytes) -> Iterator[bytes]:
        for ordinal in self._blocks_below(folder):
            for group in self.groups(ordinal):
                if group.folder == folder:
                    yield from group.names


def _matcher(what: str, patterns: tuple[str, ...]) -> Matcher | None:
    """Return a function (path, a folder's with a slash at its end) → matches, or None where there is no pattern."""
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec  # about 20 ms; only restores with patterns pay for it

    try:
        spec = GitIgnoreSpec.from_lines(patterns)
    except Exception as error:  # noqa: BLE001 - pathspec raises its own kinds and re.error; all are the user's pattern
        raise UsageError(f"{what} patterns: {error}", hint="Patterns are written as in a .gitignore file.") from None
    return spec.match_file
