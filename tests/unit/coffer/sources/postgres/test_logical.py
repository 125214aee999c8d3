"""Logical backups of real servers: what is in them, of which moment, and what ends them."""

import subprocess
import sys
import textwrap
import threading
from contextlib import closing

import psycopg2
import pytest

from coffer.backends.factory import open_backend
from coffer.chunking.cutter import ChunkParams
from coffer.errors import InterruptedRunError, SourceFormatError, UsageError
from coffer.errors_postgres import PostgresAuthError, PostgresError, PostgresUnavailableError
from coffer.postgres import children
from coffer.postgres.logical_facts import LogicalFacts
from coffer.repository.repository import Repository
from coffer.sources.postgres import logical as module
from coffer.sources.postgres.logical_catalog import HeldDatabase
from coffer.sources.postgres.logical_choice import Choice
from tests.harness.logical import (
    PROGRAMS_VARIABLE,
    Bench,
    all_programs,
    children_of,
    is_alive,
    make_database,
    superuser,
)
from tests.harness.postgres import PASSWORD, installations, wait_for
from tests.harness.programs import PROJECT
from tests.harness.snapshots import KEY

pytestmark = pytest.mark.postgres

NAME = "bank"
BANK = """
CREATE TABLE checking (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE savings (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO checking SELECT n, 1000 FROM generate_series(1, 500) n;
INSERT INTO savings SELECT n, 1000 FROM generate_series(1, 500) n;
CREATE TABLE history (id serial PRIMARY KEY, text text);
INSERT INTO history (text) SELECT md5(n::text) FROM generate_series(1, 20000) n;
CREATE TABLE parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts VALUES (1, 'a'), (2, 'b');
"""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """All versions that are here can be used."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())


@pytest.fixture
def bank(server):
    """A database of accounts."""
    make_database(server, NAME, [BANK])
    yield server
    server.sql(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def bench():
    return Bench()


def rows_of(bench, result, table):
    """Return the rows of a table as a snapshot has them."""
    archive = bench.archive(result)
    record = archive.record(NAME)
    found = next(t for t in record.tables if t.name == table)
    data = archive.read(f"{record.folder}/{found.file_name}".encode())
    lines = data.decode().splitlines()
    assert len(lines) == found.rows
    return lines


def tables_of(bench, result):
    return {table.name for table in bench.archive(result).record(NAME).tables}


def hold(server, **choice):
    """Return a database that can be held."""
    return closing(HeldDatabase(superuser(server, NAME), Choice(**choice), 5))


# ------------------------------------------------------------------------------------------------ what is in it


def test_a_backup_is_a_tree_of_roles_schema_and_tables(bank, bench):
    """Each part is a file; the facts say of what server and moment it is."""
    result = bench.dump(bank, NAME)
    paths = bench.paths(result)
    assert {"globals.sql", NAME, f"{NAME}/schema.dump", f"{NAME}/toc.json", f"{NAME}/data"} <= set(paths)
    assert sum(path.endswith(".copy") for path in paths) == 5
    facts = LogicalFacts.of(result.snapshot)
    assert (bank.installation.major, 1, True) == (facts.major, facts.databases, facts.whole)
    assert (NAME,) == result.snapshot.paths
    assert result.snapshot.complete
    assert 20_000 == len(rows_of(bench, result, "history"))


def test_several_databases_are_in_one_snapshot(bank, bench):
    """Each has its folder; the roles of the server are there once."""
    result = bench.dump(bank, "postgres", databases=(NAME, "postgres", NAME))
    assert (NAME, "postgres") == result.snapshot.paths
    assert {f"{NAME}/toc.json", "postgres/toc.json", "globals.sql"} <= set(bench.paths(result))


def test_all_tables_are_of_one_moment_while_others_write(bank, bench):
    """Money moves between two tables all the time; in each snapshot the sum is what it always was."""
    stop = threading.Event()
    moved = []

    def move():
        with closing(psycopg2.connect(host=str(bank.home), port=bank.port, user="postgres", dbname=NAME)) as connection:
            while not stop.is_set():
                with connection, connection.cursor() as cursor:
                    account = 1 + len(moved) % 500
                    cursor.execute("UPDATE checking SET balance = balance - 7 WHERE id = %s", (account,))
                    cursor.execute("UPDATE savings SET balance = balance + 7 WHERE id = %s", (account,))
                    cursor.execute("INSERT INTO history (text) VALUES ('moved')")
                moved.append(account)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        wait_for(lambda: len(moved) > 20, "the first movements")
        sums, counts = [], []
        for _ in range(3):
            result = bench.dump(bank, NAME)
            balances = [line.split("\t")[1] for t in ("checking", "savings") for line in rows_of(bench, result, t)]
            sums.append(sum(map(int, balances)))
            counts.append(sum(line.endswith("\tmoved") for line in rows_of(bench, result, "history")))
            in_checking = sum(int(line.split("\t")[1]) for line in rows_of(bench, result, "checking"))
            assert 500_000 - 7 * counts[-1] == in_checking
    finally:
        stop.set()
        thread.join()
    assert [1_000_000] * 3 == sums
    assert counts == sorted(set(counts))  # others wrote between the snapshots, and during them


def test_the_value_of_a_sequence_is_not_behind_the_rows(bank, bench):
    """A restored database never hands out a number that a row has."""
    record = bench.archive(bench.dump(bank, NAME)).record(NAME)
    assert [("history_id_seq", 20_000, True)] == [(s.name, s.last_value, s.is_called) for s in record.sequences]


def test_the_next_backup_stores_what_changed(bank):
    """A hundred rows more in a table of some MB: less than a tenth is stored again."""
    bench = Bench(ChunkParams(min_bytes=16_384, avg_bytes=32_768, max_bytes=65_536, bundle_below_bytes=16_384))
    bank.sql("INSERT INTO history (text) SELECT repeat(md5(n::text), 4) FROM generate_series(1, 20000) n", dbname=NAME)
    first = bench.dump(bank, NAME)
    bank.sql("INSERT INTO history (text) SELECT 'new' FROM generate_series(1, 100)", dbname=NAME)
    second = bench.dump(bank, NAME)
    assert second.stats["raw_bytes_new"] < 0.1 * first.stats["raw_bytes_new"]
    assert second.stats["files_unchanged"] >= 4
    assert 40_100 == len(rows_of(bench, second, "history"))


# ------------------------------------------------------------------------------------------------ which tables


def test_some_tables_are_taken_alone(bank, bench):
    """A partitioned table comes with its partitions; nothing else does."""
    result = bench.dump(bank, NAME, tables=("savings", "public.parts"), roles=False)
    assert {"savings", "parts_a", "parts_b"} == tables_of(bench, result)
    assert not LogicalFacts.of(result.snapshot).whole
    assert "globals.sql" not in bench.paths(result)
    assert bench.archive(result).record(NAME).sequences == ()


def test_tables_are_left_out_whole_or_by_their_data(bank, bench):
    """What is left out is not in the record; the definition alone is in the schema."""
    result = bench.dump(bank, NAME, exclude=("savings",), exclude_data=("history", "parts_b"))
    assert {"checking", "parts_a"} == tables_of(bench, result)
    archive = bench.archive(result).read(f"{NAME}/schema.dump".encode())
    assert b"CREATE TABLE public.history" in archive
    assert b"CREATE TABLE public.savings" not in archive


def test_a_pattern_that_fits_nothing_is_refused(bank, bench):
    """An empty backup would be believed to be one."""
    with pytest.raises(UsageError, match="no table fits 'saving'"):
        bench.dump(bank, NAME, tables=("saving",))
    assert bench.repo.snapshots() == []


# ------------------------------------------------------------------------------------------------ one moment


def test_a_table_that_is_held_cannot_be_truncated(bank):
    """TRUNCATE would empty it for every snapshot: it waits until the backup has ended."""
    with hold(bank) as held:
        held.hold()
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            bank.sql("SET lock_timeout = '100ms'; TRUNCATE savings", dbname=NAME)
    bank.sql("SET lock_timeout = '5s'; TRUNCATE savings", dbname=NAME)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DROP TABLE savings", {"checking", "history", "parts", "parts_a", "parts_b"}),
        ("CREATE TABLE later (id int)", {"checking", "history", "later", "parts", "parts_a", "parts_b", "savings"}),
    ],
)
def test_tables_that_come_and_go_meanwhile_are_met(bank, monkeypatch, change, expected):
    """After the first list one is dropped, or made: the moment that is held has what is there, all of it locked."""
    changes = iter([change])
    real = HeldDatabase._refuse_unreadable

    def and_change(self, tables):
        real(self, tables)
        if (statement := next(changes, None)) is not None:
            bank.sql(statement, dbname=NAME)

    monkeypatch.setattr(HeldDatabase, "_refuse_unreadable", and_change)
    with hold(bank) as held:
        assert expected == {name for _, name in held.hold().taken}
        locks = """
            SELECT DISTINCT relation::regclass::text FROM pg_locks JOIN pg_class c ON c.oid = relation
            WHERE mode = 'AccessShareLock' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        """
        assert expected - {"parts"} == {name for (name,) in bank.sql(locks, dbname=NAME)}


def test_tables_that_come_faster_than_they_can_be_locked_end_the_run(bank, monkeypatch):
    """After some attempts it is told; the next run may have better luck."""
    count = iter(range(100))
    real = HeldDatabase._lock

    def make_one(self, tables):
        done = real(self, tables)
        bank.sql(f"CREATE TABLE fast_{next(count)} (id int)", dbname=NAME)
        return done

    monkeypatch.setattr(HeldDatabase, "_lock", make_one)
    with hold(bank) as held, pytest.raises(PostgresUnavailableError, match="made and dropped faster"):
        held.hold()


def test_a_table_that_somebody_changes_is_waited_for_and_then_told(bank, bench):
    """The lock is not granted in time: an error that is worth another try, and names why."""
    with closing(psycopg2.connect(host=str(bank.home), port=bank.port, user="postgres", dbname=NAME)) as other:
        other.cursor().execute("LOCK TABLE savings IN ACCESS EXCLUSIVE MODE")
        held = HeldDatabase(superuser(bank, NAME), Choice(), 1)
        with closing(held), pytest.raises(PostgresUnavailableError, match="lock timeout"):
            held.hold()
    assert bench.repo.snapshots() == []


# ------------------------------------------------------------------------------------------------ refusals


def test_a_role_without_rights_is_told_what_it_needs(bank, bench):
    """The tables are named, and the grant that helps; nothing is committed."""
    with pytest.raises(PostgresError, match=r'the role may not read .*"public"\."checking"') as caught:
        bench.dump(bank, NAME, connection=bank.connection(user="plain", dbname=NAME))
    assert "GRANT pg_read_all_data" in caught.value.hint
    assert bench.repo.snapshots() == []


def test_a_role_that_may_read_is_enough_but_for_passwords(bank, bench):
    """No superuser is needed; that the roles' passwords are not in it is told, and the backup is complete."""
    bank.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain", dbname=NAME)
    bank.sql("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO plain", dbname=NAME)
    result = bench.dump(bank, NAME, connection=bank.connection(user="plain", dbname=NAME))
    assert ["no-passwords"] == [warning.code for warning in result.warnings]
    assert result.snapshot.complete
    assert b"PASSWORD" not in bench.archive(result).read(b"globals.sql")


