"""Contents on their way into the store: small ones in a bundle, large ones as extents that are folded into lists."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from coffer.crypto.hashing import IdKeys
from coffer.ids import ChunkId, ContentId
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import encode_list
from coffer.repository.pack import TYPE_LIST
from coffer.repository.writer import ChunkWriter, PendingChunk
from coffer.sources.assembly.bundle import Bundle, Known

MAX_DIRECT_EXTENTS = 1024  # a file of more has list chunks, so that a block stays small
_FOLD_AT = 2 * MAX_DIRECT_EXTENTS  # the first half is stored by then, or nearly: folding it waits for little
_LONG_HOLE_BYTES = 1 << 40  # a list has a row for each 4 GiB of a hole; a longer one stands between the lists
_MAX_FOLDED = 1 << 17  # lists and long holes of one file: its entry alone must fit in a block (MAX_BLOCK_EXTENTS)


class SmallContent:
    """A file in one piece: part of a bundle."""

    __slots__ = ("_length", "_offset", "_place", "content_id")

    def __init__(self, content_id: ContentId, place: Bundle | Known, offset: int, length: int) -> None:
        self.content_id = content_id
        self._place, self._offset, self._length = place, offset, length

    def resolve(self) -> Content:
        """Return the finished content; waits for its bundle."""
        # As Extent(...), in half the time: this is done for every small file.
        extent: Extent = tuple.__new__(Extent, (self._place.chunk_id, self._offset, self._length, False))
        return Content(self.content_id, (extent,))


class LargeContent:
    """A large file's chunks and holes, in file order.

    Memory is bounded: what is stored already is folded into list chunks while the rest is read.
    """

    __slots__ = ("_content", "_first_id", "_folded", "_hasher", "_ids", "_parts", "_writer")

    def __init__(self, ids: IdKeys, writer: ChunkWriter) -> None:
        self._ids, self._writer = ids, writer
        self._parts: list[tuple[PendingChunk | None, int]] = []
        self._folded: list[tuple[PendingChunk | None, int]] = []  # list chunks, and long holes
        self._hasher = ids.extents_hasher()
        self._first_id: ContentId | None = None
        self._content: Content | None = None

    def add(self, data: bytes, *, whole: bool) -> None:
        """Store the next chunk of the file; `whole` where it is as long as the file.

        Raises:
            OSError: EFBIG: the file has more extents than an entry can have.
        """
        # A file in one piece has the id of its content, as a bundled one has.
        self._first_id = self._ids.content_id(data) if whole and not self._parts else None
        self._take(self._writer.submit([data], len(data)), len(data))

    def add_hole(self, length: int) -> None:
        """Take a hole [bytes]."""
        self._first_id = None
        if self._parts and self._parts[-1][0] is None:
            length += self._parts.pop()[1]  # where data that was to come between was cut off meanwhile
        self._take(None, length)

    def _take(self, chunk: PendingChunk | None, length: int) -> None:
        self._parts.append((chunk, length))
        if len(self._parts) >= _FOLD_AT:
            self._fold()
            if len(self._folded) > _MAX_FOLDED:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def resolve(self) -> Content:
        """Return the finished content; waits for its chunks. The file of two names is resolved once."""
        if self._content is None:
            self._content = self._finish()
        return self._content

    def _finish(self) -> Content:
        if self._folded or len(self._parts) > MAX_DIRECT_EXTENTS:
            while self._parts:
                self._fold()
            extents = [
                Extent(None if chunk is None else chunk.chunk_id, 0, length, indirect=chunk is not None)
                for chunk, length in self._folded
            ]
        else:
            extents = list(self._resolved(len(self._parts)))
        content_id = self._first_id
        if content_id is None:
            content_id = self._hasher.finish()
        self._folded.clear()
        return Content(content_id, tuple(extents))

    def _fold(self) -> None:
        """Make a list chunk of the first parts."""
        run: list[Extent] = []
        for extent in [*self._resolved(MAX_DIRECT_EXTENTS), None]:
            if extent is not None and (extent.chunk_id is not None or extent.length < _LONG_HOLE_BYTES):
                run.append(extent)
                continue
            if run:
                data = encode_list(run)
                listed = self._writer.submit([data], len(data), TYPE_LIST)
                self._folded.append((listed, sum(e.length for e in run)))
                run = []
            if extent is not None:
                self._folded.append((None, extent.length))

    def _resolved(self, count: int) -> Iterator[Extent]:
        """Take the first `count` parts out, and yield them with their chunks' ids."""
        parts, self._parts = self._parts[:count], self._parts[count:]
        for chunk, length in parts:
            chunk_id: ChunkId | None = None if chunk is None else chunk.chunk_id
            self._hasher.add(chunk_id, 0, length)
            yield Extent(chunk_id, 0, length)


PendingContent = SmallContent | LargeContent
