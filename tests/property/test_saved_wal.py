"""Ranges of any shape, put in any order: what is read is what was written, and what is missing is named."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from coffer.errors_postgres import WalGapError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_coverage import WalCoverage
from coffer.postgres.wal_object import FRAME_BYTES, WalRangeRef
from tests.harness.wal_files import MIB, SYSTEM_ID, SavedWal

LENGTH = 3 * FRAME_BYTES
LOG = random.Random(20261101).randbytes(LENGTH // 2) + bytes(LENGTH - LENGTH // 2)  # the model: the whole log
edges = st.sampled_from([0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, LENGTH - 1, LENGTH])
places = st.one_of(edges, st.integers(0, LENGTH))
spans = st.tuples(places, places).map(sorted).filter(lambda span: span[0] < span[1]).map(tuple)


def read(archive, start, end):
    """(what is yielded of [start, end), where a gap begins or None)."""
    got = bytearray()
    try:
        for piece in archive.bytes_between(1, Lsn(start), Lsn(end)):
            got += piece
    except WalGapError as error:
        return bytes(got), error.details["missing_from"]
    return bytes(got), None


@settings(max_examples=40, deadline=None)
@given(st.lists(spans, min_size=1, max_size=8), st.lists(spans, min_size=1, max_size=5))
def test_what_is_read_is_what_was_written(ranges, wanted):
    """Against a plain array of bytes and a mark for each byte that was put."""
    saved, there = SavedWal(), bytearray(LENGTH)
    for start, end in ranges:
        saved.archive.put(1, Lsn(start), LOG[start:end], system_id=SYSTEM_ID, segment_bytes=MIB)
        there[start:end] = b"\1" * (end - start)
    for start, end in wanted:
        got, gap = read(saved.archive, start, end)
        missing = there.find(0, start, end)
        assert (None if missing < 0 else str(Lsn(missing))) == gap
        assert LOG[start : end if missing < 0 else missing] == got
        known_end = there.find(0, start)
        assert (LENGTH if known_end < 0 else known_end) == saved.archive.end_of(1, Lsn(start))


small_spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted).filter(lambda s: s[0] < s[1]).map(tuple)


@given(st.lists(small_spans, max_size=12), st.integers(0, 60), st.integers(0, 60))
def test_coverage_is_what_marking_each_byte_says(ranges, start, end):
    """Spans, ends, next starts and what is missing, against a mark for each byte."""
    coverage = WalCoverage([WalRangeRef(1, Lsn(a), Lsn(b), "", 1) for a, b in ranges])
    marks = [any(a <= at < b for a, b in ranges) for at in range(61)]
    assert marks == [any(a <= at < b for a, b in coverage.spans(1)) for at in range(61)]
    assert marks.index(False, start) == coverage.end_of(1, Lsn(start))
    lost = [at for at in range(start, end) if not marks[at]]
    assert lost == [at for a, b in coverage.missing(1, Lsn(start), Lsn(end)) for at in range(a, b)]
    starts = [at for at in range(start, 61) if marks[at] and (at == 0 or not marks[at - 1])]
    assert (starts[0] if starts else None) == coverage.next_start(1, Lsn(start))
