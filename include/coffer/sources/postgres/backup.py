"""Back up a cluster: one base backup over the replication protocol, as one complete snapshot."""

from __future__ import annotations

import re
import stat
import threading
from dataclasses import dataclass
from typing import Any

from coffer.errors import CofferError, InterruptedRunError, UsageError
from coffer.errors_postgres import PostgresIncrementalRefusedError, PostgresSlotBusyError
from coffer.ids import ChunkId
from coffer.postgres.backup_manifest import ManifestFacts
from coffer.postgres.facts import CLUSTER_PATH, ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.proof import Proof
from coffer.postgres.record import MAX_CORRUPT_PAGES, ClusterRecord
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.repository.manifest import ManifestReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.drafts import ManifestDraft
from coffer.sources.assembly.result import BackupResult, SourceWarning
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.postgres.basebackup import BaseBackupOptions, BaseBackupResult, take_base_backup
from coffer.sources.postgres.cluster_sql import ClusterState, connect_for_lock, lock_cluster, read_state
from coffer.sources.postgres.clustertree import ClusterTree, make_row
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.content_digest import ProofOptions, take_proof
from coffer.sources.postgres.intake import Intake
from coffer.sources.postgres.native import NativeBase, require_base
from coffer.sources.postgres.pagefile import PageWriter
from coffer.sources.postgres.replication import ReplicationSession
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.stored import StoredCluster
from coffer.sources.postgres.wal_receiver import drain

# How long a backup waits at its end for whoever reads from the slot: 15 minutes, some pauses longer than a receiver
# takes to save what it has.
_WAL_PAUSE_S = 3.0
_WAL_ATTEMPTS = 300


@dataclass(frozen=True, slots=True)
class _Parent:
    """The snapshot that is compared with."""

    snapshot: Snapshot
    facts: ClusterFacts


@dataclass(slots=True)
class _Taken:
    """A base backup that arrived whole."""

    method: Method
    tree: ClusterTree
    pages: PageWriter
    bundler: Bundler
    intake: Intake
    manifest: ManifestFacts
    told: BaseBackupResult


