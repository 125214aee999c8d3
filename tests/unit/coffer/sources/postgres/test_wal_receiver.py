"""WAL from real servers into the repository: every byte, no gap, and the slot never ahead of what is durable."""

from __future__ import annotations

import threading

import pytest

from coffer.errors import BackendFullError, BackendUnavailableError, InterruptedRunError
from coffer.errors_postgres import (
    PostgresSlotBusyError,
    PostgresSlotLostError,
    PostgresSystemChangedError,
    PostgresUnavailableError,
    WalGapError,
)
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.sources.postgres import wal_receiver, wal_writer
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.replication import ReplicationSession, advance_slot
from coffer.sources.postgres.wal_receiver import drain, receive
from coffer.sources.postgres.walstream import WalStretch, stream_wal
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.postgres import wait_for
from tests.harness.repositories import make_repository
from tests.harness.server_wal import KEEP, MIB, flushed, in_background, make_slot, on_disk, slot_at, write_wal

pytestmark = pytest.mark.postgres


@pytest.fixture
def primary(servers):
    """A server of its own with 1 MiB segments, and a slot."""
    server = servers.start("--data-checksums", "--wal-segsize=1", **KEEP)
    make_slot(server)
    yield server
    server.close()


@pytest.fixture
def repo():
    """An empty repository in memory; its clock is the machine's."""
    from coffer.clock import SYSTEM_CLOCK

    found = make_repository(TamperableMemoryBackend())
    found.clock = SYSTEM_CLOCK
    return found


@pytest.fixture
def small_ranges(monkeypatch):
    """Ranges of 1 MiB, so that a few MiB are many."""
    monkeypatch.setattr(wal_writer, "RANGE_BYTES", MIB)


def drained(repo, server, **more):
    """Drain into the source `db` by the slot `s`."""
    return drain(repo, "db", server.connection(), **{"slot": "s", **more})


def saved(repo, start, end, timeline=1):
    """What the archive holds of [start, end)."""
    return b"".join(WalArchive(repo, "db").bytes_between(timeline, Lsn(start), Lsn(end)))


def assert_whole(repo, server, start, end, timeline=1):
    """What is saved is what lies on the server's disk."""
    assert on_disk(server, timeline, start, end) == saved(repo, start, end, timeline)


# ------------------------------------------------------------------------------------------------ drain


def test_everything_that_the_slot_keeps_is_saved(primary, repo):
    """Byte for byte, from the beginning of the slot's segment; then the server may remove it."""
    begin = slot_at(primary)
    write_wal(primary)
    written = flushed(primary)
    progress = Progress()
    done = drained(repo, primary, progress=progress)
    assert (begin.segment_start(MIB), 1, None) == (done.start, done.timeline, done.gap)
    assert written <= done.end == done.slot_at == slot_at(primary)
    assert_whole(repo, primary, done.start, done.end)
    assert (done.end - done.start, done.end - done.start, done.ranges) == (
        done.wal_bytes,
        progress.bytes_done,
        progress.files_done,
    )
    assert done.stored_bytes == sum(ref.size_bytes for ref in WalArchive(repo, "db").ranges()) < done.wal_bytes


def test_an_idle_server_costs_nothing_and_the_next_drain_goes_on(primary, repo):
    """From any byte to any other, without a switch of segments."""
    write_wal(primary)
    first = drained(repo, primary)
    idle = drained(repo, primary, until=first.end)
    assert (0, 0, first.end) == (idle.ranges, idle.wal_bytes, idle.end)
    primary.sql("SELECT pg_logical_emit_message(false, 'a', 'b')")
    primary.sql("CHECKPOINT")
    second = drained(repo, primary)
    assert (first.end, True) == (second.start, 0 < second.wal_bytes < MIB)
    assert_whole(repo, primary, first.start, second.end)
    assert 1 == len(WalArchive(repo, "db").coverage().spans(1))


def test_ranges_end_where_segments_end(primary, repo):
    """At multiples of 16 MiB; only the last one ends where the log did."""
    write_wal(primary, 200_000)
    drained(repo, primary)
    ranges = WalArchive(repo, "db").ranges()
    assert len(ranges) > 2
    assert {0} == {ref.end % (16 * MIB) for ref in ranges[:-1]}


