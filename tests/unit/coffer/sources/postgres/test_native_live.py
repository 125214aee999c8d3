"""Native incremental backups that are taken while others write: each restores to what its moment was."""

from __future__ import annotations

import contextlib
import io
import random
import threading

import psycopg2
import pytest

from coffer.backends.memory import MemoryBackend
from coffer.postgres.facts import ClusterFacts, Method
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.wal_receiver import drain
from tests.harness.cluster_content import recovered
from tests.harness.repositories import make_repository

pytestmark = pytest.mark.postgres

ACCOUNTS = 20000
TABLES = ("accounts", "moves", "queue", "items")
# Money only moves, and each move is written down: whatever the moment, both hold, or pages of two moments are mixed.
SUMS = "SELECT (SELECT sum(money) FROM accounts), (SELECT sum(moved) FROM accounts) - 2 * (SELECT count(*) FROM moves)"


@pytest.fixture
def busy(summarizing_servers):
    """A server with tables that writers change all the time."""
    server = summarizing_servers.start(
        summarize_wal="on", checkpoint_timeout="30s", max_wal_size="64MB", autovacuum_naptime="1s"
    )
    server.sql("CREATE EXTENSION amcheck")
    server.sql("CREATE TABLE accounts (id int PRIMARY KEY, money bigint, moved int, filler text)")
    server.sql(f"INSERT INTO accounts SELECT n, 1000, 0, repeat('x', 100) FROM generate_series(1, {ACCOUNTS}) n")
    server.sql("CREATE TABLE moves (from_id int, to_id int, amount int)")
    server.sql("CREATE TABLE queue (id int, text text)")
    server.sql("CREATE TABLE items AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 30000) n")
    server.sql("CREATE INDEX ON items (text)")
    yield server
    server.close()


def write(connection, draw):
    """Do one thing that a busy server does."""
    with contextlib.closing(connection.cursor()) as cursor:
        kind = draw.randrange(30)
        if kind == 0:
            cursor.copy_expert(
                "COPY queue FROM STDIN", io.StringIO("".join(f"{n}\t{draw.random()}\n" for n in range(3000)))
            )
        elif kind == 1:
            cursor.execute("DELETE FROM queue")
            connection.commit()
            connection.autocommit = True
            cursor.execute("VACUUM queue")
            connection.autocommit = False
        elif kind == 2:
            cursor.execute("UPDATE items SET text = md5(text) WHERE id %% 50 = %s", [draw.randrange(50)])
        else:
            one, other = draw.sample(range(1, ACCOUNTS), 2)
            for who, amount in sorted([(one, -5), (other, 5)]):
                cursor.execute("UPDATE accounts SET money = money + %s, moved = moved + 1 WHERE id = %s", [amount, who])
            cursor.execute("INSERT INTO moves VALUES (%s, %s, 5)", [one, other])
    connection.commit()


@contextlib.contextmanager
def writing(server, seed):
    """Let two writers write until the end of the block."""
    stop, failures = threading.Event(), []

    def run(number):
        connection = psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname="postgres")
        draw = random.Random(seed * 100 + number)
        try:
            while not stop.is_set():
                write(connection, draw)
        except psycopg2.Error as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def digests(server):
    """Return count and digest of every table."""
    query = "SELECT count(*), sum(hashtextextended({0}::text, 0)) FROM {0}"
    return {table: server.sql(query.format(table)) for table in TABLES}


def test_backups_under_writes_restore_to_their_moments(busy, summarizing_servers):
    """To the end of each backup, by what always holds; and to the end of all WAL, table by table against the server."""
    repo = make_repository(MemoryBackend())
    source = ClusterSource("busy", busy.connection(), "coffer_busy")
    methods = []
    for number in range(4):
        with writing(busy, number):
            threading.Event().wait(2)
            method = Method.NATIVE if number else Method.FULL
            result = backup_cluster(repo, source, options=ClusterOptions(method=method, workers=1))
            methods.append(ClusterFacts.of(result.snapshot).method)
        with recovered(repo, "busy", "immediate", summarizing_servers) as server:
            assert [(ACCOUNTS * 1000, 0)] == server.sql(SUMS)
            must_be_sound(server)
    drain(repo, "busy", busy.connection(), slot="coffer_busy")
    with recovered(repo, "busy", "latest", summarizing_servers) as server:
        assert digests(busy) == digests(server)
        must_be_sound(server)
    assert Method.NATIVE in methods[1:]


def must_be_sound(server):
    """Look at every table and index of our own: structure, and that each row is in its indexes."""
    damage = "SELECT * FROM verify_heapam(c.oid) v"
    heaps = f"SELECT c.relname, v.* FROM pg_class c, LATERAL ({damage}) v WHERE c.relname = ANY(%s)"
    assert [] == server.sql(heaps, [list(TABLES)])
    server.sql("SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
               "WHERE c.relname = ANY(%s)", [list(TABLES)])  # fmt: skip
