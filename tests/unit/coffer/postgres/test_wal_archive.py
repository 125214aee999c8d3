"""The archive: put once, found by names, read back whole, and never silently wrong."""

from __future__ import annotations

import pytest

from coffer.errors import (
    BackendFullError,
    BackendUnavailableError,
    ObjectCorruptError,
    ObjectNotFoundError,
    SizeLimitError,
    SourceFormatError,
)
from coffer.errors_postgres import PostgresSystemChangedError, WalConflictError, WalGapError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History, Switch
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import Reach
from coffer.postgres.wal_object import FRAME_BYTES, MAX_OBJECT_BYTES, MAX_RANGE_BYTES, history_object_name, range_name
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.wal_files import MIB, SOURCE, SYSTEM_ID, SavedWal, history_file, log_bytes


@pytest.fixture
def saved():
    """An empty archive."""
    return SavedWal()


def between(archive, start, end, timeline=1):
    """[start, end) as one."""
    return b"".join(archive.bytes_between(timeline, Lsn(start), Lsn(end)))


def take_all(archive, start, end, into):
    """Add what is yielded to a bytearray, so that it is there when an error ends it."""
    for piece in archive.bytes_between(1, Lsn(start), Lsn(end)):
        into += piece


# ------------------------------------------------------------------------------------------------ putting


def test_a_range_is_put_once_and_comes_back(saved):
    """Its name says where it lies, its head when it was saved and of which cluster."""
    ref = saved.put(5000, 5000 + 3 * FRAME_BYTES)
    assert [ref] == saved.archive.ranges()
    assert log_bytes(5000, ref.end) == saved.fresh().read(ref)
    head = saved.fresh().head(ref)
    assert (SYSTEM_ID, MIB, saved.clock.now_ns()) == (head.system_id, head.segment_bytes, head.saved_ns)
    assert saved.fresh().prove(ref) == head
    assert saved.store.stat(ref.name).size_bytes == ref.size_bytes


def test_the_same_range_again_changes_nothing(saved):
    """The same reference, and the object is the very same."""
    ref = saved.put(0, 9000)
    before = saved.store.contents()
    saved.clock.advance(100)
    assert ref == saved.put(0, 9000)
    assert before == saved.store.contents()


def test_other_bytes_of_the_same_range_are_a_conflict(saved):
    """Nothing is written; what is there stays."""
    ref = saved.put(0, 9000)
    before = saved.store.contents()
    with pytest.raises(WalConflictError, match=r"WAL 0/0\.\.0/2328 of timeline 1 is saved with other bytes"):
        saved.put(0, 9000, data=bytes(9000))
    assert before == saved.store.contents()
    assert log_bytes(0, 9000) == saved.archive.read(ref)


def test_a_damaged_range_is_not_taken_for_the_same(saved):
    """Neither a conflict nor a success."""
    ref = saved.put(0, 9000)
    saved.store.flip_bit(ref.name, 100)
    with pytest.raises(ObjectCorruptError):
        saved.put(0, 9000)


def test_one_source_holds_the_log_of_one_cluster(saved):
    """A server that was made anew does not write beside the old one's log; also where only a reader knew it."""
    saved.put(0, 9000)
    for archive in (saved.archive, saved.fresh()):
        with pytest.raises(PostgresSystemChangedError, match="system identifier is 5"):
            archive.put(1, Lsn(9000), b"x", system_id=5, segment_bytes=MIB)
        with pytest.raises(PostgresSystemChangedError):
            archive.put_history(2, history_file((1, 5)), system_id=5)
    assert 1 == len(saved.archive.ranges())
    saved.fresh("another").put(1, Lsn(9000), b"x", system_id=5, segment_bytes=MIB)


def test_a_damaged_newest_range_does_not_hide_the_cluster(saved):
    """An older one tells it."""
    saved.put(0, 9000)
    saved.store.flip_bit(saved.put(9000, 9001).name, -1)
    saved.store.flip_bit(saved.put(9001, 9002).name, 90)
    assert SYSTEM_ID == saved.fresh().system_id()


