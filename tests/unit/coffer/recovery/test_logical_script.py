"""A logical backup as one SQL script, and as files for PostgreSQL's own programs."""

import io
import shutil

import pytest

from coffer.errors import UsageError
from coffer.recovery.logical_restore import LoadOptions
from coffer.recovery.logical_script import write_files, write_script
from tests.harness.logical import (
    PROGRAMS_VARIABLE,
    Bench,
    all_programs,
    content_lines,
    make_database,
    make_nasty,
    schema_text,
)
from tests.harness.nasty_schema import statements

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def client_programs(monkeypatch):
    """All versions that are here can be used."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())


@pytest.fixture(scope="module")
def server(servers):
    """A server for this file."""
    return servers.start()


@pytest.fixture(scope="module")
def dumped(server):
    """A nasty database, and its backup."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROGRAMS_VARIABLE, all_programs())
        make_nasty(server, "nasty")
        bench = Bench()
        return bench, bench.dump(server, "nasty")


def run_script(server, script, folder, into):
    """Let psql run a script in a new database, as a user would."""
    path = folder / "script.sql"
    path.write_bytes(script)
    path.chmod(0o644)
    server.must("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", into, "-f", path)


def script_of(dumped, **options):
    bench, backup = dumped
    out = io.BytesIO()
    write_script(bench.repo, backup.snapshot, out.write, options=LoadOptions(**options))
    return out.getvalue()


def test_a_script_makes_the_same_database(server, dumped, scratch):
    """Run by psql to its end, the database is that of the backup, line by line."""
    make_database(server, "scripted", [])
    try:
        run_script(server, script_of(dumped), scratch, "scripted")
        assert schema_text(server, "nasty") == schema_text(server, "scripted")
        assert content_lines(server, "nasty") == content_lines(server, "scripted")
    finally:
        server.sql("DROP DATABASE scripted WITH (FORCE)")
        (scratch / "script.sql").unlink()


def test_a_script_of_some_tables_makes_those(server, dumped, scratch):
    """With what belongs to them, and nothing else."""
    make_database(server, "scripted", statements("scripted")[:2])
    try:
        run_script(server, script_of(dumped, tables=("app.kinds", "app.events")), scratch, "scripted")
        counts = "SELECT (SELECT count(*) FROM app.kinds), (SELECT count(*) FROM app.events), to_regclass('app.wide')"
        assert [(2, 800, None)] == server.sql(counts, dbname="scripted")
    finally:
        server.sql("DROP DATABASE scripted WITH (FORCE)")
        (scratch / "script.sql").unlink()


def test_roles_stand_at_the_head_of_a_script_that_has_them(dumped):
    """Before anything that belongs to one."""
    script = script_of(dumped, roles=True)
    assert 0 < script.index(b"CREATE ROLE nasty_owner") < script.index(b"CREATE SCHEMA app")
    assert b"CREATE ROLE" not in script_of(dumped)


def test_a_script_of_rows_alone_has_no_definition(dumped):
    """COPY and the values of sequences."""
    script = script_of(dumped, data_only=True, tables=("app.kinds",))
    assert script.count(b"COPY ") == 1
    assert b"CREATE" not in script
    assert b'setval(\'"app"."kinds_id_seq"\', 2, true)' in script


def test_a_script_cannot_have_roles_that_were_not_saved(server):
    """It is said before a byte is written."""
    bench = Bench()
    backup = bench.dump(server, "postgres", roles=False)
    with pytest.raises(UsageError, match="has no roles"):
        write_script(bench.repo, backup.snapshot, print, options=LoadOptions(roles=True))


def test_files_are_what_postgresqls_own_programs_read(server, dumped, scratch):
    """An archive for pg_restore, and rows as COPY has them."""
    bench, backup = dumped
    result, restored = write_files(bench.repo, backup.snapshot, scratch / "out", options=LoadOptions())
    try:
        assert (0, 0) == (restored.failures_count, restored.warnings_count)
        folder = scratch / "out" / "nasty"
        record = bench.archive(backup).record("nasty")
        kinds = next(table for table in record.tables if table.name == "kinds")
        assert kinds.rows == (folder / kinds.file_name).read_bytes().count(b"\n") == 2
        assert result.tables == len(list((folder / "data").iterdir()))
        archive = (folder / "schema.dump").read_bytes()
        assert archive.startswith(b"PGDMP")
    finally:
        shutil.rmtree(scratch / "out")


def test_a_script_of_a_database_that_is_not_utf8_finds_its_tables(server):
    """pg_dump's part sets the database's encoding; ours names tables and sequences in UTF-8, and says so."""
    latin = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    server.sql(f"CREATE DATABASE latin {latin}")
    server.sql('CREATE TABLE "kunden_ä" (a serial, b text)', dbname="latin")
    server.sql("INSERT INTO \"kunden_ä\" (b) VALUES ('Müller')", dbname="latin")
    bench = Bench()
    script = script_of((bench, bench.dump(server, "latin")))
    server.sql(f"CREATE DATABASE latin_back {latin}")
    run_script(server, script, server.home, "latin_back")
    assert [(1, "Müller")] == server.sql('SELECT a, b FROM "kunden_ä"', dbname="latin_back")
    assert 2 == server.value("SELECT nextval('\"kunden_ä_a_seq\"')", dbname="latin_back")
