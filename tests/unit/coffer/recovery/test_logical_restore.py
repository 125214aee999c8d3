"""Logical backups loaded into real servers equal what PostgreSQL's own pg_dump and pg_restore make of the source."""

import shutil
import tempfile
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from coffer.errors import (
    InterruptedRunError,
    ObjectCorruptError,
    PathNotInSnapshotError,
    RestoreError,
    RestoreTargetError,
    UsageError,
)
from coffer.errors_postgres import PostgresError
from coffer.recovery import logical_rows
from coffer.repository.pack import TYPE_DATA
from coffer.repository.reader import ChunkReader
from tests.harness.logical import (
    PROGRAMS_VARIABLE,
    Bench,
    all_programs,
    by_pg_restore,
    content_lines,
    dump_text,
    make_database,
    make_nasty,
    schema_text,
)
from tests.harness.nasty_schema import statements
from tests.harness.postgres import installations, servers_of

pytestmark = pytest.mark.postgres

NASTY = 'näs"ty'
PAIRS = [(old, new) for old in installations() for new in installations() if old.major <= new.major]
BACKWARDS = [(new, old) for old, new in PAIRS if old.major < new.major]


@pytest.fixture(scope="module")
def running():
    """A server of each version that is here, by its major version."""
    with ExitStack() as stack:
        yield {
            installation.major: stack.enter_context(servers_of(installation)).start()
            for installation in installations()
        }


