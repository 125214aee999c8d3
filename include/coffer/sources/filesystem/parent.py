"""The parent: the manifest that this run compares with, so that unchanged files are not read."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coffer.errors import CofferError
from coffer.ids import ChunkId
from coffer.repository.blocks import Group, Row
from coffer.repository.entries import Content, path_key
from coffer.repository.manifest import BlockRef, ManifestReader

_BLOCKS_KEPT = 4  # decoded; the walk and the parent go in step, so few are needed at a time
_MAX_MOVED = 250_000  # contents of the parent kept for finding moved and copied files: about 50 MB

Key = tuple[list[bytes], bytes]


class Found(NamedTuple):
    """An entry of the parent."""

    group: Group
    at: int

    @property
    def row(self) -> Row:
        """Its stat row."""
        return self.group.rows[self.at]

    @property
    def content(self) -> Content | None:
        """Its content."""
        return self.group.contents.get(self.at)


class Parent:
    """Answers, in walk order, what the parent says of blocks and folders. A damaged block counts as absent."""

    def __init__(self, manifest: ManifestReader, knows: Callable[[bytes], bool]) -> None:
        """Compare with `manifest`; `knows` says whether a chunk is in the store."""
        self.manifest = manifest
        self._knows = knows
        self._blocks = manifest.root.blocks
        self._keys: list[Key] = [(path_key(block.folder), block.name) for block in self._blocks]
        self._by_print = {(block.folder, block.name, block.fingerprint): block for block in self._blocks}
        self._decoded: OrderedDict[int, dict[bytes, list[Group]]] = OrderedDict()
        self._moved: dict[bytes, int] | None = None  # content id -> number of its chunk << 32 | offset
        self._moved_chunks: list[ChunkId] = []

    def same_block(self, groups: Sequence[Group], fingerprint: bytes) -> BlockRef | None:
        """Return the parent's block with this beginning and fingerprint, if its sections are in the store."""
        block = self._by_print.get((groups[0].folder, groups[0].names[0], fingerprint))
        if block is None:
            return None
        sections = (block.stable, block.times, block.content)
        return block if all(section is None or self._knows(section) for section in sections) else None

    def lookup(self, group: Group) -> dict[bytes, Found]:
        """Return name → entry of the parent, for a folder (or a piece of one)."""
        found: dict[bytes, Found] = {}
        key = path_key(group.folder)
        at = max(bisect_right(self._keys, (key, group.names[0])) - 1, 0)
        while at < len(self._keys) and self._keys[at] <= (key, group.names[-1]):
            for old in self._groups(at).get(group.folder, ()):
                found.update((name, Found(old, index)) for index, name in enumerate(old.names))
            at += 1
        return found

    def tail_after(self, key: Key) -> tuple[list[Group], tuple[BlockRef, ...]]:
        """Return what lies behind a place in the walk: the rest of the block it falls in, and the blocks after that."""
        at = max(bisect_right(self._keys, key) - 1, 0)
        if not self._blocks:
            return [], ()
        if self._keys[at] > key:
            return [], self._blocks
        rest: list[Group] = []
        for groups in self._groups(at).values():
            for group in groups:
                rest += _behind(group, key)
        rest.sort(key=lambda group: (path_key(group.folder), group.names[0]))
        return rest, self._blocks[at + 1 :]

    def find_content(self, content_id: bytes) -> tuple[ChunkId, int] | None:
        """Return (chunk, offset [bytes]) of a small file's content anywhere in the parent: it was moved or copied.

        The first call reads the parent's manifest; the table is bounded, and copies beyond it match as whole bundles.
        """
        if self._moved is None:
            self._moved = {}
            self._read_contents(self._moved)
        place = self._moved.get(content_id)
        return None if place is None else (self._moved_chunks[place >> 32], place & 0xFFFF_FFFF)

    def _read_contents(self, table: dict[bytes, int]) -> None:
        numbers: dict[bytes, int] = {}
        for block in self._blocks:
            try:
                groups = self.manifest.groups(block)
            except CofferError:
                continue
            for group in groups:
                for content in group.contents.values():
                    extent = content.extents[0]
                    if len(content.extents) == 1 and extent.chunk_id is not None and not extent.indirect:
                        number = numbers.setdefault(extent.chunk_id, len(numbers))
                        table[content.content_id] = number << 32 | extent.offset
            if len(table) >= _MAX_MOVED:
                break
        self._moved_chunks = [ChunkId(chunk_id) for chunk_id in numbers]

    def _groups(self, at: int) -> dict[bytes, list[Group]]:
        decoded = self._decoded.get(at)
        if decoded is None:
            decoded = {}
            try:
                for group in self.manifest.groups(self._blocks[at]):
                    decoded.setdefault(group.folder, []).append(group)
            except CofferError:
                decoded = {}  # its files are read as if they were new; `check` names the damage
            self._decoded[at] = decoded
            if len(self._decoded) > _BLOCKS_KEPT:
                self._decoded.popitem(last=False)
        return decoded


def _behind(group: Group, key: Key) -> list[Group]:
    """Return the part of a group that lies behind a place, as a list of one group or none."""
    folder_key = path_key(group.folder)
    if folder_key > key[0]:
        return [group]
    if folder_key < key[0]:
        return []
    first = bisect_right(group.names, key[1])
    if first == len(group.names):
        return []
    return [group.piece(first, len(group.names))]
