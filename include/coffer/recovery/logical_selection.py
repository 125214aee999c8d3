"""Which tables of a logical backup are wanted, and which entries of its schema archive make them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coffer.errors import UsageError
from coffer.postgres.logical_record import DatabaseRecord, PartitionedRecord, SequenceRecord, TableRecord
from coffer.postgres.names import TablePattern, parse_patterns


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of a database.

    Attributes:
        is_whole: Whether everything is.
        tables, partitioned, sequences: Those that are.
    """

    is_whole: bool
    tables: tuple[TableRecord, ...]
    partitioned: tuple[PartitionedRecord, ...]
    sequences: tuple[SequenceRecord, ...]

    @property
    def everything(self) -> tuple[TableRecord | PartitionedRecord, ...]:
        """All tables, partitioned ones too."""
        return (*self.tables, *self.partitioned)

    @property
    def objects(self) -> set[tuple[int, int]]:
        """(catalog, oid) of the tables and of what belongs to them."""
        return {pair for table in self.everything for pair in table.objects}

    @property
    def schemas(self) -> set[str]:
        """Names of the schemas that the tables are in."""
        return {table.schema for table in self.everything}

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def size_bytes(self) -> int:
        """Size of all tables' files [bytes]."""
        return sum(table.size_bytes for table in self.tables)


def select(record: DatabaseRecord, patterns: Sequence[str]) -> Selection:
    """Return the tables that fit some patterns, with the partitions of those that are partitioned; all without any.

    Raises:
        UsageError: A pattern is none, or fits nothing.
    """
    if not patterns:
        return Selection(
            is_whole=True, tables=record.tables, partitioned=record.partitioned, sequences=record.sequences
        )
    everything: tuple[TableRecord | PartitionedRecord, ...] = (*record.tables, *record.partitioned)
    names = {table.oid: (table.schema, table.name) for table in everything}
    chosen: set[int] = set()
    for pattern in parse_patterns(patterns):
        fitting = {table.oid for table in everything if _fits(pattern, table, names)}
        if not fitting:
            raise UsageError(
                f"table {pattern.text!r}: nothing in the backup of database {record.name!r} fits",
                hint="Capitals count, and names with special characters go in double quotes: '\"Odd Name\"'.",
            )
        chosen |= fitting
    return Selection(
        is_whole=False,
        tables=tuple(table for table in record.tables if table.oid in chosen),
        partitioned=tuple(table for table in record.partitioned if table.oid in chosen),
        sequences=tuple(sequence for sequence in record.sequences if sequence.owner in chosen),
    )


def _fits(pattern: TablePattern, table: TableRecord | PartitionedRecord, names: dict[int, tuple[str, str]]) -> bool:
    family: Iterable[tuple[str, str]] = (
        (table.schema, table.name),
        *(names[oid] for oid in table.above if oid in names),
    )
    return any(pattern.fits(*member) for member in family)


def through_chosen_roots(selection: Selection) -> Selection:
    """Return the selection, refusing a partition that can only be loaded through a root that is not wanted.

    Raises:
        UsageError: There is one.
    """
    there = {(table.schema, table.name) for table in selection.partitioned}
    for table in selection.tables:
        if table.root and table.root not in there and not selection.is_whole:
            root = ".".join(table.root)
            raise UsageError(
                f"table {table.label}: its rows may belong to another partition of {root} on another server",
                hint=f"Choose the partitioned table instead: --table '{root}'.",
            )
    return selection
