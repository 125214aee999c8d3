"""Ranges cut from a stream, and the thread that puts them."""

from __future__ import annotations

import threading

import pytest

from coffer.errors import BackendFullError
from coffer.postgres.lsn import Lsn
from coffer.progress import Progress
from coffer.sources.postgres.wal_writer import RANGE_BYTES, RangeCutter, RangeWriter
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.manual_clock import ManualClock
from tests.harness.wal_files import MIB, SYSTEM_ID, SavedWal, log_bytes


@pytest.fixture
def saved():
    """An empty archive."""
    return SavedWal()


def writer_of(saved):
    """A writer into the archive."""
    return RangeWriter(saved.archive, system_id=SYSTEM_ID, segment_bytes=MIB, progress=Progress())


def submit(writer, start, length=10, timeout_s=None):
    """Hand over made-up log."""
    return writer.submit(1, Lsn(start), bytearray(log_bytes(start, start + length)), timeout_s=timeout_s)


def use(writer, *steps):
    """Take steps inside a writer's context."""
    with writer:
        for step in steps:
            step()


class Held(FaultyBackend):
    """A store whose puts of WAL wait until they are let go."""

    def __init__(self, inner):
        super().__init__(inner)
        self.free = threading.Event()
        self.began = threading.Event()

    def put(self, name, parts):
        self.began.set()
        assert self.free.wait(30)
        super().put(name, parts)


# ------------------------------------------------------------------------------------------------ cutting


def cut(pieces, clock=None, max_age_s=None):
    """The (start, length) of each range that pieces of these lengths, from 5 bytes before an edge on, are cut to."""
    cutter = RangeCutter(1, clock or ManualClock(), max_age_s=max_age_s)
    at, found = Lsn(RANGE_BYTES - 5), []
    for length in pieces:
        found += cutter.add(at, bytes(length))
        at = at.after(length)
    return [(int(start), len(data)) for start, data in [*found, *cutter.rest()]]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([3], [(RANGE_BYTES - 5, 3)]),
        ([3, 2], [(RANGE_BYTES - 5, 5)]),
        ([3, 4], [(RANGE_BYTES - 5, 5), (RANGE_BYTES, 2)]),
        ([5, RANGE_BYTES, 1], [(RANGE_BYTES - 5, 5), (RANGE_BYTES, RANGE_BYTES), (2 * RANGE_BYTES, 1)]),
        ([0, 0], []),
    ],
)
def test_ranges_end_at_multiples_of_their_length(pieces, expected):
    """However the pieces lie; the rest is the last."""
    assert expected == cut(pieces)


def test_the_bytes_of_a_range_are_those_of_its_pieces():
    """In order, over the edge of a range."""
    cutter = RangeCutter(1, ManualClock())
    data = log_bytes(RANGE_BYTES - 100, RANGE_BYTES + 100)
    found = []
    for at in range(0, 200, 30):
        found += cutter.add(Lsn(RANGE_BYTES - 100 + at), data[at : at + 30])
    assert [(RANGE_BYTES - 100, data[:100]), (RANGE_BYTES, data[100:])] == [
        (start, bytes(content)) for start, content in [*found, *cutter.rest()]
    ]
    assert [] == cutter.rest()


def test_a_range_is_whole_at_its_age():
    """Counted from its first byte; a beat without bytes is enough to notice."""
    clock = ManualClock()
    cutter = RangeCutter(1, clock, max_age_s=10)
    assert [] == cutter.add(Lsn(0), b"")
    clock.advance(100)
    assert [] == cutter.add(Lsn(0), b"abc")
    clock.advance(9)
    assert [] == cutter.add(Lsn(3), b"d")
    clock.advance(1)
    assert [(0, b"abcd")] == [(start, bytes(data)) for start, data in cutter.add(Lsn(4), b"")]
    assert [] == cutter.add(Lsn(4), b"")


# ------------------------------------------------------------------------------------------------ putting


def test_what_is_handed_over_is_durable_when_the_writer_is_left(saved):
    """In order; the counts are those of the store."""
    with writer_of(saved) as writer:
        for start in (0, 10, 20):
            assert submit(writer, start)
    assert [(0, 10), (10, 20), (20, 30)] == [(ref.start, ref.end) for ref in saved.archive.ranges()]
    assert (30, 3, 30) == (writer.durable(), writer.ranges, writer.wal_bytes)
    assert writer.stored_bytes == sum(ref.size_bytes for ref in saved.archive.ranges())


def test_nothing_is_called_durable_before_its_put_returned(saved):
    """Not while it waits, and not while it is put."""
    store = Held(saved.store)
    saved.repo.backend = store
    with writer_of(saved) as writer:
        submit(writer, 0)
        assert store.began.wait(30)
        assert writer.durable() is None
        store.free.set()
        writer.settle()
        assert writer.durable() == 10


def test_a_full_queue_refuses_after_the_time_given(saved):
    """One is put, one waits; the third is not taken, and is taken when there is room."""
    store = Held(saved.store)
    saved.repo.backend = store
    with writer_of(saved) as writer:
        assert submit(writer, 0)
        assert store.began.wait(30)
        assert submit(writer, 10)
        assert not submit(writer, 20, timeout_s=0.01)
        store.free.set()
        assert submit(writer, 20)
    assert 3 == writer.ranges


def test_an_error_of_the_store_reaches_whoever_hands_over(saved):
    """At the next call, whichever it is, and when the writer is left; what came before is durable."""
    saved.repo.backend = FaultyBackend(saved.store, [Fault(FaultKind.FULL, method="put", prefix="wal/", nth=1)])
    writer = writer_of(saved)
    with pytest.raises(BackendFullError):
        use(writer, lambda: submit(writer, 0), lambda: submit(writer, 10), writer.settle)
    with pytest.raises(BackendFullError):
        submit(writer, 20)
    assert (10, 1) == (writer.durable(), len(saved.archive.ranges()))


def test_an_error_of_the_caller_is_not_hidden_by_the_stores(saved):
    """The first thing that went wrong is what is told."""
    saved.repo.backend = FaultyBackend(saved.store, [Fault(FaultKind.FULL, method="put", prefix="wal/")])
    writer = writer_of(saved)
    with pytest.raises(KeyError):
        use(writer, lambda: submit(writer, 0), lambda: {}["no such key"])


def test_a_process_that_ends_puts_no_more(saved):
    """What waits is dropped: nobody was told that it is saved."""
    store = Held(saved.store)
    saved.repo.backend = store
    writer = writer_of(saved)

    def end():
        assert store.began.wait(30)
        submit(writer, 10)
        threading.Timer(0.1, store.free.set).start()  # while the writer is being left
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(writer, lambda: submit(writer, 0), end)
    assert (1, 10) == (writer.ranges, writer.durable())
