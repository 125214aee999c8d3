"""The worst day: one command restores a real server, and the command that it prints starts it."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.repository.repository import Repository
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterSource
from coffer.sources.postgres.wal_receiver import drain
from tests.harness.bookkeeping import TABLES, Bookkeeper, expected_state, state_of
from tests.harness.postgres import installations, servers_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version."""
    with servers_of(request.param) as made:
        yield made


def test_the_printed_command_starts_the_restored_server(coffer, repo, servers):
    """Word for word, as a shell takes it; the server that was backed up is gone by then, its address is free."""
    server = servers.start()
    server.sql(TABLES)
    opened = Repository.open(LocalBackend(repo), KeyFileUnlocker.load(repo.with_name("repo.key")))
    with Bookkeeper(server) as book:
        book.go_on(10)
        backup_cluster(opened, ClusterSource("main", server.connection(), "coffer_main"))
        kept = book.go_on(20)
        book.go_on(10)
    drain(opened, "main", server.connection(), slot="coffer_main")
    opened.close()
    server.stop(signal.SIGQUIT)

    data = servers.empty().home / "data"
    ended = coffer("pg", "restore", "--to", f"xid:{kept.xid}", "--target-folder", data, "--manifest")
    assert (0, "") == (ended.code, ended.err)
    *_, before, command = ended.out.splitlines()
    assert "start it with:" == before
    programs = servers.installation.programs
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    started = subprocess.run(command, shell=True, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert 0 == started.returncode, started.stdout + started.stderr
    try:
        server.wait_recovered()  # at the same port and socket
        assert expected_state(kept.number) == state_of(server)
        assert str(data) == server.value("SHOW data_directory")
    finally:
        server.must("pg_ctl", "-D", data, "-m", "immediate", "stop")
