"""Places in the log are read and written as PostgreSQL does it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn, Segment

SIZES = [1 << bits for bits in range(20, 31)]
LSNS = st.integers(0, (1 << 64) - 1).map(Lsn)


@given(LSNS)
def test_an_lsn_survives_its_text(lsn):
    """What is written is read as the same number."""
    assert lsn == Lsn.parse(str(lsn))


@pytest.mark.parametrize(
    ("text", "value"), [("0/0", 0), ("0/16B3748", 0x16B3748), ("a/B", 10 << 32 | 11), ("FFFFFFFF/FFFFFFFF", 2**64 - 1)]
)
def test_known_texts(text, value):
    """Two hexadecimal numbers, the high half first, in either case."""
    assert value == Lsn.parse(text)


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/0/0", "0/G", " 0/0", "0/0\n", "123456789/0", "-1/0", "0x1/0"])
def test_other_texts_are_refused(text):
    """A text of another form is an error, not a position."""
    with pytest.raises(SourceFormatError, match="LSN"):
        Lsn.parse(text)


def test_a_position_has_64_bits():
    """Nothing lies before 0 or beyond 2^64 - 1."""
    for value in (-1, 1 << 64):
        with pytest.raises(SourceFormatError, match="64 bits"):
            Lsn(value)
    with pytest.raises(SourceFormatError, match="64 bits"):
        Lsn(2**64 - 1).after(1)


@given(st.sampled_from(SIZES), st.integers(1, 2**32 - 1), LSNS)
def test_a_segment_survives_its_name_and_holds_its_position(size, timeline, lsn):
    """For each size that PostgreSQL has, name and number lead to each other."""
    segment = Segment.holding(timeline, lsn, size)
    assert segment == Segment.parse(segment.name(size), size)
    assert segment.start(size) <= lsn < segment.start(size) + size
    assert segment.start(size) == lsn.segment_start(size)


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [
        ("000000010000000000000001", 16 << 20, 1),
        ("00000001000000010000000A", 16 << 20, 256 + 10),
        ("000000020000000100000003", 1 << 30, 4 + 3),
        ("000000010000000000000FFF", 1 << 20, 4095),
    ],
)
def test_known_segment_names(name, size, number):
    """The last part counts up to 4 GiB, whatever the segment size."""
    segment = Segment.parse(name, size)
    assert (number, name) == (segment.number, segment.name(size))


@pytest.mark.parametrize(
    "name",
    ["", "0" * 23, "0" * 25, "00000001000000000000000a", "000000010000000000000100", "0" * 24, "00000001.history"],
)
def test_other_names_are_refused(name):
    """Lower case, a wrong length, timeline 0 and a number beyond 4 GiB are no segments of 16 MiB."""
    with pytest.raises(SourceFormatError, match="segment"):
        Segment.parse(name, 16 << 20)


@pytest.mark.parametrize("size", [0, -1, 1 << 19, 1 << 31, 3 << 20])
def test_other_sizes_are_refused(size):
    """A size that PostgreSQL does not have is an error."""
    with pytest.raises(SourceFormatError, match="power of two"):
        Segment.holding(1, Lsn(0), size)


def test_names_are_those_of_the_server(server):
    """pg_walfile_name gives the same name for the same position."""
    size = int(server.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"))
    lsn, name = server.sql("SELECT pg_current_wal_lsn()::text, pg_walfile_name(pg_current_wal_lsn() + 1)")[0]
    assert name == Segment.holding(1, Lsn.parse(lsn), size).name(size)
