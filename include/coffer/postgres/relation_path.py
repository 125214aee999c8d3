"""Which files of a data folder hold pages, and which a backup leaves out.

Source: PostgreSQL documentation, "Database File Layout", and `src/common/relpath.c`, `src/backend/backup/basebackup.c`
(versions 15 to 18).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SEGMENT_PAGES = 131_072  # a relation's files have 1 GiB each; other sizes are made by building PostgreSQL oneself
_VERSION_FOLDER = rb"PG_[0-9]+_[0-9]{9}"
_RELATION = re.compile(
    rb"(?:global|base/(?P<database>[0-9]+)|pg_tblspc/(?P<space>[0-9]+)/" + _VERSION_FOLDER + rb"/(?P<database2>[0-9]+))"
    rb"/(?P<relation>[0-9]+)(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<segment>[1-9][0-9]{0,5}))?"
)
_INCREMENTAL = b"INCREMENTAL."


@dataclass(frozen=True, slots=True)
class RelationFile:
    """A file of pages.

    Attributes:
        tablespace: Its OID; 0 for the default ones.
        database: The database's OID; 0 for what all databases share.
        relation: The number of the file, which is not the OID of the relation after it was rewritten.
        fork: "main", "fsm", "vm" or "init".
        segment: From 0; each has `SEGMENT_PAGES` pages.
    """

    tablespace: int
    database: int
    relation: int
    fork: str
    segment: int

    @property
    def first_block(self) -> int:
        """Number of its first page in the relation: what the page's checksum counts from."""
        return self.segment * SEGMENT_PAGES


def parse_relation_path(path: bytes) -> RelationFile | None:
    """Return what a path of the data folder says of a relation; None where it is no file of pages.

    Temporary relations (`t3_16384`) are none: no backup holds them.
    """
    found = _RELATION.fullmatch(path)
    if found is None:
        return None
    return RelationFile(
        tablespace=int(found["space"] or 0),
        database=int(found["database"] or found["database2"] or 0),
        relation=int(found["relation"]),
        fork=(found["fork"] or b"main").decode(),
        segment=int(found["segment"] or 0),
    )


def split_incremental(path: bytes) -> tuple[bytes, bool]:
    """Return (the file's own path, whether the archive holds only its changed blocks)."""
    folder, slash, name = path.rpartition(b"/")
    if not name.startswith(_INCREMENTAL):
        return path, False
    return folder + slash + name.removeprefix(_INCREMENTAL), True
