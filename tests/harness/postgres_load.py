"""Writers that keep a server busy: many small transactions of every kind, until they are told to end."""

from __future__ import annotations

import random
import threading
from types import TracebackType

import psycopg2

from tests.harness.postgres import Server

ROWS = 400
TABLES = ("accounts", "history", "queue")
# A commit is written, and becomes visible only two milliseconds later: as on a disk that takes its time.
SLOW_COMMITS = {"fsync": "on", "commit_delay": "2000", "commit_siblings": "1", "max_prepared_transactions": "10"}


def make_tables(server: Server, dbname: str = "postgres") -> None:
    """Make the tables that the writers write to, readable for the role `backup`."""
    server.sql("CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, note text)", dbname=dbname)
    server.sql(
        f"INSERT INTO accounts SELECT n, 0, repeat('x', n % 90) FROM generate_series(1, {ROWS}) n", dbname=dbname
    )
    server.sql(
        "CREATE TABLE history (id bigserial, account int, delta int, at timestamptz DEFAULT now())", dbname=dbname
    )
    server.sql("CREATE TABLE queue (id int, payload text)", dbname=dbname)
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO backup", dbname=dbname)


class Load:
    """Writers on threads; a context manager.

    Attributes:
        committed: How many transactions there were.
        failures: What went wrong, which a test must find empty.
    """

    def __init__(self, server: Server, *, writers: int = 4, dbnames: tuple[str, ...] = ("postgres",), seed: int = 1):
        self._server, self._dbnames = server, dbnames
        self._stop = threading.Event()
        self.committed = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(seed + n, n), daemon=True) for n in range(writers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []

    def _write(self, seed: int, number: int) -> None:
        rng = random.Random(seed)
        dbname = self._dbnames[number % len(self._dbnames)]
        try:
            connection = psycopg2.connect(
                host=str(self._server.home), port=self._server.port, user="postgres", dbname=dbname
            )
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '30s'")
                while not self._stop.is_set():
                    for statements in self._transaction(rng):
                        cursor.execute(statements)
                    self.committed += 1
            connection.close()
        except psycopg2.Error as error:
            self.failures.append(str(error))
            self._stop.set()

    def _transaction(self, rng: random.Random) -> list[str]:
        """Return the queries of one transaction; accounts are taken in order, so that nobody deadlocks."""
        name = f"p{rng.getrandbits(60)}"
        statements = self._statements(rng, name)
        is_prepared = statements.endswith(f"'{name}'")
        return [statements, f"COMMIT PREPARED '{name}'"] if is_prepared else [statements]

    def _statements(self, rng: random.Random, name: str) -> str:
        first, second = sorted(rng.sample(range(1, ROWS + 1), 2))
        delta = rng.randint(-500, 500)
        transfer = (
            f"UPDATE accounts SET balance = balance - {delta} WHERE id = {first};"
            f"UPDATE accounts SET balance = balance + {delta} WHERE id = {second};"
            f"INSERT INTO history (account, delta) VALUES ({first}, {delta})"
        )
        kind = rng.randrange(10)
        if kind < 5:
            return f"BEGIN; {transfer}; COMMIT"
        if kind == 5:
            return f"BEGIN; {transfer}; ROLLBACK"
        if kind == 6:
            return f"BEGIN; SAVEPOINT a; {transfer}; ROLLBACK TO a; SAVEPOINT b; {transfer}; RELEASE b; COMMIT"
        if kind == 7:
            return f"INSERT INTO queue SELECT n, md5(n::text) FROM generate_series(1, {rng.randint(1, 50)}) n"
        if kind == 8:
            return "DELETE FROM queue WHERE ctid IN (SELECT ctid FROM queue LIMIT 40 FOR UPDATE SKIP LOCKED)"
        return f"BEGIN; {transfer}; PREPARE TRANSACTION '{name}'"
