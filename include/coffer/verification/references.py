"""Whether everything that a snapshot refers to can be read: its manifest, and every chunk of every file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from blake3 import blake3

from coffer.errors import ChunkMissingError, CofferError, ObjectCorruptError
from coffer.ids import ChunkId, PackId, pack_name
from coffer.repository.blocks import Group
from coffer.repository.entries import Content
from coffer.repository.manifest import BlockRef, ManifestReader
from coffer.repository.pack import TYPE_DATA, ChunkLocation
from coffer.repository.reader import ChunkReader
from coffer.repository.snapshot import Snapshot
from coffer.verification.damage import Damage
from coffer.verification.findings import DAMAGE, MAX_PATHS_KEPT, FindingLog, object_of
from coffer.verification.placement import Placement

_NOTHING = ""  # no object is to blame


@dataclass(slots=True)
class _Hurt:
    """What a block lacks: object → the first few paths that need it, and how many nameless entries are behind each.

    For the next snapshot that shares the block.
    """

    paths: dict[str, list[tuple[bytes, int]]] = field(default_factory=dict)

    def note(self, object_: str, path: bytes, further: int = 0) -> None:
        known = self.paths.setdefault(object_, [])
        if len(known) < MAX_PATHS_KEPT:
            known.append((path, further))


class ReferenceWalk:
    """Visits manifests. A block that several snapshots share is read once, and remembered by 16 bytes.

    Attributes:
        blocks, entries, files: Distinct ones seen; files are those with content.
        needed: Packs that hold what was visited and that no index segment names.
    """

    def __init__(
        self,
        reader: ChunkReader,
        placement: Placement,
        damage: Damage,
        notes: FindingLog,
        tick: Callable[[], None],
    ) -> None:
        """Walk through a reader.

        Args:
            reader: Reads manifests; of `placement.index`.
            placement: Where chunks lie.
            damage: Chunks that are known not to open.
            notes: Takes the findings.
            tick: Called before each block; may raise.
        """
        self._reader, self._placement, self._damage = reader, placement, damage
        self._notes, self._tick = notes, tick
        self._seen: dict[bytes, _Hurt | None] = {}
        self.blocks = self.entries = self.files = 0
        self.needed: set[PackId] = set()

    def visit(self, snapshot: Snapshot) -> None:
        """Follow every reference of one snapshot; what is wrong is logged with it, and the rest goes on."""
        self._tick()
        root_id = ChunkId(snapshot.manifest_root)
        try:
            manifest = ManifestReader(self._reader, root_id)
        except DAMAGE as error:
            self._notes.affect(self._blame(error, root_id), snapshot.id)
            return
        self._need(root_id)
        for block in manifest.root.blocks:
            self._tick()
            key = blake3(block.stable + block.times + (block.content or b"")).digest(16)
            if key in self._seen:
                hurt = self._seen[key]
            else:
                hurt = self._seen[key] = self._visit_block(manifest, block)
            for object_, paths in hurt.paths.items() if hurt is not None else ():
                self._notes.affect(object_, snapshot.id)
                for path, further in paths:
                    self._notes.affect(object_, snapshot.id, path, further)

    # ----------------------------------------------------------------------------------------------- one block

    def _visit_block(self, manifest: ManifestReader, block: BlockRef) -> _Hurt | None:
        self.blocks += 1
        hurt = _Hurt()
        try:
            groups = manifest.groups(block)
        except DAMAGE as error:
            path = _join(block.folder, block.name)
            hurt.note(self._blame(error, block.stable), path, block.entry_count - 1)
            return hurt
        for section in (block.stable, block.times, block.content):
            if section is not None:
                self._need(section)
        self.entries += block.entry_count
        judged: dict[bytes, tuple[int, str]] = {}
        for group in groups:
            self._visit_group(manifest, block, group, judged, hurt)
        return hurt if hurt.paths else None

    def _visit_group(
        self, manifest: ManifestReader, block: BlockRef, group: Group, judged: dict[bytes, tuple[int, str]], hurt: _Hurt
    ) -> None:
        self.files += len(group.contents)
        for at, content in group.contents.items():
            for object_ in self._visit_content(manifest, block, content, judged):
                hurt.note(object_, _join(group.folder, group.names[at]))

    def _visit_content(
        self, manifest: ManifestReader, block: BlockRef, content: Content, judged: dict[bytes, tuple[int, str]]
    ) -> list[str]:
        """Return the objects that are to blame for what one file lacks; none where all is well.

        Args:
            manifest: Expands lists.
            block: The file's block.
            content: The file's extents.
            judged: Chunk → (its raw length [bytes], the object to blame); of this block, added to.
        """
        blamed: dict[str, None] = {}
        try:
            for chunk_id, offset, length, _ in manifest.expand(content):
                if chunk_id is None:
                    continue
                verdict = judged.get(chunk_id)
                if verdict is None:
                    verdict = judged[chunk_id] = self._judge(chunk_id)
                if verdict[1]:
                    blamed[verdict[1]] = None
                elif offset + length > verdict[0]:
                    blamed[self._overrun(block, chunk_id, offset + length, verdict[0])] = None
        except DAMAGE as error:
            listed = next((e.chunk_id for e in content.extents if e.indirect and e.chunk_id is not None), block.stable)
            blamed[self._blame(error, listed)] = None
        for extent in content.extents:
            if extent.indirect and extent.chunk_id is not None:
                self._need(extent.chunk_id)
        return list(blamed)

    # ----------------------------------------------------------------------------------------------- one chunk

    def _judge(self, chunk_id: ChunkId) -> tuple[int, str]:
        """Return (raw length [bytes], the object to blame or nothing) of a chunk of file content."""
        where = self._placement.index.find(chunk_id)
        if where is None:
            return 0, self._blame_missing(chunk_id)
        while self._is_hurt(where) and self._placement.index.turn_elsewhere(chunk_id, where.pack_id):
            where = self._placement.index.find(chunk_id) or where  # stored anew by a later backup
        name = pack_name(where.pack_id)
        if where.type != TYPE_DATA:
            message = f"{name}: frame {where.position} of type {where.type} is used as a file's content"
            self._notes.error(name, ObjectCorruptError.code, message)
            return 0, name
        self._note_unindexed(where)
        return where.raw_length, name if self._is_hurt(where) else _NOTHING

    def _is_hurt(self, where: ChunkLocation) -> bool:
        if self._damage.hits(where):
            return True
        if where.pack_id not in self._placement.misfits:
            return False
        return where.offset + where.sealed_length > self._placement.sizes[where.pack_id]

    def _need(self, chunk_id: ChunkId) -> None:
        where = self._placement.index.find(chunk_id)
        if where is not None:
            self._note_unindexed(where)

    def _note_unindexed(self, where: ChunkLocation) -> None:
        if where.pack_id in self._placement.unindexed:
            self.needed.add(where.pack_id)

    # ----------------------------------------------------------------------------------------------- blame

    def _blame_missing(self, chunk_id: bytes) -> str:
        """Name the missing pack that a chunk lies in, else log that the chunk is nowhere and name it by its id."""
        where = self._placement.lost.find(chunk_id)
        if where is not None:
            return pack_name(where.pack_id)
        name = chunk_id.hex()
        self._notes.error(name, ChunkMissingError.code, f"chunk {name[:12]}: in no pack")
        return name

    def _blame(self, error: CofferError, chunk_id: ChunkId) -> str:
        """Log what reading a manifest's chunk raised; return the object to blame."""
        if isinstance(error, ChunkMissingError):
            return self._blame_missing(bytes.fromhex(error.details["chunk_id"]))
        where = self._placement.index.find(chunk_id)
        name = object_of(error, chunk_id.hex() if where is None else pack_name(where.pack_id))
        self._notes.damage(name, error)
        return name

    def _overrun(self, block: BlockRef, chunk_id: bytes, stop: int, raw_length: int) -> str:
        """Log a manifest that asks for more of a chunk than there is; it was authenticated, so a writer is at fault."""
        where = self._placement.index.find(block.content or block.stable)
        name = chunk_id.hex() if where is None else pack_name(where.pack_id)
        text = f"{name}: a manifest asks for byte {stop} of chunk {chunk_id.hex()[:12]}, which has {raw_length}"
        self._notes.error(name, ObjectCorruptError.code, text)
        return name


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
