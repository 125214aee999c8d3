"""Native incremental backups of quiet servers, whose pages on disk are what a snapshot must hold."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator

import psycopg2

from coffer.postgres.facts import ClusterFacts, Method
from coffer.repository.repository import Repository
from coffer.sources.assembly.result import BackupResult
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from tests.harness.postgres import Server, Servers

QUIET = {"autovacuum": "off", "checkpoint_timeout": "1h", "bgwriter_lru_maxpages": "0"}
ROWS = "SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, {}) n"


@contextlib.contextmanager
def summarizing_server(servers: Servers) -> Iterator[Server]:
    """Start a server that summarizes its WAL, with a table of 5 MB that nobody changes by reading it."""
    server = servers.start(**QUIET, summarize_wal="on")
    server.sql("CREATE TABLE items (id int PRIMARY KEY, text text)")
    server.sql("INSERT INTO items " + ROWS.format(40000))
    server.sql("VACUUM FREEZE items")
    try:
        yield server
    finally:
        server.close()


def take(repo: Repository, server: Server, method: Method = Method.NATIVE, name: str = "primary") -> BackupResult:
    """Back up a quiet server: a checkpoint puts its buffers on disk first."""
    server.sql("CHECKPOINT")
    source = ClusterSource(name, server.connection(), f"coffer_{name}")
    result = backup_cluster(repo, source, options=ClusterOptions(method=method, workers=2))
    assert 0 == result.exit_code
    return result


def method_of(result: BackupResult) -> Method:
    """Return how a snapshot was made in the end."""
    facts = ClusterFacts.of(result.snapshot)
    assert facts is not None
    return facts.method


def must_be_compared(result: BackupResult, code: str, words: str) -> None:
    """Make sure that pages were compared instead, and that the result says why."""
    assert Method.DELTA is method_of(result)
    (warning,) = result.warnings
    assert code == warning.code
    assert words in warning.message
    assert "the pages are compared instead" in warning.message


def copy_in(server: Server, table: str, count: int, text: str = "new") -> None:
    """Fill a table by COPY, which extends it by many pages at once."""
    connection = psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname="postgres")
    with connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN", io.StringIO("".join(f"{n}\t{text} {n}\n" for n in range(count))))
    connection.close()


class ClusterFuzz:
    """Changes a cluster in every way that moves, cuts or rewrites files."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server, self.draw = server, random.Random(seed)
        self.tables: dict[str, int] = {}
        self.databases: list[str] = []
        self.number = 0

    def step(self) -> None:
        """Do one thing."""
        kinds = [self.create, self.create, *[self.change] * 10, self.checkpoint, self.database, self.roll_back]
        self.draw.choice(kinds)()

    def create(self) -> None:
        """Make a table, perhaps with an index."""
        self.number += 1
        name = f"t{self.number}"
        rows = self.draw.randrange(1, 12000)
        self.server.sql(f"CREATE TABLE {name} AS SELECT n AS id, repeat(md5(n::text), {self.draw.randrange(1, 6)}) "
                        f"AS text FROM generate_series(1, {rows}) n")  # fmt: skip
        if self.draw.random() < 0.5:
            self.server.sql(f"CREATE INDEX ON {name} USING {self.draw.choice(['btree', 'hash', 'brin'])} (id)")
        self.tables[name] = rows

    def checkpoint(self) -> None:
        """End a summary."""
        self.server.sql("CHECKPOINT")

    def database(self) -> None:
        """Make a database either way, or drop one."""
        if self.databases and self.draw.random() < 0.5:
            self.server.sql(f"DROP DATABASE {self.databases.pop()}")
            return
        self.number += 1
        strategy = self.draw.choice(["wal_log", "file_copy"])
        self.server.sql(f"CREATE DATABASE d{self.number} STRATEGY {strategy}")
        self.databases.append(f"d{self.number}")

    def roll_back(self) -> None:
        """Cut a table, and let it be as it was."""
        if self.tables:
            name = self.draw.choice(sorted(self.tables))
            self.server.sql(f"DO $$ BEGIN TRUNCATE {name}; INSERT INTO {name} SELECT n, 'x' FROM generate_series(1, "
                            "3000) n; RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$")  # fmt: skip

    def change(self) -> None:
        """Change a table."""
        if not self.tables:
            return
        draw, name = self.draw, self.draw.choice(sorted(self.tables))
        rows = max(self.tables[name], 2)
        kind = draw.randrange(11)
        if kind == 0:
            del self.tables[name]
        if kind == 10:
            copy_in(self.server, name, draw.randrange(1, 8000))
            return
        self.server.sql([
            f"DROP TABLE {name}",
            f"TRUNCATE {name}",
            f"VACUUM {name}",
            f"VACUUM FULL {name}",
            f"DELETE FROM {name} WHERE id > {draw.randrange(rows)}",
            f"DELETE FROM {name} WHERE id % {draw.randrange(2, 9)} = 0",
            f"UPDATE {name} SET text = text || 'x' WHERE id % {draw.randrange(2, 900)} = 0",
            f"INSERT INTO {name} SELECT n, 'new' FROM generate_series(1, {draw.randrange(1, 9000)}) n",
            f"REINDEX TABLE {name}",
            f"ALTER TABLE {name} SET {draw.choice(['LOGGED', 'UNLOGGED'])}",
        ][kind])  # fmt: skip
