"""What is proved with a backup, in which order, and what is written down of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coffer.errors import InterruptedRunError
from coffer.errors_postgres import PostgresAuthError
from coffer.postgres.lsn import Lsn
from coffer.postgres.proof import LeftOut, Proof
from coffer.sources.postgres import content_digest
from coffer.sources.postgres.content_digest import ProofOptions, take_proof
from tests.harness.postgres import wait_for

pytestmark = pytest.mark.postgres


@pytest.fixture
def own(servers):
    """A server of its own with some tables that the backup's role may read."""
    server = servers.start()
    server.sql("CREATE TABLE small AS SELECT generate_series(1, 10) AS n")
    server.sql("CREATE TABLE large AS SELECT n, repeat('x', 200) AS t FROM generate_series(1, 20000) n")
    server.sql("CREATE TABLE medium AS SELECT generate_series(1, 5000) AS n")
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO backup")
    server.sql("VACUUM ANALYZE")
    yield server
    server.close()


def prove(server, *, previous=None, **options):
    """Take a proof right now."""
    after = Lsn.parse(server.value("SELECT pg_current_wal_insert_lsn()::text"))
    return take_proof(
        server.connection(),
        after=after,
        segment_bytes=16 << 20,
        options=ProofOptions(**{"budget_s": 60.0, **options}),
        previous=previous,
    )


def names(proof, *, left_out=False):
    """Return the names of the tables that were proved, or left out, in order."""
    return [table.name for _, table in proof.tables() if (table.left_out is not None) == left_out]


def test_all_tables_are_proved_at_an_exact_moment(own):
    """The smallest first; the record says of whom, with which seed, and up to where WAL must be saved."""
    proof = prove(own, seed=7)
    assert ["small", "medium", "large"] == names(proof)
    assert [10, 5000, 20000] == [table.rows for _, table in proof.tables() if table.left_out is None]
    assert (True, 1, 7, "postgres") == (proof.exact, proof.timeline, proof.seed, proof.superuser)
    assert proof.lsn < proof.until <= Lsn.parse(own.value("SELECT pg_current_wal_flush_lsn()::text"))
    assert own.installation.major == proof.server_version // 10000
    assert proof == Proof.parse(proof.to_json())


def test_two_proofs_of_a_quiet_server_agree(own):
    """With one seed the digests are equal; with another they are not."""
    first, second, third = prove(own, seed=7), prove(own, seed=7), prove(own, seed=8)
    digests = [
        [table.digest for _, table in proof.tables() if table.left_out is None] for proof in (first, second, third)
    ]
    assert digests[0] == digests[1]
    assert all(a != b for a, b in zip(digests[0], digests[2], strict=True))


