"""Blocks are cut by names, so that one change moves no other block."""

from __future__ import annotations

import random

import pytest

from coffer.repository.blocks import CTIME, MTIME, Group
from coffer.sources.assembly.blockcut import MAX_ENTRIES, MIN_ENTRIES, cut_blocks, fingerprint

ROW = (0o100644, 0, 0, 5, 1, 2, 1, 10, 11)


def group(folder, count):
    return Group(folder, [b"%06d" % n for n in range(count)], [ROW] * count)


def folders(count, entries=20):
    return [group(b"srv/%05d" % n, entries) for n in range(count)]


def keys(blocks):
    """What is in each block, as sets that can be compared."""
    return {tuple((g.folder, g.names[0], len(g.names)) for g in block) for block in blocks}


def sizes(blocks):
    return [sum(len(g.names) for g in block) for block in blocks]


def test_blocks_hold_everything_once_and_in_order():
    """Small folders and one too large for a block."""
    groups = [*folders(300), group(b"srv/99999", 40_000), group(b"t", 3)]
    blocks = list(cut_blocks(groups))
    entries = [(g.folder, name) for block in blocks for g in block for name in g.names]
    assert [(g.folder, name) for g in groups for name in g.names] == entries
    assert all(len(g.names) == len(g.rows) for block in blocks for g in block)


def test_blocks_have_a_few_thousand_entries():
    """At least the minimum, at most the maximum and one folder more, about 4,096 in the mean."""
    found = sizes(cut_blocks(folders(20_000)))
    assert MIN_ENTRIES <= min(found[:-1])
    assert max(found) < MAX_ENTRIES + 20
    assert 3000 < sum(found) / len(found) < 5500


def test_a_very_large_folder_is_cut_into_pieces():
    """No piece is larger than a block may be; the cuts are at names."""
    blocks = list(cut_blocks([group(b"srv", 200_000)]))
    assert len(blocks) > 20
    assert max(sizes(blocks)) <= MAX_ENTRIES + MAX_ENTRIES


@pytest.mark.parametrize("where", [0, 5000, 9999])
def test_a_folder_that_comes_or_goes_moves_no_other_block(where):
    """Of ten thousand folders one is taken out: all blocks but one or two are the same."""
    groups = folders(10_000)
    before = keys(cut_blocks(groups))
    del groups[where]
    after = keys(cut_blocks(groups))
    assert len(before) > 30
    assert len(after - before) <= 2


def test_a_name_that_comes_into_a_very_large_folder_moves_no_other_piece():
    """A name in the middle of a hundred thousand."""
    names = [b"%06d" % n for n in range(100_000)]
    whole = Group(b"srv", names, [ROW] * len(names))
    more = Group(b"srv", sorted([*names, b"050000x"]), [ROW] * (len(names) + 1))
    before, after = keys(cut_blocks([whole])), keys(cut_blocks([more]))
    assert len(before) > 10
    assert len(after - before) <= 2


def test_the_same_groups_give_the_same_blocks():
    """Nothing is drawn; a backup of the same tree finds its blocks again."""
    assert keys(cut_blocks(folders(3000))) == keys(cut_blocks(folders(3000)))
    assert [] == list(cut_blocks([]))


class TestFingerprint:
    def test_any_change_changes_it(self):
        """Every column of a row, a name, the folder, the order, and where one group ends and the next begins."""
        draw = random.Random(1)
        base = [group(b"a", 3), group(b"b", 2)]
        seen = {fingerprint(base)}
        for column in range(len(ROW)):
            changed = [group(b"a", 3), group(b"b", 2)]
            row = list(ROW)
            row[column] += 1 + draw.randrange(1000)
            changed[1].rows = [ROW, tuple(row)]
            seen.add(fingerprint(changed))
        for other in (
            [group(b"a", 3), group(b"c", 2)],
            [group(b"a", 2), group(b"b", 3)],
            [group(b"b", 2), group(b"a", 3)],
            [Group(b"a", [b"000000", b"000001", b"00002"], [ROW] * 3), group(b"b", 2)],
            [group(b"a", 3)],
        ):
            seen.add(fingerprint(other))
        assert 1 + len(ROW) + 5 == len(seen)

    def test_it_does_not_depend_on_anything_else(self):
        """Equal groups, equal digest, of the length that the format has."""
        assert fingerprint([group(b"a", 3)]) == fingerprint([group(b"a", 3)])
        assert 16 == len(fingerprint([]))

    def test_times_beyond_64_bits_are_told_apart_too(self):
        """A file with such a time is compared by it like any other."""
        seen = set()
        for mtime in (1 << 70, (1 << 70) + 1, -(1 << 70), 10):
            row = list(ROW)
            row[MTIME] = mtime
            row[CTIME] = 11
            seen.add(fingerprint([Group(b"a", [b"x", b"y"], [tuple(row), ROW])]))
        assert 4 == len(seen)


@pytest.mark.parametrize("column", [MTIME, CTIME])
def test_a_fingerprint_tells_times_that_take_more_than_64_bits(column):
    """A file system may hold times beyond the year 2262: each still counts, and none ends the run."""
    prints = set()
    for time_ns in (1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, -(1 << 63) - 1, 1 << 90):
        row = list(ROW)
        row[column] = time_ns
        prints.add(fingerprint([Group(b"a", [b"b"], [tuple(row)])]))
    assert 6 == len(prints)
