"""What a backup asks a cluster by SQL: which server it is, its settings, and the lock that keeps backups apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg2.errors
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors_postgres import PostgresBackupRunningError, PostgresError, PostgresSettingError
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import SEGMENT_PAGES
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors

_LOCK = (0x636F6666, 1)  # "coff"; both numbers are the key of an advisory lock
_LOCK_DATABASES = ("postgres", "template1")
_SETTINGS_OF_THE_LOCK = (
    "SET idle_session_timeout = 0",  # the connection waits for as long as the base backup takes
    "SET tcp_keepalives_idle = 30",  # the server notices within a minute that we are gone, not within two hours
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SET lock_timeout = '3s'",  # a run that was killed a moment ago may still be on its way out
)
# What a recovery, or a scratch server, must know. The role sees those of data_directory's kind only as pg_monitor.
SETTINGS = (
    "archive_mode",
    "block_size",
    "config_file",
    "data_checksums",
    "data_directory",
    "full_page_writes",
    "hba_file",
    "ident_file",
    "lc_collate",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "segment_size",
    "server_encoding",
    "shared_preload_libraries",
    "summarize_wal",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster as SQL shows it.

    Attributes:
        version: As in server_version_num.
        version_text: As the server writes it.
        is_standby: Whether it is in recovery.
        databases: OID -> name.
        settings: Of `SETTINGS`, what the role may see, as SHOW writes it.
    """

    version: int
    version_text: str
    is_standby: bool
    databases: dict[int, str]
    settings: dict[str, str]

    @property
    def has_checksums(self) -> bool:
        """Whether its pages have checksums."""
        return self.settings.get("data_checksums") == "on"


def connect_for_lock(target: PostgresConnection) -> SqlConnection:
    """Connect to the database that the lock is taken in: it must be the same one for every run of a cluster.

    An advisory lock holds within its database. Two runs may name different ones, but every cluster has template1, and
    nearly every one has postgres.

    Raises:
        PostgresUnavailableError, PostgresError: As the server says.
    """
    try:
        return connect_sql(replace(target, dbname=_LOCK_DATABASES[0]))
    except PostgresError as refused:
        try:
            return connect_sql(replace(target, dbname=_LOCK_DATABASES[1]))
        except PostgresError:
            raise refused from None


def lock_cluster(connection: SqlConnection, label: str) -> None:
    """Keep other backups of this cluster away for as long as the connection is open.

    It is the server that holds the lock, and it ends with the connection: a killed run leaves none behind, and that of
    a machine that lost its power ends after a minute.

    Raises:
        PostgresBackupRunningError: Another backup has it.
    """
    with server_errors(label), connection.cursor() as cursor:
        for setting in _SETTINGS_OF_THE_LOCK:
            cursor.execute(setting)
        try:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", _LOCK)
        except psycopg2.errors.LockNotAvailable:
            raise PostgresBackupRunningError(f"postgres {label}: another backup of this cluster is running") from None
        cursor.execute("RESET lock_timeout")


def read_state(connection: SqlConnection, label: str) -> ClusterState:
    """Return what the cluster says of itself.

    Raises:
        PostgresSettingError: It was built with other sizes of pages or files.
        PostgresError, PostgresUnavailableError: As the server says.
    """
    with server_errors(label), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), pg_is_in_recovery()")
        text, is_standby = cursor.fetchone() or ("", False)
        cursor.execute("SELECT oid::bigint, datname FROM pg_database")
        databases = {int(oid): str(name) for oid, name in cursor.fetchall()}
        cursor.execute(
            "SELECT name, current_setting(name, true) FROM pg_settings WHERE name = ANY(%s)", [list(SETTINGS)]
        )
        settings = {str(name): str(value) for name, value in cursor.fetchall() if value is not None}
    state = ClusterState(int(connection.server_version), str(text), bool(is_standby), databases, settings)
    _require_sizes(state, label)
    return state


def _require_sizes(state: ClusterState, label: str) -> None:
    pages = int(state.settings.get("block_size", PAGE_BYTES))
    if pages != PAGE_BYTES:
        raise PostgresSettingError(
            f"postgres {label}: pages of {pages} bytes, only those of {PAGE_BYTES} are supported",
            hint="block_size is fixed when PostgreSQL is built. Take logical backups of this server.",
        )
    if state.settings.get("segment_size", "1GB") != "1GB":
        raise PostgresSettingError(
            f"postgres {label}: relation files of {state.settings['segment_size']}, only those of 1GB "
            f"({SEGMENT_PAGES} pages) are supported",
            hint="segment_size is fixed when PostgreSQL is built. Take logical backups of this server.",
        )