def test_what_cannot_be_proved_is_written_down_with_its_reason(own):
    """Unlogged, foreign, forbidden, hidden by a policy for rows, not filled: each beside the tables that are proved."""
    own.sql("CREATE UNLOGGED TABLE cache AS SELECT 1 AS n")
    own.sql("CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere")
    own.sql("CREATE FOREIGN TABLE remote (n int) SERVER far")
    own.sql("CREATE TABLE secret AS SELECT 1 AS n")
    own.sql("CREATE SCHEMA closed; CREATE TABLE closed.inner_table AS SELECT 1 AS n")
    own.sql("GRANT SELECT ON closed.inner_table TO backup")
    own.sql("CREATE TABLE hidden AS SELECT 1 AS n; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
    own.sql("CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS n WITH NO DATA")
    own.sql("CREATE VIEW seen AS SELECT 1 AS n; CREATE TABLE parts (n int) PARTITION BY RANGE (n)")
    own.sql("CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9); INSERT INTO parts VALUES (1)")
    own.sql("GRANT SELECT ON hidden, unfilled, cache, seen, parts, part, remote TO backup")
    proof = prove(own)
    found = {table.name: table.left_out for _, table in proof.tables() if table.left_out is not None}
    assert found == {
        "cache": LeftOut.UNLOGGED,
        "remote": LeftOut.FOREIGN,
        "secret": LeftOut.NO_RIGHT,
        "inner_table": LeftOut.NO_RIGHT,
        "hidden": LeftOut.NO_RIGHT,
        "unfilled": LeftOut.FAILED,
        "pg_largeobject": LeftOut.NO_RIGHT,
    }
    assert {"small", "medium", "large", "part"} == set(names(proof))


def test_large_objects_are_proved_where_the_role_may_read_all(own):
    """They are user's data, although they lie in a catalog."""
    own.sql("GRANT pg_read_all_data TO backup; SELECT lo_from_bytea(0, 'a large object')")
    assert "pg_largeobject" in names(prove(own))


def test_a_temporary_table_is_left_out(own):
    """It is gone before anybody could compare it."""
    import psycopg2

    session = psycopg2.connect(host=str(own.home), port=own.port, user="postgres", dbname="postgres")
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE passing AS SELECT 1 AS n")
    found = {table.name: table.left_out for _, table in prove(own).tables()}
    session.close()
    assert LeftOut.TEMPORARY is found["passing"]


def test_a_locked_table_is_not_waited_for(own):
    """Somebody alters it: it is left out after a second, and the others are proved."""
    import psycopg2

    session = psycopg2.connect(host=str(own.home), port=own.port, user="postgres", dbname="postgres")
    with session.cursor() as cursor:
        cursor.execute("LOCK TABLE medium IN ACCESS EXCLUSIVE MODE")
        proof = prove(own)
    session.close()
    assert {"medium": LeftOut.LOCKED} == {
        table.name: table.left_out for _, table in proof.tables() if table.name == "medium"
    }
    assert ["small", "large"] == names(proof)


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE medium",
        "ALTER TABLE medium ADD COLUMN more int DEFAULT 5",
        "ALTER TABLE medium ALTER COLUMN n TYPE bigint",
        "ALTER TABLE medium DROP COLUMN n",
        "DROP TABLE medium",
        "ALTER TABLE medium RENAME TO other",
        "DROP TABLE medium; CREATE TABLE medium AS SELECT 1 AS n; GRANT SELECT ON medium TO backup",
    ],
)
def test_a_table_that_was_redefined_after_the_moment_is_left_out(own, monkeypatch, change):
    """Its rows of that moment are gone, or have another text: a digest of them would be a false alarm later."""
    real = content_digest.digest_table

    def change_first(cursor, schema, name, seed, percent):
        if name == "medium" and own.value("SELECT count(*) FROM pg_class WHERE relname = 'done'") == 0:
            own.sql(f"{change}; CREATE TABLE done ()")
        return real(cursor, schema, name, seed, percent)

    monkeypatch.setattr(content_digest, "digest_table", change_first)
    proof = prove(own)
    assert [LeftOut.CHANGED] == [table.left_out for _, table in proof.tables() if table.name == "medium"]
    assert ["small", "large"] == names(proof)


def test_rows_written_after_the_moment_are_not_in_it(own, monkeypatch):
    """Updates, deletions and insertions meanwhile change no digest."""
    expected = {table.name: table.digest for _, table in prove(own, seed=3).tables()}
    real = content_digest.digest_table

    def write_first(cursor, schema, name, seed, percent):
        own.sql("UPDATE large SET t = 'changed' WHERE n % 7 = 0; DELETE FROM small; INSERT INTO medium VALUES (-1)")
        return real(cursor, schema, name, seed, percent)

    monkeypatch.setattr(content_digest, "digest_table", write_first)
    assert expected == {table.name: table.digest for _, table in prove(own, seed=3).tables()}


def test_locks_are_given_back_after_each_table(own, monkeypatch):
    """While one table is read, the one before can be altered: nobody waits for the end of the whole proof."""
    real = content_digest.digest_table
    altered = []

    def alter_the_one_before(cursor, schema, name, seed, percent):
        if name == "medium":
            own.sql("SET lock_timeout = '2s'; ALTER TABLE small ADD COLUMN later int")
            altered.append(name)
        return real(cursor, schema, name, seed, percent)

    monkeypatch.setattr(content_digest, "digest_table", alter_the_one_before)
    assert ["small", "medium", "large"] == names(prove(own))
    assert ["medium"] == altered


