"""The index: chunk id to where it lies, from write-once segments (docs/format.md §5).

In memory it is a compact SQLite table (about 60 bytes a chunk; a dict of bytes costs four times that). It is
disposable: segments only repeat the packs' own tables, and a pack that no segment names is read itself (invariant I8).
A chunk that lies in several packs has one place in the table; the others are kept apart, for when that pack is missing.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator

from coffer.backends.base import Backend
from coffer.crypto.seal import HEADER_BYTES, KIND_INDEX, RootSource, open_single, seal_single
from coffer.errors import (
    BackendError,
    CryptoError,
    ObjectCorruptError,
    ObjectExistsError,
    PermanentError,
    RepositoryError,
)
from coffer.ids import PACK_ID_BYTES, ChunkId, PackId
from coffer.repository.objects import read_whole
from coffer.repository.pack import MAX_TABLE_ROWS, ROW, ChunkLocation, end_of_pack, iter_rows

PREFIX = "index/"
MAX_SEGMENT_BYTES = 64 * 1024 * 1024  # of one stored segment (I7)
_SPLIT_BYTES = 16 * 1024 * 1024  # a writer starts another segment beyond this
_GROUP = struct.Struct(f">{PACK_ID_BYTES}sI")  # pack id, count of rows


class ChunkIndex:
    """Chunk id → location. Thread-safe."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA temp_store=MEMORY")
        columns = "pack INT, position INT, offset INT, sealed INT, raw INT, type INT, codec INT"
        self._db.execute(f"CREATE TABLE chunk (id BLOB PRIMARY KEY, {columns}) WITHOUT ROWID")
        self._db.execute(f"CREATE TABLE spare (id BLOB, {columns})")
        self._packs: list[PackId] = []
        self._ordinals: dict[PackId, int] = {}
        self._sizes: dict[PackId, int] = {}
        self._lock = threading.Lock()

    def add_table(self, pack_id: PackId, table: bytes | memoryview) -> None:
        """Take in the plain table of one pack; a chunk that is known keeps its first place. Idempotent."""
        with self._lock:
            if pack_id in self._ordinals:
                return
            ordinal = len(self._packs)
            rows = [(chunk_id, ordinal, *where[1:]) for chunk_id, where in iter_rows(pack_id, table)]
            known = self._db.total_changes
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO chunk VALUES (?,?,?,?,?,?,?,?)", rows)
            if self._db.total_changes - known < len(rows):  # rare: two writers at once, or a pack stored anew
                self._db.executemany(
                    "INSERT INTO spare SELECT ?,?,?,?,?,?,?,? WHERE NOT EXISTS"
                    " (SELECT 1 FROM chunk WHERE id = ? AND pack = ?)",
                    [(*row, row[0], ordinal) for row in rows],
                )
            self._db.execute("COMMIT")
            self._packs.append(pack_id)
            self._ordinals[pack_id] = ordinal
            self._sizes[pack_id] = end_of_pack(rows[-1][3] + rows[-1][4] if rows else HEADER_BYTES, len(rows))

    def forget_pack(self, pack_id: PackId) -> None:
        """Drop what the index places in a pack that turned out to be missing. Idempotent.

        Chunks that lie in other packs too are found there from now on; the others are unknown, and so stored anew.
        """
        with self._lock:
            ordinal = self._ordinals.pop(pack_id, None)
            if ordinal is None:
                return
            del self._sizes[pack_id]
            self._db.execute("BEGIN")
            for table in ("chunk", "spare"):
                self._db.execute(f"DELETE FROM {table} WHERE pack = ?", (ordinal,))  # noqa: S608 - two fixed names
            self._db.execute("INSERT OR IGNORE INTO chunk SELECT * FROM spare")
            self._db.execute("COMMIT")

    def find(self, chunk_id: bytes) -> ChunkLocation | None:
        """Return where a chunk lies, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT pack, position, offset, sealed, raw, type, codec FROM chunk WHERE id = ?", (chunk_id,)
            ).fetchone()
        return None if row is None else ChunkLocation(self._packs[row[0]], *row[1:])

    def __contains__(self, chunk_id: bytes) -> bool:
        return self.find(chunk_id) is not None

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._db.execute("SELECT count(*) FROM chunk").fetchone()
        return int(count)

    def pack_ids(self) -> frozenset[PackId]:
        """Return the packs that are indexed."""
        with self._lock:
            return frozenset(self._ordinals)

    def pack_sizes(self) -> dict[PackId, int]:
        """Return the packs that are indexed, with the sizes that they must have by their tables [bytes]."""
        with self._lock:
            return dict(self._sizes)

    def turn_elsewhere(self, chunk_id: bytes, pack_id: PackId) -> bool:
        """Place a chunk that does not open in one pack where it lies in another; False where it lies in none."""
        with self._lock:
            ordinal = self._ordinals.get(pack_id, -1)
            spare = self._db.execute("SELECT * FROM spare WHERE id = ? AND pack != ?", (chunk_id, ordinal)).fetchone()
            if spare is None:
                return False
            self._db.execute("DELETE FROM spare WHERE id = ? AND pack = ?", spare[:2])
            self._db.execute("INSERT OR REPLACE INTO chunk VALUES (?,?,?,?,?,?,?,?)", spare)
            return True

    def iter_pack(self, pack_id: PackId) -> Iterator[tuple[ChunkId, ChunkLocation]]:
        """Yield what the index places in one pack, by offset."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, position, offset, sealed, raw, type, codec FROM chunk WHERE pack = ? ORDER BY offset",
                (self._ordinals.get(pack_id, -1),),
            ).fetchall()
        for row in rows:
            yield ChunkId(row[0]), ChunkLocation(pack_id, *row[1:])

    def totals(self) -> dict[int, tuple[int, int, int]]:
        """Return, by type of chunk, (count, sum of raw lengths [bytes], sum of sealed lengths [bytes])."""
        with self._lock:
            rows = self._db.execute("SELECT type, count(*), sum(raw), sum(sealed) FROM chunk GROUP BY type").fetchall()
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    def sealed_by_codec(self, type_: int) -> dict[int, int]:
        """Return, by codec, the sum of sealed lengths of the chunks of one type [bytes]."""
        with self._lock:
            rows = self._db.execute("SELECT codec, sum(sealed) FROM chunk WHERE type = ? GROUP BY codec", (type_,))
            return dict(rows.fetchall())


