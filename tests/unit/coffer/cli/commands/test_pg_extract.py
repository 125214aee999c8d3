"""`coffer pg extract`: one table out of a cluster's backup, to a file, to standard output, or into a database."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.harness.postgres import PASSWORD, installations, servers_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def servers():
    with servers_of(installations()[0]) as made:
        yield made


@pytest.fixture(scope="module")
def server(servers):
    """A server with two tables."""
    made = servers.start()
    made.sql("CREATE TABLE orders AS SELECT n, 'order ' || n AS t FROM generate_series(1, 30) n")
    made.sql("CREATE TABLE audit AS SELECT 1 AS n")
    return made


@pytest.fixture
def extract(coffer, repo, server, servers, monkeypatch, tmp_path):
    """A function that extracts from a snapshot of the server."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("COFFER_PG_BIN", str(servers.installation.programs))
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = Path(tempfile.mkdtemp(prefix="coffer-test-"))
    folder.chmod(0o755)
    at = ("--host", "127.0.0.1", "--port", server.port, "--user", "backup")
    ended = coffer("pg", "backup", "--source", "primary", *at, "--method", "full")
    assert 0 == ended.code, ended.err

    def run(*arguments):
        return coffer("pg", "extract", "--source", "primary", "-d", "postgres", "--scratch", folder, *arguments)

    yield run
    assert [] == list(folder.iterdir())
    shutil.rmtree(folder)
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_a_table_is_written_to_a_file(extract, tmp_path):
    """And nothing else."""
    path = tmp_path / "orders.sql"
    ended = extract("--table", "public.orders", "--output", path, "--json")
    assert 0 == ended.code, ended.err
    text = path.read_text()
    assert "30\torder 30\n" in text
    assert "audit" not in text
    assert (["public.orders"], path.stat().st_size) == (ended.result["tables"], ended.result["dumped_bytes"])


def test_a_table_is_loaded_into_a_database(extract, server, monkeypatch):
    """Of another server or the same."""
    monkeypatch.delenv("PGPASSWORD")
    server.sql("CREATE DATABASE copy TEMPLATE template0")
    ended = extract(
        "-T", "orders", "--into", "copy", "--host", server.home, "--port", server.port, "-U", "postgres", "--no-owner"
    )
    assert 0 == ended.code, ended.err
    assert 30 == server.value("SELECT count(*) FROM orders", dbname="copy")
    assert "public.orders as of" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either --output or --into"),
        (("--output", "x", "--into", "y"), "give either --output or --into"),
        (("--output", "-", "--json"), "both want standard output"),
        (("--output", "x", "--schema-only", "--data-only"), "nothing is left"),
        (("--output", "x", "--to", "sometime"), "not of a known kind"),
        (("--output", "x", "-d", "missing"), "has no database 'missing'"),
        (("--output", "x", "-T", "missing"), "has no table 'missing'"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(extract, arguments, words):
    """Exit code 2, and no file."""
    ended = extract(*arguments)
    assert 2 == ended.code
    assert words in ended.err + ended.out
    assert not Path("x").exists()
