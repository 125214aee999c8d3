"""What a logical backup takes."""

from __future__ import annotations

from dataclasses import dataclass

from coffer.sources.postgres.connection import PostgresConnection


@dataclass(frozen=True, slots=True)
class LogicalSource:
    """Databases of one server, or some of their tables.

    Attributes:
        name: Names the chain of snapshots.
        connection: How the server is reached; its `dbname` is the database where none is named.
        databases: Names of the databases; none means the connection's own.
        tables: Patterns (`coffer.postgres.names.TablePattern`): only these tables, with what belongs to them. None
            means everything. A partitioned table brings its partitions.
        exclude: Patterns of tables that are left out, definition and data.
        exclude_data: Patterns of tables of which only the definition is kept.
        roles: Whether roles and tablespaces of the server are kept too.
        jobs: Tables that are read at a time, each on a connection of its own.
        tags: The user's words, kept with the snapshot.
    """

    name: str
    connection: PostgresConnection
    databases: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_data: tuple[str, ...] = ()
    roles: bool = True
    jobs: int = 2
    tags: tuple[str, ...] = ()

    @property
    def database_names(self) -> tuple[str, ...]:
        """The databases, each once."""
        return tuple(dict.fromkeys(self.databases or (self.connection.dbname,)))


@dataclass(frozen=True, slots=True)
class LogicalOptions:
    """How to run.

    Attributes:
        level: Of zstd, 1 to 19; 0 stores everything as it is.
        workers: Threads that compress and seal; 0 for one per core.
        pack_size_bytes: Size of a pack [bytes].
        host: Recorded in the snapshot; the machine's name where None.
        lock_wait_s: How long to wait for a table that somebody changes [s].
        deadline_s: Stop at this monotonic time [s], by the repository's clock.
    """

    level: int = 3
    workers: int = 0
    pack_size_bytes: int = 64_000_000
    host: str | None = None
    lock_wait_s: int = 60
    deadline_s: float | None = None
