"""Saved WAL without a server: made-up log in an archive, and segments as files with a true header."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from coffer.backends.base import Backend
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_object import WalRangeRef
from coffer.repository.repository import Repository
from tests.harness.keyrings import random_again
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.repositories import make_repository

MIB = 1 << 20
SYSTEM_ID = 7_000_000_000_000_000_007
SOURCE = "cluster"
_HEADER = struct.Struct("<HHIQI4xQII")  # as in coffer.postgres.wal_header
_MAGIC_OF_18 = 0xD118
_IS_LONG = 2


def log_bytes(start: int, end: int, timeline: int = 1) -> bytes:
    """Return made-up log: the same for the same place, half of it compressible."""
    found = bytearray()
    for block in range(start // 4096, -(-end // 4096)):
        draw = random.Random(f"{timeline}/{block}")
        found += draw.randbytes(2048) + bytes((block % 251,)) * 2048
    return bytes(found[start % 4096 :][: end - start])


class SavedWal:
    """An archive in a memory store that can be harmed.

    Attributes:
        store: The store.
        clock: Of the repository.
        repo: The repository.
        archive: The archive of `SOURCE`.
    """

    def __init__(self, store: Backend | None = None) -> None:
        self.store = TamperableMemoryBackend()
        self.clock = ManualClock()
        with random_again("saved wal"):
            self.repo: Repository = make_repository(self.store, self.clock)
        if store is not None:
            self.repo.backend = store
        self.archive = WalArchive(self.repo, SOURCE)

    def put(
        self, start: int, end: int, timeline: int = 1, data: bytes | None = None, *, archive: WalArchive | None = None
    ) -> WalRangeRef:
        """Save made-up log, or `data`."""
        content = log_bytes(start, end, timeline) if data is None else data
        place = archive or self.archive
        return place.put(timeline, Lsn(start), content, system_id=SYSTEM_ID, segment_bytes=MIB)

    def fresh(self, source: str = SOURCE, system_id: int | None = None) -> WalArchive:
        """Return an archive that has read nothing yet."""
        return WalArchive(self.repo, source, system_id=system_id)


def history_file(*switches: tuple[int, int]) -> bytes:
    """Return a history file of (timeline, position where it was left)."""
    return b"".join(b"%d\t%s\tno recovery target specified\n" % (t, str(Lsn(at)).encode()) for t, at in switches)


def segment_bytes(number: int, timeline: int = 1, *, system_id: int = SYSTEM_ID, size: int = MIB) -> bytes:
    """Return a segment with a true header; what follows it is the made-up log of its place."""
    start = number * size
    head = _HEADER.pack(_MAGIC_OF_18, _IS_LONG, timeline, start, 0, system_id, size, 8192)
    return head + log_bytes(start + len(head), start + size, timeline)


def write_segment(folder: Path, number: int, timeline: int = 1, **more: int) -> Path:
    """Write a segment's file under its name."""
    path = folder / Segment(timeline, number).name(more.get("size", MIB))
    path.write_bytes(segment_bytes(number, timeline, **more))
    return path
