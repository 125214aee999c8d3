"""Which position of the log is what a snapshot saw: from the order of commits, never from the moment of asking."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.visibility import Seen, VisibleSet, exact_position, prepared_xid
from coffer.postgres.wal_records import moments
from tests.harness.wal_maker import EPOCH_US, SEGMENT, WalMaker

BEGIN = Lsn(SEGMENT)


def seen(text, before=0, after=0, *, of_standby=False):
    return Seen(VisibleSet.parse(text), Lsn(before), Lsn(after), of_standby=of_standby)


def log(*xids):
    """Return (the ends of transactions as the log has them, where each record lies), with other records between."""
    maker = WalMaker()
    spans = []
    for xid in xids:
        maker.filler()
        spans.append(maker.abort(-xid, EPOCH_US) if xid < 0 else maker.commit(xid, EPOCH_US))
    return list(moments([maker.data], BEGIN, SEGMENT)), spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10:20:", VisibleSet(10, 20)),
        ("10:20:10,15", VisibleSet(10, 20, (10, 15))),
        ("18446744073709551614:18446744073709551615:", VisibleSet((1 << 64) - 2, (1 << 64) - 1)),
    ],
)
def test_a_snapshot_is_read_as_the_server_writes_it(text, expected):
    """And written the same way."""
    assert expected == VisibleSet.parse(text)
    assert text == str(expected)


@pytest.mark.parametrize(
    "text", ["", "1:2", "20:10:", "10:20:9", "10:20:20", "10:20:1,", "0:5:", "a:b:", "10:20:;DROP", "1:2:3:4"]
)
def test_what_is_no_snapshot_is_refused(text):
    """It comes from a record that anybody may have written."""
    with pytest.raises(SourceFormatError, match="snapshot"):
        VisibleSet.parse(text)


@pytest.mark.parametrize(
    ("xid", "expected"), [(9, True), (10, False), (12, True), (15, False), (19, True), (20, False), (21, False)]
)
def test_a_snapshot_sees_what_had_ended(xid, expected):
    """Before its end, and not among those that were running."""
    assert expected == VisibleSet.parse("10:20:10,15").sees(xid)


@pytest.mark.parametrize(
    ("end", "xid", "expected"),
    [
        ((1 << 32) + 5, 4, (1 << 32) + 4),
        ((1 << 32) + 5, 0xFFFF_FFFF, 0xFFFF_FFFF),
        ((2 << 32) - 1, 3, (2 << 32) + 3),
        (100, 50, 50),
    ],
)
def test_the_upper_half_of_a_transaction_is_that_nearest_to_the_snapshot(end, xid, expected):
    """Records have 32 bits only, and transactions of two rounds are in one log."""
    assert expected == VisibleSet(1, end).widen(xid)


def test_the_position_is_behind_the_last_commit_that_was_seen():
    """Commits before it were seen, those behind it were not; what was aborted counts for nothing."""
    commits, spans = log(5, -6, 7, 8, 9)
    assert spans[2].end == exact_position([seen("8:10:8,9")], commits, BEGIN, 15)


def test_without_a_commit_the_position_is_the_first_that_is_wanted():
    """An idle server."""
    assert BEGIN == exact_position([seen("8:10:")], [], BEGIN, 15)
    commits, spans = log(10, 11)
    assert BEGIN == exact_position([seen("8:10:")], commits, BEGIN, 15)
    assert spans[0].start > BEGIN


def test_commits_that_became_visible_out_of_order_have_no_position():
    """7 was written first and seen last: no recovery stops between them."""
    commits, _ = log(7, 8)
    assert exact_position([seen("7:9:7")], commits, BEGIN, 15) is None
    assert exact_position([seen("7:9:8")], commits, BEGIN, 15) is not None


def test_a_commit_that_waits_for_the_disk_is_not_seen_and_lies_behind_the_position():
    """The server's own position at that time is behind its record: taking that would be wrong."""
    commits, spans = log(7, 8)
    position = exact_position([seen("8:9:8", after=int(spans[1].end))], commits, BEGIN, 15)
    assert spans[0].end == position
    assert position < spans[1].end


