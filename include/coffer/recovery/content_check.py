"""The tables of a restored cluster, held against the digests that were taken of the original at the same moment."""

from __future__ import annotations

import threading

import psycopg2
from psycopg2 import errors as server_errors
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import CofferError, InterruptedRunError
from coffer.postgres.proof import WHOLE, DatabaseProof, Proof, TableProof
from coffer.postgres.visibility import VisibleSet
from coffer.recovery.drill_report import DrillLog, words_of
from coffer.recovery.scratch_server import ScratchServer
from coffer.sources.postgres.table_digest import digest_table, set_conditions

_MAX_LATER = 1_000_000  # transactions behind a snapshot that are looked at
_LATER = """
    SELECT (SELECT count(*) FROM unnest(%s::text[]) x WHERE pg_xact_status(x::xid8) = 'committed')
        + (SELECT count(*) FROM generate_series(%s::bigint, %s::bigint - 1) x
            WHERE pg_xact_status(x::text::xid8) = 'committed')"""


def compare_content(
    server: ScratchServer, proof: Proof, notes: DrillLog, *, stop: threading.Event | None = None
) -> None:
    """Compare every table of a proof with the server's.

    Before anything is written to the server: it must be as the recovery left it.

    Args:
        server: Recovered to the moment of the proof.
        proof: Of the original.
        notes: Takes what is found.
        stop: Ends it between two tables.

    Raises:
        InterruptedRunError: `stop` was set.
    """
    there = dict(server.databases())
    for database in proof.databases:
        notes.count("tables_left_out", sum(table.left_out is not None for table in database.tables))
        if not database.snapshot:
            continue
        name = there.get(database.oid)
        if name is None:
            notes.damage("database-unusable", f"database {database.name}: is missing", database=database.name)
            continue
        try:
            with server.connected(name) as connection:
                set_conditions(connection)
                comparison = _Comparison(connection, proof, database, notes, stop or threading.Event())
                comparison.run()
        except InterruptedRunError:
            raise
        except (CofferError, psycopg2.Error) as error:
            notes.damage("database-unusable", f"database {name}: {words_of(error)}", database=name)


class _Comparison:
    """One database."""

    def __init__(
        self,
        connection: SqlConnection,
        proof: Proof,
        database: DatabaseProof,
        notes: DrillLog,
        stop: threading.Event,
    ) -> None:
        self._connection, self._proof, self._database = connection, proof, database
        self._notes, self._stop = notes, stop

    def run(self) -> None:
        """Compare its tables."""
        passed = self._transactions_between()
        if passed:
            self._notes.hint(
                "moment-passed",
                f"database {self._database.name}: {passed} transactions are in the restored copy that the digests had "
                "not seen; tables that they wrote to cannot be compared",
                database=self._database.name,
            )
        certain = self._proof.exact and not passed
        for table in self._database.tables:
            if self._stop.is_set():
                raise InterruptedRunError("drill: stopped by request", reason="stopped")
            if table.left_out is None:
                self._compare(table, certain=certain)

    def _transactions_between(self) -> int:
        """Return how many transactions are committed here that the digests of the original had not seen."""
        seen = VisibleSet.parse(self._database.snapshot)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            (end,) = cursor.fetchone() or (seen.end,)
            running = [str(xid) for xid in seen.running if xid < end]
            cursor.execute(_LATER, [running, seen.end, min(end, seen.end + _MAX_LATER)])
            (found,) = cursor.fetchone() or (0,)
        return int(found)

    def _compare(self, table: TableProof, *, certain: bool) -> None:
        concerned = {"database": self._database.name, "table": table.qualified}
        what = f"table {self._database.name}.{table.qualified}"
        try:
            with self._connection.cursor() as cursor:
                found = digest_table(cursor, table.schema, table.name, self._proof.seed, table.percent)
        except server_errors.UndefinedFile as error:  # of an extension that is not installed on this machine
            self._notes.hint("not-checked", f"{what}: {words_of(error)}", **concerned)
            return
        except psycopg2.Error as error:
            self._notes.damage("table-unreadable", f"{what}: {words_of(error)}", **concerned)
            return
        if (found.rows, found.digest) == (table.rows, table.digest):
            self._notes.count("tables_compared" if table.percent == WHOLE else "tables_sampled")
            return
        part = "" if table.percent == WHOLE else f" in the {table.percent} % of its pages that were read"
        message = f"{what}: {found.rows} rows, expected {table.rows}{part}"
        if found.rows == table.rows:
            message = f"{what}: {found.rows} rows{part}, and their content is not what it was"
        report = self._notes.damage if certain else self._notes.hint
        report("content-differs", message, **concerned)
