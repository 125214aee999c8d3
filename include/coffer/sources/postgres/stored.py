"""The snapshot that a backup compares with: what it has of a file, read in the order in which the file is streamed."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from coffer.errors import CofferError
from coffer.ids import ChunkId
from coffer.postgres.facts import PAGES_FOLDER
from coffer.repository.blocks import SIZE, Row
from coffer.repository.entries import Content, Extent, path_key
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.reader import ChunkReader

_BLOCKS_KEPT = 6  # decoded: the stream goes folder by folder, for files and for their digests
_CHUNKS_KEPT = 24  # of digests, 1 MiB each: those of neighbours lie in the same few


class StoredFile(NamedTuple):
    """A file of the snapshot.

    Attributes:
        row: Its stat row.
        content: None where it is empty.
    """

    row: Row
    content: Content | None


class StoredCluster:
    """Finds files of a snapshot by path, in any order. A damaged block counts as absent: its files are read anew.

    For one thread.
    """

    def __init__(self, manifest: ManifestReader, reader: ChunkReader) -> None:
        self._manifest, self._reader = manifest, reader
        self._blocks = manifest.root.blocks
        self._keys = [(path_key(block.folder), block.name) for block in self._blocks]
        self._decoded: OrderedDict[int, dict[bytes, StoredFile]] = OrderedDict()
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def sparse(self) -> frozenset[ChunkId]:
        """Bundles that the next backup shall make anew."""
        return self._manifest.root.sparse

    def find(self, path: bytes) -> StoredFile | None:
        """Return what the snapshot has at a path."""
        folder, _, name = path.rpartition(b"/")
        at = bisect_right(self._keys, (path_key(folder), name)) - 1
        return None if at < 0 else self._block(at).get(path)

    def pages(self, path: bytes) -> StoredPages | None:
        """Return the pages of a file and their digests; None where it has none, or not for every page."""
        file, digests = self.find(path), self.find(PAGES_FOLDER + b"/" + path)
        if file is None or digests is None or file.content is None or digests.content is None:
            return None
        return StoredPages(
            ExtentCursor(self._manifest.expand(file.content)),
            DigestCursor(self, ExtentCursor(self._manifest.expand(digests.content))),
            ExtentCursor(self._manifest.expand(digests.content)),
            file.row[SIZE],
        )

    def read(self, path: bytes) -> Iterator[bytes]:
        """Yield the content of a file, extent by extent.

        Raises:
            CofferError: It is damaged.
        """
        file = self.find(path)
        if file is None or file.content is None:
            return
        for extent in self._manifest.expand(file.content):
            if extent.chunk_id is not None:
                chunk = self.chunk(extent.chunk_id)
                yield chunk[extent.offset : extent.offset + extent.length]

    def chunk(self, chunk_id: bytes) -> bytes:
        """Return a chunk's plaintext; the last few are kept."""
        data = self._chunks.get(chunk_id)
        if data is None:
            data = self._reader.read(chunk_id, TYPE_DATA)
            self._chunks[chunk_id] = data
            if len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(chunk_id)
        return data

    def _block(self, at: int) -> dict[bytes, StoredFile]:
        found = self._decoded.get(at)
        if found is None:
            found = {}
            try:
                for group in self._manifest.groups(self._blocks[at]):
                    prefix = group.folder + b"/" if group.folder else b""
                    for index, name in enumerate(group.names):
                        found[prefix + name] = StoredFile(group.rows[index], group.contents.get(index))
            except CofferError:
                found = {}
            self._decoded[at] = found
            if len(self._decoded) > _BLOCKS_KEPT:
                self._decoded.popitem(last=False)
        else:
            self._decoded.move_to_end(at)
        return found


class ExtentCursor:
    """Goes along a file's extents."""

    def __init__(self, extents: Iterator[Extent]) -> None:
        self._extents = extents
        self._chunk_id: ChunkId | None = None
        self._offset = self._left = 0

    def take(self, length: int) -> list[Extent]:
        """Return the extents of the next `length` bytes; fewer at the file's end."""
        taken: list[Extent] = []
        while length:
            if not self._left:
                extent = next(self._extents, None)
                if extent is None:
                    break
                self._chunk_id, self._offset, self._left, _ = extent
            step = min(length, self._left)
            taken.append(Extent(self._chunk_id, self._offset, step))
            self._offset += step
            self._left -= step
            length -= step
        return taken


class DigestCursor:
    """Reads the digests of a file's pages, in order."""

    def __init__(self, cluster: StoredCluster, extents: ExtentCursor) -> None:
        self._cluster, self._extents = cluster, extents

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes; fewer at the end."""
        parts: list[bytes] = []
        for chunk_id, offset, step, _ in self._extents.take(length):
            parts.append(bytes(step) if chunk_id is None else self._cluster.chunk(chunk_id)[offset : offset + step])
        return b"".join(parts)


class StoredPages(NamedTuple):
    """A file of pages of the snapshot.

    Attributes:
        extents: Where its pages lie.
        digests: Their digests.
        digest_extents: Where those lie.
        size_bytes: Of the file.
    """

    extents: ExtentCursor
    digests: DigestCursor
    digest_extents: ExtentCursor
    size_bytes: int
