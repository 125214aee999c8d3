"""Real servers, their programs for scratch servers too, and folders that the servers' user may enter."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.harness.cluster_backups import new_repository
from tests.harness.postgres import installations, servers_of


@pytest.fixture(scope="session", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version; all are stopped and removed at the end."""
    with servers_of(request.param) as made:
        yield made


@pytest.fixture
def programs(servers, monkeypatch):
    """The programs of that version are the ones that are found."""
    folder = servers.installation.programs
    monkeypatch.setenv("COFFER_PG_BIN", str(folder))
    return folder


@pytest.fixture
def scratch():
    """An empty folder that everybody may enter; what is left in it at the end was left behind."""
    folder = Path(tempfile.mkdtemp(prefix="coffer-test-"))
    folder.chmod(0o755)
    yield folder
    left = [path.name for path in folder.iterdir()]
    shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def own(servers, programs):
    """A server of its own, with two tables and an index, which the backup's role may read."""
    server = servers.start()
    server.sql("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    server.sql("INSERT INTO orders SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 5000) n")
    server.sql("CREATE TABLE audit AS SELECT n, now() AS at FROM generate_series(1, 1000) n")
    server.sql("GRANT pg_read_all_data TO backup")
    yield server
    server.close()


@pytest.fixture
def repo():
    """An empty repository in memory."""
    return new_repository()
