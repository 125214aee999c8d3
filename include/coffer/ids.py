"""The identifiers of the engine: what each is, and how it is spelt.

Raw ids are `bytes` inside the engine (an id in an index costs its 32 bytes and no more); text is for names and people.
"""

from __future__ import annotations

import secrets
from typing import NewType

ChunkId = NewType("ChunkId", bytes)  # keyed BLAKE3 of the plaintext [32 bytes]
ContentId = NewType("ContentId", bytes)  # keyed BLAKE3 of a whole file's content, cut to [16 bytes]: docs/format.md §7
PackId = NewType("PackId", bytes)  # SHA-256 of the pack's bytes [32 bytes]
RepositoryId = NewType("RepositoryId", bytes)  # random [16 bytes]

CHUNK_ID_BYTES = 32
CONTENT_ID_BYTES = 16
PACK_ID_BYTES = 32
REPOSITORY_ID_BYTES = 16
SNAPSHOT_ID_BYTES = 8  # random [8 bytes]; 2^32 snapshots before two are likely to share one, and a put would notice


def new_repository_id() -> RepositoryId:
    """Return a fresh random repository id [16 bytes]."""
    return RepositoryId(secrets.token_bytes(REPOSITORY_ID_BYTES))


def new_snapshot_id() -> str:
    """Return a fresh random snapshot id [16 hex digits]."""
    return secrets.token_hex(SNAPSHOT_ID_BYTES)


def pack_name(pack_id: bytes) -> str:
    """Return the object name of a pack: two hex digits fan out the folder, the full id is the last level."""
    text = pack_id.hex()
    return f"packs/{text[:2]}/{text}"
