"""What one database of a logical backup consists of: its `toc.json`, beside the files that it names.

The schema itself is in pg_dump's own archive. Here stands what Coffer reads and writes without pg_dump: the tables'
data, and the values of sequences.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from coffer.errors import FormatVersionError, ObjectCorruptError
from coffer.postgres.logical_facts import DATA_FOLDER, GLOBALS_NAME
from coffer.postgres.names import path_name, quoted_name, quoted_text

FORMAT = 1
_TABLE_FOLDER = DATA_FOLDER.decode()
MAX_RECORD_BYTES = 1 << 30  # a million tables take a third of it


@dataclass(frozen=True, slots=True)
class TableRecord:
    """The data of one table.

    Attributes:
        oid: Of the table on the source.
        schema, name: Of the table.
        columns: Those that have data, in order: neither dropped nor generated.
        above: The oids of the partitioned tables that it is a partition of, from its parent to the root.
        root: (schema, name) of the partitioned table to load through, where rows may belong to another partition on
            another server; empty where the table itself is loaded.
        condition: Of an extension's configuration table, the rows that were dumped ("WHERE ..."), as the extension says
            it; "" for all of them.
        extension: The extension that the table belongs to, or "". Its definition comes with the extension.
        rank: Order among an extension's tables: those of a lower one are loaded first.
        rows: Rows of the file.
        size_bytes: Of the file.
        objects: (catalog's oid, oid) of what belongs to the table: defaults, constraints, indexes, triggers, rules,
            policies, statistics, sequences.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]
    above: tuple[int, ...] = ()
    root: tuple[str, ...] = ()
    condition: str = ""
    extension: str = ""
    rank: int = 0
    rows: int = 0
    size_bytes: int = 0
    objects: tuple[tuple[int, int], ...] = ()

    @property
    def label(self) -> str:
        """The table's name for people and for SQL."""
        return quoted_name(self.schema, self.name)

    @property
    def file_name(self) -> str:
        """Its file below the database's folder; the oid makes it unique, the name is for people."""
        return f"{_TABLE_FOLDER}/{self.oid}-{path_name(self.name)}.copy"

    def copy_in(self, encoding: str) -> str:
        """Return the statement that loads the file."""
        target = quoted_name(*self.root) if self.root else self.label
        return f"COPY {target}{_list_of(self.columns)} FROM STDIN WITH (ENCODING {quoted_text(encoding)})"

    def copy_out(self, encoding: str) -> str:
        """Return the statement that makes the file.

        As pg_dump does it: rows of the table alone and not of those that inherit from it, generated columns left out.
        """
        options = f"WITH (ENCODING {quoted_text(encoding)})"
        if self.condition:
            columns = ", ".join(map(quoted_name, self.columns)) or "*"
            query = f"SELECT {columns} FROM ONLY {self.label} {self.condition}"  # noqa: S608 - quoted; the condition is SQL
            return f"COPY ({query}) TO STDOUT {options}"
        return f"COPY {self.label}{_list_of(self.columns)} TO STDOUT {options}"


def _list_of(columns: tuple[str, ...]) -> str:
    return " (" + ", ".join(map(quoted_name, columns)) + ")" if columns else ""


@dataclass(frozen=True, slots=True)
class PartitionedRecord:
    """A partitioned table: it has no data of its own, and can be chosen.

    Attributes:
        oid: Of the table on the source.
        schema, name: Of the table.
        above: As `TableRecord.above`.
        objects: As `TableRecord.objects`.
    """

    oid: int
    schema: str
    name: str
    above: tuple[int, ...] = ()
    objects: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceRecord:
    """The value of one sequence. It is read after the tables' snapshot was taken: it is not behind their rows.

    Attributes:
        oid: Of the sequence on the source.
        schema, name: Of the sequence.
        last_value: What it stands at.
        is_called: Whether that value was handed out.
        owner: Oid of the table that a column of owns it, else 0.
    """

    oid: int
    schema: str
    name: str
    last_value: int
    is_called: bool
    owner: int = 0

    @property
    def label(self) -> str:
        """The sequence's name for people and for SQL."""
        return quoted_name(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class DatabaseRecord:
    """One database.

    Attributes:
        name: Of the database on the source.
        version: Of its server, as in server_version_num.
        encoding: Of the database and of the tables' files.
        properties: The row of pg_database, by column: locale and provider, owner, connection limit.
        settings: Settings of the database ("work_mem=64MB"), that only a restore under the old name brings back.
        lsn: Of the server right after the snapshot was taken.
        large_objects: Whether it has any, and they are in the backup.
        whole: Whether every table is in it.
        tables, partitioned, sequences: What was dumped, ordered by oid.
    """

    name: str
    version: int
    encoding: str
    properties: dict[str, Any]
    settings: tuple[str, ...]
    lsn: str
    large_objects: bool
    whole: bool
    tables: tuple[TableRecord, ...] = ()
    partitioned: tuple[PartitionedRecord, ...] = ()
    sequences: tuple[SequenceRecord, ...] = field(default=())

    @property
    def folder(self) -> str:
        """The database's folder, at the root of the snapshot."""
        return folder_of(self.name)

    def encode(self) -> bytes:
        """Return the content of `toc.json`; the same record gives the same bytes."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes, what: str) -> DatabaseRecord:
        """Return a record.

        Args:
            data: The content of `toc.json`.
            what: Names it in errors.

        Raises:
            FormatVersionError: It is of a newer format.
            ObjectCorruptError: It is none.
        """
        try:
            fields = json.loads(data)
            found = fields.pop("format")
            if found != FORMAT:
                raise FormatVersionError(f"{what}: format {found!r}, this version reads {FORMAT}")
            tables = tuple(_table(row) for row in fields.pop("tables"))
            partitioned = tuple(PartitionedRecord(**_lists(row)) for row in fields.pop("partitioned"))
            sequences = tuple(SequenceRecord(**row) for row in fields.pop("sequences"))
            settings = tuple(fields.pop("settings"))
            return cls(tables=tables, partitioned=partitioned, sequences=sequences, settings=settings, **fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ObjectCorruptError(f"{what}: is no record of a database", object=what) from None


def folder_of(database: str) -> str:
    """Return a database's folder in the snapshot; none has the name of the file beside them."""
    name = path_name(database)
    return name.replace(".", "%2E") if name == GLOBALS_NAME.decode() else name


def _table(row: dict[str, Any]) -> TableRecord:
    return TableRecord(**_lists(row, "columns", "root"))


def _lists(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields with tuples for lists."""
    lists = {name: tuple(row[name]) for name in ("above", *names)}
    return {**row, **lists, "objects": tuple((int(kind), int(oid)) for kind, oid in row["objects"])}
