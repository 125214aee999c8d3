"""Where a stored object can be harmed, and what of a snapshot can still be read afterwards.

Bits are flipped and never overwritten: a fixed byte in place of another is no harm once in 256.
"""

from __future__ import annotations

from coffer.backends.base import Backend
from coffer.crypto.seal import HEADER_BYTES
from coffer.errors import CofferError
from coffer.repository.entries import Kind
from coffer.repository.pack import TRAILER
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.verification import CheckReport, Finding, Severity
from coffer.verification.findings import MAX_PATHS_KEPT
from tests.harness.snapshots import read_content

# Fields of an object's header by their offset [bytes] (docs/format.md).
HEADER_FIELDS = {"magic": 0, "version": 9, "kind": 10, "pad": 11, "epoch": 15, "salt": 16, "commitment": 48}


def pack_offsets(store: Backend, name: str) -> dict[str, int]:
    """Return the offset of one byte in every part of a stored pack."""
    size = store.stat(name).size_bytes
    table, length, _, _ = TRAILER.unpack(store.get(name, size - TRAILER.size, TRAILER.size))
    trailer = size - TRAILER.size
    return {
        **{f"header-{field}": offset for field, offset in HEADER_FIELDS.items()},
        "first-frame": HEADER_BYTES,
        "last-frame-tag": table - 1,
        "table": table,
        "table-tag": table + length - 1,
        "trailer-offset": trailer + 3,
        "trailer-length": trailer + 7,
        "trailer-rows": trailer + 11,
        "trailer-mark": trailer + 12,
        "last-byte": size - 1,
    }


def errors_of(report: CheckReport) -> list[Finding]:
    """Return a report's findings of severity ERROR."""
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


def hints_of(report: CheckReport) -> list[tuple[str, str]]:
    """Return code and object of a report's hints."""
    return [(found.code, found.object) for found in report.findings if found.severity is Severity.HINT]


def unreadable_files(repo: Repository, snapshot: Snapshot) -> set[bytes] | None:
    """Return the paths of a snapshot's files that cannot be read; None where its manifest cannot."""
    lost = set()
    try:
        manifest = repo.manifest(snapshot)
        for entry in manifest.entries():
            if entry.kind is Kind.FILE:
                try:
                    read_content(repo, manifest, entry)
                except CofferError:
                    lost.add(entry.path)
    except CofferError:
        return None
    return lost


def assert_told(repo: Repository, finding: Finding) -> None:
    """Assert that a finding names just the snapshots and paths that truly cannot be read any more."""
    lost = {snapshot.id: unreadable_files(repo, snapshot) for snapshot in repo.snapshots()}
    assert {name for name, paths in lost.items() if paths is None or paths} == set(finding.snapshots)
    if None not in lost.values():
        paths = set().union(*(paths or set() for paths in lost.values()))
        assert len(paths) <= MAX_PATHS_KEPT or len(finding.paths) == MAX_PATHS_KEPT
        assert set(finding.paths) == paths if len(paths) <= MAX_PATHS_KEPT else set(finding.paths) < paths