@pytest.mark.parametrize("error", [FaultKind.FULL, FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER])
def test_a_store_that_fails_is_told_and_a_second_try_works(error):
    """Whether it took effect or not, the same put again succeeds."""
    saved = SavedWal()
    with FaultyBackend(saved.store, [Fault(error, method="put", prefix="wal/")]) as store:
        saved.repo.backend = store
        with pytest.raises((BackendFullError, BackendUnavailableError)):
            saved.put(0, 9000)
        ref = saved.put(0, 9000)
    assert log_bytes(0, 9000) == saved.archive.read(ref)


@pytest.mark.parametrize("length", [0, MAX_RANGE_BYTES + 1])
def test_nothing_and_too_much_are_no_ranges(saved, length):
    """A mistake of the caller; nothing is written."""
    with pytest.raises(ValueError, match="not from 1 byte"):
        saved.put(0, length, data=bytes(length))
    assert [] == saved.archive.ranges()


# ------------------------------------------------------------------------------------------------ finding


def test_what_lies_among_the_ranges_is_passed_over(saved):
    """Other sources, histories, strays."""
    ref = saved.put(0, 10)
    saved.put(0, 10, archive=saved.fresh("another"))
    saved.archive.put_history(2, history_file((1, 5)), system_id=SYSTEM_ID)
    saved.store.put(f"wal/{saved.archive.tag}/notes", [b"x"])
    saved.store.put(f"wal/{saved.archive.tag}/00000001-0000000000000009-0000000000000001", [b"x"])
    assert [ref] == saved.archive.ranges()
    assert ([1, 2], [2]) == (saved.archive.timelines(), saved.archive.histories())


def test_ranges_of_a_stretch_are_found_by_a_short_listing(saved):
    """Those that hold a byte of it, however far before it they begin; no other, and the store lists few."""
    edge = 1 << 30
    for start, end in (
        (0, 10),
        (edge - 5000, edge - 4000),
        (edge - 4000, edge),
        (edge, edge + 7),
        (edge + 7, edge + 9),
    ):
        saved.put(start, end)
    saved.put(edge - 10, edge + 1)
    saved.put(edge, edge + 7, 2)
    found = saved.archive.ranges(1, Lsn(edge - 4000), Lsn(edge + 1))
    assert [(edge - 4000, edge), (edge - 10, edge + 1), (edge, edge + 7)] == [(ref.start, ref.end) for ref in found]
    assert ([], 1) == (saved.archive.ranges(2, Lsn(0), Lsn(MAX_RANGE_BYTES)), len(saved.archive.ranges(2)))
    counting = FaultyBackend(saved.store)
    saved.repo.backend = counting
    saved.archive.ranges(1, Lsn(5 << 20), Lsn(6 << 20))
    assert [("list", f"wal/{saved.archive.tag}/00000001-000000000")] == [
        (method, name[: len(saved.archive.tag) + 23]) for method, name in counting.calls
    ]


def test_a_range_of_64_mib_is_found_by_its_last_byte(saved):
    """The listing begins as far before a stretch as a range can."""
    begin = (1 << 32) - MAX_RANGE_BYTES + 1
    ref = saved.put(begin, begin + MAX_RANGE_BYTES, data=bytes(MAX_RANGE_BYTES))
    assert [ref] == saved.archive.ranges(1, Lsn(1 << 32), Lsn((1 << 32) + 1))
    assert bytes(1) == between(saved.archive, 1 << 32, (1 << 32) + 1)


def test_the_newest_the_end_and_the_reach_are_those_of_the_coverage(saved):
    """One listing each."""
    assert saved.archive.newest() is None
    saved.put(0, 10)
    saved.put(10, 20, 2)
    assert (2, 20) == saved.archive.newest()
    assert 10 == saved.archive.end_of(1, Lsn(5))
    history = History(2, (Switch(1, Lsn(10), ""),))
    assert Reach(Lsn(20), 2, None) == saved.archive.reach(history, 1, Lsn(0))


# ------------------------------------------------------------------------------------------------ reading


