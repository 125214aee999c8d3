"""What is kept with a snapshot to compare a restored cluster with: row counts and digests of tables at one moment.

The moment is a position in the log at which exactly the transactions are committed that the digests saw
(docs/adr/0032). It lies in `.coffer/cluster.json`, and whoever reads it back trusts none of its values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from coffer.errors import ObjectCorruptError, SourceFormatError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn
from coffer.postgres.visibility import VisibleSet

FORMAT = 1
MAX_TABLES = 50_000  # of all databases together; each takes some 150 bytes of the record
MAX_NAME_BYTES = 255  # NAMEDATALEN is 64; builds with longer names exist
MAX_FAILURE = 600  # [characters]
WHOLE = "100"
_DIGEST = re.compile(r"[0-9a-f]{32}")
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_BIGINT_END = 1 << 63
T = TypeVar("T")


class LeftOut(Enum):
    """Why a table was not proved."""

    BUDGET = "budget"  # the time was over before it began
    TIMEOUT = "timeout"  # it was begun, and took longer than the time that was left
    NO_RIGHT = "no-right"  # the role may not read all of its rows
    LOCKED = "locked"  # somebody held it for too long
    CHANGED = "changed"  # its definition or its file changed after the moment
    UNLOGGED = "unlogged"  # it is empty after every recovery
    TEMPORARY = "temporary"
    FOREIGN = "foreign"  # its rows are somewhere else
    FAILED = "failed"  # the server reported an error


@dataclass(frozen=True, slots=True)
class TableProof:
    """One table, or why there is nothing to compare it with.

    Attributes:
        schema, name: Of the table, unquoted.
        oid: Of the relation.
        rows: How many rows were read; 0 where it was left out.
        digest: Two sums of hashes of all rows, modulo 2^64 each [32 hex digits]; empty where it was left out.
        percent: How much of its pages was read, "100" for all; decimal, and in the very words that the query had.
        left_out: Why it was; None where it was not.
        missed: How many backups in a row have not proved it.
    """

    schema: str
    name: str
    oid: int
    rows: int = 0
    digest: str = ""
    percent: str = WHOLE
    left_out: LeftOut | None = None
    missed: int = 0

    @property
    def qualified(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields that mean something."""
        named: dict[str, Any] = {"schema": self.schema, "name": self.name, "oid": self.oid}
        if self.left_out is not None:
            return named | {"left_out": self.left_out.value, "missed": self.missed}
        sample = {} if self.percent == WHOLE else {"percent": self.percent}
        return named | {"rows": self.rows, "digest": self.digest} | sample


