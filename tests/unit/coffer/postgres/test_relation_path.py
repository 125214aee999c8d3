"""Files of pages are known by their path, and by nothing else."""

from __future__ import annotations

import pytest

from coffer.postgres.relation_path import RelationFile, parse_relation_path, split_incremental


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"base/5/16384", RelationFile(0, 5, 16384, "main", 0)),
        (b"base/5/16384.12", RelationFile(0, 5, 16384, "main", 12)),
        (b"base/5/16384_fsm", RelationFile(0, 5, 16384, "fsm", 0)),
        (b"base/5/16384_vm.1", RelationFile(0, 5, 16384, "vm", 1)),
        (b"global/1260", RelationFile(0, 0, 1260, "main", 0)),
        (b"pg_tblspc/16393/PG_15_202209061/5/16394", RelationFile(16393, 5, 16394, "main", 0)),
        (b"pg_tblspc/16393/PG_18_202506291/5/16394_init", RelationFile(16393, 5, 16394, "init", 0)),
    ],
)
def test_relation_files(path, expected):
    """Each part of the path is told."""
    assert expected == parse_relation_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"PG_VERSION",
        b"global/pg_control",
        b"base/5/t3_16384",
        b"base/5/pg_filenode.map",
        b"base/5/16384.0",
        b"base/5/16384_other",
        b"base/5/16384\n",
        b"pg_wal/000000010000000000000001",
        b"pg_tblspc/16393/5/16394",
        b"x/base/5/16384",
        b"",
    ],
)
def test_other_files(path):
    """Temporary relations, maps and whatever else have no pages that are compared."""
    assert parse_relation_path(path) is None


def test_blocks_count_on_through_the_files_of_a_relation():
    """The second file of 1 GiB begins with block 131,072."""
    assert [0, 131072] == [parse_relation_path(path).first_block for path in (b"base/5/1", b"base/5/1.1")]


def test_files_of_changed_blocks_are_known_by_their_name():
    """Only the last part of the path counts."""
    assert (b"base/5/16384.1", True) == split_incremental(b"base/5/INCREMENTAL.16384.1")
    assert (b"INCREMENTAL./x", False) == split_incremental(b"INCREMENTAL./x")
    assert (b"top", True) == split_incremental(b"INCREMENTAL.top")
