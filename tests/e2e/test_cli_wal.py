"""WAL on a real server by the real program: archive_command, a receiver that is killed, restore_command, recovery."""

from __future__ import annotations

import random
import signal
import subprocess
import threading

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.postgres.restore_command import restore_command
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from tests.harness.command_line import PROGRAM, run_program, start_program
from tests.harness.postgres import installations, servers_of, wait_for
from tests.harness.relay import Relay
from tests.harness.server_wal import KEEP, flushed, make_slot, on_disk, slot_at, write_wal

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]
KILLS = 6


@pytest.fixture(scope="module", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version; all are stopped and removed at the end."""
    with servers_of(request.param) as made:
        yield made


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository that the server's user can reach, and the folder above it."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv("COFFER_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("COFFER_REPOSITORY", str(folder / "repo"))
    assert 0 == run_program("init", folder / "repo").code
    return folder


def archive_of(place):
    """The archive of the source `db`."""
    unlocker = KeyFileUnlocker.load(place / "repo.key")
    return WalArchive(Repository.open(LocalBackend(place / "repo"), unlocker), "db")


def of_server(server):
    """The options that name a server."""
    return (
        "--source",
        "db",
        "--host",
        str(server.home),
        "--port",
        str(server.port),
        "--user",
        "postgres",
        "--slot",
        "s",
    )


def test_a_receiver_that_is_killed_again_and_again_leaves_no_gap(servers, place):
    """By SIGKILL, at random moments under writes, then one that drains: what is saved is what the server wrote."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    try:
        begin = make_slot(server).segment_start(1 << 20)
        draw = random.Random(20261125)
        for _ in range(KILLS):
            receiver = start_program("wal", "receive", *of_server(server), "--interval", "1s")
            wait_for(lambda: server.value("SELECT active FROM pg_replication_slots"), "the receiver", 30)
            write_wal(server, 30_000)
            threading.Event().wait(draw.uniform(0, 0.6))
            receiver.kill()
            receiver.communicate(timeout=30)
            newest = archive_of(place).newest()
            if newest is not None:
                assert slot_at(server) <= archive_of(place).end_of(1, begin)
        ended = run_program("wal", "receive", "--once", *of_server(server), "--json")
        assert (0, ended.result["end"]) == (ended.code, ended.result["slot_at"])
        archive = archive_of(place)
        end = archive.newest()[1]
        assert [(begin, end)] == archive.coverage().spans(1)
        assert on_disk(server, 1, begin, end) == b"".join(archive.bytes_between(1, begin, end))
        assert 0 == run_program("verify").code
    finally:
        server.close()


def test_a_receiver_that_is_stopped_ends_well(servers, place):
    """SIGTERM: what was read is saved, the slot is moved, the exit code is 0."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    try:
        receiver = start_program("wal", "receive", *of_server(server), "--create-slot", "--json")
        wait_for(lambda: server.value("SELECT bool_or(active) FROM pg_replication_slots"), "the receiver", 30)
        write_wal(server)
        end = flushed(server)
        receiver.send_signal(signal.SIGTERM)
        out, _ = receiver.communicate(timeout=60)
        assert 0 == receiver.returncode
        assert slot_at(server) == archive_of(place).newest()[1]
        assert '"wal receive"' in out
        ended = run_program("wal", "receive", "--once", *of_server(server), "--json")
        assert archive_of(place).newest()[1] >= end
        assert "db" == ended.result["source"]
        status = run_program("wal", "status", *of_server(server), "--json")
        assert ("ok", ended.result["end"]) == (status.result["verdict"], status.result["saved_until"])
        assert "max_slot_wal_keep_size is not set" in status.result["advice"]
        missing = run_program("wal", "status", *of_server(server)[:-1], "other", "--json")
        assert (1, "lost", "pg-slot-lost") == (
            missing.code,
            missing.result["verdict"],
            missing.envelope["error"]["code"],
        )
    finally:
        server.close()


def prepare_recovery(restored, command, until):
    """Let a copy of a cluster bring its WAL by a restore command, up to a position, or as far as there is any."""
    for path in (restored.data / "pg_wal").glob("0*"):
        path.unlink()
    quoted = command.replace("'", "''")
    target = "" if until is None else f"recovery_target_lsn = '{until}'\nrecovery_target_action = 'promote'\n"
    restored.write("recovery.signal", "")
    restored.write("postgresql.auto.conf", f"restore_command = '{quoted}'\n{target}")


def test_a_server_recovers_by_the_restore_command(servers, place, tmp_path):
    """From a copy of its folder and what its archive_command pushed, to a later moment: all rows are there."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    restored = None
    where = {"--repo": place / "repo", "--key-file": place / "repo.key", "--prefetch": 0}
    try:
        server.stop()
        base = tmp_path / "base"
        subprocess.run(["cp", "-a", str(server.data), str(base)], check=True)
        with Relay(server, PROGRAM) as archiver:
            options = f"--source db --repo {where['--repo']} --key-file {where['--key-file']}"
            server.settings |= {"archive_mode": "on", "archive_command": f"{archiver.script} wal push %p {options}"}
            server.start()
            write_wal(server, 30_000)
            until = flushed(server)
            server.sql("SELECT pg_switch_wal()")
            wait_for(lambda: (archive_of(place).newest() or (0, 0))[1] >= until, "the archiver", 120)
            server.stop()
        assert {0} == {code for _, code in archiver.calls}
        restored = servers.new_copy(base, **KEEP)
        with Relay(restored, PROGRAM) as fetcher:
            prepare_recovery(restored, restore_command("db", options=where, program=(str(fetcher.script),)), until)
            restored.start()
            wait_for(lambda: not restored.value("SELECT pg_is_in_recovery()"), "the promotion", 120)
        assert 30_000 == restored.value("SELECT count(*) FROM written")
        assert {0, 1} == {code for _, code in fetcher.calls}  # 1: histories that never were
    finally:
        for found in (server, restored):
            if found is not None:
                found.close()


def test_damage_stops_a_recovery_and_does_not_open_the_database(servers, place, tmp_path):
    """Exit code 126: to the server no end of the archive, but a reason to end."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    restored = None
    where = {"--repo": place / "repo", "--key-file": place / "repo.key", "--prefetch": 0}
    try:
        server.stop()
        base = tmp_path / "base"
        subprocess.run(["cp", "-a", str(server.data), str(base)], check=True)
        server.start()
        make_slot(server)
        write_wal(server, 30_000)
        ended = run_program("wal", "receive", "--once", *of_server(server))
        assert 0 == ended.code
        for path in (place / "repo" / "wal").rglob("*-*"):
            path.chmod(0o600)
            harmed = bytearray(path.read_bytes())
            harmed[len(harmed) // 2] ^= 1  # inside a segment that is saved whole
            path.write_bytes(harmed)
        restored = servers.new_copy(base, **KEEP)
        with Relay(restored, PROGRAM) as fetcher:
            prepare_recovery(restored, restore_command("db", options=where, program=(str(fetcher.script),)), None)
            restored.start(wait=False)
            assert 0 != restored.process.wait(60)
        restored.process = None
        assert 126 in {code for _, code in fetcher.calls}
        assert "could not restore file" in restored.log
    finally:
        for found in (server, restored):
            if found is not None:
                found.close()
