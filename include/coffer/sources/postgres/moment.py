"""One moment of a cluster: a snapshot in each of several databases, and the position of the log that it is (ADR 0032).

Nothing is locked and nobody waits. Snapshots are taken in all databases at once; then the log of these milliseconds is
read, and says whether there is a position at which exactly the transactions are committed that all of them see. Where
there is none they are thrown away and taken anew.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.clock import Clock
from coffer.errors import CofferError, InterruptedRunError
from coffer.postgres.lsn import Lsn
from coffer.postgres.visibility import Seen, VisibleSet, exact_position
from coffer.postgres.wal_records import moments, page_start
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.replication import ReplicationSession
from coffer.sources.postgres.walstream import WalStretch, stream_wal

# Whoever wrote his commit before the snapshots and waits for the disk still must have done it within so much log.
_LOOK_BACK_BYTES = 4 << 20
_MAX_WINDOW_BYTES = 64 << 20  # of log that is read for one try; more of it takes longer than it is worth
_TRIES = 25
_MOST_PATIENCE_S = 20.0  # for all tries together [s]
_PAUSE_S = 0.01  # after a try in vain: what stood in the way is over by then [s]
_NEWS_S = 2.0  # how long a standby is waited for to receive more [s]
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_NOW = "pg_current_wal_insert_lsn()"
_NOW_OF_STANDBY = "pg_last_wal_replay_lsn()"


@dataclass(frozen=True, slots=True)
class ClusterMoment:
    """A moment; the connections' transactions see what was committed at it.

    Attributes:
        timeline: Of the position.
        lsn: The position: a recovery that stops before the first record at or behind it has the same.
        until: Up to here the log was read.
        is_exact: Whether the log says so. Else it is the position right behind the snapshots.
        snapshots: What the transactions see, in the order of the connections.
        tries: How many it took.
    """

    timeline: int
    lsn: Lsn
    until: Lsn
    is_exact: bool
    snapshots: tuple[str, ...]
    tries: int


class MomentFinder:
    """Takes snapshots until they are one moment."""

    def __init__(
        self,
        target: PostgresConnection,
        control: SqlConnection,
        connections: Sequence[SqlConnection],
        *,
        after: Lsn,
        segment_bytes: int,
        clock: Clock,
        stop: threading.Event | None = None,
    ) -> None:
        """Prepare.

        Args:
            target: The cluster.
            control: A connection for SQL, in autocommit.
            connections: One to each database, in autocommit and outside of a transaction.
            after: The moment must not be before this position: the end of a backup.
            segment_bytes: Size of a WAL segment.
            clock: Says when patience is over.
            stop: Ends it between two tries.
        """
        self._target, self._control, self._connections = target, control, connections
        self._after, self._segment_bytes = after, segment_bytes
        self._clock, self._stop = clock, stop or threading.Event()
        self._is_standby = bool(self._value("SELECT pg_is_in_recovery()"))
        self._now = _NOW_OF_STANDBY if self._is_standby else _NOW
        self._major = control.server_version // 10000

    def find(self) -> ClusterMoment:
        """Return a moment, with a transaction open on each connection. The caller ends them.

        Raises:
            InterruptedRunError: `stop` was set; no transaction is open.
            PostgresUnavailableError, PostgresError: As the server says.
        """
        if not self._is_standby:
            self._value("SET synchronous_commit = local")  # the mark below waits for no standby
        until_s = self._clock.monotonic_s() + _MOST_PATIENCE_S
        tries = 0
        while True:
            tries += 1
            begin = self._position()
            seen = self._take_snapshots()
            found, timeline, end = self._ask_log(begin, seen)
            is_last = tries >= _TRIES or self._clock.monotonic_s() >= until_s
            if found is not None or is_last:
                near = max(self._after, *(one.after for one in seen))
                snapshots = tuple(str(one.visible) for one in seen)
                lsn = near if found is None else found
                return ClusterMoment(timeline, lsn, max(end, lsn), found is not None, snapshots, tries)
            self._give_back()
            if self._stop.wait(_PAUSE_S):
                raise InterruptedRunError(f"postgres {self._target.label}: stopped by request", reason="stopped")

    # ----------------------------------------------------------------------------------------------- snapshots

    def _take_snapshots(self) -> list[Seen]:
        """Take one on each connection, all within the time of one answer."""
        start = threading.Barrier(len(self._connections))
        with ThreadPoolExecutor(len(self._connections), thread_name_prefix="coffer-moment") as pool:
            futures = [pool.submit(self._take_snapshot, one, start) for one in self._connections]
        failures = [error for future in futures if (error := future.exception()) is not None]
        if failures:  # the others only say that they waited for the one that failed
            raise next((error for error in failures if isinstance(error, CofferError)), failures[0])
        return [future.result() for future in futures]

    def _take_snapshot(self, connection: SqlConnection, start: threading.Barrier) -> Seen:
        try:
            with server_errors(self._target.label), connection.cursor() as cursor:
                cursor.execute(f"SELECT {self._now}::text")
                before = Lsn.parse((cursor.fetchone() or ("",))[0])
                cursor.execute(_BEGIN)
                start.wait()
                cursor.execute(f"SELECT pg_current_snapshot()::text, {self._now}::text")
                text, after = cursor.fetchone() or ("", "")
        except BaseException:
            start.abort()
            raise
        return Seen(VisibleSet.parse(text), before, Lsn.parse(after), of_standby=self._is_standby)

    def _give_back(self) -> None:
        for connection in self._connections:
            with server_errors(self._target.label), connection.cursor() as cursor:
                cursor.execute("ROLLBACK")

    # ----------------------------------------------------------------------------------------------- the log

    def _ask_log(self, begin: Lsn, seen: Sequence[Seen]) -> tuple[Lsn | None, int, Lsn]:
        """Return (the exact position, timeline, up to where the log was read)."""
        with ReplicationSession(self._target) as session:
            timeline = session.identify().timeline
            end = self._readable_end(max(one.after for one in seen))
            kept = self._after.segment_start(self._segment_bytes)  # before it the server may have removed its log
            first = page_start(max(begin - _LOOK_BACK_BYTES, kept))
            is_short = not self._is_standby and end < max(one.after for one in seen)
            if is_short or end - first > _MAX_WINDOW_BYTES:
                return None, timeline, end
            try:
                pieces = (data for _, data in stream_wal(session, None, WalStretch(timeline, first, end)))
                commits = list(moments(pieces, first, self._segment_bytes))
            except CofferError:  # a promotion just now, or a server that goes down: no position, and the caller decides
                return None, timeline, end
        return exact_position(seen, commits, max(self._after, first), self._major), timeline, end

    def _readable_end(self, beyond: Lsn) -> Lsn:
        """Return a position behind the snapshots up to which the log is on the server's disk.

        A small transaction of our own ends the wait for the disk, and gives the recovery a record to stop at.
        """
        if not self._is_standby:
            self._mark()
            return self._lsn("pg_current_wal_flush_lsn()")
        until_s = self._clock.monotonic_s() + _NEWS_S
        while (received := self._position()) <= beyond and self._clock.monotonic_s() < until_s:
            self._stop.wait(_PAUSE_S)
        return received

    def _mark(self) -> None:
        try:
            with self._control.cursor() as cursor:
                cursor.execute("SELECT pg_logical_emit_message(true, 'coffer', 'proof')")
        except psycopg2.Error:  # a role that may not: what is on the disk already has to do
            return

    def _position(self) -> Lsn:
        return self._lsn(self._now)

    def _lsn(self, function: str) -> Lsn:
        return Lsn.parse(self._value(f"SELECT {function}::text"))

    def _value(self, query: str) -> str:
        with server_errors(self._target.label), self._control.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else ""