@dataclass(frozen=True, slots=True)
class DatabaseProof:
    """One database.

    Attributes:
        oid, name: Of the database.
        encoding: Of its texts, as the server names it.
        snapshot: What the digests saw, as pg_current_snapshot() wrote it; empty where nothing was read.
        tables: In the order in which they were proved; those that were left out come last.
        failure: Why nothing of it was read; empty where it was.
    """

    oid: int
    name: str
    encoding: str = ""
    snapshot: str = ""
    tables: tuple[TableProof, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of one snapshot.

    Attributes:
        timeline: Of the moment.
        lsn: The moment: a recovery that stops before the first record at or behind it has what the digests saw.
        until: WAL must be saved up to here, so that a recovery sees that record.
        exact: Whether that was established from the log. Else the moment is near, and tables that were written to may
            differ.
        server_version: As in server_version_num.
        superuser: Name of the role that initdb made; a scratch server is spoken to as this role.
        seed: Of the hashes and samples.
        taken_ns: When the moment was [ns since the Unix epoch].
        duration_ms: How long it took [ms].
        databases: By name.
        unlisted: How many tables there were beyond `MAX_TABLES`.
    """

    timeline: int
    lsn: Lsn
    until: Lsn
    exact: bool
    server_version: int
    superuser: str
    seed: int
    taken_ns: int
    duration_ms: int
    databases: tuple[DatabaseProof, ...]
    unlisted: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many tables were proved, proved in part ("sampled"), and left out for which reason."""
        found: Counter[str] = Counter()
        for _, table in self.tables():
            if table.left_out is not None:
                found[table.left_out.value] += 1
            else:
                found["proved" if table.percent == WHOLE else "sampled"] += 1
        return dict(sorted(found.items()))

    def tables(self) -> Iterator[tuple[DatabaseProof, TableProof]]:
        """Yield every table with its database."""
        for database in self.databases:
            for table in database.tables:
                yield database, table

    def to_json(self) -> dict[str, Any]:
        """Return the proof as `.coffer/cluster.json` holds it."""
        return {
            "format": FORMAT,
            "timeline": self.timeline,
            "lsn": str(self.lsn),
            "until": str(self.until),
            "exact": self.exact,
            "server_version": self.server_version,
            "superuser": self.superuser,
            "seed": self.seed,
            "taken_ns": self.taken_ns,
            "duration_ms": self.duration_ms,
            "unlisted": self.unlisted,
            "databases": [
                {
                    "oid": database.oid,
                    "name": database.name,
                    "encoding": database.encoding,
                    "snapshot": database.snapshot,
                    "failure": database.failure,
                    "tables": [table.to_json() for table in database.tables],
                }
                for database in self.databases
            ],
        }

    @classmethod
    def parse(cls, body: Any) -> Proof:
        """Read what `to_json` made.

        Raises:
            ObjectCorruptError: A field is missing, of another kind, or outside what this code writes.
        """
        try:
            if _integer(body["format"]) != FORMAT:
                raise ValueError
            proof = cls(
                timeline=_integer(body["timeline"], 1, MAX_TIMELINE + 1),
                lsn=Lsn.parse(_text(body["lsn"])),
                until=Lsn.parse(_text(body["until"])),
                exact=_of_kind(body["exact"], bool),
                server_version=_integer(body["server_version"]),
                superuser=_text(body["superuser"], MAX_NAME_BYTES),
                seed=_integer(body["seed"]),
                taken_ns=_integer(body["taken_ns"]),
                duration_ms=_integer(body["duration_ms"]),
                unlisted=_integer(body["unlisted"]),
                databases=tuple(_database(found) for found in _of_kind(body["databases"], list)),
            )
        except (KeyError, TypeError, ValueError, RecursionError, SourceFormatError):
            raise _damaged() from None
        names = [database.name for database in proof.databases]
        if len(set(names)) != len(names) or proof.until < proof.lsn or sum(1 for _ in proof.tables()) > MAX_TABLES:
            raise _damaged()
        return proof


def _database(body: Any) -> DatabaseProof:
    snapshot = _text(body["snapshot"], 1 << 20)
    if snapshot:
        VisibleSet.parse(snapshot)
    return DatabaseProof(
        oid=_integer(body["oid"], 1, 1 << 32),
        name=_name(body["name"]),
        encoding=_text(body["encoding"], 64),
        snapshot=snapshot,
        tables=tuple(_table(found) for found in _of_kind(body["tables"], list)),
        failure=_text(body["failure"], MAX_FAILURE),
    )


def _table(body: Any) -> TableProof:
    schema, name, oid = _name(body["schema"]), _name(body["name"]), _integer(body["oid"], 1, 1 << 32)
    if "left_out" in body:
        why = LeftOut(_text(body["left_out"]))
        return TableProof(schema, name, oid, left_out=why, missed=_integer(body["missed"]))
    digest, percent = _text(body["digest"]), _text(body.get("percent", WHOLE))
    if not _DIGEST.fullmatch(digest) or not _PERCENT.fullmatch(percent) or not 0 < float(percent) <= 100:
        raise ValueError
    return TableProof(schema, name, oid, rows=_integer(body["rows"]), digest=digest, percent=percent)


def _of_kind(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise ValueError
    return value


def _text(value: Any, at_most: int = 64) -> str:
    text = _of_kind(value, str)
    if len(text) > at_most:
        raise ValueError
    return text


def _name(value: Any) -> str:
    name = _text(value, MAX_NAME_BYTES)
    if not name or "\0" in name:
        raise ValueError
    return name


def _integer(value: Any, first: int = 0, end: int = _BIGINT_END) -> int:
    number = _of_kind(value, int)
    if not first <= number < end:
        raise ValueError
    return number


def _damaged() -> ObjectCorruptError:
    return ObjectCorruptError(".coffer/cluster.json: the proof of content is damaged")
