"""Which tables of a database a logical backup takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coffer.postgres.names import TablePattern, parse_patterns
from coffer.sources.postgres.logical_spec import LogicalSource


@dataclass(frozen=True, slots=True)
class Choice:
    """The patterns of a source, read.

    Attributes:
        tables: Only tables that fit one; none means all.
        exclude: Tables that fit one are left out.
        exclude_data: Of tables that fit one, the data is left out.
    """

    tables: tuple[TablePattern, ...] = ()
    exclude: tuple[TablePattern, ...] = ()
    exclude_data: tuple[TablePattern, ...] = ()

    @classmethod
    def of(cls, source: LogicalSource) -> Choice:
        """Return the choice of a source.

        Raises:
            UsageError: A pattern is none.
        """
        return cls(*(parse_patterns(texts) for texts in (source.tables, source.exclude, source.exclude_data)))

    @property
    def is_everything(self) -> bool:
        """Whether the backup is of whole databases, but for tables that are left out by name."""
        return not self.tables

    def takes(self, name: tuple[str, str], above: Sequence[tuple[str, str]]) -> bool:
        """Say whether a table is taken: for itself, or for a partitioned table that it is part of.

        Args:
            name: Its schema and name.
            above: Those of the partitioned tables above it.
        """
        family = (name, *above)
        chosen = not self.tables or any(_fits(self.tables, *member) for member in family)
        return chosen and not any(_fits(self.exclude, *member) for member in family)

    def takes_data(self, schema: str, name: str) -> bool:
        """Say whether the data of a table that is taken is taken as well."""
        return not _fits(self.exclude_data, schema, name)


def _fits(patterns: Iterable[TablePattern], schema: str, name: str) -> bool:
    return any(pattern.fits(schema, name) for pattern in patterns)
