"""Records of WAL: where they begin and end, whatever lies between them, and the moments among them."""

import random
import struct

import pytest

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_records import MomentKind, RecordScanner, moments, page_start, without_page_headers
from tests.harness.wal_maker import EPOCH_US, PAGE, SEGMENT, WalMaker

AT_US = 1_700_000_000_000_000


def scan(wal, start=None, end=None, *, watch=None, step=None):
    """Scan WAL from a page on; returns (scanner, moments)."""
    begin = wal.start if start is None else start
    data = wal.between(begin, wal.end if end is None else end)
    scanner = RecordScanner(Lsn(begin), SEGMENT, watch=watch)
    found = []
    for at in range(0, len(data), step or len(data)):
        found += scanner.feed(data[at : at + (step or len(data))])
    found += scanner.finish()
    return scanner, found


def filled(seed, count=400):
    """Write records of many sizes; returns (WAL, spans)."""
    draw = random.Random(seed)
    wal = WalMaker()
    spans = []
    for number in range(count):
        if number % 7 == 3:
            spans.append(wal.commit(1000 + number, AT_US + number))
        else:
            spans.append(wal.filler(draw.choice([0, 1, 7, 200, 255, 256, 3000, 8150, 8168, 20000])))
    return wal, spans


@pytest.mark.parametrize("seed", range(4))
def test_the_last_whole_record_is_found_wherever_the_wal_ends(seed):
    """Of every end, also inside a record or a header, the last record is the one that was written wholly before it."""
    wal, spans = filled(seed)
    draw = random.Random(100 + seed)
    for end in [wal.end, *(draw.randrange(wal.start + 1, wal.end) for _ in range(150))]:
        whole = [span for span in spans if span.end <= end]
        scanner, _ = scan(wal, end=end)
        found = scanner.last
        # What is cut may be nothing but the zeros behind a record: then it is whole already.
        assert found in ([whole[-1]] if whole else [None]) or (found in spans and found.end - end < 8)


@pytest.mark.parametrize("seed", range(4))
def test_records_are_found_from_the_start_of_any_page_on(seed):
    """What goes on from the page before is passed over, over as many pages as it has."""
    wal, spans = filled(seed)
    for begin in range(wal.start, wal.end, PAGE):
        expected = next((span for span in spans if span.start >= begin), None)
        scanner, _ = scan(wal, start=begin, watch=Lsn(begin))
        assert expected == scanner.found
        assert (None if expected is None else spans[-1]) == scanner.last


@pytest.mark.parametrize("step", [1000, PAGE, 3 * PAGE + 8])
def test_pieces_of_any_size_give_the_same(step):
    """Ranges begin and end anywhere; what is found does not depend on it."""
    wal, _ = filled(9)
    whole, expected = scan(wal)
    cut, found = scan(wal, step=step)
    assert (expected, whole.last) == (found, cut.last)
    assert 57 == len(expected)


def test_a_position_is_met_by_the_record_at_it_or_behind_it():
    """`found` begins at or behind what is watched, `before` before it; of an end there is none."""
    wal, spans = filled(2)
    for at in (0, 1, 50, 399):
        for watch, first in ((spans[at].start, at), (Lsn(spans[at].start + 8), at + 1)):
            scanner, _ = scan(wal, watch=watch)
            assert (spans[first] if first < len(spans) else None) == scanner.found
            assert (spans[first - 1] if first else None) == scanner.before


def test_moments_say_what_happened_when():
    """Commits and aborts have transaction and time, restore points name and time; nothing else is one."""
    wal = WalMaker()
    wal.filler()
    spans = [
        wal.commit(700, AT_US + 1),
        wal.abort(701, AT_US + 2),
        wal.commit_prepared(702, AT_US + 3),
        wal.restore_point("before deploy", AT_US + 4),
    ]
    wal.record(0, 0x10, b"a checkpoint" * 8)
    _, found = scan(wal)
    assert spans == [moment.span for moment in found]
    assert [AT_US + n for n in (1, 2, 3, 4)] == [moment.time_us for moment in found]
    expected = [MomentKind.COMMIT, MomentKind.ABORT, MomentKind.COMMIT_PREPARED, MomentKind.RESTORE_POINT]
    assert expected == [moment.kind for moment in found]
    assert [(700, ""), (701, ""), (0, ""), (0, "before deploy")] == [(m.xid, m.name) for m in found]
    assert [[True, False, False], [False, True, False], [False, False, True], [False] * 3] == [
        [moment.ends(xid) for xid in (700, 701, 702)] for moment in found
    ]


