"""The repository as a whole: made, opened, listed, read, and committed to."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from coffer.backends.base import Backend, ObjectInfo
from coffer.chunking.cutter import ChunkParams
from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import Unlocker
from coffer.crypto.keyring import Keyring
from coffer.errors import (
    CofferError,
    LeaseLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    RepositoryExistsError,
)
from coffer.ids import ChunkId, PackId
from coffer.repository import keys, resolution, snapshot
from coffer.repository.concern import Concern, lost_head
from coffer.repository.heads import Head, HeadStore
from coffer.repository.index import ChunkIndex, load_index
from coffer.repository.lease import Lease
from coffer.repository.manifest import ManifestReader
from coffer.repository.objects import read_whole
from coffer.repository.pack import read_table
from coffer.repository.reader import ChunkReader
from coffer.repository.settings import NAME as SETTINGS_NAME
from coffer.repository.settings import RepositorySettings, new_settings, read_settings
from coffer.repository.snapshot import Snapshot

PACKS_PREFIX = "packs/"


class Repository:
    """An open repository. Thread-safe for reading; a run writes through one `ChunkWriter`.

    One object serves one backup at a time; backups that run at the same time open the repository once each, in one
    process or in several. No error comes otherwise. The two would share the index: one finds chunks in packs of the
    other that no index segment names yet, so its snapshot may stand before the segment does (invariant I2). If the
    other then dies, readers look those packs up themselves and `check` says "index-incomplete", until a backup adopts
    them.
    """

    def __init__(
        self, backend: Backend, settings: RepositorySettings, keyring: Keyring, heads: HeadStore | None, clock: Clock
    ) -> None:
        """Use `create` or `open`."""
        self.backend = backend
        self.settings = settings
        self.keyring = keyring
        self.heads = heads
        self.clock = clock
        self._index: ChunkIndex | None = None
        self._reader: ChunkReader | None = None
        self._unnamed: dict[PackId, bytes] = {}  # packs that the index knows and no segment names

    @classmethod
    def create(
        cls,
        backend: Backend,
        unlocker: Unlocker,
        *,
        chunking: ChunkParams | None = None,
        argon2: Argon2Params | None = None,
        heads: HeadStore | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Repository:
        """Make a new repository; on return it is durable. coffer.json is put last: a killed init leaves no repository.

        Raises:
            RepositoryExistsError: There is one, or the remains of an init; nothing was changed.
        """
        if next(iter(backend.list("keys/")), None) is not None or _exists(backend, SETTINGS_NAME):
            raise RepositoryExistsError(
                f"{backend.url}: holds a repository, or the remains of an unfinished init",
                hint="Choose another location. If an init was killed here and nothing was backed up, empty the folder.",
            )
        settings = new_settings(unlocker.kind, chunking or ChunkParams(), argon2 or Argon2Params(), clock)
        keyring = keys.create_keys(backend, settings, unlocker)
        backend.put(SETTINGS_NAME, [settings.raw])
        return cls(backend, settings, keyring, heads, clock)

    @classmethod
    def open(
        cls, backend: Backend, unlocker: Unlocker, *, heads: HeadStore | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> Repository:
        """Open a repository: reads coffer.json and the wrapped keys, nothing else.

        Raises:
            NotARepositoryError, FormatVersionError, WrongKeyError, KeyMissingError, ObjectCorruptError: It cannot be
                opened.
        """
        settings = read_settings(backend)
        keyring = keys.open_keys(backend, settings, unlocker)
        return cls(backend, settings, keyring, heads, clock)

    @property
    def id(self) -> bytes:
        """The repository's id [16 bytes]."""
        return self.settings.repository_id

    def index(self) -> ChunkIndex:
        """Return the chunk index; read from the store on first use.

        Where a segment is damaged, the packs that no other names are read instead (invariant I8).
        """
        if self._index is None:
            self._index, damages = load_index(self.backend, self.keyring)
            if damages:
                self.adopt_packs()
        return self._index

    def reader(self) -> ChunkReader:
        """Return the reader of chunks."""
        if self._reader is None:
            self._reader = ChunkReader(self.backend, self.keyring, self.index(), rescue=self.adopt_packs)
        return self._reader

    def manifest(self, of: Snapshot) -> ManifestReader:
        """Return the reader of a snapshot's manifest; reads its root."""
        return ManifestReader(self.reader(), ChunkId(of.manifest_root))

    def close(self) -> None:
        """Close the backend; idempotent."""
        self.backend.close()

    # ----------------------------------------------------------------------------------------------- snapshots

    def snapshots(self, source: str | None = None, *, damages: list[CofferError] | None = None) -> list[Snapshot]:
        """Return the snapshots, of one source or of all, oldest first.

        Args:
            source: Its name; None for all.
            damages: Takes the errors of those that are damaged, so that the others can be shown and restored.

        Raises:
            ObjectCorruptError, SignatureError: One is damaged, and `damages` is not given.
        """
        prefix = snapshot.PREFIX
        if source is not None:
            prefix += self.keyring.ids.source_tag(source) + "-"
        found: list[Snapshot] = []
        for info in self._snapshot_infos(prefix):
            try:
                loaded = self.load_snapshot(info.name, info.size_bytes)
            except resolution.DAMAGE as error:
                if damages is None:
                    raise
                damages.append(error)
                continue
            if loaded is not None:
                found.append(loaded)
        return sorted(found, key=lambda s: (s.started_ns, s.name))

    def _snapshot_infos(self, prefix: str) -> list[ObjectInfo]:
        """List the objects of snapshots and marks; a stray file among them is no snapshot."""
        return [info for info in self.backend.list(prefix) if snapshot.is_name(info.name)]

    def load_snapshot(self, name: str, size_bytes: int | None = None) -> Snapshot | None:
        """Return the snapshot at an object name, or None where the mark of a revoked writer stands.

        Args:
            name: The object.
            size_bytes: Its size as a listing told it [bytes]; asked for where omitted.

        Raises:
            ObjectCorruptError, SignatureError, SizeLimitError: It is damaged, or a false mark hides it.
        """
        data = read_whole(self.backend, name, snapshot.MAX_OBJECT_BYTES, size_bytes)
        if snapshot.is_revoked(self.keyring, name, data):
            return None
        return snapshot.decode_snapshot(self.keyring, name, data)

    def newest(self, source: str, *, below: int | None = None) -> Snapshot | None:
        """Return the newest snapshot of a source, or the newest with a sequence number under `below`.

        One that is damaged is passed over: it must not keep the source from being backed up for ever after. `check`
        names it, and the gap in the chain that it leaves.
        """
        tag = self.keyring.ids.source_tag(source)
        for info in reversed(self._snapshot_infos(f"{snapshot.PREFIX}{tag}-")):
            if below is not None and snapshot.parse_name(info.name)[1] >= below:
                continue
            found = None
            with contextlib.suppress(*resolution.DAMAGE):
                found = self.load_snapshot(info.name, info.size_bytes)
            if found is not None:
                return found
        return None

    def resolve(self, name: str, *, concerns: list[Concern] | None = None) -> Snapshot:
        """Return the snapshot that a user names: an id's prefix, latest, latest:SOURCE, latest:SOURCE@2026-11-01.

        A time means the newest snapshot finished at or before it; a date alone means the end of that day (UTC).

        Args:
            name: As the user gave it.
            concerns: Takes what is wrong with the snapshots that "latest" looks at: damaged ones that were passed over,
                and newer ones that this machine remembers and the store does not have.

        Raises:
            SnapshotNotFoundError, SnapshotAmbiguousError: None fits, or several.
            ObjectCorruptError: The one that is meant is damaged, or a damaged one may be it.
        """
        wanted = resolution.parse_latest(name)
        if wanted is None:
            infos = self._snapshot_infos(snapshot.PREFIX)
            return resolution.by_prefix(self.id, infos, self.load_snapshot, name)
        met: list[Concern] = [] if concerns is None else concerns
        met += self.lost_heads(wanted.source)
        tag = "" if wanted.source is None else self.keyring.ids.source_tag(wanted.source) + "-"
        infos = self._snapshot_infos(snapshot.PREFIX + tag)
        return resolution.newest_of(infos, self.load_snapshot, name, wanted, met)

    def lost_heads(self, source: str | None = None) -> list[Concern]:
        """Return a concern for each remembered head, of one source or of all, that the store has lost (I12).

        One that stands there damaged is not lost.
        """
        if self.heads is None:
            return []
        only = None if source is None else self.keyring.ids.source_tag(source)
        lost = []
        for tag, head in sorted(self.heads.heads(self.id).items()):
            name = snapshot.object_name(tag, head.sequence)
            if only not in (None, tag) or not snapshot.is_name(name):
                continue
            found = "the snapshot is missing"
            try:
                stored = self.load_snapshot(name)
            except ObjectNotFoundError:
                pass
            except resolution.DAMAGE:
                continue
            else:
                found = "another snapshot stands in its place"
                if stored is None:
                    found = "the mark of a revoked writer stands in its place"
                elif stored.sha256 == head.sha256:
                    continue
            lost.append(lost_head(name, found))
        return lost

    def remembered_number(self, source_tag: str) -> int:
        """Return the number of the source's remembered head: a new snapshot has a higher one. 0 where none is."""
        head = self.heads.heads(self.id).get(source_tag) if self.heads is not None else None
        return 0 if head is None else head.sequence

    # ----------------------------------------------------------------------------------------------- committing

    def commit(self, lease: Lease, draft: Snapshot, *, concerns: list[Concern] | None = None) -> Snapshot:
        """Put the snapshot: the one act that makes a backup exist (invariant I3).

        Args:
            lease: The writer's lease, which fixes the name.
            draft: The snapshot; its `previous_*` fields and `sha256` are filled in here.
            concerns: Takes what is wrong with the source's head; the snapshot is committed whatever it is.

        Returns:
            The snapshot as it is stored. On return it is durable, and remembered as the source's head outside the
            store. A remembered head that the store has lost stays: else its loss would be forgotten (I12).

        Raises:
            LeaseLostError: The writer was revoked; nothing was committed.
            ObjectCorruptError, SizeLimitError: The draft has a field that no reader takes; nothing was committed.
        """
        lost = self.lost_heads(draft.source)
        if concerns is not None:
            concerns += lost
        before = self.newest(draft.source, below=lease.sequence)
        if before is not None:
            draft = replace(draft, previous_sequence=before.sequence, previous_sha256=before.sha256)
        started_ns, finished_ns = snapshot.storable_ns(draft.started_ns), snapshot.storable_ns(draft.finished_ns)
        draft = replace(draft, started_ns=started_ns, finished_ns=finished_ns)
        data = snapshot.encode_snapshot(self.keyring, draft)
        snapshot.decode_snapshot(self.keyring, draft.name, data)  # what nobody could read must not be a success
        try:
            self.backend.put(draft.name, [data])
        except ObjectExistsError:
            raise LeaseLostError(f"{draft.name}: the writer was revoked; nothing was committed") from None
        committed = replace(draft, sha256=hashlib.sha256(data).hexdigest())
        if self.heads is not None and not lost:
            self.heads.remember(self.id, lease.source_tag, Head(committed.sequence, committed.sha256))
        return committed

    def compare_packs(self) -> tuple[list[tuple[PackId, bytes]], list[PackId]]:
        """Compare the packs in the store with the index.

        Returns:
            (orphans, missing): orphans are (pack id, plain table) of packs that no segment names, the work of writers
            that died; those that cannot be read are passed over: nothing refers to them, and `check` reports them.
            Missing are packs that the index names and the store does not have, or has of another size than their
            tables say: a file system may truncate what was durable once, and its chunks must be stored anew.
        """
        sizes = self.index().pack_sizes()
        known = sizes.keys() - self._unnamed.keys()
        there: set[PackId] = set()
        orphans = []
        for info in self.backend.list(PACKS_PREFIX):
            pack_id = _pack_id(info.name)
            if pack_id is None:
                continue
            if pack_id in known:
                if sizes[pack_id] == info.size_bytes:
                    there.add(pack_id)
            else:
                with contextlib.suppress(CofferError):
                    table = self._unnamed.get(pack_id)
                    if table is None:
                        table = read_table(self.backend, self.keyring, pack_id, info.size_bytes)
                    orphans.append((pack_id, table))
        return orphans, sorted(known - there)

    def adopt_packs(self) -> tuple[list[tuple[PackId, bytes]], list[PackId]]:
        """Take into the index the packs that no segment names: their own tables say the same. See `compare_packs`."""
        orphans, missing = self.compare_packs()
        for pack_id, table in orphans:
            self.index().add_table(pack_id, table)
            self._unnamed[pack_id] = table
        return orphans, missing

    def remember_unnamed(self, packs: Sequence[tuple[PackId, bytes]]) -> None:
        """Take note of the packs (id, plain table) that a run left without a segment; none if it succeeded.

        The index knows them, and the next run on this object would refer to their chunks: it must adopt them first, or
        no segment would ever name them (invariant I2).
        """
        self._unnamed = dict(packs)


def _pack_id(name: str) -> PackId | None:
    match = re.fullmatch(r"packs/[0-9a-f]{2}/([0-9a-f]{64})", name)
    return PackId(bytes.fromhex(match[1])) if match else None


def _exists(backend: Backend, name: str) -> bool:
    try:
        backend.stat(name)
    except ObjectNotFoundError:
        return False
    return True