@pytest.fixture(autouse=True)
def client_programs(monkeypatch):
    """All versions that are here can be used."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def folder():
    """A folder that the servers' user may write to."""
    made = Path(tempfile.mkdtemp(prefix="coffer-test-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=[installation.major for installation in installations()])
def server(request, running):
    """A running server, of each version in turn."""
    return running[request.param]


@pytest.fixture
def drop(running):
    """A function that remembers databases to be dropped at the end."""
    names = []
    yield names.append
    for server in running.values():
        for name in names:
            quoted = name.replace('"', '""')
            server.sql(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')


# ------------------------------------------------------------------------------------------------ whole databases


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_a_database_comes_back_as_pg_restore_would_bring_it(running, bench, folder, drop, source, target):
    """One of everything, between all versions: definition and content are line by line those of the reference."""
    old, new = running[source.major], running[target.major]
    drop(NASTY)
    drop("ours")
    drop("reference")
    make_nasty(old, NASTY)
    backup = bench.dump(old, NASTY)
    assert backup.snapshot.complete, backup.warnings
    loaded = bench.load(new, backup, into="ours", roles=old is not new)
    by_pg_restore(old, NASTY, new, "reference", folder)
    assert schema_text(new, "reference") == schema_text(new, "ours")
    assert content_lines(new, "reference") == content_lines(new, "ours")
    if source == target:
        assert schema_text(old, NASTY) == schema_text(new, "ours")
        assert content_lines(old, NASTY) == content_lines(new, "ours")
    assert loaded.created
    rows = "SELECT count(*) FROM app.by_mood WHERE tableoid = %s::regclass"
    assert 40 == sum(new.value(rows, [f"app.by_mood_{n}"], dbname="ours") for n in range(3))


def test_a_database_comes_back_under_its_name_with_its_settings(running, bench, drop):
    """To another server: encoding, settings, comment and privileges of the database itself are as they were."""
    oldest, newest = installations()[0].major, installations()[-1].major
    old, new = running[oldest], running[newest]
    drop(NASTY)
    make_nasty(old, NASTY)
    backup = bench.dump(old, NASTY)
    query = """
        SELECT pg_encoding_to_char(encoding), datcollate, shobj_description(oid, 'pg_database'),
               (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0)
        FROM pg_database d WHERE datname = %s
    """
    expected = old.sql(query, [NASTY])
    if old is new:
        old.sql('DROP DATABASE "näs""ty" WITH (FORCE)')
    result = bench.load(new, backup, roles=old is not new)
    assert expected == new.sql(query, [NASTY])
    assert (NASTY, True) == (result.into, result.created)


def test_settings_that_a_new_name_leaves_behind_are_told(server, bench, drop):
    """ALTER DATABASE ... SET belongs to the old name: each is a note."""
    drop("configured")
    drop("renamed")
    make_database(server, "configured", ["CREATE TABLE t (); ALTER DATABASE configured SET work_mem = '7MB'"])
    result = bench.load(server, bench.dump(server, "configured"), into="renamed")
    assert ("setting work_mem=7MB of the database was not taken over",) == result.notes


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_of_another_encoding_comes_back(server, bench, drop, encoding):
    """Names and rows are converted by nobody but the server, and the new database has the same encoding."""
    drop("encoded")
    drop("decoded")
    word = "ärger" if encoding != "EUC_JP" else "日本"
    server.sql("DROP DATABASE IF EXISTS encoded")
    server.sql(f"CREATE DATABASE encoded ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    utf8 = ("-c", "SET client_encoding = 'UTF8'", "-c")
    make = f'CREATE TABLE "{word}" (t text); INSERT INTO "{word}" VALUES (\'{word}\')'
    server.must("psql", "-Xq", "-d", "encoded", *utf8, make)
    if encoding == "SQL_ASCII":  # any bytes are a text there
        server.must("psql", "-Xq", "-d", "encoded", "-c", r"CREATE TABLE raw AS SELECT E'\xe4\xff'::text AS t")
    bench.load(server, bench.dump(server, "encoded"), into="decoded", jobs=1)
    if encoding == "SQL_ASCII":
        query = "SELECT encode(convert_to(t, 'SQL_ASCII'), 'hex') FROM raw"
        assert "e4ff\n" == server.must("psql", "-XqAt", "-d", "decoded", "-c", query)
    assert f"{word}\n" == server.must("psql", "-XqAt", "-d", "decoded", *utf8, f'SELECT t FROM "{word}"')
    assert encoding == server.value("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'decoded'")


def test_an_empty_database_comes_back(server, bench, drop):
    """Nothing in it is no special case."""
    drop("void")
    drop("void_again")
    make_database(server, "void", [])
    assert 0 == bench.load(server, bench.dump(server, "void"), into="void_again").tables
    assert schema_text(server, "void") == schema_text(server, "void_again")


def test_a_database_that_exists_and_is_empty_is_filled(server, bench, drop):
    """Somebody made it with settings of his own; it is not made anew."""
    drop("simple")
    drop("prepared")
    make_database(server, "simple", ["CREATE TABLE t AS SELECT generate_series(1, 10) AS n"])
    backup = bench.dump(server, "simple")
    make_database(server, "prepared", [])
    assert not bench.load(server, backup, into="prepared").created
    assert 10 == server.value("SELECT count(*) FROM t", dbname="prepared")
    with pytest.raises(RestoreTargetError, match=r"'prepared' of .*: is not empty, it has public.t"):
        bench.load(server, backup, into="prepared")


def test_one_of_several_databases_is_named(server, bench, drop):
    """Where there are several, which one must be said; the names are told."""
    drop("one")
    drop("other")
    drop("copy")
    make_database(server, "one", ["CREATE TABLE t AS SELECT 1 AS n"])
    make_database(server, "other", ["CREATE TABLE t AS SELECT 2 AS n"])
    backup = bench.dump(server, "postgres", databases=("one", "other"))
    with pytest.raises(UsageError, match="has 2 databases"):
        bench.load(server, backup)
    with pytest.raises(PathNotInSnapshotError, match="'third': not in snapshot"):
        bench.load(server, backup, database="third")
    bench.load(server, backup, database="other", into="copy")
    assert 2 == server.value("SELECT n FROM t", dbname="copy")


CONTROL = "comment = 'of the tests'\ndefault_version = '1.0'\nrelocatable = false\n"
SCRIPT = """
CREATE TABLE z_parent (id int PRIMARY KEY, own boolean NOT NULL DEFAULT false);
CREATE TABLE a_child (id int REFERENCES z_parent, note text);
CREATE TABLE private (x int);
CREATE SEQUENCE counter;
INSERT INTO z_parent VALUES (1, true);
INSERT INTO private VALUES (1);
SELECT pg_catalog.pg_extension_config_dump('z_parent', 'WHERE NOT own');
SELECT pg_catalog.pg_extension_config_dump('a_child', '');
SELECT pg_catalog.pg_extension_config_dump('counter', '');
"""


@pytest.mark.parametrize("installation", [i for i in installations() if i.major >= 18], ids=str)
def test_configuration_tables_of_extensions_come_back(installation, bench, folder):
    """The rows that the extension does not make itself, in the order of their foreign keys, and the sequence."""
    (folder / "extension").mkdir()
    (folder / "extension" / "kept.control").write_text(CONTROL)
    (folder / "extension" / "kept--1.0.sql").write_text(SCRIPT)
    with servers_of(installation) as servers:
        server = servers.start(extension_control_path=f"$system:{folder}")
        fill = """
            CREATE EXTENSION kept; INSERT INTO z_parent VALUES (2), (3); INSERT INTO a_child VALUES (3, 'x'), (1, 'y');
            INSERT INTO private VALUES (2); SELECT nextval('counter');
        """
        make_database(server, "extended", [fill])
        backup = bench.dump(server, "extended")
        bench.load(server, backup, into="again")
        by_pg_restore(server, "extended", server, "reference", folder)
        assert content_lines(server, "reference") == content_lines(server, "again")
        assert [(1,), (2,), (3,)] == server.sql("SELECT id FROM z_parent ORDER BY 1", dbname="again")
        assert [(1,)] == server.sql("SELECT x FROM private", dbname="again")


# ------------------------------------------------------------------------------------------------ some tables


TABLES = ("app.kinds", "app.generated", "app.events", "app.a", "app.b", "app.secret", "app.with_trigger", "app.ranges")
OPTIONS = [word for table in (*TABLES, "app.events_*") for word in ("-t", table)]


def test_some_tables_come_with_what_belongs_to_them(server, bench, drop):
    """Indexes, keys, triggers, policies, rights, comments, sequences, partitions: as pg_dump --table has them."""
    drop("nasty")
    drop("some")
    make_nasty(server, "nasty")
    backup = bench.dump(server, "nasty")
    make_database(server, "some", statements("some")[:2])
    result = bench.load(server, backup, into="some", tables=TABLES)
    assert not result.created
    assert sorted(dump_text(server, "nasty", *OPTIONS).splitlines()) == sorted(
        dump_text(server, "some", *OPTIONS).splitlines()
    )
    assert 0 == server.value(
        "SELECT count(*) FROM pg_class WHERE relname IN ('wide', 'counted', 'seen')", dbname="some"
    )


def test_a_backup_of_some_tables_is_loaded_as_a_whole(server, bench, drop):
    """What was chosen when it was taken is what comes back."""
    drop("nasty")
    drop("some")
    make_nasty(server, "nasty")
    backup = bench.dump(server, "nasty", tables=TABLES)
    make_database(server, "some", statements("some")[:2])
    bench.load(server, backup, into="some")
    assert sorted(dump_text(server, "nasty", *OPTIONS).splitlines()) == sorted(
        dump_text(server, "some", *OPTIONS).splitlines()
    )


def test_a_schema_that_the_target_lacks_is_made(server, bench, drop):
    """A table of another schema is no reason to fail; its schema has its rights."""
    drop("shop")
    drop("empty_shop")
    make_database(server, "shop", ['CREATE SCHEMA "my sales"; CREATE TABLE "my sales".t AS SELECT 1 AS n'])
    make_database(server, "empty_shop", [])
    bench.load(server, bench.dump(server, "shop"), into="empty_shop", tables=('"my sales".t',))
    assert 1 == server.value('SELECT n FROM "my sales".t', dbname="empty_shop")


def test_rows_alone_go_into_tables_that_are_empty(server, bench, drop):
    """A table that was truncated by mistake gets its rows back; one that has rows is refused; so is a missing one."""
    drop("data")
    make_database(server, "data", ["CREATE TABLE t (id serial, n int); INSERT INTO t (n) SELECT generate_series(1, 9)"])
    backup = bench.dump(server, "data")
    with pytest.raises(RestoreTargetError, match=r'table "public"\."t" of database \'data\': has rows'):
        bench.load(server, backup, tables=("t",), data_only=True)
    server.sql("TRUNCATE t RESTART IDENTITY", dbname="data")
    bench.load(server, backup, tables=("t",), data_only=True)
    assert (9, 45) == server.sql("SELECT count(*), sum(n) FROM t", dbname="data")[0]
    assert 10 == server.value("SELECT nextval('t_id_seq')", dbname="data")
    server.sql("DROP TABLE t", dbname="data")
    with pytest.raises(RestoreTargetError, match="is not there"):
        bench.load(server, backup, tables=("t",), data_only=True)


def test_a_table_that_is_there_is_not_touched(server, bench, drop):
    """It is not replaced, and nothing is written."""
    drop("there")
    make_database(server, "there", ["CREATE TABLE t AS SELECT 1 AS n; CREATE TABLE u AS SELECT 1 AS n"])
    backup = bench.dump(server, "there")
    server.sql("DROP TABLE u", dbname="there")
    with pytest.raises(RestoreTargetError, match="is there already"):
        bench.load(server, backup, tables=("t", "u"))
    assert 0 == server.value("SELECT count(*) FROM pg_class WHERE relname = 'u'", dbname="there")


def test_a_pattern_that_fits_nothing_is_refused_on_the_way_back(server, bench, drop):
    """A typing mistake is no empty success."""
    drop("there")
    make_database(server, "there", ["CREATE TABLE t ()"])
    with pytest.raises(UsageError, match="'T': nothing in the backup of database 'there' fits"):
        bench.load(server, bench.dump(server, "there"), tables=("T",))


def test_a_partition_by_an_enums_hash_is_loaded_through_its_root(server, bench, drop):
    """Its rows may belong elsewhere on another server: alone it is refused."""
    drop("nasty")
    drop("some")
    make_nasty(server, "nasty")
    backup = bench.dump(server, "nasty")
    make_database(server, "some", statements("some")[:2])
    with pytest.raises(UsageError, match="may belong to another partition") as caught:
        bench.load(server, backup, into="some", tables=("app.by_mood_1",))
    assert "app.by_mood" in caught.value.hint


# ------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(("source", "target"), BACKWARDS, ids=str)
def test_an_older_server_is_refused(running, bench, drop, source, target):
    """What a newer server has may mean nothing to an older one; nothing is written."""
    drop("newer")
    make_database(running[source.major], "newer", ["CREATE TABLE t ()"])
    backup = bench.dump(running[source.major], "newer")
    with pytest.raises(RestoreTargetError, match=f"version {target.major} is older than {source.major}"):
        bench.load(running[target.major], backup)
    assert [] == running[target.major].sql("SELECT FROM pg_database WHERE datname = 'newer'")


def test_a_statement_that_fails_is_named(server, bench, drop):
    """The type of a column is missing in the target: the message has the statement."""
    drop("typed")
    drop("untyped")
    make_database(server, "typed", ["CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (m mood)"])
    make_database(server, "untyped", [])
    with pytest.raises(PostgresError, match=r'type "public.mood" does not exist.*CREATE TABLE public.t'):
        bench.load(server, bench.dump(server, "typed"), into="untyped", tables=("t",))


def test_rows_that_the_target_refuses_are_told_with_their_table(server, bench, drop):
    """A check of the target's table: the error names table and row; the table stays empty."""
    drop("checked")
    make_database(server, "checked", ["CREATE TABLE t (n int); INSERT INTO t VALUES (1), (-1)"])
    backup = bench.dump(server, "checked")
    server.sql("TRUNCATE t; ALTER TABLE t ADD CHECK (n > 0)", dbname="checked")
    with pytest.raises(PostgresError, match=r'table "public"\."t": .*violates check constraint'):
        bench.load(server, backup, tables=("t",), data_only=True)
    assert 0 == server.value("SELECT count(*) FROM t", dbname="checked")


def test_rows_that_vanish_on_the_way_are_told(server, bench, drop):
    """A trigger of the target swallows rows: COPY succeeds, and the count tells."""
    drop("swallowed")
    make_database(server, "swallowed", ["CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)"])
    backup = bench.dump(server, "swallowed")
    swallow = """
        TRUNCATE t; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no();
    """
    server.sql(swallow, dbname="swallowed")
    with pytest.raises(RestoreError, match="0 rows were loaded, the backup has 2"):
        bench.load(server, backup, tables=("t",), data_only=True)


def test_damage_in_the_store_is_told_as_such(server, bench, drop, monkeypatch):
    """A chunk of a table cannot be opened: its table stays empty, and the error is that of the store."""
    drop("whole")
    drop("damaged")
    make_database(server, "whole", ["CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n"])
    backup = bench.dump(server, "whole")
    archive = bench.archive(backup)
    table = archive.record("whole").tables[0]
    broken = archive.entry(f"whole/{table.file_name}".encode()).content.extents[5].chunk_id
    real = ChunkReader.read

    def read(self, chunk_id, type_):
        if (chunk_id, type_) == (broken, TYPE_DATA):
            raise ObjectCorruptError("packs/planted: damaged")
        return real(self, chunk_id, type_)

    monkeypatch.setattr(ChunkReader, "read", read)
    with pytest.raises(ObjectCorruptError, match="packs/planted") as caught:
        bench.load(server, backup, into="damaged")
    assert "Database 'damaged' is incomplete now" in caught.value.hint
    assert 0 == server.value("SELECT count(*) FROM big", dbname="damaged")


def test_a_load_can_be_stopped(server, bench, drop, monkeypatch):
    """It ends where it stands, and says that what was loaded stays."""
    drop("long")
    drop("stopped")
    make_database(server, "long", ["CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n"])
    backup = bench.dump(server, "long")
    stop = threading.Event()
    real = logical_rows.RowLoader.load

    def load(self, *arguments, **more):
        stop.set()
        return real(self, *arguments, **more)

    monkeypatch.setattr(logical_rows.RowLoader, "load", load)
    with pytest.raises(InterruptedRunError, match="stopped by request"):
        bench.load(server, backup, into="stopped", stop=stop)
    assert 0 == server.value("SELECT count(*) FROM t", dbname="stopped")


def test_what_is_no_logical_backup_is_refused(server, bench):
    """A snapshot of files has no tables."""
    of_files = replace(bench.dump(server, "postgres").snapshot, facts={})
    with pytest.raises(UsageError, match="is no logical backup"):
        bench.load(server, of_files)


def test_roles_that_are_there_are_told_and_kept(server, bench, drop):
    """Loading roles again is no error: each that was there is a note."""
    drop("again")
    backup = bench.dump(server, "postgres")
    notes = bench.load(server, backup, into="again", roles=True).notes
    assert 'roles: role "backup" already exists' in notes
    with pytest.raises(UsageError, match="has no roles"):
        bench.load(server, bench.dump(server, "postgres", roles=False), into="never", roles=True)


def test_ownership_and_rights_can_be_left_behind(server, bench, drop):
    """Everything belongs to who loads, nothing is granted: roles need not exist."""
    drop("owned")
    drop("free")
    make_database(
        server,
        "owned",
        ["CREATE ROLE gone_owner; CREATE TABLE t (); ALTER TABLE t OWNER TO gone_owner; GRANT ALL ON t TO gone_owner"],
    )
    backup = bench.dump(server, "owned")
    server.sql(
        "REASSIGN OWNED BY gone_owner TO postgres; DROP OWNED BY gone_owner; DROP ROLE gone_owner", dbname="owned"
    )
    with pytest.raises(PostgresError, match='role "gone_owner" does not exist'):
        bench.load(server, backup, into="free")
    server.sql("DROP DATABASE free")
    bench.load(server, backup, into="free", owner=False, privileges=False)
    assert "postgres" == server.value("SELECT tableowner FROM pg_tables WHERE tablename = 't'", dbname="free")


def test_a_session_of_the_target_is_one_that_reads_anything(server, bench, drop):
    """A database whose settings forbid writing and name dates otherwise is loaded all the same."""
    drop("strict")
    drop("lenient")
    make_database(
        server,
        "lenient",
        ["CREATE TABLE t (d date, i interval); INSERT INTO t VALUES ('2026-02-01', '-1 mons +5 days')"],
    )
    backup = bench.dump(server, "lenient")
    make_database(
        server,
        "strict",
        [
            "CREATE TABLE t (d date, i interval)",
            "ALTER DATABASE strict SET DateStyle = 'SQL, DMY'",
            "ALTER DATABASE strict SET IntervalStyle = 'sql_standard'",
            "ALTER DATABASE strict SET default_transaction_read_only = on",
        ],
    )
    bench.load(server, backup, into="strict", tables=("t",), data_only=True)
    with closing(psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname="strict")) as own:
        cursor = own.cursor()
        cursor.execute("SET DateStyle = ISO; SET IntervalStyle = postgres; SELECT d::text, i::text FROM t")
        assert ("2026-02-01", "-1 mons +5 days") == cursor.fetchone()
