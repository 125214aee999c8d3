"""The frame of one backup, whatever its source: orphans adopted, a lease, a writer of chunks, and the commit."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coffer.errors import CofferError
from coffer.ids import ChunkId
from coffer.repository import checkpoint, lease
from coffer.repository.concern import Concern
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot, snapshot_id
from coffer.repository.writer import ChunkWriter


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How chunks are written.

    Attributes:
        level: Of zstd, 1 to 19; 0 stores everything as it is.
        workers: Threads that compress and seal; 0 for one per core.
        pack_size_bytes: Size of a pack [bytes].
        opens: Says whether a chunk that is known already (id, type) can be read; see `ChunkWriter`.
    """

    level: int = 3
    workers: int = 0
    pack_size_bytes: int = 64_000_000
    opens: Callable[[ChunkId, int], bool] | None = None


class WriteRun:
    """What a backup holds while it writes. Closed by `close`, however it ends.

    Attributes:
        repo: The repository.
        source: Name of the source.
        tag: Its tag in names of objects.
        started_ns: When the run began [ns since the Unix epoch].
        previous: The newest snapshot of the source, or None.
        store_is_damaged: Whether packs that the index names are missing: chunks in them are stored anew.
    """

    def __init__(self, repo: Repository, source: str) -> None:
        """Look at the store; nothing is written yet. Packs that no segment names are adopted."""
        self.repo, self.source = repo, source
        self.started_ns = repo.clock.now_ns()
        self.tag = repo.keyring.ids.source_tag(source)
        self._orphans, missing = repo.adopt_packs()
        for pack_id in missing:
            repo.index().forget_pack(pack_id)
        self.store_is_damaged = bool(missing)
        self.previous = repo.newest(source)
        self._lease: lease.Lease | None = None
        self._writer: ChunkWriter | None = None

    def begin(self, options: WriteOptions) -> None:
        """Take the lease, which fixes the snapshot's name, and start the workers.

        Raises:
            LeaseLostError: Other writers of the source won every time.
            BackendError, TransientError: The store failed; nothing was written.
        """
        repo = self.repo
        above = repo.remembered_number(self.tag)
        self._lease = lease.acquire(repo.backend, repo.keyring, self.tag, repo.clock, above=above)
        self._writer = ChunkWriter(
            repo.backend,
            repo.keyring,
            repo.index(),
            level=options.level,
            workers=options.workers,
            pack_size_bytes=options.pack_size_bytes,
            adopted=self._orphans,
            opens=options.opens,
        )

    @property
    def writer(self) -> ChunkWriter:
        """Takes the chunks."""
        assert self._writer is not None  # begin() came first
        return self._writer

    @property
    def lease(self) -> lease.Lease:
        """Fixes the name of the snapshot."""
        assert self._lease is not None  # begin() came first
        return self._lease

    def keep_lease(self) -> None:
        """Renew the lease where less than half of it is left; cheap, to be called often.

        Raises:
            BackendError, TransientError: The store failed.
        """
        if lease.needs_renewal(self.lease, self.repo.clock):
            lease.renew(self.repo.backend, self.repo.keyring, self.lease, self.repo.clock)

    def close(self) -> None:
        """Stop the workers and give the lease back. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self.repo.remember_unnamed(self._writer.unnamed)
            self._writer = None
        if self._lease is not None:
            lease.release(self.repo.backend, self._lease)
            self._lease = None

    def commit(
        self,
        root: ChunkId,
        *,
        stats: dict[str, int],
        paths: Sequence[str] = (),
        tags: tuple[str, ...] = (),
        host: str | None = None,
        warnings_count: int = 0,
        facts: dict[str, str | int] | None = None,
        parent: Snapshot | None = None,
    ) -> tuple[Snapshot, tuple[Concern, ...]]:
        """Put the snapshot, and remove what that makes needless. On return it is durable.

        Args:
            root: Chunk id of the manifest's root; durable, and all that it refers to.
            stats: Counts and sizes; those of the writer are added.
            paths: What was backed up.
            tags: The user's words.
            host: The machine's name where None.
            warnings_count: How much could not be saved as it should be; 0 makes the snapshot complete.
            facts: What the source says of itself.
            parent: The snapshot that was compared with, if any.

        Returns:
            (the snapshot as committed, what is wrong with the source's head).

        Raises:
            LeaseLostError: The writer was revoked; nothing was committed.
            ObjectCorruptError, SizeLimitError: A field that no reader takes; nothing was committed.
        """
        name = self.lease.snapshot_name
        draft = Snapshot(
            id=snapshot_id(self.repo.id, name),
            name=name,
            source=self.source,
            sequence=self.lease.sequence,
            host=host or socket.gethostname(),
            started_ns=self.started_ns,
            finished_ns=self.repo.clock.now_ns(),
            manifest_root=root,
            previous_sequence=0,
            previous_sha256="",
            parent_id=parent.id if parent is not None else "",
            paths=tuple(paths),
            tags=tags,
            complete=warnings_count == 0,
            warnings_count=warnings_count,
            stats={**stats, **self._written()},
            facts=facts or {},
        )
        concerns: list[Concern] = []
        committed = self.repo.commit(self.lease, draft, concerns=concerns)
        self._tidy()
        return committed, tuple(concerns)

    def _written(self) -> dict[str, int]:
        written = self.writer.stats
        return {
            "chunks_new": written.chunks_new,
            "chunks_known": written.chunks_known,
            "raw_bytes_new": written.raw_bytes_new,
            "stored_bytes": written.stored_bytes,
            "packs_new": written.packs,
        }

    def _tidy(self) -> None:
        """The backup is whole by now: what fails here is left to the next run."""
        with contextlib.suppress(CofferError):
            checkpoint.remove_until(self.repo.backend, self.tag, self.started_ns)
        with contextlib.suppress(CofferError):
            lease.sweep(self.repo.backend, self.repo.keyring, self.tag, self.repo.clock)
