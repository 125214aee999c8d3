"""A logical backup in the repository, as a restore reads it: its databases, and its files as streams."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

from coffer.errors import CofferError, InterruptedRunError, ObjectCorruptError, PathNotInSnapshotError, SizeLimitError
from coffer.ids import ChunkId
from coffer.postgres.logical_facts import GLOBALS_NAME, RECORD_NAME, LogicalFacts
from coffer.postgres.logical_record import MAX_RECORD_BYTES, DatabaseRecord, folder_of
from coffer.repository.entries import Entry, Kind
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.reader import ChunkReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot

_BUNDLES_KEPT = 4  # opened, of 6 MiB at the most: small tables lie side by side in them


class LogicalArchive:
    """The files of one snapshot. Thread-safe.

    Attributes:
        snapshot: That is read.
        facts: What it says of itself.
    """

    def __init__(self, repo: Repository, snapshot: Snapshot, stop: threading.Event | None = None) -> None:
        """Read the manifest's root.

        Args:
            repo: The repository.
            snapshot: A logical backup.
            stop: Once set, reading ends.

        Raises:
            UsageError: It is no logical backup.
            ObjectCorruptError, ChunkMissingError: It is damaged.
        """
        self.snapshot = snapshot
        self.facts = LogicalFacts.require(snapshot)
        self._reader: ChunkReader = repo.reader()
        self._manifest: ManifestReader = repo.manifest(snapshot)
        self._stop = stop
        self._kept: OrderedDict[ChunkId, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def databases(self) -> tuple[str, ...]:
        """Names of the databases."""
        return self.snapshot.paths

    @property
    def has_roles(self) -> bool:
        """Whether roles and tablespaces of the server are in it."""
        return self._manifest.find(GLOBALS_NAME) is not None

    def record(self, database: str) -> DatabaseRecord:
        """Return what a database consists of.

        Raises:
            PathNotInSnapshotError: It has no such database.
            ObjectCorruptError, ChunkMissingError, FormatVersionError: Its record cannot be read.
        """
        if database not in self.databases:
            raise PathNotInSnapshotError(
                f"database {database!r}: not in snapshot {self.snapshot.id}",
                hint=f"It has {', '.join(map(repr, self.databases))}.",
            )
        path = folder_of(database).encode() + b"/" + RECORD_NAME
        return DatabaseRecord.decode(self.read(path, MAX_RECORD_BYTES), f"{self.snapshot.name}: {path.decode()}")

    def read(self, path: bytes, limit_bytes: int = MAX_RECORD_BYTES) -> bytes:
        """Return a whole file.

        Raises:
            SizeLimitError: It is larger than the limit.
            PathNotInSnapshotError, ObjectCorruptError, ChunkMissingError: It cannot be read.
        """
        entry = self.entry(path)
        if entry.size_bytes > limit_bytes:
            raise SizeLimitError(f"{path.decode()}: {entry.size_bytes} bytes, over the cap of {limit_bytes}")
        return b"".join(self._pieces(entry))

    def stream(self, path: bytes) -> ContentStream:
        """Return a file as a stream.

        Raises:
            PathNotInSnapshotError: The snapshot has no such file.
        """
        return ContentStream(self._pieces(self.entry(path)))

    def entry(self, path: bytes) -> Entry:
        """Return the entry of a file.

        Raises:
            PathNotInSnapshotError: The snapshot has no such file.
        """
        entry = self._manifest.find(path)
        if entry is None or entry.kind is not Kind.FILE:
            raise PathNotInSnapshotError(
                f"file {path.decode(errors='replace')!r}: not in snapshot {self.snapshot.id}",
                hint="Was the backup made by a newer Coffer? Run 'coffer check' to see whether it is whole.",
            )
        return entry

    def _pieces(self, entry: Entry) -> Iterator[bytes]:
        if entry.content is None:
            return
        for chunk_id, offset, length, _ in self._manifest.expand(entry.content):
            if self._stop is not None and self._stop.is_set():
                raise InterruptedRunError(
                    "load: stopped by request",
                    hint="What was loaded so far stays in the database: drop it or clear it.",
                )
            if chunk_id is None:
                raise ObjectCorruptError(f"{entry.path.decode(errors='replace')}: has a hole, which no dump has")
            data = self._chunk(chunk_id, length)
            yield data if length == len(data) else data[offset : offset + length]

    def _chunk(self, chunk_id: ChunkId, wanted_bytes: int) -> bytes:
        """Return a chunk; those of which only a part is wanted hold several files, and are kept for a while."""
        with self._lock:
            found = self._kept.get(chunk_id)
        if found is not None:
            return found
        data = self._reader.read(chunk_id, TYPE_DATA)
        if wanted_bytes < len(data):
            with self._lock:
                self._kept[chunk_id] = data
                while len(self._kept) > _BUNDLES_KEPT:
                    self._kept.popitem(last=False)
        return data


class ContentStream:
    """A file as a driver reads it. For one thread.

    Attributes:
        size_bytes: What was read so far.
        failure: Why reading ended early: a driver wraps it in an error of its own.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.size_bytes = 0
        self.failure: CofferError | None = None

    def read(self, size: int = 1 << 20) -> bytes:
        """Return the next bytes, at most `size`; nothing at the end.

        Raises:
            CofferError: What is stored cannot be read, or the run was stopped.
        """
        if not self._piece:
            try:
                self._piece = memoryview(next(self._pieces, b""))
            except CofferError as error:
                self.failure = error
                raise
        data = bytes(self._piece[:size])
        self._piece = self._piece[size:]
        self.size_bytes += len(data)
        return data