def test_a_wanted_end_that_is_not_written_yet_is_waited_for(primary, repo):
    """As the end of a backup of a standby may be."""
    end = flushed(primary).after(MIB)
    thread, ended = in_background(drained, repo, primary, until=end)
    write_wal(primary)
    thread.join(60)
    assert end == ended[0].end
    assert_whole(repo, primary, ended[0].start, end)


def test_the_first_drain_begins_where_it_is_told(primary, repo):
    """At the beginning of that segment: a replay needs its first page."""
    write_wal(primary)
    middle = flushed(primary)
    write_wal(primary)
    done = drained(repo, primary, from_=(1, middle))
    assert middle.segment_start(MIB) == done.start
    assert_whole(repo, primary, done.start, done.end)


@pytest.mark.parametrize("kind", [FaultKind.FULL, FaultKind.FAIL_AFTER])
def test_a_store_that_fails_moves_no_slot_and_loses_no_byte(primary, repo, small_ranges, kind):
    """At the third range: two are durable, the server still has all, and the next drain makes it whole."""
    before = slot_at(primary)
    write_wal(primary, 40_000)
    store = repo.backend
    with FaultyBackend(store, [Fault(kind, method="put", prefix="wal/", nth=2)]) as faulty:
        repo.backend = faulty
        with pytest.raises((BackendFullError, BackendUnavailableError)):
            drained(repo, primary)
    repo.backend = store
    assert before == slot_at(primary)
    assert (2 if kind is FaultKind.FULL else 3) == len(WalArchive(repo, "db").ranges())
    done = drained(repo, primary)
    assert_whole(repo, primary, before.segment_start(MIB), done.end)
    assert 1 == len(WalArchive(repo, "db").coverage().spans(1))


class Watched(FaultyBackend):
    """A store that looks at the slot at each put, before and after it took effect, and then says that it worked."""

    def __init__(self, inner, server):
        super().__init__(inner)
        self.server = server
        self.seen = []

    def put(self, name, parts):
        start = int(name.split("-")[1], 16)
        before = slot_at(self.server)
        super().put(name, parts)
        self.seen.append((start, before, slot_at(self.server)))


def test_the_slot_stands_at_no_byte_that_is_not_durable(primary, repo, small_ranges):
    """Seen from inside each put, also while a stream acknowledges: never behind the range's first byte."""
    watched = Watched(repo.backend, primary)
    repo.backend = watched
    begin = slot_at(primary)  # inside the segment from whose beginning on is received
    stop = threading.Event()
    thread, ended = in_background(
        receive, repo, "db", primary.connection(), slot="s", stop=stop, interval_s=0.2, accept_gap=False
    )
    for _ in range(6):
        write_wal(primary, 10_000)
    wait_for(lambda: WalArchive(repo, "db").end_of(1, slot_at(primary)) >= flushed(primary), "the last byte")
    stop.set()
    thread.join(60)
    assert len(watched.seen) > 8
    assert [] == [entry for entry in watched.seen if max(entry[1:]) > max(begin, entry[0])]
    assert ended[0].end == slot_at(primary)


def test_the_stream_itself_moves_the_slot(primary, repo, small_ranges, monkeypatch):
    """Before it ends, so that a server's disk does not fill up during a long one; and not beyond what is durable."""
    monkeypatch.setattr("coffer.sources.postgres.walstream.STATUS_INTERVAL_S", 1)
    begin = slot_at(primary)
    stop = threading.Event()
    thread, ended = in_background(receive, repo, "db", primary.connection(), slot="s", stop=stop, interval_s=0.1)
    write_wal(primary)
    wait_for(lambda: slot_at(primary) > begin.after(MIB), "the slot to move under the stream")
    assert slot_at(primary) <= WalArchive(repo, "db").end_of(1, begin.segment_start(MIB))
    stop.set()
    thread.join(60)
    assert ended[0].slot_at == ended[0].end


def test_what_is_saved_is_not_read_again_although_the_slot_stayed(primary, repo, monkeypatch):
    """A run that died before it moved the slot: where to go on is asked of the repository."""
    monkeypatch.setattr(wal_receiver, "advance_slot", lambda *_: None)
    write_wal(primary)
    first = drained(repo, primary)
    write_wal(primary)
    second = drained(repo, primary)
    assert first.end == second.start
    assert second.end - second.start == second.wal_bytes
    assert slot_at(primary) < first.end


