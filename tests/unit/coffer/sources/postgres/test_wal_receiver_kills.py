"""A receiver is killed at its puts, before and after they took effect: no gap, and no byte but the server's own."""

from __future__ import annotations

import json

import pytest

from coffer.backends.local import LocalBackend
from coffer.clock import SYSTEM_CLOCK
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from coffer.sources.postgres.wal_receiver import drain
from tests.harness.keyrings import make_unlocker
from tests.harness.programs import run_program
from tests.harness.repositories import make_repository
from tests.harness.server_wal import KEEP, MIB, make_slot, on_disk, slot_at, write_wal

pytestmark = pytest.mark.postgres

# One process for each kill: it opens the store, receives, and dies at one of its puts. Whatever it was told by then may
# have reached the server; so after each death the slot must not be beyond what the store has without a gap.
KILL_AT_PUTS = """
    import json, os, signal, sys
    from pathlib import Path
    from threading import Event
    from coffer.backends.local import LocalBackend
    from coffer.repository.repository import Repository
    from coffer.sources.postgres import wal_writer, walstream
    from coffer.sources.postgres.connection import PostgresConnection
    from coffer.sources.postgres.wal_receiver import drain, receive
    from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
    from tests.harness.keyrings import make_unlocker

    store, work, target = Path(sys.argv[1]), sys.argv[2], PostgresConnection(**json.loads(sys.argv[3]))
    wal_writer.RANGE_BYTES = 1 << 18
    walstream.STATUS_INTERVAL_S = 1
    killed = 0
    for nth in (0, 1, 2, 4):
        for kind in (FaultKind.SIGKILL_BEFORE, FaultKind.SIGKILL_AFTER):
            child = os.fork()
            if child == 0:
                fault = Fault(kind, method="put", prefix="wal/", nth=nth)
                repo = Repository.open(FaultyBackend(LocalBackend(store), [fault]), make_unlocker())
                if work == "drain":
                    drain(repo, "db", target, slot="s")
                else:
                    receive(repo, "db", target, slot="s", stop=Event(), interval_s=0.05)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (nth, kind, status)
            killed += 1
            print(json.dumps([nth, kind.name]), flush=True)
"""


@pytest.mark.parametrize("work", ["drain", "receive"])
def test_a_kill_at_a_put_leaves_no_gap(servers, tmp_path, work):
    """Eight kills in a row, each of a receiver that goes on where the one before died."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    try:
        begin = make_slot(server).segment_start(MIB)
        store = LocalBackend(tmp_path / "store", create=True)
        make_repository(store)
        write_wal(server, 60_000)
        target = {"host": str(server.home), "port": server.port, "user": "postgres"}
        ended = run_program(KILL_AT_PUTS, str(tmp_path / "store"), work, json.dumps(target))
        assert (0, "") == (ended.returncode, ended.stderr)
        assert 8 == len(ended.stdout.splitlines())
        repo = Repository.open(store, make_unlocker(), clock=SYSTEM_CLOCK)
        archive = WalArchive(repo, "db")
        saved_until = archive.end_of(1, begin)
        assert [(begin, saved_until)] == archive.coverage().spans(1)
        assert slot_at(server) <= saved_until
        write_wal(server, 1000)
        done = drain(repo, "db", server.connection(), slot="s")
        assert saved_until == done.start
        assert on_disk(server, 1, begin, done.end) == b"".join(archive.bytes_between(1, begin, done.end))
        assert Lsn(done.end) == slot_at(server)
    finally:
        server.close()
