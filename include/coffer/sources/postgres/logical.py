"""Back up databases by their content: the schema by pg_dump, the data of tables by COPY, all of one moment.

Nothing is written to a disk but sealed chunks: programs write into pipes. What the parts are, and why pg_dump does not
write the data itself: docs/adr/0033.
"""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

from coffer.chunking.cutter import Cutter
from coffer.errors import InterruptedRunError, UsageError
from coffer.errors_postgres import PostgresVersionError
from coffer.postgres.logical_facts import RECORD_NAME, LogicalFacts
from coffer.postgres.logical_record import DatabaseRecord
from coffer.postgres.lsn import Lsn
from coffer.postgres.programs import Programs, find_programs
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.repository.snapshot import refuse_many_words
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.result import BackupResult, SourceWarning, WarningLog
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.logical_catalog import HeldDatabase, Moment, may_read_passwords, server_version
from coffer.sources.postgres.logical_choice import Choice
from coffer.sources.postgres.logical_copy import CopySession
from coffer.sources.postgres.logical_pool import Piece, Reading, ReadingPool
from coffer.sources.postgres.logical_schema import (
    globals_reading,
    list_archive,
    require_same_tables,
    schema_readings,
)
from coffer.sources.postgres.logical_spec import LogicalOptions, LogicalSource
from coffer.sources.postgres.logical_tree import Before, TreeWriter

OLDEST_VERSION = 120000  # generated columns and pg_partition_ancestors, that the questions ask about, came with it
_NO_PASSWORDS = "saved without the roles' passwords, which this role may not read"


