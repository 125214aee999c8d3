"""Segments put together from ranges of any shape, along a history."""

from __future__ import annotations

import pytest

from coffer.errors import ObjectCorruptError
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.wal_object import history_object_name
from coffer.postgres.wal_segments import plan_segment, segment_bytes_of, segment_content
from tests.harness.wal_files import MIB, SYSTEM_ID, SavedWal, history_file, log_bytes


@pytest.fixture
def saved():
    """An empty archive."""
    return SavedWal()


def content(saved, number, timeline=1):
    """(whether it is whole, its bytes) of a segment of 1 MiB."""
    plan = plan_segment(saved.archive, Segment(timeline, number), MIB)
    return plan.is_whole, b"".join(segment_content(saved.archive, plan))


def test_a_segment_comes_from_ranges_of_any_shape(saved):
    """That begin before it, in it, and end behind it."""
    saved.put(5, 2 * MIB + 7)
    saved.put(2 * MIB + 7, 2 * MIB + 8)
    saved.put(2 * MIB + 8, 4 * MIB)
    assert (True, log_bytes(MIB, 2 * MIB)) == content(saved, 1)
    assert (True, log_bytes(2 * MIB, 3 * MIB)) == content(saved, 2)


def test_a_segment_that_is_saved_in_part_is_not_whole(saved):
    """What is there from its beginning on is told; a hole ends it."""
    saved.put(0, MIB + 100)
    saved.put(MIB + 200, 3 * MIB)
    assert (False, log_bytes(MIB, MIB + 100)) == content(saved, 1)
    assert (False, b"") == content(saved, 9)
    saved.put(5 * MIB + 1, 6 * MIB)
    assert (False, b"") == content(saved, 5)


def test_a_promoted_servers_first_segment_begins_with_the_old_timelines_bytes(saved):
    """The old timeline up to where it was left, then the new one; also over two promotions in one segment."""
    saved.put(0, MIB + 100, 1)
    saved.put(MIB + 100, MIB + 300, 2)
    saved.put(MIB + 300, 2 * MIB, 3)
    saved.archive.put_history(2, history_file((1, MIB + 100)), system_id=SYSTEM_ID)
    saved.archive.put_history(3, history_file((1, MIB + 100), (2, MIB + 300)), system_id=SYSTEM_ID)
    expected = log_bytes(MIB, MIB + 100, 1) + log_bytes(MIB + 100, MIB + 300, 2) + log_bytes(MIB + 300, 2 * MIB, 3)
    assert (True, expected) == content(saved, 1, 3)
    assert (False, expected[:300]) == content(saved, 1, 2)
    assert (False, expected[:100]) == content(saved, 1, 1)


def test_bytes_that_the_old_timeline_wrote_behind_its_end_are_not_taken(saved):
    """A primary that failed had written more than the standby that was promoted ever got."""
    saved.put(0, MIB + 500, 1)
    saved.put(MIB + 100, 2 * MIB, 2)
    saved.archive.put_history(2, history_file((1, MIB + 100)), system_id=SYSTEM_ID)
    assert (True, log_bytes(MIB, MIB + 100, 1) + log_bytes(MIB + 100, 2 * MIB, 2)) == content(saved, 1, 2)


def test_a_pushed_segment_holds_the_old_timelines_bytes_itself(saved):
    """No history is needed for it."""
    saved.put(MIB, 2 * MIB, 2)
    assert (True, log_bytes(MIB, 2 * MIB, 2)) == content(saved, 1, 2)


def test_a_damaged_history_is_an_error_and_a_missing_one_is_not(saved):
    """Without it the timeline's own ranges count."""
    saved.put(MIB + 100, 2 * MIB, 2)
    assert (False, b"") == content(saved, 1, 2)
    saved.archive.put_history(2, history_file((1, MIB + 100)), system_id=SYSTEM_ID)
    saved.store.flip_bit(history_object_name(saved.archive.tag, 2), -1)
    with pytest.raises(ObjectCorruptError):
        content(saved, 1, 2)


def test_the_size_of_segments_is_what_the_newest_range_says(saved):
    """None where nothing is saved."""
    assert segment_bytes_of(saved.archive) is None
    saved.put(0, 5)
    saved.archive.put(1, Lsn(5), b"x", system_id=SYSTEM_ID, segment_bytes=16 * MIB)
    assert 16 * MIB == segment_bytes_of(saved.archive)
