"""One moment of a database: on a standby, beside somebody who changes tables, and with names that nobody can read."""

import threading
from contextlib import closing

import pytest

from coffer.errors import SourceFormatError
from coffer.errors_postgres import PostgresError, PostgresUnavailableError
from coffer.sources.postgres.logical import dump_database
from coffer.sources.postgres.logical_catalog import HeldDatabase
from coffer.sources.postgres.logical_choice import Choice
from coffer.sources.postgres.logical_spec import LogicalOptions, LogicalSource
from tests.harness.logical import PROGRAMS_VARIABLE, Bench, all_programs, make_database, superuser
from tests.harness.postgres import wait_for

pytestmark = pytest.mark.postgres

NAME = "moment"
TABLES = """
CREATE TABLE kept (id serial, t text); INSERT INTO kept (t) SELECT md5(n::text) FROM generate_series(1, 100) n;
CREATE UNLOGGED TABLE fleeting (id int); INSERT INTO fleeting VALUES (1);
"""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """All versions that are here can be used."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())


@pytest.fixture
def base(server):
    """A database of two tables."""
    make_database(server, NAME, [TABLES])
    yield server
    server.sql(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_a_standby_can_be_read(servers):
    """It exports a snapshot too. What it has no data of is told; the definition is there."""
    primary = servers.start()
    make_database(primary, NAME, [TABLES])
    standby = servers.start_standby(primary)
    wait_for(lambda: standby.sql("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]), "the database on the standby")
    wait_for(lambda: standby.value("SELECT to_regclass('fleeting') IS NOT NULL", dbname=NAME), "its tables")
    bench = Bench()
    result = bench.dump(standby, NAME)
    record = bench.archive(result).record(NAME)
    assert [("kept", 100)] == [(table.name, table.rows) for table in record.tables]
    assert [("skipped", 1)] == [(w.code, w.message.count('"fleeting"')) for w in result.warnings]
    assert not result.snapshot.complete
    bench.load(primary, result, into="copy")
    assert 0 == primary.value("SELECT count(*) FROM fleeting", dbname="copy")
    standby.close()
    primary.close()


def test_somebody_who_waits_to_change_a_table_is_no_deadlock(base, monkeypatch):
    """ALTER TABLE waits for the moment to end, and our readers would wait behind it: they give up in time."""
    real = HeldDatabase.hold
    others = []

    def hold(self):
        moment = real(self)

        def alter():
            base.sql("ALTER TABLE kept ADD COLUMN more int", dbname=NAME)

        others.append(threading.Thread(target=alter))
        others[0].start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        wait_for(lambda: base.value(waiting), "somebody who waits")
        return moment

    monkeypatch.setattr(HeldDatabase, "hold", hold)
    bench = Bench()
    source = LogicalSource("db", superuser(base, NAME))
    with pytest.raises(PostgresUnavailableError, match="timeout") as caught:
        dump_database(bench.repo, source, options=LogicalOptions(workers=1, lock_wait_s=1))
    assert "Somebody changes or drops tables" in caught.value.hint
    others[0].join(30)
    assert not others[0].is_alive()
    assert bench.repo.snapshots() == []


def test_names_that_are_not_utf_8_are_refused(server):
    """A database that checks no encoding may have them; the error says what to do instead."""
    server.sql("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        server.must("psql", "-Xq", "-d", "bytes", "-c", 'CREATE TABLE "\udce4" ()')
        with pytest.raises(SourceFormatError, match="names that are not UTF-8"):
            Bench().dump(server, "bytes")
    finally:
        server.sql("DROP DATABASE bytes")


def test_a_sequence_that_may_not_be_read_is_named(base):
    """A grant on tables does not cover sequences."""
    base.sql("GRANT SELECT ON kept, fleeting TO plain", dbname=NAME)
    target = base.connection(user="plain", dbname=NAME)
    held = HeldDatabase(target, Choice(), 5)
    with closing(held), pytest.raises(PostgresError, match=r'may not read "public"\."kept_id_seq"'):
        held.hold()


def test_a_moment_says_where_it_is(base):
    """The log's position, the server's version, encoding and locale."""
    with closing(HeldDatabase(superuser(base, NAME), Choice(), 5)) as held:
        moment = held.hold()
    record = moment.record
    assert (NAME, "UTF8", "C", "postgres") == (
        record.name,
        record.encoding,
        record.properties["datcollate"],
        record.properties["owner"],
    )
    assert base.installation.major == record.version // 10000
    assert {"kept", "fleeting"} == {name for _, name in moment.taken}
    assert all(size > 0 for size in moment.sizes.values())
