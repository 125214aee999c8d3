"""Databases to dump and load, and what is compared of them: what PostgreSQL's own pg_dump says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from coffer.backends.memory import MemoryBackend
from coffer.chunking.cutter import ChunkParams
from coffer.postgres.logical_facts import RECORD_NAME
from coffer.postgres.programs import VARIABLE
from coffer.recovery.logical_archive import LogicalArchive
from coffer.recovery.logical_restore import LoadOptions, LoadResult, load_database
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.logical import dump_database
from coffer.sources.postgres.logical_spec import LogicalOptions, LogicalSource
from tests.harness import nasty_schema
from tests.harness.postgres import Server, installations
from tests.harness.snapshots import KEY, SMALL_CHUNKS

_RESTRICT = re.compile(r"^\\(un)?restrict .*\n", re.MULTILINE)


def all_programs() -> str:
    """Return the folders of all programs that are here, as COFFER_PG_BIN names them."""
    return os.pathsep.join(str(installation.programs) for installation in installations())


PROGRAMS_VARIABLE = VARIABLE


def superuser(server: Server, dbname: str = "postgres") -> PostgresConnection:
    """Return how the superuser reaches a server: by its socket, without a password."""
    return PostgresConnection(host=str(server.home), port=server.port, user="postgres", dbname=dbname)


class Bench:
    """A repository in memory, and dumps and loads of it."""

    def __init__(self, chunking: ChunkParams = SMALL_CHUNKS) -> None:
        self.backend = MemoryBackend()
        self.repo = Repository.create(self.backend, KEY, chunking=chunking)

    def dump(self, server: Server, dbname: str, *, stop: Any = None, **source: Any) -> BackupResult:
        """Dump one database as the superuser; `source` are fields of `LogicalSource`."""
        connection = source.pop("connection", superuser(server, dbname))
        wanted = LogicalSource(source.pop("name", "db"), connection, **source)
        return dump_database(self.repo, wanted, options=LogicalOptions(workers=1, lock_wait_s=5), stop=stop)

    def load(self, server: Server, of: BackupResult | Snapshot, *, stop: Any = None, **options: Any) -> LoadResult:
        """Load as the superuser; `options` are fields of `LoadOptions`."""
        snapshot = of.snapshot if isinstance(of, BackupResult) else of
        return load_database(self.repo, snapshot, superuser(server), options=LoadOptions(**options), stop=stop)

    def archive(self, of: BackupResult) -> LogicalArchive:
        """Return a snapshot's files."""
        return LogicalArchive(self.repo, of.snapshot)

    def paths(self, of: BackupResult) -> list[str]:
        """Return the paths of all entries of a snapshot."""
        return [entry.path.decode() for entry in self.repo.manifest(of.snapshot).entries()]


def make_nasty(server: Server, name: str) -> None:
    """Make a database that has one of everything."""
    make_database(server, name, nasty_schema.statements(name))


def make_database(server: Server, name: str, statements: list[str]) -> None:
    """Make a database and fill it; what was of that name is dropped."""
    quoted = '"' + name.replace('"', '""') + '"'
    server.sql(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
    server.sql(f"CREATE DATABASE {quoted}")
    for statement in statements:
        server.sql(statement, dbname=name)


def dump_text(server: Server, dbname: str, *options: str) -> str:
    """Return what the server's own pg_dump says of a database, without what is random in it."""
    return _RESTRICT.sub("", server.must("pg_dump", *options, f"--dbname=dbname={_conninfo(dbname)}"))


def schema_text(server: Server, dbname: str) -> str:
    """Return the definition of everything in a database."""
    return dump_text(server, dbname, "--schema-only")


def content_lines(server: Server, dbname: str) -> list[str]:
    """Return all lines of a whole dump, sorted: rows, large objects, sequences; the order of rows does not count."""
    return sorted(dump_text(server, dbname).splitlines())


def _conninfo(dbname: str) -> str:
    escaped = dbname.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def by_pg_restore(source: Server, dbname: str, target: Server, into: str, folder: Path) -> None:
    """Move a database as PostgreSQL does: pg_dump of the source in a folder, pg_restore of the target's version.

    The folder must be one that the servers' user may write to.
    """
    where = folder / "reference"
    source.must("pg_dump", "-Fd", "-j", "2", "-f", where, f"--dbname=dbname={_conninfo(dbname)}")
    target.sql(f'CREATE DATABASE "{into}" TEMPLATE template0')
    target.must("pg_restore", "-d", into, where)


def children_of(pid: int) -> set[int]:
    """Return the processes below a process, at any depth, that are alive."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    grown = {pid}
    while grown:
        grown = {child for child, parent in parents.items() if parent in grown} - found
        found |= grown
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process runs."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


TOC = RECORD_NAME.decode()
