"""What a server says of itself to whoever asks: settings, slots, roles, databases. Nothing is changed.

Everything here is open to a plain role with REPLICATION; what needs `pg_monitor` is simply absent without it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import CofferError
from coffer.errors_postgres import PostgresVersionError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.connection import OLDEST_VERSION, PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.replication import ReplicationSession, SystemIdentity

MAX_DATABASES = 100  # that are looked into; a doctor's visit ends
NAMES_SHOWN = 5
_UNITS = {"B": 1, "kB": 1 << 10, "8kB": 8 << 10, "16kB": 16 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SETTINGS = (
    "wal_level", "max_wal_senders", "max_replication_slots", "max_slot_wal_keep_size", "wal_sender_timeout",
    "idle_replication_slot_timeout", "data_checksums", "wal_log_hints", "summarize_wal", "wal_summary_keep_time",
    "full_page_writes", "block_size", "wal_segment_size", "max_wal_size", "max_standby_streaming_delay",
    "hot_standby_feedback", "archive_mode", "archive_command", "archive_library", "data_directory", "config_file",
    "hba_file", "ident_file",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as pg_settings has it: a value, and the unit it counts in."""

    value: str
    unit: str | None = None

    @property
    def number(self) -> int:
        """The value as it stands."""
        return int(self.value)

    @property
    def size_bytes(self) -> int:
        """The value of a setting that is a size [bytes]; negative as it stands (mostly: no limit)."""
        return self.number if self.number < 0 else self.number * _UNITS[self.unit or "B"]

    @property
    def seconds(self) -> float:
        """The value of a setting that is a time [s]; negative as it stands (mostly: no limit)."""
        return self.number if self.number < 0 else self.number * _UNITS_S[self.unit or "s"]

    @property
    def is_on(self) -> bool:
        """The value of a setting that is a switch."""
        return self.value == "on"


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A replication slot.

    Attributes:
        name: Its name.
        kind: ``physical`` or ``logical``.
        active: Whether somebody reads from it now.
        restart: The server keeps WAL from here on; None where it keeps none, or gave it up.
        wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``; empty where nothing is kept.
        lag_bytes: WAL that it holds back [bytes]; 0 where none.
        safe_bytes: What may still be written before it is given up [bytes]; None where there is no limit.
    """

    name: str
    kind: str
    active: bool
    restart: Lsn | None
    wal_status: str
    lag_bytes: int
    safe_bytes: int | None

    @property
    def is_lost(self) -> bool:
        """Whether the server gave up its WAL, so that nothing can be read from it any more."""
        return self.wal_status == "lost"


@dataclass(frozen=True, slots=True)
class Archiver:
    """What pg_stat_archiver says.

    Attributes:
        failures: Since the last reset of the counters.
        fails_now: Whether the last try failed.
        last_failed: The segment of the last failure; empty where there was none.
    """

    failures: int
    fails_now: bool
    last_failed: str


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database of the server.

    Attributes:
        name: Its name.
        unlogged: How many unlogged tables it has.
        unlogged_names: The first of them.
        tables: How many tables there are to prove.
        unreadable: How many of them the role may not read.
        failure: Why it could not be looked into; empty where it could.
    """

    name: str
    unlogged: int = 0
    unlogged_names: tuple[str, ...] = ()
    tables: int = 0
    unreadable: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """All of it.

    Attributes:
        label: The server's name in messages.
        version: As in server_version_num.
        version_text: As the server writes it.
        is_local: Whether the connection stays on this machine.
        tls: The TLS version of the connection; empty where it has none.
        role: Who we are there.
        is_superuser, may_replicate: What the role may.
        is_standby: Whether it is one.
        settings: Those that the role may see.
        slots: The slots, by name.
        senders: WAL senders in use.
        wal_bytes_per_s: How fast WAL grows, by the server's counters [bytes/s]; None where they say nothing yet.
        archiver: None on servers that have none.
        tablespaces: Name and place of those that were added.
        databases: Those that were looked into.
        database_names: All that there are.
        identity: What the replication protocol answered, or why it did not.
        free_bytes: Free space where the server's WAL lies [bytes]; None where it cannot be seen from here.
    """

    label: str
    version: int
    version_text: str
    is_local: bool
    tls: str
    role: str
    is_superuser: bool
    may_replicate: bool
    is_standby: bool
    settings: dict[str, Setting]
    slots: dict[str, SlotFacts]
    senders: int
    wal_bytes_per_s: float | None
    archiver: Archiver | None
    tablespaces: tuple[tuple[str, str], ...]
    databases: tuple[DatabaseFacts, ...]
    database_names: tuple[str, ...]
    identity: SystemIdentity | CofferError
    free_bytes: int | None

    @property
    def major(self) -> int:
        """The major version."""
        return self.version // 10000


def server_facts(target: PostgresConnection) -> ServerFacts:
    """Ask a server; takes a connection for SQL, one for replication, and one for each database, one after another.

    Raises:
        PostgresVersionError: It is older than 15.
        PostgresUnavailableError, PostgresError: It does not let us in for SQL. (Where it refuses replication alone,
            `identity` says so.)
    """
    connection = connect_sql(target)
    try:
        if connection.server_version < OLDEST_VERSION:
            major = connection.server_version // 10000
            raise PostgresVersionError(f"postgres {target.label}: version {major} is older than 15", version=major)
        with server_errors(target.label):
            facts = _facts(connection, target)
    finally:
        connection.close()
    databases = tuple(_look_into(target, name) for name in facts.database_names[:MAX_DATABASES])
    return replace(facts, databases=databases, identity=_identity(target))