def test_a_hole_that_the_slot_still_keeps_is_filled(primary, repo, small_ranges, monkeypatch):
    """An object that the store lost is received again, and nothing else is."""
    monkeypatch.setattr(wal_receiver, "advance_slot", lambda *_: None)
    write_wal(primary, 40_000)
    first = drained(repo, primary)
    lost = WalArchive(repo, "db").ranges()[2]
    repo.backend.delete(lost.name)
    second = drained(repo, primary, until=first.end)
    assert (lost.start, lost.length, 1) == (second.start, second.wal_bytes, second.ranges)
    assert_whole(repo, primary, first.start, first.end)


def test_a_stop_ends_it_with_what_was_read_saved(primary, repo):
    """In the middle of a wait for WAL that does not come."""
    write_wal(primary)
    end = flushed(primary)
    stop = threading.Event()
    thread, ended = in_background(drained, repo, primary, until=end.after(64 * MIB), stop=stop)
    wait_for(lambda: primary.value("SELECT bool_or(active) FROM pg_replication_slots"), "the stream")
    threading.Event().wait(0.3)
    stop.set()
    thread.join(60)
    assert isinstance(ended[0], InterruptedRunError)
    assert WalArchive(repo, "db").newest()[1] >= end


def test_a_store_slower_than_the_servers_patience_costs_no_error(servers, repo, small_ranges):
    """The connection is given up and made anew; every byte is there in the end, and memory stays bounded."""
    server = servers.start("--data-checksums", "--wal-segsize=1", wal_sender_timeout="2s", **KEEP)
    try:
        make_slot(server)
        write_wal(server, 60_000)

        class Slow(FaultyBackend):
            puts = 0

            def put(self, name, parts):
                self.puts += 1
                if self.puts in (1, 4):
                    threading.Event().wait(3)
                super().put(name, parts)

        repo.backend = Slow(repo.backend)
        done = drained(repo, server)
        assert repo.backend.puts > 5
        assert_whole(repo, server, done.start, done.end)
    finally:
        server.close()


# ------------------------------------------------------------------------------------------------ what is in the way


def test_a_gap_is_named_and_nothing_is_read(primary, repo):
    """WAL that the server may have removed before it was saved; on request it is gone on behind it."""
    first = drained(repo, primary)
    write_wal(primary)
    after = flushed(primary)
    sql = connect_sql(primary.connection())
    advance_slot(sql, "x", "s", after)
    sql.close()
    write_wal(primary)
    kept = after.segment_start(MIB)
    with pytest.raises(WalGapError, match=rf"WAL {first.end}\.\.{kept} was removed"):
        drained(repo, primary)
    assert first.end == WalArchive(repo, "db").newest()[1]
    done = drained(repo, primary, accept_gap=True)
    assert ((first.end, kept), kept) == (done.gap, done.start)
    assert_whole(repo, primary, kept, done.end)
    write_wal(primary)
    assert drained(repo, primary).gap is None  # it is not spoken of again


def test_a_backup_goes_on_behind_a_gap_where_it_begins(primary, repo):
    """Its own WAL must be saved, whatever was lost before; a beginning that is lost too is an error."""
    first = drained(repo, primary)
    write_wal(primary)
    lost = flushed(primary)
    write_wal(primary)
    sql = connect_sql(primary.connection())
    advance_slot(sql, "x", "s", lost)
    sql.close()
    begin = flushed(primary)
    write_wal(primary)
    with pytest.raises(WalGapError):
        drained(repo, primary, from_=(1, first.end))
    done = drained(repo, primary, from_=(1, begin))
    assert ((first.end, begin.segment_start(MIB)), begin.segment_start(MIB)) == (done.gap, done.start)
    assert_whole(repo, primary, done.start, done.end)


def test_where_a_backup_begins_is_no_gap_while_the_slot_keeps_all(primary, repo):
    """What lies between the last drain and the backup is saved as well."""
    first = drained(repo, primary)
    write_wal(primary)
    begin = flushed(primary)
    write_wal(primary)
    done = drained(repo, primary, from_=(1, begin))
    assert (first.end, None) == (done.start, done.gap)


