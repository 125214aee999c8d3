"""The databases: where each one is, how it is read, and when.

`databases` is the specification's list of names, and a list of names has no room for an address. So the addresses are a
mapping of their own, by these names: `database_servers`, since what it describes is the server that a name stands for.
A name without an entry there is reached by an Airflow connection alone.

A physical backup always holds a whole server with all of its databases. Names that are on one server are therefore one
*cluster*, with one chain of snapshots, which bears the first of these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from coffer.config.base import PolicyModel
from coffer.config.values import (
    ONCE,
    SOME,
    AbsolutePath,
    ConnectionId,
    Count,
    EnvName,
    Flag,
    HostName,
    Identifier,
    Name,
    ProofBudget,
    Schedule,
    SlotName,
    TableName,
    WireRate,
    written,
)

BackupType = Literal["full", "incremental"]
BackupMethod = Literal["delta", "native", "wal"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_SLOT_PREFIX = "coffer_"
_SLOT_LONGEST = 63
# What describes one name; all else describes the server, and names that are on one server cannot differ in it.
KEYS_OF_EACH_NAME = frozenset({"dbname", "tags", "logical"})


class DatabaseSchedule(PolicyModel):
    """When databases are backed up."""

    full: Schedule = written("0 0 * * 0")
    """Full backups."""
    incremental: Schedule = written("0 0 * * 1-6")
    """Incremental backups."""
    wal: Schedule = written("*/5 * * * *")
    """Saving of new WAL, by day too; what is between two runs is what a loss of the server loses."""


class DatabaseProof(PolicyModel):
    """What is kept at backup time to compare a restored copy with (row counts and digests of tables), and where."""

    budget: ProofBudget = written("10m")
    """How long the server may be asked for them; tables that it does not reach are left out. `0s` takes none."""
    tables: Annotated[tuple[TableName, ...], ONCE] = ()
    """The tables that come first."""
    scratch_dir: AbsolutePath | None = None
    """Folder on the machine that proves backups, with room for the whole server: a backup is restored there, started,
    and removed. The system's temporary folder where left out."""


class LogicalBackup(PolicyModel):
    """Dumps besides the physical backup, for single tables and for moving to another version."""

    enabled: Flag = False
    """True takes them after each full backup."""
    databases: Annotated[tuple[Identifier, ...], ONCE] = ()
    """The databases of the server that are dumped; without any, the one that `dbname` names."""
    jobs: Annotated[Count, Field(ge=1, le=64)] = 2
    """Tables that are dumped at once."""


class DatabaseServer(PolicyModel):
    """The server of one database: how it is reached, and how it is read. It holds no password, only where one is."""

    host: HostName | None = None
    """Name or address of the server, or the folder of its unix socket. An Airflow connection's host goes before it."""
    port: Annotated[Count, Field(ge=1, le=65535)] = 5432
    """The port, also of a unix socket."""
    user: Identifier | None = None
    """The role, with LOGIN and REPLICATION; the operating system's user where left out."""
    dbname: Identifier = "postgres"
    """The database for SQL. The physical backup holds all databases of the server, whatever this one is."""
    sslmode: SslMode | None = None
    """As libpq knows it. Left out: `require`, and TLS 1.3 at least; for a server on this machine `prefer`."""
    sslrootcert: AbsolutePath | None = None
    """File of the authority that signed the server's certificate, for `verify-ca` and `verify-full`."""
    password_env: EnvName | None = None
    """Environment variable that holds the password. Left out: libpq's own PGPASSWORD, PGPASSFILE and ~/.pgpass."""
    password_file: AbsolutePath | None = None
    """File whose first line is the password, mode 0600."""
    connection: ConnectionId | None = None
    """The Airflow connection, of type Postgres; `coffer_NAME` where left out, which need not exist."""
    slot: SlotName | None = None
    """The physical replication slot; `coffer_NAME` where left out. The first backup makes it."""
    method: BackupMethod = "delta"
    """How an incremental backup finds what changed: `delta` reads all pages and compares them; `native` lets
    PostgreSQL 17 or newer send changed blocks only; `wal` saves WAL alone, and a restore replays it from the full
    backup."""
    max_rate: WireRate | None = None
    """The most that a backup reads from the server in a second."""
    fast_checkpoint: Flag = True
    """True begins a backup at once, with a burst of writes on the server; false waits some minutes for a gentle one."""
    proof: DatabaseProof = written({})
    """What is kept to compare a restored copy with."""
    logical: LogicalBackup = written({})
    """Dumps besides the physical backup."""
    locations: Annotated[tuple[Name, ...], SOME, ONCE] | None = None
    """The local locations that it goes to; all of them where left out."""
    tags: Annotated[tuple[Name, ...], ONCE] = ()
    """Free labels, kept in each snapshot."""


