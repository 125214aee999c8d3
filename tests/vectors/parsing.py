"""From a vector's bytes to what a reader gets of them, through the engine's own functions."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coffer.backends.memory import MemoryBackend
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import Kek, KeyFileUnlocker
from coffer.crypto.keyring import CHUNK_ID, ROOT, SIGNING, Keyring, WrapContext, unwrap_key
from coffer.crypto.seal import open_single
from coffer.ids import PackId, pack_name
from coffer.repository.index import ChunkIndex, read_segment
from coffer.repository.pack import iter_rows, read_table
from coffer.repository.reader import ChunkReader
from coffer.repository.settings import NAME, read_settings
from coffer.repository.snapshot import decode_snapshot

Vector = dict[str, Any]


def released(vector: Vector) -> bytes:
    """Return what a reader gets of a vector: its plaintext, as docs/format.md lays it out.

    Raises:
        CofferError: The vector is refused.
    """
    return _PARSERS[vector["parser"]](vector, base64.b64decode(vector["bytes"]))


def _keyring(vector: Vector) -> Keyring:
    keys = vector["test_keys"]
    secrets = {(kind, number): bytes.fromhex(keys[kind]) for kind, number in ((ROOT, 1), (CHUNK_ID, 0), (SIGNING, 0))}
    return Keyring.of(bytes.fromhex(keys["repository_id"]), secrets)


def _sealed(vector: Vector, data: bytes) -> bytes:
    return open_single(_keyring(vector), vector["kind"], data, "vector")


def _pack(vector: Vector, data: bytes) -> bytes:
    """Table, then every chunk."""
    keyring, store, index = _keyring(vector), MemoryBackend(), ChunkIndex()
    pack_id = PackId(hashlib.sha256(data).digest())
    store.put(pack_name(pack_id), [data])
    table = read_table(store, keyring, pack_id, len(data))
    index.add_table(pack_id, table)
    reader = ChunkReader(store, keyring, index)
    return table + b"".join(reader.read(chunk_id, where.type) for chunk_id, where in iter_rows(pack_id, table))


def _wrapped_key(vector: Vector, data: bytes) -> bytes:
    kek = Kek(bytes.fromhex(vector["kek"]), bytes.fromhex(vector["kek_commitment"]))
    context = WrapContext.of(
        bytes.fromhex(vector["test_keys"]["repository_id"]), base64.b64decode(vector["coffer_json"])
    )
    kind, number, secret = unwrap_key(kek, context, data, "vector")
    return f"{kind}/{number}".encode() + secret


def _snapshot(vector: Vector, data: bytes) -> bytes:
    snapshot = decode_snapshot(_keyring(vector), vector["object_name"], data)
    return repr(sorted(snapshot.to_json().items())).encode()


def _segment(vector: Vector, data: bytes) -> bytes:
    store = MemoryBackend()
    store.put(vector["object_name"], [data])
    groups = read_segment(store, _keyring(vector), vector["object_name"], len(data))
    for pack_id, table in groups:
        ChunkIndex().add_table(pack_id, table)
    return b"".join(pack_id + table for pack_id, table in groups)


def _settings(vector: Vector, data: bytes) -> bytes:
    store = MemoryBackend()
    store.put(NAME, [data])
    return repr(read_settings(store)).encode()


def _key_file(vector: Vector, data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(data)
        path.chmod(int(vector["mode"], 8))
        kek = KeyFileUnlocker.load(path).kek(salt=bytes(32), params=Argon2Params())
    return kek.key + kek.commitment


_PARSERS: dict[str, Callable[[Vector, bytes], bytes]] = {
    "sealed": _sealed,
    "pack": _pack,
    "wrapped-key": _wrapped_key,
    "snapshot": _snapshot,
    "segment": _segment,
    "settings": _settings,
    "key-file": _key_file,
}
