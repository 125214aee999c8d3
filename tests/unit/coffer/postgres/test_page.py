"""Checksums of pages are those that PostgreSQL itself writes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from coffer.postgres.page import PAGE_BYTES, BadPage, bad_pages, checksums


@pytest.fixture(scope="module")
def relations(servers):
    """The relation files of a server that was stopped cleanly, as (first block, content)."""
    server = servers.start()
    server.sql("CREATE TABLE t AS SELECT n, repeat('x', n % 500) AS text FROM generate_series(1, 20000) n")
    server.sql("CREATE INDEX ON t (n)")
    server.stop()
    paths = [path for path in server.data.glob("base/*/*") if re.fullmatch(r"\d+(_[a-z]+)?", path.name)]
    return [path.read_bytes() for path in sorted(paths)]


def test_every_page_of_a_real_cluster_is_right(relations):
    """Thousands of pages that PostgreSQL wrote have the checksum that is computed here."""
    pages = sum(len(content) // PAGE_BYTES for content in relations)
    assert pages > 1000
    assert [] == [bad for content in relations for bad in bad_pages(content, 0)]


def test_one_flipped_bit_is_found_and_named(relations):
    """In whatever word of the page it is, the block is named with both numbers."""
    content = bytearray(max(relations, key=len))
    for block, byte in ((0, 11), (1, 8191), (2, 4000), (3, 20)):
        content[block * PAGE_BYTES + byte] ^= 0x40
    found = bad_pages(bytes(content), 0)
    assert [0, 1, 2, 3] == [bad.block for bad in found]
    assert all(bad.declared != bad.computed for bad in found)


def test_a_page_in_another_place_is_found(relations):
    """The number of the block is part of the checksum."""
    content = max(relations, key=len)
    swapped = content[PAGE_BYTES : 2 * PAGE_BYTES] + content[:PAGE_BYTES]
    assert [0, 1] == [bad.block for bad in bad_pages(swapped, 0)]
    assert [] == bad_pages(content[PAGE_BYTES : 3 * PAGE_BYTES], 1)


def test_pages_that_were_never_written_have_no_checksum():
    """A relation is extended by pages of zeroes."""
    assert [] == bad_pages(bytes(3 * PAGE_BYTES), 0)


def test_a_page_that_was_changed_meanwhile_does_not_count(relations):
    """It may be torn, and WAL replaces it whole; one that is older than the backup counts."""
    content = bytearray(max(relations, key=len)[:PAGE_BYTES])
    content[100] ^= 1
    lsn = int.from_bytes(content[0:4], "little") << 32 | int.from_bytes(content[4:8], "little")
    assert [] == bad_pages(bytes(content), 0, written_before=lsn)
    assert [0] == [bad.block for bad in bad_pages(bytes(content), 0, written_before=lsn + 1)]


def test_pages_in_any_number_give_the_same(relations):
    """Batches are a matter of speed only."""
    content = max(relations, key=len)
    pages = np.frombuffer(content, "<u4").reshape(-1, PAGE_BYTES // 4)
    together = checksums(pages, 0)
    assert together.tolist() == [int(checksums(pages[n : n + 1], n)[0]) for n in range(len(pages))]


def test_nothing_and_a_half_page_have_no_findings():
    """What is no whole page is not looked at."""
    assert [] == bad_pages(b"", 0)
    assert [] == bad_pages(b"\xff" * (PAGE_BYTES - 1), 0)


def test_a_page_of_garbage_is_bad():
    """The finding says what was declared."""
    (bad,) = bad_pages(b"\xff" * PAGE_BYTES, 7)
    assert BadPage(7, 0xFFFF, bad.computed) == bad
