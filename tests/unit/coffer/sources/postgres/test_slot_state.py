"""How far a slot is behind, and what that means."""

from __future__ import annotations

from contextlib import closing

import pytest

from coffer.errors import UsageError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.slot_state import SlotState, SlotVerdict, free_disk_bytes, slot_state
from tests.harness.server_wal import MIB, flushed, make_slot, write_wal


def state(lag=0, **changes):
    """A slot that is well, or that differs from it."""
    given = {
        "name": "s",
        "exists": True,
        "is_active": False,
        "restart": Lsn(1000),
        "position": Lsn(1000 + lag),
        "wal_status": "reserved",
        "safe_wal_bytes": None,
        "keep_bytes": None,
    }
    return SlotState(**(given | changes))


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        (state(), SlotVerdict.OK, ""),
        (state(10**12), SlotVerdict.OK, ""),
        (state(499, keep_bytes=1000), SlotVerdict.OK, ""),
        (state(500, keep_bytes=1000), SlotVerdict.WARN, "half of max_slot_wal_keep_size"),
        (state(499, free_bytes=1000), SlotVerdict.OK, ""),
        (state(500, free_bytes=1000), SlotVerdict.WARN, "the disk has free"),
        (state(wal_status="extended"), SlotVerdict.OK, ""),
        (state(wal_status="unreserved"), SlotVerdict.WARN, "at the next checkpoint"),
        (state(wal_status="lost"), SlotVerdict.LOST, "gave up its WAL"),
        (state(wal_status="lost", restart=None), SlotVerdict.LOST, "gave up its WAL"),
        (state(wal_status=None, restart=None), SlotVerdict.LOST, "keeps no WAL"),
        (state(exists=False, restart=None), SlotVerdict.LOST, "does not exist"),
        (state(position=None, keep_bytes=10), SlotVerdict.OK, ""),
    ],
)
def test_the_verdict_follows_from_the_state(found, verdict, reason):
    """From half of the room on it is a warning; without WAL or slot it is lost."""
    assert (verdict, True) == (found.verdict, reason in found.reason)
    assert bool(reason) == bool(found.reason)


def test_a_limit_that_is_not_set_is_advised():
    """Nothing else protects the server's disk."""
    assert "max_slot_wal_keep_size is not set" in state().advice
    assert "" == state(keep_bytes=1).advice


@pytest.mark.postgres
def test_a_real_slot_tells_what_it_holds_back(servers):
    """Lag, limit, and the free space of the disk, which is this machine's; then without a slot."""
    server = servers.start("--data-checksums", "--wal-segsize=1", max_slot_wal_keep_size="100MB")
    try:
        begin = make_slot(server)
        write_wal(server)
        with closing(connect_sql(server.connection())) as connection:
            free_bytes = free_disk_bytes(connection)
            found = slot_state(connection, "s", free_bytes=free_bytes)
            missing = slot_state(connection, "other")
        assert (True, False, begin, 100 * MIB) == (found.exists, found.is_active, found.restart, found.keep_bytes)
        assert flushed(server) - begin - MIB < found.lag_bytes <= flushed(server) - begin
        assert (SlotVerdict.OK, "reserved") == (found.verdict, found.wal_status)
        assert 0 < found.safe_wal_bytes < 200 * MIB
        assert free_bytes > 0
        assert (SlotVerdict.LOST, False, None) == (missing.verdict, missing.exists, missing.restart)
    finally:
        server.close()


@pytest.mark.postgres
def test_a_limit_that_is_near_is_a_warning_and_a_lost_slot_is_told(servers):
    """Half of the limit, then all of it, on a real server."""
    server = servers.start("--data-checksums", "--wal-segsize=1", max_slot_wal_keep_size="8MB", max_wal_size="8MB")
    try:
        make_slot(server)
        with closing(connect_sql(server.connection())) as connection:
            seen = set()
            for _ in range(40):
                found = slot_state(connection, "s")
                seen.add(found.verdict)
                if found.verdict is SlotVerdict.LOST:
                    break
                write_wal(server, 5000)
                server.sql("CHECKPOINT")
        assert {SlotVerdict.OK, SlotVerdict.WARN, SlotVerdict.LOST} == seen
    finally:
        server.close()


@pytest.mark.postgres
def test_a_role_that_may_not_know_the_data_folder_knows_no_free_space(server):
    """And a name that no slot has is refused before the server is asked."""
    with closing(connect_sql(server.connection(user="plain"))) as connection:
        assert free_disk_bytes(connection) is None
        with pytest.raises(UsageError):
            slot_state(connection, "Robert'; DROP")
