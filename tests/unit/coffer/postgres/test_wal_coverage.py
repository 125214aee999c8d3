"""Ranges joined, and what is missing between them, along timelines that leave each other."""

from __future__ import annotations

import pytest

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History, Switch
from coffer.postgres.wal_coverage import Reach, WalCoverage
from coffer.postgres.wal_object import WalRangeRef

# Timeline 1 was left at 100 for 2, that at 200 for 3.
HISTORY = History(3, (Switch(1, Lsn(100), ""), Switch(2, Lsn(200), "")))


def coverage(*ranges):
    """A coverage of (timeline, start, end)."""
    return WalCoverage([WalRangeRef(t, Lsn(start), Lsn(end), "", 1) for t, start, end in ranges])


def test_ranges_that_meet_or_overlap_are_joined():
    """In any order; those of another timeline are apart."""
    found = coverage((1, 20, 30), (1, 0, 10), (1, 10, 20), (1, 5, 12), (2, 30, 40), (1, 50, 60), (1, 52, 55))
    assert [(0, 30), (50, 60)] == found.spans(1)
    assert [(30, 40)] == found.spans(2)
    assert ([], [1, 2], (2, 40)) == (found.spans(3), found.timelines(), found.newest())
    assert coverage().newest() is None


@pytest.mark.parametrize(("from_", "expected"), [(0, 30), (29, 30), (30, 30), (31, 31), (50, 60), (49, 49), (70, 70)])
def test_the_end_is_the_first_byte_that_is_missing(from_, expected):
    """Inside a span its end; elsewhere the position itself."""
    assert expected == coverage((1, 0, 30), (1, 50, 60)).end_of(1, Lsn(from_))


def test_what_is_missing_is_told_in_order():
    """Before, between, behind; nothing where all is there."""
    found = coverage((1, 10, 20), (1, 30, 40))
    assert [(0, 10), (20, 30), (40, 50)] == found.missing(1, Lsn(0), Lsn(50))
    assert [(15 + 5, 30)] == found.missing(1, Lsn(15), Lsn(35))
    assert [] == found.missing(1, Lsn(10), Lsn(20))
    assert [(0, 5)] == found.missing(2, Lsn(0), Lsn(5))
    assert [] == found.missing(1, Lsn(5), Lsn(5))


@pytest.mark.parametrize(
    ("ranges", "start", "expected"),
    [
        ([(1, 50, 100), (2, 100, 200), (3, 200, 250)], (1, 60), Reach(Lsn(250), 3, None)),
        ([(1, 50, 120), (2, 90, 230), (3, 200, 250)], (1, 60), Reach(Lsn(250), 3, None)),
        ([(1, 50, 90), (2, 100, 200)], (1, 60), Reach(Lsn(90), 1, (Lsn(90), Lsn(100)))),
        ([(1, 50, 70), (1, 80, 100)], (1, 60), Reach(Lsn(70), 1, (Lsn(70), Lsn(80)))),
        ([(1, 50, 100), (2, 110, 200)], (1, 60), Reach(Lsn(100), 2, (Lsn(100), Lsn(110)))),
        ([(1, 50, 100)], (1, 60), Reach(Lsn(100), 2, (Lsn(100), Lsn(200)))),
        ([(3, 200, 250), (3, 260, 270)], (3, 220), Reach(Lsn(250), 3, (Lsn(250), Lsn(260)))),
        ([(3, 200, 250)], (3, 220), Reach(Lsn(250), 3, None)),
        ([(3, 200, 250)], (3, 300), Reach(Lsn(300), 3, None)),
        ([], (1, 60), Reach(Lsn(60), 1, (Lsn(60), Lsn(100)))),
    ],
)
def test_the_reach_follows_the_history(ranges, start, expected):
    """Each timeline to where it was left; a gap is named, and the plain end of what is saved is none."""
    assert expected == coverage(*ranges).reach(HISTORY, start[0], Lsn(start[1]))


def test_a_timeline_of_another_history_is_refused():
    """A server that came another way."""
    with pytest.raises(SourceFormatError, match="timeline 4: not in the history"):
        coverage().reach(HISTORY, 4, Lsn(0))


def test_what_is_missing_along_a_history_is_told_with_its_timeline():
    """From a backup's start to its end, over two promotions."""
    found = coverage((1, 50, 100), (2, 150, 200), (3, 210, 220))
    missing = found.missing_along(HISTORY, 1, Lsn(40), 3, Lsn(230))
    assert [(1, 40, 50), (2, 100, 150), (3, 200, 210), (3, 220, 230)] == missing
    assert [(2, 100, 120)] == found.missing_along(HISTORY, 1, Lsn(60), 2, Lsn(120))
    assert [] == found.missing_along(HISTORY, 1, Lsn(60), 1, Lsn(90))


@pytest.mark.parametrize(
    ("ranges", "from_", "expected"),
    [
        ([(1, 50, 100)], 60, (1, 60)),
        ([(1, 50, 80)], 80, (1, 80)),
        ([(1, 70, 80)], 60, (1, 70)),
        ([(2, 120, 130)], 60, (2, 120)),
        ([(2, 90, 130)], 60, (2, 100)),
        ([(1, 110, 130), (3, 205, 210)], 60, (3, 205)),
        ([], 60, (1, 60)),
        ([(1, 0, 10)], 150, (2, 150)),
    ],
)
def test_the_first_saved_byte_behind_a_position_is_found(ranges, from_, expected):
    """There, further on, on a later timeline; the position itself where nothing is saved behind it."""
    assert expected == coverage(*ranges).first_saved(HISTORY, Lsn(from_))
