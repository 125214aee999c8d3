"""How a PostgreSQL cluster is named on the command line: a database of the policy, or an address.

`--source NAME` of the policy says it all: address, role, where the password is, slot. `--host` and its neighbours name
a server that no policy knows, and go before the policy where both are given. A password is never an option: arguments
can be read by every user of the machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from coffer.cli.command import option
from coffer.cli.run import Run
from coffer.errors import UsageError
from coffer.repository.repository import Repository

if TYPE_CHECKING:
    from coffer.config.databases import DatabaseCluster
    from coffer.config.policy import Policy
    from coffer.sources.postgres.connection import PostgresConnection

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULT_PORT = 5432
_SLOT_LONGEST = 63
# libpq reads these by itself; the connection names host, port, database and sslmode explicitly, so they are read here.
_ENVIRONMENT = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE"}


@dataclass(frozen=True, slots=True)
class NamedCluster:
    """A cluster that a command line names.

    Attributes:
        source: The name of its chain of snapshots.
        connection: How it is reached.
        slot: The replication slot.
        tags: Of its snapshots.
        dbnames: Databases that must exist on it; the one for SQL first.
        of_policy: What the policy says of it, where it is named there.
    """

    source: str
    connection: PostgresConnection
    slot: str
    tags: tuple[str, ...] = ()
    dbnames: tuple[str, ...] = ("postgres",)
    of_policy: DatabaseCluster | None = None


def cluster_options() -> tuple[click.Parameter, ...]:
    """Return the options that name a cluster; what they give is handed to `find_cluster`."""
    return (
        option("--source", metavar="NAME", help="A database of the policy; else the name of the chain of snapshots."),
        option("--host", metavar="HOST", help="The server, or the folder of its socket.  [env: PGHOST]"),
        option("--port", metavar="PORT", type=click.IntRange(1, 65535), help="Its port.  [env: PGPORT; else 5432]"),
        option("--user", "-U", metavar="ROLE", help="The role.  [env: PGUSER; else the system's user]"),
        option("--dbname", metavar="NAME", help="The database for SQL.  [env: PGDATABASE; else postgres]"),
        option("--sslmode", metavar="MODE", type=click.Choice(SSL_MODES), help="As libpq knows it.  [env: PGSSLMODE]"),
        option("--slot", metavar="NAME", help="The replication slot.  [else coffer_SOURCE]"),
    )


def find_cluster(run: Run, given: dict[str, Any]) -> NamedCluster:
    """Return the cluster that a command line names.

    Args:
        run: The run; its `where` is given the cluster's own location of the policy, unless another one was named.
        given: The values of `cluster_options`, by the options' names; others are passed over.

    Raises:
        UsageError: None is named, the policy does not know it or does not say where it is, or its password is nowhere.
        PolicyInvalidError: The policy was asked and has mistakes.
    """
    found = _of_policy(run, given["source"]) if given.get("source") else None
    return _named(found, given)


def find_clusters(run: Run, given: dict[str, Any]) -> list[NamedCluster]:
    """Return the one cluster that a command line names, or without a name all of the policy; errors as `find_cluster`.

    Raises:
        UsageError: As `find_cluster`, or the policy has no database.
    """
    if any(given.get(name) is not None for name in ("source", "host")) or os.environ.get("PGHOST"):
        return [find_cluster(run, given)]
    policy = _policy(run)
    if policy is None or not policy.clusters:
        raise _nothing_named()
    return [_named(cluster, given) for cluster in policy.clusters]


def source_of_cluster(run: Run, name: str, repo: Repository | None = None) -> str:
    """Return the source of the snapshots of a database: where several are one cluster, that of the first of them.

    Args:
        run: The run.
        name: As given; a database of the policy, or of a snapshot's tags where there is no policy (as after a fire).
        repo: Where the snapshots are; None: only the policy is asked.
    """
    policy = _policy(run)
    if policy is not None and name in policy.databases:
        return policy.cluster(name).source
    if repo is None:
        return name
    snapshots = [snapshot for snapshot in repo.snapshots() if snapshot.facts]
    if any(snapshot.source == name for snapshot in snapshots):
        return name
    tagged = [snapshot for snapshot in snapshots if name in snapshot.tags]
    return max(tagged, key=lambda snapshot: snapshot.finished_ns).source if tagged else name


# ------------------------------------------------------------------------------------------------ from the policy


def _of_policy(run: Run, name: str) -> DatabaseCluster | None:
    """Return what the policy says of a database; None where it does not have it."""
    policy = _policy(run)
    if policy is None or name not in policy.databases:
        return None
    cluster = policy.cluster(name)
    if not (run.where.get("repo") or run.where.get("location") or os.environ.get("COFFER_REPOSITORY")):
        run.where["location"] = policy.locations_of(cluster.server)[0].name
    return cluster


def _policy(run: Run) -> Policy | None:
    from coffer.config.loading import find_policy

    if not (os.environ.get("COFFER_POLICY") or find_policy().is_file()):
        return None
    return run.load_policy()


# ------------------------------------------------------------------------------------------------ to a connection


def _named(cluster: DatabaseCluster | None, given: dict[str, Any]) -> NamedCluster:
    from coffer.sources.postgres.connection import PostgresConnection

    connection = _connection_of(cluster) if cluster is not None else PostgresConnection(host="", port=_DEFAULT_PORT)
    asked = {key: given[key] for key in _ENVIRONMENT if given.get(key) is not None}
    if cluster is None:
        asked = {**_environment(), **asked}
    connection = replace(connection, **asked)
    if not connection.host:
        raise _without_address(cluster, given.get("source"))
    if cluster is None:
        source = given.get("source") or connection.label.replace("@", "_")
        return NamedCluster(source, connection, given.get("slot") or slot_of_source(source), (), (connection.dbname,))
    dbnames = tuple(dict.fromkeys((connection.dbname, *cluster.dbnames)))
    return NamedCluster(cluster.source, connection, given.get("slot") or cluster.slot, cluster.tags, dbnames, cluster)


def _connection_of(cluster: DatabaseCluster) -> PostgresConnection:
    from coffer.config.passwords import cluster_password
    from coffer.sources.postgres.connection import PostgresConnection

    server = cluster.server
    return PostgresConnection(
        host=server.host or "",
        port=server.port,
        user=server.user or os.environ.get("PGUSER", ""),
        password=cluster_password(cluster),
        dbname=server.dbname,
        sslmode=server.sslmode or "",
        sslrootcert=str(server.sslrootcert or ""),
    )


def _environment() -> dict[str, Any]:
    """Return what libpq's variables say."""
    found: dict[str, Any] = {key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)}
    if "port" in found:
        if not re.fullmatch(r"[0-9]{1,5}", found["port"]):
            raise UsageError(f"PGPORT: {found['port']!r} is no port", hint="Give a number, or --port.")
        found["port"] = int(found["port"])
    return found


def slot_of_source(source: str) -> str:
    """Return the slot of a cluster that no policy names: `coffer_SOURCE` in PostgreSQL's alphabet for slots."""
    return ("coffer_" + re.sub(r"[^a-z0-9_]", "_", source.lower()))[:_SLOT_LONGEST]


def _without_address(cluster: DatabaseCluster | None, name: str | None) -> UsageError:
    if cluster is not None:
        return UsageError(
            f"database {cluster.source!r}: the policy does not say where it is",
            hint=f"Write database_servers.{cluster.source}.host into the policy, or give --host. (What only an Airflow"
            " connection says is known to Airflow alone.)",
        )
    return _nothing_named(name)


def _nothing_named(name: str | None = None) -> UsageError:
    if name is None:
        return UsageError("no cluster is named", hint="Give --source NAME for a database of the policy, or --host.")
    return UsageError(
        f"database {name!r}: the policy has no such name", hint="Give one of its databases, or --host for the server."
    )
