"""Servers that are lost, killed and promoted while their WAL is received."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors_postgres import PostgresTimelineError, PostgresUnavailableError, WalConflictError, WalGapError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.replication import advance_slot
from coffer.sources.postgres.wal_receiver import drain, receive
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.postgres import wait_for
from tests.harness.repositories import make_repository
from tests.harness.server_wal import (
    KEEP,
    MIB,
    flushed,
    in_background,
    make_slot,
    on_disk,
    promote,
    replayed,
    slot_at,
    write_wal,
)

pytestmark = pytest.mark.postgres


@pytest.fixture
def pair(servers):
    """A primary and its standby, each with a slot `s`."""
    primary = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    make_slot(primary)
    standby = servers.start_standby(primary, **KEEP)
    make_slot(standby)
    yield primary, standby
    standby.close()
    primary.close()


@pytest.fixture
def repo():
    """An empty repository in memory; its clock is the machine's."""
    found = make_repository(TamperableMemoryBackend())
    found.clock = SYSTEM_CLOCK
    return found


def drained(repo, server, **more):
    """Drain into the source `db` by the slot `s`."""
    return drain(repo, "db", server.connection(), slot="s", **more)


def receiving(repo, server, **more):
    """Receive in a thread: (the event that stops it, the thread, the list with its end)."""
    stop = threading.Event()
    given = {"slot": "s", "stop": stop, "interval_s": 0.1, **more}
    thread, ended = in_background(receive, repo, "db", server.connection(), **given)
    return stop, thread, ended


def is_saved(repo, timeline, end, ended=()):
    """Wait until everything up to a position is saved, and no receiver has ended."""

    def reached():
        assert not ended, ended
        newest = WalArchive(repo, "db").newest()
        return newest is not None and newest[0] == timeline and newest[1] >= end

    wait_for(reached, f"WAL up to {end} on timeline {timeline}")


def children_of(pid):
    """The processes that a server's postmaster has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def end_of(stop, thread, ended):
    """Stop a receiver and return its result."""
    stop.set()
    thread.join(60)
    assert not isinstance(ended[0], BaseException), ended[0]
    return ended[0]


def assert_whole(repo, server, start, end, timeline=1):
    """What is saved is what lies on the server's disk."""
    got = b"".join(WalArchive(repo, "db").bytes_between(timeline, start, end))
    assert on_disk(server, timeline, start, end) == got


# ------------------------------------------------------------------------------------------------ promotions


def test_wal_goes_on_on_the_new_timeline(pair, repo):
    """The old one exactly to where it was left, the history, then the new one; a replay reaches the end."""
    primary, standby = pair
    write_wal(primary)
    begin = slot_at(standby)
    replayed(standby, flushed(primary))
    drained(repo, standby)
    write_wal(primary)
    replayed(standby, flushed(primary))
    primary.stop()
    promote(standby)
    write_wal(standby)
    done = drained(repo, standby)
    archive = WalArchive(repo, "db")
    history = archive.history(2)
    left_at = history.end_of(1)
    assert (2, [2]) == (done.timeline, archive.histories())
    reach = archive.reach(history, 1, begin)
    assert (done.end, 2, None) == (reach.end, reach.timeline, reach.gap)
    assert_whole(repo, standby, begin, left_at, 1)
    assert_whole(repo, standby, left_at, done.end, 2)
    assert archive.newest() == (2, done.end)


def test_a_receiver_follows_a_promotion_by_itself(pair, repo):
    """While it reads: no error, no gap, and the new timeline's history is there."""
    primary, standby = pair
    begin = slot_at(standby)
    running = receiving(repo, standby)
    write_wal(primary)
    is_saved(repo, 1, flushed(primary))
    promote(standby)
    write_wal(standby)
    is_saved(repo, 2, flushed(standby))
    done = end_of(*running)
    archive = WalArchive(repo, "db")
    left_at = archive.history(2).end_of(1)
    assert_whole(repo, standby, begin, left_at, 1)
    assert_whole(repo, standby, left_at, done.end, 2)
    assert (2, True) == (done.timeline, done.reconnects >= 1)


