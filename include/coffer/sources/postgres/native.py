"""What a native incremental backup stands on: the snapshot that the server compares with, and what must arrive.

It is taken only where it gives the same snapshot as comparing the pages would. Whatever speaks against that is a
refusal, and the run compares the pages instead (docs/adr/0034).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import CofferError, SourceFormatError
from coffer.errors_postgres import PostgresError, PostgresIncrementalRefusedError
from coffer.postgres.backup_label import BackupLabel
from coffer.postgres.backup_manifest import ManifestFacts
from coffer.postgres.facts import CLUSTER_PATH, MANIFEST_PATH, ClusterFacts
from coffer.postgres.lsn import Lsn
from coffer.postgres.record import ClusterRecord
from coffer.postgres.relation_path import RelationFile
from coffer.repository.blocks import SIZE, Row
from coffer.sources.postgres.changedfile import ChangedFile
from coffer.sources.postgres.cluster_sql import ClusterState
from coffer.sources.postgres.clustertree import ClusterTree, resized
from coffer.sources.postgres.pagefile import PageWriter
from coffer.sources.postgres.stored import StoredCluster
from coffer.sources.postgres.summary_audit import ExpectedChanges, read_changes, read_checkpoint

_FIRST_VERSION = 170000  # as in server_version_num
_BUFFER_BYTES = 1 << 16


class NativeBase:
    """The parent of one native backup. For one thread.

    Attributes:
        old: The snapshot that the server compares with.
    """

    def __init__(
        self, old: StoredCluster, facts: ClusterFacts, sql: SqlConnection, label: str, check: Callable[[], None]
    ) -> None:
        """Stand on a snapshot that `require_base` has looked at.

        Args:
            old: The snapshot.
            facts: What it says of itself.
            sql: A connection for SQL, in autocommit, that nothing else uses meanwhile.
            label: The cluster, for messages.
            check: Called now and then; may raise.
        """
        self.old = old
        self._facts, self._sql, self._label, self._check = facts, sql, label, check
        self._stream = _StoredManifest(old.read(MANIFEST_PATH))
        self._changes: ExpectedChanges | None = None
        self._begin: tuple[int, Lsn] | None = None

    @property
    def manifest(self) -> BinaryIO:
        """The manifest that the server compares with, to be read once. It is streamed out of the repository."""
        return cast("BinaryIO", io.BufferedReader(self._stream, _BUFFER_BYTES))

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Raise as a refusal what fails in this attempt alone: it may well not fail where pages are compared.

        Raises:
            PostgresIncrementalRefusedError: For what the server refuses, and for what arrived and makes no sense.
        """
        try:
            yield
        except PostgresIncrementalRefusedError as error:
            if self._stream.error is None:
                raise
            raise self._refused(self._stream.error) from error
        except (PostgresError, SourceFormatError) as error:
            raise self._refused(self._stream.error or error) from error

    def _refused(self, error: CofferError) -> PostgresIncrementalRefusedError:
        return PostgresIncrementalRefusedError(error.message)

    # ----------------------------------------------------------------------------------------------- the stream

    def begin(self) -> int:
        """Learn what must arrive. Called when the first archive begins: the server has all summaries by then.

        Returns:
            int: What the server sent for it [bytes]; 0 for every call but the first.

        Raises:
            PostgresIncrementalRefusedError: The summaries do not cover the time since the parent, or the timeline is
                another.
            PostgresError, PostgresUnavailableError: As the server says.
        """
        if self._changes is not None:
            return 0
        timeline, start = self._begin = read_checkpoint(self._sql, self._label)
        if timeline != self._facts.timeline:
            raise PostgresIncrementalRefusedError(
                f"postgres {self._label}: timeline {timeline}, the last snapshot is of timeline {self._facts.timeline}"
            )
        self._changes, read_bytes = read_changes(
            self._sql, self._label, timeline, self._facts.start, start, self._check
        )
        return read_bytes

    def sink(self, tree: ClusterTree, pages: PageWriter, path: bytes, row: Row, file: RelationFile) -> ChangedSink:
        """Return what takes a file of changed blocks; `row` is that of the file as it is sent."""
        assert self._changes is not None  # begin() came with the first archive
        return ChangedSink(tree, ChangedFile(pages, self.old, self._changes, path, file), path, row)

    def whole_label(self, content: bytes) -> bytes:
        """Return backup_label as that of a whole backup: no server starts with what says "incremental".

        Raises:
            SourceFormatError: It is none.
            PostgresIncrementalRefusedError: The backup began elsewhere than the summaries were read for.
        """
        label = BackupLabel.parse(content)
        self._require_begin(label.timeline, label.start)
        return label.render()

    def finish(self, manifest: ManifestFacts) -> None:
        """Make sure that what was learned at the begin holds for the backup that came.

        Raises:
            PostgresIncrementalRefusedError: It began elsewhere, or spans a change of the timeline.
        """
        if len(manifest.ranges) != 1:
            raise PostgresIncrementalRefusedError(f"postgres {self._label}: the timeline changed during the backup")
        self._require_begin(manifest.ranges[0].timeline, manifest.ranges[0].start)

    def _require_begin(self, timeline: int, start: Lsn) -> None:
        # Another checkpoint can end between the begin of the backup and the first archive: a matter of milliseconds.
        if (timeline, start) != self._begin:
            raise PostgresIncrementalRefusedError(
                f"postgres {self._label}: the backup began at {start}, before the checkpoint that was looked at"
            )


