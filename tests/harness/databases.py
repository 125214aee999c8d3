"""Databases of real servers in the policy of an installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.installation import Installation
from tests.harness.postgres import PASSWORD

if TYPE_CHECKING:
    from tests.harness.postgres import Server

PASSWORD_ENV = "COFFER_TEST_PG_PASSWORD"


def name_databases(made: Installation, servers: dict[str, Server], extra: str = "") -> None:
    """Write databases into the policy; the password is in the variable `PASSWORD_ENV`.

    Args:
        made: The installation.
        servers: By the database's name; several may be on one server.
        extra: Further keys of each, such as ``method: wal``.
    """
    more = f", {extra}" if extra else ""
    entries = "".join(
        f"  {name}: {{host: 127.0.0.1, port: {server.port}, user: backup, password_env: {PASSWORD_ENV}{more}}}\n"
        for name, server in servers.items()
    )
    with made.policy.open("a", encoding="utf-8") as file:
        file.write(f"databases: [{', '.join(servers)}]\ndatabase_servers:\n{entries}")


def fill(server: Server, table: str = "orders", rows: int = 2000, dbname: str = "postgres") -> None:
    """Make a table with rows in a database, which the backup's role may read."""
    server.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, note text)", dbname=dbname)
    server.sql(
        f"INSERT INTO {table} SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, {rows}) n", dbname=dbname
    )
    server.sql("GRANT pg_read_all_data TO backup")


__all__ = ["PASSWORD", "PASSWORD_ENV", "fill", "name_databases"]
