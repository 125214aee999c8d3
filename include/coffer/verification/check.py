"""Check: follow every reference of a repository, without reading the files' content."""

from __future__ import annotations

import threading
from collections.abc import Callable

from coffer.crypto.keyring import CHUNK_ID, MAX_OBJECT_BYTES, ROOT, SIGNING, key_object_name, parse_wrapped_key
from coffer.errors import (
    ChunkMissingError,
    InterruptedRunError,
    KeyMissingError,
    ObjectCorruptError,
    ObjectNotFoundError,
)
from coffer.progress import Progress
from coffer.repository import checkpoint, lease, settings
from coffer.repository.objects import read_whole
from coffer.repository.reader import ChunkReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import object_name
from coffer.verification.chain import SourceChain, judge_chains, load_chains
from coffer.verification.damage import Damage
from coffer.verification.findings import DAMAGE, CheckReport, Finding, FindingLog
from coffer.verification.inventory import Inventory, take_inventory
from coffer.verification.placement import Placement, judge_index, place_chunks
from coffer.verification.references import ReferenceWalk
from coffer.verification.wal import WalExamination

ReadPacks = Callable[[Placement, FindingLog], Damage]


def check(repo: Repository, *, progress: Progress | None = None, stop: threading.Event | None = None) -> CheckReport:
    """Check a repository's structure: every object is known and authentic, and every reference resolves.

    Read are all objects but packs and WAL, of packs the manifests, and of WAL its heads; so flipped bits in files'
    content are not seen: see `verify`. One damaged object never stops it. Nothing is written, no lock is taken, and
    backups may run meanwhile. Memory: the index, 16 bytes for each distinct block of a manifest, and the findings,
    which are bounded.

    Args:
        repo: The repository. Its own index and caches are neither used nor changed.
        progress: Counters to keep up to date; `files_done` counts entries.
        stop: Once set, the check ends.

    Raises:
        InterruptedRunError: `stop` was set.
        TransientError, BackendLocationError: The store did not answer, or is gone: nothing is known of the rest.
    """
    findings, counts = Examination(repo, progress or Progress(), stop).run()
    return CheckReport(findings, counts)


