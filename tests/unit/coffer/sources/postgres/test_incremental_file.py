"""Headers of changed blocks are read as PostgreSQL writes them, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import SEGMENT_PAGES
from coffer.sources.postgres.incremental_file import MAGIC, MAX_HEADER_BYTES, header_length, parse_header


def header_of(blocks, truncation=100, magic=MAGIC):
    """Return a header as the server writes it."""
    data = np.array([magic, len(blocks), truncation, *blocks], "<u4").tobytes()
    return data + bytes(-len(data) % PAGE_BYTES if blocks else 0)


@given(st.lists(st.integers(0, SEGMENT_PAGES - 1), unique=True, max_size=3000), st.integers(0, SEGMENT_PAGES))
def test_a_header_is_read(blocks, truncation):
    """Blocks in their order, and where the first page begins."""
    data = header_of(blocks, truncation)
    assert len(data) == header_length(data[:12], "x") <= MAX_HEADER_BYTES
    found = parse_header(data, len(data) + len(blocks) * PAGE_BYTES, "x")
    assert (blocks, truncation, len(data)) == (found.blocks.tolist(), found.truncation_blocks, found.header_bytes)


def test_a_file_without_blocks_has_no_padding():
    """Twelve bytes, as seen on a real server."""
    assert [] == parse_header(header_of([]), 12, "x").blocks.tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        header_of([1], magic=1),
        header_of([1], truncation=SEGMENT_PAGES + 1),
        np.array([MAGIC, SEGMENT_PAGES + 1, 0], "<u4").tobytes(),
    ],
)
def test_other_beginnings_are_refused(data):
    """Before anything is allocated for the blocks."""
    with pytest.raises(SourceFormatError, match="x:"):
        header_length(data, "x")


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (header_of([1, 1]), 2),
        (header_of([SEGMENT_PAGES]), 1),
        (header_of([1, 2]), 1),
        (header_of([1])[:-1], 1),
        (header_of([1])[:-1] + b"\1", 1),
    ],
)
def test_headers_that_contradict_themselves_are_refused(data, pages):
    """A block twice, one beyond the end, a file of another size, padding that is none."""
    with pytest.raises(SourceFormatError, match="x:"):
        parse_header(data, PAGE_BYTES + pages * PAGE_BYTES, "x")