def test_the_superusers_backup_has_the_passwords_of_roles(bank, bench):
    """As SCRAM secrets, never in plain."""
    script = bench.archive(bench.dump(bank, NAME)).read(b"globals.sql").decode()
    assert "SCRAM-SHA-256$" in script
    assert PASSWORD not in script


def test_rows_that_a_policy_hides_are_not_left_out_in_silence(bank, bench):
    """A role that row-level security applies to is refused, with the table."""
    bank.sql("ALTER TABLE savings ENABLE ROW LEVEL SECURITY", dbname=NAME)
    bank.sql("GRANT pg_read_all_data TO plain")
    try:
        with pytest.raises(PostgresError, match=r'row-level security hides rows of "public"\."savings"') as caught:
            bench.dump(bank, NAME, connection=bank.connection(user="plain", dbname=NAME))
    finally:
        bank.sql("REVOKE pg_read_all_data FROM plain")
    assert "BYPASSRLS" in caught.value.hint


def test_a_wrong_password_and_a_wrong_database_are_told(bank, bench):
    """One clear error each, before anything is stored."""
    with pytest.raises(PostgresAuthError):
        bench.dump(bank, NAME, connection=bank.connection(password="wrong", dbname=NAME))
    with pytest.raises(PostgresError, match='database "nowhere" does not exist'):
        bench.dump(bank, "nowhere")
    assert [] == list(bench.backend.list("packs/"))


