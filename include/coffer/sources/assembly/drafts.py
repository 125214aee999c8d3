"""The new manifest in the making: blocks wait for their chunks, are encoded in order, and end in a root."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from coffer.errors import CofferError, SizeLimitError
from coffer.ids import ChunkId, ContentId
from coffer.repository.blocks import MAX_BLOCK_EXTENTS, SIZE, Group, encode_content, encode_stable, encode_times
from coffer.repository.index import ChunkIndex
from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, ManifestReader, encode_root
from coffer.repository.pack import MAX_RAW_BYTES, TYPE_ROOT, TYPE_SECTION
from coffer.repository.writer import ChunkWriter, PendingChunk
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.extents import PendingContent

_MAX_WAITING = 12  # blocks whose bundle is still open; then it is closed early. About 20 MB at the most.
_SMALL_BUNDLE_BYTES = 256 * 1024  # left by runs that found few changes …
_MANY_SMALL = 64  # … and joined once there are this many of them
_FULL_ACCOUNT_BLOCKS = 64  # up to this many unchanged blocks are read again to see which bundles are half dead
_ACCOUNT_EVERY = 8  # a larger manifest is looked through every eighth snapshot


@dataclass(slots=True)
class DraftBlock:
    """A block that was walked.

    Attributes:
        groups: Its entries; contents that the run read are in `pending` until they are stored.
        fingerprint: As `blockcut.fingerprint`, or zeros.
        pending: (group, row, content) for each content of this run.
        read_again: (group, row, content id that the parent has) for each file that was read only because the parent's
            row says nothing of its ctime; None where it was empty.
        bundle_number: Of the bundle that was open when the block was finished: the last one that it can lie in.
    """

    groups: list[Group]
    fingerprint: bytes
    pending: list[tuple[Group, int, PendingContent]]
    read_again: list[tuple[Group, int, ContentId | None]] = field(default_factory=list)
    bundle_number: int = -1


@dataclass(slots=True)
class _Encoded:
    folder: bytes
    name: bytes
    entry_count: int
    size_bytes: int
    fingerprint: bytes
    stable: PendingChunk
    times: PendingChunk
    content: PendingChunk | None

    def ref(self) -> BlockRef:
        content = self.content.chunk_id if self.content else None
        return BlockRef(
            self.folder,
            self.name,
            self.entry_count,
            self.size_bytes,
            self.fingerprint,
            self.stable.chunk_id,
            self.times.chunk_id,
            content,
        )


class ManifestDraft:
    """Collects blocks in walk order.

    Attributes:
        files_same: Files that were read again and had the parent's content, in the blocks encoded so far.
    """

    def __init__(self, writer: ChunkWriter, bundler: Bundler) -> None:
        self._writer, self._bundler = writer, bundler
        self.files_same = 0
        self._waiting: deque[DraftBlock] = deque()
        self._blocks: list[_Encoded | BlockRef] = []
        self._live: dict[ChunkId, int] = {}  # bytes alive in each bundle, over the blocks encoded in this run

    def reuse(self, block: BlockRef) -> None:
        """Take over an unchanged block of the parent."""
        self._encode_until(0)
        self._blocks.append(block)

    def add(self, block: DraftBlock) -> None:
        """Take a block; its chunks may still be on their way."""
        if block.pending:
            block.bundle_number = self._bundler.number
        self._waiting.append(block)
        self._encode_until(_MAX_WAITING)

    def finish(self, index: ChunkIndex, parent: ManifestReader | None, sequence: int) -> ChunkId:
        """Encode what waits, put data and manifest, and return the root's chunk id. On return all is durable."""
        self._encode_until(0)
        self._writer.flush_data()
        refs = [block if isinstance(block, BlockRef) else block.ref() for block in self._blocks]
        sparse = self._sparse(index, parent, sequence) if parent is not None else frozenset()
        root = encode_root(refs, sparse)
        if len(root) > MAX_RAW_BYTES:
            raise SizeLimitError(
                f"manifest: root of {len(root)} bytes for {len(refs)} blocks, over the cap of {MAX_RAW_BYTES}",
                hint="Divide the source into several: one holds about 300 million files at the most.",
            )
        pending = self._writer.submit([root], len(root), TYPE_ROOT)
        self._writer.flush_meta()
        return pending.chunk_id

    def _encode_until(self, waiting: int) -> None:
        """Encode the oldest blocks; those that wait for an open bundle may stay, up to `waiting` of them."""
        while self._waiting:
            if self._waiting[0].bundle_number == self._bundler.number and not self._bundler.is_empty:
                if len(self._waiting) <= waiting:
                    return
                self._bundler.close()
            self._encode(self._waiting.popleft())

    def _encode(self, block: DraftBlock) -> None:
        for group, at, pending in block.pending:
            group.contents[at] = pending.resolve()
        for group, at, before in block.read_again:
            content = group.contents.get(at)
            self.files_same += before == (None if content is None else content.content_id)
        self._account(block.groups)
        self._add_encoded(block.groups, block.fingerprint)
        if self._writer.meta_backlog:
            self._writer.flush_meta()

    def _add_encoded(self, groups: list[Group], fingerprint: bytes) -> None:
        """Encode entries as one block, or as several where they are more than a chunk can hold.

        A folder of files of many GiB each, or with large attributes: its blocks are looked at entry by entry next time.
        """
        entry_count = sum(len(group.rows) for group in groups)
        stable, times, content = encode_stable(groups), encode_times(groups), encode_content(groups)
        extents = sum(len(filled.extents) for group in groups for filled in group.contents.values())
        if entry_count > 1 and (max(len(stable), len(content)) > MAX_RAW_BYTES or extents > MAX_BLOCK_EXTENTS):
            for half in _halves(groups, entry_count // 2):
                self._add_encoded(half, NO_FINGERPRINT)
            return
        encoded = _Encoded(
            groups[0].folder,
            groups[0].names[0],
            entry_count,
            sum(group.rows[at][SIZE] for group in groups for at in group.contents),
            fingerprint,
            self._section(stable),
            self._section(times),
            self._section(content) if content else None,
        )
        self._blocks.append(encoded)

    def _section(self, data: bytes) -> PendingChunk:
        return self._writer.submit([data], len(data), TYPE_SECTION)

    # ----------------------------------------------------------------------------------------------- sparse bundles

    def _account(self, groups: list[Group]) -> None:
        live = self._live
        for group in groups:
            for content in group.contents.values():
                if len(content.extents) == 1:
                    chunk_id, _, length, indirect = content.extents[0]
                    if chunk_id is not None and not indirect:
                        live[chunk_id] = live.get(chunk_id, 0) + length

    def _sparse(self, index: ChunkIndex, parent: ManifestReader, sequence: int) -> frozenset[ChunkId]:
        """Return the bundles that the next backup shall make anew: less than half alive, or many small ones."""
        reused = [block for block in self._blocks if isinstance(block, BlockRef)]
        if len(reused) == len(self._blocks):
            return parent.root.sparse
        if len(reused) > _FULL_ACCOUNT_BLOCKS and sequence % _ACCOUNT_EVERY:
            return frozenset()
        for block in reused:
            try:
                self._account(parent.groups(block))
            except CofferError:
                return frozenset()  # a count that misses a block would call live bundles dead
        sparse, small = set(), set()
        for chunk_id, live_bytes in self._live.items():
            where = index.find(chunk_id)
            if where is None:
                continue
            if 2 * live_bytes < where.raw_length:
                sparse.add(chunk_id)
            elif where.raw_length < _SMALL_BUNDLE_BYTES:
                small.add(chunk_id)
        return frozenset(sparse | small) if len(small) >= _MANY_SMALL else frozenset(sparse)


def _halves(groups: list[Group], entry_count: int) -> tuple[list[Group], list[Group]]:
    """Return the first `entry_count` entries, and the rest."""
    first: list[Group] = []
    rest: list[Group] = []
    room = entry_count
    for group in groups:
        taken = min(room, len(group.names))
        if taken:
            first.append(group.piece(0, taken))
        if taken < len(group.names):
            rest.append(group.piece(taken, len(group.names)))
        room -= taken
    return first, rest
