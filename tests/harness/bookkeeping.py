"""Writes to a server that are written down: what must be there at each moment is known without asking the server again.

Transaction k inserts row k, and adds k to one of a hundred accounts. So the content after k transactions follows from k
alone, and a restored server is compared with that, never with another server's state of now.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import psycopg2

from coffer.postgres.lsn import Lsn
from tests.harness.postgres import Server, wait_for

_ACCOUNTS = 100
TABLES = f"""
    CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
    INSERT INTO accounts SELECT n, 0 FROM generate_series(0, {_ACCOUNTS - 1}) n;
    CREATE TABLE book (id bigint PRIMARY KEY, body text NOT NULL);
"""
_STATE = """
    SELECT (SELECT count(*) FROM book), (SELECT coalesce(md5(string_agg(body, ',' ORDER BY id)), '') FROM book),
           (SELECT array_agg(balance ORDER BY id) FROM accounts)
"""


@dataclass(frozen=True)
class Kept:
    """One transaction of the book.

    Attributes:
        number: The content is that after so many transactions, from right behind it until the next one.
        lsn: A position between it and the next one.
        xid: Its number for the server.
        at: A time between it and the next one.
    """

    number: int
    lsn: Lsn
    xid: int
    at: datetime


def body_of(number: int) -> str:
    """Return the text of a row; some are large enough to be stored out of line."""
    digest = hashlib.md5(str(number).encode()).hexdigest()
    return digest * (200 if number % 50 == 0 else 1)


def expected_state(number: int) -> tuple[int, str, list[int]]:
    """Return what `state_of` gives after so many transactions."""
    bodies = ",".join(body_of(n) for n in range(1, number + 1))
    balances = [sum(range(rest or _ACCOUNTS, number + 1, _ACCOUNTS)) for rest in range(_ACCOUNTS)]
    return number, hashlib.md5(bodies.encode()).hexdigest() if number else "", balances


def state_of(server: Server) -> tuple[Any, ...]:
    """Return what a server has of the book."""
    return server.sql(_STATE)[0]


class Bookkeeper:
    """Writes, in a thread of its own, until the context ends.

    Attributes:
        kept: Every transaction that was committed, in order.
        points: Name -> number of transactions before it, for each restore point.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kept: list[Kept] = []
        self.points: dict[str, int] = {}
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Bookkeeper:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="bookkeeper")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    @property
    def count(self) -> int:
        """How many transactions there were so far."""
        return len(self.kept)

    def go_on(self, transactions: int) -> Kept:
        """Wait for so many more, and return the last of them."""
        wanted = self.count + transactions

        def done() -> bool:
            assert self._error is None, self._error
            return self.count >= wanted

        wait_for(done, "transactions")
        return self.kept[wanted - 1]

    def mark(self, name: str) -> int:
        """Make a restore point between two transactions, and return how many were before it."""
        self._asked.put(name)

        def done() -> bool:
            assert self._error is None, self._error
            return name in self.points

        wait_for(done, "the restore point")
        return self.points[name]

    def _run(self) -> None:
        try:
            connection = psycopg2.connect(host=str(self.server.home), port=self.server.port, user="postgres")
            try:
                while not self._stop.is_set():
                    self._one(connection)
            finally:
                connection.close()
        except BaseException as error:  # noqa: BLE001 - told to the test by go_on, mark or the context's end
            self._error = error

    def _one(self, connection: Any) -> None:
        number = self.count + 1
        with connection.cursor() as cursor:
            while not self._asked.empty():
                name = self._asked.get()
                cursor.execute("SELECT pg_create_restore_point(%s)", [name])
                connection.commit()
                self.points[name] = number - 1
            cursor.execute("INSERT INTO book VALUES (%s, %s)", [number, body_of(number)])
            cursor.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", [number, number % _ACCOUNTS])
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            xid = cursor.fetchone()[0]
            connection.commit()
            cursor.execute("SELECT pg_current_wal_insert_lsn(), clock_timestamp()")
            lsn, at = cursor.fetchone()
            connection.commit()
        self.kept.append(Kept(number, Lsn.parse(lsn), xid, at))
