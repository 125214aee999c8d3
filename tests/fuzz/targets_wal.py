"""Saved WAL with true seals whose heads and frames lie: read as the archive does."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Sequence
from random import Random

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import KIND_WAL, TAG_BYTES, FrameMeta, new_object_key
from coffer.errors import CofferError, ObjectCorruptError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_object import (
    FRAME_BYTES,
    MAX_RANGE_BYTES,
    TYPE_DATA,
    TYPE_HEAD,
    WalHead,
    encode_range,
    parse_range_name,
    range_name,
)
from tests.fuzz.mutating import hostile_integers, mutated, mutated_json
from tests.fuzz.target import MIB, Target
from tests.harness.keyrings import make_keyring
from tests.harness.repositories import make_repository

KEYRING = make_keyring()
TAG = "0123abcd"
LOG = b"".join(struct.pack("<I", number) * 64 for number in range(6000))  # 1.5 MB: two frames
NAME = range_name(TAG, 1, Lsn(0), Lsn(len(LOG)))


def _head() -> WalHead:
    hasher = KEYRING.ids.wal_hasher()
    hasher.update(LOG)
    return WalHead(TAG, 7, 1, Lsn(0), Lsn(len(LOG)), MIB, 1_793_491_200, hasher.digest())


class _Store:
    """A repository that a range is read from; its keys are those of the samples."""

    def __init__(self) -> None:
        self.repo = make_repository(MemoryBackend())
        self.repo.keyring = KEYRING

    def read(self, data: bytes) -> None:
        """Read a range as the archive does: its head, all of it, a part of it."""
        self.repo.backend = MemoryBackend()
        self.repo.backend.put(NAME, [data])
        ref = parse_range_name(NAME, len(data))
        assert ref is not None
        for step in (
            lambda archive: archive.head(ref),
            lambda archive: list(archive.read_part(ref, Lsn(FRAME_BYTES - 5), Lsn(FRAME_BYTES + 5))),
        ):
            with contextlib.suppress(CofferError):
                step(WalArchive(self.repo, "?", tag=TAG))
        WalArchive(self.repo, "?", tag=TAG).prove(ref)


STORE = _Store()


def _grow_range(draw: Random, samples: Sequence[bytes]) -> bytes:
    """A range with true seals whose head and frames lie."""
    if draw.randrange(4) == 0:
        return mutated(draw, samples)
    key = new_object_key(KEYRING, KIND_WAL)
    payloads = [mutated(draw, [LOG[:100], b"", b"\x28\xb5\x2f\xfd"]) for _ in range(draw.choice([1, 2, 2, 2, 3]))]
    frames = [[draw.choice([0, 1, 1, 2]), len(payload) + TAG_BYTES] for payload in payloads]
    fields = json.loads(_head().to_json()) | {"frames": frames}
    if draw.randrange(2):
        name = draw.choice(list(fields))
        fields[name] = draw.choice([None, "", [], {}, True, *hostile_integers(draw, 2), "f" * 16, frames * 40])
    plain = mutated_json(draw, [json.dumps(fields).encode()]) if draw.randrange(3) == 0 else json.dumps(fields).encode()
    sealed = key.seal(plain, FrameMeta(0, TYPE_HEAD, 0, len(plain), len(plain) + TAG_BYTES))
    lead = len(sealed) if draw.randrange(5) else hostile_integers(draw, 1)[0] & 0xFFFF_FFFF
    parts = [key.header, struct.pack(">I", lead), sealed]
    for number, payload in enumerate(payloads):
        raw_length = min(FRAME_BYTES, max(0, len(LOG) - number * FRAME_BYTES))
        meta = FrameMeta(
            number + 1,
            TYPE_DATA,
            frames[number][0],
            raw_length,
            len(payload) + TAG_BYTES,
            last=number == len(payloads) - 1,
        )
        parts.append(key.seal(payload, meta))
    return b"".join(parts)


def _range_name(data: bytes) -> None:
    ref = parse_range_name(data.decode("latin-1"), 1)
    if ref is None:
        raise ObjectCorruptError("no range")
    assert 0 < ref.length <= MAX_RANGE_BYTES
    assert ref.name == range_name(ref.name.split("/")[1], ref.timeline, ref.start, ref.end)


TARGETS: dict[str, Target] = {
    "range of WAL that lies": Target(
        STORE.read, [b"".join(encode_range(KEYRING, _head(), LOG))], _grow_range, room_bytes=32 * MIB
    ),
    "name of a range of WAL": Target(_range_name, [NAME.encode(), range_name(TAG, 9, Lsn(5), Lsn(6)).encode()]),
}
