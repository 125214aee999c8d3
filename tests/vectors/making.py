"""Helpers of `make_vectors`: objects with one defect, sealed as if they had none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import zstandard

from coffer.crypto.seal import KIND_INDEX, KIND_LEASE, KIND_PACK, KIND_SNAPSHOT, TAG_BYTES, FrameMeta, ObjectKey
from coffer.ids import ChunkId
from coffer.repository.pack import ROW, TRAILER, TYPE_DATA, TYPE_SECTION, TYPE_TABLE
from tests.harness.keyrings import KEYS, REPOSITORY_ID, make_keyring
from tests.harness.repositories import make_snapshot

KEYRING = make_keyring()
SALT = b"a salt of a test object, 32 bytes"[:32]
SNAPSHOT = make_snapshot(KEYRING)
PIECES = {b"first chunk", b"a longer chunk, " * 20, b"a section of a manifest"}


def object_key(kind: int, *, salt: bytes = SALT, root: bytes = KEYS["root", 1], epoch: int = 1) -> ObjectKey:
    """Return the key of an object of the test repository."""
    return ObjectKey(REPOSITORY_ID, kind, epoch, salt, root)


def sealed(plain: bytes, kind: int = KIND_LEASE, key: ObjectKey | None = None, **meta: Any) -> bytes:
    """Return an object of one frame; `meta` replaces what the frame is bound to."""
    key = key or object_key(kind)
    parts = {"position": 0, "type": 0, "codec": 0, "raw_length": len(plain), "last": True} | meta
    return key.header + key.seal(plain, FrameMeta(sealed_length=len(plain) + TAG_BYTES, **parts))


def changed(data: bytes, at: int, by: int = 1) -> bytes:
    """Return the bytes with one of them changed."""
    out = bytearray(data)
    out[at] ^= by
    return bytes(out)


class Chunk:
    """A chunk of a test pack, and what its row and its frame say of it."""

    def __init__(
        self, data: bytes, *, type_: int = TYPE_DATA, codec: int = 0, payload: bytes | None = None, **row: Any
    ):
        self.payload = (zstandard.compress(data) if codec else data) if payload is None else payload
        chunk_id = row.get("chunk_id", KEYRING.ids.chunk_id(data, type_))
        self.row = {"chunk_id": chunk_id, "raw_length": len(data), "type": type_, "codec": codec} | row


def pack(
    chunks: list[Chunk],
    *,
    trailer: dict[str, Any] | None = None,
    kind: int = KIND_PACK,
    swap: bool = False,
    **table: Any,
) -> bytes:
    """Return a pack; rows, table and trailer say what they are told to."""
    key = object_key(kind)
    frames, rows, offset = [], [], 80
    for position, chunk in enumerate(chunks):
        row = {"offset": offset, "sealed_length": len(chunk.payload) + TAG_BYTES} | chunk.row
        meta = FrameMeta(
            row.get("position", position),
            row["type"],
            row["codec"],
            row.get("sealed_raw_length", row["raw_length"]),
            len(chunk.payload) + TAG_BYTES,
            last=row.get("last", False),
        )
        frames.append(key.seal(chunk.payload, meta))
        fields = (row["chunk_id"], row["offset"], row["sealed_length"], row["raw_length"], row["type"], row["codec"])
        rows.append(ROW.pack(*fields))
        offset += len(frames[-1])
    if swap:
        frames[0], frames[1] = frames[1], frames[0]
    plain = b"".join(rows)
    meta = {"position": len(rows), "type": TYPE_TABLE, "codec": 0, "raw_length": len(plain), "last": True} | table
    sealed_table = key.seal(plain, FrameMeta(sealed_length=len(plain) + TAG_BYTES, **meta))
    told = {"offset": offset, "length": len(sealed_table), "rows": len(rows), "mark": b"cofferpk"} | (trailer or {})
    end = TRAILER.pack(told["offset"], told["length"], told["rows"], told["mark"])
    return b"".join([key.header, *frames, sealed_table, end])


def chunks() -> list[Chunk]:
    """Return three good chunks: stored, compressed, and a section."""
    return [
        Chunk(b"first chunk"),
        Chunk(b"a longer chunk, " * 20, codec=1),
        Chunk(b"a section of a manifest", type_=TYPE_SECTION),
    ]


def snapshot(*, name: str = SNAPSHOT.name, signer: Any = KEYRING, body: bytes | None = None, **fields: Any) -> bytes:
    """Return a snapshot's object, signed and sealed, with some of its fields replaced; None takes one out."""
    if body is None:
        told = {field: value for field, value in (SNAPSHOT.body() | fields).items() if value is not None}
        body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    signature = signer.sign(b"coffer/1/snapshot\0" + REPOSITORY_ID + name.encode() + b"\0" + body)
    return sealed(signature + body, KIND_SNAPSHOT)


def group(number: int, rows: int, count: int | None = None) -> bytes:
    """Return one group of a segment."""
    table = b"".join(
        ROW.pack(ChunkId(bytes((number, at)) * 16), 80 + 26 * at, 26, 10, TYPE_DATA, 0) for at in range(rows)
    )
    return bytes((number,)) * 32 + (rows if count is None else count).to_bytes(4, "big") + table


def segment(plain: bytes) -> tuple[bytes, str]:
    """Return a segment's object and its name."""
    data = sealed(plain, KIND_INDEX)
    return data, "index/" + hashlib.sha256(data).hexdigest()
