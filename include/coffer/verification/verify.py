"""Verify: check, and read and authenticate every stored byte."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from coffer.ids import PackId, pack_name
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.verification.check import Examination
from coffer.verification.damage import Damage
from coffer.verification.findings import FindingLog, VerifyReport
from coffer.verification.packread import PackProver, PackVerdict
from coffer.verification.placement import Placement

# Each thread holds one read of some MiB, one frame and its plaintext. More threads than this would not make a disk
# faster, and would leave the memory that a run may take. [count]
_MAX_WORKERS = 8
_QUEUED_PER_WORKER = 2


def verify(
    repo: Repository,
    *,
    workers: int = 0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> VerifyReport:
    """Check a repository as `check` does, and read every byte of every pack and of all saved WAL once.

    What it proves at the time of reading: each pack's bytes are those of its name, every chunk opens under its key at
    its place, decompresses to its length, and has its id; so every file of every snapshot can be restored, but for what
    the findings name. A damaged pack is one finding, with the snapshots and the first paths that need what it lost. Of
    WAL: each range opens, and has its id; ranges that overlap hold the same bytes.

    Nothing is written, no lock is taken, and backups may run meanwhile. One damaged object never stops it. Memory: as
    `check`, and some 30 MiB for each thread.

    Args:
        repo: The repository. Its own index and caches are neither used nor changed.
        workers: Threads that read; 0 for one per core; 8 at most.
        progress: Counters to keep up to date; `bytes_done` of `bytes_total` are bytes of packs.
        stop: Once set, the run ends.

    Raises:
        InterruptedRunError: `stop` was set.
        TransientError, BackendLocationError: The store did not answer, or is gone: nothing is known of the rest.
    """
    shown = progress or Progress()
    examination = Examination(repo, shown, stop)
    threads = min(workers or os.cpu_count() or 1, _MAX_WORKERS)
    reading = _Reading(examination, repo, shown, threads)
    findings, counts = examination.run(reading.read_packs, wal_workers=threads)
    return VerifyReport(findings, counts | {"read_bytes": reading.read_bytes, "chunks_proved": reading.proved})


class _Reading:
    """The reading of all packs, on threads.

    Attributes:
        read_bytes: What was read of packs, once each [bytes].
        proved: How many frames were opened and hold the chunk that they should.
    """

    def __init__(self, examination: Examination, repo: Repository, progress: Progress, workers: int) -> None:
        self._examination, self._repo, self._progress, self._workers = examination, repo, progress, workers
        self._lock = threading.Lock()
        self._abandoned = threading.Event()
        self.read_bytes = self.proved = 0

    def read_packs(self, placement: Placement, notes: FindingLog) -> Damage:
        """Read all packs, the largest first, so that the threads end together; return what is lost."""
        progress, damage = self._progress, Damage()
        progress.phase, progress.bytes_total = "reading packs", sum(placement.sizes.values())
        prover = PackProver(self._repo.backend, self._repo.keyring, placement, self._count)
        with self._threads() as pool:
            for verdict in self._verdicts(pool, prover, placement):
                self.proved += verdict.proved
                if verdict.code:
                    notes.error(pack_name(verdict.pack_id), verdict.code, verdict.message)
                    damage.mark(verdict.pack_id, None if verdict.all_lost else verdict.lost)
        return damage

    def _verdicts(self, pool: ThreadPoolExecutor, prover: PackProver, placement: Placement) -> Iterator[PackVerdict]:
        """Yield verdicts as they come; a few packs wait for the threads, whatever their number."""
        packs = iter(sorted(placement.sizes.items(), key=_largest_first))
        waiting: set[Future[PackVerdict]] = set()
        for pack_id, size in packs:
            waiting.add(pool.submit(prover.prove, pack_id, size))
            if len(waiting) >= self._workers * _QUEUED_PER_WORKER:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in waiting)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Give threads that stop at their next read once the context is left by an error."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="coffer-verify")
        try:
            yield pool
        except BaseException:
            self._abandoned.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _count(self, read_bytes: int) -> None:
        """Take note of a read, from any thread.

        Raises:
            InterruptedRunError: The run was asked to stop.
        """
        with self._lock:
            self.read_bytes += read_bytes
            self._progress.bytes_done = self.read_bytes
        self._examination.tick(abandoned=self._abandoned.is_set())


def _largest_first(pack: tuple[PackId, int]) -> tuple[int, PackId]:
    return -pack[1], pack[0]
