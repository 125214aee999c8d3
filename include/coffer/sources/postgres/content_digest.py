"""Proof at backup time: what the tables of a cluster hold at one moment, as far as the time for it goes.

Owns: which tables, in which order, for how long. Refuses: to wait for locks, to hold one longer than a table takes, and
to fail: whatever a database or table refuses is written down beside it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
from psycopg2 import errors as server
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import CofferError, InterruptedRunError, ObjectCorruptError
from coffer.postgres.lsn import Lsn
from coffer.postgres.proof import (
    MAX_FAILURE,
    MAX_TABLES,
    WHOLE,
    DatabaseProof,
    LeftOut,
    Proof,
    TableProof,
)
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.moment import ClusterMoment, MomentFinder
from coffer.sources.postgres.table_digest import digest_table, set_conditions

MAX_DATABASES = 8  # at a time: each takes two connections
_LOCK_WAIT_MS = 1000
_FIRST_GUESS_BYTES_S = 40_000_000  # how fast a server turns pages into digests, until it was seen
_LEARN_BYTES = 8 << 20  # read before the guess is replaced by what was seen
_MAX_SHARE = 0.5  # of the time that is left, for one table
_LEAST_PERCENT = 0.001
_MAX_SEED = 1 << 31
_LARGE_OBJECTS = 2613  # OID of pg_largeobject: user's data in a catalog

_DATABASES = """
    SELECT d.oid::bigint, d.datname, pg_encoding_to_char(d.encoding), has_database_privilege(d.oid, 'CONNECT')
    FROM pg_database d WHERE d.datallowconn AND NOT d.datistemplate ORDER BY d.oid"""
_TABLES = f"""
    SELECT c.oid::bigint, n.nspname, c.relname, c.relkind, c.relpersistence,
        c.relpages::bigint * current_setting('block_size')::bigint,
        coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'f') AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        OR c.relpersistence = 't' AND n.nspname !~ '^pg_toast' OR c.oid = {_LARGE_OBJECTS})"""  # noqa: S608 - a constant
# What must be alike before and after: a table that is truncated or rewritten loses its old rows for every reader, and
# one with another definition gives other texts.
_SHAPE = """
    SELECT concat_ws(' ', n.nspname, c.relname, c.relfilenode, c.reltoastrelid, (
        SELECT string_agg(concat_ws(':', a.attnum, a.atttypid, a.attisdropped, a.xmin), ' ' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"""


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """How to prove.

    Attributes:
        budget_s: For how long the tables may be read [s].
        tables: Those that come first, in order: `database.schema.table`, `schema.table` or `table`.
        seed: Of the hashes and of samples; drawn where None.
    """

    budget_s: float = 300.0
    tables: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(slots=True)
class _Candidate:
    """A table that may be proved.

    Attributes:
        table: What is known of it.
        size_bytes: Of its pages, as the server last estimated [bytes].
        rank: Place among the tables that come first.
        was_slow: The last time, it was begun and not ended in time.
    """

    database: _Database
    table: TableProof
    size_bytes: int
    rank: int = 0
    was_slow: bool = False


@dataclass(slots=True)
class _Database:
    """A database that is read.

    Attributes:
        reading: The connection whose transaction sees the moment.
        looking: One that sees what is there now.
        found: Tables with their results.
    """

    oid: int
    name: str
    encoding: str
    reading: SqlConnection | None = None
    looking: SqlConnection | None = None
    snapshot: str = ""
    failure: str = ""
    found: list[TableProof] | None = None


def take_proof(
    target: PostgresConnection,
    *,
    after: Lsn,
    segment_bytes: int,
    options: ProofOptions | None = None,
    previous: dict[str, Any] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    stop: threading.Event | None = None,
) -> Proof:
    """Prove the content of a cluster at a moment right now.

    Reads tables one after another, each whole where the time allows, else a sample of its pages. Those that are named
    come first, then those that were not proved for longest, then the smallest. While it lasts the server keeps what
    was deleted since (as for any long reader), and definitions of the table at hand cannot be changed.

    Args:
        target: The cluster; the role needs CONNECT and SELECT (pg_read_all_data) on what is to be proved.
        after: The end of the base backup: the moment is not before it.
        segment_bytes: Size of a WAL segment.
        options: For how long, and what first.
        previous: The proof of the snapshot before, as its record holds it; anything else is passed over.
        clock: For the time given.
        stop: Ends it between two tables.

    Returns:
        The proof. WAL must be saved up to its `until` for a recovery to come to its moment.

    Raises:
        InterruptedRunError: `stop` was set.
        PostgresUnavailableError, PostgresError: The server does not let us in at all.
    """
    with ExitStack() as closing:
        run = _Proving(target, options or ProofOptions(), clock, stop or threading.Event(), closing)
        return run.prove(after, segment_bytes, _earlier(previous))


class _Proving:
    """One proof: its connections, its time, and its steps."""

    def __init__(
        self,
        target: PostgresConnection,
        options: ProofOptions,
        clock: Clock,
        stop: threading.Event,
        closing: ExitStack,
    ) -> None:
        self._target, self._options, self._clock, self._stop = target, options, clock, stop
        self._closing = closing
        self._seed = secrets.randbelow(_MAX_SEED) if options.seed is None else options.seed
        self._started_s = clock.monotonic_s()
        self._read_bytes, self._read_s = 0, 0.0

    def prove(self, after: Lsn, segment_bytes: int, earlier: Proof | None) -> Proof:
        """Do it all; see `take_proof`."""
        taken_ns = self._clock.now_ns()
        control = self._connect(self._target.dbname)
        databases = self._databases(control, earlier)
        readers = [database for database in databases if database.reading is not None]
        superuser = self._rows(control, "SELECT rolname FROM pg_roles WHERE oid = 10")  # of the role that initdb made
        moment = ClusterMoment(1, after, after, is_exact=False, snapshots=(), tries=0)
        unlisted = 0
        if readers:
            connections = [database.reading for database in readers if database.reading is not None]
            finder = MomentFinder(
                self._target, control, connections, after=after, segment_bytes=segment_bytes, clock=self._clock,
                stop=self._stop,
            )  # fmt: skip
            moment = finder.find()
            for database, snapshot in zip(readers, moment.snapshots, strict=True):
                database.snapshot = snapshot
            unlisted = self._prove_tables(readers, earlier)
        return Proof(
            timeline=moment.timeline,
            lsn=moment.lsn,
            until=moment.until,
            exact=moment.is_exact,
            server_version=control.server_version,
            superuser=superuser[0][0] if superuser else "",
            seed=self._seed,
            taken_ns=taken_ns,
            duration_ms=round((self._clock.monotonic_s() - self._started_s) * 1000),
            databases=tuple(_result(database) for database in databases),
            unlisted=unlisted,
        )

    # ----------------------------------------------------------------------------------------------- databases

    def _databases(self, control: SqlConnection, earlier: Proof | None) -> list[_Database]:
        """Return the databases; those that can be read now have their connections."""
        rows = self._rows(control, _DATABASES)
        found = [(_Database(int(oid), name, encoding), bool(may)) for oid, name, encoding, may in rows]
        unread = {database.name for database in earlier.databases if database.failure} if earlier else set()
        opened = 0
        for database, may in sorted(found, key=lambda one: (one[0].name not in unread, one[0].oid)):
            if not may:
                database.failure = "no right to connect"
            elif opened >= MAX_DATABASES:
                database.failure = f"left for another time: {MAX_DATABASES} databases are proved at once"
            else:
                try:
                    database.reading = self._connect(database.name)
                    database.looking = self._connect(database.name)
                    opened += 1
                except CofferError as error:
                    database.reading = None
                    database.failure = str(error)[:MAX_FAILURE]
        return [database for database, _ in found]

    def _connect(self, dbname: str) -> SqlConnection:
        connection = connect_sql(replace(self._target, dbname=dbname))
        self._closing.callback(connection.close)
        with server_errors(self._target.label):
            set_conditions(connection)
        return connection

    # ----------------------------------------------------------------------------------------------- tables

    def _prove_tables(self, databases: Sequence[_Database], earlier: Proof | None) -> int:
        """Prove what the time allows; return how many tables are not even listed."""
        until_s = self._clock.monotonic_s() + self._options.budget_s
        candidates = sorted(self._candidates(databases, earlier), key=_order)
        for at, candidate in enumerate(candidates[:MAX_TABLES]):
            if self._stop.is_set():
                raise InterruptedRunError(f"postgres {self._target.label}: stopped by request", reason="stopped", at=at)
            database, table = candidate.database, candidate.table
            if table.left_out is None:
                left_s = until_s - self._clock.monotonic_s()
                table = self._prove_table(candidate, left_s) if left_s > 0 else _left_out(table, LeftOut.BUDGET)
            assert database.found is not None  # listed before
            database.found.append(table)
        return max(0, len(candidates) - MAX_TABLES)

    def _candidates(self, databases: Sequence[_Database], earlier: Proof | None) -> Iterator[_Candidate]:
        before = {}
        if earlier is not None:
            before = {(database.oid, table.oid): table for database, table in earlier.tables()}
        ranks = {name: rank for rank, name in enumerate(reversed(self._options.tables), 1)}
        for database in databases:
            assert database.reading is not None  # only these are given
            try:
                rows = self._rows(database.reading, _TABLES)
            except (CofferError, UnicodeError) as error:  # a name that is no text, in a database without an encoding
                database.failure, database.snapshot = str(error)[:MAX_FAILURE], ""
                continue
            database.found = []
            for oid, schema, name, kind, persistence, size_bytes, may in rows:
                last = before.get((database.oid, oid))
                missed = 0 if last is None else last.missed
                table = TableProof(schema, name, int(oid), missed=missed, left_out=_reason(kind, persistence, may=may))
                if table.left_out is not None:
                    table = _left_out(table, table.left_out)
                rank = max(ranks.get(word, 0) for word in _spellings(database.name, schema, name))
                was_slow = last is not None and last.left_out is LeftOut.TIMEOUT
                yield _Candidate(database, table, max(0, size_bytes), rank, was_slow)

    def _prove_table(self, candidate: _Candidate, left_s: float) -> TableProof:
        """Return the table with its digest, or with the reason why it has none."""
        database, table = candidate.database, candidate.table
        reading, looking = database.reading, database.looking
        assert reading is not None  # given by the caller
        assert looking is not None  # opened with it
        percent = self._percent(candidate, left_s)
        started_s = self._clock.monotonic_s()
        try:
            with reading.cursor() as cursor, looking.cursor() as second:
                cursor.execute("SAVEPOINT coffer")
                try:
                    cursor.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
                    cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(left_s * 1000))}")
                    found = digest_table(cursor, table.schema, table.name, self._seed, percent)
                    cursor.execute(_SHAPE, [table.oid])
                    then = cursor.fetchone()
                    second.execute(_SHAPE, [table.oid])  # the table's lock is ours still: nobody changes it later
                    now = second.fetchone()
                finally:
                    # Takes the lock back too, so that nobody waits for the end of the whole proof.
                    cursor.execute("ROLLBACK TO SAVEPOINT coffer")
                    cursor.execute("RELEASE SAVEPOINT coffer")
        except psycopg2.Error as error:
            return _left_out(table, _reason_of(error))
        self._learn(candidate.size_bytes * float(percent) / 100, self._clock.monotonic_s() - started_s)
        if then is None or then != now:
            return _left_out(table, LeftOut.CHANGED)
        return replace(table, rows=found.rows, digest=found.digest, percent=percent, missed=0)

    def _percent(self, candidate: _Candidate, left_s: float) -> str:
        """Return how much of a table is read: all of it, if that takes no more than its share of the time."""
        rate = self._read_bytes / self._read_s if self._read_bytes >= _LEARN_BYTES else _FIRST_GUESS_BYTES_S
        affordable = left_s * _MAX_SHARE * rate
        if candidate.size_bytes <= affordable and not candidate.was_slow:
            return WHOLE
        share = 100 * affordable / max(1, candidate.size_bytes)
        return f"{min(50.0, max(_LEAST_PERCENT, share)):.3f}"

    def _learn(self, read_bytes: float, took_s: float) -> None:
        self._read_bytes += round(read_bytes)
        self._read_s += max(took_s, 1e-6)

    def _rows(self, connection: SqlConnection, query: str) -> list[tuple[Any, ...]]:
        with server_errors(self._target.label), connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()


def _order(candidate: _Candidate) -> tuple[int, bool, int, int, str]:
    table = candidate.table
    return -candidate.rank, table.left_out is not None, -table.missed, candidate.size_bytes, table.qualified


def _spellings(database: str, schema: str, name: str) -> tuple[str, ...]:
    return f"{database}.{schema}.{name}", f"{schema}.{name}", name


def _reason(kind: str, persistence: str, *, may: bool) -> LeftOut | None:
    """Return why a table is not even tried."""
    if kind == "f":
        return LeftOut.FOREIGN
    if persistence == "t":
        return LeftOut.TEMPORARY
    if persistence == "u":
        return LeftOut.UNLOGGED
    return None if may else LeftOut.NO_RIGHT


def _reason_of(error: psycopg2.Error) -> LeftOut:
    if isinstance(error, server.QueryCanceled):
        return LeftOut.TIMEOUT
    if isinstance(error, server.LockNotAvailable):
        return LeftOut.LOCKED
    if isinstance(error, server.InsufficientPrivilege):
        return LeftOut.NO_RIGHT
    if isinstance(error, (server.UndefinedTable, server.InvalidSchemaName)):  # dropped or renamed
        return LeftOut.CHANGED
    return LeftOut.FAILED


def _left_out(table: TableProof, why: LeftOut) -> TableProof:
    return replace(table, left_out=why, missed=table.missed + 1)


def _result(database: _Database) -> DatabaseProof:
    found = sorted(database.found or (), key=lambda table: table.left_out is not None)  # stable: order of proving
    return DatabaseProof(
        database.oid, database.name, database.encoding, database.snapshot, tuple(found), database.failure
    )


def _earlier(previous: dict[str, Any] | None) -> Proof | None:
    """Return the proof before; None where there is none that can be read: it only says what comes first."""
    if previous is None:
        return None
    with suppress(ObjectCorruptError):
        return Proof.parse(previous)
    return None
