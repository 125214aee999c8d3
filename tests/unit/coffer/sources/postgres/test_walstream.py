"""WAL arrives byte for byte, from any position to any other, across promotions; what is missing is named."""

from __future__ import annotations

import threading

import pytest

from coffer.errors import InterruptedRunError
from coffer.errors_postgres import PostgresSlotLostError, PostgresTimelineError, WalGapError
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.timeline import History, Switch
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.replication import ReplicationSession, advance_slot
from coffer.sources.postgres.walstream import (
    WalStretch,
    newest_position,
    plan_stretches,
    require_kept,
    stream_wal,
)

HISTORY = History(3, (Switch(1, Lsn(100), ""), Switch(2, Lsn(200), "")))
MIB = 1 << 20


def stretches(saved_timeline, saved, target, history=HISTORY):
    """Return the plan as tuples."""
    return [
        (s.timeline, int(s.start), int(s.end)) for s in plan_stretches(history, saved_timeline, Lsn(saved), Lsn(target))
    ]


@pytest.mark.parametrize(
    ("saved_timeline", "saved", "target", "expected"),
    [
        (1, 50, 300, [(1, 50, 100), (2, 100, 200), (3, 200, 300)]),
        (1, 100, 300, [(2, 100, 200), (3, 200, 300)]),
        (2, 150, 200, [(2, 150, 200)]),
        (3, 250, 300, [(3, 250, 300)]),
        (3, 300, 300, []),
        (1, 50, 80, [(1, 50, 80)]),
    ],
)
def test_each_timeline_is_read_up_to_its_end(saved_timeline, saved, target, expected):
    """In order, without gap, overlap or empty stretch."""
    assert expected == stretches(saved_timeline, saved, target)


@pytest.mark.parametrize(("saved_timeline", "saved"), [(1, 101), (2, 201), (4, 300), (3, 199)])
def test_what_was_saved_must_lie_on_the_servers_history(saved_timeline, saved):
    """A server that went back, or another one, is not gone on with."""
    with pytest.raises(PostgresTimelineError, match="not in the history"):
        stretches(saved_timeline, saved, 300)


@pytest.fixture
def primary(servers):
    """A server of its own with 1 MiB segments and a slot."""
    server = servers.start("--data-checksums", "--wal-segsize=1")
    with ReplicationSession(server.connection()) as session:
        session.create_slot("s")
    return server


def write(server, rows=20000):
    """Write a few MiB of WAL."""
    server.sql("CREATE TABLE IF NOT EXISTS t (n int, text text)")
    server.sql("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, %s) n", [rows])


def read(server, stretch, stop=None, slot="s"):
    """Return the bytes of a stretch; each piece goes on where the one before ended."""
    data, at = bytearray(), stretch.start
    for lsn, piece in stream_wal(ReplicationSession(server.connection()), slot, stretch, stop=stop):
        assert at == lsn
        data += piece
        at = lsn.after(len(piece))
    return bytes(data)


def on_disk(server, stretch):
    """Return the same bytes from the server's own segments."""
    data = bytearray()
    at = int(stretch.start)
    while at < stretch.end:
        segment = Segment.holding(stretch.timeline, Lsn(at), MIB)
        begin = at - segment.start(MIB)
        end = min(MIB, stretch.end - segment.start(MIB))
        data += (server.data / "pg_wal" / segment.name(MIB)).read_bytes()[begin:end]
        at = segment.start(MIB) + end
    return bytes(data)


def position(server):
    """Return (history, newest position) of a server."""
    with ReplicationSession(server.connection()) as session:
        return newest_position(session)


def test_any_range_is_byte_for_byte_what_the_server_wrote(primary):
    """From the middle of one segment to the middle of another, and again from there on."""
    _, begin = position(primary)
    write(primary)
    _, middle = position(primary)
    write(primary)
    _, end = position(primary)
    assert middle - begin > 2 * MIB
    for stretch in (WalStretch(1, begin, middle), WalStretch(1, middle, end), WalStretch(1, begin.after(12345), end)):
        assert on_disk(primary, stretch) == read(primary, stretch)


