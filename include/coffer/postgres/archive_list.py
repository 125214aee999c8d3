"""What `pg_restore --list --verbose` tells of an archive, and which of its entries belong to some tables.

The list is the documented way to choose entries (`--use-list`). A line begins with the entry's number and the oids of
its catalog and object; what follows is for people, since names may hold blanks. So objects are known by their oids, and
entries without one (comments, privileges) by what they depend on.

Source: PrintTOCSummary in PostgreSQL's `src/bin/pg_dump/pg_backup_archiver.c`, versions 15 to 18.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

CLASS_CATALOG = 1259  # oid of pg_class
_LINE = re.compile(r"(\d+); (\d+) (\d+) (.*)")
_DEPENDS = re.compile(r";\s+depends on:((?: \d+)+)")
# Entries that say something of one object, and come with it.
_REMARKS = ("COMMENT ", "ACL ", "SECURITY LABEL ", "ROW SECURITY ")
# Entries that join two objects, and come with both.
_JOINS = ("TABLE ATTACH ", "INDEX ATTACH ", "SEQUENCE OWNED BY ")


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One line of the list.

    Attributes:
        number: That `--use-list` knows it by.
        catalog, oid: Of the object on the source; 0 where it has none.
        text: Kind, schema, name and owner, for people.
        needs: Numbers of the entries that it depends on.
    """

    number: int
    catalog: int
    oid: int
    text: str
    needs: frozenset[int] = frozenset()

    @property
    def is_table(self) -> bool:
        """Whether it makes a table, partitioned ones too."""
        return self.catalog == CLASS_CATALOG and self.text.startswith("TABLE ")


def parse_list(text: str) -> list[ArchiveEntry]:
    """Return the entries of a list, in the archive's order."""
    entries: list[ArchiveEntry] = []
    for line in text.split("\n"):
        if match := _LINE.match(line):
            entries.append(ArchiveEntry(int(match[1]), int(match[2]), int(match[3]), match[4]))
        elif entries and (match := _DEPENDS.match(line)):
            last = entries[-1]
            needs = frozenset(map(int, match[1].split()))
            entries[-1] = ArchiveEntry(last.number, last.catalog, last.oid, last.text, needs)
    return entries


def entries_of(
    entries: Iterable[ArchiveEntry],
    objects: Iterable[tuple[int, int]],
    schemas: Iterable[str] = (),
) -> list[int]:
    """Return the numbers of the entries that make some tables and what belongs to them, in the archive's order.

    Args:
        entries: All entries of the archive.
        objects: (catalog, oid) of the tables, and of their indexes, constraints, sequences and so on.
        schemas: Names of schemas to make as well.
    """
    listed = list(entries)
    wanted = set(objects)
    starts = tuple(f"SCHEMA - {schema} " for schema in schemas)
    chosen = {
        entry.number
        for entry in listed
        if (entry.catalog, entry.oid) in wanted or (starts and entry.text.startswith(starts))
    }
    for entry in listed:
        if entry.number in chosen or not entry.needs:
            continue
        remarks = entry.text.startswith(_REMARKS) and entry.needs & chosen
        if remarks or (entry.text.startswith(_JOINS) and entry.needs <= chosen):
            chosen.add(entry.number)
    return [entry.number for entry in listed if entry.number in chosen]


def oids_of_tables(entries: Iterable[ArchiveEntry]) -> set[int]:
    """Return the oids of all tables that an archive makes."""
    return {entry.oid for entry in entries if entry.is_table}
