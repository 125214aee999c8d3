"""The manifest: the entries of one snapshot, as blocks that are chunks, below one root (docs/format.md §6).

Order: folders in depth-first order, sorted by components; within a folder, names sorted by their bytes. Blocks are cut
by the folders' names and not by counts, so one change moves no other block.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.ids import CHUNK_ID_BYTES, ChunkId
from coffer.repository.blocks import MAX_PATH_BYTES, Group, decode_block
from coffer.repository.columns import pack_blob, unpack_blob
from coffer.repository.entries import Content, Entry, Extent, path_key
from coffer.repository.pack import MAX_RAW_BYTES, TYPE_LIST, TYPE_ROOT, TYPE_SECTION

FINGERPRINT_BYTES = 16
NO_FINGERPRINT = bytes(FINGERPRINT_BYTES)  # "compare entry by entry": some entry must be read again next time
_NO_CHUNK = bytes(CHUNK_ID_BYTES)
_ROOT = struct.Struct("<4sIQQI")  # mark, count of blocks, entries, bytes, count of sparse chunks
_BLOCK = struct.Struct(f"<IQ{FINGERPRINT_BYTES}s{CHUNK_ID_BYTES}s{CHUNK_ID_BYTES}s{CHUNK_ID_BYTES}s")
_LIST_ROW = struct.Struct(f"<{CHUNK_ID_BYTES}sII")  # chunk id (zeros: a hole), offset, length
_MAX_SUM_BYTES = (1 << 64) - 1
_MARK = b"mft1"
_HOLE_STEP = (1 << 32) - 1  # a longer hole takes several rows of a list


@dataclass(frozen=True, slots=True)
class BlockRef:
    """Where one block is.

    Attributes:
        folder, name: Of its first entry: blocks are found by them.
        entry_count: Entries in it.
        size_bytes: Sum of its regular files' sizes.
        fingerprint: Keyed digest over names and stat rows; equal means that no file of the block changed. Zeros:
            unknown.
        stable, times, content: The sections' chunks; content is None where no entry has any.
    """

    folder: bytes
    name: bytes
    entry_count: int
    size_bytes: int
    fingerprint: bytes
    stable: ChunkId
    times: ChunkId
    content: ChunkId | None


@dataclass(frozen=True, slots=True)
class ManifestRoot:
    """The root of a manifest.

    Attributes:
        blocks: In manifest order.
        sparse: Bundles of which less than half is alive in this snapshot; the next backup bundles their files anew.
    """

    blocks: tuple[BlockRef, ...]
    sparse: frozenset[ChunkId]

    @property
    def entry_count(self) -> int:
        """Entries in all blocks."""
        return sum(block.entry_count for block in self.blocks)

    @property
    def size_bytes(self) -> int:
        """Sum of all regular files' sizes."""
        return _bounded(sum(block.size_bytes for block in self.blocks))


def _bounded(size_bytes: int) -> int:
    """Return what a field can hold of a sum: three sparse files can have 2^64 bytes, and none of them on a disk."""
    return min(size_bytes, _MAX_SUM_BYTES)


def encode_root(blocks: Sequence[BlockRef], sparse: frozenset[ChunkId] = frozenset()) -> bytes:
    """Return a root's plaintext; deterministic."""
    totals = sum(b.entry_count for b in blocks), _bounded(sum(b.size_bytes for b in blocks))
    parts = [_ROOT.pack(_MARK, len(blocks), *totals, len(sparse))]
    for b in blocks:
        counts = b.entry_count, _bounded(b.size_bytes)
        parts.append(_BLOCK.pack(*counts, b.fingerprint, b.stable, b.times, b.content or _NO_CHUNK))
        parts += (pack_blob(b.folder), pack_blob(b.name))
    return b"".join(parts) + b"".join(sorted(sparse))


def decode_root(data: bytes, what: str) -> ManifestRoot:
    """Return the root from its plaintext.

    Raises:
        ObjectCorruptError: It is not one.
        SizeLimitError: A block begins with a longer path than a walk meets.
    """
    try:
        mark, count, entries, size, sparse_count = _ROOT.unpack_from(data)
        if mark != _MARK or count * _BLOCK.size > len(data) or sparse_count * CHUNK_ID_BYTES > len(data):
            raise ObjectCorruptError(f"{what}: not the root of a manifest")
        at = _ROOT.size
        blocks = []
        for _ in range(count):
            n, block_size, fingerprint, stable, times, content = _BLOCK.unpack_from(data, at)
            folder, at = unpack_blob(data, at + _BLOCK.size, what)
            name, at = unpack_blob(data, at, what)
            if max(len(folder), len(name)) > MAX_PATH_BYTES:
                raise SizeLimitError(f"{what}: path of a block is over the cap of {MAX_PATH_BYTES} bytes")
            content_id = None if content == _NO_CHUNK else ChunkId(content)
            blocks.append(
                BlockRef(folder, name, n, block_size, fingerprint, ChunkId(stable), ChunkId(times), content_id)
            )
    except struct.error:
        raise ObjectCorruptError(f"{what}: root of the manifest is cut short") from None
    if len(data) != at + sparse_count * CHUNK_ID_BYTES:
        raise ObjectCorruptError(f"{what}: root of the manifest has another length than it declares")
    sparse = frozenset(ChunkId(data[i : i + CHUNK_ID_BYTES]) for i in range(at, len(data), CHUNK_ID_BYTES))
    root = ManifestRoot(tuple(blocks), sparse)
    if (root.entry_count, root.size_bytes) != (entries, size):
        raise ObjectCorruptError(f"{what}: blocks do not add up to the root's totals")
    return root


