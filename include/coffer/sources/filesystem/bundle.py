"""Bundles: many small files in one chunk, cut between files by their content ids (docs/adr/0021).

One hash, one zstd call and one seal per bundle and not per file; every small file lies in exactly one chunk.
"""

from __future__ import annotations

from coffer.chunking.cutter import ChunkParams, bundle_is_cut
from coffer.ids import ChunkId, ContentId
from coffer.repository.writer import ChunkWriter, PendingChunk

_RECENT = 100_000  # contents of this run kept for whole-file matches: about 25 MB; copies farther apart match as bundles


class Bundle:
    """One chunk in the making."""

    __slots__ = ("parts", "pending", "size_bytes")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.pending: PendingChunk | None = None

    @property
    def is_open(self) -> bool:
        """Whether files may still be added."""
        return self.pending is None

    @property
    def chunk_id(self) -> ChunkId:
        """The chunk's id; waits for the workers. Only after the bundle was closed."""
        assert self.pending is not None  # whoever asks has closed it
        return self.pending.chunk_id


class Known:
    """A chunk that is stored already; stands where a bundle or a pending chunk does."""

    __slots__ = ("chunk_id",)
    is_open = False

    def __init__(self, chunk_id: ChunkId) -> None:
        self.chunk_id = chunk_id


class Bundler:
    """Puts small files into bundles, each content once."""

    def __init__(self, writer: ChunkWriter, params: ChunkParams) -> None:
        self._writer = writer
        self._params = params
        self._open = Bundle()
        self._recent: dict[bytes, tuple[Bundle | Known, int]] = {}

    def find(self, content_id: ContentId) -> tuple[Bundle | Known, int] | None:
        """Return (bundle, offset [bytes]) of a content that this run saw a while ago at the most."""
        return self._recent.get(content_id)

    def remember(self, content_id: ContentId, where: tuple[Bundle | Known, int]) -> None:
        """Let `find` find a content."""
        recent = self._recent
        recent[content_id] = where
        if len(recent) > _RECENT:
            del recent[next(iter(recent))]

    def add(self, data: bytes, content_id: ContentId) -> tuple[Bundle, int]:
        """Append a file's content [1 byte or more]; return (bundle, offset [bytes])."""
        bundle = self._open
        offset = bundle.size_bytes
        bundle.parts.append(data)
        bundle.size_bytes = offset + len(data)
        self.remember(content_id, (bundle, offset))
        if bundle_is_cut(self._params, bundle.size_bytes, len(data), content_id):
            self.close()
        return bundle, offset

    def close(self) -> None:
        """Hand the open bundle to the writer, if anything is in it."""
        bundle = self._open
        if bundle.size_bytes:
            bundle.pending = self._writer.submit(bundle.parts, bundle.size_bytes)
            bundle.parts = []
            self._open = Bundle()
