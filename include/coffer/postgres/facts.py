"""What a snapshot of a cluster says of itself: which cluster, how it was read, and between which log positions.

It stands in the signed body of the snapshot (docs/format.md §16), so that choosing a restore point reads one small
object for each snapshot. What is longer lies below `.coffer/` in the snapshot's tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from coffer.errors import ObjectCorruptError, SourceFormatError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn, require_segment_size
from coffer.repository.snapshot import Snapshot

KIND = "postgres-cluster"
COFFER_FOLDER = b".coffer"  # of what is ours in the tree; no file of a data folder has this name
MANIFEST_PATH = b".coffer/backup_manifest"  # as the server sent it
CLUSTER_PATH = b".coffer/cluster.json"
PAGES_FOLDER = b".coffer/pages"  # below it, for each file of pages, the digests of its pages


class Method(Enum):
    """How the pages that changed were found; every method makes a complete snapshot."""

    FULL = "full"
    DELTA = "delta"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """A physical backup of one cluster.

    Attributes:
        system_id: The cluster, as initdb named it.
        version: Of the server, as in server_version_num (150018 for 15.18).
        method: How the pages were found.
        timeline: On which the backup ended.
        start: Where replay begins: the redo position of the checkpoint that the backup began with.
        end: Where the cluster is consistent: no moment before it can be restored from this snapshot.
        start_timeline: On which `start` lies; another than `timeline` where a standby was promoted meanwhile.
        segment_bytes: Size of a WAL segment [bytes].
        from_standby: Whether a standby was read.
        has_checksums: Whether the cluster's pages have checksums.
        corrupt_pages: Pages that were found damaged; 0 for a snapshot that can be trusted so far.
    """

    system_id: int
    version: int
    method: Method
    timeline: int
    start: Lsn
    end: Lsn
    start_timeline: int
    segment_bytes: int
    from_standby: bool = False
    has_checksums: bool = True
    corrupt_pages: int = 0

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.version // 10000

    def to_snapshot(self) -> dict[str, str | int]:
        """Return the fields as a snapshot holds them."""
        return {
            "kind": KIND,
            "system_id": self.system_id,
            "version": self.version,
            "method": self.method.value,
            "timeline": self.timeline,
            "start_lsn": str(self.start),
            "end_lsn": str(self.end),
            "start_timeline": self.start_timeline,
            "segment_bytes": self.segment_bytes,
            "from_standby": int(self.from_standby),
            "has_checksums": int(self.has_checksums),
            "corrupt_pages": self.corrupt_pages,
        }

    @classmethod
    def of(cls, snapshot: Snapshot) -> ClusterFacts | None:
        """Return the facts of a snapshot; None where it is no cluster's.

        Raises:
            ObjectCorruptError: It says that it is one, and a field is missing or means nothing.
        """
        facts = snapshot.facts
        if facts.get("kind") != KIND:
            return None
        try:
            found = cls(
                system_id=_number(facts["system_id"]),
                version=_number(facts["version"]),
                method=Method(facts["method"]),
                timeline=_timeline(facts["timeline"]),
                start=Lsn.parse(str(facts["start_lsn"])),
                end=Lsn.parse(str(facts["end_lsn"])),
                start_timeline=_timeline(facts["start_timeline"]),
                segment_bytes=require_segment_size(_number(facts["segment_bytes"])),
                from_standby=bool(facts["from_standby"]),
                has_checksums=bool(facts["has_checksums"]),
                corrupt_pages=_number(facts["corrupt_pages"]),
            )
        except (KeyError, ValueError, SourceFormatError):
            raise _damaged(snapshot) from None
        if found.end < found.start or found.timeline < found.start_timeline:
            raise _damaged(snapshot)
        return found


def _number(value: str | int) -> int:
    if not isinstance(value, int):
        raise ValueError
    return value


def _timeline(value: str | int) -> int:
    number = _number(value)
    if not 1 <= number <= MAX_TIMELINE:
        raise ValueError
    return number


def _damaged(snapshot: Snapshot) -> ObjectCorruptError:
    return ObjectCorruptError(f"{snapshot.name}: facts of the cluster are damaged", object=snapshot.name)