def test_the_last_transactions_of_a_failed_primary_stay_and_the_new_one_is_followed(pair, repo):
    """It had written, and we had saved, what the standby never got: a branch of its own, not a gap."""
    primary, standby = pair
    replayed(standby, flushed(primary))
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
    standby.sql("SELECT pg_reload_conf()")
    wait_for(lambda: not standby.value("SELECT count(*) FROM pg_stat_wal_receiver"), "the end of the replication")
    write_wal(primary)
    lost = drained(repo, primary)
    primary.stop()
    promote(standby)
    write_wal(standby)
    done = drained(repo, standby)
    left_at = WalArchive(repo, "db").history(2).end_of(1)
    assert left_at < lost.end
    assert (left_at, 2, None) == (done.start, done.timeline, done.gap)
    assert_whole(repo, standby, left_at, done.end, 2)
    assert lost.end == WalArchive(repo, "db").end_of(1, lost.start)


def test_an_old_primary_that_comes_back_is_refused(pair, repo):
    """Two servers that both write: what is saved of the new timeline is not followed by the old one's log."""
    primary, standby = pair
    replayed(standby, flushed(primary))
    promote(standby)
    write_wal(standby)
    drained(repo, standby)
    write_wal(primary)
    before = WalArchive(repo, "db").ranges()
    with pytest.raises(PostgresTimelineError, match=r"is on timeline 1, WAL is saved up to .* on timeline 2"):
        drained(repo, primary)
    assert before == WalArchive(repo, "db").ranges()


def test_another_history_of_the_same_timeline_is_a_conflict(servers, pair, repo):
    """Two standbys were promoted to timeline 2, each at its own moment."""
    primary, standby = pair
    other = servers.start_standby(primary, **KEEP)
    try:
        make_slot(other)
        replayed(standby, flushed(primary))
        promote(standby)
        drained(repo, standby)
        write_wal(primary)
        replayed(other, flushed(primary))
        promote(other)
        with pytest.raises(WalConflictError, match="another history of timeline 2"):
            drained(repo, other)
    finally:
        other.close()


@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "gone"])
def test_the_histories_of_ancestors_are_saved_where_the_server_has_them(servers, pair, repo, is_gone):
    """Two promotions: a recovery may aim for the middle timeline; a server that lost its history is no error."""
    primary, standby = pair
    replayed(standby, flushed(primary))
    promote(standby)
    write_wal(standby, 100)
    third = servers.start_standby(standby, **KEEP)
    try:
        make_slot(third)
        replayed(third, flushed(standby))
        promote(third)
        if is_gone:
            (third.data / "pg_wal" / "00000002.history").unlink()
        done = drained(repo, third)
        archive = WalArchive(repo, "db")
        assert (3, [3] if is_gone else [2, 3]) == (done.timeline, archive.histories())
        assert [1, 2] == [switch.timeline for switch in archive.history(3).switches]
        assert 0 == drained(repo, third, until=done.end).ranges  # the same histories again are no conflict
    finally:
        third.close()


def test_a_backup_just_behind_a_promotion_begins_on_the_old_timeline(pair, repo):
    """Its segment's first page was written there."""
    primary, standby = pair
    replayed(standby, flushed(primary))
    primary.stop()
    promote(standby)
    begin = flushed(standby)
    write_wal(standby, 100)
    done = drained(repo, standby, from_=(2, begin))
    archive = WalArchive(repo, "db")
    left_at = archive.history(2).end_of(1)
    if begin.segment_start(MIB) < left_at:
        assert_whole(repo, standby, begin.segment_start(MIB), left_at, 1)
    assert_whole(repo, standby, max(left_at, begin.segment_start(MIB)), done.end, 2)
    with pytest.raises(PostgresTimelineError, match="not in the history of timeline 2"):
        drained(repo, standby, from_=(1, begin.after(64 * MIB)))


# ------------------------------------------------------------------------------------------------ stopped servers


def is_stopped(server):
    """Stop a server as an administrator does; say whether it ended within 20 s."""
    server.process.send_signal(signal.SIGINT)
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        return False
    server.process = None
    return True