def test_a_slot_that_does_not_exist_is_named(primary, repo):
    """With the position up to which WAL is saved."""
    done = drained(repo, primary)
    with pytest.raises(PostgresSlotLostError, match=f"slot other does not exist; WAL is saved up to {done.end}"):
        drained(repo, primary, slot="other")


def test_a_slot_that_the_server_gave_up_is_named(servers, repo):
    """A busy minute and a small max_slot_wal_keep_size."""
    server = servers.start(
        "--data-checksums", "--wal-segsize=1", max_slot_wal_keep_size="1MB", max_wal_size="4MB", min_wal_size="2MB"
    )
    try:
        make_slot(server)
        done = drained(repo, server)

        def is_lost():
            write_wal(server, 40_000)
            server.sql("CHECKPOINT")
            return server.value("SELECT wal_status FROM pg_replication_slots") == "lost"

        wait_for(is_lost, "the server to give the slot up")
        with pytest.raises(
            PostgresSlotLostError, match=f"invalidated, its WAL may be gone; WAL is saved up to {done.end}"
        ):
            drained(repo, server)
    finally:
        server.close()


@pytest.mark.parametrize("work", [drain, receive])
def test_a_slot_that_somebody_reads_from_is_busy(primary, repo, work):
    """At once, as transient; nothing is read."""
    stream = stream_wal(
        ReplicationSession(primary.connection()), "s", WalStretch(1, slot_at(primary), Lsn(1 << 60)), beat_s=0.01
    )
    next(stream)
    write_wal(primary, 10)
    with pytest.raises(PostgresSlotBusyError):
        work(repo, "db", primary.connection(), slot="s", stop=threading.Event())
    stream.close()
    assert [] == WalArchive(repo, "db").ranges()


def test_another_cluster_is_refused(servers, primary, repo):
    """A server that was made anew under the old one's address."""
    drained(repo, primary)
    other = servers.start("--no-data-checksums" if servers.installation.major >= 18 else "--wal-segsize=2")
    try:
        make_slot(other)
        with pytest.raises(PostgresSystemChangedError):
            drained(repo, other)
    finally:
        other.close()


def test_a_server_that_is_lost_meanwhile_is_an_error_of_a_drain(primary, repo):
    """Transient; what was read is saved."""
    write_wal(primary)
    end = flushed(primary)
    thread, ended = in_background(drained, repo, primary, until=end.after(64 * MIB))
    wait_for(lambda: primary.value("SELECT bool_or(active) FROM pg_replication_slots"), "the stream")
    threading.Event().wait(0.3)
    primary.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
    thread.join(60)
    assert isinstance(ended[0], PostgresUnavailableError)
    assert WalArchive(repo, "db").newest()[1] >= end


def test_a_slot_that_is_read_again_at_once_is_moved_by_the_next_run(primary, repo, monkeypatch):
    """Somebody was quicker than the last step: everything is saved, and that is no error."""
    monkeypatch.setattr(wal_receiver, "_RELEASE_S", 0.05)

    def busy(*_):
        raise PostgresSlotBusyError("x")

    monkeypatch.setattr(wal_receiver, "advance_slot", busy)
    write_wal(primary)
    done = drained(repo, primary)
    assert done.slot_at is None
    assert_whole(repo, primary, done.start, done.end)


def test_a_server_that_goes_before_its_slot_is_moved_is_no_error(primary, repo, monkeypatch):
    """The next run moves it."""

    def gone(*_):
        raise PostgresUnavailableError("x")

    monkeypatch.setattr(wal_receiver, "connect_sql", gone)
    write_wal(primary)
    assert drained(repo, primary).slot_at is None


@pytest.mark.parametrize(
    ("setting", "expected"), [("1min", 15), ("60s", 15), ("4000ms", 1), ("2h", 30), ("1d", 30), ("0", 30), ("odd", 30)]
)
def test_the_patience_of_the_server_is_a_quarter_of_its_setting(setting, expected):
    """At most half a minute, also where it is switched off."""
    assert expected == wal_receiver._patience_of(setting)
