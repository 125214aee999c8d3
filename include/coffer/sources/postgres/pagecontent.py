"""The content of a file of pages on its way into the store: runs of chunks that are stored already, or soon will be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from coffer.crypto.hashing import IdKeys
from coffer.ids import ChunkId
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import encode_list
from coffer.repository.pack import TYPE_LIST
from coffer.repository.writer import ChunkWriter, PendingChunk

_MAX_DIRECT_EXTENTS = 32
# A longer map is cut at every 64 MiB of the file, so that a stretch without a change keeps its list chunk from one
# backup to the next. At the worst, with every page by itself, a list has 8,192 rows (320 KiB).
LIST_BYTES = 64 << 20


class Place(Protocol):
    """A chunk that is stored, or on its way: a bundle, a pending chunk, a known one."""

    @property
    def chunk_id(self) -> ChunkId | None:
        """The chunk's id, None for a hole; may wait for the workers."""
        ...


class PagedContent:
    """Runs of a file's content, in file order. Holds some 100 bytes for each run and no data."""

    __slots__ = ("_runs", "size_bytes")

    def __init__(self) -> None:
        self._runs: list[tuple[Place, int, int]] = []
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, place: Place, offset: int, length: int) -> None:
        """Append a run: where it lies in its chunk, and how long it is [bytes]."""
        self.size_bytes += length
        if self._runs:
            last, at, before = self._runs[-1]
            if at + before == offset and _same(last, place):
                self._runs[-1] = last, at, before + length
                return
        self._runs.append((place, offset, length))

    def add_hole(self, length: int) -> None:
        """Append zeroes that lie in no chunk [bytes]."""
        self.size_bytes += length
        if self._runs and self._runs[-1][0] is _HOLE:
            length += self._runs.pop()[2]
        self._runs.append((_HOLE, 0, length))

    def resolve(self, ids: IdKeys, writer: ChunkWriter) -> Content | None:
        """Return the finished content, None where it is empty; waits for the chunks. Every place must be closed."""
        if not self._runs:
            return None
        extents = [Extent(place.chunk_id, offset, length) for place, offset, length in self._runs]
        self._runs = []
        if len(extents) <= _MAX_DIRECT_EXTENTS:
            return Content(ids.extents_id(extent[:3] for extent in extents), tuple(extents))
        # The id is over the pieces as they are listed, so that whoever reads the lists gets the same one.
        lists = list(cut_lists(extents))
        content_id = ids.extents_id(extent[:3] for listed in lists for extent in listed)
        return Content(content_id, tuple([_put_list(writer, listed) for listed in lists]))


def _put_list(writer: ChunkWriter, listed: list[Extent]) -> Extent:
    data = encode_list(listed)
    pending: PendingChunk = writer.submit([data], len(data), TYPE_LIST)
    return Extent(pending.chunk_id, 0, sum(extent.length for extent in listed), indirect=True)


def cut_lists(extents: list[Extent]) -> Iterator[list[Extent]]:
    """Yield the extents of every 64 MiB of a file; a run across such a border is divided."""
    listed: list[Extent] = []
    room = LIST_BYTES
    for chunk_id, offset, length, _ in extents:
        start, left = offset, length
        while left:
            taken = min(left, room)
            listed.append(Extent(chunk_id, start, taken))
            start = 0 if chunk_id is None else start + taken
            left, room = left - taken, room - taken
            if not room:
                yield listed
                listed, room = [], LIST_BYTES
    if listed:
        yield listed


def _same(one: Place, other: Place) -> bool:
    """Say whether two places are one chunk, without waiting for it."""
    if one is other:
        return True
    return isinstance(one, StoredPlace) and isinstance(other, StoredPlace) and one.chunk_id == other.chunk_id


class StoredPlace:
    """A chunk of an earlier snapshot."""

    __slots__ = ("chunk_id",)

    def __init__(self, chunk_id: ChunkId) -> None:
        self.chunk_id = chunk_id


class _Hole:
    """Stands where zeroes lie in no chunk."""

    __slots__ = ()
    chunk_id: None = None


_HOLE = _Hole()


class KeptContent:
    """The content of a file that did not change, as the snapshot before has it."""

    __slots__ = ("_content", "size_bytes")

    def __init__(self, content: Content, size_bytes: int) -> None:
        self._content, self.size_bytes = content, size_bytes

    def __len__(self) -> int:
        return len(self._content.extents)

    def resolve(self, ids: IdKeys, writer: ChunkWriter) -> Content:
        """Return the content; nothing is waited for."""
        del ids, writer  # nothing is made
        return self._content
