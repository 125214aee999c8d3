"""Bring chunks from the store: each once, neighbours in one read, everything that needs a chunk served from it.

Files are added in manifest order, in which bundles were filled, so a chunk's files come close together. The window
keeps a few chunks open for more of them; the one that was wanted longest ago goes to the workers, together with what
lies beside it in its pack.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from coffer.backends.base import Backend
from coffer.errors import ObjectCorruptError, PermanentError
from coffer.ids import pack_name
from coffer.repository.pack import TYPE_DATA, ChunkLocation
from coffer.repository.reader import ChunkReader
from coffer.restore.files import Part, SmallFile

Item = SmallFile | Part

WINDOW_CHUNKS = 256  # only what waits is kept, no content: a copied file refers back, often by many chunks
WINDOW_ITEMS = 50_000  # about 25 MB
CHUNK_ITEMS = 8_000  # of one chunk; a chunk of more (of files of some bytes) is read again for the rest
SPAN_BYTES = 4 << 20  # of one read [bytes]; a larger chunk is read by itself
_EARLY_CHUNKS = 4  # so many are sent off before the window is full where workers wait
_GAP_BYTES = 64 << 10  # read and thrown away rather than asked for apart [bytes]


class Wanted(NamedTuple):
    """A chunk and all that waits for it."""

    chunk_id: bytes
    where: ChunkLocation
    items: list[Item]


class Span(NamedTuple):
    """Chunks of one pack that are read at once, by offset."""

    chunks: tuple[Wanted, ...]


class Window:
    """Gathers what is wanted of each chunk. For one thread.

    Args:
        reader: Tells where a chunk lies.
        submit: Takes a span to be read; may wait.
        is_hungry: Says whether the workers have nothing to do, so that waiting for more would not pay.
    """

    def __init__(self, reader: ChunkReader, submit: Callable[[Span], None], is_hungry: Callable[[], bool]) -> None:
        self._reader, self._submit, self._is_hungry = reader, submit, is_hungry
        self._chunks: OrderedDict[bytes, Wanted] = OrderedDict()
        self._newest: Wanted | None = None
        self._items = 0

    def add(self, chunk_id: bytes, item: Item) -> None:
        """Note that a file needs a chunk.

        Raises:
            ChunkMissingError: No index segment knows it; nothing was noted.
            ObjectCorruptError: It holds something else than content.
        """
        newest = self._newest
        if newest is None or newest.chunk_id != chunk_id:
            newest = self._turn_to(chunk_id)
        newest.items.append(item)
        self._items += 1
        if self._items >= WINDOW_ITEMS or len(newest.items) >= CHUNK_ITEMS:
            self._send_oldest()

    def drain(self) -> None:
        """Hand everything to the workers."""
        while self._chunks:
            self._send_oldest()

    def _turn_to(self, chunk_id: bytes) -> Wanted:
        wanted = self._chunks.get(chunk_id)
        if wanted is not None:
            self._chunks.move_to_end(chunk_id)
        else:
            where = self._reader.locate(chunk_id)
            if where.type != TYPE_DATA:
                raise ObjectCorruptError(f"chunk {chunk_id.hex()[:12]}: of type {where.type}, expected {TYPE_DATA}")
            if len(self._chunks) >= WINDOW_CHUNKS or (len(self._chunks) >= _EARLY_CHUNKS and self._is_hungry()):
                self._send_oldest()
            wanted = self._chunks[chunk_id] = Wanted(chunk_id, where, [])
        self._newest = wanted
        return wanted

    def _send_oldest(self) -> None:
        oldest = next(iter(self._chunks.values()))
        same_pack = [w for w in self._chunks.values() if w.where.pack_id == oldest.where.pack_id]
        same_pack.sort(key=_offset)
        at = same_pack.index(oldest)
        first, stop = at, at + 1
        while stop < len(same_pack) and _fits(same_pack[first], same_pack[stop - 1], same_pack[stop]):
            stop += 1
        while first > 0 and _fits(same_pack[first - 1], same_pack[first - 1], same_pack[first], same_pack[stop - 1]):
            first -= 1
        span = tuple(same_pack[first:stop])
        for wanted in span:
            del self._chunks[wanted.chunk_id]
            self._items -= len(wanted.items)
            if wanted is self._newest:
                self._newest = None
        self._submit(Span(span))


def _offset(wanted: Wanted) -> int:
    return wanted.where.offset


def _fits(first: Wanted, before: Wanted, after: Wanted, last: Wanted | None = None) -> bool:
    """Say whether `after` can be read with `before`: a small gap, and not too much from `first` to `last` in all."""
    end = (last or after).where
    gap = after.where.offset - before.where.offset - before.where.sealed_length
    return gap <= _GAP_BYTES and end.offset + end.sealed_length - first.where.offset <= SPAN_BYTES


def read_span(
    backend: Backend,
    reader: ChunkReader,
    span: Span,
    take: Callable[[Wanted, bytes], None],
    fail: Callable[[Wanted, PermanentError], None],
) -> int:
    """Read a span, and hand on each chunk's verified plaintext or why it cannot be had.

    One chunk's plaintext is held at a time. A read that fails as a whole is tried chunk by chunk, so that a truncated
    pack costs only what is missing of it.

    Returns:
        How much was read [bytes].

    Raises:
        TransientError: The store does not answer.
    """
    first, last = span.chunks[0].where, span.chunks[-1].where
    name = pack_name(first.pack_id)
    length = last.offset + last.sealed_length - first.offset
    try:
        sealed = memoryview(backend.get(name, first.offset, length))
    except PermanentError as error:
        if len(span.chunks) == 1:
            return _read_elsewhere(reader, span.chunks[0], error, take, fail)
        return sum(read_span(backend, reader, Span((wanted,)), take, fail) for wanted in span.chunks)
    for wanted in span.chunks:
        where = wanted.where
        start = where.offset - first.offset
        try:
            data = reader.open_frame(wanted.chunk_id, where, sealed[start : start + where.sealed_length])
        except PermanentError as error:
            length += _read_elsewhere(reader, wanted, error, take, fail)
            continue
        take(wanted, data)
        del data
    return length


def _read_elsewhere(
    reader: ChunkReader,
    wanted: Wanted,
    error: PermanentError,
    take: Callable[[Wanted, bytes], None],
    fail: Callable[[Wanted, PermanentError], None],
) -> int:
    """Read a chunk whose pack is not there, or is damaged, from another pack that holds it too, if one does."""
    try:
        data = reader.read(wanted.chunk_id, TYPE_DATA)
    except PermanentError:
        fail(wanted, error)
        return 0
    take(wanted, data)
    return wanted.where.sealed_length