def slots_of(connection: SqlConnection, label: str) -> dict[str, SlotFacts]:
    """Return the server's replication slots by name.

    Raises:
        PostgresUnavailableError, PostgresError: The server does not answer, or refuses.
    """
    with server_errors(label):
        return _slots(connection)


def _facts(connection: SqlConnection, target: PostgresConnection) -> ServerFacts:
    settings = {
        name: Setting(value, unit)
        for name, value, unit in _rows(
            connection, "SELECT name, setting, unit FROM pg_settings WHERE name = ANY(%s)", [list(_SETTINGS)]
        )
    }
    role, superuser, replicates = _rows(
        connection, "SELECT rolname, rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user"
    )[0]
    (text, standby), *_ = _rows(connection, "SELECT current_setting('server_version'), pg_is_in_recovery()")
    tls = _rows(connection, "SELECT coalesce(version, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    tablespaces = _rows(
        connection, "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384 ORDER BY 1"
    )
    names = _rows(connection, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1")
    return ServerFacts(
        label=target.label,
        version=connection.server_version,
        version_text=text,
        is_local=target.is_local,
        tls=tls[0][0] if tls else "",
        role=role,
        is_superuser=superuser,
        may_replicate=superuser or replicates,
        is_standby=standby,
        settings=settings,
        slots=_slots(connection),
        senders=_rows(connection, "SELECT count(*) FROM pg_stat_replication")[0][0],
        wal_bytes_per_s=_wal_rate(connection),
        archiver=_archiver(connection),
        tablespaces=tuple(tablespaces),
        databases=(),
        database_names=tuple(name for (name,) in names),
        identity=SystemIdentity(0, 0, Lsn(0)),
        free_bytes=_free_bytes(target, settings),
    )


def _slots(connection: SqlConnection) -> dict[str, SlotFacts]:
    rows = _rows(
        connection,
        "SELECT slot_name, slot_type, active, restart_lsn, coalesce(wal_status, ''), safe_wal_size,"
        " pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,"
        " restart_lsn)::bigint FROM pg_replication_slots ORDER BY 1",
    )
    return {
        name: SlotFacts(name, kind, active, Lsn.parse(at) if at else None, status, max(0, lag or 0), safe)
        for name, kind, active, at, status, safe, lag in rows
    }


def _wal_rate(connection: SqlConnection) -> float | None:
    """Return how fast WAL grew since the counters were reset; a quarter of an hour must have passed."""
    (written, seconds), *_ = _rows(
        connection, "SELECT wal_bytes::float8, extract(epoch FROM now() - stats_reset)::float8 FROM pg_stat_wal"
    )
    return written / seconds if written and seconds and seconds >= 900 else None


def _archiver(connection: SqlConnection) -> Archiver | None:
    rows = _rows(
        connection,
        "SELECT failed_count, coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL),"
        " coalesce(last_failed_wal, '') FROM pg_stat_archiver",
    )
    return Archiver(*rows[0]) if rows else None


def _free_bytes(target: PostgresConnection, settings: dict[str, Setting]) -> int | None:
    """Return the free space of the server's WAL, where the server is this machine and shows its folder."""
    folder = settings.get("data_directory")
    if not target.is_local or folder is None:
        return None
    for place in (os.path.join(folder.value, "pg_wal"), folder.value):
        try:
            found = os.statvfs(place)
        except OSError:
            continue  # another user's folder, or a container's: its place here means something else or nothing
        return found.f_bavail * found.f_frsize
    return None


def _look_into(target: PostgresConnection, dbname: str) -> DatabaseFacts:
    """Return what a database holds that a backup or its proof leaves out."""
    try:
        connection = connect_sql(replace(target, dbname=dbname))
    except CofferError as error:
        return DatabaseFacts(dbname, failure=str(error))
    try:
        with server_errors(target.label):
            unlogged = _rows(
                connection,
                "SELECT oid::regclass::text FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'm')"
                " ORDER BY 1",
            )
            (tables, unreadable), *_ = _rows(
                connection,
                "SELECT count(*), count(*) FILTER (WHERE NOT (has_table_privilege(c.oid, 'SELECT')"
                " AND has_schema_privilege(n.oid, 'USAGE'))) FROM pg_class c JOIN pg_namespace n"
                " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'"
                " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
            )
    except CofferError as error:
        return DatabaseFacts(dbname, failure=str(error))
    finally:
        connection.close()
    names = tuple(name for (name,) in unlogged[:NAMES_SHOWN])
    return DatabaseFacts(dbname, len(unlogged), names, tables, unreadable)


def _identity(target: PostgresConnection) -> SystemIdentity | CofferError:
    """Return what IDENTIFY_SYSTEM answers over a replication connection, or why there is no answer."""
    try:
        with ReplicationSession(target) as session:
            return session.identify()
    except CofferError as error:
        return error


def _rows(connection: SqlConnection, query: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()