def test_any_part_of_a_range_is_read_from_its_own_frames(saved):
    """Across frames, inside one, at the ends; only what holds it is fetched from the store."""
    size = 5 * FRAME_BYTES + 100
    ref = saved.put(1000, 1000 + size)
    for begin, end in (
        (0, size),
        (1, 2),
        (FRAME_BYTES - 1, FRAME_BYTES + 1),
        (size - 1, size),
        (7, 7),
        (0, FRAME_BYTES),
    ):
        part = b"".join(saved.fresh().read_part(ref, Lsn(1000 + begin), Lsn(1000 + end)))
        assert log_bytes(1000 + begin, 1000 + end) == part
    counting = FaultyBackend(saved.store)
    saved.repo.backend = counting
    list(saved.fresh().read_part(ref, Lsn(1000 + 2 * FRAME_BYTES), Lsn(1001 + 2 * FRAME_BYTES)))
    assert ["get", "get"] == [method for method, _ in counting.calls]
    with pytest.raises(ValueError, match="does not hold"):
        list(saved.archive.read_part(ref, Lsn(999), Lsn(1005)))


def test_ranges_of_any_shape_are_put_together(saved):
    """Pieces that meet, overlap, and lie inside each other."""
    for start, end in ((0, 5000), (5000, 5001), (4000, 9000), (8000, 8500), (9000, 12000), (0, 100)):
        saved.put(start, end)
    assert log_bytes(0, 12000) == between(saved.fresh(), 0, 12000)
    assert log_bytes(4999, 9001) == between(saved.fresh(), 4999, 9001)
    assert b"" == between(saved.fresh(), 3, 3)


@pytest.mark.parametrize(
    ("start", "end", "missing"),
    [(0, 30, r"0/A\.\.0/14"), (0, 15, r"0/A\.\.0/F"), (25, 40, r"0/1E\.\.0/28"), (15, 16, r"0/F\.\.0/10")],
)
def test_a_gap_is_named_after_what_comes_before_it(saved, start, end, missing):
    """What was yielded before it is good."""
    saved.put(0, 10)
    saved.put(20, 30)
    got = bytearray()
    with pytest.raises(WalGapError, match=rf"WAL {missing} of timeline 1 is not saved"):
        take_all(saved.archive, start, end, got)
    assert log_bytes(start, start + len(got)) == bytes(got)


def test_overlaps_that_differ_are_a_conflict(saved):
    """At whichever byte, before anything of the second is handed out."""
    saved.put(0, 3 * FRAME_BYTES)
    false = bytearray(log_bytes(FRAME_BYTES, 4 * FRAME_BYTES))
    false[2 * FRAME_BYTES - 1] ^= 1
    second = saved.put(FRAME_BYTES, 4 * FRAME_BYTES, data=bytes(false))
    got = bytearray()
    with pytest.raises(WalConflictError, match="holds other bytes than") as caught:
        take_all(saved.archive, 0, 4 * FRAME_BYTES, got)
    assert (3 * FRAME_BYTES, second.name) == (len(got), caught.value.details["object"])
    first = saved.archive.ranges()[0]
    with pytest.raises(WalConflictError):
        saved.archive.compare(first, second)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_range_is_passed_over_where_others_hold_its_bytes(saved, damage):
    """As where a stream was received and segments were pushed. Without others it is an error."""
    whole = saved.put(0, 4 * FRAME_BYTES)
    if damage == "flip":
        saved.store.flip_bit(whole.name, -1)
    else:
        saved.store.truncate(whole.name, whole.size_bytes - 1)
    with pytest.raises(ObjectCorruptError):
        between(saved.archive, 0, 4 * FRAME_BYTES)
    saved.put(0, FRAME_BYTES + 5)
    saved.put(FRAME_BYTES, 4 * FRAME_BYTES)
    assert log_bytes(0, 4 * FRAME_BYTES) == between(saved.archive, 0, 4 * FRAME_BYTES)


def test_a_range_that_is_gone_since_it_was_listed_is_told(saved):
    """Somebody deleted it."""
    ref = saved.put(0, 9000)
    saved.store.delete(ref.name)
    for read in (saved.fresh().read, saved.fresh().head, saved.fresh().prove):
        with pytest.raises(ObjectNotFoundError):
            read(ref)


def test_a_range_of_another_source_does_not_stand_under_this_ones_name(saved):
    """A copy is found by what its head says."""
    other = saved.put(0, 9000, archive=saved.fresh("another"))
    name = range_name(saved.archive.tag, 1, Lsn(0), Lsn(9000))
    saved.store.put(name, [saved.store.get(other.name)])
    (ref,) = saved.archive.ranges()
    for read in (saved.fresh().read, saved.fresh().head, saved.fresh().prove):
        with pytest.raises(ObjectCorruptError, match="not what its name says"):
            read(ref)


