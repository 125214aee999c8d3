"""Prove that a snapshot of a cluster gives the cluster back: restore it, start it, and compare it with the original.

Nothing of it touches the original or the repository. What was restored is removed at the end, whatever the end is.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg2

from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import CofferError, InterruptedRunError, ObjectCorruptError, PermanentError, RestoreIncompleteError
from coffer.errors_postgres import RestorePointError, ScratchServerError, WalConflictError, WalGapError
from coffer.postgres.facts import CLUSTER_PATH
from coffer.postgres.proof import Proof
from coffer.postgres.record import MAX_RECORD_BYTES, ClusterRecord
from coffer.progress import Progress
from coffer.recovery.content_check import compare_content
from coffer.recovery.drill_report import DrillLog, DrillOptions, DrillReport, words_of
from coffer.recovery.file_check import check_files
from coffer.recovery.scratch_server import ScratchServer, ServerOptions, server_programs
from coffer.recovery.scratch_space import ScratchSpace
from coffer.recovery.structure_check import check_structure
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster.content import read_small
from coffer.restore.cluster.execute import restore_cluster
from coffer.restore.cluster.plan import ClusterPlan, plan_cluster_restore
from coffer.restore.cluster.spec import ClusterRestoreOptions
from coffer.restore.cluster.target import RecoveryTarget, TargetKind

_SLACK_BYTES = 256 << 20  # what a server writes of its own: WAL, logs, a new timeline


def drill_cluster(
    repo: Repository,
    source: str,
    *,
    snapshot: str | None = None,
    options: DrillOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> DrillReport:
    """Restore a snapshot into a scratch folder and prove it.

    1. Restore the files and the WAL up to the moment of the snapshot's proof, or to its own end where it has none.
    2. Compare size and checksum of every file with the server's manifest, and every page with its own checksum.
    3. Start a real server of the same version, which recovers to that moment.
    4. Compare row count and digest of each table with those of the original.
    5. Check tables and indexes with amcheck.

    The server is stopped and the folder removed before it returns; if this process dies, by a watchdog.

    Args:
        repo: The repository.
        source: Name of the cluster.
        snapshot: The one to prove, as `Repository.resolve` takes it; the cluster's newest where None.
        options: Where and how.
        progress: Counters to keep up to date.
        stop: Once set, the run ends.
        clock: For durations and limits.

    Returns:
        The report; damage is in its findings. A cluster that cannot be restored or started is damage.

    Raises:
        SnapshotNotFoundError, UsageError, RestorePointError: Nothing to prove: no such snapshot, or WAL that it needs
            itself is not in the repository.
        RestoreSpaceError: The scratch folder is too small; nothing was restored.
        ScratchServerError: This machine cannot run a server of that version.
        TransientError: The store does not answer, or `stop` was set.
    """
    with _Drill(repo, source, options or DrillOptions(), progress or Progress(), stop, clock) as drill:
        return drill.run(snapshot)


class _Drill:
    """One drill: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        source: str,
        options: DrillOptions,
        progress: Progress,
        stop: threading.Event | None,
        clock: Clock,
    ) -> None:
        self.repo, self.source, self.options, self.progress = repo, source, options, progress
        self.stop = stop or threading.Event()
        self.clock = clock
        self.notes = DrillLog(clock)
        self.space: ScratchSpace | None = None

    def __enter__(self) -> _Drill:
        return self

    def __exit__(self, *_: object) -> None:
        if self.space is not None:
            self.space.close()

    def run(self, name: str | None) -> DrillReport:
        """Do it all; see `drill_cluster`."""
        snapshot = self.repo.resolve(name or f"latest:{self.source}")
        proof = self._proof(snapshot)
        plan = self._plan(snapshot, proof)
        server_programs(plan.facts.major)  # before hours of restoring
        self.space = space = ScratchSpace(self.options.scratch or Path(tempfile.gettempdir()), self.clock)
        space.require_room(snapshot.stats.get("size_bytes", 0) + plan.wal_bytes + _SLACK_BYTES)
        self.notes.count("size_bytes", snapshot.stats.get("size_bytes", 0))
        self.notes.count("wal_bytes", plan.wal_bytes)
        if self._restore(plan, space):
            self._check_files(plan, space)
            server = self._start(plan, space, proof)
            if server is not None:
                self._compare(server, plan, proof)
        return self.notes.close(self.source, snapshot.id, plan.stop.why)

    # ----------------------------------------------------------------------------------------------- before

    def _proof(self, snapshot: Snapshot) -> Proof | None:
        """Return what the snapshot keeps for comparing; one that is damaged is a finding."""
        try:
            content = read_small(self.repo, self.repo.manifest(snapshot), CLUSTER_PATH, MAX_RECORD_BYTES)
            kept = None if content is None else ClusterRecord.decode(content).proof
            proof = None if kept is None else Proof.parse(kept)
        except ObjectCorruptError as error:
            self.notes.damage("no-proof", words_of(error), file=CLUSTER_PATH.decode())
            return None
        if proof is None:
            self.notes.hint(
                "no-proof", f"snapshot {snapshot.id} has no digests of its content: nothing to compare with"
            )
        elif not proof.exact:
            self.notes.hint(
                "moment-passed",
                f"snapshot {snapshot.id}: its digests are of no exact moment, as too much was written meanwhile; "
                "tables that were written to may differ",
            )
        return proof

    def _plan(self, snapshot: Snapshot, proof: Proof | None) -> ClusterPlan:
        """Return how to get to the moment of the proof, or to the snapshot's own end where that cannot be."""
        if proof is not None:
            target = RecoveryTarget(TargetKind.LSN, str(proof.lsn), proof.timeline, inclusive=False)
            try:
                return plan_cluster_restore(self.repo, self.source, target, snapshot=snapshot.id, stop=self.stop)
            except (RestorePointError, WalGapError, WalConflictError) as error:
                self.notes.damage("recovery", f"the moment of the proof, {proof.lsn}: {words_of(error)}")
        immediate = RecoveryTarget(TargetKind.IMMEDIATE)
        return plan_cluster_restore(self.repo, self.source, immediate, snapshot=snapshot.id, stop=self.stop)

    # ----------------------------------------------------------------------------------------------- steps

    def _restore(self, plan: ClusterPlan, space: ScratchSpace) -> bool:
        """Restore; return whether there is something to start."""
        options = ClusterRestoreOptions(
            tablespaces_below=space.tablespaces,
            durable=False,
            owner=space.owner,
            workers=self.options.workers,
            wal_limit_bytes=max(plan.wal_bytes, 1),
        )
        with self.notes.step("restore"):
            try:
                restore_cluster(self.repo, plan, space.data, options=options, progress=self.progress, stop=self.stop)
            except RestoreIncompleteError as error:
                names = [str(name) for name in error.details.get("failures", ())]
                for name in names or [""]:
                    self.notes.damage("file-missing", f"{name}: {words_of(error)}", file=name)
                return False
            except PermanentError as error:
                self.notes.damage(error.code, words_of(error))
                return False
        return True

    def _check_files(self, plan: ClusterPlan, space: ScratchSpace) -> None:
        self.progress.phase = "checking files"
        with self.notes.step("check files"):
            check_files(
                self.repo,
                plan.snapshot,
                plan.facts,
                space.data,
                self.notes,
                workers=self.options.workers,
                read_pages=self.options.read_pages,
                stop=self.stop,
            )

    def _start(self, plan: ClusterPlan, space: ScratchSpace, proof: Proof | None) -> ScratchServer | None:
        """Start the server; None where it does not recover, which is a finding."""
        self.progress.phase = "recovering"
        how = ServerOptions(
            superusers=() if proof is None else (proof.superuser,),
            recorded=plan.record.settings,
            start_timeout_s=self.options.start_timeout_s,
        )
        with self.notes.step("recover"):
            server = ScratchServer(space, how, clock=self.clock, stop=self.stop)
            try:
                server.start()
            except ScratchServerError as error:
                self.notes.damage("recovery", words_of(error))
                return None
        return server

    def _compare(self, server: ScratchServer, plan: ClusterPlan, proof: Proof | None) -> None:
        options = self.options
        if proof is not None and plan.target.kind is TargetKind.LSN:
            self.progress.phase = "comparing"
            self._ask("compare content", partial(compare_content, server, proof, self.notes, stop=self.stop))
        if options.structure:
            self.progress.phase = "checking structure"
            check = partial(
                check_structure,
                server,
                self.notes,
                heapallindexed=options.heapallindexed,
                budget_s=options.budget_s,
                clock=self.clock,
                stop=self.stop,
            )
            self._ask("check structure", check)
        self._ask("stop", server.stop_server)

    def _ask(self, step: str, question: Callable[[], None]) -> None:
        """Do a step with the running server; that it fails meanwhile is a finding."""
        with self.notes.step(step):
            try:
                question()
            except InterruptedRunError:
                raise
            except (CofferError, psycopg2.Error) as error:
                self.notes.damage("recovery", f"the restored server failed: {words_of(error)}")