def test_missing_programs_are_told(bank, bench, monkeypatch, tmp_path):
    """Without pg_dump there is no logical backup."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match=r"program pg_dump and .* not found, there is none"):
        bench.dump(bank, NAME)


def test_programs_that_are_too_old_are_told(bank, bench, monkeypatch, tmp_path):
    """A pg_dump older than the server cannot read it."""
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 14.1'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match=rf"of version {bank.installation.major} or newer: not found, there is 14.1"):
        bench.dump(bank, NAME)


def test_a_newer_pg_dump_will_do(bank, bench, monkeypatch):
    """A server of 15 is read by the programs of 18, where only those are here."""
    newest = installations()[-1]
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(newest.programs))
    facts = LogicalFacts.of(bench.dump(bank, NAME).snapshot)
    assert (bank.installation.major, newest.major) == (facts.major, facts.dump_major)


def test_where_pg_dump_and_we_disagree_nothing_is_committed(bank, bench, monkeypatch):
    """Data without a table, or a table without data, must not pass for a backup."""
    from coffer.sources.postgres import logical_schema

    real = logical_schema.oids_of_tables
    monkeypatch.setattr(logical_schema, "oids_of_tables", lambda entries: real(entries) - {max(real(entries))})
    with pytest.raises(SourceFormatError, match=r"pg_dump has 5 tables and Coffer 6"):
        bench.dump(bank, NAME)
    assert bench.repo.snapshots() == []


def test_a_warning_of_pg_dump_is_one_of_the_snapshot(bank, bench, monkeypatch):
    """It is kept with the file, and the snapshot is not complete."""
    real = module.schema_readings

    def complain(*arguments):
        first, *rest = real(*arguments)
        inner = " ".join(f"'{word}'" for word in first.command)
        script = f"echo 'pg_dump: warning: planted' >&2; exec {inner}"
        changed = module.Reading(
            first.path, first.what, command=("/bin/sh", "-c", script), environment=first.environment
        )
        return [changed, *rest]

    monkeypatch.setattr(module, "schema_readings", complain)
    monkeypatch.setattr("coffer.sources.postgres.logical_schema.conninfo", lambda parameters: f"dbname={NAME}")
    result = bench.dump(bank, NAME)
    assert [(f"{NAME}/schema.dump".encode(), "pg-dump", "planted")] == [
        (warning.path, warning.code, warning.message) for warning in result.warnings
    ]
    assert not result.snapshot.complete


# ------------------------------------------------------------------------------------------------ ends


def test_a_run_that_is_stopped_leaves_no_process_and_no_snapshot(bank, bench):
    """`stop` ends psql and pg_dump, and the lease is given back."""
    stop = threading.Event()
    stop.set()
    before = children_of(bank.process.pid)
    with pytest.raises(InterruptedRunError, match="stopped by request"):
        bench.dump(bank, NAME, stop=stop)
    assert bench.repo.snapshots() == []
    assert [] == list(bench.backend.list("leases/"))
    wait_for(lambda: len(children_of(bank.process.pid)) <= len(before), "the end of the server's processes")
    assert bench.dump(bank, NAME).snapshot.complete


def test_programs_write_no_file(bank, bench, monkeypatch):
    """psql, pg_dump and pg_restore run where every write to a file fails: pipes are enough for them."""
    monkeypatch.setattr(children, "_deathbed", lambda: ["prlimit", "--fsize=0", "--"])
    assert bench.dump(bank, NAME).snapshot.complete


KILLED = """
import sys, threading
from pathlib import Path
from coffer.backends.factory import open_backend
from coffer.repository.repository import Repository
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.logical import dump_database
from coffer.sources.postgres.logical_spec import LogicalSource
from tests.harness.snapshots import KEY, SMALL_CHUNKS

