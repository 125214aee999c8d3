"""Write chunks: hash, look up, compress, seal, prove, pack and put, on worker threads with bounded memory.

The order of invariant I2 is kept here: data packs, their index segment, manifest packs, their segment; the snapshot
comes after that, in `commit`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coffer.backends.base import Backend
from coffer.compression import Compressor, decompress
from coffer.crypto.keyring import Keyring
from coffer.errors import CofferError, ObjectCorruptError, ObjectExistsError
from coffer.ids import ChunkId, PackId, pack_name
from coffer.repository.index import ChunkIndex, write_segments
from coffer.repository.pack import MAX_RAW_BYTES, MAX_TABLE_ROWS, ROW, TYPE_DATA, PackBuilder, SealedPack

DEFAULT_PACK_BYTES = 64_000_000  # design: the stored object; a killed run loses at most one of them
_META_PACK_BYTES = 16_000_000  # manifests are small; this bounds the memory that a second builder takes
_OPENED_KEPT = 1 << 16  # ids, about 100 bytes each
_IN_FLIGHT_BYTES = 40 * 1024 * 1024  # plaintext that waits for the workers


class PendingChunk:
    """A chunk on its way; `chunk_id` is there once the workers have hashed it.

    There may be thousands of a large file at a time, so they share what they wait by.
    """

    __slots__ = ("_error", "_id", "_settled", "length")

    def __init__(self, length: int, settled: threading.Condition) -> None:
        self.length = length
        self._settled = settled
        self._id: ChunkId | None = None
        self._error: BaseException | None = None

    def resolve(self, chunk_id: ChunkId) -> None:
        """Set the id; the writer calls this once."""
        with self._settled:
            self._id = chunk_id
            self._settled.notify_all()

    def fail(self, error: BaseException) -> None:
        """Set the error; the writer calls this once."""
        with self._settled:
            self._error = error
            self._settled.notify_all()

    @property
    def chunk_id(self) -> ChunkId:
        """The chunk's id; waits for it.

        Raises:
            CofferError: The chunk could not be stored; the writer is spent.
        """
        found = self._id
        if found is None:
            with self._settled:
                while self._id is None and self._error is None:
                    self._settled.wait()
            if self._error is not None:
                raise self._error
            found = self._id
            assert found is not None  # resolve() or fail() came first
        return found


@dataclass(slots=True)
class WriteStats:
    """What a writer stored. Sizes in bytes."""

    chunks_new: int = 0
    chunks_known: int = 0
    raw_bytes_new: int = 0
    raw_bytes_known: int = 0
    stored_bytes: int = 0
    packs: int = 0


class ChunkWriter:
    """Takes chunks from one thread and stores each new one once.

    `submit` and the flushes are for the thread that made the writer. After any error the writer is spent: `submit` and
    the flushes raise it again; packs that were put are orphans, which the next run finds.
    """

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        index: ChunkIndex,
        *,
        level: int = 3,
        workers: int = 0,
        pack_size_bytes: int = DEFAULT_PACK_BYTES,
        adopted: Sequence[tuple[PackId, bytes]] = (),
        opens: Callable[[ChunkId, int], bool] | None = None,
    ) -> None:
        """Start the workers.

        Args:
            backend: Where packs and segments go.
            keyring: The repository's keys.
            index: Chunks known already; new packs are added to it once they are durable.
            level: Of zstd.
            workers: Count of threads; 0 for one per core.
            pack_size_bytes: A pack is closed at this size [bytes].
            adopted: Tables of orphan packs that the next segment shall name.
            opens: Says whether a chunk that is known already (id, type) can be read; one that cannot is stored anew.
                None: what the index says is believed.
        """
        self._backend, self._keyring, self._index = backend, keyring, index
        self._level, self._pack_size_bytes = level, pack_size_bytes
        self._jobs: queue.SimpleQueue[tuple[Sequence[bytes], int, PendingChunk] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # builders, pending ids, tables, stats
        self._room = threading.Condition()
        self._settled = threading.Condition()  # some chunk got its id, or failed
        # One data pack being filled and one being put: a slow store makes the workers wait, not the memory grow.
        self._pack_slots = threading.BoundedSemaphore(2)
        self._in_flight_bytes = 0
        self._error: BaseException | None = None
        self._data: PackBuilder | None = None
        self._meta: PackBuilder | None = None
        self._opens = opens
        self._opened: set[bytes] = set()  # the last chunks that `opens` read
        self._pending_ids: set[bytes] = set()  # in a builder or on their way into one, not yet durable
        self._tables: list[tuple[PackId, bytes]] = list(adopted)
        self._meta_packs: list[SealedPack] = []
        self.stats = WriteStats()
        count = workers or os.cpu_count() or 1
        self._threads = [
            threading.Thread(target=self._work, name=f"coffer-chunk-{n}", daemon=True) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, parts: Sequence[bytes], length: int, type_: int = TYPE_DATA) -> PendingChunk:
        """Hand over one chunk, as parts that are not changed afterwards; waits while too much is under way.

        Raises:
            CofferError: An earlier chunk could not be stored.
        """
        if not 0 < length <= MAX_RAW_BYTES:
            raise ValueError(f"chunk of {length} bytes")
        with self._room:
            while self._error is None and self._in_flight_bytes + length > _IN_FLIGHT_BYTES and self._in_flight_bytes:
                self._room.wait()
            self._raise_error()
            self._in_flight_bytes += length
        pending = PendingChunk(length, self._settled)
        self._jobs.put((parts, type_, pending))
        return pending

    def flush_data(self) -> None:
        """Make every data chunk durable, then put the index segment that names them; on return both are.

        Raises:
            CofferError: Something could not be stored; packs put so far are orphans.
        """
        self._drain()
        with self._lock:
            builder, self._data = self._data, None
        if builder is not None:
            self._put_data_pack(builder.finish())
        self._write_segment()

    def flush_meta(self) -> None:
        """Make every manifest chunk durable with its segment; the data's flush comes first, by itself."""
        self.flush_data()
        with self._lock:
            builder, self._meta = self._meta, None
        if builder is not None and len(builder):
            self._meta_packs.append(builder.finish())
        for pack in self._meta_packs:
            self._put(pack)
            self._record(pack)
        self._meta_packs = []
        self._write_segment()

    def close(self) -> None:
        """Stop the workers; chunks not yet flushed are dropped. Idempotent."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    @property
    def unnamed(self) -> list[tuple[PackId, bytes]]:
        """Packs (id, plain table) that the index knows and no segment names yet; none after a flush that succeeded."""
        with self._lock:
            return list(self._tables)

    # ----------------------------------------------------------------------------------------------- workers

    def _work(self) -> None:
        compressor = Compressor(self._level)
        while (job := self._jobs.get()) is not None:
            parts, type_, pending = job
            try:
                if self._error is None:
                    pending.resolve(self._store(compressor, parts, type_))
                else:
                    pending.fail(self._error)
            except BaseException as error:  # noqa: BLE001 - carried to the thread that submits, raised there
                pending.fail(error)
                with self._room:
                    self._error = self._error or error
            finally:
                with self._room:
                    self._in_flight_bytes -= pending.length
                    self._room.notify_all()
            del job, parts

    def _store(self, compressor: Compressor, parts: Sequence[bytes], type_: int) -> ChunkId:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        chunk_id = self._keyring.ids.chunk_id(data, type_)
        is_lost = self._opens is not None and not self._is_readable(self._opens, chunk_id, type_)
        with self._lock:
            known = chunk_id in self._pending_ids or (chunk_id in self._index and not is_lost)
            if known:
                self.stats.chunks_known += 1
                self.stats.raw_bytes_known += len(data)
                return chunk_id
            self._pending_ids.add(chunk_id)
        codec, payload = compressor.compress(data)
        # An encoder's bug, or a bit that flipped in memory, must not become a bad backup: prove before storing.
        if payload is not data and decompress(codec, payload, len(data), "new chunk") != data:
            raise ObjectCorruptError("new chunk: does not decompress to what was compressed", hint=_PROOF_HINT)
        full: SealedPack | None = None
        with self._lock:
            builder = self._builder(type_)
            builder.add(chunk_id, type_, codec, payload, len(data))
            self.stats.chunks_new += 1
            self.stats.raw_bytes_new += len(data)
            full = self._take_full(type_)
        if full is not None:
            self._put_data_pack(full)
        return chunk_id

    def _is_readable(self, opens: Callable[[ChunkId, int], bool], chunk_id: ChunkId, type_: int) -> bool:
        """Say whether a chunk is under way, was read a moment ago, or can be read now."""
        with self._lock:
            if chunk_id in self._pending_ids or chunk_id in self._opened:
                return True
            if chunk_id not in self._index:
                return False
        if not opens(chunk_id, type_):
            return False
        with self._lock:
            if len(self._opened) >= _OPENED_KEPT:
                self._opened.clear()  # to read one again costs time only
            self._opened.add(chunk_id)
        return True

    def _builder(self, type_: int) -> PackBuilder:
        if type_ == TYPE_DATA:
            if self._data is None:
                self._pack_slots.acquire()  # whoever holds a slot needs no lock to give it back
                self._data = PackBuilder(self._keyring)
            return self._data
        if self._meta is None:
            self._meta = PackBuilder(self._keyring)
        return self._meta

    def _take_full(self, type_: int) -> SealedPack | None:
        """Take the builder out if it is full. A full manifest pack waits: it is put after the data that it names."""
        builder = self._builder(type_)
        limit = self._pack_size_bytes if type_ == TYPE_DATA else min(_META_PACK_BYTES, self._pack_size_bytes)
        if builder.size_bytes < limit and len(builder) < MAX_TABLE_ROWS:
            return None
        if type_ == TYPE_DATA:
            self._data = None
            return builder.finish()
        self._meta = None
        self._meta_packs.append(builder.finish())
        return None

    def _put_data_pack(self, pack: SealedPack) -> None:
        try:
            self._put(pack)
        finally:
            self._pack_slots.release()
        self._record(pack)

    def _put(self, pack: SealedPack) -> None:
        try:
            self._backend.put(pack_name(pack.pack_id), pack.parts)
        except ObjectExistsError:
            pass  # named by its content: what is there is this very pack (a retried put)

    def _record(self, pack: SealedPack) -> None:
        """Make a durable pack's chunks known, in memory and to the next segment."""
        self._index.add_table(pack.pack_id, pack.table)
        with self._lock:
            self._tables.append((pack.pack_id, pack.table))
            self._pending_ids.difference_update(pack_ids(pack.table))
            self.stats.packs += 1
            self.stats.stored_bytes += pack.size_bytes

    # ----------------------------------------------------------------------------------------------- flushing

    @property
    def meta_backlog(self) -> int:
        """Count of full manifest packs that wait in memory; a caller that sees some calls `flush_meta`."""
        return len(self._meta_packs)

    def _drain(self) -> None:
        with self._room:
            while self._error is None and self._in_flight_bytes:
                self._room.wait()
            self._raise_error()

    def _write_segment(self) -> None:
        with self._lock:
            tables = list(self._tables)
        write_segments(self._backend, self._keyring, tables)
        with self._lock:
            del self._tables[: len(tables)]

    def _raise_error(self) -> None:
        if self._error is None:
            return
        if isinstance(self._error, CofferError):
            # A fresh object: the same one raised in two threads would gather both tracebacks.
            raise type(self._error)(self._error.message, hint=self._error.hint, **self._error.details) from self._error
        raise self._error


_PROOF_HINT = "The memory or the processor of this machine may be faulty. Nothing of this chunk was stored."


def pack_ids(table: bytes) -> list[bytes]:
    """Return the chunk ids of a plain table."""
    return [row[0] for row in ROW.iter_unpack(table)]