class Examination:
    """One check: its steps in order. `verify` adds the reading of the packs."""

    def __init__(self, repo: Repository, progress: Progress, stop: threading.Event | None) -> None:
        self.repo, self.progress = repo, progress
        self._stop = stop
        self._notes = FindingLog()

    def run(
        self, read_packs: ReadPacks | None = None, *, wal_workers: int = 0
    ) -> tuple[tuple[Finding, ...], dict[str, int]]:
        """Return (findings, counts); see `check`.

        Args:
            read_packs: Reads the content of all packs, logs what is wrong, and returns which frames are lost.
            wal_workers: Threads that read all saved WAL; 0: only its heads are opened.
        """
        repo, notes = self.repo, self._notes
        self.progress.phase = "checking"
        inventory = take_inventory(repo.backend, notes)
        self._check_settings()
        self._check_keys(inventory)
        chains = load_chains(repo, inventory, notes, self.tick)
        leased = self._check_leases(inventory)
        heads = repo.heads.heads(repo.id) if repo.heads is not None else {}
        judge_chains(chains, heads, leased, notes)
        placement = place_chunks(repo.backend, repo.keyring, inventory, notes, self.tick)
        self._check_checkpoints(inventory, placement)
        damage = Damage() if read_packs is None else read_packs(placement, notes)
        wal = WalExamination(repo, notes, self.tick, workers=wal_workers)
        wal.examine(inventory.wal, chains)
        walk = self._walk(chains, placement, damage)
        judge_index(placement, walk.needed, notes)
        findings, found = notes.close()
        counts = {
            "objects": inventory.count,
            "size_bytes": inventory.size_bytes,
            "packs": len(inventory.packs),
            "segments": len(inventory.segments),
            "chunks": len(placement.index),
            "snapshots": sum(len(chain.snapshots) for chain in chains.values()),
            "blocks": walk.blocks,
            "entries": walk.entries,
            "files": walk.files,
            "wal_ranges": wal.ranges,
            **({"wal_read_bytes": wal.read_bytes} if wal.read_bytes else {}),
            **found,
        }
        return findings, counts

    def tick(self, *, abandoned: bool = False) -> None:
        """End the run if it was asked to, or if another thread gave it up.

        Raises:
            InterruptedRunError: It was.
        """
        if abandoned or (self._stop is not None and self._stop.is_set()):
            raise InterruptedRunError(
                f"{self.repo.backend.url}: stopped by request",
                hint="Nothing was changed. Run it again: it starts from the beginning.",
            )

    def _walk(self, chains: dict[str, SourceChain], placement: Placement, damage: Damage) -> ReferenceWalk:
        self.progress.phase = "checking snapshots"
        reader = ChunkReader(self.repo.backend, self.repo.keyring, placement.index)
        walk = ReferenceWalk(reader, placement, damage, self._notes, self.tick)
        snapshots = [snapshot for chain in chains.values() for snapshot in chain.snapshots.values()]
        for snapshot in sorted(snapshots, key=lambda s: (s.started_ns, s.name)):
            self.progress.current = f"{snapshot.source} {snapshot.id}".encode(errors="backslashreplace")
            walk.visit(snapshot)
            self.progress.files_done = walk.entries
        return walk

    # ----------------------------------------------------------------------------------------------- small objects

    def _check_settings(self) -> None:
        """coffer.json must still be what the repository was opened with: the wrapped keys are bound to it."""
        try:
            altered = settings.read_settings(self.repo.backend).raw != self.repo.settings.raw
        except DAMAGE as error:
            self._notes.damage(settings.NAME, error)
            return
        if altered:
            text = f"{settings.NAME}: was altered; no key opens with it"
            self._notes.error(settings.NAME, ObjectCorruptError.code, text)

    def _check_keys(self, inventory: Inventory) -> None:
        """Look for every key that is in use. What a wrap holds was proved when the repository was opened."""
        found = set()
        for name, size in sorted(inventory.keys.items()):
            try:
                found.add(parse_wrapped_key(read_whole(self.repo.backend, name, MAX_OBJECT_BYTES, size), name))
            except DAMAGE as error:
                self._notes.damage(name, error)
        for kind, number in (*((ROOT, epoch) for epoch in self.repo.keyring.roots), (CHUNK_ID, 0), (SIGNING, 0)):
            name = key_object_name(kind, number, 1)
            if (kind, number) not in found and name not in self._notes:
                self._notes.error(name, KeyMissingError.code, f"{name}: no object holds this key any more")

    def _check_leases(self, inventory: Inventory) -> set[tuple[str, int]]:
        """Read the leases; return (source tag, number) of each."""
        leased: set[tuple[str, int]] = set()
        newest: dict[str, tuple[str, int]] = {}  # the snapshot's name -> (the lease's name, its deadline)
        for name in sorted(inventory.leases):
            tag, number, _ = lease.parse_name(name)
            leased.add((tag, number))
            try:
                newest[object_name(tag, number)] = name, lease.deadline_ns(self.repo.backend, self.repo.keyring, name)
            except ObjectNotFoundError:
                continue  # released meanwhile
            except DAMAGE as error:
                self._notes.damage(name, error)
        for snapshot_name, (name, deadline_ns) in newest.items():
            if snapshot_name in inventory.snapshots:
                self._notes.hint(name, "stale-lease", f"{name}: its run has ended; the next backup removes it")
            elif deadline_ns < self.repo.clock.now_ns():
                self._notes.hint(name, "stale-lease", f"{name}: past its deadline; the next backup revokes its run")
        return leased

    def _check_checkpoints(self, inventory: Inventory, placement: Placement) -> None:
        """A checkpoint only saves work, so a damaged one is a hint."""
        for name, size in sorted(inventory.checkpoints.items()):
            try:
                root = checkpoint.read(self.repo.backend, self.repo.keyring, name, size).manifest_root
            except ObjectNotFoundError:
                continue  # its run was committed meanwhile
            except DAMAGE as error:
                self._notes.hint(name, error.code, f"{error.message}; the next backup starts without it")
                continue
            if root not in placement.index:
                text = f"{name}: its manifest is missing; the next backup does not use it"
                self._notes.hint(name, ChunkMissingError.code, text)