class Hold:
    asked = 0
    def is_set(self):
        self.asked += 1
        if self.asked > int(sys.argv[4]):
            print("held", flush=True)
            threading.Event().wait()
        return False

repo = Repository.create(open_backend(sys.argv[1], create=True), KEY, chunking=SMALL_CHUNKS)
target = PostgresConnection(host=sys.argv[2], port=int(sys.argv[3]), user="postgres", dbname="bank")
dump_database(repo, LogicalSource("x", target), stop=Hold())
print("ended", flush=True)
"""


@pytest.mark.parametrize("pieces", [3, 40, 200])
def test_a_run_that_is_killed_leaves_no_child_and_no_snapshot(bank, tmp_path, pieces):
    """SIGKILL at any point: psql and pg_dump end by themselves, nothing is committed, the next run goes through."""
    folder = tmp_path / "repo"
    arguments = [folder, bank.home, bank.port, pieces]
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, arguments)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout.readline() == "held\n"
        alive = wait_for(lambda: children_of(run.pid), "programs at work")
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    wait_for(lambda: not any(map(is_alive, alive)), "the end of the programs", timeout_s=10)
    repo = Repository.open(open_backend(str(folder)), KEY)
    assert repo.snapshots() == []
    assert module.dump_database(repo, module.LogicalSource("x", superuser(bank, NAME))).snapshot.complete
