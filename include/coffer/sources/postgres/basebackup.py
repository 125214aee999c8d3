"""BASE_BACKUP: the whole cluster, or the blocks that changed, as one stream of messages.

Source: PostgreSQL documentation, "Streaming Replication Protocol", BASE_BACKUP (versions 15 to 18 are alike): one COPY
of messages whose first byte says what they are.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import psycopg2

from coffer.errors import InterruptedRunError, SourceFormatError, UsageError
from coffer.errors_postgres import PostgresIncrementalRefusedError
from coffer.sources.postgres.failures import MAX_TEXT, server_errors
from coffer.sources.postgres.replication import ReplicationSession

_LABEL = re.compile(r"[ -&(-~]{1,1000}")  # printable ASCII but the quote; the server takes 1,024 bytes
_MAX_RATE_KIB = range(32, 1 << 20)  # what the server takes: 32 KiB/s to 1 GiB/s
_CORRUPT_PAGE = re.compile(r'checksum verification failed in file "(?:\./)?([^"]+)", block (\d+)')
_DATA_CORRUPTED = "XX001"
_FIRST_INCREMENTAL = 170000  # as in server_version_num
_MAX_NOTICES = 1000  # kept; the server itself names five blocks of a file at the most


@dataclass(frozen=True, slots=True)
class BaseBackupOptions:
    """What the server is asked for.

    Attributes:
        label: Stands in backup_label; printable ASCII without a quote.
        fast_checkpoint: Begin at once with a checkpoint that takes all the server's I/O; else wait for a gentle one.
        max_rate_bytes_s: The server sends no faster than this [bytes/s]; None for no limit.
        verify_checksums: The server compares each page's checksum while it reads.
        incremental: Only what changed since the manifest that goes with it (PostgreSQL 17 and newer).
    """

    label: str
    fast_checkpoint: bool = True
    max_rate_bytes_s: int | None = None
    verify_checksums: bool = True
    incremental: bool = False

    def command(self) -> str:
        """Return the command.

        Raises:
            UsageError: A label or a rate that the server does not take.
        """
        if not _LABEL.fullmatch(self.label):
            raise UsageError(f"label {self.label[:40]!r}: printable ASCII without a quote, at most 1,000 characters")
        asked = [
            f"LABEL '{self.label}'",
            f"CHECKPOINT '{'fast' if self.fast_checkpoint else 'spread'}'",
            "PROGRESS true",
            "TABLESPACE_MAP true",
            "WAIT false",  # what WAL is needed is known from the manifest, and is saved by ourselves
            "MANIFEST 'yes'",
            "MANIFEST_CHECKSUMS 'CRC32C'",
            f"VERIFY_CHECKSUMS {'true' if self.verify_checksums else 'false'}",
        ]
        if self.max_rate_bytes_s is not None:
            rate_kib = self.max_rate_bytes_s // 1024
            if rate_kib not in _MAX_RATE_KIB:
                raise UsageError(f"rate {self.max_rate_bytes_s} bytes/s: the server takes 32 KiB/s to 1 GiB/s")
            asked.append(f"MAX_RATE {rate_kib}")
        if self.incremental:
            asked.append("INCREMENTAL")
        return f"BASE_BACKUP ({', '.join(asked)})"


class BaseBackupConsumer(Protocol):
    """Takes a base backup apart. Called from one thread, in the order of the stream; the views end with the call."""

    def archive(self, name: str, location: str) -> None:
        """Begin an archive: `base.tar`, or `<oid>.tar` of the tablespace at `location`. The one before is whole."""

    def archive_data(self, data: memoryview) -> None:
        """Take bytes of the archive."""

    def manifest(self) -> None:
        """Begin the manifest. The last archive is whole."""

    def manifest_data(self, data: memoryview) -> None:
        """Take bytes of the manifest."""

    def progress(self, done_bytes: int) -> None:
        """Learn how much the server has read."""


@dataclass(frozen=True, slots=True)
class CorruptPage:
    """A page that the server found damaged while it read.

    Attributes:
        path: The file, relative to the data folder.
        block: Number of the page in that file, from 0.
    """

    path: str
    block: int


@dataclass(frozen=True, slots=True)
class BaseBackupResult:
    """What the server said of the source.

    Attributes:
        corrupt_pages: As it named them; at most five of a file.
        is_corrupt: Whether it found any damage, also such as it did not name.
        notices: Its other warnings, one line each.
    """

    corrupt_pages: tuple[CorruptPage, ...]
    is_corrupt: bool
    notices: tuple[str, ...]


def take_base_backup(
    session: ReplicationSession,
    options: BaseBackupOptions,
    consumer: BaseBackupConsumer,
    *,
    base_manifest: BinaryIO | None = None,
    stop: threading.Event | None = None,
) -> BaseBackupResult:
    """Stream a base backup into a consumer.

    Damaged pages do not end it: everything arrives before the server says so, and the caller keeps it as suspect. A
    consumer may be slow: the server waits. After an error the session is of no use, and is closed.

    Args:
        session: The connection; nothing else uses it meanwhile.
        options: What is asked for.
        consumer: Takes the stream; what it raises ends the backup, and is raised here.
        base_manifest: Of the backup that an incremental one compares with.
        stop: Ends the backup with the next message.

    Raises:
        InterruptedRunError: `stop` was set.
        PostgresIncrementalRefusedError: The server cannot compare with that manifest.
        PostgresUnavailableError, PostgresError: As the server says.
        SourceFormatError: The stream is not as the protocol has it, or ended early.
    """
    command = options.command()
    if options.incremental and session.version < _FIRST_INCREMENTAL:
        raise PostgresIncrementalRefusedError(
            f"postgres {session.target.label}: version {session.version // 10000} makes no incremental backups, 17 does"
        )
    notices = _Notices()
    session.connection.notices = notices  # type: ignore[assignment]  # psycopg2 asks for append() only
    messages = _Messages(consumer, stop)
    is_corrupt = False
    try:
        with server_errors(session.target.label), session.connection.cursor() as cursor:
            if base_manifest is not None:
                cursor.copy_expert("UPLOAD_MANIFEST", base_manifest)
            try:
                cursor.copy_expert(command, messages)
            except psycopg2.Error as error:
                # The server reports damaged pages by an error at the very end, behind the manifest.
                if error.pgcode != _DATA_CORRUPTED or not messages.has_manifest:
                    raise
                is_corrupt = True
                session.show("server_version")  # psycopg2 hands out the notices of a failed command with the next one
    except BaseException:
        session.close()
        raise
    if not messages.has_manifest:
        raise SourceFormatError(f"postgres {session.target.label}: the base backup ended without a manifest")
    return BaseBackupResult(tuple(notices.pages), is_corrupt or bool(notices.pages), tuple(notices.others))


class _Messages:
    """Stands where psycopg2 wants a file: each `write` is one message of the COPY."""

    def __init__(self, consumer: BaseBackupConsumer, stop: threading.Event | None) -> None:
        self._consumer = consumer
        self._stop = stop
        self._data = self._nowhere
        self.has_manifest = False

    def write(self, message: bytes) -> int:
        if self._stop is not None and self._stop.is_set():
            raise InterruptedRunError("base backup: stopped by request", reason="stopped by request")
        kind = message[:1]
        if kind == b"d":
            self._data(memoryview(message)[1:])
        elif kind == b"p":
            self._consumer.progress(int.from_bytes(message[1:9], "big"))
        elif kind == b"n" and not self.has_manifest:
            name, _, rest = message[1:].partition(b"\0")
            self._consumer.archive(name.decode("utf-8", "replace"), rest.partition(b"\0")[0].decode("utf-8", "replace"))
            self._data = self._consumer.archive_data
        elif kind == b"m" and not self.has_manifest:
            self.has_manifest = True
            self._consumer.manifest()
            self._data = self._consumer.manifest_data
        else:
            raise SourceFormatError(f"base backup: unexpected message {kind!r}")
        return len(message)

    @staticmethod
    def _nowhere(data: memoryview) -> None:
        raise SourceFormatError(f"base backup: {len(data)} bytes before the first archive")


class _Notices:
    """Stands where psycopg2 keeps the server's notices: sorts them, and keeps a bounded number."""

    def __init__(self) -> None:
        self.pages: list[CorruptPage] = []
        self.others: list[str] = []

    def append(self, notice: str) -> None:
        found = _CORRUPT_PAGE.search(notice)
        if found is not None and len(self.pages) < _MAX_NOTICES:
            self.pages.append(CorruptPage(found[1], int(found[2])))
        elif found is None and len(self.others) < _MAX_NOTICES:
            self.others.append(" ".join(notice.split())[:MAX_TEXT])