def test_several_snapshots_have_a_position_only_if_nothing_committed_between_them():
    """One sees 8, the other does not: there is none for both."""
    commits, spans = log(7, 8, 9)
    assert spans[0].end == exact_position([seen("8:9:8"), seen("8:10:8,9")], commits, BEGIN, 15)
    assert exact_position([seen("8:9:8"), seen("9:10:9")], commits, BEGIN, 15) is None


def test_a_commit_before_the_first_position_that_was_not_seen_leaves_none():
    """The end of the backup is behind it, and a recovery cannot stop before that."""
    commits, spans = log(7, 8)
    assert exact_position([seen("7:9:7,8")], commits, spans[0].end, 15) is None
    assert spans[0].end == exact_position([seen("8:9:8")], commits, spans[0].end, 15)


def test_a_standby_tells_by_positions():
    """Its list of running transactions is empty; what was being replayed at that time is uncertain."""
    commits, spans = log(7, 8, 9)
    quiet = seen("7:20:", spans[1].end, spans[1].end, of_standby=True)
    assert exact_position([quiet], commits[:2], BEGIN, 15) == spans[1].end
    # The next record was perhaps replayed already: nobody can tell.
    assert exact_position([quiet], [commits[2]], BEGIN, 15) == BEGIN
    maker = WalMaker()
    first = maker.commit(7, EPOCH_US)
    maker.commit(8, EPOCH_US)
    near = list(moments([maker.data], BEGIN, SEGMENT))
    assert exact_position([seen("7:20:", first.end, first.end, of_standby=True)], near, BEGIN, 15) is None
    assert first.end == exact_position([seen("7:8:", first.end, first.end, of_standby=True)], near, BEGIN, 15)


def test_a_prepared_transaction_is_told_by_the_number_inside_its_record():
    """The record's own head has none."""
    maker = WalMaker()
    span = maker.commit_prepared(7, EPOCH_US)
    commits = list(moments([maker.data], BEGIN, SEGMENT))
    assert span.end == exact_position([seen("8:9:")], commits, BEGIN, 15)
    assert BEGIN == exact_position([seen("7:9:7")], commits, BEGIN, 15)


@pytest.mark.parametrize(("major", "statistics_bytes"), [(15, 12), (17, 12), (18, 16)])
def test_the_number_lies_behind_what_else_the_record_holds(major, statistics_bytes):
    """Database, subtransactions, files, statistics and messages, each counted; their size is that of the version."""
    parts = [struct.pack("<qI", 0, 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100), bytes(8)]
    for count, size in ((3, 4), (2, 12), (1, statistics_bytes), (2, 16)):
        parts.append(struct.pack("<I", count) + bytes(count * size))
    payload = b"".join(parts) + struct.pack("<I", 4711)
    assert 4711 == prepared_xid(payload, major)
    assert prepared_xid(payload[:-1], major) is None
    assert prepared_xid(struct.pack("<qI", 0, 0), major) is None


@given(
    order=st.permutations(range(10, 16)),
    seen_xids=st.sets(st.integers(10, 15)),
)
def test_replaying_to_the_position_gives_exactly_what_was_seen(order, seen_xids):
    """For any order of commits and any set that is visible: either there is no position, or it divides the two."""
    commits, spans = log(*order)
    running = [xid for xid in range(10, 16) if xid not in seen_xids]
    text = f"{min(running, default=16)}:16:{','.join(map(str, running))}"
    position = exact_position([seen(text)], commits, BEGIN, 15)
    flags = [xid in seen_xids for xid in order]
    is_prefix = flags == sorted(flags, reverse=True)
    assert is_prefix == (position is not None)
    if position is not None:
        assert seen_xids == {xid for xid, span in zip(order, spans, strict=True) if span.start < position}