@pytest.mark.parametrize(
    "before",
    [b"\xfd\x07\x00", b"\xfc\x09\x00\x00\x00", b"\xfd\x07\x00\xfc\x09\x00\x00\x00"],
    ids=["origin", "top", "both"],
)
@pytest.mark.parametrize("size", [8, 400])
def test_what_stands_before_a_records_own_data_is_passed_over(before, size):
    """The origin of a replicated transaction, and the transaction above a part of one; data short and long."""
    wal = WalMaker()
    span = wal.record(1, 0x80, struct.pack("<q", AT_US - EPOCH_US).ljust(size, b"\1"), 700, before=before)
    (found,) = list(moments([wal.data], Lsn(wal.start), SEGMENT))
    assert (span, AT_US, 700) == (found.span, found.time_us, found.xid)


@pytest.mark.parametrize("before", [b"\x00" * 20, b"\xfd\x07\x00" * 8])
def test_a_record_of_another_shape_is_no_moment(before):
    """With pages of a relation first, or nothing of its own: no recovery stops at it, and it does no harm."""
    wal = WalMaker()
    wal.record(1, 0x00, b"1234", 700, before=before)
    wal.record(1, 0x00, b"", 701)
    last = wal.commit(702, AT_US)
    assert [last] == [moment.span for moment in moments([wal.data], Lsn(wal.start), SEGMENT)]


@pytest.mark.parametrize("room", [8, 16, 24, 40, 64])
def test_a_moment_on_two_pages_is_read_whole(room):
    """The head of its record, its data, or both may go on behind the header of the next page."""
    wal = WalMaker()
    wal.pad_to(room)
    span = wal.restore_point("on two pages", AT_US)
    wal.filler()
    (found,) = list(moments([wal.data], Lsn(wal.start), SEGMENT))
    assert (span, "on two pages") == (found.span, found.name)


def test_behind_a_switch_records_go_on_in_the_next_segment():
    """The rest of the segment has none, whether its pages are zeros or were never sent whole."""
    wal = WalMaker()
    wal.commit(700, AT_US)
    switch = wal.switch()
    scanner, _ = scan(wal)
    assert switch == scanner.last
    assert SEGMENT * 2 == wal.end
    after = wal.commit(701, AT_US + 1)
    assert after.start > SEGMENT * 2
    scanner, found = scan(wal)
    assert ([700, 701], after) == ([moment.xid for moment in found], scanner.last)
    scanner, found = scan(wal, start=wal.start + 5 * PAGE)  # begins in the zeros
    assert ([701], after) == ([moment.xid for moment in found], scanner.last)


def test_a_record_that_a_crash_cut_short_is_none():
    """The server gives it up and goes on behind the next page's header; what was written of it does not count."""
    wal = WalMaker()
    wal.filler()
    wal.crash(9000)
    after = wal.commit(702, AT_US)
    scanner, found = scan(wal)
    assert ([after], after) == ([moment.span for moment in found], scanner.last)


def test_a_page_that_belongs_elsewhere_is_refused():
    """A range that was put in the wrong place must not be read as WAL."""
    wal, _ = filled(3)
    data = bytearray(wal.data)
    data[PAGE : 2 * PAGE] = data[2 * PAGE : 3 * PAGE]
    with pytest.raises(SourceFormatError, match="the page there is of"):
        list(moments([bytes(data)], Lsn(wal.start), SEGMENT))
    with pytest.raises(SourceFormatError, match="no page begins there"):
        RecordScanner(Lsn(wal.start + 8), SEGMENT)


def test_a_record_of_no_length_is_refused():
    """Less than a record's head cannot be one."""
    wal = WalMaker()
    span = wal.filler()
    data = bytearray(wal.data)
    data[span.start - wal.start] = 5
    with pytest.raises(SourceFormatError, match="a record of 5 bytes"):
        list(moments([bytes(data)], Lsn(wal.start), SEGMENT))


def test_pages_without_headers_hold_records_in_one_piece():
    """So a name is found that lies on two pages, of one segment or of two."""
    for before_pages in (1, SEGMENT // PAGE):
        wal = WalMaker()
        while wal.end < wal.start + (before_pages - 1) * PAGE:
            wal.filler(2000)
        while page_start(wal.end + 2000) < wal.start + (before_pages - 1) * PAGE:
            wal.filler(500)
        wal.pad_to(40)
        wal.restore_point("on two pages", AT_US)
        assert b"on two pages\0" not in wal.data
        assert b"on two pages\0" in without_page_headers(wal.data)
