"""Tables as streams of one psql: where each ends, and what a failure becomes."""

import os
import threading
from contextlib import closing

import pytest

from coffer.errors_postgres import PostgresError, PostgresUnavailableError
from coffer.postgres.children import environment, started
from coffer.postgres.programs import find_programs
from coffer.sources.postgres.logical_copy import CopySession, _Marked, program_stream
from tests.harness.logical import PROGRAMS_VARIABLE, all_programs, superuser

pytestmark = pytest.mark.postgres

MARK = b"0123456789abcdef0123456789abcdef\n"


def read_all(readinto, size=1000):
    """Read to the end, with a view of that size."""
    view = bytearray(size)
    found = b""
    while count := readinto(memoryview(view)):
        found += view[:count]
    return found


def fed(pieces):
    """Return a descriptor that gives these pieces, each by one read where it is short enough."""
    reader, writer = os.pipe()

    def feed():
        for piece in pieces:
            os.write(writer, piece)
        os.close(writer)

    threading.Thread(target=feed, daemon=True).start()
    return reader


def failed():
    return PostgresUnavailableError("planted")


@pytest.mark.parametrize("size", [1, 7, 33, 34, 1 << 20])
@pytest.mark.parametrize("step", [1, 5, 32, 33, 1000])
@pytest.mark.parametrize("data", [b"", b"a\n", b"row one\nrow two\n", b"x" * 200 + b"\n"])
def test_a_table_ends_where_the_mark_is(data, step, size):
    """However the pipe cuts the output, and however small the pieces that are asked for."""
    whole = data + MARK
    fd = fed([whole[at : at + step] for at in range(0, len(whole), step)])
    try:
        assert data == read_all(_Marked(fd, MARK, failed).readinto, size)
    finally:
        os.close(fd)


def test_output_that_ends_without_the_mark_is_a_failure():
    """A psql that died in the middle must not look like a short table."""
    fd = fed([b"row one\n"])
    try:
        with pytest.raises(PostgresUnavailableError, match="planted"):
            read_all(_Marked(fd, MARK, failed).readinto)
    finally:
        os.close(fd)


def test_a_program_that_fails_at_its_end_is_a_failure():
    """All output was read, and the exit code is not 0: what was read is not whole."""
    command = ["/bin/sh", "-c", "echo data; echo 'pg_dump: error: planted' >&2; exit 1"]
    with started(command, environment({})) as child, pytest.raises(PostgresError, match="sh of x: planted"):
        read_all(program_stream(child, "db:1", "x"))


# ------------------------------------------------------------------------------------------------ a real server


@pytest.fixture
def session(server, monkeypatch):
    """A session within a snapshot that the server exports, and a connection that holds it."""
    import psycopg2

    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())
    holder = psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname="postgres")
    with closing(holder), holder.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        psql = find_programs(["psql"], at_least=server.installation.major).path("psql")
        version = server.value("SELECT current_setting('server_version_num')::int")
        with closing(CopySession(psql, superuser(server), version, snapshot, 5)) as opened:
            yield opened


def test_tables_follow_each_other_over_one_connection(session):
    """Each stream has its own rows; an empty table has none; the backend is the same."""
    pid = "COPY (SELECT pg_backend_pid()) TO STDOUT"
    first = read_all(session.stream(pid, "a"))
    assert read_all(session.stream("COPY (SELECT 1 WHERE false) TO STDOUT", "b")) == b""
    rows = read_all(session.stream("COPY (SELECT generate_series(1, 100000)) TO STDOUT", "c"), 1 << 16)
    assert rows == b"".join(b"%d\n" % n for n in range(1, 100001))
    assert first == read_all(session.stream(pid, "d"))
    session.finish()


def test_a_session_sees_the_snapshot_and_nothing_later(server, session):
    """A table that was filled after the snapshot was taken is empty in it."""
    read_all(session.stream("COPY (SELECT 1) TO STDOUT", "begin"))
    server.sql("CREATE TABLE later_rows (id int); INSERT INTO later_rows VALUES (1)")
    try:
        found = read_all(
            session.stream("COPY (SELECT count(*) FROM pg_class WHERE relname = 'later_rows') TO STDOUT", "x")
        )
        assert found == b"0\n"
    finally:
        server.sql("DROP TABLE later_rows")


def test_a_statement_that_fails_is_told_with_the_servers_words(session):
    """The error names the table and the reason; it is no short table."""
    with pytest.raises(PostgresError, match=r'psql of table "x" of \'postgres\': relation "public.nothing" does not'):
        read_all(session.stream("COPY public.nothing TO STDOUT", 'table "x"'))


def test_a_server_that_goes_away_is_worth_another_try(server, session):
    """The connection is cut in the middle of a table."""
    stream = session.stream("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT", "x")
    assert stream(memoryview(bytearray(1000))) == 1000
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT repeat%'")
    with pytest.raises(PostgresUnavailableError):
        read_all(stream, 1 << 20)


def test_killing_ends_a_read_that_waits(session):
    """Another thread gives up: the read comes back with an error."""
    stream = session.stream("COPY (SELECT pg_sleep(600)) TO STDOUT", "x")
    threading.Timer(0.2, session.kill).start()
    with pytest.raises(PostgresUnavailableError, match="ended by signal 15"):
        read_all(stream)