def test_a_receiver_does_not_keep_a_server_from_being_stopped(pair, repo):
    """It waits until all that it sent is acknowledged: what was read is saved at once, long before its interval."""
    primary, standby = pair
    standby.stop()
    running = receiving(repo, primary, interval_s=300, patience_s=300)
    wait_for(lambda: primary.value("SELECT active FROM pg_replication_slots WHERE slot_name = 's'"), "the stream")
    write_wal(primary, 1000)
    begin = slot_at(primary)
    assert is_stopped(primary)
    primary.start()
    write_wal(primary, 1000)
    end = flushed(primary)
    running[0].set()
    running[1].join(60)
    assert drained(repo, primary).end >= end
    assert_whole(repo, primary, begin, end)


def test_a_drain_that_waits_does_not_keep_a_server_from_being_stopped(pair, repo):
    """For a position that is not written: it ends as a lost server, and what was read is saved."""
    primary, standby = pair
    standby.stop()
    end = flushed(primary)
    thread, ended = in_background(drained, repo, primary, until=end.after(64 * MIB))
    wait_for(lambda: primary.value("SELECT active FROM pg_replication_slots WHERE slot_name = 's'"), "the stream")
    assert is_stopped(primary)
    thread.join(60)
    assert isinstance(ended[0], PostgresUnavailableError)
    assert WalArchive(repo, "db").newest()[1] >= end


# ------------------------------------------------------------------------------------------------ lost servers


def test_a_receiver_goes_on_after_its_connection_was_broken(pair, repo):
    """Three times, under writes; every byte is there."""
    primary, _ = pair
    begin = slot_at(primary)
    running = receiving(repo, primary)
    for _ in range(3):
        wait_for(lambda: primary.value("SELECT bool_or(active) FROM pg_replication_slots"), "the stream")
        write_wal(primary)
        primary.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        write_wal(primary)
        is_saved(repo, 1, flushed(primary))
    done = end_of(*running)
    assert done.reconnects >= 3
    assert_whole(repo, primary, begin, done.end)
    assert done.end == done.slot_at == slot_at(primary)


def test_a_receiver_goes_on_after_the_server_was_killed(pair, repo):
    """Its postmaster, by SIGKILL, and started anew; WAL that it recovered is received once."""
    primary, standby = pair
    standby.stop()
    begin = slot_at(primary)
    running = receiving(repo, primary)
    write_wal(primary)
    children = children_of(primary.process.pid)
    primary.stop(signal.SIGKILL)
    wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], "the end of its processes")
    (primary.data / "postmaster.pid").unlink(missing_ok=True)
    primary.start()
    write_wal(primary)
    is_saved(repo, 1, flushed(primary), running[2])
    done = end_of(*running)
    assert_whole(repo, primary, begin, done.end)
    assert done.reconnects >= 1


def test_a_server_that_stays_away_is_an_error_after_a_while(pair, repo):
    """As transient, once the patience is over; what was read is saved."""
    primary, _ = pair
    running = receiving(repo, primary, patience_s=0.3)
    write_wal(primary)
    end = flushed(primary)
    is_saved(repo, 1, end)
    primary.stop()
    running[1].join(60)
    assert isinstance(running[2][0], PostgresUnavailableError)
    assert WalArchive(repo, "db").newest()[1] >= end


def test_a_receiver_does_not_begin_behind_a_gap(pair, repo):
    """Somebody else moved the slot while it was away: named, and not gone over in silence."""
    primary, _ = pair
    running = receiving(repo, primary)
    write_wal(primary)
    is_saved(repo, 1, flushed(primary))
    end_of(*running)
    write_wal(primary)
    connection = connect_sql(primary.connection())
    advance_slot(connection, "x", "s", flushed(primary))
    connection.close()
    _, thread, ended = receiving(repo, primary)
    thread.join(60)
    assert isinstance(ended[0], WalGapError)


def test_a_receiver_that_is_stopped_before_anything_came_ends_well(pair, repo):
    """An idle server: nothing to save, and the slot is not moved beyond what was read."""
    primary, _ = pair
    drained(repo, primary)
    before = slot_at(primary)
    running = receiving(repo, primary)
    wait_for(lambda: primary.value("SELECT bool_or(active) FROM pg_replication_slots"), "the stream")
    done = end_of(*running)
    assert before <= done.slot_at == done.end
    assert done.end <= flushed(primary)
    assert Lsn(0) < done.start <= done.end
