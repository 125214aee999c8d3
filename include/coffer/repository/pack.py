"""The pack: many sealed chunks in one object, with a table of them at its end (docs/format.md §4)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from coffer.backends.base import Backend, Buffer
from coffer.crypto.seal import (
    HEADER_BYTES,
    KIND_PACK,
    TAG_BYTES,
    FrameMeta,
    ObjectKey,
    RootSource,
    new_object_key,
    open_header,
)
from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.ids import CHUNK_ID_BYTES, ChunkId, PackId, pack_name

TYPE_DATA = 1
TYPE_SECTION = 2  # one column group of a manifest block
TYPE_ROOT = 3  # a manifest's root
TYPE_LIST = 4  # chunk list of a very large file
TYPE_TABLE = 255

MAX_RAW_BYTES = 16 * 1024 * 1024  # of any frame (I7); chunks are cut well below, docs/format.md §4
MAX_PACK_BYTES = 1 << 31
MAX_TABLE_ROWS = 1 << 18  # of one pack (I7): 12 MiB of table

ROW = struct.Struct(f">{CHUNK_ID_BYTES}sIIIBB")  # chunk id, offset, sealed length, raw length, type, codec
TRAILER = struct.Struct(">III8s")  # offset of the table's frame, its sealed length, count of rows, mark
_TRAILER_MARK = b"cofferpk"


class ChunkLocation(NamedTuple):
    """Where a chunk lies.

    Attributes:
        pack_id: The pack [32 bytes].
        position: Its frame's index in the pack.
        offset: Of the frame in the pack [bytes].
        sealed_length: Of the frame, tag included [bytes].
        raw_length: Of the plaintext [bytes].
        type: What it holds.
        codec: How it was compressed.
    """

    pack_id: PackId
    position: int
    offset: int
    sealed_length: int
    raw_length: int
    type: int
    codec: int

    def frame(self) -> FrameMeta:
        """Return what the frame's seal is bound to."""
        return FrameMeta(self.position, self.type, self.codec, self.raw_length, self.sealed_length)


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A finished pack, ready to be put.

    Attributes:
        pack_id: SHA-256 of its bytes.
        parts: Its bytes, in order.
        size_bytes: Their sum.
        table: The plain rows, as an index segment takes them.
    """

    pack_id: PackId
    parts: tuple[Buffer, ...]
    size_bytes: int
    table: bytes


class PackBuilder:
    """Collects chunks into one pack, in memory. Not thread-safe."""

    def __init__(self, roots: RootSource) -> None:
        self._key = new_object_key(roots, KIND_PACK)
        self._parts: list[Buffer] = [self._key.header]
        self._hash = hashlib.sha256(self._key.header)
        self._rows: list[bytes] = []
        self.size_bytes = HEADER_BYTES

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, chunk_id: ChunkId, type_: int, codec: int, payload: bytes | memoryview, raw_length: int) -> None:
        """Seal one chunk at the next position, and open it again before it counts.

        Raises:
            ObjectCorruptError: It does not open to what was sealed (faulty memory); the pack is spent.
        """
        sealed_length = len(payload) + TAG_BYTES
        meta = FrameMeta(len(self._rows), type_, codec, raw_length, sealed_length)
        sealed = self._key.seal(payload, meta)
        if self._key.open(sealed, meta, "new pack") != payload:
            raise ObjectCorruptError("new pack: a frame does not open to what was sealed")
        self._rows.append(ROW.pack(chunk_id, self.size_bytes, sealed_length, raw_length, type_, codec))
        self._append(sealed)

    def finish(self) -> SealedPack:
        """Seal the table and return the pack. The builder is spent."""
        table = b"".join(self._rows)
        table_offset = self.size_bytes
        meta = FrameMeta(len(self._rows), TYPE_TABLE, 0, len(table), len(table) + TAG_BYTES, last=True)
        self._append(self._key.seal(table, meta))
        self._append(TRAILER.pack(table_offset, meta.sealed_length, len(self._rows), _TRAILER_MARK))
        pack_id = PackId(self._hash.digest())
        return SealedPack(pack_id, tuple(self._parts), self.size_bytes, table)

    def _append(self, part: bytes) -> None:
        self._parts.append(part)
        self._hash.update(part)
        self.size_bytes += len(part)


def iter_rows(pack_id: PackId, table: bytes | memoryview) -> Iterator[tuple[ChunkId, ChunkLocation]]:
    """Yield (chunk id, location) of a pack's plain table, in the order of the frames.

    Raises:
        ObjectCorruptError: A row points outside what a pack can be.
        SizeLimitError: A declared length is over its cap.
    """
    if len(table) % ROW.size:
        raise ObjectCorruptError(f"pack {pack_id.hex()[:12]}: table is cut short")
    for position, (chunk_id, offset, sealed, raw, type_, codec) in enumerate(ROW.iter_unpack(table)):
        if raw > MAX_RAW_BYTES or sealed > MAX_RAW_BYTES + TAG_BYTES:
            raise SizeLimitError(f"pack {pack_id.hex()[:12]}: chunk of {raw} bytes is over the cap of {MAX_RAW_BYTES}")
        if offset < HEADER_BYTES or sealed < TAG_BYTES:
            raise ObjectCorruptError(f"pack {pack_id.hex()[:12]}: table row {position} points outside the pack")
        yield ChunkId(chunk_id), ChunkLocation(pack_id, position, offset, sealed, raw, type_, codec)


def pack_size(pack_id: PackId, table: bytes | memoryview) -> int:
    """Return the size of the pack that has this plain table [bytes].

    Raises:
        ObjectCorruptError, SizeLimitError: No writer makes such a table: frames are laid end to end.
    """
    at, rows = HEADER_BYTES, 0
    for _, where in iter_rows(pack_id, table):
        if where.offset != at:
            raise ObjectCorruptError(f"pack {pack_id.hex()[:12]}: frame {where.position} is not where it should be")
        at += where.sealed_length
        rows += 1
    return end_of_pack(at, rows)


def end_of_pack(frames_end: int, rows: int) -> int:
    """Return the size of a pack of so many frames, the last of which ends there [bytes]."""
    return frames_end + rows * ROW.size + TAG_BYTES + TRAILER.size


def read_table(backend: Backend, roots: RootSource, pack_id: PackId, size_bytes: int) -> bytes:
    """Return the plain table of a stored pack, by three ranged reads: header, trailer, table.

    Args:
        backend: Where it lies.
        roots: The epoch roots.
        pack_id: The pack.
        size_bytes: The pack's size as the store tells it [bytes].

    Raises:
        ObjectCorruptError: Header, trailer or table fail their check.
        SizeLimitError: The table's declared size is over its cap.
    """
    name = pack_name(pack_id)
    if size_bytes < HEADER_BYTES + TAG_BYTES + TRAILER.size:
        raise ObjectCorruptError(f"{name}: {size_bytes} bytes, too short for a pack", object=name)
    key = open_header(roots, backend.get(name, 0, HEADER_BYTES), KIND_PACK, name)
    trailer = backend.get(name, size_bytes - TRAILER.size, TRAILER.size)
    offset, sealed_length, rows = parse_trailer(trailer, size_bytes, name)
    return open_table(key, backend.get(name, offset, sealed_length), rows, name)


def parse_trailer(trailer: bytes | memoryview, size_bytes: int, name: str) -> tuple[int, int, int]:
    """Return (offset of the table's frame, its sealed length, count of rows), bounded by the pack's size.

    Raises:
        ObjectCorruptError: It is not a trailer, or does not fit the size.
        SizeLimitError: More rows than a pack may have.
    """
    offset, sealed_length, rows, mark = TRAILER.unpack(trailer)
    if mark != _TRAILER_MARK or offset + sealed_length + TRAILER.size != size_bytes:
        raise ObjectCorruptError(f"{name}: trailer is damaged, or the pack is truncated", object=name)
    if rows > MAX_TABLE_ROWS:
        raise SizeLimitError(f"{name}: table of {rows} rows is over the cap of {MAX_TABLE_ROWS}", object=name)
    if sealed_length != rows * ROW.size + TAG_BYTES:
        raise ObjectCorruptError(f"{name}: table of {sealed_length} bytes for {rows} rows", object=name)
    return offset, sealed_length, rows


def open_table(key: ObjectKey, sealed: bytes | memoryview, rows: int, name: str) -> bytes:
    """Return the plain table.

    Raises:
        ObjectCorruptError: It fails authentication.
    """
    return key.open(sealed, FrameMeta(rows, TYPE_TABLE, 0, rows * ROW.size, len(sealed), last=True), name)
