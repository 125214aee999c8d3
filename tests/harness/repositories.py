"""A repository in memory with known keys, and snapshots of nothing in it."""

from __future__ import annotations

from coffer.backends.base import Backend
from coffer.crypto.keyring import Keyring
from coffer.repository import lease
from coffer.repository.heads import HeadStore
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot, object_name, snapshot_id
from tests.harness.keyrings import make_unlocker
from tests.harness.manual_clock import ManualClock


def make_repository(backend: Backend, clock: ManualClock | None = None, heads: HeadStore | None = None) -> Repository:
    """Make an empty repository that `make_unlocker` opens."""
    return Repository.create(backend, make_unlocker(), clock=clock or ManualClock(), heads=heads)


def make_snapshot(keyring: Keyring, source: str = "home", sequence: int = 1, **changes: object) -> Snapshot:
    """Return a snapshot as a draft: of no entries, taken in one second."""
    name = object_name(keyring.ids.source_tag(source), sequence)
    started_ns = ManualClock().now_ns()
    parts = {
        "id": snapshot_id(keyring.repository_id, name),
        "name": name,
        "source": source,
        "sequence": sequence,
        "host": "sample",
        "started_ns": started_ns,
        "finished_ns": started_ns + 1_000_000_000,
        "manifest_root": bytes(32),
        "previous_sequence": 0,
        "previous_sha256": "",
        "parent_id": "",
        "paths": ("/srv",),
        "tags": ("a", "b"),
        "complete": True,
        "warnings_count": 0,
        "stats": {"files": 0, "size_bytes": 0},
    }
    return Snapshot(**(parts | changes))


def commit_snapshot(repo: Repository, clock: ManualClock, source: str = "home", **changes: object) -> Snapshot:
    """Commit a snapshot of nothing, as a run of its own that takes one second."""
    taken = lease.acquire(repo.backend, repo.keyring, repo.keyring.ids.source_tag(source), clock)
    times = {"started_ns": clock.now_ns(), "finished_ns": clock.now_ns() + 1_000_000_000}
    clock.advance(1)
    committed = repo.commit(taken, make_snapshot(repo.keyring, source, taken.sequence, **(times | changes)))
    lease.release(repo.backend, taken)
    return committed
