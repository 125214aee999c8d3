"""Compare two manifests of one repository, as streams, by the ids that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coffer.repository.entries import Entry, path_key
from coffer.repository.manifest import BlockRef, ManifestReader

ADDED = "added"
REMOVED = "removed"
CHANGED = "changed"
METADATA = "metadata"


class Change(NamedTuple):
    """One path that differs.

    Attributes:
        path: As in the snapshots.
        change: ADDED, REMOVED, CHANGED (kind or content), or METADATA.
        what: The attributes that differ; empty for what was added or removed.
        old, new: The entries; None on the side where there is none.
    """

    path: bytes
    change: str
    what: tuple[str, ...]
    old: Entry | None
    new: Entry | None


def changes_between(old: ManifestReader, new: ManifestReader) -> Iterator[Change]:
    """Yield the differences in manifest order.

    Blocks that both have are not read. Of the others one on each side is held at a time.

    Raises:
        ObjectCorruptError, ChunkMissingError: A manifest is damaged.
    """
    common = {_sections(block) for block in old.root.blocks} & {_sections(block) for block in new.root.blocks}
    left, right = _entries(old, common), _entries(new, common)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and _place(a) < _place(b)):
            assert a is not None  # the loop's condition
            yield Change(a.path, REMOVED, (), a, None)
            a = next(left, None)
        elif a is None or _place(b) < _place(a):
            yield Change(b.path, ADDED, (), None, b)
            b = next(right, None)
        else:
            change = compare_entries(a, b)
            if change is not None:
                yield change
            a, b = next(left, None), next(right, None)


def compare_entries(old: Entry, new: Entry) -> Change | None:
    """Return how two entries of one path differ, or None.

    Inode, device and ctime are not compared: a restore cannot bring them back.
    """
    if old.kind is not new.kind:
        return Change(new.path, CHANGED, (f"{old.kind.value} to {new.kind.value}",), old, new)
    content = [
        name
        for name, differs in (
            ("content", _content_id(old) != _content_id(new)),
            ("target", old.link_target != new.link_target),
            ("device", old.rdev != new.rdev),
        )
        if differs
    ]
    metadata = [
        name
        for name, differs in (
            ("mode", old.mode != new.mode),
            ("owner", (old.uid, old.gid) != (new.uid, new.gid)),
            ("mtime", old.mtime_ns != new.mtime_ns),
            ("xattrs", old.xattrs != new.xattrs),
        )
        if differs
    ]
    if not content and not metadata:
        return None
    return Change(new.path, CHANGED if content else METADATA, (*content, *metadata), old, new)


def _content_id(entry: Entry) -> bytes | None:
    return None if entry.content is None else entry.content.content_id


def _sections(block: BlockRef) -> tuple[bytes | None, ...]:
    return block.stable, block.times, block.content


def _entries(manifest: ManifestReader, common: set[tuple[bytes | None, ...]]) -> Iterator[Entry]:
    for block in manifest.root.blocks:
        if _sections(block) not in common:
            for group in manifest.groups(block):
                yield from group.entries()


def _place(entry: Entry) -> tuple[list[bytes], bytes]:
    folder, _, name = entry.path.rpartition(b"/")
    return path_key(folder), name