class DatabaseCluster(NamedTuple):
    """The databases of the policy that one server holds, which one physical backup saves together.

    Attributes:
        source: The name of their chain of snapshots: that of the first of them.
        names: All of them, in the order of the policy.
        server: How the server is reached and read, as the entry of the first name says.
        connection: Airflow's connection for it.
        slot: The replication slot.
        dbnames: The database of each name on the server, in the order of `names`.
        tags: Of its snapshots: the other names, and the tags of all.
        dumped: Databases of the server that are dumped besides, each once; none where the policy asks for no dump.
        dump_jobs: Tables of these that are dumped at once.
    """

    source: str
    names: tuple[str, ...]
    server: DatabaseServer
    connection: str
    slot: str
    dbnames: tuple[str, ...]
    tags: tuple[str, ...]
    dumped: tuple[str, ...]
    dump_jobs: int

    @property
    def label(self) -> str:
        """The names as people read them: ``primary`` or ``primary, audit``."""
        return ", ".join(self.names)


def default_slot(name: str) -> str:
    """Return the slot of a cluster that the policy gives none: `coffer_NAME` in PostgreSQL's alphabet for slots."""
    return _SLOT_PREFIX + re.sub(r"[^a-z0-9_]", "_", name.lower())[: _SLOT_LONGEST - len(_SLOT_PREFIX)]


def default_connection(name: str) -> str:
    """Return the Airflow connection of a database that the policy gives none."""
    return f"coffer_{name}"


def server_address(host: str | None, port: int, connection: str | None) -> tuple[str, ...] | None:
    """Return by what two names are known to be on one server; None where the policy does not say where it is."""
    if host is not None:
        return ("address", host.lower(), str(port))
    return ("connection", connection) if connection is not None else None


def clusters_of(names: Iterable[str], servers: Mapping[str, DatabaseServer]) -> tuple[DatabaseCluster, ...]:
    """Return the clusters of a policy, in the order of their first names; names at one address are one cluster.

    The same server under two addresses is two clusters here: only the servers themselves can tell (`join_clusters`).
    """
    found: dict[tuple[str, ...], list[DatabaseCluster]] = {}
    for name in names:
        server = servers.get(name) or DatabaseServer()
        address = server_address(server.host, server.port, server.connection) or ("name", name)
        found.setdefault(address, []).append(_cluster(name, server))
    return tuple(join_clusters(alike) for alike in found.values())


def join_clusters(alike: Sequence[DatabaseCluster]) -> DatabaseCluster:
    """Return one cluster of several that turned out to be the same: the first of them, with the names of all."""
    first = alike[0]
    names = tuple(name for cluster in alike for name in cluster.names)
    tags = (*names[1:], *(tag for cluster in alike for tag in cluster.tags))
    return first._replace(
        names=names,
        dbnames=tuple(dbname for cluster in alike for dbname in cluster.dbnames),
        tags=tuple(dict.fromkeys(tag for tag in tags if tag != first.source)),
        dumped=tuple(dict.fromkeys(dbname for cluster in alike for dbname in cluster.dumped)),
        dump_jobs=max(cluster.dump_jobs for cluster in alike),
    )


def _cluster(name: str, server: DatabaseServer) -> DatabaseCluster:
    dumps = server.logical
    return DatabaseCluster(
        source=name,
        names=(name,),
        server=server,
        connection=server.connection or default_connection(name),
        slot=server.slot or default_slot(name),
        dbnames=(server.dbname,),
        tags=server.tags,
        dumped=(dumps.databases or (server.dbname,)) if dumps.enabled else (),
        dump_jobs=dumps.jobs if dumps.enabled else 1,
    )
