"""`coffer pg drill`: the verdict first for the eye, every fact for programs, and an exit code that schedulers read."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from coffer.recovery.scratch_server import ScratchServer
from tests.harness.postgres import PASSWORD, installations, servers_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def servers():
    with servers_of(installations()[0]) as made:
        yield made


@pytest.fixture(scope="module")
def server(servers):
    """A server with one small table."""
    made = servers.start()
    made.sql("CREATE TABLE orders AS SELECT n, md5(n::text) AS t FROM generate_series(1, 300) n")
    made.sql("GRANT pg_read_all_data TO backup")
    return made


@pytest.fixture
def scratch():
    """A folder that the scratch server's user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="coffer-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def backed_up(coffer, repo, server, servers, monkeypatch, tmp_path):
    """A snapshot of the server with a proof, taken by the command line."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("COFFER_PG_BIN", str(servers.installation.programs))
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    at = ("--host", "127.0.0.1", "--port", server.port, "--user", "backup")
    ended = coffer("pg", "backup", "--source", "primary", *at, "--method", "full", "--prove", "1m")
    assert 0 == ended.code, ended.err
    yield
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_a_proved_snapshot_ends_with_0(coffer, backed_up, scratch):
    """The verdict, the moment, and how much was compared."""
    ended = coffer("pg", "drill", "--source", "primary", "--scratch", scratch)
    assert 0 == ended.code, ended.err
    assert "proved: the restored cluster has the content of the original" in ended.out
    assert "2 tables whole, 0 in part equal" in ended.out
    assert [] == list(scratch.iterdir())
    result = coffer("pg", "drill", "--source", "primary", "--scratch", scratch, "--no-structure", "--json").result
    assert ("proved", [], "primary") == (result["verdict"], result["findings"], result["source"])
    assert 2 == result["counts"]["tables_compared"]
    assert "check structure" not in [step["name"] for step in result["steps"]]


def test_damage_ends_with_1_and_names_the_table(coffer, backed_up, scratch, monkeypatch):
    """With what to do."""
    start = ScratchServer.start

    def start_and_change(self):
        start(self)
        with self.connected("postgres") as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE orders")

    monkeypatch.setattr(ScratchServer, "start", start_and_change)
    ended = coffer("pg", "drill", "--source", "primary", "--scratch", scratch, "--no-structure", "--json")
    assert 1 == ended.code
    assert "damage-found" == ended.envelope["error"]["code"]
    finding = ended.result["findings"][0]
    assert ("error", "table-unreadable", "public.orders") == (finding["severity"], finding["code"], finding["table"])


def test_a_scratch_folder_that_is_missing_is_one_line_and_a_hint(coffer, backed_up, tmp_path):
    """Nothing was restored."""
    ended = coffer("pg", "drill", "--source", "primary", "--scratch", tmp_path / "missing", "--quiet")
    code, message, hint = ended.fault()
    assert 1 == code
    assert "cannot be used" in message
    assert "--scratch" in hint