def encode_list(extents: Sequence[Extent]) -> bytes:
    """Return a list chunk's plaintext: extents of a very large file, none indirect."""
    parts: list[bytes] = []
    for chunk_id, offset, length, _ in extents:
        steps, rest = divmod(length - 1, _HOLE_STEP)  # only holes are longer than a step
        parts += [_LIST_ROW.pack(_NO_CHUNK, 0, _HOLE_STEP)] * steps
        parts.append(_LIST_ROW.pack(chunk_id or _NO_CHUNK, offset, rest + 1))
    return b"".join(parts)


def decode_list(data: bytes, what: str) -> list[Extent]:
    """Return the extents of a list chunk, as they were given to `encode_list`.

    Raises:
        ObjectCorruptError: It is not one.
    """
    if len(data) % _LIST_ROW.size:
        raise ObjectCorruptError(f"{what}: chunk list is cut short")
    extents: list[Extent] = []
    for chunk_id, offset, length in _LIST_ROW.iter_unpack(data):
        if not length or offset + length > (_HOLE_STEP if chunk_id == _NO_CHUNK else MAX_RAW_BYTES):
            raise ObjectCorruptError(f"{what}: chunk list has an extent that no chunk can hold")
        if chunk_id != _NO_CHUNK:
            extents.append(Extent(ChunkId(chunk_id), offset, length))
        elif extents and extents[-1].chunk_id is None:
            # The rows of one long hole: the file's content id counts it once.
            extents[-1] = Extent(None, 0, extents[-1].length + length)
        else:
            extents.append(Extent(None, 0, length))
    return extents


class ChunkSource(Protocol):
    """Whoever returns a chunk's verified plaintext."""

    def read(self, chunk_id: bytes, type_: int) -> bytes:
        """Return the plaintext of a chunk of the given type."""
        ...


class ManifestReader:
    """Reads one manifest, block by block; holds one root and what the caller keeps. Thread-safe if its source is."""

    def __init__(self, source: ChunkSource, root_id: ChunkId) -> None:
        self._source = source
        self.root_id = root_id
        self._what = f"manifest {root_id.hex()[:12]}"
        self.root = decode_root(source.read(root_id, TYPE_ROOT), self._what)
        self._keys: list[tuple[list[bytes], bytes]] | None = None

    def groups(self, block: BlockRef) -> list[Group]:
        """Return one block's groups.

        Raises:
            ObjectCorruptError, ChunkMissingError: The block is damaged; others may be whole.
        """
        content = self._source.read(block.content, TYPE_SECTION) if block.content else b""
        stable = self._source.read(block.stable, TYPE_SECTION)
        groups = decode_block(stable, self._source.read(block.times, TYPE_SECTION), content, self._what)
        if sum(len(group.rows) for group in groups) != block.entry_count:
            raise ObjectCorruptError(f"{self._what}: block has another count of entries than its root says")
        return groups

    def entries(self, under: bytes = b"") -> Iterator[Entry]:
        """Yield entries in manifest order: all of them, or `under` itself and everything below it.

        Only the blocks that can hold such entries are read.
        """
        blocks = self.root.blocks if not under else self._blocks_under(under)
        prefix = under + b"/"
        for block in blocks:
            for group in self.groups(block):
                if not under or group.folder == under or group.folder.startswith(prefix):
                    yield from group.entries()
                elif group.folder == under.rpartition(b"/")[0]:
                    yield from (entry for entry in group.entries() if entry.path == under)

    def children(self, folder: bytes) -> Iterator[Entry]:
        """Yield the entries directly in a folder (b"" is the root), sorted by name; reads only the blocks of it."""
        key = path_key(folder)
        for block in self._blocks_under(folder):
            for group in self.groups(block):
                if group.folder == folder:
                    yield from group.entries()
                elif path_key(group.folder) > key:
                    return

    def find(self, path: bytes) -> Entry | None:
        """Return the entry of one path, or None; reads one block, or a few of a very large folder."""
        folder, _, name = path.rpartition(b"/")
        for block in self._blocks_under(path):
            for group in self.groups(block):
                if group.folder == folder and name in group.names:
                    return group.entry(group.names.index(name))
        return None

    def expand(self, content: Content) -> Iterator[Extent]:
        """Yield the extents of a file with list chunks resolved, in file order.

        Raises:
            ObjectCorruptError: A list does not add up to what its extent declares.
        """
        for extent in content.extents:
            if not extent.indirect or extent.chunk_id is None:
                yield extent
                continue
            listed = decode_list(self._source.read(extent.chunk_id, TYPE_LIST), self._what)
            if sum(e.length for e in listed) != extent.length:
                raise ObjectCorruptError(f"{self._what}: chunk list does not add up to its extent")
            yield from listed

    def _blocks_under(self, path: bytes) -> list[BlockRef]:
        """Return the blocks that may hold `path` or what is below it: a superset, in order."""
        if self._keys is None:
            self._keys = [(path_key(block.folder), block.name) for block in self.root.blocks]
        folder, _, name = path.rpartition(b"/")
        own = max(bisect_right(self._keys, (path_key(folder), name)) - 1, 0)
        below_key = path_key(path)
        first_below = max(bisect_right(self._keys, (below_key, b"")) - 1, 0)
        found = {own}
        at = first_below
        while at < len(self._keys) and (at == first_below or self._keys[at][0][: len(below_key)] == below_key):
            found.add(at)
            at += 1
        return [self.root.blocks[i] for i in sorted(found) if i < len(self.root.blocks)]
