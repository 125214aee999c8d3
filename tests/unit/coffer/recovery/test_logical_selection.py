"""Which tables of a backup are wanted."""

import pytest

from coffer.errors import UsageError
from coffer.postgres.logical_record import DatabaseRecord, PartitionedRecord, SequenceRecord, TableRecord
from coffer.recovery.logical_selection import select, through_chosen_roots

TOP = PartitionedRecord(1, "s", "top", (), ((1259, 1),))
LEAF = TableRecord(3, "s", "leaf", ("a",), above=(1,), rows=5, size_bytes=50, objects=((1259, 3),))
UNSAFE = TableRecord(4, "s", "unsafe", ("a",), above=(1,), root=("s", "top"), rows=1, size_bytes=1)
OTHER = TableRecord(5, "t", "other", ("a",), rows=2, size_bytes=20, objects=((1259, 5), (2606, 6)))
SEQUENCES = (
    SequenceRecord(7, "t", "own", 1, is_called=True, owner=5),
    SequenceRecord(8, "t", "lone", 1, is_called=True),
)
RECORD = DatabaseRecord(
    "db", 150018, "UTF8", {}, (), "0/1", False, True, (LEAF, UNSAFE, OTHER), (TOP,), SEQUENCES
)  # fmt: skip


def test_without_patterns_all_is_wanted():
    """Every table, every sequence, and no entry of the schema is left out."""
    found = select(RECORD, ())
    assert (True, 8, 71, SEQUENCES) == (found.is_whole, found.rows, found.size_bytes, found.sequences)


def test_a_table_comes_with_its_own_sequences():
    """And with its schema and objects; a sequence that nobody owns stays."""
    found = select(RECORD, ("other",))
    assert ((OTHER,), (), SEQUENCES[:1]) == (found.tables, found.partitioned, found.sequences)
    assert ({(1259, 5), (2606, 6)}, {"t"}) == (found.objects, found.schemas)


def test_a_partitioned_table_comes_with_its_partitions():
    """All of them, and the root that some are loaded through."""
    found = through_chosen_roots(select(RECORD, ("s.top",)))
    assert ((LEAF, UNSAFE), (TOP,)) == (found.tables, found.partitioned)


def test_a_partition_alone_can_be_wanted_where_its_rows_are_safe():
    """Not where another server may want them elsewhere."""
    assert (LEAF,) == through_chosen_roots(select(RECORD, ("leaf",))).tables
    with pytest.raises(UsageError, match=r"may belong to another partition of s\.top"):
        through_chosen_roots(select(RECORD, ("unsafe",)))


def test_each_pattern_must_fit_something():
    """One typing mistake among several is told."""
    with pytest.raises(UsageError, match="'missing'"):
        select(RECORD, ("other", "missing"))
