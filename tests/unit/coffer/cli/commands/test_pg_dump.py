"""`coffer pg dump` and `coffer pg load`: a database on the command line, there and back."""

from __future__ import annotations

import pytest

from coffer.postgres import children
from tests.harness.logical import PROGRAMS_VARIABLE, all_programs, content_lines, make_database, schema_text
from tests.harness.postgres import PASSWORD, installations, servers_of

pytestmark = pytest.mark.postgres

SHOP = """
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT md5(n::text) FROM generate_series(1, 1000) n;
CREATE TABLE customers (id int PRIMARY KEY);
INSERT INTO customers VALUES (1), (2);
"""


@pytest.fixture(scope="module")
def server():
    """A server with a small database."""
    with servers_of(installations()[-1]) as servers:
        made = servers.start()
        make_database(made, "shop", [SHOP])
        yield made


@pytest.fixture
def pg(coffer, repo, server, monkeypatch, tmp_path):
    """A function that runs `coffer pg WORD` as the superuser of the server; no policy is near."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(word, *arguments, at_server=True):
        place = ("--host", server.home, "--port", server.port, "--user", "postgres") if at_server else ()
        return coffer("pg", word, *arguments, *place)

    return run


@pytest.fixture
def made(server):
    """Names of databases that are dropped at the end."""
    names = []
    yield names
    for name in names:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_database_is_dumped_and_loaded(pg, coffer, server, made):
    """The lines say what and how much; the loaded database is the dumped one; the store is sound."""
    made.append("copy")
    dumped = pg("dump", "--source", "main", "--database", "shop", "--tag", "weekly")
    assert (0, "") == (dumped.code, dumped.err)
    assert " of main-logical: shop" in dumped.out.splitlines()[0]
    loaded = pg("load", "latest", "--into", "copy")
    assert (0, "") == (loaded.code, loaded.err)
    assert "was loaded into copy" in loaded.out
    assert "rows:   1,002 in 2 tables" in loaded.out
    assert schema_text(server, "shop") == schema_text(server, "copy")
    assert content_lines(server, "shop") == content_lines(server, "copy")
    assert 0 == coffer("verify").code


def test_the_envelopes_say_it_for_programs(pg, made):
    """The snapshot with its facts; what was loaded, with counts."""
    made.append("copy")
    snapshot = pg("dump", "--database", "shop", "--json").result["snapshot"]
    assert ("postgres-logical", 1) == (snapshot["facts"]["kind"], snapshot["facts"]["databases"])
    result = pg("load", snapshot["id"], "--into", "copy", "--json").result
    assert ("shop", "copy", True, 2, 1002) == tuple(
        result[key] for key in ("database", "into", "created", "tables", "rows")
    )


def test_one_table_comes_back_where_it_was_dropped(pg, server, made):
    """The case that logical backups are mostly needed for."""
    made.append("live")
    make_database(server, "live", [SHOP])
    assert 0 == pg("dump", "--database", "live").code
    server.sql("DROP TABLE orders", dbname="live")
    ended = pg("load", "latest", "--table", "orders")
    assert (0, "") == (ended.code, ended.err)
    assert 1000 == server.value("SELECT count(*) FROM orders", dbname="live")
    assert 1001 == server.value("SELECT nextval('orders_id_seq')", dbname="live")


def test_a_script_is_written_without_a_server(pg, tmp_path):
    """To a new file that only its owner reads; one that is there is kept."""
    pg("dump", "--database", "shop")
    path = tmp_path / "shop.sql"
    ended = pg("load", "latest", "--output", path, at_server=False)
    assert (0, "") == (ended.code, ended.err)
    assert "CREATE TABLE public.orders" in path.read_text(encoding="utf-8")
    assert 0o600 == path.stat().st_mode & 0o777
    code, message, _ = pg("load", "latest", "--output", path, at_server=False).fault()
    assert 1 == code
    assert "cannot be made (file exists)" in message


def test_a_script_goes_to_the_screen_alone(pg):
    """For a pipe into psql: standard output holds the script and nothing else."""
    pg("dump", "--database", "shop")
    ended = pg("load", "latest", "--output", "-", "--table", "customers", "--data-only", at_server=False)
    assert (0, "") == (ended.code, ended.err)
    assert "FROM STDIN WITH (ENCODING 'UTF8');\n1\n2\n\\.\n" in ended.out
    assert "snapshot" not in ended.out


def test_a_script_that_ends_in_the_middle_is_removed(pg, tmp_path, monkeypatch):
    """The disk is full: half a script would load half a database."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    pg("dump", "--database", "shop")
    monkeypatch.setattr("coffer.recovery.logical_script.write_script", fail)
    code, message, _ = pg("load", "latest", "--output", tmp_path / "half.sql", at_server=False).fault()
    assert (1, True) == (code, message.endswith("half.sql': no space left on device"))
    assert not (tmp_path / "half.sql").exists()


def test_files_are_written_into_a_folder(pg, tmp_path):
    """The snapshot's own files, for PostgreSQL's own programs."""
    pg("dump", "--database", "shop")
    ended = pg("load", "latest", "--output", f"{tmp_path}/files/", "--table", "orders", at_server=False)
    assert (0, "") == (ended.code, ended.err)
    names = sorted(path.name for path in (tmp_path / "files/shop").rglob("*") if path.is_file())
    assert ["orders.copy", "schema.dump", "toc.json"] == [name.partition("-")[2] or name for name in names]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--output", "-", "--json"), "both write to standard output"),
        (("--output", "x.sql", "--into", "y"), "both are given"),
    ],
)
def test_options_that_contradict_each_other_are_refused(pg, arguments, expected):
    """Before a repository or a server is asked."""
    ended = pg("load", "latest", *arguments, at_server=False)
    assert expected in ended.out + ended.err
    assert 0 != ended.code


def test_mistakes_are_one_line_and_a_hint(pg, server):
    """No server named, a wrong password, no such table: no traceback."""
    assert "no cluster is named" in pg("dump", at_server=False).fault()[1]
    assert "no table fits" in pg("dump", "--database", "shop", "--table", "nothing").fault()[1]
    code, message, _ = pg("load", "latest").fault()
    assert 0 != code
    assert "snapshot" in message


def test_no_secret_is_on_a_command_line(pg, server, monkeypatch):
    """The password goes by the environment: no program's arguments hold it."""
    seen = []
    real = children.Child.__init__

    def watch(self, command, given, **how):
        seen.append(" ".join(map(str, command)))
        real(self, command, given, **how)

    monkeypatch.setattr(children.Child, "__init__", watch)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    server.sql("GRANT pg_read_all_data TO backup")
    ended = pg(
        "dump", "--database", "shop", "--host", "127.0.0.1", "--port", server.port, "--user", "backup", at_server=False
    )
    assert 0 == ended.code
    assert 3 <= len(seen)
    assert not any(PASSWORD in words or PASSWORD.split()[-1] in words for words in seen)
