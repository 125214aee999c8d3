"""Which blocks a native incremental backup must hold, by the server's own summaries of its WAL.

The server merges its summaries itself and sends what it found. On some minor versions it loses blocks doing so, and
takes pages that a truncation removed for unchanged ones (docs/adr/0034). So the summaries are merged here a second
time, in the order of the log.

Source: PostgreSQL documentation, "WAL Summarization Functions", and `src/common/blkreftable.c`,
`src/backend/postmaster/walsummarizer.c`, `src/backend/access/heap/visibilitymap.c` (17, 18).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import SourceFormatError
from coffer.errors_postgres import PostgresIncrementalAuditError, PostgresIncrementalRefusedError
from coffer.postgres.lsn import Lsn
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import SEGMENT_PAGES, RelationFile
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.incremental_file import IncrementalHeader

_FORKS = {"main": 0, "fsm": 1, "vm": 2, "init": 3}
_DEFAULT_TABLESPACE, _GLOBAL_TABLESPACE = 1663, 1664  # their OIDs in every cluster
# A page of the visibility map has two bits for each page of the heap, behind a header of 24 bytes.
_HEAP_PAGES_A_MAP_PAGE = (PAGE_BYTES - 24) * 4
NO_LIMIT = 1 << 32  # blocks: no relation is as long

_CHECKPOINT = "SELECT timeline_id, redo_lsn FROM pg_control_checkpoint()"
_SUMMARIES = """
    SELECT start_lsn, end_lsn FROM pg_available_wal_summaries()
    WHERE tli = %s AND start_lsn < %s::pg_lsn AND end_lsn > %s::pg_lsn ORDER BY start_lsn, end_lsn"""
_LIMITS = """
    SELECT reltablespace::bigint, reldatabase::bigint, relfilenode::bigint, relforknumber, min(relblocknumber)
    FROM pg_wal_summary_contents(%(timeline)s, %(start)s, %(end)s) WHERE is_limit_block GROUP BY 1, 2, 3, 4"""
# One row for each file: its blocks as an array, so that a million blocks are some hundred rows of 1 MiB at the most.
_BLOCKS = """
    COPY (SELECT reltablespace, reldatabase, relfilenode, relforknumber, (relblocknumber / %(pages)s)::int4,
                 array_agg((relblocknumber %% %(pages)s)::int4)
          FROM pg_wal_summary_contents(%(timeline)s, %(start)s, %(end)s)
          WHERE NOT is_limit_block GROUP BY 1, 2, 3, 4, 5)
    TO STDOUT (FORMAT binary)"""


class Fork(NamedTuple):
    """A fork of a relation, as summaries name it: OIDs of tablespace and database, number of the file, and fork."""

    tablespace: int
    database: int
    relation: int
    fork: int

    @classmethod
    def of(cls, file: RelationFile) -> Fork:
        """Return the fork that a file of a data folder belongs to."""
        tablespace = file.tablespace or (_DEFAULT_TABLESPACE if file.database else _GLOBAL_TABLESPACE)
        return cls(tablespace, file.database, file.relation, _FORKS[file.fork])


class _Changes:
    """Of one fork: how short it was at its shortest, and which blocks changed since. One bit for each block."""

    __slots__ = ("files", "limit")

    def __init__(self) -> None:
        self.limit = NO_LIMIT
        self.files: dict[int, int] = {}  # number of the file (of 1 GiB) -> its blocks as bits

    def cut(self, limit: int) -> None:
        """The fork was cut to `limit` blocks: what changed beyond is gone."""
        self.limit = min(self.limit, limit)
        for segment in list(self.files):
            room = limit - segment * SEGMENT_PAGES
            if room <= 0:
                del self.files[segment]
            elif room < SEGMENT_PAGES:
                self.files[segment] &= (1 << room) - 1


class ExpectedChanges:
    """What summaries say, merged in the order of the log. Needs a bit for each block up to the last that changed."""

    def __init__(self) -> None:
        self._forks: dict[Fork, _Changes] = {}
        self._made_anew: set[tuple[int, int]] = set()

    def cut(self, fork: Fork, limit: int) -> None:
        """Take a limit: the fork had `limit` blocks and no more at some time. File 0 stands for a whole database."""
        if not fork.relation:
            self._made_anew.add((fork.tablespace, fork.database))
        self._forks.setdefault(fork, _Changes()).cut(limit)

    def add(self, fork: Fork, segment: int, blocks: npt.NDArray[np.integer]) -> None:
        """Take blocks of one file that changed, counted from its begin; not empty."""
        files = self._forks.setdefault(fork, _Changes()).files
        files[segment] = files.get(segment, 0) | _bits(blocks)

    def limit_of(self, file: RelationFile) -> int:
        """Return from which block on the file has nothing of its old content [blocks from its begin].

        The summaries of PostgreSQL 17 and 18 give a visibility map the limit of its heap, in blocks of the heap: so
        the map's own is made of that. A page of it that becomes zero costs time and is never wrong.
        """
        fork = Fork.of(file)
        limit = self._limit(fork)
        if file.fork == "vm":
            limit = min(limit, -(-self._limit(fork._replace(fork=_FORKS["main"])) // _HEAP_PAGES_A_MAP_PAGE))
        return min(max(limit - file.first_block, 0), SEGMENT_PAGES)

    def _limit(self, fork: Fork) -> int:
        found = self._forks.get(fork)
        return NO_LIMIT if found is None else found.limit

    def check(self, path: bytes, file: RelationFile, header: IncrementalHeader) -> None:
        """Make sure that a file of changed blocks has all that must be in it.

        Blocks from the length that the server saw on need not be: the file was cut again while it was read, and the
        backup's own WAL says so.

        Raises:
            PostgresIncrementalAuditError: A block is missing, or the whole file should have come.
        """
        fork = Fork.of(file)
        if (fork.tablespace, fork.database) in self._made_anew:
            raise PostgresIncrementalAuditError(f"{path!r}: its database was made anew, and only changes were sent")
        found = self._forks.get(fork)
        expected = 0 if found is None else found.files.get(file.segment, 0)
        expected &= (1 << header.truncation_blocks) - 1
        if not expected:
            return
        missing = expected & ~(_bits(header.blocks) if len(header.blocks) else 0)
        if missing:
            first = file.first_block + (missing & -missing).bit_length() - 1
            raise PostgresIncrementalAuditError(
                f"{path!r}: {missing.bit_count()} changed blocks were not sent, block {first} is the first",
                blocks=missing.bit_count(),
            )


def _bits(blocks: npt.NDArray[np.integer]) -> int:
    """Return block numbers as bits."""
    flags = np.zeros(int(blocks.max()) + 1, np.uint8)
    flags[blocks] = 1
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def read_checkpoint(connection: SqlConnection, label: str) -> tuple[int, Lsn]:
    """Return (timeline, redo position) of the last checkpoint: where a backup begins that starts now."""
    with server_errors(label), connection.cursor() as cursor:
        cursor.execute(_CHECKPOINT)
        timeline, redo = cursor.fetchone() or (0, "0/0")
    return int(timeline), Lsn.parse(redo)


def read_changes(
    connection: SqlConnection, label: str, timeline: int, after: Lsn, before: Lsn, check: Callable[[], None]
) -> tuple[ExpectedChanges, int]:
    """Return what changed between two positions of the log, by the server's summaries.

    Args:
        connection: For SQL, in autocommit.
        label: The cluster, for messages.
        timeline: On which both lie.
        after: Where the earlier backup began.
        before: Where this backup begins.
        check: Called between two summaries; may raise.

    Returns:
        (the changes, how much the server sent for them [bytes]).

    Raises:
        PostgresIncrementalRefusedError: The summaries do not cover all of it, or more.
        PostgresError, PostgresUnavailableError: As the server says.
        SourceFormatError: It answers in another form.
    """
    changes = ExpectedChanges()
    rows = _BlockRows(changes)
    with server_errors(label), connection.cursor() as cursor:
        cursor.execute(_SUMMARIES, [timeline, str(before), str(after)])
        summaries = [(Lsn.parse(start), Lsn.parse(end)) for start, end in cursor.fetchall()]
        require_whole(summaries, after, before, label)
        for start, end in summaries:
            check()
            which = {"timeline": timeline, "start": str(start), "end": str(end), "pages": SEGMENT_PAGES}
            cursor.execute(_LIMITS, which)
            for *fork, limit in cursor:
                changes.cut(Fork(*map(int, fork)), int(limit))
            rows.begin()
            cursor.copy_expert(cursor.mogrify(_BLOCKS, which), rows)
    return changes, rows.bytes


def require_whole(summaries: list[tuple[Lsn, Lsn]], after: Lsn, before: Lsn, label: str) -> None:
    """Make sure that summaries (start, end), in the order of the log, cover a range without a gap.

    Raises:
        PostgresIncrementalRefusedError: They do not, or the last one goes on beyond the range: it would name blocks
            and cuts of later.
    """
    reached = after
    for start, end in summaries:
        if start > reached:
            break
        reached = max(reached, end)
    if reached < before:
        raise PostgresIncrementalRefusedError(
            f"postgres {label}: its WAL summaries end at {reached}, the backup begins at {before}",
            hint="Is summarize_wal on, and wal_summary_keep_time longer than the time between two backups?",
        )
    if reached > before:
        raise PostgresIncrementalRefusedError(
            f"postgres {label}: a WAL summary ends at {reached}, behind the backup's begin at {before}"
        )


_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(_SIGNATURE) + 8
# Count of the fields; each behind its length: three OIDs, the fork, the number of the file; then the array's head:
# dimensions, flags, type, count, first index.
_ROW = struct.Struct(">h iI iI iI ih ii i iiIii")
_ROW_LENGTHS = (6, 4, 4, 4, 2, 4)
_ARRAY_HEAD_BYTES = 20
_END = struct.pack(">h", -1)


class _BlockRows:
    """Stands where psycopg2 wants a file: each `write` is one message of a binary COPY of `_BLOCKS`.

    Source: PostgreSQL documentation, "COPY", "Binary Format"; `src/backend/utils/adt/arrayfuncs.c` (array_send).
    """

    def __init__(self, changes: ExpectedChanges) -> None:
        self._changes = changes
        self._is_begun = False
        self.bytes = 0

    def begin(self) -> None:
        """Expect the begin of another COPY."""
        self._is_begun = False

    def write(self, message: bytes) -> int:
        self.bytes += len(message)
        at = 0
        if not self._is_begun:
            if not message.startswith(_SIGNATURE) or len(message) < _HEADER_BYTES:
                raise _unreadable("no binary COPY")
            self._is_begun = True
            at = _HEADER_BYTES + int.from_bytes(message[_HEADER_BYTES - 4 : _HEADER_BYTES], "big")
        while at < len(message) and message[at : at + 2] != _END:
            at = self._row(message, at)
        return len(message)

    def _row(self, message: bytes, at: int) -> int:
        """Take one row; return where it ends."""
        try:
            fields = _ROW.unpack_from(message, at)
        except struct.error:
            raise _unreadable("a row is cut short") from None
        tablespace, database, relation, fork, segment = fields[2:11:2]
        count: int = fields[15]
        begin = at + _ROW.size
        if (fields[0], *fields[1:11:2]) != _ROW_LENGTHS:
            raise _unreadable("a row of other fields")
        if count < 1 or fields[11] != _ARRAY_HEAD_BYTES + 8 * count or begin + 8 * count > len(message):
            raise _unreadable("an array of another length")
        # Of each number its length, which is 4, and itself.
        blocks = np.frombuffer(message, ">i4", 2 * count, begin)[1::2].astype(np.int64)
        if segment < 0 or int(blocks.min()) < 0 or int(blocks.max()) >= SEGMENT_PAGES:
            raise _unreadable("a block beyond the end of a file")
        self._changes.add(Fork(tablespace, database, relation, fork), segment, blocks)
        return begin + 8 * count


def _unreadable(what: str) -> SourceFormatError:
    return SourceFormatError(f"WAL summaries as the server sends them: {what}")