def load_index(backend: Backend, roots: RootSource) -> tuple[ChunkIndex, list[PermanentError]]:
    """Read every segment.

    Returns:
        (index, damages): a segment that cannot be read is passed over and its error returned, for the packs have the
        same tables; `check` names it.
    """
    index = ChunkIndex()
    damages: list[PermanentError] = []
    for info in backend.list(PREFIX):
        try:
            for pack_id, table in read_segment(backend, roots, info.name, info.size_bytes):
                index.add_table(pack_id, table)
        except (RepositoryError, CryptoError, BackendError) as error:
            damages.append(error)
    return index, damages


def read_segment(backend: Backend, roots: RootSource, name: str, size_bytes: int) -> list[tuple[PackId, memoryview]]:
    """Return the (pack id, plain table) pairs of one segment, after checking its name against its bytes.

    Raises:
        SizeLimitError: It is larger than a segment may be; nothing was read.
        ObjectCorruptError: It is not what was written under that name.
    """
    data = read_whole(backend, name, MAX_SEGMENT_BYTES, size_bytes)
    if PREFIX + hashlib.sha256(data).hexdigest() != name:
        raise ObjectCorruptError(f"{name}: content does not match its name", object=name)
    return list(_groups(memoryview(open_single(roots, KIND_INDEX, data, name)), name))


def _groups(plain: memoryview, name: str) -> Iterator[tuple[PackId, memoryview]]:
    at = 0
    while at < len(plain):
        if at + _GROUP.size > len(plain):
            raise ObjectCorruptError(f"{name}: cut short", object=name)
        pack_id, rows = _GROUP.unpack_from(plain, at)
        at += _GROUP.size
        if rows > MAX_TABLE_ROWS or at + rows * ROW.size > len(plain):
            raise ObjectCorruptError(f"{name}: table of {rows} rows does not fit", object=name)
        yield PackId(pack_id), plain[at : at + rows * ROW.size]
        at += rows * ROW.size


def write_segments(backend: Backend, roots: RootSource, tables: Iterable[tuple[PackId, bytes]]) -> list[str]:
    """Put the tables of durable packs as one segment, or several where they are large; return the names.

    On return each is durable. Nothing is put where there are no tables. A segment of the same bytes is left as it is.
    """
    names: list[str] = []
    parts: list[bytes] = []
    size_bytes = 0
    for pack_id, table in tables:
        parts += (_GROUP.pack(pack_id, len(table) // ROW.size), table)
        size_bytes += len(table)
        if size_bytes >= _SPLIT_BYTES:
            names.append(_put_segment(backend, roots, parts))
            parts, size_bytes = [], 0
    if parts:
        names.append(_put_segment(backend, roots, parts))
    return names


def _put_segment(backend: Backend, roots: RootSource, parts: list[bytes]) -> str:
    data = seal_single(roots, KIND_INDEX, b"".join(parts))
    name = PREFIX + hashlib.sha256(data).hexdigest()
    try:
        backend.put(name, [data])
    except ObjectExistsError:
        pass  # named by its content: what is there is what we would have written (a retried put)
    return name
