"""Read back what was restored, and compare it with the ids and attributes that the snapshot has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from coffer.crypto.hashing import IdKeys
from coffer.errors import PermanentError
from coffer.repository.blocks import GID, MODE, MTIME, SIZE, UID, Extras, Row
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.reader import ChunkReader
from coffer.restore.attributes import ACLS, Attributes
from coffer.restore.decision import Powers
from coffer.restore.files import describe, join
from coffer.restore.folders import OPEN_FOLDER, Folder, Folders
from coffer.restore.spec import IssueLog

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nonblock: a fifo put in its place must not hang us
_STEP_BYTES = 1 << 20  # of a hole, read at a time


class Restored(NamedTuple):
    """An entry to read back.

    Attributes:
        folder, name: Where it is.
        row, extras: What it is to be.
        content: Of a regular file that is not empty.
    """

    folder: bytes
    name: bytes
    row: Row
    extras: Extras
    content: Content | None


class _DiffersError(Exception):
    """What is there is not what the snapshot has; the message says in what."""


class ReadBack:
    """Verifies entries for one run. Thread-safe."""

    def __init__(
        self,
        folders: Folders,
        manifest: ManifestReader,
        reader: ChunkReader,
        ids: IdKeys,
        attributes: Attributes,
        powers: Powers,
        failures: IssueLog,
    ) -> None:
        self._folders, self._manifest, self._reader, self._ids = folders, manifest, reader, ids
        self._attributes, self._powers, self._failures = attributes, powers, failures

    def check(self, entry: Restored) -> bool:
        """Verify one entry; a difference is a failure of the run.

        Returns:
            Whether it is a regular file that is as it should be.
        """
        try:
            with self._folders.opened(entry.folder) as folder:
                self._check(folder, entry)
        except _DiffersError as error:
            self._failures.add(join(entry.folder, entry.name), "differs", f"is not what was restored: {error}")
        except (OSError, PermanentError) as error:
            code, message = describe(error)
            self._failures.add(join(entry.folder, entry.name), code, f"could not be read back: {message}")
        else:
            return stat.S_ISREG(entry.row[MODE])
        return False

    def _check(self, folder: Folder, entry: Restored) -> None:
        row, (rdev, target, _) = entry.row, entry.extras
        there = os.stat(entry.name, dir_fd=folder.fd, follow_symlinks=False)
        mode = row[MODE]
        if stat.S_IFMT(mode) != stat.S_IFMT(there.st_mode):
            raise _DiffersError("it is of another kind")
        if stat.S_ISLNK(mode):
            if os.readlink(entry.name, dir_fd=folder.fd) != target:
                raise _DiffersError("the link leads elsewhere")
            self._check_status(row, there)
        elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            self._check_open(folder, entry)
        else:
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and there.st_rdev != rdev:
                raise _DiffersError("it is another device")
            self._check_status(row, there)

    def _check_open(self, folder: Folder, entry: Restored) -> None:
        """Verify a file or folder through a descriptor, so that all that is compared is of one and the same."""
        is_folder = stat.S_ISDIR(entry.row[MODE])
        fd = os.open(entry.name, OPEN_FOLDER if is_folder else _OPEN, dir_fd=folder.fd)
        try:
            there = os.fstat(fd)
            if not is_folder and (not stat.S_ISREG(there.st_mode) or there.st_size != entry.row[SIZE]):
                raise _DiffersError(f"it has {there.st_size} bytes, not {entry.row[SIZE]}")
            self._check_status(entry.row, there)
            self._check_xattrs(fd, entry.extras)
            if entry.content is not None and not self._same_content(fd, entry.content, entry.row[SIZE]):
                raise _DiffersError("its content is another")
        finally:
            os.close(fd)

    # ----------------------------------------------------------------------------------------------- attributes

    def _check_status(self, row: Row, there: os.stat_result) -> None:
        """Compare what was to be set; what could not be set was warned of."""
        if not stat.S_ISLNK(row[MODE]) and self._powers.mode_of(row) != stat.S_IMODE(there.st_mode):
            raise _DiffersError(f"its mode is {stat.S_IMODE(there.st_mode):04o}, not {row[MODE] & 0o7777:04o}")
        if self._powers.is_root and (row[UID], row[GID]) != (there.st_uid, there.st_gid):
            raise _DiffersError(f"its owner is {there.st_uid}:{there.st_gid}, not {row[UID]}:{row[GID]}")
        if row[MTIME] != there.st_mtime_ns:
            raise _DiffersError("its time is another")

    def _check_xattrs(self, fd: int, extras: Extras) -> None:
        wanted = {os.fsdecode(name): value for name, value in extras[2]}
        try:
            names = os.listxattr(fd)
        except OSError:
            names = []
        unset = self._attributes.unset_xattrs
        found = {name: os.getxattr(fd, name) for name in names if name in wanted or _is_ours(name)}
        for name in sorted(wanted.keys() | found.keys()):
            if name not in unset and wanted.get(name) != found.get(name):
                raise _DiffersError(f"its extended attribute {name!r} is another")

    # ----------------------------------------------------------------------------------------------- content

    def _same_content(self, fd: int, content: Content, size: int) -> bool:
        first = content.extents[0]
        if len(content.extents) == 1 and first.chunk_id is not None and not first.indirect:
            data = _read(fd, 0, size)
            # A file of one chunk that changed while it was backed up is named by its extents.
            named_by_extents = self._ids.extents_id([(first.chunk_id, first.offset, size)])
            if content.content_id != named_by_extents:
                return len(data) == size and self._ids.content_id(data) == content.content_id
        return self._ids.extents_id(self._checked(fd, content)) == content.content_id

    def _checked(self, fd: int, content: Content) -> Iterator[tuple[bytes | None, int, int]]:
        """Yield (chunk id, offset, length) of each extent, after comparing the file's bytes with it."""
        at = 0
        for extent in self._manifest.expand(content):
            if extent.chunk_id is None:
                _check_hole(fd, at, extent.length)
            else:
                self._check_extent(_read(fd, at, extent.length), extent)
            at += extent.length
            yield extent.chunk_id, extent.offset, extent.length

    def _check_extent(self, data: bytes, extent: Extent) -> None:
        assert extent.chunk_id is not None  # the caller handles holes
        where = self._reader.locate(extent.chunk_id)
        if (extent.offset, extent.length) == (0, where.raw_length):
            same = self._ids.chunk_id(data, TYPE_DATA) == extent.chunk_id
        else:
            # Only a part of the chunk: no id tells of it, so the chunk itself is read again.
            chunk = self._reader.read(extent.chunk_id, TYPE_DATA)
            same = data == chunk[extent.offset : extent.offset + extent.length]
        if not same:
            raise _DiffersError("its content is another")


def _is_ours(name: str) -> bool:
    return name in ACLS or name.startswith("user.")


def _read(fd: int, at: int, length: int) -> bytes:
    data = os.pread(fd, length, at)
    while len(data) < length:
        more = os.pread(fd, length - len(data), at + len(data))
        if not more:
            raise _DiffersError("it ends too early")
        data += more
    return data


def _check_hole(fd: int, at: int, length: int) -> None:
    """Check that a range has only zeros; a hole of the file system is not read."""
    end = at + length
    while at < end:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        if at < end:
            piece = _read(fd, at, min(_STEP_BYTES, end - at))
            if piece.count(0) != len(piece):
                raise _DiffersError("it has data where a hole should be")
            at += len(piece)