class ChangedSink:
    """Puts a file of changed blocks into the tree, as the whole file."""

    def __init__(self, tree: ClusterTree, changed: ChangedFile, path: bytes, row: Row) -> None:
        self._tree, self._changed, self._path, self._row = tree, changed, path, row

    def add(self, piece: bytes) -> None:
        """Take the next piece of the file as it is sent."""
        self._changed.add(piece, self._row[SIZE])

    def finish(self) -> None:
        """End the file."""
        content, digests = self._changed.finish()
        self._tree.add_pages(self._path, resized(self._row, content.size_bytes), content, digests)


class _StoredManifest(io.RawIOBase):
    """A stored file as a stream. Damage ends it early, and the server then refuses what it got."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.error: CofferError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                piece = next(self._pieces, None)
            except CofferError as error:  # psycopg2 would tell the server, and raise what the server answers
                self.error, piece = error, None
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def require_base(
    old: StoredCluster | None, facts: ClusterFacts, state: ClusterState, label: str, *, store_is_damaged: bool
) -> StoredCluster:
    """Make sure that a native backup can stand on a snapshot, as far as that can be told before it is asked for.

    Args:
        old: The snapshot; None where its manifest cannot be read.
        facts: What it says of itself.
        state: The cluster as it is now.
        label: The cluster, for messages.
        store_is_damaged: Whether packs of the store are missing.

    Raises:
        PostgresIncrementalRefusedError: It cannot.
    """
    reason = _reason_against(old, facts, state, store_is_damaged=store_is_damaged)
    if old is None or reason:
        raise PostgresIncrementalRefusedError(f"postgres {label}: {reason}")
    return old


def _reason_against(
    old: StoredCluster | None, facts: ClusterFacts, state: ClusterState, *, store_is_damaged: bool
) -> str:
    """Return why not; empty where nothing speaks against it."""
    reasons = (
        (state.version < _FIRST_VERSION, f"version {state.version // 10000} makes no incremental backups, 17 does"),
        (store_is_damaged, "packs of the repository are missing, maybe those of the last snapshot"),
        (facts.corrupt_pages > 0, "the last snapshot has damaged pages, and unchanged ones are not read again"),
        (facts.start_timeline != facts.timeline, "the timeline changed while the last snapshot was taken"),
        (facts.has_checksums != state.has_checksums, "data_checksums were switched since, which is not in the WAL"),
        (old is None, "the last snapshot cannot be read"),
    )
    for is_so, reason in reasons:
        if is_so:
            return reason
    if old is None or old.find(MANIFEST_PATH) is None:
        return "the last snapshot has no manifest of the server"
    if not state.has_checksums and not (_hints(state.settings) and _hints(_settings_of(old))):
        # Without either, cutting off pages of the visibility map is not in the WAL: stale ones would come back.
        return "data_checksums and wal_log_hints are off, or were at the last snapshot"
    return ""


def _hints(settings: dict[str, str]) -> bool:
    return settings.get("wal_log_hints") == "on"


def _settings_of(old: StoredCluster) -> dict[str, str]:
    try:
        return ClusterRecord.decode(b"".join(old.read(CLUSTER_PATH))).settings
    except CofferError:
        return {}
