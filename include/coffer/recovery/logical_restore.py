"""Load a logical backup: a database into a new one, of the same or a newer version, or some of its tables.

In the order of pg_restore: the schema before the data, the data, the values of sequences, the schema after the data. On
the way nothing is written to a disk of this machine.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from coffer.errors import CofferError, RestoreTargetError, UsageError
from coffer.postgres.archive_list import entries_of
from coffer.postgres.logical_facts import GLOBALS_NAME, LARGE_OBJECTS_NAME, SCHEMA_NAME
from coffer.postgres.logical_record import DatabaseRecord
from coffer.postgres.programs import find_programs
from coffer.progress import Progress
from coffer.recovery.logical_archive import LogicalArchive
from coffer.recovery.logical_programs import POST_DATA, PRE_DATA, Client
from coffer.recovery.logical_rows import RowLoader, Task
from coffer.recovery.logical_selection import Selection, select, through_chosen_roots
from coffer.recovery.logical_target import Target
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.sources.postgres.connection import PostgresConnection


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What to load, and how.

    Attributes:
        database: Name in the snapshot; may be left out where there is one.
        into: Name of the database to load into; "" for the name that it had.
        tables: Patterns (`coffer.postgres.names.TablePattern`): only these tables, into a database that exists.
        data_only: Put rows into tables that are there and empty.
        roles: Make the server's roles and tablespaces first.
        owner: Give everything the owner that it had; else it belongs to the role that loads.
        privileges: Grant what was granted.
        jobs: Tables, and indexes, at a time.
    """

    database: str = ""
    into: str = ""
    tables: tuple[str, ...] = ()
    data_only: bool = False
    roles: bool = False
    owner: bool = True
    privileges: bool = True
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did.

    Attributes:
        snapshot: That was loaded.
        database: Its name in the snapshot.
        into: The database that it was loaded into.
        tables: How many tables have data.
        rows: Of all of them.
        size_bytes: Of all their data, as COPY has it [bytes].
        created: Whether the database was made.
        notes: What people should know: roles that were there already, settings that were not taken over.
    """

    snapshot: Snapshot
    database: str
    into: str
    tables: int
    rows: int
    size_bytes: int
    created: bool
    notes: tuple[str, ...] = field(default=())


def load_database(
    repo: Repository,
    snapshot: Snapshot,
    server: PostgresConnection,
    *,
    options: LoadOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> LoadResult:
    """Load a database of a logical backup, or some tables of it.

    Args:
        repo: The repository.
        snapshot: A logical backup.
        server: Where to; its `dbname` is any database that exists.
        options: What, and how.
        progress: Counters to keep up to date.
        stop: Once set, the load ends where it stands.

    Raises:
        UsageError, PathNotInSnapshotError: Nothing was written: no logical backup, no such database or table, a program
            is missing.
        RestoreTargetError: Nothing was written: the server is older, the database is not empty, a table is there.
        PostgresError, PostgresUnavailableError: A statement failed; the message has it. What was loaded stays.
        RestoreError: A table got another number of rows than the backup has; as above.
        ObjectCorruptError, ChunkMissingError: What is stored is damaged; as above.
        InterruptedRunError: As above.
    """
    options = options or LoadOptions()
    archive = LogicalArchive(repo, snapshot, stop)
    record = archive.record(chosen_database(archive, options.database))
    selection = through_chosen_roots(select(record, options.tables))
    load = _Load(archive, record, selection, server, options, progress or Progress(), stop)
    load.check()
    try:
        return load.carry_out()
    except CofferError as error:
        if load.created:
            error.hint = (
                f"Database {load.target.name!r} is incomplete now: drop it before it is loaded anew. {error.hint}"
            )
        raise


def chosen_database(archive: LogicalArchive, name: str) -> str:
    """Return the database that is meant.

    Raises:
        UsageError: None is named, and there are several.
    """
    if not name and len(archive.databases) != 1:
        raise UsageError(
            f"snapshot {archive.snapshot.id}: has {len(archive.databases)} databases",
            hint=f"Give --database: {', '.join(archive.databases)}.",
        )
    return name or archive.databases[0]


class _Load:
    """One load: its state, and its steps in the order of time."""

    def __init__(
        self,
        archive: LogicalArchive,
        record: DatabaseRecord,
        selection: Selection,
        server: PostgresConnection,
        options: LoadOptions,
        progress: Progress,
        stop: threading.Event | None,
    ) -> None:
        self.archive, self.record, self.selection, self.options = archive, record, selection, options
        self.progress, self.stop = progress, stop
        self.target = Target(server, options.into or record.name)
        oldest = max(archive.facts.dump_major, self.target.version // 10000)
        programs = find_programs(("pg_restore", "psql"), at_least=oldest)
        flags = [*([] if options.owner else ["--no-owner"]), *([] if options.privileges else ["--no-privileges"])]
        self.client = Client(programs, server.label, flags, stop)
        self.created = False
        self.notes: list[str] = []

    def check(self) -> None:
        """Refuse what cannot work; see `load_database`."""
        options, target = self.options, self.target
        major, source_major = target.version // 10000, self.record.version // 10000
        if major < source_major:
            raise RestoreTargetError(
                f"postgres {target.label}: version {major} is older than {source_major}, that of the backup",
                hint="Load it into a server of the same version or a newer one.",
            )
        if options.roles and not self.archive.has_roles:
            raise UsageError(
                f"snapshot {self.archive.snapshot.id}: has no roles", hint="Load without --roles; make them by hand."
            )
        is_part = bool(options.tables) or options.data_only or not self.record.whole
        if is_part and not target.exists:
            raise RestoreTargetError(
                f"database {target.name!r} of {target.label}: is not there",
                hint="Single tables go into a database that exists, with the types and functions that they need.",
            )
        if is_part:
            target.require_tables(self.selection, exist=options.data_only)
        elif target.exists:
            target.require_empty()

    def carry_out(self) -> LoadResult:
        """Do it all; see `load_database`."""
        options, selection = self.options, self.selection
        self.progress.files_total, self.progress.bytes_total = len(selection.tables), selection.size_bytes
        if options.roles:
            self.progress.phase = "making roles"
            there = self.client.restore_roles(self.archive.stream(GLOBALS_NAME), self.target.server)
            self.notes += [f"roles: {text}" for text in there]
        schema = b"" if options.data_only else self.archive.read(self._path(SCHEMA_NAME))
        numbers = self._entries(schema) if schema and not self._is_all else None
        if schema:
            self.progress.phase = "making tables"
            self._before_data(schema, numbers)
        self.progress.phase = "loading"
        loader = RowLoader(self.archive, self.record.folder, self.record.encoding, self.target, self.progress)
        loader.load(selection.tables, options.jobs, beside=self._beside())
        loader.set_sequences(selection.sequences)
        if schema:
            self.progress.phase = "making indexes"
            self.client.restore_section(schema, POST_DATA, self.target, numbers=numbers, jobs=options.jobs)
        return LoadResult(
            self.archive.snapshot,
            self.record.name,
            self.target.name,
            tables=len(selection.tables),
            rows=selection.rows,
            size_bytes=selection.size_bytes,
            created=self.created,
            notes=tuple(self.notes),
        )

    @property
    def _is_all(self) -> bool:
        """Whether every entry of the schema archive is wanted."""
        return self.selection.is_whole

    def _path(self, name: bytes) -> bytes:
        return self.record.folder.encode() + b"/" + name

    def _entries(self, schema: bytes) -> list[int]:
        """Return the numbers of the entries that make the chosen tables, with schemas that the target lacks."""
        missing = self.target.missing_schemas(self.selection.schemas)
        return entries_of(self.client.list_entries(schema), self.selection.objects, sorted(missing))

    def _before_data(self, schema: bytes, numbers: list[int] | None) -> None:
        """Make the database where it is missing, and all that the data needs."""
        create = False
        if not self.target.exists:
            self.created = True
            create = self.target.name == self.record.name
            if not create:
                self.target.create(self.record)
                self.notes += [f"setting {text} of the database was not taken over" for text in self.record.settings]
        self.client.restore_section(schema, PRE_DATA, self.target, numbers=numbers, create=create)

    def _beside(self) -> list[Task]:
        """Return what is loaded beside the tables: large objects, which one program writes."""
        if not self.record.large_objects or not self.selection.is_whole or self.options.data_only:
            return []
        stream = self.archive.stream(self._path(LARGE_OBJECTS_NAME))
        return [lambda: self.client.restore_large_objects(stream, self.target)]
