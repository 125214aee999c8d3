"""The repository as a whole: made, opened, listed, read, and committed to."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from coffer.backends.base import Backend, ObjectInfo
from coffer.chunking.cutter import ChunkParams
from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import Unlocker
from coffer.crypto.keyring import Keyring
from coffer.errors import (
    CofferError,
    CryptoError,
    LeaseLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    RepositoryError,
    RepositoryExistsError,
    ShortReadError,
    SnapshotAmbiguousError,
    SnapshotNotFoundError,
)
from coffer.ids import ChunkId, PackId
from coffer.repository import keys, snapshot
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
_LATEST = re.compile(r"latest(?::(?P<source>[^@]+))?(?:@(?P<time>.+))?")


class Repository:
    """An open repository. Thread-safe for reading; a run writes through one `ChunkWriter`."""

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
            except (RepositoryError, CryptoError, ShortReadError) as error:
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
            with contextlib.suppress(RepositoryError, CryptoError, ShortReadError):
                found = self.load_snapshot(info.name, info.size_bytes)
            if found is not None:
                return found
        return None

    def resolve(self, name: str) -> Snapshot:
        """Return the snapshot that a user names: an id's prefix, latest, latest:SOURCE, latest:SOURCE@2026-11-01.

        A time means the newest snapshot finished at or before it; a date alone means the end of that day (UTC).

        Raises:
            SnapshotNotFoundError, SnapshotAmbiguousError: None fits, or several.
        """
        match = _LATEST.fullmatch(name)
        if match is None:
            return self._by_prefix(name)
        source, moment = match["source"], match["time"]
        candidates = self.snapshots(source)
        if moment is not None:
            limit_ns = _parse_moment_ns(moment)
            candidates = [s for s in candidates if s.finished_ns <= limit_ns]
        if not candidates:
            of = f" of source {source!r}" if source else ""
            until = f" until {moment}" if moment else ""
            raise SnapshotNotFoundError(f"snapshot {name!r}: there is none{of}{until}")
        return max(candidates, key=lambda s: (s.finished_ns, s.sequence))

    def _by_prefix(self, prefix: str) -> Snapshot:
        if not re.fullmatch(r"[0-9a-f]{1,16}", prefix):
            raise SnapshotNotFoundError(
                f"snapshot {prefix!r}: not an id (hex digits), nor latest, latest:SOURCE or latest:SOURCE@DATE"
            )
        names = [info.name for info in self._snapshot_infos(snapshot.PREFIX)]
        fitting = [name for name in names if snapshot.snapshot_id(self.id, name).startswith(prefix)]
        found = [s for s in map(self.load_snapshot, fitting) if s is not None]
        if not found:
            raise SnapshotNotFoundError(f"snapshot {prefix!r}: there is none")
        if len(found) > 1:
            ids = ", ".join(s.id for s in found[:5])
            raise SnapshotAmbiguousError(f"snapshot {prefix!r}: fits {len(found)} of them ({ids})")
        return found[0]

    # ----------------------------------------------------------------------------------------------- committing

    def commit(self, lease: Lease, draft: Snapshot) -> Snapshot:
        """Put the snapshot: the one act that makes a backup exist (invariant I3).

        Args:
            lease: The writer's lease, which fixes the name.
            draft: The snapshot; its `previous_*` fields and `sha256` are filled in here.

        Returns:
            The snapshot as it is stored. On return it is durable, and remembered as the source's head outside the
            store.

        Raises:
            LeaseLostError: The writer was revoked; nothing was committed.
        """
        before = self.newest(draft.source, below=lease.sequence)
        if before is not None:
            draft = replace(draft, previous_sequence=before.sequence, previous_sha256=before.sha256)
        data = snapshot.encode_snapshot(self.keyring, draft)
        try:
            self.backend.put(draft.name, [data])
        except ObjectExistsError:
            raise LeaseLostError(f"{draft.name}: the writer was revoked; nothing was committed") from None
        committed = replace(draft, sha256=hashlib.sha256(data).hexdigest())
        if self.heads is not None:
            self.heads.remember(self.id, lease.source_tag, Head(committed.sequence, committed.sha256))
        return committed

    def compare_packs(self) -> tuple[list[tuple[PackId, bytes]], list[PackId]]:
        """Compare the packs in the store with the index.

        Returns:
            (orphans, missing): orphans are (pack id, plain table) of packs that no segment names, the work of writers
            that died; those that cannot be read are passed over: nothing refers to them, and `check` reports them.
            Missing are packs that the index names and the store does not have.
        """
        known = self.index().pack_ids() - self._unnamed.keys()
        there: set[PackId] = set()
        orphans = []
        for info in self.backend.list(PACKS_PREFIX):
            pack_id = _pack_id(info.name)
            if pack_id is None:
                continue
            there.add(pack_id)
            if pack_id not in known:
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


def _parse_moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SnapshotNotFoundError(
            f"time {text!r}: not of the form 2026-11-01 or 2026-11-01T03:00 (UTC unless it says otherwise)"
        ) from None
    if len(text) <= len("2026-11-01"):  # no form of a date is longer, and none with an hour is as short
        moment += timedelta(days=1, microseconds=-1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000) * 1000 + 999
