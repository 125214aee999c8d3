"""How a PostgreSQL cluster is reached, for SQL and for the replication protocol.

Owns: the parameters of a connection and what they default to. Refuses: to show a password, and to fall back to a
connection without TLS where the host is not this machine.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg2
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case
from psycopg2.extras import PhysicalReplicationConnection

from coffer.errors_postgres import PostgresVersionError
from coffer.sources.postgres.failures import server_errors

OLDEST_VERSION = (
    150000  # as in server_version_num; older servers send one COPY per tablespace, which psycopg2 cannot read
)
APPLICATION_NAME = "coffer"
_OTHER_SERVERS = ("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGTARGETSESSIONATTRS")
# A peer that is gone is noticed after 60 s, not after the two hours that are the system's default.
_KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


@dataclass(frozen=True, slots=True)
class PostgresConnection:
    """Where a cluster is and who we are there.

    Attributes:
        host: A name, an address, or the folder of a unix socket (begins with a slash).
        port: The port, also of the unix socket.
        user: The role; the operating system's user where empty.
        password: Taken from PGPASSWORD, PGPASSFILE or ~/.pgpass by libpq where None; never shown.
        dbname: The database for SQL; a replication connection has none.
        sslmode: As libpq knows it; where empty, "require" for another machine and "prefer" for this one.
        sslrootcert: The file of the authority that signed the server's certificate; needed for "verify-full".
        connect_timeout_s: How long to wait for an answer [s].
        application_name: Shown in pg_stat_activity and pg_stat_replication.
    """

    host: str
    port: int = 5432
    user: str = ""
    password: str | None = field(default=None, repr=False)
    dbname: str = "postgres"
    sslmode: str = ""
    sslrootcert: str = ""
    connect_timeout_s: int = 10
    application_name: str = APPLICATION_NAME

    @property
    def label(self) -> str:
        """The cluster's name in messages: host and port, no role and no password."""
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the bytes stay on this machine: a unix socket or loopback."""
        if self.host.startswith(("/", "@")) or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def parameters(self) -> dict[str, Any]:
        """Return what libpq gets; holds the password, so it is not to be logged."""
        given: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "connect_timeout": self.connect_timeout_s,
            "application_name": self.application_name,
            "sslmode": self.sslmode or ("prefer" if self.is_local else "require"),
            "gssencmode": "disable",  # else libpq asks Kerberos first, which can take seconds
            **_KEEPALIVE,
        }
        if not self.is_local:
            given["ssl_min_protocol_version"] = "TLSv1.3"
        for name in ("user", "password", "sslrootcert"):
            if value := getattr(self, name):
                given[name] = value
        return given


def _forget_other_servers() -> None:
    """Take out of this process's environment what libpq puts before the host that it is given."""
    for name in _OTHER_SERVERS:
        os.environ.pop(name, None)


def connect_sql(target: PostgresConnection) -> SqlConnection:
    """Open a connection for SQL, in autocommit: every statement is its own transaction.

    Raises:
        PostgresUnavailableError: No answer, or not just now.
        PostgresError: The server refuses; the subclass says why.
    """
    _forget_other_servers()
    with server_errors(target.label):
        opened: SqlConnection = psycopg2.connect(**target.parameters())
        opened.autocommit = True
    return opened


def connect_replication(target: PostgresConnection) -> PhysicalReplicationConnection:
    """Open a connection that speaks the replication protocol and no SQL.

    Raises:
        PostgresUnavailableError: No answer, not just now, or every WAL sender is taken.
        PostgresVersionError: The server is older than 15; the connection is closed again.
        PostgresError: The server refuses; the subclass says why.
    """
    _forget_other_servers()
    with server_errors(target.label):
        opened = psycopg2.connect(connection_factory=PhysicalReplicationConnection, **target.parameters())
    if opened.server_version < OLDEST_VERSION:
        opened.close()
        major = opened.server_version // 10000
        raise PostgresVersionError(f"postgres {target.label}: version {major} is older than 15", version=major)
    return cast("PhysicalReplicationConnection", opened)
