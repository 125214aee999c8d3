"""The digest of a table depends on its rows and on nothing else."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.table_digest import digest_table, set_conditions

pytestmark = pytest.mark.postgres
SEED = 20261125


@pytest.fixture
def schema(server):
    """A schema of its own, dropped afterwards."""
    server.sql("CREATE SCHEMA digests")
    yield "digests"
    server.sql("DROP SCHEMA digests CASCADE")


@pytest.fixture
def digest(server, schema):
    """A function that digests a table of that schema, on a connection whose settings are otherwise strange."""
    target = server.connection(host=str(server.home), user="postgres", password=None)
    with closing(connect_sql(target)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET datestyle = 'German'; SET timezone = 'Asia/Kolkata'; SET bytea_output = 'escape'")
            cursor.execute("SET extra_float_digits = -5; SET intervalstyle = 'iso_8601'; SET search_path = digests")
        set_conditions(connection)

        def run(name, percent="100", seed=SEED):
            with connection.cursor() as cursor:
                return digest_table(cursor, schema, name, seed, percent)

        yield run


def test_the_order_of_rows_does_not_count(server, digest):
    """The same rows in another order, on other pages, have the same digest."""
    server.sql("CREATE TABLE digests.a AS SELECT n, md5(n::text) AS t FROM generate_series(1, 1000) n")
    server.sql("CREATE TABLE digests.b AS SELECT * FROM digests.a ORDER BY t")
    assert digest("a") == digest("b")
    assert 1000 == digest("a").rows


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE digests.b SET t = t || ' ' WHERE n = 500",
        "UPDATE digests.b SET t = NULL WHERE n = 500",
        "INSERT INTO digests.b SELECT * FROM digests.b WHERE n = 7",
        "DELETE FROM digests.b WHERE n = 1",
        "UPDATE digests.b SET n = n + 1 WHERE n = 1000",
        "DELETE FROM digests.b WHERE n = 3; INSERT INTO digests.b SELECT * FROM digests.b WHERE n = 4",
        "INSERT INTO digests.b SELECT * FROM digests.b",
    ],
)
def test_any_other_row_shows(server, digest, change):
    """Also one that is there twice, which an exclusive or would not see."""
    server.sql("CREATE TABLE digests.a AS SELECT n, md5(n::text) AS t FROM generate_series(1, 1000) n")
    server.sql("CREATE TABLE digests.b AS SELECT * FROM digests.a")
    assert digest("a") == digest("b")
    server.sql(change)
    assert digest("a").digest != digest("b").digest


def test_pairs_of_equal_rows_do_not_cancel(server, digest):
    """Two rows twice, and two other rows twice: the sums differ."""
    server.sql("CREATE TABLE digests.a (n int); INSERT INTO digests.a VALUES (1), (1), (2), (2)")
    server.sql("CREATE TABLE digests.b (n int); INSERT INTO digests.b VALUES (3), (3), (4), (4)")
    assert digest("a").digest != digest("b").digest


def test_settings_of_the_role_do_not_count(server, digest):
    """Times, floats, bytes and intervals have one text: the fixture's settings are strange, and this one's are not."""
    server.sql(
        "CREATE TABLE digests.a AS SELECT now() AS at, current_date AS day, 1::float8 / 3 AS f, '\\x00ff'::bytea AS b,"
        " interval '1 day 2 hours' AS i, 'digests.a'::text AS t, 12.5::money AS m"
    )
    target = server.connection(host=str(server.home), user="postgres", password=None)
    with closing(connect_sql(target)) as connection:
        set_conditions(connection)
        with connection.cursor() as cursor:
            assert digest("a") == digest_table(cursor, "digests", "a", SEED)


def test_an_empty_table_and_one_without_columns_have_digests(server, digest):
    """Nothing is a value too, and rows without columns are counted."""
    server.sql("CREATE TABLE digests.a (n int); CREATE TABLE digests.b (); INSERT INTO digests.b DEFAULT VALUES")
    assert (0, "0" * 32) == digest("a")
    assert 1 == digest("b").rows


def test_names_are_quoted(server, digest):
    """Quotes, dots, percent signs and a column that is named like the query's own alias."""
    server.sql('CREATE TABLE digests."a ""b"".c %s" (t int, q int)')
    server.sql('INSERT INTO digests."a ""b"".c %s" VALUES (1, 2), (1, 3)')
    first = digest('a "b".c %s')
    server.sql('UPDATE digests."a ""b"".c %s" SET q = 4 WHERE q = 3')
    assert first.digest != digest('a "b".c %s').digest


def test_children_are_not_counted_with_their_parent(server, digest):
    """Each partition is a table of its own."""
    server.sql("CREATE TABLE digests.a (n int); CREATE TABLE digests.b () INHERITS (digests.a)")
    server.sql("INSERT INTO digests.b VALUES (1); INSERT INTO digests.a VALUES (2)")
    assert 1 == digest("a").rows


def test_no_function_of_a_user_runs(server, digest):
    """Whoever owns a table may make a cast of its rows to text: reading it must not run that with our rights."""
    server.sql("CREATE TABLE digests.a (n int); INSERT INTO digests.a VALUES (1)")
    server.sql(
        "CREATE FUNCTION digests.f(digests.a) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'ran with the rights of %', current_user; END$$"
    )
    server.sql("CREATE CAST (digests.a AS text) WITH FUNCTION digests.f(digests.a)")
    with pytest.raises(psycopg2.Error, match="ran with the rights"):
        server.sql("SELECT a::text FROM digests.a")
    assert 1 == digest("a").rows


def test_a_sample_is_the_same_in_a_copy_and_another_with_another_seed(server, digest):
    """It goes by the numbers of pages."""
    server.sql("CREATE TABLE digests.a AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 6000) n")
    server.sql("CREATE TABLE digests.b AS SELECT * FROM digests.a")
    part = digest("a", "20.000")
    assert 300 < part.rows < 3000
    assert part == digest("b", "20.000")
    assert part != digest("a", "20.000", SEED + 2)
