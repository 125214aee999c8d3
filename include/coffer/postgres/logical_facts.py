"""What a snapshot of a logical backup says of itself; it stands in the signed body (docs/format.md §16)."""

from __future__ import annotations

from dataclasses import dataclass

from coffer.errors import ObjectCorruptError, SourceFormatError, UsageError
from coffer.postgres.lsn import Lsn
from coffer.repository.snapshot import Snapshot

KIND = "postgres-logical"
GLOBALS_NAME = b"globals.sql"  # at the root: roles, their memberships and settings, tablespaces
RECORD_NAME = b"toc.json"  # below each database's folder, as the rest
SCHEMA_NAME = b"schema.dump"  # pg_dump's custom format: all that is no data
LARGE_OBJECTS_NAME = b"large-objects.dump"  # pg_dump's custom format, where the database has any
DATA_FOLDER = b"data"  # below it a file for each table, as COPY writes it


@dataclass(frozen=True, slots=True)
class LogicalFacts:
    """A logical backup of databases of one server.

    Attributes:
        version: Of the server, as in server_version_num (150018 for 15.18).
        lsn: Of the server right after the first database's snapshot was taken.
        databases: How many there are; their folders are at the root.
        dump_version: Of the pg_dump that was used, such as "15.18".
        whole: Whether every table of each database is in it.
    """

    version: int
    lsn: Lsn
    databases: int
    dump_version: str
    whole: bool = True

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.version // 10000

    @property
    def dump_major(self) -> int:
        """pg_dump's major version: an older pg_restore cannot read what it wrote."""
        return int(self.dump_version.partition(".")[0])

    def to_snapshot(self) -> dict[str, str | int]:
        """Return the fields as a snapshot holds them."""
        return {
            "kind": KIND,
            "version": self.version,
            "lsn": str(self.lsn),
            "databases": self.databases,
            "dump_version": self.dump_version,
            "whole": int(self.whole),
        }

    @classmethod
    def of(cls, snapshot: Snapshot) -> LogicalFacts | None:
        """Return the facts of a snapshot; None where it is no logical backup.

        Raises:
            ObjectCorruptError: It says that it is one, and a field is missing or means nothing.
        """
        facts = snapshot.facts
        if facts.get("kind") != KIND:
            return None
        try:
            version, databases, whole = (facts[name] for name in ("version", "databases", "whole"))
            dump_version = facts["dump_version"]
            if not (isinstance(version, int) and isinstance(databases, int) and isinstance(dump_version, str)):
                raise ValueError
            found = cls(version, Lsn.parse(str(facts["lsn"])), databases, dump_version, bool(whole))
            if found.dump_major < 1:
                raise ValueError
        except (KeyError, ValueError, SourceFormatError):
            raise ObjectCorruptError(
                f"{snapshot.name}: facts of the logical backup are damaged", object=snapshot.name
            ) from None
        return found

    @classmethod
    def require(cls, snapshot: Snapshot) -> LogicalFacts:
        """Return the facts of a snapshot that must be a logical backup.

        Raises:
            UsageError: It is something else.
            ObjectCorruptError: As `of`.
        """
        found = cls.of(snapshot)
        if found is None:
            raise UsageError(
                f"snapshot {snapshot.id}: is no logical backup of PostgreSQL",
                hint="'coffer snapshots' shows what each snapshot is; 'coffer pg dump' takes a logical backup.",
            )
        return found