def test_a_range_of_another_cluster_is_refused_by_whoever_knows_the_cluster(saved):
    """By a snapshot's facts, or by another range."""
    ref = saved.put(0, 9000)
    with pytest.raises(ObjectCorruptError, match=f"is of cluster {SYSTEM_ID}, expected 5"):
        saved.fresh(system_id=5).read(ref)
    assert saved.fresh(system_id=SYSTEM_ID).read(ref)


def test_a_tag_is_enough_to_read(saved):
    """A check does not know the names of sources that have no snapshot."""
    ref = saved.put(0, 9000)
    assert [ref] == WalArchive(saved.repo, "?", tag=saved.archive.tag).ranges()
    assert log_bytes(0, 9000) == WalArchive(saved.repo, "?", tag=saved.archive.tag).read(ref)


def test_bytes_that_are_not_those_of_the_id_are_damage(saved, monkeypatch):
    """Each frame opens, and the whole is still not what was put: a writer's mistake is no silent one."""
    real = WalArchive.put
    with monkeypatch.context() as patched:
        patched.setattr("coffer.postgres.wal_archive.encode_range", _encoding_of_other_bytes())
        ref = real(saved.archive, 1, Lsn(0), log_bytes(0, 9000), system_id=SYSTEM_ID, segment_bytes=MIB)
    for read in (saved.fresh().read, saved.fresh().prove):
        with pytest.raises(ObjectCorruptError, match="not those of its id"):
            read(ref)


def _encoding_of_other_bytes():
    from coffer.postgres.wal_object import encode_range

    return lambda keyring, head, data: encode_range(keyring, head, bytes(len(data)))


def test_an_object_over_the_cap_is_not_read(saved):
    """The first look is bounded, whatever size the store tells (I7)."""
    name = range_name(saved.archive.tag, 1, Lsn(0), Lsn(9000))
    saved.store.put(name, [bytes(MAX_OBJECT_BYTES + 1)])
    (ref,) = saved.archive.ranges()
    counting = FaultyBackend(saved.store)
    saved.repo.backend = counting
    with pytest.raises(SizeLimitError):
        saved.archive.read(ref)
    assert 1 == counting.call_count


# ------------------------------------------------------------------------------------------------ histories


def test_a_history_is_put_once_and_read_back(saved):
    """The same again is no error; another one is a conflict; nonsense is refused before it is written."""
    content = history_file((1, 0x5000000))
    saved.archive.put_history(2, content, system_id=SYSTEM_ID)
    saved.archive.put_history(2, content, system_id=SYSTEM_ID)
    assert content == saved.fresh().history_content(2)
    assert History.parse(2, content) == saved.fresh().history(2)
    with pytest.raises(WalConflictError, match="another history of timeline 2"):
        saved.archive.put_history(2, history_file((1, 0x6000000)), system_id=SYSTEM_ID)
    with pytest.raises(SourceFormatError):
        saved.archive.put_history(3, b"nonsense\n", system_id=SYSTEM_ID)
    assert [2] == saved.archive.histories()


def test_the_first_timeline_needs_no_history_and_a_missing_one_is_told(saved):
    """Nothing is read for timeline 1."""
    assert History(1) == saved.archive.history(1)
    with pytest.raises(ObjectNotFoundError):
        saved.archive.history(2)


def test_a_history_of_another_cluster_is_refused(saved):
    """As its ranges are."""
    saved.archive.put_history(2, history_file((1, 5)), system_id=SYSTEM_ID)
    with pytest.raises(ObjectCorruptError, match="expected 5"):
        saved.fresh(system_id=5).history(2)


def test_a_history_over_the_cap_is_not_read(saved):
    """Its size is looked at first (I7)."""
    saved.store.put(history_object_name(saved.archive.tag, 2), [bytes((2 << 20) + 1)])
    with pytest.raises(SizeLimitError):
        saved.archive.history(2)


def test_the_source_is_of_this_archive(saved):
    """What messages call it."""
    assert SOURCE == saved.archive.source
