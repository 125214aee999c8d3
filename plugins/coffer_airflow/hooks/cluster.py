"""From an Airflow connection of type Postgres, or the policy, to a PostgreSQL cluster.

The connection that the policy names, or `coffer_NAME`, goes before the policy's own host, port, role and password; what
it leaves empty, the policy says. `coffer_NAME` need not exist; one that the policy names must.
"""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from typing import Any, NamedTuple

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.config.databases import DatabaseCluster
from coffer.config.passwords import cluster_password
from coffer.errors import CofferError, UsageError
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors

CONNECTION_TYPE = "postgres"
_INSTANCE = "SELECT system_identifier, pg_postmaster_start_time()::text FROM pg_control_system()"
_TYPES = ("postgres", "postgresql")
_USED = frozenset({"sslmode", "sslrootcert"})
# What others read from such a connection, and what changes nothing here.
_HARMLESS = frozenset(
    {"cursor", "application_name", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"}
)


class ServerInstance(NamedTuple):
    """By what one running server is told from every other.

    The system identifier alone does not: copies of a data folder have the same one, such as a standby, or a test server
    made from a backup, and each of them has content of its own.

    Attributes:
        system_id: Made by initdb.
        started_at: When the server was started, to the microsecond, as it writes it.
    """

    system_id: int
    started_at: str


class ClusterHook(BaseHook):
    """Reaches a cluster of the policy, for SQL and for the replication protocol.

    Args:
        cluster: The cluster, as the policy has it.
    """

    conn_name_attr = "postgres_conn_id"
    conn_type = CONNECTION_TYPE
    hook_name = "PostgreSQL cluster"

    def __init__(self, cluster: DatabaseCluster, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster

    def get_conn(self) -> SqlConnection:
        """Return a connection for SQL, in autocommit; the caller closes it.

        Raises:
            UsageError: As `target`.
            PostgresUnavailableError, PostgresError: As the server says.
        """
        return connect_sql(self.target)

    def instance(self) -> ServerInstance:
        """Ask the server which one it is; any role may.

        Raises:
            UsageError: As `target`.
            PostgresUnavailableError, PostgresError: As the server says.
        """
        with closing(self.get_conn()) as connection, server_errors(self.target.label), connection.cursor() as cursor:
            cursor.execute(_INSTANCE)
            (system_id, started_at), *_ = cursor.fetchall()
        return ServerInstance(int(system_id), str(started_at))

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server which one it is."""
        try:
            return True, f"{self.target.label}: system identifier {self.instance().system_id}"
        except CofferError as error:
            return False, f"{error}. HINT: {error.hint}"

    @cached_property
    def target(self) -> PostgresConnection:
        """Where the cluster is and who we are there; its password is masked in all logs from here on.

        Raises:
            UsageError: Neither the connection nor the policy says where it is, or what they say cannot be used.
        """
        server, given = self.cluster.server, self._connection or Connection(conn_id=self.cluster.connection)
        host = given.host or server.host
        if not host:
            raise UsageError(
                f"database {self.cluster.source!r}: neither the connection {self.cluster.connection} nor the policy"
                " says where it is",
                hint=f"Make the connection (type Postgres) under Admin > Connections, or write"
                f" database_servers.{self.cluster.source}.host into the policy.",
            )
        password = given.password or cluster_password(self.cluster)
        if password:
            mask_secret(password)
        return PostgresConnection(
            host=host,
            port=(given.port if given.host else None) or server.port,
            user=given.login or server.user or "",
            password=password,
            dbname=given.schema or server.dbname,
            sslmode=self._extra("sslmode") or server.sslmode or "",
            sslrootcert=self._extra("sslrootcert") or str(server.sslrootcert or ""),
        )

    @cached_property
    def _connection(self) -> Connection | None:
        name = self.cluster.connection
        try:
            found = self.get_connection(name)
        except AirflowNotFoundException:
            if self.cluster.server.connection is None:
                return None
            raise UsageError(
                f"connection {name!r}: does not exist",
                hint=f"Make it under Admin > Connections (type Postgres), or take database_servers."
                f"{self.cluster.source}.connection out of the policy.",
            ) from None
        if found.conn_type not in _TYPES:
            raise UsageError(
                f"connection {name!r}: is of type {found.conn_type}", hint="Give it the type Postgres, or name another."
            )
        unused = sorted(set(found.extra_dejson) - _USED - _HARMLESS)
        if unused:
            self.log.warning("connection %r: not used of its extra: %s", name, ", ".join(unused))
        return found

    def _extra(self, name: str) -> str:
        return str(self._connection.extra_dejson.get(name) or "") if self._connection is not None else ""