def test_without_time_nothing_is_proved_and_all_is_listed(own):
    """The reason is the budget."""
    proof = prove(own, budget_s=0.0)
    assert [] == names(proof)
    assert {LeftOut.BUDGET} == {table.left_out for _, table in proof.tables() if table.name != "pg_largeobject"}


def test_a_table_that_takes_too_long_is_broken_off(own):
    """By the server's own time limit. The next time it is tried in part, and what was missed comes first."""
    own.sql("CREATE TABLE endless AS SELECT generate_series(1, 300000) AS n; GRANT SELECT ON endless TO backup")
    first = prove(own, budget_s=0.02, tables=("endless",))
    by_name = {table.name: table for _, table in first.tables()}
    assert LeftOut.TIMEOUT is by_name["endless"].left_out
    assert 1 == by_name["large"].missed
    second = prove(own, previous=first.to_json())
    parts = {table.name: table.percent for _, table in second.tables() if table.left_out is None}
    assert float(parts["endless"]) <= 50
    assert "100" == parts["large"]
    assert 0 == max(table.missed for _, table in second.tables() if table.left_out is None)


def test_a_large_table_is_read_in_part_where_it_would_take_all_the_time(own, monkeypatch):
    """A sample of its pages that fits into its share."""
    monkeypatch.setattr(content_digest, "_FIRST_GUESS_BYTES_S", 1_000_000)
    proof = prove(own, budget_s=3.0)
    percent = {table.name: float(table.percent) for _, table in proof.tables() if table.left_out is None}
    assert (100.0, 100.0) == (percent["small"], percent["medium"])
    assert 0 < percent["large"] < 50


def test_named_tables_come_first_then_those_that_were_missed_longest(own):
    """A table that never had its turn has it the next time."""
    assert ["large", "small", "medium"] == names(prove(own, tables=("postgres.public.large", "public.nothing")))
    assert ["medium", "large", "small"] == names(prove(own, tables=("medium", "public.large")))
    before = prove(own, budget_s=0.0)
    database = before.databases[0]
    waited = tuple(
        replace(table, missed=9) if table.name == "large" else replace(table, missed=1) for table in database.tables
    )
    again = replace(before, databases=(replace(database, tables=waited), *before.databases[1:]))
    assert ["large", "small", "medium"] == names(prove(own, previous=again.to_json()))


def test_every_database_is_proved_at_the_same_moment(own):
    """One that the role may not enter is written down."""
    own.sql("CREATE DATABASE second")
    own.sql("CREATE DATABASE closed")
    own.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    own.sql("CREATE TABLE here AS SELECT 1 AS n; GRANT SELECT ON here TO backup", dbname="second")
    proof = prove(own)
    by_name = {database.name: database for database in proof.databases}
    assert {"postgres", "second", "closed"} == by_name.keys()
    assert "no right to connect" == by_name["closed"].failure
    assert ["here"] == [table.name for table in by_name["second"].tables if table.left_out is None]
    assert proof.exact


def test_a_proof_that_cannot_be_read_is_no_reason_to_fail(own):
    """The one before only says what comes first."""
    assert names(prove(own)) == names(prove(own, previous={"format": "none"}))


def test_no_session_is_left_behind(own):
    """All connections are closed, and nothing holds old rows any more."""
    prove(own)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coffer' AND pid <> pg_backend_pid()"
    assert wait_for(lambda: own.value(query) == 0, "the sessions' end")


def test_a_stop_ends_it(own):
    """Before the next table."""
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        take_proof(own.connection(), after=Lsn(1), segment_bytes=16 << 20, stop=stop)


def test_a_server_that_does_not_let_us_in_is_an_error(own):
    """The caller decides what that means for the backup."""
    with pytest.raises(PostgresAuthError):
        take_proof(own.connection(password="wrong"), after=Lsn(1), segment_bytes=16 << 20)
