"""The database that a logical backup is loaded into: made, looked at, and connected to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import RestoreTargetError
from coffer.postgres.logical_record import DatabaseRecord, TableRecord
from coffer.postgres.names import quoted_name, quoted_text
from coffer.recovery.logical_selection import Selection
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors

# As pg_restore begins, and what a setting of the database or the role could change about reading the data.
_SESSION = """
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET standard_conforming_strings = on; SET check_function_bodies = false; SET xmloption = content;
SET client_min_messages = warning; SET row_security = off; SET default_transaction_read_only = off;
SET DateStyle = ISO; SET IntervalStyle = POSTGRES; SET search_path = '';
"""
_RELATIONS = r"""
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 1
"""
_EMPTY_HINT = "Give the name of a new database with --into, or choose single tables with --table."


class Target:
    """One database of a server, by its name. Not thread-safe; `connect` makes connections for other threads.

    Attributes:
        server: How the server is reached; its `dbname` is a database that exists.
        name: Of the database to load into.
        version: Of the server, as in server_version_num.
    """

    def __init__(self, server: PostgresConnection, name: str) -> None:
        """Look at the server.

        Raises:
            PostgresError, PostgresUnavailableError: It refuses, or does not answer.
        """
        self.server, self.name = server, name
        self._own = replace(server, dbname=name)
        connection = _connect(server)
        try:
            self.version = int(connection.server_version)
            query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)"
            self.exists = bool(_rows(connection, server.label, query, (name,))[0][0])
        finally:
            connection.close()

    @property
    def label(self) -> str:
        """The server's name in messages."""
        return self.server.label

    def parameters(self) -> dict[str, Any]:
        """Return what libpq gets to reach the database."""
        return self._own.parameters()

    def connect(self) -> SqlConnection:
        """Open a connection to the database, ready to load data.

        Raises:
            PostgresError, PostgresUnavailableError: The server refuses, or does not answer.
        """
        connection = _connect(self._own)
        try:
            with server_errors(self.label), connection.cursor() as cursor:
                cursor.execute(_SESSION)
                if self.version >= 170000:
                    cursor.execute("SET transaction_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def create(self, record: DatabaseRecord) -> None:
        """Make the database, empty, with the encoding and the locale of the one that was backed up.

        Raises:
            PostgresError: The server does not make it, mostly for want of the locale.
        """
        connection = _connect(self.server)
        try:
            with server_errors(self.label), connection.cursor() as cursor:
                cursor.execute(create_statement(record, self.name, self.version))
        finally:
            connection.close()
        self.exists = True

    def require_empty(self) -> None:
        """Refuse a database that has tables, views or sequences already.

        Raises:
            RestoreTargetError: It has; nothing was written.
        """
        found = self._ask(_RELATIONS)
        if found:
            raise RestoreTargetError(
                f"database {self.name!r} of {self.label}: is not empty, it has {found[0][0]}", hint=_EMPTY_HINT
            )

    def missing_schemas(self, names: Iterable[str]) -> set[str]:
        """Return those of the schemas that the database does not have."""
        there = {name for (name,) in self._ask("SELECT nspname FROM pg_catalog.pg_namespace")}
        return set(names) - there

    def require_tables(self, selection: Selection, *, exist: bool) -> None:
        """Refuse tables that are there and should not be, or that should be there, empty, and are not.

        Args:
            selection: The tables.
            exist: Whether they are to be there.

        Raises:
            RestoreTargetError: One is not as it should be; nothing was written.
        """
        for table in selection.everything:
            there = self._ask("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (table_label(table),))[0][0]
            if there != exist:
                verb = "is not there" if exist else "is there already"
                raise RestoreTargetError(
                    f"table {table_label(table)} of database {self.name!r}: {verb}",
                    hint="Without --data-only a table is made anew; with it, rows go into one that is there and empty.",
                )
        if exist:
            for table in selection.tables:
                self._require_no_rows(table)

    def _require_no_rows(self, table: TableRecord) -> None:
        query = f"SELECT EXISTS (SELECT FROM ONLY {table.label})"  # noqa: S608 - a quoted name
        if self._ask(query)[0][0]:
            raise RestoreTargetError(
                f"table {table.label} of database {self.name!r}: has rows", hint="Empty it with TRUNCATE, or rename it."
            )

    def _ask(self, query: str, parameters: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        connection = self.connect()
        try:
            return _rows(connection, self.label, query, parameters)
        finally:
            connection.close()


def table_label(table: Any) -> str:
    """Return a table's name as SQL has it."""
    return quoted_name(table.schema, table.name)


def create_statement(record: DatabaseRecord, name: str, version: int) -> str:
    """Return the statement that makes a database like a recorded one.

    Args:
        record: What is known of it; its columns of pg_database are those of its server's version.
        name: Of the new one.
        version: Of the server it is made on.
    """
    known: dict[str, str] = {key: str(value) for key, value in record.properties.items() if value is not None}
    has = known.get
    parts = [f"CREATE DATABASE {quoted_name(name)} TEMPLATE template0 ENCODING {quoted_text(record.encoding)}"]
    provider = {"c": "libc", "i": "icu", "b": "builtin"}.get(has("datlocprovider") or "c", "libc")
    locale = has("datlocale") or has("daticulocale")  # the second is the name before 17
    if version >= 150000:
        parts.append(f"LOCALE_PROVIDER {provider}")
    for key, word in (("datcollate", "LC_COLLATE"), ("datctype", "LC_CTYPE")):
        if value := has(key):
            parts.append(f"{word} {quoted_text(value)}")
    if locale and provider != "libc":
        parts.append(f"{'ICU' if provider == 'icu' else 'BUILTIN'}_LOCALE {quoted_text(locale)}")
    if rules := has("daticurules"):
        parts.append(f"ICU_RULES {quoted_text(rules)}")
    return " ".join(parts)


def _connect(target: PostgresConnection) -> SqlConnection:
    """Open a connection on which names are UTF-8, whatever the database's encoding is."""
    connection = connect_sql(target)
    connection.set_client_encoding("UTF8")
    return connection


def _rows(
    connection: SqlConnection, label: str, query: str, parameters: tuple[Any, ...] | None = None
) -> list[tuple[Any, ...]]:
    with server_errors(label), connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()
