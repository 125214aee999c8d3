"""Tables and indexes of a restored cluster, checked by PostgreSQL's own extension amcheck.

Source: PostgreSQL documentation, `amcheck`: verify_heapam and bt_index_check (versions 15 to 18).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.errors import UndefinedFile
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.clock import Clock
from coffer.errors import CofferError, InterruptedRunError
from coffer.recovery.drill_report import DrillLog, words_of
from coffer.recovery.scratch_server import ScratchServer

_SCHEMA = "coffer_drill"
_MAX_NAMED = 5  # damages of one table
_HEAPS = """
    SELECT c.oid::bigint, n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am a ON a.oid = c.relam
    WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND a.amname = 'heap' ORDER BY c.relpages, c.oid"""
_INDEXES = """
    SELECT c.oid::bigint, n.nspname || '.' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
    WHERE c.relkind = 'i' AND c.relpersistence = 'p' AND a.amname = 'btree' AND i.indisvalid AND i.indisready
    ORDER BY c.relpages, c.oid"""
_COLLATIONS = """
    SELECT datcollversion, pg_database_collation_actual_version(oid) FROM pg_database
    WHERE datname = current_database()"""


def check_structure(
    server: ScratchServer,
    notes: DrillLog,
    *,
    heapallindexed: bool = False,
    budget_s: float | None = None,
    clock: Clock,
    stop: threading.Event | None = None,
) -> None:
    """Check every table, TOAST table and btree index of every database, catalogs too; small ones first.

    Writes to the server (it creates an extension), so it comes after whatever compares its content.

    Args:
        server: The restored cluster.
        notes: Takes what is found.
        heapallindexed: Look every row up in every index too.
        budget_s: What is not done by then is counted as "relations_unchecked" [s].
        clock: For the budget.
        stop: Ends it between two relations.

    Raises:
        InterruptedRunError: `stop` was set.
    """
    until_s = None if budget_s is None else clock.monotonic_s() + budget_s
    for _, name in server.databases():
        try:
            with server.connected(name) as connection:
                run = _Check(connection, name, notes, until_s, clock, stop or threading.Event())
                run.hint_at_collation()
                run.check(heapallindexed=heapallindexed)
        except InterruptedRunError:
            raise
        except (CofferError, psycopg2.Error) as error:
            notes.damage("database-unusable", f"database {name}: {words_of(error)}", database=name)


class _Check:
    """One database."""

    def __init__(
        self,
        connection: SqlConnection,
        database: str,
        notes: DrillLog,
        until_s: float | None,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._connection, self._database, self._notes = connection, database, notes
        self._until_s, self._clock, self._stop = until_s, clock, stop
        self._is_differing = False

    def hint_at_collation(self) -> None:
        """Say where this machine sorts texts in another way: indexes on texts then look damaged and are not."""
        (recorded, actual), *_ = self._rows(_COLLATIONS)
        if recorded is not None and actual is not None and recorded != actual:
            self._is_differing = True
            self._notes.hint(
                "collation",
                f"database {self._database}: its collation has version {recorded}, this machine {actual}; indexes on "
                "texts may be reported as damaged without being so",
                database=self._database,
            )

    def check(self, *, heapallindexed: bool) -> None:
        """Check the tables, then the indexes."""
        schema = self._extension()
        if schema is None:
            return
        heap = sql.SQL(
            "SELECT blkno, offnum, msg FROM {}.verify_heapam(%s::oid::regclass, on_error_stop => false) LIMIT {}"
        ).format(sql.Identifier(schema), sql.Literal(_MAX_NAMED))
        index = sql.SQL("SELECT {}.bt_index_check(%s::oid::regclass, {})").format(
            sql.Identifier(schema), sql.Literal(heapallindexed)
        )
        self._check_each(self._rows(_HEAPS), heap, "table", "heap-damaged")
        self._check_each(self._rows(_INDEXES), index, "index", "index-damaged")

    def _extension(self) -> str | None:
        """Return the schema with amcheck's functions; None where the programs do not have it."""
        with self._connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # no event trigger of the original's runs
        if not self._rows("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"):
            self._notes.hint(
                "not-checked",
                f"database {self._database}: amcheck is not installed here (Debian: it is part of postgresql-NN)",
                database=self._database,
            )
            return None
        there = "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        there += " WHERE e.extname = 'amcheck'"
        found = self._rows(there)
        with self._connection.cursor() as cursor:
            if not found:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
                cursor.execute(f"CREATE EXTENSION amcheck SCHEMA {_SCHEMA}")
                return _SCHEMA
            cursor.execute("ALTER EXTENSION amcheck UPDATE")
        return str(found[0][0])

    def _check_each(self, relations: Sequence[tuple[Any, ...]], query: sql.Composed, kind: str, code: str) -> None:
        for number, (oid, name) in enumerate(relations):
            if self._stop.is_set():
                raise InterruptedRunError("drill: stopped by request", reason="stopped")
            left_s = None if self._until_s is None else self._until_s - self._clock.monotonic_s()
            if left_s is not None and left_s <= 0:
                self._notes.count("relations_unchecked", len(relations) - number)
                return
            self._check_one(oid, name, query, kind, code)

    def _check_one(self, oid: int, name: str, query: sql.Composed, kind: str, code: str) -> None:
        concerned = {"database": self._database, "table": name}
        what = f"{kind} {self._database}.{name}"
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query, [oid])
                damages = cursor.fetchall() if kind == "table" else []
        except psycopg2.Error as error:
            if self._connection.closed:
                raise
            if isinstance(error, UndefinedFile):  # of an extension that is not installed on this machine
                self._notes.hint("not-checked", f"{what}: {words_of(error)}", **concerned)
                return
            report = self._notes.hint if self._is_differing and kind == "index" else self._notes.damage
            report(code, f"{what}: {words_of(error)}", **concerned)
            return
        for block, offset, message in damages:
            self._notes.damage(code, f"{what}: block {block}, row {offset}: {message}", **concerned)
        self._notes.count("tables_checked" if kind == "table" else "indexes_checked")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