def dump_database(
    repo: Repository,
    source: LogicalSource,
    *,
    options: LogicalOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> BackupResult:
    """Take one logical backup: of each database all tables of one moment, with schema, sequences and large objects.

    Safe to repeat. On return the snapshot is committed: it and all it needs are durable. Databases are read one after
    another, each of its own moment. The value of a sequence is at least what the rows of that moment have.

    Args:
        repo: The repository.
        source: What to back up.
        options: How.
        progress: Counters to keep up to date; a file is a table, or a part of the schema.
        stop: Once set, the run ends.

    Returns:
        What was done. Its warnings are those of pg_dump, and what could not be taken.

    Raises:
        UsageError: Before anything was stored: a pattern is none, no table fits, a program is missing or too old.
        PostgresVersionError: The server is older than 12.
        PostgresError, PostgresUnavailableError: The server refuses or does not answer; nothing was committed, chunks
            stored so far are found by the next run.
        SourceFormatError: pg_dump and we disagree about the tables; nothing was committed.
        InterruptedRunError: `stop` was set, or the deadline came; nothing was committed.
        BackendError, TransientError: The store failed; nothing was committed.
        LeaseLostError: The writer was revoked; nothing was committed.
    """
    choice = Choice.of(source)
    refuse_many_words(source.name, (options and options.host) or "", source.database_names, source.tags)
    version = server_version(replace(source.connection, dbname=source.database_names[0]))
    if version < OLDEST_VERSION:
        raise PostgresVersionError(
            f"postgres {source.connection.label}: version {version // 10000} is older than 12",
            hint="Upgrade the server, or run pg_dump by hand and back its file up.",
            version=version,
        )
    names = ("pg_dump", "pg_restore", "psql", *(("pg_dumpall",) if source.roles else ()))
    programs = find_programs(names, at_least=version // 10000)
    run = _Run(repo, source, choice, options or LogicalOptions(), programs, progress or Progress(), stop)
    try:
        return run.execute(version)
    finally:
        run.close()


class _Run:
    """One backup: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        source: LogicalSource,
        choice: Choice,
        options: LogicalOptions,
        programs: Programs,
        progress: Progress,
        stop: threading.Event | None,
    ) -> None:
        self.repo, self.source, self.choice, self.options = repo, source, choice, options
        self.programs, self.progress, self.stop = programs, progress, stop
        self.warnings = WarningLog()
        self.notes: list[SourceWarning] = []  # what the role may never do: no reason to call each backup incomplete
        self.run = WriteRun(repo, source.name)
        previous = self.run.previous
        self.before = Before.of(repo, previous)
        if previous is not None:
            progress.bytes_total = previous.stats.get("size_bytes", 0)

    def close(self) -> None:
        """Stop the workers and give the lease back."""
        self.run.close()

    def execute(self, version: int) -> BackupResult:
        """Do it all; see `dump_database`."""
        options, repo = self.options, self.repo
        self.run.begin(WriteOptions(options.level, options.workers, options.pack_size_bytes))
        chunking = repo.settings.chunking
        tree = TreeWriter(
            self.run.writer,
            repo.keyring.ids,
            self.before,
            bundle_below_bytes=chunking.bundle_below_bytes,
            bundler=Bundler(self.run.writer, chunking),
            time_ns=self.run.started_ns,
            progress=self.progress,
        )
        first: DatabaseRecord | None = None
        for name in self.source.database_names:
            self.progress.phase = f"reading {name}"
            record = self._dump(tree, replace(self.source.connection, dbname=name), with_globals=first is None)
            first = first or record
        assert first is not None  # there is one database at least
        self.progress.phase = "committing"
        return self._commit(tree, first, version)

    # ----------------------------------------------------------------------------------------------- one database

    def _dump(self, tree: TreeWriter, target: PostgresConnection, *, with_globals: bool) -> DatabaseRecord:
        with closing(HeldDatabase(target, self.choice, self.options.lock_wait_s)) as held:
            moment = held.hold()
            if self.choice.tables and not moment.taken:
                shown = ", ".join(map(repr, self.source.tables))
                raise UsageError(
                    f"database {target.dbname!r}: no table fits {shown}",
                    hint="Patterns are seen whole, and capitals count: 'public.orders', 'audit_*', '\"Odd Name\"'.",
                )
            for text in moment.skipped:
                self.warnings.add(moment.record.folder.encode(), "skipped", text)
            readings = self._readings(target, moment, with_globals=with_globals)
            self.progress.files_total += len(readings) + 1
            schema, rows = self._read(tree, target, moment, readings)
        entries = list_archive(self.programs.path("pg_restore"), schema, f"database {target.dbname!r}")
        require_same_tables(entries, moment)
        return self._write_record(tree, moment.record, rows)

    def _readings(self, target: PostgresConnection, moment: Moment, *, with_globals: bool) -> list[Reading]:
        """Return what is to be read: pg_dump's parts first, then the tables, the largest first."""
        record = moment.record
        readings = schema_readings(self.programs, target, moment, self.choice, self.options.lock_wait_s)
        if with_globals and self.source.roles:
            passwords = may_read_passwords(target)
            readings.append(globals_reading(self.programs, target, passwords=passwords))
            if not passwords:
                self.notes.append(SourceWarning(readings[-1].path, "no-passwords", _NO_PASSWORDS))
        tables = sorted(record.tables, key=lambda table: (-moment.sizes[table.oid], table.oid))
        readings += [
            Reading(
                f"{record.folder}/{table.file_name}".encode(),
                f"table {table.label}",
                statement=table.copy_out(record.encoding),
            )
            for table in tables
        ]
        return readings

    def _read(
        self, tree: TreeWriter, target: PostgresConnection, moment: Moment, readings: list[Reading]
    ) -> tuple[bytes, dict[bytes, int]]:
        """Read it all into the tree; return the schema's archive, and the rows of each table's file."""
        chunking, seed = self.repo.settings.chunking, self.repo.keyring.ids.chunker_seed
        psql, wait_s = self.programs.path("psql"), self.options.lock_wait_s
        pool = ReadingPool(
            readings,
            max(self.source.jobs, 1),
            label=target.label,
            open_session=lambda: CopySession(psql, target, moment.record.version, moment.snapshot, wait_s),
            make_cutter=lambda: Cutter(chunking, seed),
        )
        schema: list[bytes] = []
        rows: dict[bytes, int] = {}
        with closing(pool):
            for piece in pool.pieces(self._tick):
                path = piece.reading.path
                self.progress.current = path
                if piece.data is None:
                    tree.finish(path)
                    rows[path] = piece.rows
                    self._warn(piece)
                else:
                    tree.add(path, piece.data)
                    if piece.reading is readings[0]:
                        schema.append(piece.data)
        return b"".join(schema), rows

    def _warn(self, piece: Piece) -> None:
        for text in piece.warnings:
            self.warnings.add(piece.reading.path, "pg-dump", text)

    def _write_record(self, tree: TreeWriter, record: DatabaseRecord, rows: dict[bytes, int]) -> DatabaseRecord:
        tables = []
        for table in record.tables:
            path = f"{record.folder}/{table.file_name}".encode()
            tables.append(replace(table, rows=rows[path], size_bytes=tree.sizes[path]))
        record = replace(record, tables=tuple(tables))
        tree.add_long(record.folder.encode() + b"/" + RECORD_NAME, record.encode())
        return record

    def _tick(self) -> None:
        """Keep the lease, and end where that was asked for."""
        self.run.keep_lease()
        reason = ""
        if self.stop is not None and self.stop.is_set():
            reason = "stopped by request"
        elif self.options.deadline_s is not None and self.repo.clock.monotonic_s() >= self.options.deadline_s:
            reason = "the time given to it is over"
        if reason:
            raise InterruptedRunError(
                f"logical backup of {self.source.name!r}: {reason}",
                hint="Run it again: it reads everything anew, for a moment does not last; stored chunks are found.",
                reason=reason,
            )

    # ----------------------------------------------------------------------------------------------- the end

    def _commit(self, tree: TreeWriter, first: DatabaseRecord, version: int) -> BackupResult:
        draft = tree.draft()
        root = draft.finish(self.repo.index(), self.before.manifest, self.run.lease.sequence)
        facts = LogicalFacts(
            version=version,
            lsn=Lsn.parse(first.lsn),
            databases=len(self.source.database_names),
            dump_version=self.programs.version,
            whole=self.choice.is_everything,
        )
        stats = tree.stats()
        committed, concerns = self.run.commit(
            root,
            stats={**stats, "read_bytes": stats["size_bytes"]},
            paths=self.source.database_names,
            tags=self.source.tags,
            host=self.options.host,
            warnings_count=self.warnings.total,
            facts=facts.to_snapshot(),
            parent=self.run.previous,
        )
        return BackupResult(committed, committed.stats, (*self.notes, *self.warnings.kept), concerns)
