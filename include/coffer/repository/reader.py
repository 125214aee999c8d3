"""Read chunks back: find, open, decompress, and recompute the id, every time (invariants I5, I6, I7)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from coffer.backends.base import Backend
from coffer.compression import decompress
from coffer.crypto.hashing import IdKeys
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import HEADER_BYTES, KIND_PACK, ObjectKey, open_header
from coffer.errors import (
    ChunkMissingError,
    CryptoError,
    ObjectCorruptError,
    ObjectNotFoundError,
    RepositoryError,
    ShortReadError,
)
from coffer.ids import PackId, pack_name
from coffer.repository.index import ChunkIndex
from coffer.repository.pack import ChunkLocation

_KEYS_KEPT = 256  # object keys of packs; each saves one small read and an HKDF


class ChunkReader:
    """Returns verified plaintext of chunks. Thread-safe; keeps the keys of recent packs and no data."""

    def __init__(
        self, backend: Backend, keyring: Keyring, index: ChunkIndex, rescue: Callable[[], object] | None = None
    ) -> None:
        """Read through an index.

        Args:
            backend: Where the packs lie.
            keyring: The repository's keys.
            index: Where chunks lie.
            rescue: Called once, when a chunk is in no index segment; may add to the index what only the packs know.
        """
        self._backend = backend
        self._keyring = keyring
        self._index = index
        self._rescue = rescue
        self._keys: OrderedDict[PackId, ObjectKey] = OrderedDict()
        self._lock = threading.Lock()
        self._rescuing = threading.Lock()

    def locate(self, chunk_id: bytes) -> ChunkLocation:
        """Return where a chunk lies.

        Raises:
            ChunkMissingError: No index segment knows it, and no pack.
        """
        where = self._index.find(chunk_id)
        if where is None:
            with self._rescuing:  # whoever comes second waits for what the first brings
                rescue, self._rescue = self._rescue, None
                if rescue is not None:
                    rescue()
            where = self._index.find(chunk_id)
        if where is None:
            raise ChunkMissingError(f"chunk {chunk_id.hex()[:12]}: in no index segment", chunk_id=chunk_id.hex())
        return where

    def read(self, chunk_id: bytes, type_: int) -> bytes:
        """Return the plaintext of one chunk, by one ranged read (two for the first of a pack).

        Raises:
            ChunkMissingError: No index segment knows it, and no pack.
            ObjectNotFoundError: Its pack is missing, and no other holds it.
            ObjectCorruptError, ShortReadError: It is damaged, and whole in no other pack; or is not of that type.
        """
        where = self.locate(chunk_id)
        try:
            return self._read(chunk_id, where, type_)
        except ObjectNotFoundError:
            self._index.forget_pack(where.pack_id)
            if self._index.find(chunk_id) is None:
                raise
        except (ObjectCorruptError, ShortReadError):
            # A backup that finds a chunk damaged stores it anew in another pack.
            if where.type != type_ or not self._index.turn_elsewhere(chunk_id, where.pack_id):
                raise
        return self.read(chunk_id, type_)

    def opens(self, chunk_id: bytes, type_: int) -> bool:
        """Say whether a chunk can be read, by reading it; in another pack too, where the first one is damaged.

        Raises:
            TransientError, BackendLocationError: The store does not answer: nothing is known of the chunk.
        """
        try:
            self.read(chunk_id, type_)
        except (RepositoryError, CryptoError, ObjectNotFoundError, ShortReadError):
            return False
        return True

    def _read(self, chunk_id: bytes, where: ChunkLocation, type_: int) -> bytes:
        if where.type != type_:
            raise ObjectCorruptError(f"chunk {chunk_id.hex()[:12]}: of type {where.type}, expected {type_}")
        sealed = self._backend.get(pack_name(where.pack_id), where.offset, where.sealed_length)
        return self.open_frame(chunk_id, where, sealed)

    def open_frame(self, chunk_id: bytes, where: ChunkLocation, sealed: bytes | memoryview) -> bytes:
        """Return the plaintext of a frame that was read already.

        Raises:
            ObjectCorruptError: It is damaged, or holds another chunk.
        """
        return open_chunk(self.pack_key(where.pack_id), self._keyring.ids, chunk_id, where, sealed)

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


def open_chunk(key: ObjectKey, ids: IdKeys, chunk_id: bytes, where: ChunkLocation, sealed: bytes | memoryview) -> bytes:
    """Return the plaintext of a frame: opened under its pack's key, decompressed, and its id computed again.

    Raises:
        ObjectCorruptError: It is damaged, or holds another chunk; no plaintext is released.
    """
    name = pack_name(where.pack_id)
    payload = key.open(sealed, where.frame(), name)
    data = decompress(where.codec, payload, where.raw_length, name)
    if ids.chunk_id(data, where.type) != chunk_id:
        raise ObjectCorruptError(
            f"{name}: frame {where.position} holds another chunk than {chunk_id.hex()[:12]}", object=name
        )
    return data
