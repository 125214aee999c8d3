"""Checkpoints: how far an interrupted run came, so that the next one goes on from there.

A checkpoint names a manifest: what the run had finished, followed by what its parent had for the rest. The next run
takes it for its parent. It is no backup: nothing can be restored from it by name, and prune need not keep it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from coffer.backends.base import Backend
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import KIND_CHECKPOINT, open_single, seal_single
from coffer.errors import CofferError, ObjectCorruptError
from coffer.ids import CHUNK_ID_BYTES, ChunkId
from coffer.repository.objects import read_whole
from coffer.repository.snapshot import storable_ns

PREFIX = "checkpoints/"
MAX_OBJECT_BYTES = 4096  # (I7); a checkpoint has about 220
_NAME = re.compile(r"checkpoints/[0-9a-f]{8}-([0-9]{20})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An interrupted run's manifest.

    Attributes:
        name: The object's name.
        started_ns: When the run began [ns since the Unix epoch].
        manifest_root: Chunk id of its manifest's root.
    """

    name: str
    started_ns: int
    manifest_root: ChunkId


def put(backend: Backend, keyring: Keyring, source_tag: str, started_ns: int, manifest_root: ChunkId) -> None:
    """Store a checkpoint; everything that it names is durable already."""
    started_ns = storable_ns(started_ns)
    body = json.dumps({"started_ns": started_ns, "manifest_root": manifest_root.hex()}).encode()
    backend.put(f"{PREFIX}{source_tag}-{started_ns:020d}", [seal_single(keyring, KIND_CHECKPOINT, body)])


def newest(backend: Backend, keyring: Keyring, source_tag: str) -> Checkpoint | None:
    """Return the newest checkpoint of a source, or None where there is none that can be read."""
    found = list(backend.list(f"{PREFIX}{source_tag}-"))
    if not found:
        return None
    try:
        return read(backend, keyring, found[-1].name, found[-1].size_bytes)
    except CofferError:
        return None  # it only saves work


def read(backend: Backend, keyring: Keyring, name: str, size_bytes: int) -> Checkpoint:
    """Return one checkpoint.

    Raises:
        ObjectCorruptError, SizeLimitError, WrongKeyError: It is damaged or forged.
        ObjectNotFoundError: Its run was committed meanwhile.
    """
    data = read_whole(backend, name, MAX_OBJECT_BYTES, size_bytes)
    return _parse(name, open_single(keyring, KIND_CHECKPOINT, data, name))


def remove_until(backend: Backend, source_tag: str, started_ns: int) -> None:
    """Remove checkpoints of runs that began before a committed one. A store that refuses is left alone."""
    for info in list(backend.list(f"{PREFIX}{source_tag}-")):
        match = _NAME.fullmatch(info.name)
        if match is not None and int(match[1]) <= started_ns:
            try:
                backend.delete(info.name)
            except CofferError:
                return


def _parse(name: str, plain: bytes) -> Checkpoint:
    try:
        fields = json.loads(plain)
        root = bytes.fromhex(fields["manifest_root"])
        started_ns = int(fields["started_ns"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ObjectCorruptError(f"{name}: checkpoint is damaged", object=name) from None
    if len(root) != CHUNK_ID_BYTES:
        raise ObjectCorruptError(f"{name}: checkpoint is damaged", object=name)
    return Checkpoint(name, started_ns, ChunkId(root))
