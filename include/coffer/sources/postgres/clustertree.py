"""The tree of a cluster in the making: entries in the order of the stream, and the manifest in the order of paths."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterator

from coffer.crypto.hashing import IdKeys
from coffer.errors import SourceFormatError
from coffer.postgres.facts import COFFER_FOLDER, PAGES_FOLDER
from coffer.repository.blocks import Group, Row
from coffer.repository.entries import Content, path_key
from coffer.repository.manifest import NO_FINGERPRINT
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly.blockcut import cut_blocks
from coffer.sources.assembly.drafts import DraftBlock, ManifestDraft
from coffer.sources.assembly.extents import SmallContent
from coffer.sources.postgres.pagecontent import KeptContent, PagedContent
from coffer.sources.postgres.pagefile import PageWriter

_MAX_WAITING_RUNS = 100_000  # of contents that wait for their chunks: about 15 MB
_FOLDER_MODE = stat.S_IFDIR | 0o700
_DIGESTS_MODE = stat.S_IFREG | 0o600


class _Item:
    """One entry; its content is put in when its chunks have ids."""

    __slots__ = ("content", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.content: Content | None = None


class ClusterTree:
    """Collects entries. Holds some 800 bytes for each, and no content."""

    def __init__(self, ids: IdKeys, writer: ChunkWriter, pages: PageWriter) -> None:
        self._ids, self._writer, self._pages = ids, writer, pages
        self._folders: dict[bytes, dict[bytes, _Item]] = {b"": {}}
        self._waiting: deque[tuple[_Item, PagedContent | KeptContent]] = deque()
        self._waiting_runs = 0
        self._small: list[tuple[_Item, SmallContent]] = []
        self._owner = (0, 0)
        self.files = self.directories = 0
        self.size_bytes = 0

    def set_owner(self, uid: int, gid: int) -> None:
        """Say whose the folders are that no archive names."""
        self._owner = uid, gid

    def add_folder(self, path: bytes, row: Row) -> None:
        """Add a folder; one that was made for what lies in it gets its own row.

        Raises:
            SourceFormatError: Something else has this path.
        """
        item = self._place(path, row)
        item.row = row
        self._folders.setdefault(path, {})

    def add_pages(
        self, path: bytes, row: Row, content: PagedContent | KeptContent, digests: PagedContent | KeptContent
    ) -> None:
        """Add a file of pages, and the digests of its pages; an empty one has none.

        Raises:
            SourceFormatError: Something has this path already.
        """
        self.add_file(path, row, content if content.size_bytes else None)
        if digests.size_bytes:
            digests_row = make_row(_DIGESTS_MODE, 0, 0, digests.size_bytes, 0)
            self.add_file(PAGES_FOLDER + b"/" + path, digests_row, digests)

    def add_file(self, path: bytes, row: Row, content: PagedContent | KeptContent | SmallContent | None) -> None:
        """Add a regular file; None is an empty one.

        Raises:
            SourceFormatError: Something has this path already.
        """
        if self.has(path):
            raise SourceFormatError(f"base backup: {path!r} comes twice")
        item = self._place(path, row)
        if not path.startswith(COFFER_FOLDER + b"/"):
            self.files += 1
            self.size_bytes += row[3]
        if isinstance(content, SmallContent):
            self._small.append((item, content))
        elif content is not None:
            self._waiting.append((item, content))
            self._waiting_runs += len(content)
            if self._waiting_runs > _MAX_WAITING_RUNS:
                self._settle()

    def has(self, path: bytes) -> bool:
        """Say whether an entry has this path."""
        folder, _, name = path.rpartition(b"/")
        return name in self._folders.get(folder, ())

    def _place(self, path: bytes, row: Row) -> _Item:
        folder, _, name = path.rpartition(b"/")
        if folder not in self._folders:
            self.add_folder(folder, make_row(_FOLDER_MODE, *self._owner, 0, 0))
        names = self._folders[folder]
        item = names.get(name)
        if item is None:
            item = names[name] = _Item(row)
            self.directories += stat.S_ISDIR(row[0]) and not path.startswith(COFFER_FOLDER)
        elif stat.S_IFMT(item.row[0]) != stat.S_IFMT(row[0]):
            raise SourceFormatError(f"base backup: {path!r} is a file and a folder")
        return item

    def _settle(self) -> None:
        """Resolve contents, so that their runs take no memory any more."""
        self._pages.close()
        while self._waiting:
            item, content = self._waiting.popleft()
            item.content = content.resolve(self._ids, self._writer)
        self._waiting_runs = 0

    def finish(self, draft: ManifestDraft) -> None:
        """Give all entries to a draft, in its order. Bundles of small files are closed before. The tree is spent."""
        self._settle()
        for item, small in self._small:
            item.content = small.resolve()
        for groups in cut_blocks(self._groups()):
            for group in groups:
                names = self._folders[group.folder]
                for at, name in enumerate(group.names):
                    content = names[name].content
                    if content is not None:
                        group.contents[at] = content
            draft.add(DraftBlock(groups, NO_FINGERPRINT, []))

    def _groups(self) -> Iterator[Group]:
        for folder in sorted(self._folders, key=path_key):
            names = sorted(self._folders[folder])
            if names:
                yield Group(folder, names, [self._folders[folder][name].row for name in names])


def resized(row: Row, size_bytes: int) -> Row:
    """Return the row of a file whose content has another length than what came."""
    mode, uid, gid, _, ino, dev, nlink, mtime_ns, ctime_ns = row
    return mode, uid, gid, size_bytes, ino, dev, nlink, mtime_ns, ctime_ns


def make_row(mode: int, uid: int, gid: int, size_bytes: int, mtime_s: int) -> Row:
    """Return the row of an entry that has no place on a file system here."""
    return mode, uid, gid, size_bytes, 0, 0, 1, mtime_s * 1_000_000_000, 0
