"""What a stored repository holds, in a form that is compared with the one that was written down when it was made."""

from __future__ import annotations

import hashlib
from typing import Any

from coffer.repository.entries import Kind
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from tests.harness.snapshots import read_content

PASSPHRASE = "a test passphrase, no secret"


def describe(repo: Repository) -> list[dict[str, Any]]:
    """Return every snapshot with all its entries; contents as SHA-256, bytes as Python writes them."""
    return [{"snapshot": snapshot.to_json(), "entries": _entries(repo, snapshot)} for snapshot in repo.snapshots()]


def _entries(repo: Repository, snapshot: Snapshot) -> list[dict[str, Any]]:
    manifest = repo.manifest(snapshot)
    described = []
    for entry in manifest.entries():
        content, holes = read_content(repo, manifest, entry) if entry.kind is Kind.FILE else (b"", ())
        described.append(
            {
                "path": repr(entry.path),
                "kind": entry.kind.value,
                "mode": f"{entry.mode:o}",
                "owner": [entry.uid, entry.gid],
                "size_bytes": entry.size_bytes,
                "times_ns": [entry.mtime_ns, entry.ctime_ns],
                "identity": [entry.dev, entry.ino, entry.nlink],
                "rdev": entry.rdev,
                "link_target": repr(entry.link_target),
                "xattrs": [[repr(name), repr(value)] for name, value in entry.xattrs],
                "content_sha256": hashlib.sha256(content).hexdigest(),
                "holes": [list(hole) for hole in holes],
            }
        )
    return described
