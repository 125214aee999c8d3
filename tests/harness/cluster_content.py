"""What a snapshot has of a cluster, beside what the server has on its own disk; and a server made of a snapshot."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import parse_relation_path
from coffer.repository.entries import Entry
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster import ClusterRestoreOptions, parse_target, plan_cluster_restore, restore_cluster
from tests.harness.postgres import Server, Servers, unprivileged, wait_for


def content_of(repo: Repository, snapshot: Snapshot, path: bytes) -> bytes:
    """Return a file's content out of the repository."""
    manifest = repo.manifest(snapshot)
    entry = manifest.find(path)
    assert entry is not None, path
    return content_of_entry(repo, manifest, entry)


def content_of_entry(repo: Repository, manifest: ManifestReader, entry: Entry) -> bytes:
    """Return a file's content out of the repository."""
    if entry.content is None:
        return b""
    read = repo.reader().read
    parts = []
    for chunk_id, offset, length, _ in manifest.expand(entry.content):
        parts.append(bytes(length) if chunk_id is None else read(chunk_id, TYPE_DATA)[offset : offset + length])
    data = b"".join(parts)
    assert entry.size_bytes == len(data), entry.path
    return data


def relation_contents(repo: Repository, snapshot: Snapshot) -> dict[bytes, bytes]:
    """Return path -> content of all files of pages of a snapshot."""
    manifest = repo.manifest(snapshot)
    found = {}
    for entry in manifest.entries():
        if parse_relation_path(entry.path) is not None:
            found[entry.path] = content_of_entry(repo, manifest, entry)
    return found


def relation_files(folder: Path) -> dict[bytes, bytes]:
    """Return path -> content of all files of pages below a data folder; tablespaces are followed."""
    found = {}
    for top, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = os.fsencode(os.path.relpath(os.path.join(top, name), folder))
            if parse_relation_path(path) is not None:
                found[path] = Path(top, name).read_bytes()
    return found


def must_hold(repo: Repository, snapshot: Snapshot, server: Server) -> None:
    """Compare every file of pages with the server's own; it is quiet, and its buffers are on disk."""
    on_disk = relation_files(server.data)
    kept = relation_contents(repo, snapshot)
    unlogged = {path for path in on_disk if is_unlogged(path, on_disk)}
    assert on_disk.keys() - unlogged == kept.keys()
    assert len(kept) > 200
    for path in sorted(kept):
        expected, found = on_disk[path], kept[path]
        if path.endswith(b"_vm"):
            expected, found = _without_zero_pages(expected), _without_zero_pages(found)  # they mean nothing there
        assert expected == found, path


def _without_zero_pages(data: bytes) -> bytes:
    while data and not data[-PAGE_BYTES:].strip(b"\0"):
        data = data[:-PAGE_BYTES]
    return data


def is_unlogged(path: bytes, others: dict[bytes, bytes]) -> bool:
    """Say whether a file is of an unlogged relation, and not what it begins with: no backup has it."""
    file = parse_relation_path(path)
    assert file is not None  # the caller has looked
    folder = path.rpartition(b"/")[0]
    return file.fork != "init" and b"%s/%d_init" % (folder, file.relation) in others


@contextlib.contextmanager
def recovered(
    repo: Repository, source: str, target: str, servers: Servers, *, tablespaces: bool = False
) -> Iterator[Server]:
    """Restore a cluster to a moment, start it, and wait until it took the end of its recovery for its own.

    Args:
        repo: The repository.
        source: Name of the cluster.
        target: As `parse_target` reads it.
        servers: Of the same version.
        tablespaces: Whether it has some; they come beside the data folder.
    """
    server = servers.empty()
    try:
        plan = plan_cluster_restore(repo, source, parse_target(target))
        user = unprivileged()
        options = ClusterRestoreOptions(
            owner=(user.pw_uid, user.pw_gid),
            durable=False,
            workers=2,
            tablespaces_below=server.home / "spaces" if tablespaces else None,
        )
        restore_cluster(repo, plan, server.data, options=options)
        server.start()
        wait_for(lambda: not server.value("SELECT pg_is_in_recovery()"), "the end of the recovery")
        yield server
    finally:
        server.close()
