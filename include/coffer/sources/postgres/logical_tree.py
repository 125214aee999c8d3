"""The tree of a logical backup: files that arrive in pieces, several at a time, and become one manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from coffer.crypto.hashing import IdKeys
from coffer.errors import CofferError
from coffer.ids import ChunkId, ContentId
from coffer.progress import Progress
from coffer.repository.blocks import Group, Row
from coffer.repository.entries import path_key
from coffer.repository.index import ChunkIndex
from coffer.repository.manifest import NO_FINGERPRINT, ManifestReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly.blockcut import cut_blocks
from coffer.sources.assembly.bundle import Bundle, Bundler, Known
from coffer.sources.assembly.drafts import DraftBlock, ManifestDraft
from coffer.sources.assembly.extents import LargeContent, PendingContent, SmallContent
from coffer.sources.assembly.tally import Tally

_FILE_MODE = stat.S_IFREG | 0o600
_FOLDER_MODE = stat.S_IFDIR | 0o700
_PIECE_BYTES = 1 << 20  # of what is cut by length: records, that change all over


class Before:
    """What the snapshot before has: where its small files lie, and what each path held.

    Empty where there is none, or it cannot be read: then everything counts as new and is found by its chunks.
    """

    def __init__(self, manifest: ManifestReader | None, index: ChunkIndex) -> None:
        self.manifest = manifest
        self.ids: dict[bytes, ContentId | None] = {}
        self._places: dict[ContentId, tuple[ChunkId, int]] = {}
        if manifest is None:
            return
        sparse = manifest.root.sparse
        try:
            for entry in manifest.entries():
                content = entry.content
                self.ids[entry.path] = None if content is None else content.content_id
                if content is None or len(content.extents) != 1:
                    continue
                chunk_id, offset, _, indirect = content.extents[0]
                if chunk_id is not None and not indirect and chunk_id not in sparse and chunk_id in index:
                    self._places[content.content_id] = chunk_id, offset
        except CofferError:
            self.manifest = None  # damaged: `check` names the damage

    @classmethod
    def of(cls, repo: Repository, snapshot: Snapshot | None) -> Before:
        """Return what a snapshot has; nothing where there is none, or its root cannot be read."""
        manifest = None
        if snapshot is not None:
            with suppress(CofferError):
                manifest = repo.manifest(snapshot)
        return cls(manifest, repo.index())

    def find(self, content_id: ContentId) -> tuple[Known, int] | None:
        """Return where the content of a small file lies."""
        place = self._places.get(content_id)
        return None if place is None else (Known(place[0]), place[1])


class _Arriving:
    """A file of which pieces are still to come. The first is kept: it may be all."""

    __slots__ = ("first", "large", "size_bytes")

    def __init__(self) -> None:
        self.first: bytes | None = None
        self.large: LargeContent | None = None
        self.size_bytes = 0


class TreeWriter:
    """Takes files and makes the manifest. For the thread that made the chunk writer.

    Attributes:
        sizes: Of each file that is whole, by its path [bytes].
    """

    def __init__(
        self,
        writer: ChunkWriter,
        ids: IdKeys,
        before: Before,
        *,
        bundle_below_bytes: int,
        bundler: Bundler,
        time_ns: int,
        progress: Progress,
    ) -> None:
        self._writer, self._ids, self._before, self._bundler = writer, ids, before, bundler
        self._bundle_below_bytes = bundle_below_bytes
        self._time_ns = time_ns
        self._progress = progress
        self._arriving: dict[bytes, _Arriving] = {}
        self._contents: dict[bytes, PendingContent | None] = {}
        self.sizes: dict[bytes, int] = {}

    def add(self, path: bytes, data: bytes) -> None:
        """Take the next piece of a file, 1 byte or more, as the cutter made it."""
        file = self._arriving.setdefault(path, _Arriving())
        file.size_bytes += len(data)
        self._progress.bytes_done += len(data)
        if file.first is None and file.large is None:
            file.first = data
            return
        if file.large is None:
            assert file.first is not None  # the second piece comes after the first
            file.large = LargeContent(self._ids, self._writer)
            file.large.add(file.first, whole=False)
            file.first = None
        file.large.add(data, whole=False)

    def finish(self, path: bytes) -> None:
        """Take the end of a file; one without any piece is empty."""
        file = self._arriving.pop(path, None) or _Arriving()
        content: PendingContent | None = file.large
        if file.first is not None:
            content = self._whole(file.first)
        self._contents[path] = content
        self.sizes[path] = file.size_bytes
        self._progress.files_done += 1

    def add_long(self, path: bytes, data: bytes) -> None:
        """Take a file that is in memory as a whole; of any length."""
        for start in range(0, len(data), _PIECE_BYTES):
            self.add(path, data[start : start + _PIECE_BYTES])
        self.finish(path)

    def _whole(self, data: bytes) -> PendingContent:
        if len(data) >= self._bundle_below_bytes:
            content = LargeContent(self._ids, self._writer)
            content.add(data, whole=True)
            return content
        content_id = self._ids.content_id(data)
        where: tuple[Bundle | Known, int] | None = self._bundler.find(content_id)
        if where is None and (where := self._before.find(content_id)) is not None:
            self._bundler.remember(content_id, where)
        if where is None:
            where = self._bundler.add(data, content_id)
        return SmallContent(content_id, where[0], where[1], len(data))

    # ----------------------------------------------------------------------------------------------- the manifest

    def draft(self) -> ManifestDraft:
        """Return the manifest of all files, ready to be finished."""
        draft = ManifestDraft(self._writer, self._bundler)
        self._bundler.close()
        for groups in cut_blocks(self._groups()):
            pending = [
                (group, at, content)
                for group in groups
                for at, name in enumerate(group.names)
                if (content := self._contents.get(_join(group.folder, name))) is not None
            ]
            draft.add(DraftBlock(groups, NO_FINGERPRINT, pending))
        return draft

    def stats(self) -> dict[str, int]:
        """Return the counts, compared with the snapshot before; once the manifest is finished."""
        tally = Tally(Progress())
        for group in self._groups():
            for name, row in zip(group.names, group.rows, strict=True):
                tally.count(row, self._kind(_join(group.folder, name)))
        return tally.stats()

    def _kind(self, path: bytes) -> str:
        if path not in self._before.ids:
            return "files_new"
        content = self._contents.get(path)
        content_id = None if content is None else content.resolve().content_id
        return "files_unchanged" if content_id == self._before.ids[path] else "files_changed"

    def _groups(self) -> Iterator[Group]:
        """Yield folders with rows, in the manifest's order; contents are not in them yet."""
        folders: dict[bytes, dict[bytes, Row]] = {b"": {}}
        for path in self._contents:
            folder, _, name = path.rpartition(b"/")
            folders.setdefault(folder, {})[name] = self._row(_FILE_MODE, self.sizes[path])
            while folder:
                above, _, name = folder.rpartition(b"/")
                folders.setdefault(above, {})[name] = self._row(_FOLDER_MODE, 0)
                folder = above
        for folder in sorted(folders, key=path_key):
            names = sorted(folders[folder])
            if names:
                yield Group(folder, names, [folders[folder][name] for name in names])

    def _row(self, mode: int, size: int) -> Row:
        return mode, os.geteuid(), os.getegid(), size, 0, 0, 1, self._time_ns, self._time_ns


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
