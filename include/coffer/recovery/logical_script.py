"""A logical backup as one SQL script, as pg_dump would have written it: for psql, for people, for other programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from coffer.errors import UsageError
from coffer.postgres.archive_list import entries_of
from coffer.postgres.logical_facts import GLOBALS_NAME, LARGE_OBJECTS_NAME, RECORD_NAME, SCHEMA_NAME
from coffer.postgres.logical_record import DatabaseRecord, SequenceRecord, TableRecord
from coffer.postgres.names import quoted_text
from coffer.postgres.programs import find_programs
from coffer.progress import Progress
from coffer.recovery.logical_archive import ContentStream, LogicalArchive
from coffer.recovery.logical_programs import DATA, POST_DATA, PRE_DATA, Client
from coffer.recovery.logical_restore import LoadOptions, LoadResult, chosen_database
from coffer.recovery.logical_selection import Selection, select, through_chosen_roots
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore import RestoreOptions, RestoreResult, restore

_PIECE_BYTES = 1 << 20
_OUR_ENCODING = b"SET client_encoding = 'UTF8';\n"  # pg_dump's part has the database's; COPY names its own for the rows
Write = Callable[[bytes], object]


def write_script(
    repo: Repository,
    snapshot: Snapshot,
    write: Write,
    *,
    options: LoadOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> LoadResult:
    """Write a database of a logical backup, or some tables of it, as one script for psql.

    The script makes no database: it is to be run in an empty one. No server is asked.

    Args:
        repo: The repository.
        snapshot: A logical backup.
        write: Takes the script, piece by piece.
        options: What; `into` and `jobs` mean nothing here.
        progress: Counters to keep up to date.
        stop: Once set, the writing ends.

    Raises:
        UsageError, PathNotInSnapshotError: As `load_database`; nothing was written.
        ObjectCorruptError, ChunkMissingError: What is stored is damaged; the script ends in the middle.
        InterruptedRunError: As above.
    """
    options = options or LoadOptions()
    progress = progress or Progress()
    archive = LogicalArchive(repo, snapshot, stop)
    record = archive.record(chosen_database(archive, options.database))
    selection = through_chosen_roots(select(record, options.tables))
    if options.roles and not archive.has_roles:
        raise UsageError(f"snapshot {snapshot.id}: has no roles", hint="Write the script without --roles.")
    programs = find_programs(("pg_restore",), at_least=archive.facts.dump_major)
    flags = [*([] if options.owner else ["--no-owner"]), *([] if options.privileges else ["--no-privileges"])]
    client = Client(programs, "archive", flags, stop)
    progress.phase = "writing"
    progress.files_total, progress.bytes_total = len(selection.tables), selection.size_bytes
    for piece in _pieces(archive, record, selection, client, options, progress):
        write(piece)
    return _done(snapshot, record, selection)


def write_files(
    repo: Repository,
    snapshot: Snapshot,
    folder: Path,
    *,
    options: LoadOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> tuple[LoadResult, RestoreResult]:
    """Write the snapshot's own files of a database: archives for pg_restore, and a file of rows for each table.

    Args:
        repo: The repository.
        snapshot: A logical backup.
        folder: New or empty.
        options: What: the whole database, or the rows of some tables.
        progress: Counters to keep up to date.
        stop: Once set, the writing ends.

    Raises:
        UsageError, PathNotInSnapshotError, RestoreTargetError: Nothing was written.
    """
    options = options or LoadOptions()
    archive = LogicalArchive(repo, snapshot, stop)
    record = archive.record(chosen_database(archive, options.database))
    selection = select(record, options.tables)
    names = [record.folder, *([GLOBALS_NAME.decode()] if options.roles else [])]
    if options.tables:
        files = [table.file_name for table in selection.tables]
        names = [f"{record.folder}/{name}" for name in (RECORD_NAME.decode(), SCHEMA_NAME.decode(), *files)]
    wanted = RestoreOptions(paths=tuple(name.encode() for name in names), verify=True)
    restored = restore(repo, snapshot, folder, options=wanted, progress=progress, stop=stop)
    return _done(snapshot, record, selection), restored


def _done(snapshot: Snapshot, record: DatabaseRecord, selection: Selection) -> LoadResult:
    return LoadResult(
        snapshot,
        record.name,
        "",
        tables=len(selection.tables),
        rows=selection.rows,
        size_bytes=selection.size_bytes,
        created=False,
    )


def _pieces(
    archive: LogicalArchive,
    record: DatabaseRecord,
    selection: Selection,
    client: Client,
    options: LoadOptions,
    progress: Progress,
) -> Iterator[bytes]:
    folder = record.folder
    if options.roles:
        yield from _content(archive.stream(GLOBALS_NAME))
    yield b"\\set ON_ERROR_STOP on\n"  # roles may be there already; all else must not go on after an error
    schema = b"" if options.data_only else archive.read(f"{folder}/{SCHEMA_NAME.decode()}".encode())
    numbers = None
    if schema and not selection.is_whole:
        numbers = entries_of(client.list_entries(schema), selection.objects)
    if schema:
        yield from client.script(schema, ("--file=-", f"--section={PRE_DATA}"), numbers)
    yield _OUR_ENCODING
    for table in sorted(selection.tables, key=_load_order):
        progress.current = table.label.encode()
        yield from _table(archive, folder, record.encoding, table)
        progress.files_done += 1
        progress.bytes_done += table.size_bytes
    yield b"\n" + _OUR_ENCODING
    yield from map(_set_sequence, selection.sequences)
    if record.large_objects and selection.is_whole and not options.data_only:
        stream = archive.stream(f"{folder}/{LARGE_OBJECTS_NAME.decode()}".encode())
        yield from client.script(stream, ("--file=-", f"--section={DATA}"))
    if schema:
        yield from client.script(schema, ("--file=-", f"--section={POST_DATA}"), numbers)


def _load_order(table: TableRecord) -> tuple[bool, int, str, str]:
    """Tables of extensions come first, in the order of their foreign keys; the others by name."""
    return not table.extension, table.rank, table.schema, table.name


def _table(archive: LogicalArchive, folder: str, encoding: str, table: TableRecord) -> Iterator[bytes]:
    yield f"\n{table.copy_in(encoding)};\n".encode()
    yield from _content(archive.stream(f"{folder}/{table.file_name}".encode()))
    yield b"\\.\n"


def _content(stream: ContentStream) -> Iterator[bytes]:
    while data := stream.read(_PIECE_BYTES):
        yield data


def _set_sequence(sequence: SequenceRecord) -> bytes:
    called = "true" if sequence.is_called else "false"
    return f"SELECT pg_catalog.setval({quoted_text(sequence.label)}, {sequence.last_value}, {called});\n".encode()
