"""Read chunks back: find, open, decompress, and recompute the id, every time (invariants I5, I6, I7)."""

from __future__ import annotations

import threading
from collections import OrderedDict

from coffer.backends.base import Backend
from coffer.compression import decompress
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import HEADER_BYTES, KIND_PACK, ObjectKey, open_header
from coffer.errors import ChunkMissingError, ObjectCorruptError
from coffer.ids import PackId, pack_name
from coffer.repository.index import ChunkIndex
from coffer.repository.pack import ChunkLocation

_KEYS_KEPT = 256  # object keys of packs; each saves one small read and an HKDF


class ChunkReader:
    """Returns verified plaintext of chunks. Thread-safe; keeps the keys of recent packs and no data."""

    def __init__(self, backend: Backend, keyring: Keyring, index: ChunkIndex) -> None:
        self._backend = backend
        self._keyring = keyring
        self._index = index
        self._keys: OrderedDict[PackId, ObjectKey] = OrderedDict()
        self._lock = threading.Lock()

    def locate(self, chunk_id: bytes) -> ChunkLocation:
        """Return where a chunk lies.

        Raises:
            ChunkMissingError: No index segment knows it.
        """
        where = self._index.find(chunk_id)
        if where is None:
            raise ChunkMissingError(f"chunk {chunk_id.hex()[:12]}: in no index segment", chunk_id=chunk_id.hex())
        return where

    def read(self, chunk_id: bytes, type_: int) -> bytes:
        """Return the plaintext of one chunk, by one ranged read (two for the first of a pack).

        Raises:
            ChunkMissingError: No index segment knows it.
            ObjectNotFoundError: Its pack is missing.
            ObjectCorruptError: It is damaged, or is not of that type.
        """
        where = self.locate(chunk_id)
        if where.type != type_:
            raise ObjectCorruptError(f"chunk {chunk_id.hex()[:12]}: of type {where.type}, expected {type_}")
        sealed = self._backend.get(pack_name(where.pack_id), where.offset, where.sealed_length)
        return self.open_frame(chunk_id, where, sealed)

    def open_frame(self, chunk_id: bytes, where: ChunkLocation, sealed: bytes | memoryview) -> bytes:
        """Return the plaintext of a frame that was read already.

        Raises:
            ObjectCorruptError: It is damaged, or holds another chunk.
        """
        name = pack_name(where.pack_id)
        payload = self.pack_key(where.pack_id).open(sealed, where.frame(), name)
        data = decompress(where.codec, payload, where.raw_length, name)
        if self._keyring.ids.chunk_id(data) != chunk_id:
            raise ObjectCorruptError(
                f"{name}: frame {where.position} holds another chunk than {chunk_id.hex()[:12]}", object=name
            )
        return data

    def pack_key(self, pack_id: PackId) -> ObjectKey:
        """Return the key of a pack, read from its header once."""
        with self._lock:
            key = self._keys.get(pack_id)
            if key is not None:
                self._keys.move_to_end(pack_id)
                return key
        name = pack_name(pack_id)
        key = open_header(self._keyring, self._backend.get(name, 0, HEADER_BYTES), KIND_PACK, name)
        with self._lock:
            self._keys[pack_id] = key
            if len(self._keys) > _KEYS_KEPT:
                self._keys.popitem(last=False)
        return key
