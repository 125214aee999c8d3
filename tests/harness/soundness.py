"""Say whether a repository is sound, by reading all of it as a new process would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coffer.backends.base import Backend
from coffer.repository.index import PREFIX as INDEX_PREFIX
from coffer.repository.index import read_segment
from coffer.repository.repository import PACKS_PREFIX, Repository
from coffer.repository.snapshot import Snapshot
from coffer.verification.check import check
from coffer.verification.findings import Severity
from tests.harness.snapshots import KEY, Tree, saved_tree


def assert_sound(backend: Backend, expected: Mapping[str, Tree], root: Path) -> list[Snapshot]:
    """Assert that every snapshot can be read whole, and that those named hold what they should.

    Args:
        backend: The store, without faults.
        expected: Object name of a snapshot → what it holds of `root`. Others may be there too.
        root: The folder that was backed up.

    Returns:
        The snapshots, oldest first.
    """
    repo = Repository.open(backend, KEY)
    errors = [finding for finding in check(repo).findings if finding.severity is Severity.ERROR]
    assert not errors, errors
    packs = {info.name.rpartition("/")[2] for info in backend.list(PACKS_PREFIX)}
    for info in backend.list(INDEX_PREFIX):
        named = {pack_id.hex() for pack_id, _ in read_segment(backend, repo.keyring, info.name, info.size_bytes)}
        assert named <= packs, f"{info.name} names packs that are not there"
    snapshots = repo.snapshots()
    names = {snapshot.name for snapshot in snapshots}
    assert set(expected) <= names, "a snapshot is gone"
    by_number = {(snapshot.source, snapshot.sequence): snapshot for snapshot in snapshots}
    for snapshot in snapshots:
        held = saved_tree(repo, snapshot, root)
        if snapshot.name in expected:
            assert expected[snapshot.name] == held, differing(expected[snapshot.name], held)
        if snapshot.previous_sequence:
            assert by_number[snapshot.source, snapshot.previous_sequence].sha256 == snapshot.previous_sha256
    return snapshots


def differing(expected: Tree, actual: Tree) -> list[bytes]:
    """Return the paths in which two trees differ."""
    return sorted(path for path in {*expected, *actual} if expected.get(path) != actual.get(path))
