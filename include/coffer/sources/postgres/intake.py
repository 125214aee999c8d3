"""Where a base backup goes: its archives are taken apart, and each file goes its own way into the store."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Protocol

import google_crc32c

from coffer.errors import SourceFormatError
from coffer.postgres.backup_manifest import ManifestFacts, ManifestFile, ManifestParser
from coffer.postgres.facts import MANIFEST_PATH
from coffer.postgres.relation_path import parse_relation_path, split_incremental
from coffer.progress import Progress
from coffer.repository.blocks import Row
from coffer.repository.writer import ChunkWriter
from coffer.sources.assembly.bundle import Bundler, Known
from coffer.sources.assembly.extents import SmallContent
from coffer.sources.postgres.basebackup_tar import Kind, Member, TarParser
from coffer.sources.postgres.clustertree import ClusterTree, make_row, resized
from coffer.sources.postgres.native import NativeBase
from coffer.sources.postgres.pagecontent import PagedContent
from coffer.sources.postgres.pagefile import PIECE_BYTES, PagedFile, PageWriter
from coffer.sources.postgres.stored import StoredCluster

_BASE_ARCHIVE = "base.tar"
_LABEL = b"backup_label"
_OURS = 0o600
_NO_CHECKSUM = frozenset({b"backup_manifest"})


class Sink(Protocol):
    """Takes the content of one file."""

    def add(self, piece: bytes) -> None:
        """Take the next piece; only the last is shorter than `PIECE_BYTES`."""

    def finish(self) -> None:
        """End the file."""


class Intake:
    """Consumes a base backup; see `BaseBackupConsumer`. Holds a piece of one file, and some bytes for each file."""

    def __init__(
        self,
        tree: ClusterTree,
        pages: PageWriter,
        bundler: Bundler,
        old: StoredCluster | None,
        bundle_below_bytes: int,
        progress: Progress,
        check: Callable[[], None],
        native: NativeBase | None = None,
    ) -> None:
        """Put entries into a tree.

        Args:
            tree: Takes the entries.
            pages: Takes the files of pages.
            bundler: Takes the small files.
            old: The snapshot to compare with; None stores everything.
            bundle_below_bytes: Other files smaller than this are bundled.
            progress: Kept up to date.
            check: Called now and then; may raise.
            native: What files of changed blocks are completed from; None where whole files come.
        """
        self._tree, self._pages, self._bundler, self._old = tree, pages, bundler, old
        self._bundle_below_bytes, self._progress, self._check = bundle_below_bytes, progress, check
        self._native = native
        self._parser: TarParser | None = None
        self._prefix = b""
        self._file: _File | None = None
        self._manifest: _Manifest | None = None
        self._sums: dict[bytes, tuple[int, int]] = {}
        self.tablespaces: dict[int, str] = {}
        self.read_bytes = 0

    # ----------------------------------------------------------------------------------------------- archives

    def archive(self, name: str, location: str) -> None:
        """Begin an archive."""
        self._end_archive()
        self._check()
        if self._native is not None:
            self.read_bytes += self._native.begin()
        self._parser = TarParser(name)
        if name == _BASE_ARCHIVE:
            self._prefix = b""
            return
        oid = name.removesuffix(".tar")
        if not oid.isascii() or not oid.isdecimal():
            raise SourceFormatError(f"base backup: archive {name!r} is of no tablespace")
        self.tablespaces[int(oid)] = location
        self._prefix = f"pg_tblspc/{int(oid)}/".encode()

    def archive_data(self, data: memoryview) -> None:
        """Take bytes of the archive."""
        assert self._parser is not None  # archive() comes first: the stream sees to it
        self.read_bytes += len(data)
        for event in self._parser.feed(data):
            if isinstance(event, Member):
                self._begin(event)
            else:
                assert self._file is not None  # a member with content came before
                self._file.take(event)
                if self._file.is_whole:
                    self._end_file()

    def _end_archive(self) -> None:
        if self._parser is not None:
            self._parser.finish()
            self._parser = None

    def _begin(self, member: Member) -> None:
        path = self._prefix + member.name
        if member.kind is Kind.LINK:
            raise SourceFormatError(
                f"base backup: {path!r} is a symbolic link",
                hint="Only tablespaces and pg_wal may lie outside the data folder. Put this file back into it.",
            )
        kind = stat.S_IFDIR if member.kind is Kind.FOLDER else stat.S_IFREG
        row = make_row(kind | member.mode, member.uid, member.gid, member.size_bytes, member.mtime_s)
        self._tree.set_owner(member.uid, member.gid)
        if member.kind is Kind.FOLDER:
            self._tree.add_folder(path, row)
            return
        self._progress.current = path
        self._file = _File(path, row, self._sink(path, row))  # by the name that the manifest has
        if self._file.is_whole:
            self._end_file()

    def _end_file(self) -> None:
        file, self._file = self._file, None
        assert file is not None  # the caller has looked
        crc = file.finish()
        self._sums[file.path] = (file.size_bytes, crc)
        self._progress.files_done += 1
        self._progress.bytes_done = self._tree.size_bytes
        self._check()

    def _sink(self, path: bytes, row: Row) -> Sink:
        size_bytes = row[3]
        if self._native is not None:
            whole, is_changes = split_incremental(path)
            changed = parse_relation_path(whole) if is_changes else None
            if changed is not None:
                return self._native.sink(self._tree, self._pages, whole, row, changed)
            if path == _LABEL:
                return _SmallSink(self, path, row, self._native.whole_label)
        if parse_relation_path(path) is not None:
            return _PagesSink(self._tree, self._pages, path, row, self._old)
        if size_bytes < self._bundle_below_bytes:
            return _SmallSink(self, path, row)
        return _PlainSink(self._tree, self._pages, path, row)

    # ----------------------------------------------------------------------------------------------- small files

    def add_small(self, path: bytes, row: Row, data: bytes) -> None:
        """Add a small file; where the snapshot before has the same content at the same path, its place is kept."""
        self._tree.add_file(path, row, self._place(path, data) if data else None)

    def _place(self, path: bytes, data: bytes) -> SmallContent:
        content_id = self._pages.ids.content_id(data)
        found = self._old.find(path) if self._old is not None else None
        if found is not None and found.content is not None and found.content.content_id == content_id:
            chunk_id, offset, length, indirect = found.content.extents[0]
            if length == len(data) and not indirect and chunk_id is not None and self._pages.knows(chunk_id):
                return SmallContent(content_id, Known(chunk_id), offset, length)
        place = self._bundler.find(content_id)
        if place is None:
            place = self._bundler.add(data, content_id)
        return SmallContent(content_id, *place, len(data))

    # ----------------------------------------------------------------------------------------------- the manifest

    def manifest(self) -> None:
        """Begin the manifest."""
        self._end_archive()
        self._manifest = _Manifest(self._sums, self._pages.writer)

    def manifest_data(self, data: memoryview) -> None:
        """Take bytes of the manifest."""
        assert self._manifest is not None  # manifest() comes first: the stream sees to it
        self.read_bytes += len(data)
        self._manifest.take(data)

    def progress(self, done_bytes: int) -> None:
        """Learn how much the server has read."""
        del done_bytes  # what has arrived is counted file by file
        self._check()

    def finish(self) -> ManifestFacts:
        """Compare what came with what the manifest declares, and keep the manifest with the snapshot.

        Raises:
            SourceFormatError: A file is missing, is one too many, or arrived with another content.
        """
        assert self._manifest is not None  # the stream ended with it
        facts = self._manifest.finish()
        if self._native is not None:
            self._native.finish(facts)
        size_bytes, content, rest = self._manifest.content()
        row = make_row(stat.S_IFREG | _OURS, 0, 0, size_bytes, 0)
        if content is None:
            self.add_small(MANIFEST_PATH, row, rest)
        else:
            self._tree.add_file(MANIFEST_PATH, row, content)
        return facts


class _File:
    """A file on its way: gathers pieces, and the checksum that the manifest will declare."""

    def __init__(self, path: bytes, row: Row, sink: Sink) -> None:
        self.path, self.size_bytes = path, row[3]
        self._sink = sink
        self._parts: list[memoryview] = []  # views of immutable messages, so no copy is needed until they are joined
        self._gathered = self._done = 0
        self._crc = 0

    @property
    def is_whole(self) -> bool:
        return self._done == self.size_bytes

    def take(self, data: memoryview) -> None:
        self._done += len(data)
        while len(data) >= PIECE_BYTES - self._gathered:
            room = PIECE_BYTES - self._gathered
            self._parts.append(data[:room])
            data = data[room:]
            self._flush()
        if data:
            self._parts.append(data)
            self._gathered += len(data)

    def finish(self) -> int:
        if self._parts:
            self._flush()
        self._sink.finish()
        return self._crc

    def _flush(self) -> None:
        piece = b"".join(self._parts)
        self._parts, self._gathered = [], 0
        self._crc = google_crc32c.extend(self._crc, piece)
        self._sink.add(piece)


class _PagesSink:
    """A file of pages."""

    def __init__(self, tree: ClusterTree, pages: PageWriter, path: bytes, row: Row, old: StoredCluster | None) -> None:
        self._tree, self._path, self._row = tree, path, row
        self._file = PagedFile(pages, old.pages(path) if old is not None and row[3] else None)

    def add(self, piece: bytes) -> None:
        self._file.add(piece)

    def finish(self) -> None:
        self._tree.add_pages(self._path, self._row, self._file.content, self._file.digests)


class _SmallSink:
    """A file that is bundled with others; `change` makes of what comes what is kept."""

    def __init__(self, intake: Intake, path: bytes, row: Row, change: Callable[[bytes], bytes] | None = None) -> None:
        self._intake, self._path, self._row, self._change = intake, path, row, change
        self._data = b""

    def add(self, piece: bytes) -> None:
        self._data += piece

    def finish(self) -> None:
        if self._change is not None:
            self._data = self._change(self._data)
            self._row = resized(self._row, len(self._data))
        self._intake.add_small(self._path, self._row, self._data)


class _PlainSink:
    """A larger file without pages: one chunk for each piece."""

    def __init__(self, tree: ClusterTree, pages: PageWriter, path: bytes, row: Row) -> None:
        self._tree, self._writer, self._path, self._row = tree, pages.writer, path, row
        self._content = PagedContent()

    def add(self, piece: bytes) -> None:
        self._content.add(self._writer.submit([piece], len(piece)), 0, len(piece))

    def finish(self) -> None:
        self._tree.add_file(self._path, self._row, self._content)


class _Manifest:
    """The server's manifest: kept as it comes, and compared with the files that came."""

    def __init__(self, sums: dict[bytes, tuple[int, int]], writer: ChunkWriter) -> None:
        self._sums, self._writer = sums, writer
        self._parser = ManifestParser()
        self._parts: list[bytes] = []
        self._gathered = 0
        self._content: PagedContent | None = None

    def take(self, data: memoryview) -> None:
        self._parts.append(bytes(data))
        self._gathered += len(data)
        if self._gathered >= PIECE_BYTES:
            self._flush()
        for file in self._parser.feed(data):
            self._compare(file)

    def content(self) -> tuple[int, PagedContent | None, bytes]:
        """Return (size [bytes], where it lies, or None; then the bytes themselves, which are few)."""
        if self._content is None:
            data = b"".join(self._parts)
            return len(data), None, data
        if self._parts:
            self._flush()
        return self._content.size_bytes, self._content, b""

    def _flush(self) -> None:
        piece = b"".join(self._parts)
        self._parts, self._gathered = [], 0
        if self._content is None:
            self._content = PagedContent()
        self._content.add(self._writer.submit([piece], len(piece)), 0, len(piece))

    def _compare(self, file: ManifestFile) -> None:
        found = self._sums.pop(file.path, None)
        if found is None:
            raise SourceFormatError(f"base backup: {file.path!r} is in the manifest and did not come")
        size_bytes, crc = found
        declared = int.from_bytes(file.checksum, "little")
        if size_bytes != file.size_bytes or (file.algorithm == "CRC32C" and crc != declared):
            raise SourceFormatError(
                f"base backup: {file.path!r} came with {size_bytes} bytes and checksum {crc:08x}, the server declares "
                f"{file.size_bytes} and {declared:08x}",
                hint="Bytes were lost or changed between the server and here. Run the backup again.",
            )

    def finish(self) -> ManifestFacts:
        facts = self._parser.finish()
        rest = self._sums.keys() - _NO_CHECKSUM
        if rest:
            raise SourceFormatError(f"base backup: {min(rest)!r} came and is not in the manifest")
        return facts