def test_reading_does_not_move_the_slot_and_advancing_does(primary):
    """What was read may still be lost here: only what the caller declares durable is given up."""
    with ReplicationSession(primary.connection()) as session:
        before = session.read_slot("s").restart
    write(primary)
    _, end = position(primary)
    read(primary, WalStretch(1, before, end))
    with ReplicationSession(primary.connection()) as session:
        assert before == session.read_slot("s").restart
    sql = connect_sql(primary.connection())
    try:
        assert end == advance_slot(sql, "x", "s", end)
        assert end == advance_slot(sql, "x", "s", before)  # never back
    finally:
        sql.close()


def test_an_idle_server_has_nothing_to_read(primary):
    """No wait, and no bytes."""
    _, end = position(primary)
    assert b"" == read(primary, WalStretch(1, end, end))


def test_a_stop_ends_a_wait_for_wal_that_never_comes(primary):
    """A range beyond the end waits; the stop is noticed."""
    _, end = position(primary)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(InterruptedRunError, match="stopped by request"):
        read(primary, WalStretch(1, end, end.after(64 * MIB)), stop)


def test_a_slot_that_is_gone_is_named(primary):
    """With the position up to which WAL is saved."""
    with ReplicationSession(primary.connection()) as session:
        with pytest.raises(PostgresSlotLostError, match="slot other does not exist; WAL is saved up to 0/10"):
            require_kept(session, "other", Lsn(16), MIB)
        _, end = newest_position(session)
        require_kept(session, "s", end, MIB)


def test_wal_that_was_given_up_too_early_is_a_gap(primary):
    """The error names the bytes that nobody can save any more."""
    _, begin = position(primary)
    write(primary)
    _, end = position(primary)
    sql = connect_sql(primary.connection())
    try:
        advance_slot(sql, "x", "s", end)
    finally:
        sql.close()
    with ReplicationSession(primary.connection()) as session:
        kept = end.segment_start(MIB)
        with pytest.raises(WalGapError, match=rf"WAL {begin}\.\.{kept} was removed"):
            require_kept(session, "s", begin, MIB)


def test_removed_wal_is_a_gap_also_while_reading(primary):
    """The server's own words become the same error."""
    with (
        ReplicationSession(primary.connection()) as session,
        pytest.raises(WalGapError, match="already been removed"),
    ):
        list(stream_wal(session, "s", WalStretch(1, Lsn(0), Lsn(MIB))))


def test_wal_goes_on_across_a_promotion(servers, primary):
    """The old timeline exactly to its end, then the new one: both as they lie on the promoted server."""
    standby = servers.start_standby(primary)
    with ReplicationSession(standby.connection()) as session:
        session.create_slot("s")
        begin = session.read_slot("s").restart
    write(primary)
    _, target = position(primary)
    while Lsn.parse(standby.value("SELECT pg_last_wal_replay_lsn()::text")) < target:
        threading.Event().wait(0.02)
    standby.sql("SELECT pg_promote()")
    write(standby)
    history, end = position(standby)
    assert 2 == history.timeline
    plan = plan_stretches(history, 1, begin, end)
    assert [1, 2] == [stretch.timeline for stretch in plan]
    for stretch in plan:
        got = read(standby, stretch)
        # The segment in which the timelines part is on disk as the new one's; its first bytes are the old one's.
        assert on_disk_after_promotion(standby, stretch, history) == got


def on_disk_after_promotion(server, stretch, history):
    """As `on_disk`, but the last segment of an old timeline is read under the new one's name."""
    left_at = history.end_of(stretch.timeline)
    if left_at is None:
        return on_disk(server, stretch)
    whole = left_at.segment_start(MIB)
    head = b"" if stretch.start >= whole else on_disk(server, WalStretch(stretch.timeline, stretch.start, whole))
    start = Lsn(max(stretch.start, whole))
    return head + on_disk(server, WalStretch(history.timeline, start, left_at))
