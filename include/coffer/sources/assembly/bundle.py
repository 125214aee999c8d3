"""Bundles: many small files in one chunk, cut between files by their content ids (docs/adr/0020).

One hash, one zstd call and one seal per bundle and not per file; every small file lies in exactly one chunk.
"""

from __future__ import annotations

from coffer.chunking.cutter import ChunkParams, bundle_is_cut
from coffer.ids import ChunkId, ContentId
from coffer.repository.writer import ChunkWriter, PendingChunk

# Contents of this run kept for whole-file matches, in each of two generations: about 25 MB in all. Copies farther apart
# match as whole bundles.
_GENERATION = 50_000


class Bundle:
    """One chunk in the making."""

    __slots__ = ("number", "parts", "pending", "size_bytes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.pending: PendingChunk | None = None

    @property
    def chunk_id(self) -> ChunkId:
        """The chunk's id; waits for the workers. Only after the bundle was closed."""
        assert self.pending is not None  # whoever asks has closed it
        return self.pending.chunk_id


class Known:
    """A chunk that is stored already; stands where a bundle or a pending chunk does."""

    __slots__ = ("chunk_id",)

    def __init__(self, chunk_id: ChunkId) -> None:
        self.chunk_id = chunk_id


class Bundler:
    """Puts small files into bundles, each content once."""

    def __init__(self, writer: ChunkWriter, params: ChunkParams) -> None:
        self._writer = writer
        self._params = params
        self._open = Bundle(0)
        # Two generations: when the young one is full it becomes the old one, and the old one is forgotten. (Deleting a
        # dict's first key again and again would walk over all the deleted ones.)
        self._young: dict[bytes, tuple[Bundle | Known, int]] = {}
        self._old: dict[bytes, tuple[Bundle | Known, int]] = {}

    @property
    def number(self) -> int:
        """Number of the open bundle, from 0; every bundle with a lower one is closed."""
        return self._open.number

    @property
    def is_empty(self) -> bool:
        """Whether the open bundle holds nothing."""
        return not self._open.size_bytes

    def find(self, content_id: ContentId) -> tuple[Bundle | Known, int] | None:
        """Return (bundle, offset [bytes]) of a content that this run saw a while ago at the most."""
        return self._young.get(content_id) or self._old.get(content_id)

    def remember(self, content_id: ContentId, where: tuple[Bundle | Known, int]) -> None:
        """Let `find` find a content."""
        self._young[content_id] = where
        if len(self._young) >= _GENERATION:
            self._old, self._young = self._young, {}

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
            self._open = Bundle(bundle.number + 1)
