"""Chunks of changed pages, of many files one after another: a page costs its own size and not its chunk's."""

from __future__ import annotations

from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly.bundle import Bundle


class PageBundler:
    """Fills chunks up to a size.

    Unlike bundles of files their ends do not follow from the content: pages that changed together are not met again
    together.
    """

    def __init__(self, writer: ChunkWriter, limit_bytes: int) -> None:
        """Write through a writer; a chunk is closed before it would be longer than `limit_bytes`."""
        self._writer, self._limit_bytes = writer, limit_bytes
        self._open = Bundle(0)

    def add(self, data: bytes | memoryview) -> tuple[Bundle, int]:
        """Append pages [up to the limit]; return where they lie: (bundle, offset [bytes])."""
        if self._open.size_bytes + len(data) > self._limit_bytes:
            self.close()
        bundle = self._open
        offset = bundle.size_bytes
        bundle.parts.append(bytes(data))
        bundle.size_bytes = offset + len(data)
        return bundle, offset

    def close(self) -> None:
        """Hand the open chunk to the writer, if anything is in it: only then can its id be asked for."""
        bundle = self._open
        if bundle.size_bytes:
            bundle.pending = self._writer.submit(bundle.parts, bundle.size_bytes)
            bundle.parts = []
            self._open = Bundle(bundle.number + 1)
