"""pg_dump's part of a logical backup: everything but the tables' data; and the proof that we and it see the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from coffer.errors import SourceFormatError, UsageError
from coffer.postgres.archive_list import ArchiveEntry, oids_of_tables, parse_list
from coffer.postgres.children import conninfo, environment, in_memory, started
from coffer.postgres.logical_facts import GLOBALS_NAME, LARGE_OBJECTS_NAME, SCHEMA_NAME
from coffer.postgres.names import quoted_name
from coffer.postgres.programs import Programs
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.logical_catalog import Moment
from coffer.sources.postgres.logical_choice import Choice
from coffer.sources.postgres.logical_pool import Reading
from coffer.sources.postgres.program_failures import program_failure

# What the names of tables may take of a command line [bytes]: Linux gives a program a quarter of its stack, 2 MiB.
_MAX_ARGUMENTS_BYTES = 1_000_000
_ARCHIVE = ("--format=custom", "--compress=0")


def schema_readings(
    programs: Programs, target: PostgresConnection, moment: Moment, choice: Choice, lock_wait_s: int
) -> list[Reading]:
    """Return what pg_dump reads of one database, within the held snapshot.

    The schema is one archive of the sections before and after the data. Large objects are another one: its section of
    data, with the data of every table left out.

    Raises:
        UsageError: The tables that were chosen or left out are more than a command line holds.
    """
    folder = moment.record.folder.encode()
    parameters = target.parameters()
    common: list[str | Path] = [
        programs.path("pg_dump"),
        *_ARCHIVE,
        f"--snapshot={moment.snapshot}",
        f"--lock-wait-timeout={lock_wait_s * 1000}",
        "--no-password",
        f"--dbname={conninfo(parameters)}",
    ]
    given = environment(parameters)
    what = f"database {target.dbname!r}"
    sections = ("--section=pre-data", "--section=post-data")
    command = [*common, *sections, *_names(moment, choice)]
    readings = [Reading(folder + b"/" + SCHEMA_NAME, what, command=command, environment=given)]
    if moment.record.large_objects:
        command = [*common, "--section=data", "--exclude-table-data=*.*"]
        path = folder + b"/" + LARGE_OBJECTS_NAME
        readings.append(Reading(path, f"large objects of {what}", command=command, environment=given))
    return readings


def globals_reading(programs: Programs, target: PostgresConnection, *, passwords: bool) -> Reading:
    """Return how roles and tablespaces of the server are read."""
    parameters = target.parameters()
    command: list[str | Path] = [
        programs.path("pg_dumpall"),
        "--globals-only",
        "--no-password",
        f"--dbname={conninfo(parameters)}",
        f"--database={target.dbname}",
    ]
    if not passwords:
        command.append("--no-role-passwords")
    return Reading(GLOBALS_NAME, "roles and tablespaces", command=command, environment=environment(parameters))


def _names(moment: Moment, choice: Choice) -> list[str]:
    """Return pg_dump's options for the tables that were chosen or left out: each by its full name, nothing to match."""
    word, names = ("table", moment.taken) if choice.tables else ("exclude-table", moment.left_out)
    options = [f"--{word}={quoted_name(*name)}" for name in names]
    if sum(len(option.encode()) + 1 for option in options) > _MAX_ARGUMENTS_BYTES:
        raise UsageError(
            f"{len(names)} tables are chosen or left out: more than a command line of pg_dump holds",
            hint="Back the whole database up; the data of tables can be left out with --exclude-table-data.",
        )
    return ["--encoding=UTF8", *options] if options else []


def list_archive(pg_restore: Path, archive: bytes, what: str) -> list[ArchiveEntry]:
    """Return the entries of a schema archive.

    Raises:
        PostgresError: pg_restore cannot read it.
    """
    fd = in_memory(archive)
    try:
        with started([pg_restore, "--list", "--verbose"], environment({}), stdin=fd) as child:
            assert child.stdout is not None  # a pipe by default
            with closing(child.stdout):
                text = child.stdout.read().decode("utf-8", "replace")
            if code := child.wait():
                raise program_failure(child.name, code, child.lines, "archive", what)
    finally:
        os.close(fd)
    return parse_list(text)


def require_same_tables(entries: Sequence[ArchiveEntry], moment: Moment) -> None:
    """Compare the tables that pg_dump wrote down with those whose data was read.

    They are found by two programs with the same rules. Where they differ, a restore would lack data or a table.

    Raises:
        SourceFormatError: They differ; nothing is committed.
    """
    made = oids_of_tables(entries)
    if made == moment.defined:
        return
    odd = sorted(made ^ moment.defined)
    raise SourceFormatError(
        f"database {moment.record.name!r}: pg_dump has {len(made)} tables and Coffer {len(moment.defined)}; the first"
        f" that only one of them has is of oid {odd[0]}",
        hint="This is a mistake in Coffer: please report it, with the definition of that table.",
        oids=odd[:100],
    )