def backup_cluster(
    repo: Repository,
    source: ClusterSource,
    *,
    options: ClusterOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> BackupResult:
    """Take one snapshot of a cluster.

    On return the snapshot is committed, and all WAL that it needs to become consistent is in the repository: it can be
    restored by itself. Safe to repeat. One backup of a cluster runs at a time. Damaged pages do not end the run: the
    snapshot is kept, incomplete, and names them.

    Args:
        repo: The repository.
        source: The cluster.
        options: How.
        progress: Counters to keep up to date.
        stop: Once set, the run ends; nothing is committed. What was stored is found by the next run.

    Raises:
        UsageError: The name is that of a source of another kind.
        PostgresBackupRunningError: Another backup of the cluster is running.
        PostgresSystemChangedError: Another cluster answers than the one that was backed up under this name.
        PostgresUnavailableError, PostgresError: As the server says; nothing was committed.
        InterruptedRunError: `stop` was set, or the deadline came.
        SourceFormatError: What arrived is not what the server declares.
        BackendError, TransientError: The store failed; packs put so far are found by the next run.
        LeaseLostError: The writer was revoked; nothing was committed.
    """
    run = _ClusterRun(repo, source, options or ClusterOptions(), progress or Progress(), stop or threading.Event())
    try:
        return run.execute()
    finally:
        run.close()


class _ClusterRun:
    """One backup: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        source: ClusterSource,
        options: ClusterOptions,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self.repo, self.source, self.options = repo, source, options
        self.progress, self.stop = progress, stop
        self.notes: list[SourceWarning] = []
        self.progress.phase = "connecting"
        self.lock = connect_for_lock(source.connection)
        try:
            self.sql = connect_sql(source.connection)
        except BaseException:
            self.lock.close()
            raise
        self.run: WriteRun | None = None

    def close(self) -> None:
        """Stop the workers, give the lease back, and close the connection: the lock ends with it."""
        try:
            if self.run is not None:
                self.run.close()
        finally:
            self.sql.close()
            self.lock.close()

    def execute(self) -> BackupResult:
        """Do it all; see `backup_cluster`."""
        label = self.source.connection.label
        lock_cluster(self.lock, label)
        state = read_state(self.sql, label)
        self.run = WriteRun(self.repo, self.source.name)
        parent = self._parent(state)
        system_id, segment_bytes = self._prepare_server(parent)
        options = self.options
        self.run.begin(WriteOptions(options.level, options.workers, options.pack_size_bytes))
        taken = self._take(parent, state)
        facts = self._facts(taken, state, system_id, segment_bytes)
        proof = self._prove(facts, parent)
        self._keep_record(taken, state, proof)
        self.progress.phase = "saving WAL"
        self._drain(facts, facts.end if proof is None else max(facts.end, proof.until))
        self.progress.phase = "committing"
        root = self._finish_manifest(taken)
        return self._commit(root, taken, facts, parent)

    # ----------------------------------------------------------------------------------------------- before

    def _parent(self, state: ClusterState) -> _Parent | None:
        """Return the newest snapshot of this cluster, if it can be compared with."""
        assert self.run is not None  # made before
        previous = self.run.previous
        if previous is None:
            return None
        facts = ClusterFacts.of(previous)
        if facts is None:
            raise UsageError(
                f"source {self.source.name!r}: its last snapshot is of no cluster",
                hint="Give the cluster a source name of its own.",
            )
        if facts.major != state.version // 10000:
            self._note("pg-version", f"the last snapshot is of PostgreSQL {facts.major}: nothing is compared with it")
            return None
        return _Parent(previous, facts)

    def _prepare_server(self, parent: _Parent | None) -> tuple[int, int]:
        """Make sure that it is the same cluster, and that WAL is kept from now on; return (system id, segment size)."""
        with ReplicationSession(self.source.connection) as session:
            identity = session.identify(None if parent is None else parent.facts.system_id)
            position = session.read_slot(self.source.slot)
            if position is not None and position.restart is None:
                session.drop_slot(self.source.slot)
                text = f"slot {self.source.slot} had lost its WAL: moments between the last saved WAL and now are lost"
                self._note("pg-slot-lost", text)
            session.create_slot(self.source.slot)
            return identity.system_id, session.wal_segment_bytes()

    # ----------------------------------------------------------------------------------------------- the stream

    def _take(self, parent: _Parent | None, state: ClusterState) -> _Taken:
        """Read the cluster by the method that was asked for, or by the next safer one where that is not possible."""
        method = self.options.method
        if method is not Method.FULL and parent is None:
            self._note("pg-incr-refused", "there is no snapshot to compare with: this one is full")
            method = Method.FULL
        if method is Method.NATIVE:
            try:
                assert parent is not None  # else it is full by now
                return self._read_native(parent, state)
            except PostgresIncrementalRefusedError as error:
                self._note(error.code, f"{error.message}: the pages are compared instead")
                method = Method.DELTA
        return self._read(method, parent)

    def _read_native(self, parent: _Parent, state: ClusterState) -> _Taken:
        """Read what changed since the parent, by the server's own account, which is looked over.

        Raises:
            PostgresIncrementalRefusedError: That is not possible, or what came is not all of it.
        """
        assert self.run is not None  # made before
        label, damaged = self.source.connection.label, self.run.store_is_damaged
        old = require_base(self._stored(parent), parent.facts, state, label, store_is_damaged=damaged)
        native = NativeBase(old, parent.facts, self.sql, label, self._check)
        with native.refusals():
            return self._read(Method.NATIVE, parent, native)

    def _read(self, method: Method, parent: _Parent | None, native: NativeBase | None = None) -> _Taken:
        assert self.run is not None  # made before
        repo, writer = self.repo, self.run.writer
        self.progress.phase = "backing up"
        if parent is not None:
            self.progress.files_total = parent.snapshot.stats.get("files", 0)
            self.progress.bytes_total = parent.snapshot.stats.get("size_bytes", 0)
        pages = PageWriter(writer, repo.keyring.ids, repo.index().__contains__)
        bundler = Bundler(writer, repo.settings.chunking)
        tree = ClusterTree(repo.keyring.ids, writer, pages)
        old = self._stored(parent) if method is Method.DELTA else None if native is None else native.old
        below_bytes = repo.settings.chunking.bundle_below_bytes
        intake = Intake(tree, pages, bundler, old, below_bytes, self.progress, self._check, native)
        asked = BaseBackupOptions(
            label=_label(self.source.name),
            fast_checkpoint=self.options.fast_checkpoint,
            max_rate_bytes_s=self.options.max_rate_bytes_s,
            incremental=native is not None,
        )
        base_manifest = None if native is None else native.manifest
        with ReplicationSession(self.source.connection) as session:
            told = take_base_backup(session, asked, intake, base_manifest=base_manifest, stop=self.stop)
        return _Taken(method, tree, pages, bundler, intake, intake.finish(), told)

    def _stored(self, parent: _Parent | None) -> StoredCluster | None:
        if parent is None:
            return None
        try:
            manifest = ManifestReader(self.repo.reader(), ChunkId(parent.snapshot.manifest_root))
        except CofferError as error:
            self._note(error.code, f"the last snapshot cannot be read ({error.message}): everything is stored anew")
            return None
        return StoredCluster(manifest, self.repo.reader())

    def _check(self) -> None:
        """Between two steps of a long run: keep the lease, and end where that was asked for."""
        assert self.run is not None  # made before
        self.run.keep_lease()
        if self.stop.is_set():
            raise _interrupted(self.source.name, "stopped by request")
        deadline_s = self.options.deadline_s
        if deadline_s is not None and self.repo.clock.monotonic_s() >= deadline_s:
            raise _interrupted(self.source.name, "the time given to it is over")

    # ----------------------------------------------------------------------------------------------- after

    def _facts(self, taken: _Taken, state: ClusterState, system_id: int, segment_bytes: int) -> ClusterFacts:
        first, last = taken.manifest.ranges[0], taken.manifest.ranges[-1]
        corrupt = len(taken.told.corrupt_pages)
        return ClusterFacts(
            system_id=system_id,
            version=state.version,
            method=taken.method,
            timeline=last.timeline,
            start=first.start,
            end=last.end,
            start_timeline=first.timeline,
            segment_bytes=segment_bytes,
            from_standby=state.is_standby,
            has_checksums=state.has_checksums,
            corrupt_pages=max(corrupt, 1) if taken.told.is_corrupt else 0,
        )

    def _prove(self, facts: ClusterFacts, parent: _Parent | None) -> Proof | None:
        """Take the digests of tables at a moment behind the backup's end, within the time given to it."""
        if self.options.proof_budget_s <= 0:
            return None
        self.progress.phase = "proving content"
        return take_proof(
            self.source.connection,
            after=facts.end,
            segment_bytes=facts.segment_bytes,
            options=ProofOptions(self.options.proof_budget_s, self.options.proof_tables),
            previous=self._previous_proof(parent),
            stop=self.stop,
        )

    def _previous_proof(self, parent: _Parent | None) -> dict[str, Any] | None:
        """Return what the last snapshot proved, so that other tables come first now."""
        old = self._stored(parent)
        if old is None:
            return None
        try:
            return ClusterRecord.decode(b"".join(old.read(CLUSTER_PATH))).proof
        except CofferError:
            return None

    def _keep_record(self, taken: _Taken, state: ClusterState, proof: Proof | None) -> None:
        pages = [(page.path, page.block) for page in taken.told.corrupt_pages]
        record = ClusterRecord(
            server_version=state.version_text,
            databases=state.databases,
            tablespaces=taken.intake.tablespaces,
            settings=state.settings,
            corrupt_pages=pages[:MAX_CORRUPT_PAGES],
            corrupt_pages_count=max(len(pages), int(taken.told.is_corrupt)),
            notices=list(taken.told.notices),
            proof=None if proof is None else proof.to_json(),
        )
        data = record.encode()
        taken.intake.add_small(CLUSTER_PATH, make_row(stat.S_IFREG | 0o600, 0, 0, len(data), 0), data)

    def _drain(self, facts: ClusterFacts, until: Lsn) -> None:
        """Bring all WAL that the backup and its proof need into the repository.

        Only one at a time can read from the slot. Where another does (the runs that save WAL every few minutes, or
        `coffer wal receive` all the time), a backup of hours is not given up for it: either the other saves what is
        needed, or it is our turn once it has gone.

        Raises:
            PostgresSlotBusyError: The other neither saves it nor goes.
        """
        begin = facts.start.segment_start(facts.segment_bytes)
        for attempts_left in reversed(range(_WAL_ATTEMPTS)):
            try:
                drain(
                    self.repo,
                    self.source.name,
                    self.source.connection,
                    slot=self.source.slot,
                    until=until,
                    from_=(facts.start_timeline, begin),
                    stop=self.stop,
                    progress=self.progress,
                )
            except PostgresSlotBusyError:
                if self._is_saved(facts, begin, until):
                    return
                if not attempts_left:
                    raise
                self.stop.wait(_WAL_PAUSE_S)
                self._check()
            else:
                return

    def _is_saved(self, facts: ClusterFacts, begin: Lsn, until: Lsn) -> bool:
        """Say whether another run saved the WAL from the backup's start on; False where a promotion lies between."""
        if facts.start_timeline != facts.timeline:
            return False
        archive = WalArchive(self.repo, self.source.name, system_id=facts.system_id)
        return archive.end_of(facts.timeline, begin) >= until

    def _finish_manifest(self, taken: _Taken) -> ChunkId:
        assert self.run is not None  # made before
        taken.bundler.close()
        draft = ManifestDraft(self.run.writer, taken.bundler)
        taken.tree.finish(draft)
        return draft.finish(self.repo.index(), None, self.run.lease.sequence)

    def _commit(self, root: ChunkId, taken: _Taken, facts: ClusterFacts, parent: _Parent | None) -> BackupResult:
        assert self.run is not None  # made before
        tree, counts = taken.tree, taken.pages.counts
        warnings = [
            SourceWarning(page.path.encode(), "pg-page-checksum", f"page {page.block} is damaged on the server")
            for page in taken.told.corrupt_pages
        ]
        committed, concerns = self.run.commit(
            root,
            stats={
                "files": tree.files,
                "directories": tree.directories,
                "others": 0,
                "entries": tree.files + tree.directories,
                "size_bytes": tree.size_bytes,
                "read_bytes": taken.intake.read_bytes,
                "pages_read": counts.read,
                "pages_changed": counts.changed,
            },
            tags=self.source.tags,
            host=self.options.host,
            warnings_count=facts.corrupt_pages,
            facts=facts.to_snapshot(),
            parent=parent.snapshot if parent is not None and taken.method is not Method.FULL else None,
        )
        return BackupResult(committed, committed.stats, (*warnings, *self.notes), concerns)

    def _note(self, code: str, message: str) -> None:
        self.notes.append(SourceWarning(b"", code, message))


def _interrupted(name: str, reason: str) -> InterruptedRunError:
    return InterruptedRunError(f"backup of {name!r}: {reason}", reason=reason)


def _label(name: str) -> str:
    """Return what stands in backup_label: the server takes printable ASCII only."""
    return "coffer " + re.sub(r"[^ -&(-~]", "_", name)[:200]
