"""Read files of a snapshot without writing them: small ones whole, large ones piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.repository.entries import Content, Kind
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository

_CHUNKS_KEPT = 8  # neighbours lie in the same few; a chunk has a few MiB


class ChunkCache:
    """The last chunks that were read. For one thread."""

    def __init__(self, repo: Repository) -> None:
        self._reader = repo.reader()
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self.read_bytes = 0

    def chunk(self, chunk_id: bytes) -> bytes:
        """Return a chunk's plaintext.

        Raises:
            ObjectCorruptError, ChunkMissingError: It is damaged or lost.
        """
        data = self._chunks.get(chunk_id)
        if data is not None:
            self._chunks.move_to_end(chunk_id)
            return data
        data = self._reader.read(chunk_id, TYPE_DATA)
        self.read_bytes += self._reader.locate(chunk_id).sealed_length
        self._chunks[chunk_id] = data
        if len(self._chunks) > _CHUNKS_KEPT:
            self._chunks.popitem(last=False)
        return data

    def piece(self, chunk_id: bytes | None, offset: int, length: int) -> bytes | memoryview:
        """Return a run of a chunk; of a hole, zeros.

        Raises:
            ObjectCorruptError, ChunkMissingError: The chunk is damaged, lost, or shorter.
        """
        if chunk_id is None:
            return bytes(length)
        data = self.chunk(chunk_id)
        if offset + length > len(data):
            raise ObjectCorruptError(f"content ends at byte {offset + length} of a chunk of {len(data)} bytes")
        return memoryview(data)[offset : offset + length]


def read_small(repo: Repository, manifest: ManifestReader, path: bytes, limit_bytes: int) -> bytes | None:
    """Return the content of a file of the snapshot; None where there is no such file.

    Raises:
        SizeLimitError: It is larger than such a file can be.
        ObjectCorruptError, ChunkMissingError: It is damaged.
    """
    entry = manifest.find(path)
    if entry is None or entry.kind is not Kind.FILE:
        return None
    if entry.size_bytes > limit_bytes:
        raise SizeLimitError(f"{path.decode('utf-8', 'replace')}: has {entry.size_bytes} bytes in the snapshot")
    if entry.content is None:
        return b""
    return b"".join(pieces(ChunkCache(repo), manifest, entry.content, limit_bytes))


def pieces(cache: ChunkCache, manifest: ManifestReader, content: Content, step_bytes: int) -> Iterator[bytes]:
    """Yield a file's content in pieces of one size, the last one shorter.

    Raises:
        ObjectCorruptError, ChunkMissingError: It is damaged.
    """
    parts: list[bytes | memoryview] = []
    size = 0
    for chunk_id, offset, length, _ in manifest.expand(content):
        at = 0
        while at < length:
            step = min(length - at, step_bytes - size)
            parts.append(cache.piece(chunk_id, offset + at, step))
            size += step
            at += step
            if size == step_bytes:
                yield b"".join(parts)
                parts, size = [], 0
    if size:
        yield b"".join(parts)
